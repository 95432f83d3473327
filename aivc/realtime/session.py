"""The bodies of `session.update` and `response.create` in both dialects.

The server refuses a whole event for one field it does not know, and then decodes our G.711 as 24 kHz PCM. So nothing is
written here that a dialect does not define: GA has no temperature, semantic VAD has no threshold.
"""

from __future__ import annotations

from aivc.config.settings import Codec
from aivc.realtime.events import ConfigureSession, CreateResponse, ToolSchema

GA_FORMATS: dict[Codec, str] = {"PCMU": "audio/pcmu", "PCMA": "audio/pcma"}
BETA_FORMATS: dict[Codec, str] = {"PCMU": "g711_ulaw", "PCMA": "g711_alaw"}
BETA_TEMPERATURE = 0.8  # the beta server's own default
REQUEST = "client_event_id"  # metadata key: tells our responses from those that turn detection makes

Json = dict[str, object]


def ga_session(event: ConfigureSession) -> Json:
    """Return GA's nested session object."""
    settings = event.settings
    detection = turn_detection(event)
    if detection is not None:
        # Barge-in relies on both, so they are not left to a server's defaults.
        detection |= {"create_response": True, "interrupt_response": True}
    audio_format = {"type": GA_FORMATS[event.codec]}  # no rate: pcmu and pcma have none
    session: Json = {
        "type": "realtime",
        "output_modalities": ["audio"],
        "max_output_tokens": settings.max_tokens,
        "audio": {
            "input": {"format": audio_format, "turn_detection": detection},
            "output": {"format": audio_format, "voice": settings.voice},
        },
        "tools": [function_tool(schema) for schema in event.tools],
        "tool_choice": "auto",
    }
    if settings.instructions is not None:
        session["instructions"] = settings.instructions
    return session


def beta_session(event: ConfigureSession) -> Json:
    """Return the beta's flat session object.

    `create_response` and `interrupt_response` are absent: their default is true, and the first beta servers do not know
    them.
    """
    settings = event.settings
    session: Json = {
        "modalities": ["audio", "text"],
        "voice": settings.voice,
        "input_audio_format": BETA_FORMATS[event.codec],
        "output_audio_format": BETA_FORMATS[event.codec],
        "turn_detection": turn_detection(event),
        "tools": [function_tool(schema) for schema in event.tools],
        "tool_choice": "auto",
        "temperature": BETA_TEMPERATURE if settings.temperature is None else settings.temperature,
        "max_response_output_tokens": settings.max_tokens,
    }
    if settings.instructions is not None:
        session["instructions"] = settings.instructions
    return session


def turn_detection(event: ConfigureSession) -> Json | None:
    """Return the turn detection that both dialects spell alike; None switches it off."""
    settings = event.settings
    match settings.turn_detection_type:
        case "server_vad":
            return {
                "type": "server_vad",
                "threshold": settings.turn_detection_threshold,
                "prefix_padding_ms": settings.turn_detection_prefix_ms,
                "silence_duration_ms": settings.turn_detection_silence_ms,
            }
        case "semantic_vad":
            return {"type": "semantic_vad"}
        case "none":
            return None


def function_tool(schema: ToolSchema) -> Json:
    """Return one entry of `tools`: flat, unlike the chat API's."""
    return {
        "type": "function",
        "name": schema.name,
        "description": schema.description,
        "parameters": dict(schema.parameters),
    }


def response_options(event: CreateResponse) -> Json:
    """Return `response.create`'s `response`, alike in both dialects; the server repeats metadata in the response."""
    options: Json = {"metadata": {REQUEST: event.event_id}}
    if event.instructions is not None:
        options["instructions"] = event.instructions
    if event.tool_choice is not None:
        options["tool_choice"] = event.tool_choice
    return options
