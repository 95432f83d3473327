"""Settings of `[openai]` about the connection and the session: what goes into its URL, header and `session.update`.

docs/configuration.md and config.toml are rendered from here: `python -m aivc.config.reference`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from aivc.config.metadata import about
from aivc.config.rules import header_value, language_code, plain_name, realtime_url
from aivc.config.secret import Secret


@attrs.frozen(kw_only=True, slots=False)  # several bases with slots cannot be joined in one class
class LinkSettings:
    """The way to the model."""

    key: Secret | None = attrs.field(
        default=None,
        metadata=about(
            "The API key; needed for OpenAI's own hosts, optional for any other `url`",
            variable="OPENAI_API_KEY",
            alias="openai_key",
            example="sk-...",
            rule=header_value,
        ),
    )
    model: str = attrs.field(
        default="gpt-4o-realtime-preview-2024-10-01",
        metadata=about(
            "The Realtime model; a name that OpenAI has retired is replaced by its successor, with a warning",
            variable="OPENAI_API_MODEL",
        ),
    )
    disable: bool = attrs.field(
        default=False,
        metadata=about("Whether OpenAI is off: calls are refused, no key is needed", variable="OPENAI_DISABLE"),
    )
    url: str = attrs.field(
        default="wss://api.openai.com/v1/realtime",
        metadata=about("The Realtime server", variable="OPENAI_URL", rule=realtime_url),
    )
    dialect: Literal["ga", "beta"] = attrs.field(
        default="ga",
        metadata=about(
            "The form of the events: today's, or the beta one that some compatible servers still speak",
            variable="OPENAI_DIALECT",
        ),
    )
    connect_seconds: float = attrs.field(
        default=5.0,
        metadata=about("Deadline for TCP, TLS, upgrade and `session.created` together", unit="s", low=0.1, high=60),
    )
    configure_seconds: float = attrs.field(
        default=5.0, metadata=about("Deadline from `session.update` to its echo", unit="s", low=0.1, high=60)
    )
    close_seconds: float = attrs.field(
        default=1.0, metadata=about("Deadline for the WebSocket closing handshake", unit="s", low=0.1, high=30)
    )
    ping_seconds: float = attrs.field(default=15.0, metadata=about("Time between our pings", unit="s", low=1, high=300))
    pong_seconds: float = attrs.field(
        default=10.0,
        metadata=about("Without the pong for so long the connection is dead", unit="s", low=0.1, high=300),
    )
    answer_seconds: float = attrs.field(
        default=10.0,
        metadata=about(
            "How long the model may be silent when it is its turn: then it is asked once more, and after as long"
            " again it counts as lost; 0: for ever",
            unit="s",
            low=0,
            high=300,
        ),
    )
    reconnect: bool = attrs.field(
        default=True,
        metadata=about(
            "Whether a session that is lost (once) or about to expire is replaced by one that knows the conversation"
            " so far; if not, a loss ends the call, and a farewell is spoken before it expires",
        ),
    )
    expiry_seconds: float = attrs.field(
        default=60.0,
        metadata=about(
            "How long before the session's end (expires_at) it is replaced, or the farewell is spoken",
            unit="s",
            low=5,
            high=1800,
        ),
    )


@attrs.frozen(kw_only=True, slots=False)  # several bases with slots cannot be joined in one class
class SessionSettings:
    """What the server is asked for."""

    voice: str = attrs.field(
        default="alloy",
        metadata=about("The voice; marin and cedar are the newest, any name is passed on", variable="OPENAI_VOICE"),
    )
    instructions: str | None = attrs.field(
        default=None,
        metadata=about(
            "What the model is told about its task; not set: the server's own text",
            variable="OPENAI_INSTRUCTIONS",
            example="You are the friendly receptionist of Example Ltd. Keep answers short.",
        ),
    )
    # None is "not set by the user": only then is the GA interface's lack of it no reason for a warning
    temperature: float | None = attrs.field(
        default=None,
        metadata=about(
            "How varied the answers are, in the beta dialect only; not set: 0.8",
            low=0.6,
            high=1.2,
            variable="OPENAI_TEMPERATURE",
            example=0.8,
        ),
    )
    max_tokens: int | Literal["inf"] = attrs.field(
        default="inf",
        metadata=about(
            'The longest answer, or "inf" for no limit', unit="tokens", low=1, high=4096, variable="OPENAI_MAX_TOKENS"
        ),
    )
    turn_detection_type: Literal["server_vad", "semantic_vad", "none"] = attrs.field(
        default="server_vad",
        metadata=about(
            "How the end of the caller's turn is noticed: by silence, by meaning, or not at all",
            variable="OPENAI_TURN_DETECT_TYPE",
        ),
    )
    turn_detection_silence_ms: int = attrs.field(
        default=200,
        metadata=about(
            "The silence that ends the caller's turn (server_vad)",
            unit="ms",
            low=0,
            variable="OPENAI_TURN_DETECT_SILENCE_MS",
        ),
    )
    turn_detection_threshold: float = attrs.field(
        default=0.5,
        metadata=about(
            "How loud speech must be, from 0 for a whisper to 1 (server_vad)",
            low=0,
            high=1,
            variable="OPENAI_TURN_DETECT_THRESHOLD",
        ),
    )
    turn_detection_prefix_ms: int = attrs.field(
        default=300,
        metadata=about(
            "The audio kept from before the speech was noticed (server_vad)",
            unit="ms",
            low=0,
            variable="OPENAI_TURN_DETECT_PREFIX_MS",
        ),
    )
    turn_detection_eagerness: Literal["auto", "low", "medium", "high"] = attrs.field(
        default="auto",
        metadata=about(
            "How soon the caller's turn is taken as finished (semantic_vad)",
        ),
    )
    turn_detection_create_response: bool = attrs.field(
        default=True,
        metadata=about(
            "Whether the end of the caller's turn makes the model answer; if not, only tools and embedders ask for"
            " answers",
        ),
    )
    turn_detection_interrupt_response: bool = attrs.field(
        default=True,
        metadata=about(
            "Whether the server stops its answer by itself when the caller speaks; if not, aivc tells it to",
        ),
    )
    noise_reduction: Literal["none", "near_field", "far_field"] = attrs.field(
        default="none",
        metadata=about(
            "The server's noise filter: for a handset, for a speakerphone, or none",
        ),
    )
    transcription_model: str | None = attrs.field(
        default=None,
        metadata=about(
            "Which model writes down what the caller says, at extra cost; not set: nobody does",
            example="gpt-transcribe",
        ),
    )
    transcription_language: str | None = attrs.field(
        default=None,
        metadata=about(
            "The caller's language, for the transcription, as ISO 639-1 has it",
            example="en",
            rule=language_code,
        ),
    )
    transcription_prompt: str | None = attrs.field(
        default=None,
        metadata=about(
            "Words and names that the transcription should expect",
            example="Example Ltd, Ms Brown",
        ),
    )
    speed: float = attrs.field(
        default=1.0,
        metadata=about(
            "How fast the voice speaks",
            low=0.25,
            high=1.5,
        ),
    )
    tool_choice: str = attrs.field(
        default="auto",
        metadata=about(
            "Whether the model may use tools: auto, none, required, or the name of the one that it must use",
            rule=plain_name,
        ),
    )
    extra_session: Mapping[str, object] = attrs.field(
        factory=dict,
        metadata=about(
            "Fields of session.update that have no setting of their own; merged last, so they win",
            example={"truncation": "disabled"},
        ),
    )
