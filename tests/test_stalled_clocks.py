"""What leaves after the whole process has stood still: no burst, and RTP time that has gone on. Under both clocks.

The clock is fake and the sockets are real; the heartbeat ticks by trio's timeouts, as timerfd knows no fake clock.
"""

from __future__ import annotations

import contextlib
import select
import socket as stdlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aivc.config.settings import Address, RtpSettings
from aivc.media.clock import SLOTS, TICK, MediaClock, TaskClock, open_heartbeat
from aivc.media.latching import Latch
from aivc.media.pacer import STALL, Pacer
from aivc.media.playout import Playout
from aivc.media.rtp import Packet, parse_untrusted
from aivc.media.stream import RtpStream
from aivc.media.timer import open_sleep_timer

STEP = 0.001  # seconds that pass at once, but for a stall
LOOPBACK = ("127.0.0.1", 0)

both_clocks = pytest.mark.parametrize("kind", ["tasks", "heartbeat"])


@attrs.define
class Phone:
    """What came to a telephone, and when."""

    clock: MockClock
    socket: stdlib.socket
    media: MediaClock
    heard: list[tuple[float, Packet]] = attrs.field(factory=list)

    async def pass_time(self, seconds: float, step: float = STEP) -> None:
        for _ in range(round(seconds / step)):
            await self.jump(step)

    async def jump(self, seconds: float) -> None:
        """Everything stands still meanwhile."""
        self.clock.jump(seconds)
        await wait_all_tasks_blocked()
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard.append((trio.current_time(), parse_untrusted(self.socket.recv(2048))))

    def after(self, moment: float) -> list[tuple[float, Packet]]:
        return [(at, packet) for at, packet in self.heard if at >= moment]


@contextlib.asynccontextmanager
async def named(kind: str) -> AsyncIterator[MediaClock]:
    if kind == "tasks":
        yield TaskClock()
        return
    async with open_heartbeat(open_sleep_timer) as heartbeat:
        yield heartbeat


@contextlib.asynccontextmanager
async def calling(kind: str, clock: MockClock, ptime_ms: int = 20) -> AsyncIterator[Phone]:
    """A call in which everything that leaves is silence."""
    with trio.fail_after(1000), stdlib.socket(type=stdlib.SOCK_DGRAM) as sock:
        sock.bind(LOOPBACK)
        sock.setblocking(False)
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as ours:
            await ours.bind(LOOPBACK)
            stream = silent(ours, sock.getsockname(), ptime_ms=ptime_ms)
            async with named(kind) as media, trio.open_nursery() as nursery:
                nursery.start_soon(media.carry, stream)
                await wait_all_tasks_blocked()
                yield Phone(clock, sock, media)
                nursery.cancel_scope.cancel()


def silent(ours: trio.socket.SocketType, to: Address, ssrc: int = 7, ptime_ms: int = 20) -> RtpStream:
    """A stream that has nothing to say, from now on."""
    send, _receive = trio.open_memory_channel[bytes](50)
    now = trio.current_time()
    latch, pacer = Latch(to, LOOPBACK[0], "auto", 3.0), Pacer(0, ssrc, 100, 0, now, ptime_ms)
    return RtpStream(ours, "PCMU", 0, latch, Playout(0xFF), pacer, send, RtpSettings(), now, is_trusted=True)


def lag(at: float, packet: Packet, start: tuple[float, Packet]) -> float:
    """How far the RTP time of a packet is behind the clock, seconds."""
    return (at - start[0]) - (packet.rtp_timestamp - start[1].rtp_timestamp) / 8000


@both_clocks
@pytest.mark.parametrize("stall", [0.0999, 0.100, 0.1001, 1.0, 1.0025, 1.0175, 60.0])
@pytest.mark.parametrize("phase", [0.0, 0.007, 0.0199])
async def test_after_a_long_stall_no_burst_leaves_and_rtp_time_has_gone_on(
    mock_clock: MockClock, kind: str, stall: float, phase: float
) -> None:
    async with calling(kind, mock_clock) as phone:
        await phone.pass_time(0.2)
        await phone.pass_time(phase, STEP / 10)
        await phone.jump(stall)
        over = trio.current_time()
        await phone.pass_time(0.1)
    assert len([at for at, _ in phone.heard if at == over]) <= 2
    assert len(phone.after(over)) in (5, 6, 7)
    assert [abs(lag(at, packet, phone.heard[0])) < 0.0251 for at, packet in phone.after(over)[-4:]] == [True] * 4
    sequence = [packet.sequence for _, packet in phone.heard]
    assert sequence == list(range(100, 100 + len(sequence)))


@both_clocks
@pytest.mark.parametrize("stall", [0.020, 0.040, 0.055, STALL])
async def test_a_stall_that_a_telephones_buffer_bears_costs_no_audio(
    mock_clock: MockClock, kind: str, stall: float
) -> None:
    async with calling(kind, mock_clock) as phone:
        await phone.pass_time(0.2)
        await phone.jump(stall)
        await phone.pass_time(0.1)
    times = [packet.rtp_timestamp for _, packet in phone.heard]
    assert times == list(range(0, 160 * len(times), 160))
    assert len(times) == pytest.approx((0.3 + stall) / 0.020, abs=1.01)


@both_clocks
@pytest.mark.parametrize(("late", "at_once", "skipped"), [(STALL - 1e-4, (3, 4), 0), (STALL + 1e-4, (1,), 3)])
async def test_at_the_limit_the_missed_packets_are_either_all_sent_or_all_skipped(
    mock_clock: MockClock,
    kind: str,
    late: float,
    at_once: tuple[int, ...],
    skipped: int,
) -> None:
    async with calling(kind, mock_clock) as phone:
        await phone.pass_time(0.2, STEP / 10)
        before, (last, _) = len(phone.heard), phone.heard[-1]
        await phone.jump(last + 0.020 + late - trio.current_time())
        assert len(phone.heard) - before in at_once  # the heartbeat sends what is due within half a tick
        await phone.pass_time(0.1)
    times = [packet.rtp_timestamp // 160 for _, packet in phone.heard]
    assert times[before] - times[before - 1] == 1 + skipped
    assert times[before:] == list(range(times[before], times[before] + len(times) - before))


@both_clocks
@pytest.mark.parametrize("ptime_ms", [10, 30, 60])
async def test_packets_of_another_length_come_in_no_burst_either(
    mock_clock: MockClock, kind: str, ptime_ms: int
) -> None:
    async with calling(kind, mock_clock, ptime_ms) as phone:
        await phone.pass_time(0.3)
        await phone.jump(1.0)
        over = trio.current_time()
        await phone.pass_time(0.2)
    assert len([at for at, _ in phone.heard if at == over]) <= 2
    assert abs(lag(*phone.heard[-1], phone.heard[0])) <= ptime_ms / 1000 + TICK


# What the clocks note


@both_clocks
async def test_packets_that_leave_in_time_are_noted_as_such(mock_clock: MockClock, kind: str) -> None:
    async with calling(kind, mock_clock) as phone:
        await phone.pass_time(0.5)
        assert phone.media.punctuality.percentile(1.0, trio.current_time()) == pytest.approx(0.0, abs=STEP)


@pytest.mark.parametrize("apart", [0.020, 0.005, 0.0])
async def test_calls_that_come_at_even_intervals_do_not_all_send_at_once(mock_clock: MockClock, apart: float) -> None:
    async with calling("heartbeat", mock_clock) as phone, AsyncExitStack() as stack, trio.open_nursery() as nursery:
        await phone.pass_time(0.003)  # nearer to the next tick
        for ssrc in range(101, 100 + 2 * SLOTS):
            await phone.pass_time(apart)
            ours = stack.enter_context(trio.socket.socket(type=trio.socket.SOCK_DGRAM))
            await ours.bind(LOOPBACK)
            nursery.start_soon(phone.media.carry, silent(ours, phone.socket.getsockname(), ssrc))
            await wait_all_tasks_blocked()
        start = trio.current_time() + 0.040
        await phone.pass_time(0.060)
        slots = {packet.ssrc: round((at - start) / TICK) % SLOTS for at, packet in phone.after(start)}
        assert sorted(Counter(slots.values()).values()) == [2] * SLOTS
        nursery.cancel_scope.cancel()


@both_clocks
async def test_a_stall_makes_packets_late_by_its_length(mock_clock: MockClock, kind: str) -> None:
    async with calling(kind, mock_clock) as phone:
        await phone.pass_time(0.5)
        await phone.jump(0.050)
        await phone.pass_time(0.1)
        worst = phone.media.punctuality.percentile(1.0, trio.current_time())
        assert worst == pytest.approx(0.040, abs=0.011)  # it began between two packets


async def test_packets_that_a_long_stall_kept_from_leaving_count_as_late(mock_clock: MockClock) -> None:
    async with calling("heartbeat", mock_clock) as phone:
        await phone.jump(0.9)
        now, punctuality = trio.current_time(), phone.media.punctuality
        assert punctuality.percentile(1.0, now) == pytest.approx(0.9, abs=1.01 * TICK)
        assert punctuality.percentile(0.5, now) == pytest.approx(0.45, abs=1.01 * TICK)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="the heartbeat needs epoll")
async def test_under_the_real_clock_packets_leave_in_time() -> None:
    with trio.fail_after(10), trio.socket.socket(type=trio.socket.SOCK_DGRAM) as ours:
        await ours.bind(LOOPBACK)
        send, _receive = trio.open_memory_channel[bytes](50)
        now = trio.current_time()
        latch = Latch(ours.getsockname(), LOOPBACK[0], "auto", 3.0)
        stream = RtpStream(ours, "PCMU", 0, latch, Playout(0xFF), Pacer(0, 7, 0, 0, now), send, RtpSettings(), now)
        async with open_heartbeat() as media, trio.open_nursery() as nursery:
            nursery.start_soon(media.carry, stream)
            await trio.sleep(0.3)
            half = media.punctuality.percentile(0.5, trio.current_time())
            assert half is not None
            assert half < 0.005  # half of them, whatever else this machine does
            nursery.cancel_scope.cancel()
