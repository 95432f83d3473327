"""A byte stream cut into SIP messages: RFC 3261 sections 7.5 and 18.3, keep-alives of RFC 5626 section 4.4.1."""

from __future__ import annotations

from typing import Final

import attrs

from aivc.sip.message import (
    MAX_LINE_OCTETS,
    MAX_MESSAGE_OCTETS,
    Headers,
    NotSipError,
    read_headers,
    split_request_line,
)
from aivc.sip.scanner import TOKEN, AddressError, parse_number

MAX_HEAD_OCTETS: Final = 32_768  # start line and headers; half of a message, as a body has to fit, too
BETWEEN_MESSAGES: Final = b"\r\n\0"  # CRLF by the RFCs; some keep a NAT binding open with NUL, as on UDP
PING: Final = b"\r\n\r\n"
FIRST_OCTETS: Final = frozenset(char.encode() for char in TOKEN)


@attrs.frozen
class Ping:
    """CRLF CRLF between two messages, to be answered with CRLF."""


@attrs.frozen
class Broken:
    """Where the next message would begin cannot be known: the connection is of no more use.

    Attributes:
      status: to answer with, 400 or 513.
      reason: in our own words.
      headers: what could be read of a request that may be answered; None when nothing must be sent.
      is_sip: False when there is not even a start line.
    """

    status: int
    reason: str
    headers: Headers | None = None
    is_sip: bool = True


NO_SIP: Final = Broken(400, "No SIP start line", is_sip=False)
Frame = bytes | Ping | Broken


@attrs.define
class StreamFramer:
    """One direction of one connection. However the octets are cut, the frames are the same, in linear time.

    between messages --first octet--> start line --CRLF--> headers --CRLF CRLF--> body --all of it--> between messages
    """

    _buffer: bytearray = attrs.field(factory=bytearray, init=False)  # from the first octet of a message
    _searched: int = attrs.field(default=0, init=False)  # octets of the buffer in which no end of the head begins
    _has_start: bool = attrs.field(default=False, init=False)  # the start line is complete, and one
    _whole: int | None = attrs.field(default=None, init=False)  # octets of the message; None before its head is there
    _pinged: int = attrs.field(default=0, init=False)  # octets of a PING that have come
    _is_broken: bool = attrs.field(default=False, init=False)

    @property
    def is_inside(self) -> bool:
        """True when a message has begun and is not complete."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """What is complete now: messages as octets, pings, and at most one `Broken`, after which nothing follows."""
        frames: list[Frame] = []
        if not self._is_broken:
            self._buffer += data
            while (frame := self._next()) is not None:
                frames.append(frame)
                if isinstance(frame, Broken):
                    self._is_broken = True
                    self._buffer.clear()
                    break
        return frames

    def _next(self) -> Frame | None:
        if self._whole is None:
            if self._searched == 0 and self._skip():
                return Ping()
            fault = self._read_head()
            if fault is not None:
                return fault
        if self._whole is None or len(self._buffer) < self._whole:
            return None
        message = bytes(self._buffer[: self._whole])
        del self._buffer[: self._whole]
        self._searched, self._has_start, self._whole = 0, False, None
        return message

    def _skip(self) -> bool:
        """Drop what may stand between two messages. True when that completes a ping."""
        taken = 0
        for octet in self._buffer:
            if octet not in BETWEEN_MESSAGES:
                self._pinged = 0
                break
            taken += 1
            self._pinged = self._pinged + 1 if octet == PING[self._pinged] else int(octet == PING[0])
            if self._pinged == len(PING):
                break
        del self._buffer[:taken]
        is_ping = self._pinged == len(PING)
        self._pinged = 0 if is_ping else self._pinged
        return is_ping

    def _read_head(self) -> Broken | None:
        """Look for the end of the headers; learn from them how long the message is."""
        if not self._buffer:
            return None
        if not self._has_start and not self._read_start():
            return NO_SIP
        end = self._buffer.find(b"\r\n\r\n", max(0, self._searched - 3), MAX_HEAD_OCTETS)
        self._searched = len(self._buffer)
        if end >= 0:
            length = body_octets(bytes(self._buffer[:end]))
            if isinstance(length, Broken):
                return length
            self._whole = end + 4 + length
        elif len(self._buffer) >= MAX_HEAD_OCTETS:
            start, headers = read_untrusted_head(bytes(self._buffer[:MAX_HEAD_OCTETS]))
            return Broken(513, "Message Too Large", headers if is_answered(start) else None)
        return None

    def _read_start(self) -> bool:
        """Check the start line as soon as it can be: what is no SIP must not be read to its end."""
        if bytes(self._buffer[:1]) not in FIRST_OCTETS:
            return False
        end = self._buffer.find(b"\r\n", max(0, self._searched - 1), MAX_LINE_OCTETS)
        if end < 0:
            return len(self._buffer) < MAX_LINE_OCTETS
        self._has_start = is_start_line(self._buffer[:end].decode("latin-1"))
        return self._has_start


def is_start_line(line: str) -> bool:
    try:
        return line[:4].upper() == "SIP/" or bool(split_request_line(line))
    except NotSipError:
        return False


def body_octets(head: bytes) -> int | Broken:
    """What Content-Length says, which a message on a stream must have (RFC 3261 section 18.3)."""
    start, headers = read_untrusted_head(head)
    answerable = headers if is_answered(start) else None
    lengths = headers.lines("Content-Length")
    if len(lengths) != 1:
        return Broken(400, f"{'Repeated' if lengths else 'Missing'} Content-Length", answerable)
    if not (lengths[0].isascii() and lengths[0].isdigit()):
        return Broken(400, "Content-Length is no number", answerable)
    try:
        return parse_number(lengths[0], MAX_MESSAGE_OCTETS - len(head) - 4, "Content-Length")
    except AddressError:
        return Broken(513, "Message Too Large", answerable)


def read_untrusted_head(head: bytes) -> tuple[str, Headers]:
    start, *lines = head.decode("latin-1").split("\r\n")
    return start, read_headers(lines)[0]


def is_answered(start: str) -> bool:
    """Whether this start line's message may be answered at all."""
    return start[:4].upper() != "SIP/" and not start.startswith("ACK ")
