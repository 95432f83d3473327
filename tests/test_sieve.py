"""What the sieve takes out, and that trio-websocket's parser gets everything else."""

from __future__ import annotations

import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage
from wsproto.frame_protocol import FrameProtocol

from aivc.realtime.sieve import LONGEST_HEAD, MessageSieve

LONGEST = 70_000
HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def upgraded() -> MessageSieve:
    sieve = MessageSieve(LONGEST)
    assert sieve.feed_untrusted(HEAD) == ([], HEAD)
    return sieve


def text(message: str, *, final: bool = True) -> bytes:
    return bytes(FrameProtocol(client=False, extensions=[]).send_data(message, fin=final))


def ping(payload: bytes = b"?") -> bytes:
    return bytes(FrameProtocol(client=False, extensions=[]).ping(payload))


def close() -> bytes:
    return bytes(FrameProtocol(client=False, extensions=[]).close(1000, "bye"))


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, LONGEST])
def test_text_of_every_length_is_taken_out(length: int) -> None:
    assert upgraded().feed_untrusted(text("x" * length)) == (["x" * length], b"")


def test_messages_come_out_whole_however_the_octets_are_cut() -> None:
    wanted = ["", "ä" * 60, "{}" * 200, "y" * 65_600]
    octets = HEAD + b"".join(map(text, wanted))
    for step in (1, 2, 3, 7, 1000, 16_384):
        sieve, taken, rest = MessageSieve(LONGEST), list[str](), b""
        for start in range(0, len(octets), step):
            messages, other = sieve.feed_untrusted(octets[start : start + step])
            taken += messages
            rest += other
        assert (taken, rest, sieve.retired) == (wanted, HEAD, False)


def test_pings_and_pongs_are_left_to_the_other_in_their_order() -> None:
    pong = bytes(FrameProtocol(client=False, extensions=[]).pong(b"!"))
    octets = ping(b"1") + text("a") + pong + text("b") + ping(b"2")
    sieve = upgraded()
    assert sieve.feed_untrusted(octets) == (["a", "b"], ping(b"1") + pong + ping(b"2"))
    assert not sieve.retired


REFUSED = {
    "a close": close(),
    "a fragment": text("half", final=False),
    "a binary message": bytes(FrameProtocol(client=False, extensions=[]).send_data(b"12")),
    "a continuation of nothing": b"\x80\x01x",
    "a reserved bit": b"\xc1\x01x",
    "a reserved opcode": b"\x83\x01x",
    "a masked frame": b"\x81\x81abcdx",
    "a masked long frame": b"\x81\xfe\x00\x7eabcd",
    "not UTF-8": b"\x81\x02\xff\xfe",
    "more octets of length than needed": b"\x81\x7e\x00\x01x",
    "eight octets of length where two would do": b"\x81\x7f" + bytes(6) + b"\x00\x7f" + b"x" * 127,
    "a message that is too long": text("x" * (LONGEST + 1)),
    "an absurd length": b"\x81\x7f" + b"\xff" * 8,
    "a ping that is too long": b"\x89\x7e\x00\x7e" + b"x" * 126,
    "a fragment of a ping": b"\x09\x00",
}


@pytest.mark.parametrize("frame", REFUSED.values(), ids=REFUSED)
def test_from_any_other_frame_on_everything_is_left_to_the_other(frame: bytes) -> None:
    sieve = upgraded()
    assert sieve.feed_untrusted(text("before") + frame + text("after")) == (["before"], frame + text("after"))
    assert sieve.retired
    assert sieve.feed_untrusted(text("later")) == ([], text("later"))


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 401 Unauthorized\r\n", b"HTTP/1.0 101 OK\r\n", b"SSH-2.0", b"HTTP/1.1 101" + b"x" * LONGEST_HEAD],
)
def test_an_answer_that_upgrades_nothing_is_left_to_the_other_at_once(answer: bytes) -> None:
    sieve = MessageSieve(LONGEST)
    assert sieve.feed_untrusted(answer) == ([], answer)
    assert sieve.retired


def test_an_upgrade_and_the_first_message_may_come_together() -> None:
    assert MessageSieve(LONGEST).feed_untrusted(HEAD + text("first") + ping()) == (["first"], HEAD + ping())


FRAMES = st.one_of(
    st.text(max_size=300).map(text),
    st.integers(120, 130).map(lambda length: text("z" * length)),
    st.binary(max_size=125).map(ping),
    st.just(close()),
    st.text(max_size=9).map(lambda message: text(message, final=False)),
    st.binary(max_size=12),
)


@attrs.define
class Listener:
    """What wsproto makes of the octets: texts joined from their parts, and the other events."""

    parser: Connection = attrs.field(factory=lambda: Connection(ConnectionType.CLIENT))
    texts: list[str] = attrs.field(factory=list)
    others: list[object] = attrs.field(factory=list)
    parts: list[str] = attrs.field(factory=list)

    def hear(self, octets: bytes) -> None:
        self.parser.receive_data(octets)
        for event in self.parser.events():
            if not isinstance(event, TextMessage):
                self.others.append(event)
                continue
            self.parts.append(event.data)
            if event.message_finished:
                self.texts.append("".join(self.parts))
                self.parts.clear()


@given(frames=st.lists(FRAMES, max_size=12), seed=st.integers(0, 999))
def test_with_the_sieve_a_parser_hears_what_it_hears_without(frames: list[bytes], seed: int) -> None:
    """The same texts in the same order, control frames and failures, whatever comes and however it is cut."""
    octets, dice = b"".join(frames), random.Random(seed)
    alone, helped, sieve = Listener(), Listener(), upgraded()
    start = 0
    while start < len(octets):
        piece = octets[start : start + dice.randint(1, 400)]
        start += len(piece)
        messages, rest = sieve.feed_untrusted(piece)
        helped.texts += messages
        alone.hear(piece)
        helped.hear(rest)
    assert (helped.texts, helped.others) == (alone.texts, alone.others)
