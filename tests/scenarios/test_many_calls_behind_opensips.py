"""Many calls at once behind one OpenSIPS, more than its list can tell of, and events that are not its own."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, Settings
from aivc.sip.message import Request
from aivc.testing import PhoneCall, open_phone
from aivc.testing.opensips_subscribers import event_octets
from scenarios.behind import HELLO, byes, check_pace, event, greeter, opensips_of, told, until_over
from scenarios.conftest import Dialect
from scenarios.world import NUMBER, RTP_PORT, SERVICE, changed, open_world

pytestmark = pytest.mark.opensips_only

MANY: Final = 30
OTHER: Final = f"sip:2000@{SERVICE}:5060"
TOO_MANY: Final = 150  # more than fit into one answer of ua_session_list: some 140


def room_for(calls: int, **opensips: Any) -> Settings:
    ports = {"max_port": RTP_PORT + 2 * calls + 9, "quarantine_seconds": 0.0}
    return changed(rtp=ports, service={"calls_per_second": 1000.0, "max_calls": calls + 1}, opensips=opensips)


@pytest.mark.parametrize("any_schedule", [0, 7, 12, 19], indirect=True)  # they are many calls
@pytest.mark.parametrize("mi_seconds", [0.0, 0.005])
async def test_thirty_callers_are_served_at_once(
    autojump_clock: MockClock, dialect: Dialect, mi_seconds: float
) -> None:
    settings = room_for(MANY)
    world_of_many = open_world(
        greeter(), settings=settings, dialect=dialect, calls=MANY, opensips={"mi_seconds": mi_seconds}
    )
    async with world_of_many as world:
        calls: list[PhoneCall] = []

        async def talk(number: int) -> None:
            async with open_phone(f"192.0.2.{100 + number}", seed=number) as phone, phone.dial(NUMBER) as call:
                calls.append(call)
                await call.handset.wait_speech()
                assert (await call.ask("OPTIONS")).status == 200
                assert (await call.hold()).status == 200
                assert (await call.resume()).status == 200
                await call.handset.wait_silence(0.3)

        async with trio.open_nursery() as nursery:
            for number in range(MANY):
                nursery.start_soon(talk, number)
        for call in calls:
            assert call.handset.speech_heard() == HELLO
            assert byes(call) == []
        await opensips_of(world).wait_empty()
        assert len(told(opensips_of(world))) == MANY * 5
    assert [record.ending for record in world.records] == [Ending.CALLER_HUNG_UP] * MANY


def by_number(request: Request) -> str:
    return json.dumps({"instance": "ours" if "1000" in str(request.to.uri) else "another"})


@pytest.mark.parametrize("any_schedule", [4, 15], indirect=True)
async def test_calls_that_do_not_fit_into_the_list_of_opensips_are_looked_after_one_by_one(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    """Most of them are another connector's, which never answers."""
    settings = room_for(3, check_seconds=2.0, instance="ours")
    world_of_many = open_world(
        greeter(), settings=settings, dialect=dialect, calls=2, opensips={"extra_params": by_number}
    )
    async with world_of_many as world, trio.open_nursery() as others:
        opensips = opensips_of(world)

        async def ring() -> None:
            async with world.phone.ring(OTHER):
                await trio.sleep_forever()

        for _ in range(TOO_MANY):
            others.start_soon(ring)
        async with world.dial() as staying:
            async with world.dial() as leaving:
                await leaving.handset.wait_speech(0.5)
                assert len(json.dumps(opensips.listed)) > 65_457
                opensips.lose("event", event("TERMINATED", "BYE"), times=1)
            hung_up_at = trio.current_time()
            while world.service.calls == 2:  # noqa: ASYNC110 - a fake clock makes polling cheap
                await trio.sleep(0.02)
            assert trio.current_time() - hung_up_at < 2.0 + 2.0 + 0.5
            await trio.sleep(5.0)
            assert world.service.calls == 1
            assert byes(staying) == []
        await until_over(world)
        assert len(opensips.sessions) == TOO_MANY
        others.cancel_scope.cancel()
        await opensips.stop()
    assert [record.ending for record in world.records] == [Ending.SESSION_EXPIRED, Ending.CALLER_HUNG_UP]


async def test_events_from_elsewhere_are_ignored(
    autojump_clock: MockClock, dialect: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(greeter(), dialect=dialect) as world:
        opensips = opensips_of(world)
        (subscriber,) = opensips.subscribers
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as stranger:
            await stranger.bind(("192.0.2.66", 8080))
            async with world.dial() as call:
                await call.handset.wait_speech(0.2)
                new = next(params for params in opensips.events if params["event_type"] == "NEW")
                bye = {**new, "event_type": "TERMINATED", "method": "BYE"}
                another = {**new, "key": "B2B.1.2.3.4"}
                for forged in (bye, another):
                    await stranger.sendto(event_octets(forged), subscriber.address)
                await trio.sleep(0.1)
                assert (world.service.calls, len(world.model.sessions)) == (1, 1)
                check_pace(call)
                assert (await call.hold()).status == 200
        assert subscriber.address[0] == SERVICE
        front_end = world.service.front_ends.opensips
        assert front_end is not None
        assert front_end.statistics().foreign == 2
        opensips.was_troubled = True
        assert [record.message for record in caplog.records].count("opensips.foreign") == 1
    assert world.record.ending is Ending.CALLER_HUNG_UP
