"""What the settings of a conversation say against each other: contradictions, and warnings of what has no effect."""

from __future__ import annotations

import json

import pytest

from aivc.config.catalogue import settings_of
from aivc.config.loading import ConfigError, load

KEY = {"OPENAI_API_KEY": "sk-test-1234567890"}


def errors_of(path: str | None, environ: dict[str, str], *, simulator: bool = False) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        load(path, environ, simulator=simulator)
    return refused.value.errors


def warnings_of(**environ: str) -> tuple[str, ...]:
    return load(None, KEY | {"OPENAI_API_MODEL": "gpt-realtime-2.1"} | environ).warnings


def test_nothing_is_said_about_a_plain_configuration() -> None:
    assert warnings_of() == ()


def test_a_temperature_is_warned_about_only_when_set_and_only_in_the_ga_dialect() -> None:
    (warning,) = warnings_of(OPENAI_TEMPERATURE="0.8")
    assert warning.startswith("openai.temperature: has no effect")
    assert warnings_of(OPENAI_TEMPERATURE="0.8", OPENAI_DIALECT="beta", OPENAI_URL="ws://127.0.0.1:1/") == ()


def test_the_beta_dialect_is_warned_about_on_openais_own_host_only() -> None:
    (warning,) = warnings_of(OPENAI_DIALECT="beta")
    assert warning.startswith("openai.dialect: ")


def test_a_text_to_speech_voice_is_warned_about() -> None:
    (warning,) = warnings_of(OPENAI_VOICE="nova")
    assert warning.startswith("openai.voice: nova")


def test_a_port_range_smaller_than_the_calls_is_warned_about() -> None:
    (warning,) = warnings_of(RTP_MIN_PORT="40001", RTP_MAX_PORT="40009", AIVC_SERVICE_MAX_CALLS="5")
    assert "room for 4 calls" in warning
    assert warnings_of(RTP_MIN_PORT="40000", RTP_MAX_PORT="40009", AIVC_SERVICE_MAX_CALLS="5") == ()


@pytest.mark.parametrize(
    ("name", "value", "why", "cure"),
    [
        ("transfer_by", "sip:me@example.com", "without transfer_to,", {"OPENAI_TRANSFER_TO": "sip:you@example.com"}),
        ("transfer_seconds", "9", "without transfer_to,", {"AIVC_OPENAI_TRANSFER_ALLOW": "0.*"}),
        ("transfer_by", "tel:1", "without transfer_to,", {"AIVC_OPENAI_TRANSFER_TARGETS": '{"a": "tel:1"}'}),
        ("turn_detection_threshold", "0.5", 'with turn_detection_type = "semantic_vad"', {"TYPE": "server_vad"}),
        ("turn_detection_silence_ms", "5", 'with turn_detection_type = "semantic_vad"', {"TYPE": "server_vad"}),
        ("turn_detection_eagerness", "auto", 'with turn_detection_type = "server_vad"', {"TYPE": "semantic_vad"}),
        ("transcription_language", "de", "without transcription_model", {"AIVC_OPENAI_TRANSCRIPTION_MODEL": "m"}),
        ("transcription_prompt", "x", "without transcription_model", {"AIVC_OPENAI_TRANSCRIPTION_MODEL": "m"}),
        ("confirm_ms", "300", "without interruption", {"AIVC_OPENAI_INTERRUPTION": "confirm"}),
        ("idle_prompts", "2", "without idle_timeout_ms", {"AIVC_OPENAI_IDLE_TIMEOUT_MS": "5000"}),
        ("filler_message", "x", "without filler_after_ms", {"AIVC_OPENAI_FILLER_AFTER_MS": "500"}),
    ],
)
def test_a_setting_without_effect_beside_the_others_is_warned_about(
    name: str, value: str, why: str, cure: dict[str, str]
) -> None:
    settings = {setting.name: setting for setting in settings_of("openai")}
    kind = {"OPENAI_TURN_DETECT_TYPE": "server_vad" if name.endswith("eagerness") else "semantic_vad"}
    given = kind | {settings[name].variable: value}
    (warning,) = warnings_of(**given)
    assert warning.startswith(f"openai.{name}: has no effect {why}")
    cured = {"OPENAI_TURN_DETECT_TYPE" if key == "TYPE" else key: text for key, text in cure.items()}
    assert warnings_of(**given | cured) == ()


def test_turn_detection_that_leaves_the_model_silent_is_warned_about() -> None:
    (warning,) = warnings_of(OPENAI_TURN_DETECT_TYPE="none", AIVC_OPENAI_IDLE_TIMEOUT_MS="9000")
    assert "it never answers" in warning
    (warning,) = warnings_of(AIVC_OPENAI_TURN_DETECTION_CREATE_RESPONSE="no")
    assert warning.startswith("openai.turn_detection_create_response: ")
    warnings = warnings_of(OPENAI_TURN_DETECT_TYPE="none", AIVC_OPENAI_INTERRUPTION="confirm")
    assert [warning.partition(":")[0] for warning in warnings] == ["openai.turn_detection_type", "openai.interruption"]
    (warning,) = warnings_of(AIVC_OPENAI_EXTRA_SESSION='{"output_modalities": ["text"]}')
    assert "the caller hears nothing" in warning
    (warning,) = warnings_of(AIVC_OPENAI_EXTRA_SESSION='{"tools": []}')
    assert "takes the place of all functions" in warning


def test_confirmed_interruption_overrules_a_server_that_was_told_to_interrupt() -> None:
    assert warnings_of(AIVC_OPENAI_INTERRUPTION="confirm") == ()
    given = {"AIVC_OPENAI_INTERRUPTION": "confirm", "AIVC_OPENAI_TURN_DETECTION_INTERRUPT_RESPONSE": "true"}
    (warning,) = warnings_of(**given)
    assert warning.startswith("openai.turn_detection_interrupt_response: true: is taken as false")


def test_an_api_whose_answers_can_be_read_on_the_way_is_warned_about() -> None:
    (warning,) = warnings_of(API_URL="http://example.com/bots")
    assert warning.startswith("engine.api_url: not encrypted")
    assert warnings_of(API_URL="https://example.com/bots") == warnings_of(API_URL="http://127.0.0.1:8000/") == ()


# Contradictions of the conversation


def test_a_sound_as_filler_needs_the_sound() -> None:
    (error,) = errors_of(None, KEY | {"AIVC_OPENAI_FILLER": "sound"})
    assert error == "openai.filler (AIVC_OPENAI_FILLER): there is no sound: set sounds.hold"


def test_the_beta_dialect_refuses_mcp_servers() -> None:
    mcp = '[{"server_label": "wiki", "server_url": "https://example.com/"}]'
    (error,) = errors_of(None, {"OPENAI_URL": "ws://127.0.0.1:1/", "OPENAI_DIALECT": "beta", "AIVC_TOOLS_MCP": mcp})
    assert error.startswith("openai.dialect (OPENAI_DIALECT): the beta dialect has no MCP")


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"audio": {"input": {"format": {"type": "audio/pcm"}}}}, "audio.input.format: cannot be set here"),
        ({"audio": {"output": {"format": None}}}, "audio.output.format: cannot be set here"),
        ({"input_audio_format": "pcm16"}, "input_audio_format: cannot be set here"),
        ({"output_audio_format": "pcm16"}, "output_audio_format: cannot be set here"),
        ({"model": "gpt-realtime"}, "model: cannot be set here; set openai.model"),
        ({"type": "transcription"}, "type: cannot be set here"),
        ({"audio": None}, "audio: is not a table"),
        ({"audio": {"input": 1}}, "audio.input: is not a table"),
    ],
)
def test_extra_session_fields_may_not_break_the_call(extra: dict[str, object], says: str) -> None:
    (error,) = errors_of(None, KEY | {"AIVC_OPENAI_EXTRA_SESSION": json.dumps(extra)})
    assert error.startswith(f"openai.extra_session (AIVC_OPENAI_EXTRA_SESSION): {says}")
    fine = {"audio": {"input": {"noise_reduction": None}, "output": {"speed": 1.2}}, "tracing": "auto"}
    assert load(None, KEY | {"AIVC_OPENAI_EXTRA_SESSION": json.dumps(fine)}).settings.openai.extra_session == fine


def test_the_default_model_is_warned_about_once_and_only_where_it_is_asked_for() -> None:
    (warning,) = load(None, KEY).warnings
    assert warning.startswith("openai.model: OpenAI shut gpt-4o-realtime-preview-2024-10-01 down")
    assert load(None, {}, simulator=True).warnings == ()
    assert load(None, {"OPENAI_DISABLE": "1"}).warnings == ()
    assert load(None, {"OPENAI_URL": "ws://127.0.0.1:1/"}).warnings == ()
