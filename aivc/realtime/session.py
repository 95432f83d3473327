"""The bodies of `session.update` and `response.create` in both dialects.

The server refuses a whole event for one field it does not know, and then decodes our G.711 as 24 kHz PCM. So nothing is
written here that a dialect does not define: GA has no temperature, semantic VAD has no threshold. And what is as the
server has it anyway is left out, for compatible servers that know less.
"""

from __future__ import annotations

from collections.abc import Mapping

from aivc.config.settings import Codec, McpServer, OpenAISettings
from aivc.realtime.events import ConfigureSession, CreateResponse, ToolSchema, UpdateTurnDetection
from aivc.realtime.turn_detection import Json, beta_turn_detection, ga_turn_detection

GA_FORMATS: dict[Codec, str] = {"PCMU": "audio/pcmu", "PCMA": "audio/pcma"}
BETA_FORMATS: dict[Codec, str] = {"PCMU": "g711_ulaw", "PCMA": "g711_alaw"}
BETA_TEMPERATURE = 0.8  # the beta server's own default
TOOL_MODES = ("auto", "none", "required")
REQUEST = "client_event_id"  # metadata key: tells our responses from those that turn detection makes


def ga_session(event: ConfigureSession) -> Json:
    """Return GA's nested session object."""
    settings = event.settings
    audio_format = {"type": GA_FORMATS[event.codec]}  # no rate: pcmu and pcma have none
    heard: Json = {"format": audio_format, "turn_detection": ga_turn_detection(settings)}
    heard |= chosen({"noise_reduction": noise_reduction(settings), "transcription": transcription(settings)})
    spoken: Json = {"format": audio_format, "voice": settings.voice, **chosen({"speed": speed(settings)})}
    session: Json = {
        "type": "realtime",
        "output_modalities": ["audio"],
        "max_output_tokens": settings.max_tokens,
        "audio": {"input": heard, "output": spoken},
        "tools": [*map(function_tool, event.tools), *map(mcp_tool, event.mcp)],
        "tool_choice": tool_choice(settings.tool_choice),
        **chosen({"instructions": settings.instructions}),
    }
    return merged(session, settings.extra_session)


def beta_session(event: ConfigureSession) -> Json:
    """Return the beta's flat session object."""
    settings = event.settings
    session: Json = {
        "modalities": ["audio", "text"],
        "voice": settings.voice,
        "input_audio_format": BETA_FORMATS[event.codec],
        "output_audio_format": BETA_FORMATS[event.codec],
        "turn_detection": beta_turn_detection(settings),
        "tools": [function_tool(schema) for schema in event.tools],
        "tool_choice": tool_choice(settings.tool_choice),
        "temperature": BETA_TEMPERATURE if settings.temperature is None else settings.temperature,
        "max_response_output_tokens": settings.max_tokens,
    }
    session |= chosen(
        {
            "instructions": settings.instructions,
            "input_audio_noise_reduction": noise_reduction(settings),
            "input_audio_transcription": transcription(settings),
            "speed": speed(settings),
        }
    )
    return merged(session, settings.extra_session)


def ga_turn_detection_alone(event: UpdateTurnDetection) -> Json:
    """Return GA's session object with nothing but the turn detection."""
    detection: Json = {"turn_detection": ga_turn_detection(event.settings, idle_timeout=event.idle_timeout)}
    extra = turn_detection_in(event.settings.extra_session, "audio", "input")
    return {"type": "realtime", "audio": {"input": merged(detection, extra)}}


def beta_turn_detection_alone(event: UpdateTurnDetection) -> Json:
    """Return the beta's session object with nothing but the turn detection, which has no idle time-out there."""
    extra = turn_detection_in(event.settings.extra_session)
    return merged({"turn_detection": beta_turn_detection(event.settings)}, extra)


def turn_detection_in(extra: Mapping[str, object], *path: str) -> Json:
    """Return what `openai.extra_session` says of the turn detection, if anything."""
    for name in path:
        inner = extra.get(name)
        extra = inner if isinstance(inner, Mapping) else {}
    return {name: value for name, value in extra.items() if name == "turn_detection"}


def noise_reduction(settings: OpenAISettings) -> Json | None:
    return None if settings.noise_reduction == "none" else {"type": settings.noise_reduction}


def transcription(settings: OpenAISettings) -> Json | None:
    if settings.transcription_model is None:
        return None
    known = {"language": settings.transcription_language, "prompt": settings.transcription_prompt}
    return {"model": settings.transcription_model, **chosen(known)}


def speed(settings: OpenAISettings) -> float | None:
    return None if settings.speed == 1.0 else settings.speed


def tool_choice(choice: str) -> str | Json:
    """Return a mode as it is, anything else as the function to be called; OpenAI's clients write both dialects so."""
    return choice if choice in TOOL_MODES else {"type": "function", "name": choice}


def function_tool(schema: ToolSchema) -> Json:
    """Return one entry of `tools`: flat, unlike the chat API's."""
    return {
        "type": "function",
        "name": schema.name,
        "description": schema.description,
        "parameters": dict(schema.parameters),
    }


def mcp_tool(server: McpServer) -> Json:
    """Return GA's entry of `tools` for a remote MCP server; nobody in a call could approve its use."""
    return {
        "type": "mcp",
        "server_label": server.server_label,
        "server_url": server.server_url,
        "require_approval": "never",
    } | chosen(
        {
            "authorization": server.authorization.reveal() if server.authorization else None,
            "allowed_tools": list(server.allowed_tools) or None,
            "server_description": server.server_description,
        }
    )


def response_options(event: CreateResponse) -> Json:
    """Return `response.create`'s `response`, alike in both dialects; the server repeats metadata in the response."""
    options: Json = {"metadata": {REQUEST: event.event_id}}
    return options | chosen({"instructions": event.instructions, "tool_choice": event.tool_choice})


def chosen(members: Mapping[str, object]) -> Json:
    """Return the members that are set."""
    return {name: value for name, value in members.items() if value is not None}


def merged(base: Mapping[str, object], over: Mapping[str, object]) -> Json:
    """Return `base` with `over` laid over it: objects member by member, anything else as a whole.

    An object of another `type`, such as another kind of turn detection, has other members: it is taken as a whole, too.
    """
    result: Json = {**base}
    for name, value in over.items():
        under = base.get(name)
        if not isinstance(value, Mapping):
            result[name] = value
        elif isinstance(under, Mapping) and value.get("type", under.get("type")) == under.get("type"):
            result[name] = merged(under, value)
        else:
            result[name] = merged({}, value)
    return result
