"""The two dialects: this server thinks in GA and says the same in beta.

Every event is built in its GA form. `rendered` gives what a session's dialect has instead, or None for the one event
that beta does not know; `ga_session_update` and `ga_response_params` read beta's flat objects.
"""

from __future__ import annotations

from aivc.testing.rules import Dialect
from aivc.testing.schema import Json
from aivc.testing.vad import AudioFormat

BETA_EVENTS: dict[str, str | None] = {
    "conversation.item.added": "conversation.item.created",
    "conversation.item.done": None,
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
}
BETA_FORMATS: dict[AudioFormat, str] = {"audio/pcm": "pcm16", "audio/pcmu": "g711_ulaw", "audio/pcma": "g711_alaw"}
GA_FORMATS: dict[str, Json] = {
    "pcm16": {"type": "audio/pcm", "rate": 24000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
BETA_PARTS = {"output_audio": "audio", "output_text": "text"}
GA_PARTS = {beta: ga for ga, beta in BETA_PARTS.items()}

# Where beta's flat fields are in GA's tree; those not named here have the same name at the top.
SESSION_PATHS: dict[str, tuple[str, ...]] = {
    "modalities": ("output_modalities",),
    "voice": ("audio", "output", "voice"),
    "speed": ("audio", "output", "speed"),
    "input_audio_format": ("audio", "input", "format"),
    "output_audio_format": ("audio", "output", "format"),
    "input_audio_transcription": ("audio", "input", "transcription"),
    "input_audio_noise_reduction": ("audio", "input", "noise_reduction"),
    "turn_detection": ("audio", "input", "turn_detection"),
    "max_response_output_tokens": ("max_output_tokens",),
}
SESSION_SAME = ("id", "object", "model", "expires_at", "instructions", "tools", "tool_choice", "temperature", "tracing")
RESPONSE_SAME = ("id", "object", "conversation_id", "status", "status_details", "metadata", "usage", "temperature")


def from_beta(flat: Json) -> Json:
    """A beta session or response object as GA's tree; only the given fields."""
    tree: Json = {}
    for name, value in flat.items():
        *parents, leaf = SESSION_PATHS.get(name, (name,))
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = value_from_beta(name, value)
    return tree


def value_from_beta(name: str, value: object) -> object:
    if name == "modalities" and isinstance(value, list):
        return ["audio"] if "audio" in value else ["text"]
    if name in ("input_audio_format", "output_audio_format") and isinstance(value, str):
        return dict(GA_FORMATS[value])
    if name == "turn_detection" and isinstance(value, dict):
        return {"type": "server_vad", **value}
    if name == "input" and isinstance(value, list):
        return [item_from_beta(item) for item in value]
    return value


def item_from_beta(item: Json) -> Json:
    """The item with GA's names of content parts."""
    return with_parts(item, GA_PARTS)


def with_parts(item: Json, names: dict[str, str]) -> Json:
    if item.get("role") != "assistant" or "content" not in item:
        return item
    return {**item, "content": [{**part, "type": names.get(part["type"], part["type"])} for part in item["content"]]}


def at_path(tree: Json, path: tuple[str, ...]) -> object:
    value: object = tree
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def to_beta(name: str, value: object) -> object:
    if name == "modalities":
        return ["audio", "text"] if value == ["audio"] else value
    if name in ("input_audio_format", "output_audio_format") and isinstance(value, dict):
        return BETA_FORMATS[value["type"]]
    if name == "turn_detection" and isinstance(value, dict):
        return {key: member for key, member in value.items() if key != "idle_timeout_ms"}
    return value


def beta_session(session: Json) -> Json:
    """GA's session tree, flat."""
    flat = {name: session[name] for name in SESSION_SAME if name in session}
    return flat | {name: to_beta(name, at_path(session, path)) for name, path in SESSION_PATHS.items()}


def beta_response(response: Json) -> Json:
    """GA's response object, flat."""
    flat = {name: response[name] for name in RESPONSE_SAME if name in response}
    for name in ("modalities", "voice", "output_audio_format"):
        flat[name] = to_beta(name, at_path(response, SESSION_PATHS[name]))
    flat["max_output_tokens"] = response.get("max_output_tokens", "inf")
    flat["output"] = [with_parts(item, BETA_PARTS) for item in response["output"]]
    return flat


def rendered(event: Json, dialect: Dialect) -> Json | None:
    """A server event as `dialect` has it; None if it does not have it."""
    if dialect == "ga":
        return event
    name = BETA_EVENTS.get(event["type"], event["type"])
    if name is None:
        return None
    event = {**event, "type": name}
    if name == "response.function_call_arguments.done":
        event.pop("name", None)
    if "item" in event:
        event["item"] = with_parts(event["item"], BETA_PARTS)
    if "session" in event:
        event["session"] = beta_session(event["session"])
    if "response" in event:
        event["response"] = beta_response(event["response"])
    return event
