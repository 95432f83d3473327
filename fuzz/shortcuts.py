"""What reads by hand a part of what a complete parser reads as well: both must agree."""

from __future__ import annotations

from typing import Final

from aivc.realtime.framing import FINAL_TEXT
from aivc.realtime.sieve import FINAL_PING, FINAL_PONG, MessageSieve
from aivc.sip.message import ParseError, Request, parse_untrusted
from aivc.sip.spreading import NotSpreadable, digest, read_untrusted_envelope
from fuzz.choices import Choices
from fuzz.target import Target, only

LONGEST_MESSAGE: Final = 1000  # octets, of the sieve: so that longer ones are met, too


def envelope(data: bytes) -> None:
    """Whoever spreads messages among workers reads of a good one what its worker will read."""
    found = only(NotSpreadable, read_untrusted_envelope, data)
    message = only(ParseError, parse_untrusted, data)
    if message is None:
        return
    assert found is not None, "a good message goes to nobody"
    assert found.call_id == digest(message.headers.get("Call-ID") or "")
    assert found.method == (message.method if isinstance(message, Request) else None)


def sieve(data: bytes) -> None:
    """However a server's octets are cut into pieces, the same messages come out, and the same rest is left."""
    choices = Choices(data)
    cuts = [1 + choices.number(40) for _ in range(1 + choices.number(8))]
    octets = b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + choices.rest()
    whole, in_pieces = MessageSieve(LONGEST_MESSAGE), MessageSieve(LONGEST_MESSAGE)
    messages, rest = whole.feed_untrusted(octets)
    messages_of_pieces, rest_of_pieces = list[str](), b""
    start = turn = 0
    while start < len(octets):
        more, left = in_pieces.feed_untrusted(octets[start : start + cuts[turn % len(cuts)]])
        messages_of_pieces += more
        rest_of_pieces += left
        start, turn = start + cuts[turn % len(cuts)], turn + 1
    assert messages_of_pieces == messages
    assert whole.retired == in_pieces.retired
    assert rest_of_pieces == rest
    assert all(len(message.encode()) <= LONGEST_MESSAGE for message in messages)
    if not whole.retired:
        assert {octets[0] for octets in control_frames(rest)} <= {FINAL_PING, FINAL_PONG} - {FINAL_TEXT}


def control_frames(rest: bytes) -> list[bytes]:
    """What follows the answer to the upgrade, frame by frame: none is longer than 125 octets."""
    frames, start = [], rest.index(b"\r\n\r\n") + 4
    while start < len(rest):
        end = start + 2 + rest[start + 1]
        frames.append(rest[start:end])
        start = end
    return frames


TARGETS: Final = (
    Target("envelope", envelope),
    Target("sieve", sieve),
)
