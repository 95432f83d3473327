"""The server's text messages, taken out of its octets by hand: a general WebSocket parser costs ten times as much.

Only what a Realtime server sends many times a second is understood: whole, unmasked text frames (RFC 6455 section 5.2).
Everything else is left to a complete implementation, octet for octet: the answer to the upgrade, pings, pongs; and from
the first frame of any other kind on all that follows: a close, a fragment, a binary or overlong message, a broken rule.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import attrs

from aivc.realtime.framing import FINAL_TEXT, MASKED, MEDIUM_LIMIT, SHORT_LIMIT

FINAL_PING: Final = 0x89
FINAL_PONG: Final = 0x8A
SWITCHING: Final = b"HTTP/1.1 101"
HEAD_END: Final = b"\r\n\r\n"
LONGEST_HEAD: Final = 65_536  # octets of the answer to the upgrade; who reads the rest has a limit of its own
LONG: Final = {126: (Struct("!H"), SHORT_LIMIT), 127: (Struct("!Q"), MEDIUM_LIMIT)}  # form and least length


class Unfamiliar(Exception):
    """What stands here is for the other implementation."""


@attrs.define
class MessageSieve:
    """Feed it all octets of one connection, in order.

    Args:
      longest: octets of a message that is taken out.
    """

    longest: int
    retired: bool = attrs.field(init=False, default=False)  # True: everything is left to the other from now on
    _upgraded: bool = attrs.field(init=False, default=False)
    _waiting: bytearray = attrs.field(init=False, factory=bytearray)  # the beginning of a frame, or of the answer

    def feed_untrusted(self, data: bytes) -> tuple[list[str], bytes]:
        """Return the messages that are complete now, and the octets that are for the other implementation.

        Never raises: complaining is the other's business, too.
        """
        if self.retired:
            return [], data
        octets: bytes | bytearray = data
        if self._waiting:
            self._waiting += data
            octets = self._waiting
        messages: list[str] = []
        rest, start = b"", 0
        try:
            if not self._upgraded:
                start = end_of_head(octets)
                rest, self._upgraded = bytes(octets[:start]), start > 0
            available = len(octets) if self._upgraded else 0
            while start < available and (frame := frame_at(octets, start, self.longest)) is not None:
                payload_start, end = frame
                if octets[start] == FINAL_TEXT:
                    messages.append(octets[payload_start:end].decode())
                else:
                    rest += octets[start:end]
                start = end
        except (Unfamiliar, UnicodeDecodeError):
            self.retired = True
            rest += octets[start:]
            start = len(octets)
        self._keep(octets, start)
        return messages, rest

    def _keep(self, octets: bytes | bytearray, start: int) -> None:
        if octets is self._waiting:
            del self._waiting[:start]
        elif start < len(octets):
            self._waiting += octets[start:]


def end_of_head(octets: bytes | bytearray) -> int:
    """How many octets the answer to the upgrade has, 0 while it is not complete; raises Unfamiliar for a refusal."""
    end = octets.find(HEAD_END)
    if octets[: len(SWITCHING)] != SWITCHING[: len(octets)] or len(octets) > LONGEST_HEAD > end:
        raise Unfamiliar
    return 0 if end < 0 else end + len(HEAD_END)


def frame_at(octets: bytes | bytearray, start: int, longest: int) -> tuple[int, int] | None:
    """Where the payload of the frame at `start` begins and where it ends; None while the frame is not complete.

    Raises Unfamiliar for frames other than text of at most `longest` octets, ping and pong.
    """
    if len(octets) < start + 2:
        return None
    kind, length, payload_start = octets[start], octets[start + 1], start + 2
    if kind != FINAL_TEXT:
        if kind not in (FINAL_PING, FINAL_PONG) or length >= SHORT_LIMIT:
            raise Unfamiliar
    elif length >= SHORT_LIMIT:
        if length >= MASKED:
            raise Unfamiliar
        form, shortest = LONG[length]
        payload_start += form.size
        if len(octets) < payload_start:
            return None
        (length,) = form.unpack_from(octets, start + 2)
        if not shortest <= length <= longest:
            raise Unfamiliar
    end = payload_start + length
    return (payload_start, end) if end <= len(octets) else None
