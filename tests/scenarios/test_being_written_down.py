"""What is left of a call: its record, what subscribers heard of it while it lasted, and its line in a file."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc import CallEvent, Ending, Settings, tool
from aivc.config.settings import DtmfSettings, RecordsSettings
from aivc.nursery.record import (
    Answered,
    DigitsEntered,
    Ended,
    ModelAudible,
    SessionLost,
    SessionReplaced,
    ToolFinished,
    ToolStarted,
)
from aivc.realtime.effects import CallerSaid, CallerStartedSpeaking, Interrupted, ModelSaid, ResponseFinished
from aivc.realtime.usage import UsageTotals
from aivc.testing import CallTool, Fail, Faults, PhoneCall, Say, Script, Session, decided, scripted, speech
from aivc.testing.script import Context, Part
from scenarios.conftest import Dialect
from scenarios.world import NOON, SETTINGS, World, changed, open_world

GREETING: Final = "Hello, this is the shop."
WORDS: Final = "We are open from nine to six on every day but Sunday"
HELLO: Final = speech(0.5, pitch_hz=210.0, seed=1)
ANSWER: Final = speech(3.0, pitch_hz=210.0, seed=2)
QUESTION: Final = speech(0.4, seed=4)
QUESTIONED: Final = "(0.9 seconds of speech)"  # by the fake model: 300 ms more before it, and 200 ms after
STOPPED: Final = re.compile(r"\(\d\.\d seconds of speech\)")
AT_ONCE: Final = 100.0  # speed of a model that has generated an answer long before it is heard
PRICES: Final = {"input_audio": 32.0, "input_text": 4.0, "output_audio": 64.0, "output_text": 16.0}  # USD per million

TRANSCRIBED: Final = changed(openai={"transcription_model": "gpt-transcribe", "prices": PRICES})


@tool
async def opening_hours(day: str) -> str:
    """When the shop is open."""
    await trio.sleep(0.2)
    return f"{day}: nine to six"


def shop() -> Script:
    """Greets, looks up the hours, tells them at length, then agrees with everything."""

    def respond(context: Context) -> list[Part]:
        if context.outputs:
            return [Say(WORDS, audio=ANSWER)]
        if not context.turns:
            return [Say(GREETING, audio=HELLO)]
        return [CallTool("opening_hours", {"day": "Monday"})] if context.turns == 1 else [Say("Right.", audio=HELLO)]

    return decided(respond)


async def ask(call: PhoneCall) -> None:
    """Hear out what the model says, and ask."""
    await call.handset.wait_speech()
    await call.handset.wait_silence(0.3)
    call.handset.say(QUESTION)
    await call.handset.wait_said()


async def ask_and_interrupt(call: PhoneCall) -> None:
    """A question, an answer that is interrupted after about a second, and the answer to the interruption."""
    await ask(call)
    await call.handset.wait_speech(1.0)
    call.handset.say(QUESTION)
    await call.handset.wait_said()
    await call.handset.wait_silence(2.0)


async def test_the_transcript_has_the_items_in_their_order_and_of_the_model_what_was_heard(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script, settings = shop(), TRANSCRIBED
    async with open_world(script, settings=settings, dialect=dialect, tools=(opening_hours,), speed=AT_ONCE) as world:
        async with world.dial() as call:
            await ask_and_interrupt(call)
        session = world.session
        (truncation,) = session.received("conversation.item.truncate")
        spoken = [item.id for item in session.items if item.body["type"] == "message"]
    transcript = world.record.transcript
    assert [line.item_id for line in transcript] == spoken
    assert [line.speaker for line in transcript] == ["model", "caller", "model", "caller", "model"]
    greeting, question, answer, stop, agreed = transcript
    assert (greeting.text, question.text, agreed.text) == (GREETING, QUESTIONED, "Right.")
    assert STOPPED.fullmatch(stop.text)
    assert [(line.interrupted, line.heard_ms) for line in (greeting, agreed)] == [(False, 500), (False, 500)]
    assert (answer.interrupted, answer.heard_ms) == (True, truncation["audio_end_ms"])
    assert answer.received_ms == 3000
    letters = len(WORDS) * truncation["audio_end_ms"] // 3000
    assert WORDS[:letters].startswith(answer.text)
    assert letters - len(answer.text) < 6  # a word that was begun was not heard
    # The words of the caller came later than the answer to them, and stand before it all the same.
    said = [event.what for event in world.events if isinstance(event.what, CallerSaid | ModelSaid)]
    assert [what.item_id for what in said] != spoken


async def test_without_transcription_only_the_models_words_are_kept(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with (
        open_world(shop(), dialect=dialect, tools=(opening_hours,), speed=AT_ONCE) as world,
        world.dial() as call,
    ):
        await ask_and_interrupt(call)
    assert [line.speaker for line in world.record.transcript] == ["model"] * 3


def counted(sessions: list[Session]) -> UsageTotals:
    """What the model's own events add up to."""
    totals: Counter[str] = Counter()
    for event in (event for session in sessions for event in session.sent("response.done")):
        totals["responses"] += 1
        if usage := event["response"]["usage"]:
            for way in ("input", "output"):
                for kind in ("audio", "text"):
                    totals[f"{way}_{kind}"] += usage[f"{way}_token_details"][f"{kind}_tokens"]
    for session in sessions:
        for event in session.sent("conversation.item.input_audio_transcription.completed"):
            totals["transcription_tokens"] += event.get("usage", {}).get("total_tokens", 0)
    return UsageTotals(**totals)


async def test_the_usage_is_that_of_all_responses_and_sessions_and_has_its_price(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(shop(), settings=TRANSCRIBED, dialect=dialect, tools=(opening_hours,)) as world:
        async with world.dial() as call:
            await ask_and_interrupt(call)
            world.session.drop()
            await world.model.wait_session(2)
            call.handset.say(QUESTION)
            await call.handset.wait_speech()
            await call.handset.wait_silence(1.5)
        expected = counted(world.model.sessions)
    usage = world.record.usage
    assert usage == expected
    assert usage.responses >= 5
    assert min(usage.input_audio, usage.output_audio, usage.output_text, usage.transcription_tokens) > 0
    tokens = {kind: getattr(usage, kind) for kind in PRICES}
    cost = sum(tokens[kind] * price for kind, price in PRICES.items()) / 1e6
    assert world.record.cost_usd == pytest.approx(cost)
    assert cost > 0


async def test_errors_are_counted_by_code_and_kind(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = scripted([[Fail()], [Say(GREETING, audio=HELLO)], [Say("Yes.", audio=HELLO)]])
    async with (
        open_world(script, settings=TRANSCRIBED, dialect=dialect, later_faults=(Faults(),)) as world,
        world.dial() as call,
    ):
        await ask(call)
        await call.handset.wait_speech()
        world.session.send({"type": "error", "error": {"type": "server_error", "code": "odd", "message": "?"}})
        await call.handset.wait_silence(0.5)
        world.session.close(1011)
        await world.model.wait_session(2)
        await trio.sleep(0.5)
    assert world.record.realtime_errors == {"server_error": 1, "odd": 1}
    assert world.record.errors_by_kind == {"other": 2, "realtime_lost": 1}
    assert (world.record.ending, world.record.sessions) == (Ending.CALLER_HUNG_UP, 2)


async def test_a_tool_call_is_kept_with_its_outcome_its_times_and_the_digest_of_its_arguments(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[CallTool("opening_hours", {"day": "Monday"}), CallTool("opening_hours", {"hour": 9})], []])
    async with open_world(script, dialect=dialect, tools=(opening_hours,)) as world:
        async with world.dial():
            await world.session.wait_sent("response.done", count=2)
        called = [item.body for item in world.session.items if item.body["type"] == "function_call"]
    runs = {run.call_id: run for run in world.record.tools}
    assert [runs[body["call_id"]].outcome for body in called] == ["ok", "bad_arguments"]
    for body in called:
        run = runs[body["call_id"]]
        assert (run.name, run.arguments) == ("opening_hours", body["arguments"])
        assert run.arguments_digest == hashlib.sha256(body["arguments"].encode()).hexdigest()[:16]
    assert runs[called[0]["call_id"]].duration_seconds == pytest.approx(0.2)


async def test_a_subscriber_hears_everything_in_its_order_while_it_happens(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    heard: list[CallEvent] = []

    async def listen(world: World, task_status: trio.TaskStatus[None]) -> None:
        async with world.service.subscribe() as events:
            task_status.started()
            async for event in events:
                assert event.at == trio.current_time()  # at once, not when the call is over
                heard.append(event)
                if isinstance(event.what, Ended):
                    return

    settings = attrs.evolve(TRANSCRIBED, dtmf=DtmfSettings(pause_seconds=0.5))
    async with (
        open_world(shop(), settings=settings, dialect=dialect, tools=(opening_hours,), speed=AT_ONCE) as world,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(listen, world)
        async with world.dial() as call:
            await ask_and_interrupt(call)
            call.handset.press("12")
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
            world.session.drop()
            await trio.sleep(0.5)
    kinds = [type(event.what) for event in heard]
    assert kinds[0] is Answered
    milestones = (ToolStarted, ToolFinished, Interrupted, DigitsEntered, SessionLost, SessionReplaced, Ended)
    assert [kind for kind in kinds if kind in milestones] == list(milestones)
    counts = Counter(kinds)
    assert (counts[CallerStartedSpeaking], counts[CallerSaid]) == (2, 2)
    assert (counts[ModelSaid], counts[ModelAudible]) == (4, 4)
    assert counts[ResponseFinished] == 5
    assert {event.call_id for event in heard} == {world.record.call_id}
    assert [event.at for event in heard] == sorted(event.at for event in heard)
    assert heard == world.events  # whoever listens hears the same
    assert isinstance(heard[-1].what, Ended)
    assert heard[-1].what.record == world.record


async def test_a_subscriber_that_does_not_keep_up_delays_no_call(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(shop(), settings=TRANSCRIBED, dialect=dialect, tools=(opening_hours,)) as world:
        async with world.service.subscribe(capacity=2) as events:
            async with world.dial() as call:
                await ask_and_interrupt(call)
            while world.service.calls:  # noqa: ASYNC110 - a fake clock makes polling cheap
                await trio.sleep(0.02)
            assert isinstance((await events.receive()).what, Answered)
        missed = events.missed
    assert missed == len(world.events) - 2
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.observer_missed == 0  # the other one has heard everything


def kept_in(folder: Path, transcripts: bool = True) -> Settings:
    return attrs.evolve(TRANSCRIBED, records=RecordsSettings(directory=str(folder), transcripts=transcripts))


def lines_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.iterdir()) for line in path.read_text().splitlines()]


def since_noon() -> float:
    """A wall clock that goes on."""
    return NOON + trio.current_time()


async def test_every_call_is_a_line_of_json_in_the_file_of_its_day(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path
) -> None:
    settings = changed(kept_in(tmp_path / "records"), rtp={"quarantine_seconds": 0.0})
    async with open_world(
        shop(), settings=settings, dialect=dialect, tools=(opening_hours,), calls=3, wall_clock=since_noon
    ) as world:
        for number in range(3):
            async with world.dial() as call:
                await ask(call)
                await call.handset.wait_speech(0.5 + number)
    (path,) = (tmp_path / "records").iterdir()
    assert path.name == "2027-01-15.jsonl"
    lines = lines_in(tmp_path / "records")
    assert [line["call_id"] for line in lines] == [record.call_id for record in world.records]
    for line, record in zip(lines, world.records, strict=True):
        assert line["ending"] == "caller_hung_up"
        assert line["duration_seconds"] == pytest.approx(record.duration_seconds, abs=0.001)
        assert [said["text"] for said in line["transcript"]] == [said.text for said in record.transcript]
        assert line["tools"][0]["arguments"] == '{"day": "Monday"}'
        assert line["usage"] == attrs.asdict(record.usage) if record.usage else False
        assert line["cost_usd"] == pytest.approx(record.cost_usd, abs=1e-6)
        assert line["started_at"].startswith("2027-01-15T08:")


async def test_what_was_said_may_be_left_out_of_the_file(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path
) -> None:
    settings = attrs.evolve(kept_in(tmp_path, transcripts=False), dtmf=DtmfSettings(pause_seconds=0.5))
    async with (
        open_world(shop(), settings=settings, dialect=dialect, tools=(opening_hours,)) as world,
        world.dial() as call,
    ):
        await ask_and_interrupt(call)
        call.handset.press("4711")
        await trio.sleep(2.0)
    (line,) = lines_in(tmp_path)
    text = json.dumps(line)
    assert [secret for secret in ("4711", "nine", "Monday", "seconds of speech", GREETING) if secret in text] == []
    assert [said["speaker"] for said in line["transcript"]] == [said.speaker for said in world.record.transcript]
    assert line["tools"][0]["arguments_digest"] == world.record.tools[0].arguments_digest
    assert line["interruptions"][0]["heard_ms"] == world.record.cuts[0].heard_ms


async def test_calls_that_were_never_answered_have_a_record_too(autojump_clock: MockClock, dialect: Dialect) -> None:
    slow = Faults(session_updated_seconds=5.0)
    async with (
        open_world(shop(), settings=SETTINGS, dialect=dialect, faults=slow) as world,
        world.ring(),
    ):
        await trio.sleep(1.0)
    record = world.record
    assert (record.ending, record.answered_at, record.duration_seconds) == (Ending.CALLER_CANCELLED, None, 0.0)
    assert (record.transcript, record.usage, record.sessions) == ((), None, 0)
