"""The shape of every client event of OpenAI's Realtime API, GA and beta, as a strict server reads it.

Ranges and names follow the published OpenAPI description and the `openai` package's types. Two codes are assumed by
analogy, as no capture shows them: `invalid_type` and the `..._above_max_value` family.
"""

from __future__ import annotations

from typing import Literal

from aivc.testing.schema import (
    Check,
    Json,
    Refusal,
    anything,
    array_of,
    base64_text,
    boolean,
    decimal,
    exactly,
    fields,
    integer,
    mapping,
    nullable,
    one_of,
    tagged,
    text,
    text_or,
)

Dialect = Literal["ga", "beta"]

LONGEST_EVENT_ID = 512
LARGEST_APPEND_OCTETS = 15 * 1024 * 1024  # decoded audio of one append
LONGEST_ITEM_ID = 32

VOICES: dict[Dialect, tuple[str, ...]] = {
    "beta": ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse"),
    "ga": ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"),
}
TRANSCRIBERS = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-live-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe",
    "gpt-4o-transcribe-diarize",
    "gpt-realtime-whisper",
)

free_text = text()
item_id = text(LONGEST_ITEM_ID)
tool_name = text(64, pattern="[a-zA-Z0-9_-]+")
max_tokens = text_or(integer(1, 4096), one_of("inf"))
metadata = nullable(mapping(most=16, longest_key=64, longest_value=512))
prompt = nullable(fields({"id": free_text, "version": nullable(free_text), "variables": anything}, required=("id",)))
tracing = nullable(
    text_or(fields({"workflow_name": free_text, "group_id": free_text, "metadata": anything}), one_of("auto"))
)
reasoning = fields({"effort": one_of("minimal", "low", "medium", "high", "xhigh")})

vad_switches: dict[str, Check] = {"type": free_text, "create_response": boolean, "interrupt_response": boolean}
server_vad: dict[str, Check] = {
    **vad_switches,
    "threshold": decimal(0.0, 1.0),
    "prefix_padding_ms": integer(0),
    "silence_duration_ms": integer(0),
}
semantic_vad: dict[str, Check] = {**vad_switches, "eagerness": one_of("low", "medium", "high", "auto")}
ga_turn_detection = nullable(
    tagged(
        "type",
        {
            "server_vad": fields({**server_vad, "idle_timeout_ms": nullable(integer(5000, 30000))}),
            "semantic_vad": fields(semantic_vad),
        },
    )
)
beta_turn_detection = nullable(
    tagged("type", {"server_vad": fields(server_vad), "semantic_vad": fields(semantic_vad)}, default="server_vad")
)


def array_or_object(value: object, path: str) -> None:
    """A list of names, or a filter."""
    (array_of(free_text) if isinstance(value, list) else fields({"tool_names": anything, "read_only": boolean}))(
        value, path
    )


approval = one_of("always", "never")
function_tool = fields(
    {"type": free_text, "name": tool_name, "description": free_text, "parameters": anything}, required=("name",)
)
mcp_members = fields(
    {
        "type": free_text,
        "server_label": free_text,
        "server_url": free_text,
        "connector_id": free_text,
        "tunnel_id": free_text,
        "authorization": free_text,
        "headers": anything,
        "allowed_tools": array_or_object,
        "require_approval": text_or(fields({"always": anything, "never": anything}), approval),
        "server_description": free_text,
        "defer_loading": boolean,
    },
    required=("server_label",),
)


def mcp_tool(value: Json, path: str) -> None:
    """A remote MCP server, which must be somewhere."""
    mcp_members(value, path)
    if not {"server_url", "connector_id", "tunnel_id"} & value.keys():
        message = f"Missing required parameter: '{path}.server_url'."
        raise Refusal("missing_required_parameter", message, f"{path}.server_url")


tool_modes = one_of("auto", "none", "required")
ga_tools = array_of(tagged("type", {"function": function_tool, "mcp": mcp_tool}))
beta_tools = array_of(tagged("type", {"function": function_tool}))
chosen_function = fields({"type": free_text, "name": tool_name}, required=("name",))
# The published type of the beta is any text; OpenAI's own client wrote the object.
beta_tool_choice = text_or(tagged("type", {"function": chosen_function}), free_text)
ga_tool_choice = text_or(
    tagged(
        "type",
        {
            "function": chosen_function,
            "mcp": fields(
                {"type": free_text, "server_label": free_text, "name": nullable(free_text)}, required=("server_label",)
            ),
        },
    ),
    tool_modes,
)

ga_format = tagged(
    "type",
    {
        "audio/pcm": fields({"type": free_text, "rate": integer(24000, 24000)}),
        "audio/pcmu": fields({"type": free_text}),
        "audio/pcma": fields({"type": free_text}),
    },
)
beta_format = one_of("pcm16", "g711_ulaw", "g711_alaw")
ga_voice = text_or(fields({"id": free_text}, required=("id",)), one_of(*VOICES["ga"]))
noise_reduction = nullable(
    fields({"type": one_of("near_field", "far_field"), "strength": decimal(0.0, 1.0)}, required=("type",))
)
language = text(pattern="[a-z]{2}")  # ISO 639-1
ga_transcription = nullable(
    fields(
        {
            "model": one_of(*TRANSCRIBERS),
            "language": language,
            "languages": array_of(language),
            "prompt": free_text,
            "keywords": array_of(free_text),
            "delay": one_of("minimal", "low", "medium", "high", "xhigh"),
        }
    )
)
truncation = text_or(
    tagged(
        "type",
        {
            "retention_ratio": fields(
                {
                    "type": free_text,
                    "retention_ratio": decimal(0.0, 1.0),
                    "token_limits": fields({"post_instructions": integer(0)}),
                },
                required=("retention_ratio",),
            )
        },
    ),
    one_of("auto", "disabled"),
)

ga_session = tagged(
    "type",
    {
        "realtime": fields(
            {
                "type": free_text,
                "model": free_text,
                "instructions": free_text,
                "output_modalities": exactly(["audio"], ["text"]),
                "max_output_tokens": max_tokens,
                "audio": fields(
                    {
                        "input": fields(
                            {
                                "format": ga_format,
                                "noise_reduction": noise_reduction,
                                "transcription": ga_transcription,
                                "turn_detection": ga_turn_detection,
                            }
                        ),
                        "output": fields({"format": ga_format, "voice": ga_voice, "speed": decimal(0.25, 1.5)}),
                    }
                ),
                "tools": ga_tools,
                "tool_choice": ga_tool_choice,
                "parallel_tool_calls": boolean,
                "reasoning": reasoning,
                "prompt": prompt,
                "tracing": tracing,
                "truncation": truncation,
                "include": nullable(array_of(one_of("item.input_audio_transcription.logprobs"))),
            }
        )
    },
)
beta_session = fields(
    {
        "model": free_text,
        "modalities": exactly(["text"], ["audio", "text"]),
        "instructions": free_text,
        "voice": one_of(*VOICES["beta"]),
        "input_audio_format": beta_format,
        "output_audio_format": beta_format,
        "input_audio_transcription": nullable(
            fields({"model": one_of(*TRANSCRIBERS), "language": language, "prompt": free_text})
        ),
        "input_audio_noise_reduction": nullable(fields({"type": one_of("near_field", "far_field")})),
        "turn_detection": beta_turn_detection,
        "tools": beta_tools,
        "tool_choice": beta_tool_choice,
        "temperature": decimal(0.6, 1.2),
        "max_response_output_tokens": max_tokens,
        "speed": decimal(0.25, 1.5),
        "tracing": tracing,
        "client_secret": anything,
    }
)


def part(**known: Check) -> Check:
    """A content part whose named fields, `transcript` and `detail` apart, are required."""
    required = tuple(name for name in known if name not in ("transcript", "detail"))
    return fields({"type": free_text, **known}, required=required)


def item_check(dialect: Dialect, *, references: bool = False) -> Check:
    """A conversation item; `references` allows `item_reference`, as in `response.create`'s `input`."""
    common: dict[str, Check] = {
        "id": item_id,
        "type": free_text,
        "object": one_of("realtime.item"),
        "status": one_of("completed", "incomplete", "in_progress"),
    }
    said = part(text=free_text)
    heard = {
        "input_text": said,
        "input_audio": part(audio=base64_text, transcript=nullable(free_text)),
        "input_image": part(image_url=free_text, detail=one_of("auto", "low", "high")),
    }
    contents = {
        "user": heard,
        "system": {"input_text": said},
        # Audio of the assistant cannot be put back, so output_audio is not among them.
        "assistant": {"output_text" if dialect == "ga" else "text": said},
    }

    def message(parts: dict[str, Check]) -> Check:
        known = {**common, "role": free_text, "content": array_of(tagged("type", parts))}
        return fields(known, required=("content",))

    call = {**common, "call_id": free_text, "name": tool_name, "arguments": free_text}
    kinds: dict[str, Check] = {
        "message": tagged("role", {role: message(parts) for role, parts in contents.items()}),
        "function_call": fields(call, required=("name", "arguments")),
        "function_call_output": fields(
            {**common, "call_id": free_text, "output": free_text}, required=("call_id", "output")
        ),
    }
    if dialect == "ga":
        kinds |= dict.fromkeys(
            ("mcp_approval_response", "mcp_call", "mcp_list_tools", "mcp_approval_request"), anything
        )
    if references:
        kinds["item_reference"] = fields({"type": free_text, "id": item_id}, required=("id",))
    return tagged("type", kinds)


ga_response = fields(
    {
        "instructions": free_text,
        "output_modalities": exactly(["audio"], ["text"]),
        "audio": fields({"output": fields({"format": ga_format, "voice": ga_voice})}),
        "tools": ga_tools,
        "tool_choice": ga_tool_choice,
        "max_output_tokens": max_tokens,
        "metadata": metadata,
        "conversation": one_of("auto", "none"),
        "input": array_of(item_check("ga", references=True)),
        "prompt": prompt,
        "reasoning": reasoning,
        "parallel_tool_calls": boolean,
    }
)
beta_response = fields(
    {
        "modalities": exactly(["text"], ["audio", "text"]),
        "instructions": free_text,
        "voice": one_of(*VOICES["beta"]),
        "output_audio_format": beta_format,
        "tools": beta_tools,
        "tool_choice": beta_tool_choice,
        "temperature": decimal(0.6, 1.2),
        "max_response_output_tokens": max_tokens,
        "metadata": metadata,
        "conversation": one_of("auto", "none"),
        "input": array_of(item_check("beta", references=True)),
    }
)


def client_events(dialect: Dialect) -> Check:
    """The check of one whole client event."""

    def event(*required: str, **known: Check) -> Check:
        return fields({"type": free_text, "event_id": text(LONGEST_EVENT_ID), **known}, required=required)

    return tagged(
        "type",
        {
            "session.update": event("session", session=ga_session if dialect == "ga" else beta_session),
            "input_audio_buffer.append": event("audio", audio=base64_text),
            "input_audio_buffer.commit": event(),
            "input_audio_buffer.clear": event(),
            "conversation.item.create": event("item", item=item_check(dialect), previous_item_id=nullable(free_text)),
            "conversation.item.delete": event("item_id", item_id=free_text),
            "conversation.item.retrieve": event("item_id", item_id=free_text),
            "conversation.item.truncate": event(
                "item_id",
                "content_index",
                "audio_end_ms",
                item_id=free_text,
                content_index=integer(0),
                audio_end_ms=integer(0),
            ),
            "response.create": event(response=nullable(ga_response if dialect == "ga" else beta_response)),
            "response.cancel": event(response_id=free_text),
        },
    )


CLIENT_EVENTS: dict[Dialect, Check] = {"ga": client_events("ga"), "beta": client_events("beta")}


def check_event(event: object, dialect: Dialect) -> Json:
    """A client event whose every field is known and in range.

    Raises:
        Refusal: the first thing that is wrong with it.
    """
    if not isinstance(event, dict):
        raise Refusal("invalid_event", "Expected a JSON object.")
    CLIENT_EVENTS[dialect](event, "")
    return event


def reasons(model: str) -> bool:
    """Whether this is a reasoning model: `gpt-realtime-2*`, where `gpt-realtime-2025-08-28` is a date."""
    return model.startswith("gpt-realtime-2") and not model.startswith("gpt-realtime-20")


def check_model_fields(update: Json, model: str, path: str) -> None:
    """Refuse what only the reasoning models (`gpt-realtime-2*`) take.

    Raises:
        Refusal: with code `unsupported_parameter`.
    """
    if reasons(model):
        return
    for name in ("reasoning", "parallel_tool_calls"):
        if name in update:
            message = f"Unsupported parameter: '{path}.{name}' is not supported with the '{model}' model."
            raise Refusal("unsupported_parameter", message, f"{path}.{name}")
