"""RTCP: what both sides tell of the audio is in the record, and a call on hold shows that it is alive."""

from __future__ import annotations

from typing import Final, Literal

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.testing import Say, VirtualNetwork, decided, speech
from aivc.testing.script import Context, Part
from aivc.testing.wording import read_description
from scenarios.conftest import Dialect
from scenarios.world import DELAY, RTP_PORT, SERVICE, changed, open_world

HELLO: Final = speech(1.0, pitch_hz=210.0, seed=61)
SETTINGS: Final = changed(rtp={"rtcp_seconds": 2.0})
WAYS: Final = pytest.mark.parametrize("way", ["port", "mux"])
FEW_SCHEDULES: Final = pytest.mark.parametrize("any_schedule", [0, 7, 12, 19], indirect=True)  # it takes long

Way = Literal["port", "mux"]


def talk(context: Context) -> list[Part]:
    return [Say("Hello.", audio=HELLO)]


@WAYS
async def test_reports_go_both_ways_and_into_the_record(autojump_clock: MockClock, dialect: Dialect, way: Way) -> None:
    async with open_world(decided(talk), settings=SETTINGS, dialect=dialect) as world:
        async with world.dial(rtcp=way) as call:
            handset = call.handset
            assert call.answered is not None
            described = read_description(call.answered.body.decode())
            assert described.rtcp_mux == (way == "mux")
            assert described.rtcp_port in (None, RTP_PORT if way == "mux" else RTP_PORT + 1)
            first = await handset.wait_report()
            assert first.kinds[:2] == (200, 202)
            assert first.source == (SERVICE, RTP_PORT if way == "mux" else RTP_PORT + 1)
            assert 1.0 <= first.at - (call.answered_at or 0.0) + DELAY <= 3.0 + DELAY
            sent = len([packet for packet in handset.heard if packet.at <= first.at])
            assert first.sent is not None
            assert first.sent[0] == pytest.approx(sent, abs=1)
            assert first.sent[1] == 160 * first.sent[0]
            assert first.received is not None
            assert first.received[0] == handset.ssrc
            assert first.received[1:] == (0.0, 0, 0)
            await trio.sleep(0.3)
            await handset.send_report(lost_share=0.25, lost=3, jitter_ms=7.5)
            await trio.sleep(0.1)
        await trio.sleep(2 * DELAY)
        last = handset.reports[-1]
        assert last.says_goodbye
        assert not any(report.says_goodbye for report in handset.reports[:-1])
    quality = world.record.quality
    assert quality is not None
    assert (quality.jitter_ms, quality.lost, quality.lost_fraction) == (0.0, 0, 0.0)
    assert quality.round_trip_ms == pytest.approx(2 * DELAY * 1000, abs=0.05)
    assert (quality.remote_jitter_ms, quality.remote_lost, quality.remote_lost_fraction) == (7.5, 3, 0.25)
    assert (quality.reports_received, quality.reports_ignored) == (1, 0)
    assert quality.reports_sent == len(handset.reports)


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_bad_line_is_measured(autojump_clock: MockClock, dialect: Dialect, seed: int) -> None:
    network = VirtualNetwork(delay=DELAY, seed=seed)
    async with (
        open_world(decided(talk), settings=SETTINGS, dialect=dialect, network=network) as world,
        world.dial(rtcp="port") as call,
    ):
        await trio.sleep(1.0)
        network.loss, network.jitter = 0.1, 0.010
        await trio.sleep(10.0)
        network.loss, network.jitter = 0.0, 0.0
        await trio.sleep(0.2)
        sent = len(call.handset.sent)
        reports = [report.received for report in call.handset.reports if report.received is not None]
    quality = world.record.quality
    assert quality is not None
    lost = sent - world.record.rtp.received
    assert quality.lost == pytest.approx(lost, abs=1)
    assert 0.04 < quality.lost_fraction < 0.18
    assert quality.lost_fraction == pytest.approx(quality.lost / sent, abs=0.005)
    assert any(share > 0.02 for _, share, _, _ in reports)
    assert any(2.0 < jitter / 8 < 6.0 for _, _, _, jitter in reports)  # uniform over 10 ms: about 3.3 ms
    assert quality.remote_lost is None  # the phone said nothing


async def test_a_call_without_reports_has_no_quality(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with (
        open_world(decided(talk), settings=changed(rtp={"rtcp": False}), dialect=dialect) as world,
        world.dial(rtcp="port") as call,
    ):
        await trio.sleep(10.0)
        assert call.handset.reports == []
    assert world.record.quality is None


@WAYS
async def test_reports_from_a_stranger_are_not_believed(autojump_clock: MockClock, dialect: Dialect, way: Way) -> None:
    async with open_world(decided(talk), settings=SETTINGS, dialect=dialect) as world, world.dial(rtcp=way) as call:
        await call.handset.wait_report()
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as stranger:
            await stranger.bind(("192.0.2.66", 5005))
            to = (SERVICE, RTP_PORT if way == "mux" else RTP_PORT + 1)
            await stranger.sendto(call.handset.reports[0].data, to)
            await call.handset.send_rtcp(b"\x80\xc9\x00\x09" + bytes(8))  # longer than it is
            await trio.sleep(0.1)
    quality = world.record.quality
    assert quality is not None
    assert quality.reports_received == 0
    assert quality.remote_lost is None
    assert quality.reports_ignored >= 1


@FEW_SCHEDULES
@WAYS
async def test_reports_go_on_while_the_caller_holds_and_keep_the_call(
    autojump_clock: MockClock, dialect: Dialect, way: Way
) -> None:
    settings = changed(SETTINGS, rtp={"hold_timeout_seconds": 8.0, "timeout_seconds": 5.0})
    async with open_world(decided(talk), settings=settings, dialect=dialect) as world, world.dial(rtcp=way) as call:
        await call.handset.wait_speech(0.2)
        await call.hold("inactive")
        call.handset.muted = True
        await trio.sleep(0.1)
        heard, reports = len(call.handset.heard), len(call.handset.reports)
        for _ in range(5):
            await trio.sleep(5.0)
            await call.handset.send_report()
        assert call.hung_up_at is None
        assert len(call.handset.heard) == heard
        assert len(call.handset.reports) - reports == pytest.approx(12, abs=5)
        assert call.handset.reports[-1].kinds[0] == 201  # nothing is sent: a receiver report
        silent_at = trio.current_time()
        assert await call.wait_hung_up() - silent_at == pytest.approx(8.0, abs=1.1)
    assert world.record.ending is Ending.MEDIA_TIMEOUT
    assert "rtp.hold_timeout_seconds" in world.record.detail


@FEW_SCHEDULES
async def test_reports_alone_do_not_keep_a_call_that_is_not_held(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(SETTINGS, rtp={"timeout_seconds": 6.0})
    async with (
        open_world(decided(talk), settings=settings, dialect=dialect) as world,
        world.dial(rtcp="port") as call,
    ):
        await call.handset.wait_speech(0.2)
        call.handset.muted = True
        silent_at = trio.current_time()
        for _ in range(5):
            await trio.sleep(1.0)
            await call.handset.send_report()
        assert await call.wait_hung_up() - silent_at == pytest.approx(6.0, abs=0.1)
    assert world.record.ending is Ending.MEDIA_TIMEOUT


async def test_the_goodbye_of_rtcp_alone_ends_nothing(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with (
        open_world(decided(talk), settings=SETTINGS, dialect=dialect) as world,
        world.dial(rtcp="port") as call,
    ):
        await call.handset.wait_report()
        ssrc = call.handset.ssrc.to_bytes(4, "big")
        await call.handset.send_rtcp(b"\x80\xc9\x00\x01" + ssrc + b"\x81\xcb\x00\x01" + ssrc)
        await trio.sleep(3.0)
        assert call.hung_up_at is None
    assert world.record.ending is Ending.CALLER_HUNG_UP
