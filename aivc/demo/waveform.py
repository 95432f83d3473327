"""How loud G.711 is over time, for drawing it."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import attrs

from aivc.media.g711 import LINEAR

FULL_SCALE = 32768  # of `LINEAR`


@attrs.frozen
class Column:
    """One column of a waveform; 0 is silence, 1 full scale."""

    peak: float
    rms: float


def envelope(octets: bytes, codec: str, columns: int) -> list[Column]:
    """The octets in `columns` equally wide columns."""
    edges = [len(octets) * index // columns for index in range(columns + 1)]
    return [column(octets[start:stop], codec) for start, stop in pairwise(edges)]


def column(octets: bytes, codec: str) -> Column:
    if not octets:
        return Column(0.0, 0.0)
    linear, counts = LINEAR[codec], Counter(octets)  # 256 values at most: quicker than sample by sample
    peak = max(abs(linear[octet]) for octet in counts)
    energy = sum(count * linear[octet] ** 2 for octet, count in counts.items()) / len(octets)
    return Column(peak / FULL_SCALE, math.sqrt(energy) / FULL_SCALE)
