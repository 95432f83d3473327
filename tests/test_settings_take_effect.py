"""Every setting changes what the program does: one test for each, and none may be without one.

Most of them are in files of their own, test_settings_of_*.py.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from scenarios.world import DELAY, NO_FAULTS, World, changed, open_world
from settings_shown import SHOWN, shows
from trio.testing import MockClock

from aivc import Ending, LogSettings, OpenAISettings, Secret, Settings, logs, open_service, tool
from aivc.config.agents import choose
from aivc.config.catalogue import CATALOGUE
from aivc.media.clock import TaskClock
from aivc.realtime.conversation import Conversation
from aivc.realtime.dialects import dialect_named
from aivc.realtime.effects import Send
from aivc.realtime.events import ConfigureSession, CreateResponse
from aivc.realtime.target import target
from aivc.sip.leg import Rejection
from aivc.testing import CallRefused, CallTool, FakeModel, Faults, PhoneCall, Say, Script, connect_to, scripted

LONG: Final = scripted([[Say("Well,", seconds=5.0)]])
SILENT: Final = scripted([[]])


def test_every_setting_is_shown_to_take_effect() -> None:
    for file in Path(__file__).parent.glob("test_settings_of_*.py"):
        importlib.import_module(file.stem)  # so that its tests are known
    assert {setting.path for setting in CATALOGUE} == SHOWN


# openai: what is sent


def asked_for(**settings: Any) -> dict[str, Any]:
    """The session of our `session.update`."""
    openai = OpenAISettings(**settings)
    update = json.loads(dialect_named(openai.dialect).encode(ConfigureSession("e", openai, "PCMU")))
    session: dict[str, Any] = update["session"]
    return session


def detection(**settings: Any) -> dict[str, Any] | None:
    found: dict[str, Any] | None = asked_for(**settings)["audio"]["input"]["turn_detection"]
    return found


@shows("openai.key")
def test_the_key_is_shown_to_the_server() -> None:
    assert ("Authorization", "Bearer sk-1") in target(OpenAISettings(key=Secret("sk-1"))).headers
    assert target(OpenAISettings()).headers == ()


@shows("openai.model")
def test_the_model_is_asked_for() -> None:
    assert target(OpenAISettings(model="gpt-realtime-2.1")).resource == "/v1/realtime?model=gpt-realtime-2.1"


@shows("openai.url")
def test_the_url_says_where_to_connect() -> None:
    place = target(OpenAISettings(url="ws://127.0.0.1:8765/v1/realtime"))
    assert (place.host, place.port, place.tls) == ("127.0.0.1", 8765, False)
    assert target(OpenAISettings()).host == "api.openai.com"


@shows("openai.dialect")
def test_the_dialect_decides_the_form_of_the_session_and_a_header() -> None:
    assert "audio" in asked_for(dialect="ga")
    assert "input_audio_format" in asked_for(dialect="beta")
    assert target(OpenAISettings(dialect="beta")).headers == (("OpenAI-Beta", "realtime=v1"),)


@shows("openai.voice")
def test_the_voice_is_asked_for() -> None:
    assert asked_for(voice="cedar")["audio"]["output"]["voice"] == "cedar"
    assert asked_for(voice="cedar", dialect="beta")["voice"] == "cedar"


@shows("openai.instructions")
def test_the_instructions_are_given() -> None:
    assert asked_for(instructions="Be kind.")["instructions"] == "Be kind."
    assert "instructions" not in asked_for()


@shows("openai.welcome_message")
def test_the_welcome_message_is_asked_for_when_the_call_begins() -> None:
    assert Conversation(OpenAISettings(), lambda: "e").begin(0.0) == []
    (effect,) = Conversation(OpenAISettings(welcome_message="Good morning!"), lambda: "e").begin(0.0)
    assert isinstance(effect, Send)
    assert isinstance(effect.event, CreateResponse)
    assert "Good morning!" in (effect.event.instructions or "")


@shows("openai.temperature")
def test_the_temperature_is_sent_in_the_beta_dialect() -> None:
    assert asked_for(dialect="beta", temperature=1.1)["temperature"] == 1.1
    assert asked_for(dialect="beta")["temperature"] == 0.8
    assert "temperature" not in asked_for(temperature=1.1)


@shows("openai.max_tokens")
def test_the_longest_answer_is_limited() -> None:
    assert asked_for(max_tokens=300)["max_output_tokens"] == 300
    assert asked_for(max_tokens=300, dialect="beta")["max_response_output_tokens"] == 300


@shows("openai.turn_detection_type")
def test_the_kind_of_turn_detection_is_asked_for() -> None:
    kinds = [detection(turn_detection_type=kind) for kind in ("server_vad", "semantic_vad", "none")]
    assert [kind and kind["type"] for kind in kinds] == ["server_vad", "semantic_vad", None]


@shows("openai.turn_detection_silence_ms")
@shows("openai.turn_detection_threshold")
@shows("openai.turn_detection_prefix_ms")
@pytest.mark.parametrize(
    ("setting", "member", "value"),
    [
        ("silence_ms", "silence_duration_ms", 650),
        ("threshold", "threshold", 0.25),
        ("prefix_ms", "prefix_padding_ms", 0),
    ],
)
def test_the_turn_detection_is_tuned(setting: str, member: str, value: float) -> None:
    tuned, usual = detection(**{f"turn_detection_{setting}": value}), detection()
    assert tuned is not None
    assert usual is not None
    assert tuned[member] == value != usual[member]
    assert tuned == {**usual, member: value}


@shows("openai.match")
@shows("openai.match_from")
@pytest.mark.parametrize(("pattern", "answered"), [("1.*", True), (".*2", False), ("12", False), ("123", True)])
def test_only_numbers_and_callers_that_match_are_answered(pattern: str, answered: bool) -> None:
    dialled = choose(Settings(openai=OpenAISettings(match=(pattern,))), "123", "sip:alice@example.com")
    calling = choose(Settings(openai=OpenAISettings(match_from=(pattern,))), "alice", "sip:123@example.com")
    assert (dialled is not None, calling is not None) == (answered, answered)


async def refusal(settings: Settings, calls: int = 0) -> Rejection | None:
    """What becomes of a call to a service with these settings that has so many already."""
    async with open_world(SILENT, settings=settings, calls=0) as world:
        world.service.calls = calls
        refused = world.service.refusal()
        world.service.calls = 0
    return refused


@shows("openai.disable")
async def test_calls_are_refused_while_openai_is_off(autojump_clock: MockClock) -> None:
    assert await refusal(changed()) is None
    assert await refusal(changed(openai={"disable": True})) == Rejection(503, "openai.disable is set", 10, "disabled")


@shows("openai.tools")
async def test_the_tools_of_the_files_are_offered(autojump_clock: MockClock, tmp_path: Path) -> None:
    file = tmp_path / "desk.py"
    file.write_text("import aivc\n\n@aivc.tool\nasync def opening_hours() -> str:\n    return 'nine to six'\n")
    async with open_world(SILENT, calls=0) as world, FakeModel(SILENT) as model:  # the world for its network alone
        settings = changed(openai={"tools": (str(file),)}, sip={"listen": ("udp:192.0.2.2:5060",)})
        service = open_service(settings, connect=connect_to(model), clock=TaskClock())
        async with service, world.phone.dial("sip:1@192.0.2.2:5060"):
            await model.sessions[0].wait_sent("session.updated")
        offered = [tool["name"] for tool in model.sessions[0].session["tools"]]
    assert offered == ["terminate_call", "send_digits", "opening_hours"]


# openai: deadlines


async def call_length(
    settings: Settings, faults: Faults = NO_FAULTS, script: Script = LONG, **model: Any
) -> tuple[World, PhoneCall]:
    """Call and wait for the service to hang up."""
    async with open_world(script, settings=settings, faults=faults, **model) as world, world.dial() as call:
        await call.wait_hung_up()
    return world, call


async def refused_after(settings: Settings, faults: Faults) -> float:
    """Seconds until the call is refused."""
    began = trio.current_time()
    async with open_world(SILENT, settings=settings, faults=faults) as world:
        with pytest.raises(CallRefused):
            async with world.dial():
                pass
        return trio.current_time() - began - 2 * DELAY


@shows("openai.connect_seconds")
@pytest.mark.parametrize("seconds", [1.0, 7.0])
async def test_connecting_has_a_deadline(autojump_clock: MockClock, seconds: float) -> None:
    settings = changed(openai={"connect_seconds": seconds})
    assert await refused_after(settings, Faults(no_session_created=True)) == pytest.approx(seconds)


@shows("openai.configure_seconds")
@pytest.mark.parametrize("seconds", [1.0, 7.0])
async def test_configuring_has_a_deadline(autojump_clock: MockClock, seconds: float) -> None:
    settings = changed(openai={"configure_seconds": seconds})
    assert await refused_after(settings, Faults(session_updated_seconds=math.inf)) == pytest.approx(seconds)


@shows("openai.ping_seconds")
@shows("openai.pong_seconds")
@pytest.mark.parametrize(("ping", "pong"), [(2.0, 1.0), (3.0, 1.0), (2.0, 2.0)])
async def test_a_silent_server_is_found_out_by_pings(autojump_clock: MockClock, ping: float, pong: float) -> None:
    settings = changed(openai={"ping_seconds": ping, "pong_seconds": pong, "reconnect": False})
    _, call = await call_length(settings, Faults(stall_after_deltas=1))
    assert call.hung_up_at is not None
    assert call.answered_at is not None
    assert call.hung_up_at - call.answered_at == pytest.approx(ping + pong)


@shows("openai.close_seconds")
@pytest.mark.parametrize("seconds", [0.5, 3.0])
async def test_the_closing_handshake_has_a_deadline(autojump_clock: MockClock, seconds: float) -> None:
    settings = changed(openai={"close_seconds": seconds})
    async with open_world(LONG, settings=settings, faults=Faults(stall_after_deltas=1)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.1)
        hung_up_at = trio.current_time()
    assert world.record.ended_at - hung_up_at == pytest.approx(seconds, abs=2 * DELAY)


@shows("openai.tool_seconds")
@pytest.mark.parametrize("seconds", [0.5, 1.5])
async def test_a_tool_has_a_deadline(autojump_clock: MockClock, seconds: float) -> None:
    @tool
    async def endless() -> None:
        """Never return."""
        await trio.sleep_forever()

    settings = changed(openai={"tool_seconds": seconds})
    script = scripted([[CallTool("endless")], []])
    async with open_world(script, settings=settings, tools=(endless,)) as world, world.dial():
        await world.session.wait_received("response.create", count=2)
    (run,) = world.record.tools
    assert run.ended_at - run.started_at == pytest.approx(seconds)


@shows("openai.farewell_seconds")
@pytest.mark.parametrize("seconds", [0.5, 1.5])
async def test_the_last_words_have_a_deadline(autojump_clock: MockClock, seconds: float) -> None:
    script = scripted([[Say("Goodbye, and", seconds=5.0), CallTool("terminate_call")]])
    world, call = await call_length(changed(openai={"farewell_seconds": seconds}), script=script, speed=100.0)
    (run,) = world.record.tools
    assert call.hung_up_at is not None
    assert call.hung_up_at - run.ended_at == pytest.approx(seconds + DELAY)


# service


@shows("service.max_calls")
async def test_calls_beyond_the_limit_are_refused(autojump_clock: MockClock) -> None:
    settings = changed(service={"max_calls": 2})
    assert await refusal(settings, calls=1) is None
    assert await refusal(settings, calls=2) == Rejection(503, "service.max_calls = 2 is reached", 10, "max_calls")


@shows("service.retry_after_seconds")
async def test_a_refused_caller_is_told_when_to_try_again(autojump_clock: MockClock) -> None:
    settings = changed(service={"retry_after_seconds": 3})
    async with open_world(SILENT, settings=settings, faults=Faults(refuse_upgrade=503)) as world:
        with pytest.raises(CallRefused) as caught:
            async with world.dial():
                pass
    assert caught.value.response.header("Retry-After") == "3"
    disabled = await refusal(changed(service={"retry_after_seconds": 3}, openai={"disable": True}))
    assert disabled is not None
    assert disabled.retry_after_seconds == 3


@shows("service.max_call_seconds")
@pytest.mark.parametrize("seconds", [1.0, 2.5])
async def test_a_call_has_a_longest_duration(autojump_clock: MockClock, seconds: float) -> None:
    world, _ = await call_length(changed(service={"max_call_seconds": seconds}))
    assert world.record.ending is Ending.MAX_DURATION
    assert world.record.duration_seconds == pytest.approx(seconds + 2 * DELAY)  # BYE and its answer


@shows("service.drain_seconds")
@pytest.mark.parametrize("seconds", [0.0, 2.0])
async def test_calls_get_time_to_end_while_the_service_stops(autojump_clock: MockClock, seconds: float) -> None:
    calls: list[PhoneCall] = []
    async with open_world(LONG, settings=changed(service={"drain_seconds": seconds}), drains=True) as world:

        async def talk() -> None:
            async with world.dial() as call:
                calls.append(call)
                await call.wait_hung_up()

        world.phone.nursery.start_soon(talk)
        await trio.sleep(1.0)
        stopped_at = trio.current_time()
    assert world.record.ending is Ending.DRAINED
    assert [call.hung_up_at for call in calls] == [pytest.approx(stopped_at + seconds + DELAY)]


# log


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("aivc")
    before = (list(root.handlers), root.level, ours.level)
    yield
    root.handlers, root.level, ours.level = before
    logging.getLogger().setLevel(before[1])  # forgets the cached answers of isEnabledFor


def written(settings: LogSettings) -> list[str]:
    stream = io.StringIO()
    logs.configure(settings, stream)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logs.event(logging.getLogger("aivc.test"), "test.event", level=level)
    return stream.getvalue().splitlines()


@shows("log.level")
@pytest.mark.usefixtures("restored_logging")
def test_lines_below_the_level_are_not_written() -> None:
    lines = [written(LogSettings(level=level)) for level in ("debug", "info", "warning", "error")]
    assert [len(each) for each in lines] == [4, 3, 2, 1]


@shows("log.format")
@pytest.mark.usefixtures("restored_logging")
def test_the_format_is_for_people_or_for_machines() -> None:
    (line,) = written(LogSettings(level="error", format="json"))
    assert json.loads(line)["event"] == "test.event"
    (line,) = written(LogSettings(level="error", format="console"))
    assert line.endswith("ERROR test.event")
