"""A session's configuration: its defaults, and what `session.update` and `response.create` do to it."""

from __future__ import annotations

import copy

from aivc.testing.rules import Dialect, check_model_fields, reasons
from aivc.testing.schema import Json, Refusal

DEFAULT_INSTRUCTIONS = "You are a helpful, witty and friendly AI. Talk quickly. (The default of a local test server.)"
REPLACED = ("format", "transcription", "noise_reduction", "tools", "tool_choice", "prompt", "tracing", "truncation")

SERVER_VAD: Json = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 200,
    "idle_timeout_ms": None,
    "create_response": True,
    "interrupt_response": True,
}
SEMANTIC_VAD: Json = {"type": "semantic_vad", "eagerness": "auto", "create_response": True, "interrupt_response": True}


def default_session(session_id: str, model: str, expires_at: int, dialect: Dialect) -> Json:
    """What `session.created` tells: everything, in GA form."""
    session: Json = {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "expires_at": expires_at,
        "instructions": DEFAULT_INSTRUCTIONS,
        "output_modalities": ["audio"],
        "max_output_tokens": "inf",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "noise_reduction": None,
                "transcription": None,
                "turn_detection": dict(SERVER_VAD),
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "alloy", "speed": 1.0},
        },
        "tools": [],
        "tool_choice": "auto",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "include": None,
    }
    if dialect == "beta":
        session["temperature"] = 0.8
    elif reasons(model):
        session |= {"parallel_tool_calls": True, "reasoning": {"effort": "low"}}
    return session


def merged_turn_detection(current: Json | None, given: Json | None) -> Json | None:
    """Members that are not given keep their value, or take the default when the kind changes."""
    if given is None:
        return None
    defaults = SERVER_VAD if given["type"] == "server_vad" else SEMANTIC_VAD
    base = current if current and current["type"] == given["type"] else defaults
    return {**base, **given}


def merged(current: Json, update: Json) -> Json:
    """`current` with the given members changed; objects named in REPLACED are not merged but replaced."""
    result = copy.deepcopy(current)
    for name, value in update.items():
        if name == "turn_detection":
            result[name] = merged_turn_detection(current.get(name), value)
        elif name == "format" and value == {"type": "audio/pcm"}:
            result[name] = {"type": "audio/pcm", "rate": 24000}
        elif name not in REPLACED and isinstance(value, dict) and isinstance(current.get(name), dict):
            result[name] = merged(current[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result


def updated_session(session: Json, update: Json, *, assistant_audio: bool) -> Json:
    """The session after a `session.update` whose shape is right already.

    Args:
        session: the configuration now; not changed.
        update: in GA form.
        assistant_audio: whether the model has spoken, which fixes the voice.

    Raises:
        Refusal: the update asks for what cannot change, and nothing of it holds.
    """
    check_model_fields(update, session["model"], "session")
    if update.get("model", session["model"]) != session["model"]:
        raise Refusal("invalid_value", "The model of a session cannot be changed.", "session.model")
    after = merged(session, {name: value for name, value in update.items() if name != "client_secret"})
    if assistant_audio and after["audio"]["output"]["voice"] != session["audio"]["output"]["voice"]:
        text = "Cannot update a conversation's voice if assistant audio is present."
        raise Refusal("cannot_update_voice", text)
    check_tool_choice(after, "session")
    check_transcription(after["audio"]["input"]["transcription"])
    if session["tracing"] is not None and after["tracing"] != session["tracing"]:
        raise Refusal("invalid_value", "Cannot update tracing once it is enabled.", "session.tracing")
    return after


def check_tool_choice(settings: Json, path: str) -> None:
    """Refuse the choice of a function that is not offered; code and text by analogy with the Responses API.

    Raises:
        Refusal: there is no such function among the tools.
    """
    choice = settings["tool_choice"]
    name = choice.get("name") if isinstance(choice, dict) and choice["type"] == "function" else None
    if name is not None and name not in [tool.get("name") for tool in settings["tools"]]:
        text = f"Tool choice '{name}' not found in 'tools' parameter."
        raise Refusal("invalid_value", text, f"{path}.tool_choice")


def check_transcription(transcription: Json | None) -> None:
    """Raises Refusal for a prompt to the one model that takes none."""
    if transcription and "prompt" in transcription and "diarize" in transcription.get("model", ""):
        text = f"The model '{transcription['model']}' does not support a prompt."
        raise Refusal("invalid_value", text, "session.audio.input.transcription.prompt")


def response_settings(session: Json, params: Json, *, assistant_audio: bool) -> Json:
    """The session's configuration with the overrides of one `response.create`, in GA form.

    Raises:
        Refusal: the overrides ask for what the model or the conversation does not allow.
    """
    check_model_fields(params, session["model"], "response")
    settings = merged(session, {name: value for name, value in params.items() if name in session or name == "metadata"})
    if assistant_audio and settings["audio"]["output"]["voice"] != session["audio"]["output"]["voice"]:
        text = "Cannot update a conversation's voice if assistant audio is present."
        raise Refusal("cannot_update_voice", text)
    check_tool_choice(settings, "response")
    return settings
