"""What the settings of `sip` and `rtp` change; test_settings_take_effect.py has the others."""

from __future__ import annotations

from typing import Any, Final

import attrs
import pytest
import trio
from scenarios.world import NONE, PHONE, SERVICE, Changes, changed, open_world
from settings_shown import shows
from trio.testing import MockClock

from aivc import Ending, RtpSettings, open_service
from aivc.config.settings import SipSettings
from aivc.media.clock import TaskClock
from aivc.media.ports import NoPortFree, PortPool
from aivc.testing import FakeModel, Handset, connect_to, scripted

SILENT: Final = scripted([[]])


# sip


async def listening(**settings: Any) -> tuple[tuple[str, int], ...]:
    async with open_world(SILENT, calls=0) as world, FakeModel(SILENT) as model:
        assert world.service.listening == ((SERVICE, 5060),)
        other = attrs.evolve(changed(), sip=SipSettings(**settings))
        async with open_service(other, connect=connect_to(model), clock=TaskClock()) as service:
            return service.listening


@shows("sip.enabled")
async def test_a_user_agent_that_is_off_listens_nowhere(autojump_clock: MockClock) -> None:
    assert await listening(enabled=False) == ()


@shows("sip.listen")
async def test_the_user_agent_listens_where_it_is_told(autojump_clock: MockClock) -> None:
    assert await listening(listen=("udp:192.0.2.2:5070", "udp:192.0.2.3:5080")) == (
        ("192.0.2.2", 5070),
        ("192.0.2.3", 5080),
    )


async def answer_to(sip: Changes, rtp: Changes = NONE) -> tuple[str, str]:
    """Contact and SDP of the 200."""
    async with open_world(SILENT, settings=changed(sip=sip, rtp=rtp)) as world, world.dial() as call:
        pass
    assert call.answered is not None
    return call.answered.header("Contact"), call.answered.body.decode()


@shows("sip.external_ip")
async def test_an_external_address_is_told_in_contact_and_sdp(autojump_clock: MockClock) -> None:
    contact, sdp = await answer_to(sip={"external_ip": "203.0.113.10"})
    assert contact == "<sip:203.0.113.10:5060>"
    assert "c=IN IP4 203.0.113.10\r\n" in sdp


@shows("rtp.ip")
async def test_an_address_for_media_is_told_in_sdp(autojump_clock: MockClock) -> None:
    contact, sdp = await answer_to(sip={"external_ip": "203.0.113.10"}, rtp={"ip": "203.0.113.20"})
    assert contact == "<sip:203.0.113.10:5060>"
    assert "c=IN IP4 203.0.113.20\r\n" in sdp


@shows("sip.numbers")
@pytest.mark.parametrize(("numbers", "status"), [((), 200), (("1000", "1001"), 200), (("1001",), 404)])
async def test_only_the_given_numbers_are_answered(
    autojump_clock: MockClock, numbers: tuple[str, ...], status: int
) -> None:
    settings = changed(sip={"numbers": numbers})
    async with open_world(SILENT, settings=settings, calls=int(status == 200)) as world, world.ring() as call:
        await trio.sleep(0.5)
    assert call.responses[-1].status == status


@shows("sip.hang_up_seconds")
@pytest.mark.parametrize("seconds", [0.5, 3.0])
async def test_waiting_for_the_answer_to_our_bye_has_a_deadline(autojump_clock: MockClock, seconds: float) -> None:
    settings = changed(sip={"hang_up_seconds": seconds}, service={"max_call_seconds": 1.0})
    async with open_world(SILENT, settings=settings) as world, world.dial():
        await trio.sleep(0.5)
        world.network.loss = 1.0
        await trio.sleep(5.0)
        world.network.loss = 0.0
    assert world.record.duration_seconds == pytest.approx(1.0 + seconds)


# rtp


async def ports_of(settings: RtpSettings) -> set[tuple[str, int]]:
    """Where the sockets of many calls are bound."""
    async with open_world(SILENT, calls=0):
        pool, found = PortPool(attrs.evolve(settings, quarantine_seconds=0.0)), set()
        for _ in range(50):
            async with pool.open_socket() as socket:
                found.add(socket.getsockname())
        return found


@shows("rtp.min_port")
async def test_media_ports_are_not_below_the_lowest(autojump_clock: MockClock) -> None:
    assert {port for _, port in await ports_of(RtpSettings(min_port=64_996))} == {64_996, 64_998}


@shows("rtp.max_port")
async def test_media_ports_are_not_above_the_highest(autojump_clock: MockClock) -> None:
    assert {port for _, port in await ports_of(RtpSettings(max_port=35_003))} == {35_000, 35_002}


@shows("rtp.bind_ip")
async def test_media_sockets_are_bound_to_their_address(autojump_clock: MockClock) -> None:
    assert {host for host, _ in await ports_of(RtpSettings(bind_ip="192.0.2.7"))} == {"192.0.2.7"}
    assert {host for host, _ in await ports_of(RtpSettings())} == {"0.0.0.0"}


@shows("rtp.quarantine_seconds")
@pytest.mark.parametrize("seconds", [0.0, 2.0])
async def test_a_freed_port_rests(autojump_clock: MockClock, seconds: float) -> None:
    async with open_world(SILENT, calls=0):
        pool = PortPool(RtpSettings(min_port=40_000, max_port=40_001, quarantine_seconds=seconds))
        async with pool.open_socket():
            pass
        if seconds:
            with pytest.raises(NoPortFree):
                await pool.open_socket().__aenter__()
        await trio.sleep(seconds)
        async with pool.open_socket():
            assert pool.in_use == 1


@shows("rtp.nat")
@pytest.mark.parametrize(
    ("nat", "described", "heard"),
    [
        ("auto", "10.0.0.9", True),
        ("off", "10.0.0.9", False),
        ("auto", "198.51.100.9", False),
        ("on", "198.51.100.9", True),
    ],
)
async def test_a_caller_behind_a_nat_is_heard_or_not(
    autojump_clock: MockClock, nat: str, described: str, heard: bool
) -> None:
    sdp = f"v=0\r\no=- 1 1 IN IP4 {described}\r\ns=-\r\nc=IN IP4 {described}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
    async with open_world(SILENT, settings=changed(rtp={"nat": nat})) as world, world.dial(sdp=sdp) as call:
        await trio.sleep(1.0)
    assert bool(call.handset.heard) is heard
    assert bool(world.record.rtp.received) is heard
    assert bool(world.record.rtp.foreign) is not heard


@shows("rtp.timeout_seconds")
@pytest.mark.parametrize("seconds", [1.0, 0.0])
async def test_a_call_without_audio_ends(autojump_clock: MockClock, seconds: float) -> None:
    settings = changed(rtp={"timeout_seconds": seconds}, service={"max_call_seconds": 100.0})
    async with open_world(SILENT, settings=settings) as world, world.dial() as call:
        call.handset.muted = True
        await trio.sleep(90.0)
    assert world.record.ending is (Ending.MEDIA_TIMEOUT if seconds else Ending.CALLER_HUNG_UP)
    assert world.record.duration_seconds == pytest.approx(seconds or 90.0, abs=0.1)


@shows("rtp.relatch_seconds")
@pytest.mark.parametrize(("seconds", "heard"), [(0.5, True), (2.0, False)])
async def test_another_source_may_follow_after_a_silence(
    autojump_clock: MockClock, seconds: float, heard: bool
) -> None:
    settings = changed(rtp={"relatch_seconds": seconds})
    async with open_world(SILENT, settings=settings) as world, world.dial() as call:
        await trio.sleep(0.5)
        call.handset.muted = True
        await trio.sleep(1.0)
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as moved, trio.move_on_after(0.5):
            await moved.bind((PHONE, 0))
            assert call.remote_media is not None
            await Handset(moved).speak(call.remote_media)
    assert (world.record.rtp.received > 40) is heard
    assert (world.record.rtp.foreign > 20) is not heard


@shows("rtp.probe_seconds")
@pytest.mark.parametrize(("seconds", "heard"), [(1.0, 1.0), (0.0, 3.0)])
async def test_who_sends_no_audio_gets_some_for_a_while(
    autojump_clock: MockClock, seconds: float, heard: float
) -> None:
    async with open_world(SILENT, settings=changed(rtp={"probe_seconds": seconds})) as world, world.dial() as call:
        call.handset.muted = True
        await trio.sleep(3.0)
    assert call.answered_at is not None
    assert call.handset.heard[-1].at - call.answered_at == pytest.approx(heard, abs=0.02)
