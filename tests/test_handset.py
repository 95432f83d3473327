"""The handset of the test phone: what it says, what it hears, reports and SRTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aivc.testing import Handset, VirtualNetwork, silence, speech
from aivc.testing.ciphers import open_cipher

DELAY = 0.005


@asynccontextmanager
async def open_handsets(**settings: Any) -> AsyncIterator[tuple[Handset, Handset]]:
    """Two handsets; the first speaks to the second."""
    VirtualNetwork(delay=DELAY).enable()
    with (
        trio.fail_after(60),
        trio.socket.socket(type=trio.socket.SOCK_DGRAM) as one,
        trio.socket.socket(type=trio.socket.SOCK_DGRAM) as other,
    ):
        await one.bind(("192.0.2.1", 4000))
        await other.bind(("192.0.2.2", 4000))
        speaker, listener = Handset(one, **settings), Handset(other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.listen)
            nursery.start_soon(speaker.speak, ("192.0.2.2", 4000))
            yield speaker, listener
            nursery.cancel_scope.cancel()


async def test_a_handset_sends_silence_until_it_is_told_what_to_say(autojump_clock: MockClock) -> None:
    async with open_handsets() as (speaker, listener):
        await trio.sleep(0.1)
        words = speech(0.05)
        speaker.say(words)
        await speaker.wait_said()
        await trio.sleep(0.1)
        assert listener.speech_heard() == words + silence(0.01)  # filled up to whole packets
        assert listener.heard[0].payload == silence(0.02)
        assert [packet.payload for packet in listener.heard] == [packet.payload for packet in speaker.sent][
            : len(listener.heard)
        ]


async def test_packets_are_numbered_and_timed_as_rtp_asks(autojump_clock: MockClock) -> None:
    async with open_handsets(ptime_ms=30, sequence=65_534, rtp_timestamp=2**32 - 300) as (speaker, listener):
        await trio.sleep(0.15)
    heard = listener.heard
    assert [packet.sequence for packet in heard] == [65_534, 65_535, 0, 1, 2]
    assert [packet.rtp_timestamp for packet in heard] == [2**32 - 300, 2**32 - 60, 180, 420, 660]
    assert [packet.marker for packet in heard] == [True] + [False] * 4
    assert {round(later.at - earlier.at, 9) for earlier, later in pairwise(heard)} == {0.030}
    assert {(packet.ssrc, packet.payload_type, len(packet.payload)) for packet in heard} == {(speaker.ssrc, 0, 240)}


async def test_a_muted_handset_sends_nothing(autojump_clock: MockClock) -> None:
    async with open_handsets() as (speaker, listener):
        speaker.muted = True
        await trio.sleep(0.5)
        assert listener.heard == []


async def test_waiting_for_speech_and_for_silence(autojump_clock: MockClock) -> None:
    async with open_handsets() as (speaker, listener):
        begin = trio.current_time()
        speaker.say(silence(0.2) + speech(0.4))
        assert await listener.wait_speech(0.1) == pytest.approx(begin + 0.2 + DELAY)
        assert trio.current_time() == pytest.approx(begin + 0.3 + DELAY)
        await listener.wait_silence(0.5)
        assert trio.current_time() == pytest.approx(begin + 0.58 + DELAY + 0.5)  # since the last packet of speech


async def test_what_is_no_rtp_is_not_heard(autojump_clock: MockClock) -> None:
    async with open_handsets() as (speaker, listener):
        speaker.muted = True
        for data in (b"", b"\x80" * 11, b"\x00" * 172):
            await speaker.socket.sendto(data, ("192.0.2.2", 4000))
        await trio.sleep(0.1)
        assert listener.heard == []


async def test_the_audio_follows_the_remote_address(autojump_clock: MockClock) -> None:
    async with open_handsets() as (speaker, listener):
        await trio.sleep(0.1)
        speaker.remote = ("192.0.2.3", 4000)
        heard = len(listener.heard)
        await trio.sleep(0.1)
        assert 0 < heard >= len(listener.heard) - 1


async def test_reports_are_kept_and_not_taken_for_audio(autojump_clock: MockClock) -> None:
    async with open_handsets() as (speaker, listener):
        await trio.sleep(0.11)
        listener.remote = speaker.socket.getsockname()
        speaker.rtcp_remote = listener.socket.getsockname()
        await speaker.send_report()
        report = await listener.wait_report()
        assert (report.kinds, report.says_goodbye) == ((200, 202), False)
        assert report.sent == (len(speaker.sent), 160 * len(speaker.sent))
        assert report.received is None
        await listener.send_report(lost_share=0.25, lost=7, jitter_ms=3.0)
        assert speaker.reports == []  # nobody listens there
        listener.rtcp_remote = listener.socket.getsockname()
        await listener.send_report(lost_share=0.25, lost=7, jitter_ms=3.0)
        report = await listener.wait_report(2)
        assert report.kinds == (201, 202)
        assert report.received == (speaker.ssrc, 0.25, 7, 24)
        assert {packet.payload_type for packet in listener.heard} == {0}


async def test_a_cipher_hides_what_is_said_from_all_others(autojump_clock: MockClock) -> None:
    pytest.importorskip("pylibsrtp")
    async with open_handsets() as (speaker, listener):
        ours, theirs = b"a" * 30, b"b" * 30
        speaker.cipher = open_cipher("AES_CM_128_HMAC_SHA1_80", ours, theirs)
        listener.cipher = open_cipher("AES_CM_128_HMAC_SHA1_80", theirs, ours)
        speaker.say(speech(0.1))
        await speaker.wait_said()
        speaker.rtcp_remote = listener.socket.getsockname()
        await speaker.send_report()
        await listener.wait_report()
        await trio.sleep(0.1)
        assert listener.speech_heard() == speech(0.1)
        assert listener.undeciphered == 0
        listener.cipher = open_cipher("AES_CM_128_HMAC_SHA1_80", theirs, theirs)
        heard = len(listener.heard)
        await trio.sleep(0.1)
        assert len(listener.heard) == heard
        assert listener.undeciphered > 3
