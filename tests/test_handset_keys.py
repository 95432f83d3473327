"""What the handset sends besides plain audio: keys (RFC 4733), comfort noise, pauses, and packets out of order."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aivc.testing import DigitHeard, Handset, RtpHeard, VirtualNetwork, silence, speech
from aivc.testing.keys import digits_told

LISTENER = ("192.0.2.2", 4000)


@asynccontextmanager
async def open_handsets(**settings: Any) -> AsyncIterator[tuple[Handset, Handset]]:
    """Two handsets; the first speaks to the second."""
    VirtualNetwork(delay=0.005).enable()
    with (
        trio.fail_after(60),
        trio.socket.socket(type=trio.socket.SOCK_DGRAM) as one,
        trio.socket.socket(type=trio.socket.SOCK_DGRAM) as other,
    ):
        await one.bind(("192.0.2.1", 4000))
        await other.bind(LISTENER)
        speaker, listener = Handset(one, **settings), Handset(other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.listen)
            nursery.start_soon(speaker.speak, LISTENER)
            yield speaker, listener
            nursery.cancel_scope.cancel()


def events_of(handset: Handset) -> list[RtpHeard]:
    return [packet for packet in handset.heard if packet.payload_type == 101]


async def test_a_key_is_packets_of_one_time_and_growing_length_and_three_ends(autojump_clock: MockClock) -> None:
    async with open_handsets() as (speaker, listener):
        await trio.sleep(0.05)
        speaker.press("5", tone_ms=100)
        await speaker.wait_pressed()
        await trio.sleep(0.1)
        events = events_of(listener)
        assert len({packet.rtp_timestamp for packet in events}) == 1
        assert [packet.marker for packet in events] == [True] + [False] * 6
        assert [struct.unpack("!BBH", packet.payload) for packet in events] == [
            *((5, 10, 160 * tick) for tick in range(1, 5)),
            *[(5, 0x80 | 10, 800)] * 3,
        ]
        sequences = [packet.sequence for packet in listener.heard]
        assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
        before = listener.heard[listener.heard.index(events[0]) - 1]
        after = listener.heard[listener.heard.index(events[-1]) + 1]
        assert events[0].rtp_timestamp == before.rtp_timestamp + 160
        assert after.rtp_timestamp == events[0].rtp_timestamp + 800  # time went on, and the audio with it


async def test_audio_is_held_back_while_a_key_is_down(autojump_clock: MockClock) -> None:
    async with open_handsets() as (speaker, listener):
        words = speech(0.4)
        speaker.say(words)
        await trio.sleep(0.1)
        speaker.press("42#", tone_ms=60, gap_ms=40)
        await speaker.wait_said()
        await trio.sleep(0.1)
        assert listener.speech_heard() == words
        assert await listener.wait_digits(3) == [DigitHeard(digit, 60, 5, 3) for digit in "42#"]


@pytest.mark.parametrize(
    ("how", "heard"),
    [
        ({"lose": (0,)}, DigitHeard("D", 100, 6, 3)),
        ({"lose": (-1, -2, -3)}, DigitHeard("D", 80, 4, 0)),
        ({"lose": (0, 1, -1)}, DigitHeard("D", 100, 4, 2)),
        ({"end_repeats": 1}, DigitHeard("D", 100, 5, 1)),
        ({"copies": 2}, DigitHeard("D", 100, 14, 6)),
        ({"tone_ms": 20}, DigitHeard("D", 20, 3, 3)),
    ],
)
async def test_packets_of_a_key_can_be_lost_or_doubled(
    autojump_clock: MockClock, how: dict[str, Any], heard: DigitHeard
) -> None:
    async with open_handsets() as (speaker, listener):
        speaker.press("d", **how)
        await speaker.wait_pressed()
        await trio.sleep(0.1)
        assert listener.digits_heard() == [heard]


async def test_a_marker_can_be_left_out_and_a_wrong_key_cannot_be_pressed(autojump_clock: MockClock) -> None:
    async with open_handsets() as (speaker, listener):
        speaker.press("1", marker=False)
        await speaker.wait_pressed()
        await trio.sleep(0.1)
        assert not any(packet.marker for packet in events_of(listener))
        with pytest.raises(ValueError, match="substring not found"):
            speaker.press("x")


async def test_a_muted_handset_still_has_keys_and_noise(autojump_clock: MockClock) -> None:
    async with open_handsets(muted=True) as (speaker, listener):
        speaker.comfort_noise(70)
        await trio.sleep(0.1)
        speaker.press("0")
        await speaker.wait_pressed()
        assert [(packet.payload_type, packet.payload) for packet in listener.heard[:1]] == [(13, b"\x46")]
        assert listener.digits_heard() == [DigitHeard("0", 100, 7, 3)]
        assert listener.speech_heard() == b""


async def test_silence_suppression_is_one_noise_packet_a_gap_and_a_marker(autojump_clock: MockClock) -> None:
    async with open_handsets(suppresses_silence=True) as (speaker, listener):
        await trio.sleep(0.2)
        assert listener.heard == []
        speaker.say(speech(0.1))
        await trio.sleep(1.0)
        speaker.say(speech(0.1))
        await trio.sleep(0.5)
        heard = listener.heard
        assert [packet.payload_type for packet in heard] == [0] * 5 + [13] + [0] * 5 + [13]
        assert [index for index, packet in enumerate(heard) if packet.marker] == [0, 6]
        elapsed = heard[6].at - heard[5].at
        assert heard[6].rtp_timestamp - heard[5].rtp_timestamp == pytest.approx(elapsed * 8000)
        assert heard[6].sequence == heard[5].sequence + 1


async def test_neighbours_can_change_places(autojump_clock: MockClock) -> None:
    async with open_handsets(swaps_neighbours=True) as (speaker, listener):
        speaker.say(speech(0.08))
        await trio.sleep(0.1)
        assert [packet.sequence for packet in listener.heard] == [1001, 1000, 1003, 1002]
        speaker.swaps_neighbours = False
        await trio.sleep(0.1)
        assert sorted(packet.sequence for packet in listener.heard) == list(range(1000, 1000 + len(listener.heard)))
        assert silence(0.02) in [packet.payload for packet in listener.heard]


def test_what_is_no_key_is_not_heard_as_one() -> None:
    assert digits_told([(0, b""), (0, b"\x05\x0a"), (0, b"\x10\x0a\x00\xa0"), (8, b"\x01\x8a\x03\x20")]) == [
        DigitHeard("1", 100, 1, 1)
    ]
