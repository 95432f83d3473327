"""What a fuzz target is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

LARGEST_DATAGRAM: Final = 65_535


@attrs.frozen
class Target:
    """One parser with what must hold of it.

    Attributes:
      name: of its folder of the corpus, too.
      check: takes any octets; whatever it raises is a finding.
      max_octets: longer inputs show nothing new.
      calls_per_octet: function calls that one octet of input may cost, at most, however long the input: more would be
        a step to quadratic time.
    """

    name: str
    check: Callable[[bytes], None]
    max_octets: int = 4096
    calls_per_octet: int = 100
