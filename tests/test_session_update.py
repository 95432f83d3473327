"""`session.update` in both spellings: every setting in its place, and nothing that a server would refuse."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from aivc.config.settings import OpenAISettings
from aivc.realtime import events
from aivc.realtime.dialects import BETA, GA, Dialect

SETTINGS = OpenAISettings(voice="marin", max_tokens=500)
both = pytest.mark.parametrize("dialect", [GA, BETA], ids=["ga", "beta"])


def sent(dialect: Dialect, event: events.ClientEvent) -> dict[str, Any]:
    fields = json.loads(dialect.encode(event))
    assert isinstance(fields, dict)
    return fields


def read(dialect: Dialect, event_type: str, **fields: object) -> events.ServerEvent:
    return dialect.decode(json.dumps({"type": event_type, "event_id": "event_1", "new_field": {"x": [1]}, **fields}))


# session.update


def test_ga_configures_a_nested_session() -> None:
    tool = events.ToolSchema("book", "Book a table.", {"type": "object", "properties": {}})
    settings = attrs.evolve(SETTINGS, instructions="Be brief.", turn_detection_silence_ms=400)
    assert sent(GA, events.ConfigureSession("e1", settings, "PCMA", (tool,))) == {
        "type": "session.update",
        "event_id": "e1",
        "session": {
            "type": "realtime",
            "instructions": "Be brief.",
            "output_modalities": ["audio"],
            "max_output_tokens": 500,
            "audio": {
                "input": {
                    "format": {"type": "audio/pcma"},
                    "turn_detection": {
                        "type": "server_vad",
                        "threshold": 0.5,
                        "prefix_padding_ms": 300,
                        "silence_duration_ms": 400,
                        "create_response": True,
                        "interrupt_response": True,
                    },
                },
                "output": {"format": {"type": "audio/pcma"}, "voice": "marin"},
            },
            "tools": [
                {
                    "type": "function",
                    "name": "book",
                    "description": "Book a table.",
                    "parameters": {"type": "object", "properties": {}},
                }
            ],
            "tool_choice": "auto",
        },
    }


def test_the_beta_configures_a_flat_session() -> None:
    assert sent(BETA, events.ConfigureSession("e1", SETTINGS, "PCMU")) == {
        "type": "session.update",
        "event_id": "e1",
        "session": {
            "modalities": ["audio", "text"],
            "voice": "marin",
            "input_audio_format": "g711_ulaw",
            "output_audio_format": "g711_ulaw",
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 300,
                "silence_duration_ms": 200,
            },
            "tools": [],
            "tool_choice": "auto",
            "temperature": 0.8,
            "max_response_output_tokens": 500,
        },
    }


def test_temperature_is_sent_in_the_beta_only() -> None:
    warm = attrs.evolve(SETTINGS, temperature=1.1)
    assert sent(BETA, events.ConfigureSession("e", warm, "PCMU"))["session"]["temperature"] == 1.1
    assert "temperature" not in GA.encode(events.ConfigureSession("e", warm, "PCMU"))


@both
def test_no_turn_detection_is_null_and_semantic_has_no_threshold(dialect: Dialect) -> None:
    def detection(kind: Any) -> Any:
        settings = attrs.evolve(SETTINGS, turn_detection_type=kind)
        session = sent(dialect, events.ConfigureSession("e", settings, "PCMU"))["session"]
        return session["audio"]["input"]["turn_detection"] if dialect is GA else session["turn_detection"]

    assert detection("none") is None
    assert detection("semantic_vad")["type"] == "semantic_vad"
    assert not {"threshold", "prefix_padding_ms", "silence_duration_ms"} & detection("semantic_vad").keys()


@both
def test_unlimited_tokens_are_the_word_inf(dialect: Dialect) -> None:
    session = sent(dialect, events.ConfigureSession("e", attrs.evolve(SETTINGS, max_tokens="inf"), "PCMU"))["session"]
    assert session["max_output_tokens" if dialect is GA else "max_response_output_tokens"] == "inf"
