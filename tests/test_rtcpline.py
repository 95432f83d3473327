"""The RTCP of one call: whom it heeds, where it goes, and the one task that it takes."""

from __future__ import annotations

import itertools
import random
import socket as stdlib
from functools import partial

import pytest
import trio
from paper_stream import PHONE, Paper, datagram, paper_stream
from trio.testing import MockClock

from aivc.config.settings import Address, RtpSettings
from aivc.media import reporting
from aivc.media.clock import TaskClock, open_heartbeat
from aivc.media.latching import Latch
from aivc.media.pacer import Pacer
from aivc.media.playout import Playout
from aivc.media.ports import MediaSockets, PortPool
from aivc.media.reports import Quality, Reports
from aivc.media.rtcp import Goodbye, ReceiverReport, ReportBlock, Rtcp, SenderReport, build, parse_untrusted
from aivc.media.rtcpline import FLOOD, MOST_A_SECOND, RtcpLine
from aivc.media.rtp import is_rtcp
from aivc.media.stream import RtpStream
from aivc.testing.network import VirtualNetwork

OURS = ("192.0.2.1", 4000)
CONTROL = (PHONE[0], PHONE[1] + 1)
REPORT = build((ReceiverReport(9, (ReportBlock(7, 64, 12, 100, 80, 0, 0),)),))


def heard_paper(rtp: RtpSettings | None = None, **stream: object) -> tuple[Paper, RtcpLine]:
    """A stream that has heard the caller, and sent."""
    paper = paper_stream(rtp, **stream)  # type: ignore[arg-type]  # `ptime_ms` is not among them
    paper.come(datagram(1), 0.0)
    paper.run(0.05)
    assert paper.stream.rtcp is not None
    return paper, paper.stream.rtcp


def quality(paper: Paper) -> Quality:
    told = paper.stream.quality()
    assert told is not None
    return told


def way(paper: Paper, now: float = 1.0) -> Address | None:
    outgoing = paper.stream.control_outgoing(now)
    return outgoing and outgoing[1]


# whom it heeds


def test_what_the_peer_says_of_our_stream_is_told() -> None:
    paper, _ = heard_paper()
    paper.stream.control_received(REPORT, CONTROL, 1.0)
    told = quality(paper)
    assert (told.remote_lost, told.remote_jitter_ms, told.remote_lost_fraction) == (12, 10.0, 0.25)
    assert (told.reports_received, told.reports_ignored) == (1, 0)


def test_a_stranger_is_not_heeded_and_no_sign_of_life() -> None:
    paper, _ = heard_paper()
    paper.stream.control_received(REPORT, ("203.0.113.66", CONTROL[1]), 50.0)
    assert quality(paper).reports_ignored == 1
    assert quality(paper).remote_lost is None
    assert paper.stream.last_alive == 0.0


def test_a_report_is_a_sign_of_life_of_a_caller_who_sends_no_audio() -> None:
    paper, _ = heard_paper()
    paper.stream.control_received(REPORT, CONTROL, 50.0)
    assert paper.stream.last_alive == 50.0
    assert paper.stream.last_received == 0.0
    paper.come(datagram(2), 51.0)
    assert paper.stream.last_alive == 51.0


def test_a_callers_bye_ends_no_call() -> None:
    paper, line = heard_paper()
    paper.stream.control_received(build((ReceiverReport(9), Goodbye((9,)))), CONTROL, 1.0)
    assert line.reports.peer_left
    paper.come(datagram(2), 1.0)
    assert paper.stream.reception.received == 2
    assert way(paper, 2.0)


@pytest.mark.parametrize("octets", [b"", b"\x80", b"\x80\xc8\x00\x06", b"\x81\xc9\xff\xff" + bytes(28), bytes(500)])
def test_garbage_is_counted_and_harms_nothing(octets: bytes) -> None:
    paper, _ = heard_paper()
    paper.stream.control_received(octets, CONTROL, 1.0)
    paper.come(octets, 1.0)
    assert quality(paper).reports_ignored == 1
    paper.stream.control_received(REPORT, CONTROL, 1.0)
    assert quality(paper).reports_received == 1


def test_of_a_flood_a_few_are_read() -> None:
    paper, line = heard_paper()
    for n in range(5000):
        paper.stream.control_received(REPORT, CONTROL, 1.0 + n / 10_000)
    assert quality(paper).reports_received == MOST_A_SECOND
    assert line.is_flooded
    paper.stream.control_received(REPORT, CONTROL, 2.5)
    assert quality(paper).reports_received == MOST_A_SECOND + 1
    assert not line.is_flooded


def test_rtcp_on_the_rtp_port_is_read_only_when_that_was_agreed() -> None:
    paper, line = heard_paper()
    paper.come(REPORT, 1.0)
    assert (quality(paper).reports_received, paper.stream.counters.malformed) == (0, 1)
    line.describe(None, mux=True)
    paper.come(REPORT, 1.0)
    paper.stream.received(REPORT, CONTROL, 1.0)
    assert (quality(paper).reports_received, paper.stream.counters.malformed) == (1, 1)


# where it goes


def test_reports_go_to_the_port_above_or_to_the_one_told_or_to_the_shared_one() -> None:
    paper, line = heard_paper()
    assert way(paper) == CONTROL
    line.describe((PHONE[0], 9999), mux=False)
    assert way(paper) == (PHONE[0], 9999)
    line.describe((PHONE[0], 9999), mux=True)
    assert way(paper) == PHONE


def test_reports_go_to_where_the_callers_come_from() -> None:
    paper, _ = heard_paper()
    paper.stream.control_received(REPORT, (PHONE[0], 61_000), 1.0)
    assert way(paper) == (PHONE[0], 61_000)


def test_behind_a_nat_ours_waits_for_theirs_as_the_port_above_may_be_anybodys() -> None:
    paper = paper_stream()
    for sequence in range(4):
        paper.stream.received(datagram(sequence), (PHONE[0], 30_000), 0.0)
    assert paper.stream.remote == (PHONE[0], 30_000)
    assert way(paper) is None
    paper.stream.control_received(REPORT, (PHONE[0], 61_000), 1.0)
    assert way(paper, 2.0) == (PHONE[0], 61_000)


def test_another_host_that_the_sdp_names_gets_reports_only_from_who_is_trusted() -> None:
    for is_trusted in (False, True):
        paper, line = heard_paper(is_trusted=is_trusted)
        line.describe(("203.0.113.66", 9999), mux=False)
        assert way(paper) == (("203.0.113.66", 9999) if is_trusted else CONTROL)


def test_nothing_goes_where_nothing_ever_comes_from_after_the_probe_budget() -> None:
    paper = paper_stream(RtpSettings(probe_seconds=15.0))
    paper.run(1.0)
    assert way(paper, 14.0) == CONTROL
    assert way(paper, 16.0) is None
    paper.come(datagram(1), 20.0)
    assert way(paper, 21.0) == CONTROL


@pytest.mark.parametrize("remote", [("239.1.1.1", 4000), ("255.255.255.255", 4000), ("0.0.0.0", 0), (PHONE[0], 53)])
def test_nothing_goes_to_many_nor_to_other_services(remote: Address) -> None:
    paper = paper_stream(is_trusted=True)
    paper.stream.latch.move(remote, 0.0)
    paper.run(1.0)
    assert paper.sent == []
    assert way(paper) is None


def test_who_has_sent_nothing_says_no_goodbye() -> None:
    paper = paper_stream()
    assert paper.stream.control_outgoing(1.0, goodbye=True) is None


# the task


async def udp(address: Address) -> trio.socket.SocketType:
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind(address)
    return sock


def stream_of(sockets: MediaSockets, remote: Address, settings: RtpSettings, mux: bool = False) -> RtpStream:
    heard, _ = trio.open_memory_channel[bytes](1000)
    now = trio.current_time()
    line = RtcpLine(Reports(7, "cname", 1e9 - now), sockets.rtcp, mux)
    latch, pacer = Latch(remote, remote[0], "auto", 3.0), Pacer(0, 7, 0, 0, now)
    return RtpStream(sockets.rtp, "PCMU", 0, latch, Playout(0xFF), pacer, heard, settings, now, rtcp=line)


async def listen(sock: trio.socket.SocketType, found: list[tuple[float, tuple[Rtcp, ...]]]) -> None:
    while True:
        octets, _ = await sock.recvfrom(2048)
        if is_rtcp(octets):
            found.append((trio.current_time(), parse_untrusted(octets)))


async def keep_reporting(stream: RtpStream) -> None:
    assert stream.rtcp is not None
    listen = partial(reporting.listen, stream, stream.rtcp)
    await reporting.keep_reporting(stream, stream.rtcp, listen, random.Random(5))


async def answer(sock: trio.socket.SocketType) -> None:
    """Echo what a sender report tells, 50 ms later."""
    while True:
        octets, source = await sock.recvfrom(2048)
        report = parse_untrusted(octets)[0]
        if isinstance(report, SenderReport):
            await trio.sleep(0.05)
            echo = ReportBlock(report.ssrc, 0, 0, 5, 8, report.ntp >> 16 & 0xFFFFFFFF, int(0.05 * 65536))
            await sock.sendto(build((ReceiverReport(9, (echo,)),)), source)


@pytest.mark.parametrize("mux", [False, True])
async def test_reports_leave_at_random_around_the_interval_and_the_last_says_bye(
    autojump_clock: MockClock, mux: bool
) -> None:
    VirtualNetwork(host=OURS[0]).enable()
    settings, found = RtpSettings(rtcp_seconds=5.0, probe_seconds=0.0), list[tuple[float, tuple[Rtcp, ...]]]()
    phone = await udp(PHONE if mux else CONTROL)
    async with PortPool(settings).open_sockets() as sockets, trio.open_nursery() as listening:
        listening.start_soon(listen, phone, found)
        stream = stream_of(sockets, PHONE, settings, mux)
        assert stream.rtcp is not None
        with trio.move_on_after(300):
            async with trio.open_nursery() as call:
                call.start_soon(TaskClock().send, stream)
                call.start_soon(keep_reporting, stream)
        await trio.sleep(0.1)
        listening.cancel_scope.cancel()
    times = [at for at, _ in found]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[:-1])]
    assert all(2.499 < gap < 7.501 for gap in gaps)
    assert max(gaps) - min(gaps) > 2
    assert 48 < len(gaps) < 75
    (first, *_), (last, _, bye) = found[0][1], found[-1][1]
    assert isinstance(first, SenderReport)
    assert isinstance(last, SenderReport)
    assert (last.packets, last.octets) == (stream.pacer.sent, 160 * stream.pacer.sent)
    assert bye == Goodbye((7,))
    assert times[-1] - times[0] < 300


async def test_no_audio_follows_the_goodbye(autojump_clock: MockClock) -> None:
    VirtualNetwork(host=OURS[0]).enable()
    async with PortPool(RtpSettings()).open_sockets() as sockets:
        stream = stream_of(sockets, PHONE, RtpSettings())
        with trio.move_on_after(1):
            assert stream.outgoing(stream.pacer.due) is not None
            await keep_reporting(stream)
        assert stream.outgoing(stream.pacer.due) is None


async def test_the_round_trip_is_that_of_the_network(autojump_clock: MockClock) -> None:
    VirtualNetwork(delay=0.040, host=OURS[0]).enable()
    settings, phone = RtpSettings(rtcp_seconds=1.0), await udp(CONTROL)
    async with PortPool(settings).open_sockets() as sockets:
        stream = stream_of(sockets, PHONE, settings)
        assert stream.rtcp is not None
        with trio.move_on_after(5):
            async with trio.open_nursery() as call:
                call.start_soon(TaskClock().send, stream)
                call.start_soon(keep_reporting, stream)
                call.start_soon(answer, phone)
    told = stream.quality()
    assert told is not None
    assert told.round_trip_ms == pytest.approx(80, abs=0.1)
    assert told.reports_received > 2


async def test_a_flooded_port_is_left_alone_for_a_while(autojump_clock: MockClock) -> None:
    VirtualNetwork(host=OURS[0]).enable()
    settings, stranger = RtpSettings(), await udp(("203.0.113.66", 5000))
    async with PortPool(settings).open_sockets() as sockets:
        stream = stream_of(sockets, PHONE, settings)
        assert stream.rtcp is not None
        assert sockets.rtcp is not None
        async with trio.open_nursery() as call:
            call.start_soon(keep_reporting, stream)
            for _ in range(3000):
                await stranger.sendto(REPORT, (OURS[0], sockets.rtcp.getsockname()[1]))
            await trio.sleep(0.9)
            assert stream.rtcp.ignored <= FLOOD + 1
            call.cancel_scope.cancel()


async def test_a_flooded_port_is_left_alone_under_the_heartbeat_too() -> None:
    settings, stranger = RtpSettings(bind_ip="127.0.0.1"), await udp(("127.0.0.1", 0))
    with trio.fail_after(10), stranger:
        async with open_heartbeat() as clock, PortPool(settings).open_sockets() as sockets:
            stream = stream_of(sockets, PHONE, settings)
            assert stream.rtcp is not None
            assert sockets.rtcp is not None
            async with trio.open_nursery() as call:
                call.start_soon(clock.carry, stream)
                for _ in range(10 * FLOOD):
                    await stranger.sendto(REPORT, sockets.rtcp.getsockname())
                    await trio.sleep(0.001)
                assert 0 < stream.rtcp.ignored <= 2 * FLOOD + 2  # in a second or two, at 200 a second
                call.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["tasks", "heartbeat"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_real_sockets_carry_reports_both_ways(host: str, kind: str) -> None:
    """Loopback, of either family, under either clock."""
    family = stdlib.AF_INET6 if host == "::1" else stdlib.AF_INET
    phone, control = (trio.socket.socket(family, stdlib.SOCK_DGRAM) for _ in range(2))
    try:
        await phone.bind((host, 0))
        await control.bind((host, 0))
    except OSError:
        pytest.skip(f"this machine has no {host}")
    settings = RtpSettings(bind_ip="127.0.0.1", bind_ipv6="::1", rtcp_seconds=1.0)
    remote = phone.getsockname()[:2]
    with trio.fail_after(10), phone, control:
        async with (
            open_heartbeat() as heartbeat,
            PortPool(settings).open_sockets(ipv6=host == "::1") as sockets,
            trio.open_nursery() as call,
        ):
            clock = heartbeat if kind == "heartbeat" else TaskClock()
            stream = stream_of(sockets, remote, settings)
            assert stream.rtcp is not None
            stream.rtcp.describe(control.getsockname()[:2], mux=False)
            call.start_soon(clock.carry, stream)
            call.start_soon(answer, control)
            await phone.sendto(datagram(1), sockets.rtp.getsockname())
            while (told := stream.quality()) is None or told.round_trip_ms is None:  # noqa: ASYNC110 - a report has no event
                await trio.sleep(0.05)
            assert told.remote_lost == 0
            assert stream.latch.pinned == remote
            call.cancel_scope.cancel()
