"""The caller presses keys: the model falls silent, and reads the whole entry once."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, Settings, tool
from aivc.config.settings import DtmfSettings
from aivc.nursery.record import DigitEntry, DigitsEntered
from aivc.testing import CallTool, PhoneCall, Say, Script, Session, decided, speech
from aivc.testing.script import Context, Part
from scenarios.conftest import Dialect
from scenarios.world import SETTINGS, changed, open_world

HELLO: Final = speech(2.0, pitch_hz=210.0, seed=1)
THANKS: Final = speech(0.5, pitch_hz=210.0, seed=2)
ANSWER: Final = speech(0.7, pitch_hz=210.0, seed=3)
TALK: Final = speech(1.5, seed=4)
TRUNCATE: Final = "conversation.item.truncate"
PAUSE: Final = 1.0  # seconds after which an entry is complete
KEY_SECONDS: Final = 0.16  # a key that is pressed for 100 ms, and the gap after it


def pressing(**dtmf: Any) -> Settings:
    return attrs.evolve(SETTINGS, dtmf=DtmfSettings(**{"pause_seconds": PAUSE, **dtmf}))


def agent() -> Script:
    """Greets, thanks for keys, answers words."""

    def respond(context: Context) -> list[Part]:
        if context.texts:
            return [Say("Thank you.", audio=THANKS)]
        return [Say("Hello, please enter your number.", audio=HELLO)] if not context.turns else [Say("A", audio=ANSWER)]

    return decided(respond)


def keys_told(session: Session) -> list[str]:
    """The user messages in writing."""
    items = [event["item"] for event in session.received("conversation.item.create")]
    return [part["text"] for item in items if item.get("role") == "user" for part in item["content"]]


def told(*entries: str) -> list[str]:
    return [f"[The caller pressed the keys {entry} on the telephone's keypad.]" for entry in entries]


def asked(session: Session) -> int:
    """How many responses we asked for after the greeting."""
    return len(session.received("response.create")) - 1


async def after_greeting(call: PhoneCall) -> None:
    await call.handset.wait_speech()
    await call.handset.wait_silence(0.3)


async def hear_thanks(call: PhoneCall) -> None:
    await call.handset.wait_speech()
    await call.handset.wait_silence(0.5)


async def press_by_rtp(call: PhoneCall, keys: str) -> None:
    call.handset.press(keys)
    await call.handset.wait_pressed()


async def press_by_info(call: PhoneCall, keys: str, kind: Literal["relay", "dtmf"] = "relay") -> None:
    for key in keys:
        assert (await call.info_digit(key, kind)).status == 200
        await trio.sleep(0.1)


async def press_by_plain_info(call: PhoneCall, keys: str) -> None:
    await press_by_info(call, keys, "dtmf")


async def press_both_ways(call: PhoneCall, keys: str) -> None:
    """As some telephones do: the INFO arrives when the first packets have come."""
    for key in keys:
        call.handset.press(key)
        await trio.sleep(0.05)
        await call.info_digit(key)
        await call.handset.wait_pressed()


WAYS: Final[dict[str, Callable[[PhoneCall, str], Awaitable[None]]]] = {
    "RTP": press_by_rtp,
    "INFO dtmf-relay": press_by_info,
    "INFO dtmf": press_by_plain_info,
    "both": press_both_ways,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_an_entry_is_one_text_item_and_one_response(
    autojump_clock: MockClock, dialect: Dialect, way: Callable[[PhoneCall, str], Awaitable[None]]
) -> None:
    async with open_world(agent(), settings=pressing(), dialect=dialect) as world:
        async with world.dial() as call:
            await after_greeting(call)
            pressed_at = trio.current_time()
            await way(call, "4711#")
            await hear_thanks(call)
        assert keys_told(world.session) == told("4711")
        assert asked(world.session) == 1
        assert call.handset.speech_heard() == HELLO + THANKS
    source = "rtp" if way in (press_by_rtp, press_both_ways) else "info"
    (entry,) = world.record.digits
    assert (entry.digits, entry.source) == ("4711", source)
    assert entry.at == pytest.approx(pressed_at, abs=0.05)


async def test_without_a_finishing_key_a_pause_ends_the_entry(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(agent(), settings=pressing(), dialect=dialect) as world:
        async with world.dial() as call:
            await after_greeting(call)
            began_at = trio.current_time()
            call.handset.press("12")
            await world.session.wait_received("conversation.item.create")
            last_key_at = began_at + KEY_SECONDS
            assert trio.current_time() - last_key_at == pytest.approx(PAUSE, abs=0.05)
            await hear_thanks(call)
            call.handset.press("3")
            await hear_thanks(call)
        assert keys_told(world.session) == told("12", "3")
        assert asked(world.session) == 2


async def test_a_finishing_key_alone_is_an_entry_and_other_finishing_keys_may_be_chosen(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(agent(), settings=pressing(finish="*#"), dialect=dialect) as world:
        async with world.dial() as call:
            await after_greeting(call)
            for keys in ("#", "12*", "*"):
                call.handset.press(keys)
                await hear_thanks(call)
        assert keys_told(world.session) == told("#", "12", "*")


async def test_the_first_key_silences_the_model_which_learns_what_was_heard(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(agent(), settings=pressing(), dialect=dialect, speed=100.0) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.59)
            call.handset.press("1#")
            truncation = await world.session.wait_received(TRUNCATE)
            await call.handset.wait_silence(0.02)
            heard = call.handset.speech_heard()
            assert len(heard) == 8 * truncation["audio_end_ms"]
            assert HELLO.startswith(heard)
            assert 600 <= truncation["audio_end_ms"] <= 640  # a packet waits for its time, and for the network
            await hear_thanks(call)
        assert call.handset.speech_heard() == heard + THANKS
        assert len(world.session.received(TRUNCATE)) == 1
        assert (keys_told(world.session), asked(world.session)) == (told("1"), 1)
    (cut,) = world.record.cuts
    assert cut.heard_ms == truncation["audio_end_ms"]


async def test_a_key_stops_an_answer_that_is_still_being_generated(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(agent(), settings=pressing(), dialect=dialect, speed=1.2) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
            call.handset.press("1#")
            await world.session.wait_sent("response.done", count=2)
            await call.handset.wait_silence(0.5)
        (cancelled,) = world.session.received("response.cancel")
        (truncation,) = world.session.received(TRUNCATE)
        assert call.handset.speech_heard() == HELLO[: 8 * truncation["audio_end_ms"]] + THANKS
        done = world.session.sent("response.done")
        assert [event["response"]["status"] for event in done] == ["cancelled", "completed"]
        assert cancelled["response_id"] == done[0]["response"]["id"]


async def test_who_presses_keys_while_speaking_gets_one_answer_to_both(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(agent(), settings=pressing(), dialect=dialect) as world:
        async with world.dial() as call:
            await after_greeting(call)
            call.handset.say(TALK)
            await trio.sleep(0.3)
            call.handset.press("12#")
            await call.handset.wait_said()
            await hear_thanks(call)
            await call.handset.wait_silence(1.0)
        assert keys_told(world.session) == told("12")
        heard = call.handset.speech_heard().removeprefix(HELLO)
        assert heard.count(THANKS) + heard.count(ANSWER) <= 2
        assert heard.count(THANKS) == 1
        statuses = [event["response"]["status"] for event in world.session.sent("response.done")]
        assert statuses.count("cancelled") == 0


async def test_keys_that_are_pressed_while_a_tool_runs_are_told_and_the_tool_goes_on(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    @tool
    async def look_up() -> str:
        """Take long."""
        await trio.sleep(2.0)
        return "found"

    def respond(context: Context) -> list[Part]:
        if context.outputs:
            return [Say("Found.", audio=ANSWER)]
        return [Say("Thank you.", audio=THANKS)] if context.texts else [CallTool("look_up")]

    settings = pressing(finish="#")
    async with open_world(decided(respond), settings=settings, dialect=dialect, tools=(look_up,)) as world:
        async with world.dial() as call:
            await world.session.wait_sent("response.done")
            call.handset.press("12#")
            await hear_thanks(call)
            await hear_thanks(call)
        assert keys_told(world.session) == told("12")
        assert call.handset.speech_heard() == THANKS + ANSWER
    assert [run.outcome for run in world.record.tools] == ["ok"]


async def test_keys_do_not_interrupt_a_protected_welcome_and_are_told_after_it(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = attrs.evolve(changed(openai={"welcome_interruptible": False}), dtmf=DtmfSettings(pause_seconds=PAUSE))
    async with open_world(agent(), settings=settings, dialect=dialect, speed=1.2) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.3)
            call.handset.press("12#")
            await world.session.wait_sent("response.done", count=2)
            await call.handset.wait_silence(0.5)
        assert call.handset.speech_heard() == HELLO + THANKS
        assert (keys_told(world.session), asked(world.session)) == (told("12"), 1)
        assert world.session.received(TRUNCATE) == []
    assert world.record.cuts == ()


@pytest.mark.parametrize(
    "press",
    [
        {"lose": (0,)},
        {"lose": (0, 1, 2, 3)},
        {"lose": (-1, -2, -3)},
        {"lose": (-1, -2, -3, -4, -5)},
        {"marker": False},
        {"copies": 3},
        {"end_repeats": 1},
        {"end_repeats": 8},
        {"marker": False, "lose": (0, -1, -2, -3)},
        {"tone_ms": 600},
        {"tone_ms": 40, "gap_ms": 40},
    ],
    ids=str,
)
async def test_keys_are_counted_once_whatever_packets_are_lost_or_repeated(
    autojump_clock: MockClock, dialect: Dialect, press: dict[str, Any]
) -> None:
    async with open_world(agent(), settings=pressing(), dialect=dialect) as world:
        async with world.dial() as call:
            await after_greeting(call)
            call.handset.press("1123#", **press)
            await hear_thanks(call)
        assert keys_told(world.session) == told("1123")
        assert asked(world.session) == 1
    assert [entry.digits for entry in world.record.digits] == ["1123"]
    assert world.record.rtp.digits == 5


async def test_keys_never_reach_the_model_as_audio_and_take_no_time_from_it(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(agent(), settings=pressing(), dialect=dialect) as world:
        async with world.dial() as call:
            await after_greeting(call)
            call.handset.press("0123456789*#")
            await hear_thanks(call)
            call.handset.say(TALK)
            await hear_thanks(call)
        heard = world.session.received_audio
        began = heard.index(TALK[:160])
        assert not heard[:began].strip(b"\xff")
        seconds = call.handset.sent[-1].at - call.handset.sent[0].at
        assert len(heard) / 8000 == pytest.approx(seconds, abs=0.1)
        assert keys_told(world.session)[0] == told("0123456789*")[0]


async def test_a_model_that_is_not_to_know_of_keys_is_not_disturbed(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(agent(), settings=pressing(enabled=False), dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
            call.handset.press("4711#")
            assert (await call.info_digit("5")).status == 200
            await call.handset.wait_silence(2.0)
        assert call.handset.speech_heard() == HELLO
        assert (keys_told(world.session), asked(world.session)) == ([], 0)
    assert world.record.digits == ()


async def test_digits_are_in_the_record_and_for_observers_but_never_in_the_log(
    autojump_clock: MockClock, dialect: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aivc")
    async with (
        open_world(agent(), settings=pressing(), dialect=dialect) as world,
        world.dial() as call,
    ):
        await after_greeting(call)
        await press_by_rtp(call, "90817#")
        await hear_thanks(call)
        await press_by_info(call, "65432#")  # it has used RTP before, so these are taken for copies
        await call.handset.wait_silence(1.5)
    assert [entry.digits for entry in world.record.digits] == ["90817"]
    entries = [event.what.entry for event in world.events if isinstance(event.what, DigitsEntered)]
    assert entries == list(world.record.digits) == [DigitEntry("90817", entries[0].at, "rtp")]
    # Only what is text: the real time and the ids of threads may have these digits by chance.
    logged = [
        str([value for value in vars(line).values() if isinstance(value, str | dict | tuple)])
        for line in caplog.records
    ]
    assert any("caller.pressed_keys" in line for line in logged)
    assert [line for line in logged if "90817" in line or "65432" in line] == []
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_who_hangs_up_in_the_middle_of_an_entry_leaves_none(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(agent(), settings=pressing(), dialect=dialect) as world:
        async with world.dial() as call:
            await after_greeting(call)
            await press_by_rtp(call, "12")
        assert keys_told(world.session) == []
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_keys_call_off_a_hang_up(autojump_clock: MockClock, dialect: Dialect) -> None:
    def respond(context: Context) -> list[Part]:
        if context.texts:
            return [Say("Thank you.", audio=THANKS)]
        return [] if context.outputs else [Say("Goodbye.", audio=HELLO), CallTool("terminate_call")]

    async with open_world(decided(respond), settings=pressing(), dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(1.0)
            call.handset.press("1#")
            await world.session.wait_received("conversation.item.create")
            await hear_thanks(call)
            assert call.hung_up_at is None
            assert call.handset.speech_heard().endswith(THANKS)
        assert keys_told(world.session) == told("1")
    assert world.record.ending is Ending.CALLER_HUNG_UP
