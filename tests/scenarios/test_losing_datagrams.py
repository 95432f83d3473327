"""Between OpenSIPS and us every word is a datagram: lost, late or doubled, and nobody sends an event again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.config.settings import DtmfSettings
from aivc.nursery.record import DigitEntry
from aivc.testing import CallTool, FakeOpenSips, Faults, PhoneCall, Say, Script, Transfers, decided, speech
from aivc.testing.schema import Json
from aivc.testing.script import Context, Part
from scenarios.behind import (
    FEW_SCHEDULES,
    HELLO,
    LOST,
    ROOMY,
    byes,
    check_pace,
    command,
    event,
    excuse,
    greeter,
    hear_refusal,
    opensips_of,
    reason,
    statuses,
    told,
    until_over,
)
from scenarios.conftest import Dialect
from scenarios.world import DELAY, SETTINGS, changed, open_world

pytestmark = pytest.mark.opensips_only

TWO_SCHEDULES: Final = pytest.mark.parametrize("any_schedule", [3, 14], indirect=True)  # there are many variants
QUESTION: Final = speech(0.4, seed=62)
GOODBYE: Final = speech(0.5, pitch_hz=210.0, seed=63)
ENDED: Final = 'SIP;cause=200;text="model_hung_up: the agent ended the call"'
LOOK: Final = SETTINGS.opensips.check_seconds + 2.0 + 0.5  # two looks at OpenSIPS's list, and what follows
GIVEN_UP: Final = SETTINGS.opensips.command_seconds
NO_MODEL: Final = Faults(session_updated_seconds=60.0)  # so it rings
PATIENT: Final = changed(openai={"configure_seconds": 60.0})
TABLE: Final = attrs.evolve(SETTINGS, dtmf=DtmfSettings(pause_seconds=0.3))


def leaver() -> Script:
    """Greets, and says goodbye to the first answer."""

    def respond(context: Context) -> list[Part]:
        if context.turns:
            return [Say("Goodbye.", audio=GOODBYE), CallTool("terminate_call")]
        return [Say("Hello.", audio=HELLO)]

    return decided(respond)


COMMANDS: Final[dict[str, Callable[[Json], bool]]] = {
    "180": command("reply", "INVITE", 180),
    "200": lambda call: command("reply", "INVITE", 200)(call),
    "INFO": command("reply", "INFO"),
    "OPTIONS": command("reply", "OPTIONS"),
    "UPDATE": command("reply", "UPDATE"),
    "BYE": command("update", "BYE"),
    "list": command("list"),
}
FATES: Final[dict[str, Callable[[FakeOpenSips, Callable[[Json], bool]], None]]] = {
    "lost": lambda opensips, concerns: opensips.lose("command", concerns, times=1),
    "answer lost": lambda opensips, concerns: opensips.lose("answer", concerns, times=1),
    "answer late": lambda opensips, concerns: opensips.delay("answer", 0.7, concerns, times=1),
    "late": lambda opensips, concerns: opensips.delay("command", 0.7, concerns, times=1),
    "answer doubled": lambda opensips, concerns: opensips.duplicate("answer", concerns),
    "doubled": lambda opensips, concerns: opensips.duplicate("command", concerns),
}


@TWO_SCHEDULES
@pytest.mark.parametrize("concerns", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("fate", FATES.values(), ids=FATES)
async def test_a_command_that_is_lost_late_or_doubled_is_not_noticed_by_the_caller(
    autojump_clock: MockClock,
    dialect: Dialect,
    concerns: Callable[[Json], bool],
    fate: Callable[[FakeOpenSips, Callable[[Json], bool]], None],
) -> None:
    async with open_world(leaver(), settings=TABLE, dialect=dialect) as world:
        opensips = opensips_of(world)
        fate(opensips, concerns)
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.3)
            assert [(await call.ask(method)).status for method in ("OPTIONS", "UPDATE")] == [200, 200]
            assert (await call.info_digit("7")).status == 200
            assert (await call.hold()).status == 200
            assert (await call.resume()).status == 200
            call.handset.say(QUESTION)
            await call.wait_hung_up()
            await trio.sleep(1.0)  # what is late has come
        assert statuses(call)[:3] in ([100, 180, 200], [100, 200, 100])  # a late 180 comes too late
        assert len(byes(call)) == 1
        told_why = "Reason" in {name.title() for name, _ in byes(call)[0].headers}
        assert not told_why or reason(call) == ENDED  # a BYE that is lost is followed by one without header fields
        assert call.handset.speech_heard() == HELLO + GOODBYE
    assert world.record.ending is Ending.MODEL_HUNG_UP
    assert [entry.digits for entry in world.record.digits] == ["7"]


@TWO_SCHEDULES
@pytest.mark.parametrize("fate", FATES.values(), ids=FATES)
async def test_what_refuses_a_call_arrives_in_the_end(
    autojump_clock: MockClock, fate: Callable[[FakeOpenSips, Callable[[Json], bool]], None]
) -> None:
    async with open_world(greeter(), settings=changed(openai={"disable": True}), calls=0) as world:
        opensips = opensips_of(world)
        fate(opensips, lambda call: command("reply")(call) or command("terminate")(call))
        async with world.ring() as call:
            assert await hear_refusal(call) == [100, 503]
            await opensips.wait_empty()


@FEW_SCHEDULES
async def test_of_whom_we_never_hear_a_caller_is_told_that_it_does_not_work(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(greeter(), settings=ROOMY, dialect=dialect) as world:
        opensips = opensips_of(world)
        opensips.lose("event", event("NEW"), times=1)
        async with world.ring() as call:
            rang_at = trio.current_time()
            await call.wait_over()
            assert trio.current_time() - rang_at < LOOK
            await trio.sleep(0.1)
        assert statuses(call) == [100, 503]
        assert call.responses[-1].header("Retry-After") == "10"
        assert told(opensips) == ["INVITE 503", "terminate"]
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FEW_SCHEDULES
async def test_a_lost_goodbye_is_found_in_the_list(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(greeter(), dialect=dialect) as world:
        opensips = opensips_of(world)
        opensips.lose("event", event("TERMINATED", "BYE"), times=1)
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
        hung_up_at = trio.current_time()
        assert await until_over(world) - hung_up_at < LOOK
        assert told(opensips) == ["INVITE 180", "INVITE 200"]
        assert call.requests == []
    assert (world.record.ending, world.record.detail) == (Ending.SESSION_EXPIRED, LOST)


@FEW_SCHEDULES
async def test_a_lost_cancel_is_found_in_the_list(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(greeter(), dialect=dialect, faults=NO_MODEL, settings=PATIENT) as world:
        opensips = opensips_of(world)
        opensips.lose("event", event("TERMINATED", "CANCEL"), times=1)
        async with world.ring() as call:
            await opensips.wait_told("ua_session_reply")
            await call.cancel()
            await call.wait_over()
            await opensips.wait_empty()
        assert statuses(call) == [100, 180, 487]
        assert told(opensips) == ["INVITE 180", "INVITE 487", "terminate"]
    assert world.record.ending is Ending.SESSION_EXPIRED


@FEW_SCHEDULES
async def test_a_lost_acknowledgement_is_found_in_the_list(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(greeter(), dialect=dialect) as world:
        opensips = opensips_of(world)
        opensips.lose("event", event("UPDATED", "ACK"))
        async with world.dial() as call:
            await trio.sleep(40.0)  # longer than 64*T1
            assert (await call.hold()).status == 200
            assert call.hung_up_at is None
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FEW_SCHEDULES
@pytest.mark.parametrize("kind", ["command", "answer"])
async def test_an_answer_that_opensips_never_confirms_ends_the_call(
    autojump_clock: MockClock, dialect: Dialect, kind: str
) -> None:
    async with open_world(greeter(), dialect=dialect) as world:
        opensips = opensips_of(world)
        opensips.lose("answer" if kind == "answer" else "command", command("reply", "INVITE", 200))
        async with world.ring() as call:
            rang_at = trio.current_time()
            await call.wait_over()
            assert trio.current_time() - rang_at < GIVEN_UP + 0.5
            await trio.sleep(1.0)
        assert statuses(call) == ([100, 180, 200] if kind == "answer" else [100, 180, 500])
        assert len(byes(call)) == (kind == "answer")
        excuse(opensips, "INVITE 500", "INVITE 200")  # it might have been the first answer
    assert world.record.ending is Ending.SIGNALLING_FAILED


# Events in another order


async def press_and_hold(call: PhoneCall) -> None:
    assert (await call.info_digit("1")).status == 200
    assert (await call.hold()).status == 200
    assert (await call.info_digit("2")).status == 200
    assert (await call.resume()).status == 200
    assert (await call.info_digit("3")).status == 200


async def test_events_that_come_twice_count_once(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(greeter(), settings=TABLE, dialect=dialect) as world:
        opensips = opensips_of(world)
        opensips.duplicate("event")
        async with world.dial() as call:
            await press_and_hold(call)
            await trio.sleep(0.5)
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert keys(world.record.digits) == "123"


def keys(entries: tuple[DigitEntry, ...]) -> str:
    return "".join(entry.digits for entry in entries)


@pytest.mark.parametrize(
    "late",
    [event("UPDATED", "ACK"), event("UPDATED"), event("TERMINATED"), lambda params: True],
    ids=["ACK", "requests", "ends", "all"],
)
@pytest.mark.parametrize("seconds", [0.03, 0.3])
async def test_events_that_overtake_each_other_do_no_harm(
    autojump_clock: MockClock, dialect: Dialect, late: Callable[[Json], bool], seconds: float
) -> None:
    async with open_world(greeter(), settings=TABLE, dialect=dialect) as world:
        opensips = opensips_of(world)
        opensips.delay("event", seconds, late)
        async with world.dial() as call:
            await press_and_hold(call)
            await trio.sleep(0.5)
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert keys(world.record.digits) == "123"


@pytest.mark.parametrize("seconds", [0.05, 1.0, 4.0])
async def test_a_cancel_that_comes_before_its_call_ends_it_before_it_rings(
    autojump_clock: MockClock, dialect: Dialect, seconds: float
) -> None:
    async with open_world(greeter(), dialect=dialect, calls=0) as world:
        opensips = opensips_of(world)
        opensips.delay("event", seconds, event("NEW"))
        async with world.ring() as call:
            await call.cancel()
            await call.wait_over()
            await opensips.wait_empty()
        assert statuses(call) == [100, 487]
        assert told(opensips) == ["INVITE 487", "terminate"]
        assert world.model.sessions == []
        assert world.service.refused == 0


async def test_a_goodbye_overtakes_what_was_said_before(autojump_clock: MockClock, dialect: Dialect) -> None:
    """The event of the BYE comes before that of the ACK and of a key."""
    async with open_world(greeter(), dialect=dialect) as world:
        opensips = opensips_of(world)
        opensips.delay("event", 0.2, event("UPDATED"))
        async with world.dial() as call:
            world.phone.nursery.start_soon(call.info_digit, "1")
            await trio.sleep(3 * DELAY)
        await trio.sleep(1.0)
        assert call.requests == []
    assert world.record.ending is Ending.CALLER_HUNG_UP


# A slow OpenSIPS


@FEW_SCHEDULES
async def test_the_audio_does_not_wait_for_a_slow_opensips(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(greeter(), dialect=dialect) as world:
        opensips = opensips_of(world)
        async with world.dial() as call:
            await trio.sleep(0.1)
            opensips.mi_seconds = 2.0
            since = trio.current_time()
            assert (await call.info_digit("1")).status == 200
            assert (await call.ask("OPTIONS")).status == 200
            await trio.sleep(5.0)
            check_pace(call, since)
            assert call.handset.speech_heard() == HELLO
            assert (await call.hold()).status == 200
            assert (await call.resume()).status == 200
            opensips.mi_seconds = 0.0
            await trio.sleep(1.0)
            assert call.hung_up_at is None
        excuse(opensips, "INFO 200", "OPTIONS 200", "INVITE 200", "")  # second tries of what was done
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FEW_SCHEDULES
async def test_a_slow_opensips_lets_us_hang_up_and_transfer(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(openai={"transfer_to": "sip:support@example.com"})
    script = decided(lambda context: [] if context.outputs else [CallTool("transfer_call")])
    async with open_world(script, settings=settings, dialect=dialect) as world:
        opensips = opensips_of(world)
        opensips.mi_seconds = 0.4
        async with world.dial(transfers=Transfers()) as call:
            await call.wait_hung_up()
        assert len(call.referrals) == 1
        assert reason(call) == 'SIP;cause=200;text="transferred: the call was transferred"'
    assert world.record.ending is Ending.TRANSFERRED
