"""The caller is in the middle of an entry: whatever happens meanwhile, nobody talks before it is complete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import trio
from trio.testing import MockClock

from aivc import Ending, tool
from aivc.config.settings import DtmfSettings
from aivc.testing import CallTool, PhoneCall, Say, Script, Session, decided, speech
from aivc.testing.script import Context, Part
from scenarios.conftest import Dialect
from scenarios.world import SETTINGS, World, open_world

HELLO: Final = speech(1.0, pitch_hz=210.0, seed=1)
THANKS: Final = speech(0.5, pitch_hz=210.0, seed=2)
ANSWER: Final = speech(0.7, pitch_hz=210.0, seed=3)
WORDS: Final = speech(0.6, seed=4)
TYPING: Final = attrs.evolve(SETTINGS, dtmf=DtmfSettings(pause_seconds=1.5))
TOLD: Final = "[The caller pressed the keys 123 on the telephone's keypad.]"


def keys_told(session: Session) -> list[str]:
    items = [event["item"] for event in session.received("conversation.item.create")]
    return [part["text"] for item in items if item.get("role") == "user" for part in item["content"]]


def agent(*first: Part) -> Script:
    """Greets and does something more, thanks for keys, answers the rest."""

    def respond(context: Context) -> list[Part]:
        if context.texts:
            return [Say("Thank you.", audio=THANKS)]
        if context.outputs or context.turns:
            return [Say("Yes?", audio=ANSWER)]
        return [Say("Hello.", audio=HELLO), *first]

    return decided(respond)


async def type_slowly(call: PhoneCall, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Press 1, 2, 3 and #, a second apart; nothing is to be heard from the first key's arrival to the last."""
    for key in "123":
        call.handset.press(key)
        await trio.sleep(0.5)
        heard = call.handset.speech_heard()
        meanwhile()
        await trio.sleep(0.5)
        assert call.handset.speech_heard() == heard
    call.handset.press("#")


async def hear_thanks(call: PhoneCall) -> None:
    await call.handset.wait_speech()
    await call.handset.wait_silence(1.0)


def check_one_answer(world: World, call: PhoneCall, session: Session) -> None:
    heard = call.handset.speech_heard()
    assert heard.endswith(THANKS)
    assert ANSWER not in heard
    assert keys_told(session) == [TOLD]


async def test_a_tool_that_finishes_in_the_middle_of_an_entry_waits_for_it(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    @tool
    async def look() -> str:
        """Look something up."""
        await trio.sleep(3.0)
        return "found"

    async with open_world(agent(CallTool("look")), settings=TYPING, dialect=dialect, tools=(look,)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.3)
            await type_slowly(call)
            await hear_thanks(call)
            check_one_answer(world, call, world.session)
        assert len(world.session.received("response.create")) == 2  # the greeting's and this
    (run,) = world.record.tools
    (entry,) = world.record.digits
    assert entry.at < run.ended_at < entry.at + 3.0


async def test_the_first_key_calls_off_a_hang_up_and_the_model_does_not_talk_into_the_entry(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(agent(CallTool("terminate_call")), settings=TYPING, dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
            await type_slowly(call)
            await hear_thanks(call)
            assert call.hung_up_at is None
            check_one_answer(world, call, world.session)
        assert len(world.session.received("response.create")) == 2
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_who_speaks_in_the_middle_of_an_entry_gets_one_answer_to_all_of_it(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(agent(), settings=TYPING, dialect=dialect) as world, world.dial() as call:
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)
        call.handset.press("1")
        await trio.sleep(0.3)
        call.handset.say(WORDS)
        await call.handset.wait_said()
        call.handset.press("2")
        await trio.sleep(1.2)  # the server has answered the turn by now
        assert call.handset.speech_heard() == HELLO
        call.handset.press("3#")
        await hear_thanks(call)
        check_one_answer(world, call, world.session)
    assert world.record.latencies == ()  # it answers the keys: who presses them slowly waits for nobody


async def test_an_entry_goes_on_while_the_session_is_replaced(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(agent(), settings=TYPING, dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.3)
            drops = [world.session.drop]
            await type_slowly(call, lambda: drops.pop()() if drops else None)
            await hear_thanks(call)
        assert len(world.model.sessions) > 1
        assert keys_told(world.model.sessions[-1]).count(TOLD) == 1
    assert world.record.ending is Ending.CALLER_HUNG_UP
