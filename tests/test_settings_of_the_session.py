"""What the settings of a session change in `session.update`, and that a strict server takes it, in both dialects."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from settings_shown import shows

from aivc.config.settings import McpServer, OpenAISettings, Secret
from aivc.realtime.dialects import dialect_named
from aivc.realtime.events import ClientEvent, ConfigureSession, ToolSchema, UpdateTurnDetection
from aivc.testing.faults import Faults
from aivc.testing.generation import Pace
from aivc.testing.machine import SessionMachine
from aivc.testing.outbox import Setup
from aivc.testing.script import scripted

Json = dict[str, Any]
BOOK = ToolSchema("book", "Book a table.", {"type": "object", "properties": {}})
SHOP = McpServer(
    server_label="shop",
    server_url="https://mcp.example.com/sse",
    authorization=Secret("token-1"),
    allowed_tools=("find", "price"),
    server_description="The catalogue.",
)
dialects = pytest.mark.parametrize("dialect", ["ga", "beta"])


def taken(settings: OpenAISettings, *events: ClientEvent) -> tuple[Json, Json]:
    """What the last event asks for, and the session that a strict server makes of all, in GA form."""
    setup = Setup(
        model="gpt-realtime-2.1",
        dialect=settings.dialect,
        script=scripted([]),
        pace=Pace(),
        faults=Faults(),
        decorate=False,
    )
    machine = SessionMachine(setup, random.Random(0))
    machine.open(0.0, 0.0)
    for event in events:
        message = dialect_named(settings.dialect).encode(event)
        machine.receive_untrusted(message, 0.0)
        assert machine.outbox.errors == []
    asked: Json = json.loads(message)["session"]
    return asked, machine.session


def asked_for(mcp: tuple[McpServer, ...] = (), **settings: Any) -> Json:
    """The session of our `session.update`, which a strict server has taken."""
    openai = OpenAISettings(**settings)
    return taken(openai, ConfigureSession("e", openai, "PCMU", (BOOK,), mcp))[0]


def detection(**settings: Any) -> Json:
    session = asked_for(**settings)
    found: Json = session["turn_detection"] if "turn_detection" in session else heard(session)["turn_detection"]
    return found


def heard(session: Json) -> Json:
    found: Json = session["audio"]["input"]
    return found


@shows("openai.turn_detection_eagerness")
@dialects
def test_the_eagerness_is_asked_for_of_semantic_vad_alone(dialect: str) -> None:
    eager = detection(dialect=dialect, turn_detection_type="semantic_vad", turn_detection_eagerness="low")
    assert eager["eagerness"] == "low"
    assert "eagerness" not in detection(dialect=dialect, turn_detection_type="semantic_vad")
    assert "eagerness" not in detection(dialect=dialect, turn_detection_eagerness="low")


@shows("openai.turn_detection_create_response")
@shows("openai.turn_detection_interrupt_response")
@pytest.mark.parametrize("kind", ["server_vad", "semantic_vad"])
@pytest.mark.parametrize("name", ["create_response", "interrupt_response"])
def test_what_the_server_does_by_itself_can_be_switched_off(kind: str, name: str) -> None:
    off: Json = {"turn_detection_type": kind, f"turn_detection_{name}": False}
    other = ({"create_response", "interrupt_response"} - {name}).pop()
    ga = detection(**off)
    assert (ga[name], ga[other]) == (False, True)
    beta = detection(**off, dialect="beta")
    assert beta[name] is False
    assert other not in beta  # the first beta servers know neither


@shows("openai.interruption")
@dialects
@pytest.mark.parametrize("switch", [True, False])
def test_who_confirms_interruptions_answers_and_stops_by_itself(dialect: str, switch: bool) -> None:
    confirming = detection(
        dialect=dialect,
        interruption="confirm",
        turn_detection_create_response=switch,
        turn_detection_interrupt_response=switch,
    )
    assert (confirming["create_response"], confirming["interrupt_response"]) == (False, False)


@shows("openai.idle_timeout_ms")
def test_the_idle_time_out_is_the_servers_task_where_it_knows_it() -> None:
    assert detection(idle_timeout_ms=8000)["idle_timeout_ms"] == 8000
    assert "idle_timeout_ms" not in detection()
    assert "idle_timeout_ms" not in detection(idle_timeout_ms=8000, turn_detection_type="semantic_vad")
    assert "idle_timeout_ms" not in detection(idle_timeout_ms=8000, dialect="beta")
    assert "idle_timeout_ms" not in detection(idle_timeout_ms=4000)  # refused by the server: less than 5 s


@pytest.mark.parametrize(("asking", "expected"), [(True, 8000), (False, None)])
def test_the_idle_time_out_can_be_taken_back_and_nothing_else_changes(asking: bool, expected: int | None) -> None:
    settings = OpenAISettings(idle_timeout_ms=8000, turn_detection_threshold=0.7, noise_reduction="near_field")
    first = ConfigureSession("e1", settings, "PCMA", (BOOK,))
    _, before = taken(settings, first)
    asked, after = taken(settings, first, UpdateTurnDetection("e2", settings, asking))
    assert asked.keys() == {"type", "audio"}
    assert asked["audio"].keys() == {"input"}
    assert heard(asked).keys() == {"turn_detection"}
    assert heard(after)["turn_detection"] == {**heard(before)["turn_detection"], "idle_timeout_ms": expected}
    heard(before)["turn_detection"] = heard(after)["turn_detection"]
    assert after == before | {"id": after["id"]}


def test_in_the_beta_the_turn_detection_alone_is_flat() -> None:
    settings = OpenAISettings(dialect="beta", turn_detection_silence_ms=450, idle_timeout_ms=8000)
    asked, after = taken(settings, UpdateTurnDetection("e", settings, True))
    assert asked.keys() == {"turn_detection"}
    assert heard(after)["turn_detection"]["silence_duration_ms"] == 450


@shows("openai.noise_reduction")
@dialects
@pytest.mark.parametrize("kind", ["near_field", "far_field"])
def test_noise_reduction_is_asked_for(dialect: str, kind: str) -> None:
    session, usual = asked_for(dialect=dialect, noise_reduction=kind), asked_for(dialect=dialect)
    if dialect == "ga":
        assert heard(session)["noise_reduction"] == {"type": kind}
        assert "noise_reduction" not in heard(usual)
    else:
        assert session["input_audio_noise_reduction"] == {"type": kind}
        assert "input_audio_noise_reduction" not in usual


def transcription(session: Json) -> Json | None:
    flat: Json | None = session.get("input_audio_transcription")
    return flat if "audio" not in session else heard(session).get("transcription")


@shows("openai.transcription_model")
@shows("openai.transcription_language")
@shows("openai.transcription_prompt")
@dialects
def test_the_callers_words_are_written_down_if_a_model_is_named(dialect: str) -> None:
    model: Json = {"transcription_model": "gpt-4o-transcribe"}
    more: Json = {"transcription_language": "de"}
    assert transcription(asked_for(dialect=dialect, **model)) == {"model": "gpt-4o-transcribe"}
    asked = transcription(asked_for(dialect=dialect, **model, **more, transcription_prompt="Ms Brown"))
    assert asked == {"model": "gpt-4o-transcribe", "language": "de", "prompt": "Ms Brown"}
    assert transcription(asked_for(dialect=dialect, **more)) is None


@shows("openai.speed")
@dialects
def test_the_speed_is_asked_for_if_it_is_another(dialect: str) -> None:
    def spoken(**settings: Any) -> Json:
        session = asked_for(dialect=dialect, **settings)
        found: Json = session["audio"]["output"] if dialect == "ga" else session
        return found

    assert spoken(speed=1.25)["speed"] == 1.25
    assert "speed" not in spoken()


@shows("openai.tool_choice")
@dialects
@pytest.mark.parametrize("choice", ["auto", "none", "required"])
def test_the_choice_of_tools_is_a_mode_or_a_function(dialect: str, choice: str) -> None:
    assert asked_for(dialect=dialect, tool_choice=choice)["tool_choice"] == choice
    assert asked_for(dialect=dialect, tool_choice="book")["tool_choice"] == {"type": "function", "name": "book"}


@shows("openai.extra_session")
def test_further_fields_are_merged_last() -> None:
    extra: Json = {
        "truncation": {"type": "retention_ratio", "retention_ratio": 0.8},
        "audio": {"input": {"turn_detection": {"threshold": 0.9}}, "output": {"voice": "cedar"}},
    }
    usual, session = asked_for(voice="marin"), asked_for(voice="marin", extra_session=extra)
    assert session["truncation"] == extra["truncation"]
    assert heard(session) == heard(usual) | {"turn_detection": {**heard(usual)["turn_detection"], "threshold": 0.9}}
    assert session["audio"]["output"] == {**usual["audio"]["output"], "voice": "cedar"}


def test_in_the_beta_they_are_merged_just_so() -> None:
    extra = {"turn_detection": {"silence_duration_ms": 900}, "tracing": "auto"}
    usual, session = asked_for(dialect="beta"), asked_for(dialect="beta", extra_session=extra)
    assert session == usual | {
        "tracing": "auto",
        "turn_detection": {**usual["turn_detection"], "silence_duration_ms": 900},
    }


def test_another_kind_of_turn_detection_replaces_ours_as_a_whole() -> None:
    extra = {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}}}
    assert detection(extra_session=extra) == {"type": "semantic_vad", "eagerness": "high"}


@dialects
def test_an_update_of_the_turn_detection_keeps_the_further_fields_of_it(dialect: str) -> None:
    ours: Json = {"turn_detection": {"threshold": 0.9}}
    extra = {"audio": {"input": ours}, "truncation": "disabled"} if dialect == "ga" else {**ours, "tracing": "auto"}
    given: Json = {"dialect": dialect, "extra_session": extra}
    settings = OpenAISettings(**given)
    asked, after = taken(settings, UpdateTurnDetection("e", settings, False))
    assert heard(after)["turn_detection"]["threshold"] == 0.9
    assert not {"truncation", "tracing"} & asked.keys()


@shows("tools.mcp")
def test_remote_tool_servers_are_offered_beside_our_tools_in_ga() -> None:
    function, remote = asked_for((SHOP,))["tools"]
    assert function["name"] == "book"
    assert remote == {
        "type": "mcp",
        "server_label": "shop",
        "server_url": "https://mcp.example.com/sse",
        "require_approval": "never",
        "authorization": "token-1",
        "allowed_tools": ["find", "price"],
        "server_description": "The catalogue.",
    }
    bare = McpServer(server_label="shop", server_url="https://mcp.example.com/sse")
    assert asked_for((bare,))["tools"][1].keys() == {"type", "server_label", "server_url", "require_approval"}
    assert [tool["type"] for tool in asked_for((SHOP,), dialect="beta")["tools"]] == ["function"]
