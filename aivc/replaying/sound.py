"""Audio of which a recording has kept no more than a digest: octets that stand in for it, and how to tell them again.

They are as many as there were, voiced or not as those were, and others for each digest; so an append of the replay that
carries a packet's stand-in is known to carry that packet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

import attrs

from aivc.config.settings import Codec
from aivc.flight.audio import digest_of
from aivc.media.g711 import QUIET, SILENCE, is_voiced

DIGEST_OCTETS: Final = 32  # of SHA-256


def is_silence(octets: bytes, codec: Codec) -> bool:
    """Whether there is nothing to hear at all, as in what we send when nobody speaks."""
    return not octets.strip(bytes([SILENCE[codec]]))


@attrs.define
class StandIns:
    """The stand-ins of one call."""

    codec: Codec
    _digests: dict[bytes, str] = attrs.field(factory=dict)

    def octets(self, octets: int, digest: str, voiced: bool) -> bytes:
        """What stands in for so many octets."""
        silence = bytes([SILENCE[self.codec]]) * octets
        if digest_of(silence) == digest:
            return silence
        made = made_of(digest, octets, LOUD[self.codec] if voiced else QUIET[self.codec])
        if voiced and not is_voiced(made, self.codec):  # shorter than anything that is called voiced
            made = silence
        self._digests[made] = digest
        return made

    def digest(self, octets: bytes) -> str | None:
        """The digest of what these octets stand for; None when they are no stand-in, but several, or part of one."""
        if is_silence(octets, self.codec):
            return digest_of(octets)
        return self._digests.get(octets)


def made_of(digest: str, octets: int, alphabet: bytes) -> bytes:
    """Octets of this alphabet, the same for the same digest."""
    table = bytes(alphabet[n % len(alphabet)] for n in range(256))
    return b"".join(blocks(digest, octets)).translate(table)[:octets]


def blocks(digest: str, octets: int) -> Iterator[bytes]:
    for number in range(-(-octets // DIGEST_OCTETS)):
        yield hashlib.sha256(f"{digest} {number}".encode()).digest()


LOUD: Final[dict[Codec, bytes]] = {
    "PCMU": bytes(octet for octet in range(256) if octet not in QUIET["PCMU"]),
    "PCMA": bytes(octet for octet in range(256) if octet not in QUIET["PCMA"]),
}
