"""Packets of 10 to 60 ms, out and in: nothing that is measured in them is rounded to 20 ms."""

from __future__ import annotations

import itertools
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from paper_stream import EVENTS, PHONE, VOICE, Paper, datagram, paper_stream
from trio.testing import MockClock

from aivc.config.settings import RtpSettings
from aivc.media.clock import MediaClock, TaskClock, open_heartbeat
from aivc.media.dtmf import key_seconds
from aivc.media.latching import Latch
from aivc.media.pacer import PTIMES_MS, Pacer
from aivc.media.playout import Playout
from aivc.media.rtp import Packet, parse_untrusted
from aivc.media.stream import RtpStream
from aivc.testing.network import VirtualNetwork

every_ptime = pytest.mark.parametrize("ptime_ms", PTIMES_MS)


def talking(ptime_ms: int) -> Paper:
    return paper_stream(RtpSettings(probe_seconds=0.0), ptime_ms)


@every_ptime
def test_each_packet_leaves_when_it_is_due_and_is_as_long_as_was_agreed(ptime_ms: int) -> None:
    paper, times = talking(ptime_ms), list[float]()
    paper.run(2.4, times.append)
    assert len(times) == 2400 // ptime_ms
    assert times == pytest.approx([n * ptime_ms / 1000 for n in range(len(times))])
    assert {len(packet.payload) for packet in paper.sent} == {8 * ptime_ms}
    assert [packet.rtp_timestamp for packet in paper.sent] == [8 * ptime_ms * n for n in range(len(times))]
    assert [packet.marker for packet in paper.sent] == [True] + [False] * (len(times) - 1)


@every_ptime
def test_what_the_caller_was_sent_of_an_item_is_told_to_the_packet(ptime_ms: int) -> None:
    paper = talking(ptime_ms)
    paper.stream.playout.push("r", "a", VOICE * 100)
    paper.run(0.5)
    (item,) = paper.stream.playout.cut()
    assert item.heard_ms == len(paper.sent) * ptime_ms
    assert b"".join(packet.payload for packet in paper.sent) == (VOICE * 100)[: 8 * item.heard_ms]


@every_ptime
def test_the_end_of_what_was_to_be_said_is_filled_up_with_silence(ptime_ms: int) -> None:
    paper, octets = talking(ptime_ms), 8 * ptime_ms
    paper.stream.playout.push("r", "a", b"a" * (octets + 8))
    paper.stream.playout.end_item("a")
    paper.run(4 * ptime_ms / 1000)
    heard = b"".join(packet.payload for packet in paper.sent)
    assert heard == (b"a" * (octets + 8)).ljust(4 * octets, b"\xff")
    assert paper.stream.playout.drained


@every_ptime
def test_a_sound_is_played_whole(ptime_ms: int) -> None:
    paper = talking(ptime_ms)
    over = paper.stream.play(b"\x11" * 1000)
    packets = -(-125 // ptime_ms)
    paper.run((packets - 1) * ptime_ms / 1000)
    assert not over.is_set()
    paper.run(packets * ptime_ms / 1000)
    assert over.is_set()
    paper.run(1.0)
    assert b"".join(packet.payload for packet in paper.sent).startswith(b"\x11" * 1000 + b"\xff" * 100)


@every_ptime
@pytest.mark.parametrize(("tone_ms", "gap_ms"), [(160, 80), (100, 60), (40, 40), (250, 130)])
def test_keys_grow_by_a_packet_and_last_to_the_millisecond(ptime_ms: int, tone_ms: int, gap_ms: int) -> None:
    paper, step = talking(ptime_ms), 8 * ptime_ms
    over = paper.stream.send_digits("12", tone_ms, gap_ms)
    seconds = paper.stream.digit_seconds
    assert seconds == pytest.approx(2 * key_seconds(tone_ms, gap_ms, ptime_ms))
    paper.run(seconds)
    assert not over.is_set()
    paper.run(seconds + ptime_ms / 1000)
    assert over.is_set()
    events = [packet for packet in paper.sent if packet.payload_type == EVENTS]
    starts = []
    for rtp_timestamp, group in itertools.groupby(events, key=lambda packet: packet.rtp_timestamp):
        run = list(group)
        durations = [struct.unpack_from("!H", packet.payload, 2)[0] for packet in run]
        assert durations == [*range(step, 8 * tone_ms, step), *[8 * tone_ms] * 3]
        assert [packet.marker for packet in run] == [True] + [False] * (len(run) - 1)
        starts.append(rtp_timestamp)
    assert len(starts) == 2
    assert starts[1] - starts[0] >= 8 * (tone_ms + gap_ms)
    assert [packet.sequence for packet in paper.sent] == [(65530 + n) & 0xFFFF for n in range(len(paper.sent))]


@every_ptime
def test_a_stall_skips_whole_packets(ptime_ms: int) -> None:
    paper = talking(ptime_ms)
    paper.run(0.12)
    late = paper.stream.outgoing(0.12 + 0.6)
    assert late is not None
    packet = parse_untrusted(late)
    assert (packet.rtp_timestamp, packet.marker) == (8 * (720 // ptime_ms * ptime_ms), True)


def test_a_re_invite_may_change_the_length_in_the_midst_of_everything() -> None:
    paper, spoken = talking(20), bytes(range(250)) * 100
    paper.stream.playout.push("r", "a", spoken)
    for n, ptime_ms in enumerate((20, 60, 10, 30, 50, 40, 20), 1):
        paper.stream.ptime_ms = ptime_ms
        paper.run(0.3 * n)
    heard = b"".join(packet.payload for packet in paper.sent)
    assert spoken.startswith(heard)
    (item,) = paper.stream.playout.cut()
    assert item.heard_octets == len(heard)
    for earlier, later in itertools.pairwise(paper.sent):
        assert later.rtp_timestamp == earlier.rtp_timestamp + len(earlier.payload)
    assert {len(packet.payload) // 8 for packet in paper.sent} == set(PTIMES_MS)


def test_a_key_that_is_being_pressed_goes_on_in_the_new_length() -> None:
    paper = talking(20)
    over = paper.stream.send_digits("5", 200, 80)
    paper.run(0.1)
    paper.stream.ptime_ms = 30
    paper.run(1.0)
    events = [packet for packet in paper.sent if packet.payload_type == EVENTS]
    durations = [struct.unpack_from("!H", packet.payload, 2)[0] // 8 for packet in events]
    assert durations == [20, 40, 60, 80, 100, 130, 160, 190, 200, 200, 200]
    assert over.is_set()


@pytest.mark.parametrize("ptime_ms", [0, 5, 15, 70, 200, -20])
def test_other_lengths_are_refused(ptime_ms: int) -> None:
    with pytest.raises(ValueError, match="10 to 60"):
        talking(20).stream.ptime_ms = ptime_ms


@every_ptime
def test_packets_of_any_length_are_heard_whole_and_in_order(ptime_ms: int) -> None:
    paper, octets = talking(20), 8 * ptime_ms
    spoken = bytes(n % 120 for n in range(octets * 40))
    for n in range(40):
        payload = spoken[n * octets : (n + 1) * octets]
        paper.come(datagram(n, payload, rtp_timestamp=n * octets), n * ptime_ms / 1000)
        paper.run((n + 1) * ptime_ms / 1000)
    assert paper.heard() == spoken
    assert paper.stream.statistics().filled == 0


# by the clocks


@asynccontextmanager
async def clock_named(kind: str) -> AsyncIterator[MediaClock]:
    if kind == "tasks":
        yield TaskClock()
    else:
        async with open_heartbeat() as clock:
            yield clock


def stream_to(sock: trio.socket.SocketType, to: tuple[str, int], ptime_ms: int) -> RtpStream:
    heard, _ = trio.open_memory_channel[bytes](50)
    settings, now = RtpSettings(), trio.current_time()
    latch, pacer = Latch(to, to[0], "auto", 3.0), Pacer(0, 7, 0, 0, now, ptime_ms)
    return RtpStream(sock, "PCMU", 0, latch, Playout(0xFF), pacer, heard, settings, now)


async def bound(address: tuple[str, int]) -> trio.socket.SocketType:
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind(address)
    return sock


@every_ptime
async def test_under_a_fake_clock_packets_come_to_the_millisecond(autojump_clock: MockClock, ptime_ms: int) -> None:
    VirtualNetwork().enable()
    ours, phone, times = await bound(("192.0.2.1", 4000)), await bound(PHONE), list[float]()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(TaskClock().send, stream_to(ours, PHONE, ptime_ms))
            for _ in range(50):
                await phone.recvfrom(2048)
                times.append(trio.current_time())
            nursery.cancel_scope.cancel()
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == pytest.approx([ptime_ms / 1000] * 49)


@pytest.mark.parametrize("kind", ["tasks", "heartbeat"])
async def test_either_clock_keeps_every_length_and_follows_its_change(kind: str) -> None:
    """30 and 20 ms for 0.3 s, then the other way about."""
    with trio.fail_after(10):
        one, two = await bound(("127.0.0.1", 0)), await bound(("127.0.0.1", 0))
        phones = [await bound(("127.0.0.1", 0)) for _ in range(2)]
        streams = [stream_to(sock, phone.getsockname(), 20) for sock, phone in zip((one, two), phones, strict=True)]
        streams[0].ptime_ms = 30
        async with clock_named(kind) as clock, trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(clock.carry, stream)
            await trio.sleep(0.3)
            streams[0].ptime_ms, streams[1].ptime_ms = 20, 30
            await trio.sleep(0.3)
            nursery.cancel_scope.cancel()
        for phone, before, after in zip(phones, (30, 20), (20, 30), strict=True):
            packets = [parse_untrusted(octets) for octets in await drain(phone)]
            lengths = [len(packet.payload) // 8 for packet in packets]
            assert lengths == sorted(lengths, reverse=before > after)
            assert 200 < lengths.count(before) * before < 340
            assert 200 < lengths.count(after) * after < 340
            assert_unbroken(packets)
        for sock in (one, two, *phones):
            sock.close()


async def test_the_heartbeat_keeps_rtp_time_through_many_changes() -> None:
    with trio.fail_after(10):
        sock, phone = await bound(("127.0.0.1", 0)), await bound(("127.0.0.1", 0))
        stream = stream_to(sock, phone.getsockname(), 20)
        async with open_heartbeat() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(clock.carry, stream)
            await trio.sleep(0.05)
            began, first = trio.current_time(), stream.pacer.rtp_timestamp
            for n in range(40):
                stream.ptime_ms = (60, 20)[n % 2]
                await trio.sleep(0.015)
            passed, said = trio.current_time() - began, (stream.pacer.rtp_timestamp - first) / 8000
            nursery.cancel_scope.cancel()
        assert said == pytest.approx(passed, abs=0.12)
        sock.close()
        phone.close()


async def drain(sock: trio.socket.SocketType) -> list[bytes]:
    found = []
    with trio.move_on_after(0.05):
        while True:
            found.append(await sock.recv(2048))
    return found


def assert_unbroken(packets: list[Packet]) -> None:
    for earlier, later in itertools.pairwise(packets):
        assert later.sequence == (earlier.sequence + 1) & 0xFFFF
        assert later.marker or later.rtp_timestamp == earlier.rtp_timestamp + len(earlier.payload)
