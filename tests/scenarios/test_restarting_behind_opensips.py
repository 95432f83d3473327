"""Our service restarts, or is one of several: OpenSIPS keeps its sessions, and gives every event to everybody."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, Settings
from aivc.sip.message import Request
from aivc.testing import open_phone
from scenarios.behind import FEW_SCHEDULES, HELLO, ROOMY, byes, greeter, hear_refusal, opensips_of, reason, told
from scenarios.conftest import Dialect
from scenarios.runs import Stage, open_stage
from scenarios.world import DELAY, RTP_PORT, SERVICE, changed, open_world

pytestmark = pytest.mark.opensips_only

OTHER: Final = f"sip:2000@{SERVICE}:5060"
LOOKS: Final = 3.0 + 2.0 + 0.5  # two looks at the list


def ours(place: int = 0, event_port: int = 50060, **opensips: Any) -> Settings:
    """Each place has ports of its own."""
    port = RTP_PORT + 100 * place
    return changed(
        ROOMY,
        rtp={"min_port": port, "max_port": port + 9},
        engine={"event_port": event_port},
        opensips={"check_seconds": 3.0, "subscription_seconds": 12, **opensips},
    )


async def hear_greeting(stage: Stage, number: str | None = None) -> None:
    async with stage.dial() if number is None else stage.dial(number) as call:
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)
        assert call.handset.speech_heard() == HELLO


async def test_calls_of_an_earlier_run_are_ended(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_stage(greeter(), dialect=dialect) as stage:
        before = await stage.start(ours())
        async with stage.dial() as call:
            await call.handset.wait_speech(0.5)
            await before.crash()
            assert byes(call) == []
            after = await stage.start(ours())
            started_at = trio.current_time()
            assert (await call.ask("OPTIONS")).status == 481  # it is answered, and blocks nothing
            assert await call.wait_hung_up() - started_at < LOOKS
            assert len(byes(call)) == 1
        await stage.opensips.wait_empty()
        assert told(stage.opensips)[-1] == "terminate"
        await hear_greeting(stage)
        await after.stop()
        assert [record.ending for record in after.records()] == [Ending.CALLER_HUNG_UP]


async def test_who_rings_while_we_crash_is_told_that_it_does_not_work(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_stage(greeter(), dialect=dialect) as stage:
        before = await stage.start(ours())
        stage.opensips.lose("command", lambda call: call["params"].get("code") == 200)
        async with stage.ring() as call:
            await stage.opensips.wait_told("ua_session_reply")
            await before.crash()
            after = await stage.start(ours())
            started_at = trio.current_time()
            assert await hear_refusal(call) == [100, 180, 503]
            assert trio.current_time() - started_at < LOOKS
        await stage.opensips.wait_empty()
        await after.stop()
        assert after.records() == []


@FEW_SCHEDULES
async def test_calls_of_an_earlier_run_are_kept_if_the_operator_wants_so(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_stage(greeter(), dialect=dialect) as stage:
        before = await stage.start(ours())
        async with stage.dial() as call:
            await before.crash()
            after = await stage.start(ours(end_orphans=False))
            await trio.sleep(30.0)
            assert byes(call) == []
        await stage.opensips.wait_empty()
        await after.stop()
        assert "terminate" not in told(stage.opensips)


@FEW_SCHEDULES
async def test_calls_are_kept_as_long_as_another_subscriber_may_serve_them(
    autojump_clock: MockClock, dialect: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    """Here it is the earlier run itself, which had another port."""
    async with open_stage(greeter(), dialect=dialect) as stage:
        before = await stage.start(ours(event_port=50060))
        async with stage.dial() as call:
            await call.handset.wait_speech(0.5)
            await before.crash()
            after = await stage.start(ours(event_port=50061))
            started_at = trio.current_time()
            assert len(stage.opensips.subscribers) == 2
            assert "opensips.shared" in {record.message for record in caplog.records}
            ended_at = await call.wait_hung_up()
            assert 4.0 < ended_at - started_at < 12.0 + 12.0 / 3 + LOOKS
            assert len(stage.opensips.subscribers) == 1
        await stage.opensips.wait_empty()
        await after.stop()


async def test_who_stops_in_order_leaves_no_calls_and_no_subscription(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_stage(greeter(), dialect=dialect) as stage:
        run = await stage.start(changed(ours(), service={"drain_seconds": 1.0}))
        async with stage.dial() as call:
            await call.handset.wait_speech(0.2)
            stage.nursery.start_soon(run.stop)
            await trio.sleep(0.1)
            async with stage.ring() as late:
                assert await hear_refusal(late) == [100, 503]
                assert late.responses[-1].header("Reason") == 'SIP;cause=503;text="draining: the service is going down"'
            await call.wait_hung_up()
            assert reason(call) == 'SIP;cause=503;text="drained: the service is going down"'
            await run.stop()
        assert [record.ending for record in run.records()] == [Ending.DRAINED]
        assert stage.opensips.sessions == {}
        await trio.sleep(1.1)  # a subscription ends with the second
        assert stage.opensips.subscribers == []


# Several services at one OpenSIPS


def by_number(request: Request) -> str:
    return json.dumps({"instance": "first" if "1000" in str(request.to.uri) else "second"})


async def test_with_instances_each_service_takes_its_own_calls(
    autojump_clock: MockClock, dialect: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_stage(greeter(), dialect=dialect, extra_params=by_number) as stage:
        first = await stage.start(ours(0, 50060, instance="first"))
        second = await stage.start(ours(1, 50062, instance="second"))
        async with stage.dial() as one, stage.dial(OTHER) as two:
            await trio.sleep(8.0)  # several looks at the list: nobody ends what the other one serves
            assert one.remote_media is not None
            assert two.remote_media is not None
            assert (one.remote_media[1] // 100, two.remote_media[1] // 100) == (RTP_PORT // 100, RTP_PORT // 100 + 1)
            assert (await one.ask("OPTIONS")).status == (await two.hold()).status == 200
            assert byes(one) == byes(two) == []
            await second.crash()
            assert byes(two) == []
            assert (await one.ask("UPDATE")).status == 200
        assert one.handset.speech_heard() == two.handset.speech_heard() == HELLO
        await stage.opensips.wait_empty()
        await hear_greeting(stage)
        await first.stop()
        assert "opensips.shared" not in {record.message for record in caplog.records}
        assert [record.ending for record in first.records()] == [Ending.CALLER_HUNG_UP] * 2
        assert len(second.records()) == 1


@FEW_SCHEDULES
async def test_without_instances_two_services_are_warned_of_each_other(
    autojump_clock: MockClock, dialect: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_stage(greeter(), dialect=dialect) as stage:
        first = await stage.start(ours(0, 50060))
        await trio.sleep(5.0)
        assert "opensips.shared" not in {record.message for record in caplog.records}
        second = await stage.start(ours(1, 50062))
        await trio.sleep(5.0)
        warned = [record for record in caplog.records if record.message == "opensips.shared"]
        assert len(warned) == 2
        await second.stop()
        await trio.sleep(6.0)
        await hear_greeting(stage)
        await first.stop()
        assert len([record for record in caplog.records if record.message == "opensips.shared"]) == 2


async def test_calls_come_by_both_front_ends_and_share_one_limit(autojump_clock: MockClock, dialect: Dialect) -> None:
    own = f"sip:1000@{SERVICE}:5070"
    settings = changed(
        ours(),
        sip={"listen": (f"udp:{SERVICE}:5070",)},
        engine={"event_ip": SERVICE},
        opensips={"enabled": True, "ip": SERVICE},
        service={"max_calls": 2, "retry_after_seconds": 7},
    )
    async with (
        open_world(greeter(), settings=settings, dialect=dialect, calls=3) as world,
        open_phone("192.0.2.10", seed=1) as other,
        world.dial() as by_opensips,
    ):
        async with other.dial(own) as direct:
            for number, phone in ((own, other), (f"sip:1000@{SERVICE}:5060", world.phone)):
                async with phone.ring(number) as third:
                    assert (await hear_refusal(third))[-1] == 503
                    cause = 'SIP;cause=503;text="max_calls: service.max_calls = 2 is reached"'
                    assert third.responses[-1].header("Reason") == cause
                    assert third.responses[-1].header("Retry-After") == "7"
            await trio.sleep(2.0)
            assert by_opensips.handset.speech_heard() == direct.handset.speech_heard() == HELLO
        await trio.sleep(10 * DELAY)
        async with other.dial(own) as direct:
            await direct.handset.wait_speech(0.2)
        assert len(opensips_of(world).sessions) == 1
    assert [record.ending for record in world.records] == [Ending.CALLER_HUNG_UP] * 3
