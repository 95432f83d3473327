"""More calls than can be taken: they are refused with the true cause, and those that run do not notice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.config.settings import Address
from aivc.sip.message import Response, parse_untrusted
from aivc.testing import CallRefused, PhoneCall, Say, decided, open_phone, speech
from aivc.testing.script import Context, Part
from scenarios.conftest import Dialect
from scenarios.front_ends import FrontEndName
from scenarios.world import DELAY, NUMBER, RTP_PORT, SERVICE, World, changed, open_world

GREETING: Final = speech(2.0, pitch_hz=210.0)


def talk(context: Context) -> list[Part]:
    return [] if context.turns else [Say("Hello.", audio=GREETING)]


async def refusal(world: World) -> Response:
    with pytest.raises(CallRefused) as caught:
        async with world.dial():
            pass
    return caught.value.response


def check_busy(response: Response, name: str, cause: str, wait: str = "7") -> None:
    assert response.status == 503
    assert response.header("Retry-After") == wait
    assert response.header("Reason") == f'SIP;cause=503;text="{name}: {cause}"'
    assert response.header("Warning") == f'399 {SERVICE} "{cause}"'


async def options(world: World) -> Response:
    """The answer to OPTIONS outside of a call, from a phone that asks nothing else; behind OpenSIPS, that of its
    script."""
    answers: list[bytes] = []

    def note(source: Address, to: Address, data: bytes) -> None:
        if to[0] == "192.0.2.99":
            answers.append(data)

    world.network.on_packet = note
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as prober:
        await prober.bind(("192.0.2.99", 5060))
        lines = (
            f"OPTIONS sip:{SERVICE} SIP/2.0",
            f"Via: SIP/2.0/UDP 192.0.2.99:5060;branch=z9hG4bKprobe{trio.current_time()};rport",
            "Max-Forwards: 70",
            "From: <sip:probe@192.0.2.99>;tag=probe",
            f"To: <sip:{SERVICE}>",
            f"Call-ID: probe{trio.current_time()}",
            "CSeq: 1 OPTIONS",
            "Content-Length: 0",
        )
        await prober.sendto(("\r\n".join(lines) + "\r\n\r\n").encode(), (SERVICE, 5060))
        await trio.sleep(3 * DELAY)
    message = parse_untrusted(answers[0])
    assert isinstance(message, Response)
    return message


@asynccontextmanager
async def talking(world: World, count: int) -> AsyncIterator[list[PhoneCall]]:
    """So many calls, which must hear all that the model says, evenly."""
    async with AsyncExitStack() as stack:
        calls = []
        for number in range(count):
            phone = await stack.enter_async_context(open_phone(f"192.0.2.{101 + number}", seed=number + 1))
            calls.append(await stack.enter_async_context(phone.dial(NUMBER)))
        yield calls
        for call in calls:
            if not call.handset.speech_heard():
                await call.handset.wait_speech()
            await call.handset.wait_silence(0.3)
            assert call.handset.speech_heard() == GREETING
            assert call.hung_up_at is None
            gaps = [later.at - one.at for one, later in pairwise(call.handset.heard)]
            assert max(gaps) == pytest.approx(0.020)


def settings(pairs: int, **service: Any) -> Any:
    return changed(
        rtp={"max_port": RTP_PORT + 2 * pairs - 1, "quarantine_seconds": 0.0},
        service={"retry_after_seconds": 7, **service},
    )


async def test_a_call_too_many_is_refused_and_the_running_ones_go_on(
    autojump_clock: MockClock, dialect: Dialect, front_end: FrontEndName
) -> None:
    async with open_world(decided(talk), settings=settings(4, max_calls=3), dialect=dialect, calls=3) as world:
        assert (await options(world)).status == 200
        async with talking(world, 3):
            for _ in range(3):
                check_busy(await refusal(world), "max_calls", "service.max_calls = 3 is reached")
            probed = await options(world)
            told = (503, True) if front_end == "sip" else (200, False)  # OpenSIPS's script does not know how we are
            assert (probed.status, probed.headers.get("Retry-After") is not None) == told
            assert len(world.model.sessions) == 3
            assert (world.service.calls, world.service.refused) == (3, 3)
        while world.service.calls:  # noqa: ASYNC110 - a fake clock makes polling cheap
            await trio.sleep(0.02)
        assert (await options(world)).status == 200
    assert [record.ending for record in world.records] == [Ending.CALLER_HUNG_UP] * 3


async def test_calls_that_come_too_fast_are_refused_until_the_second_is_over(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with (
        open_world(decided(talk), settings=settings(9, calls_per_second=2.0), dialect=dialect, calls=3) as world,
        talking(world, 2),
    ):
        for _ in range(3):
            check_busy(await refusal(world), "calls_per_second", "service.calls_per_second = 2 is exceeded")
        assert (await options(world)).status == 200  # it is no call
        assert len(world.model.sessions) == 2
        await trio.sleep(1.0)
        async with world.dial() as call:
            await call.handset.wait_speech(0.1)
    assert [record.ending for record in world.records] == [Ending.CALLER_HUNG_UP] * 3


async def test_without_a_port_a_call_is_refused_and_gets_one_when_one_is_free(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(decided(talk), settings=settings(2), dialect=dialect, calls=4) as world:
        async with talking(world, 2):
            check_busy(await refusal(world), "no_rtp_port", "no RTP port is free")
            assert len(world.model.sessions) == 2
            assert len(world.media_sockets()) == 4  # RTP and RTCP of two calls
        await trio.sleep(0.5)
        async with world.dial() as call:
            await call.handset.wait_speech(0.1)
    assert sorted(record.ending.value for record in world.records) == ["caller_hung_up"] * 3 + ["no_rtp_port"]


async def test_a_service_that_drains_says_so_to_whoever_asks(
    autojump_clock: MockClock, dialect: Dialect, front_end: FrontEndName
) -> None:
    async with open_world(decided(talk), settings=settings(2), dialect=dialect) as world, talking(world, 1):
        world.service.drain()
        check_busy(await refusal(world), "draining", "the service is going down")
        assert (await options(world)).status == (503 if front_end == "sip" else 200)


async def test_a_disabled_service_says_so(autojump_clock: MockClock, front_end: FrontEndName) -> None:
    disabled = changed(settings(2), openai={"disable": True})
    async with open_world(decided(talk), settings=disabled, calls=0) as world:
        check_busy(await refusal(world), "disabled", "openai.disable is set")
        assert (await options(world)).status == (503 if front_end == "sip" else 200)
        assert world.model.sessions == []


@pytest.mark.sip_only("sip.requests_per_second: OpenSIPS has its own")
async def test_a_source_that_asks_too_fast_is_slowed_down_and_the_others_are_not(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    slow = changed(settings(2), sip={"requests_per_second": 3.0})
    async with (
        open_world(decided(talk), settings=slow, dialect=dialect, calls=2) as world,
        talking(world, 1) as calls,
    ):
        statuses = [(await options(world)).status for _ in range(5)]
        assert statuses == [200, 200, 200, 503, 503]
        assert (await calls[0].update()).status == 200  # in a call nobody is slowed down
        assert world.service.agent.statistics().slowed == 2
        async with world.dial() as call:
            await call.handset.wait_speech(0.1)


# The same INVITE twice


@pytest.mark.sip_only("482: OpenSIPS makes two sessions of it")
async def test_an_invite_that_comes_by_two_ways_is_one_call(autojump_clock: MockClock, dialect: Dialect) -> None:
    """A proxy has forked it (RFC 3261 section 8.2.2.2)."""
    answers: list[bytes] = []

    def note(source: Address, to: Address, data: bytes) -> None:
        if to[0] == "192.0.2.99":
            answers.append(data.split(b"\r\n")[0])

    async with open_world(decided(talk), dialect=dialect) as world:
        invites: list[bytes] = []

        def keep(source: Address, to: Address, data: bytes) -> None:
            if data.startswith(b"INVITE"):
                invites.append(data)

        world.network.on_packet = keep
        async with world.dial() as call:
            world.network.on_packet = note
            async with open_phone("192.0.2.99", 5060) as other:
                forked = invites[0].replace(b"branch=z9hG4bK", b"branch=z9hG4bKfork", 1)
                via = f"Via: SIP/2.0/UDP {world.phone.address[0]}:{world.phone.address[1]}"
                await other.send(forked.replace(via.encode(), b"Via: SIP/2.0/UDP 192.0.2.99:5060", 1), (SERVICE, 5060))
                await trio.sleep(0.1)
                assert answers == [b"SIP/2.0 482 Loop Detected"]
                answers.clear()
                await world.phone.send(invites[0], (SERVICE, 5060))  # a copy: the 200 again, or nothing
                await trio.sleep(0.1)
            assert world.service.calls == 1
            assert len(world.model.sessions) == 1
            await call.handset.wait_silence(0.3)
            assert call.handset.speech_heard() == GREETING
            assert {response.status for response in call.responses} == {100, 180, 200}
    assert world.record.ending is Ending.CALLER_HUNG_UP
