"""Every setting: its type, default, meaning, unit, range and names.

docs/configuration.md and config.toml are rendered from here: `python -m aivc.config.reference`.
"""

from __future__ import annotations

from typing import Literal

import attrs

from aivc.config.metadata import about
from aivc.config.rules import (
    advertised_ip,
    advertised_media_ip,
    header_value,
    media_ip,
    parse_listen,
    realtime_url,
    sip_uri,
)

Address = tuple[str, int]  # IP address as text, UDP or TCP port
Codec = Literal["PCMU", "PCMA"]  # the laws of G.711, by their RTP names (RFC 3551 section 6)


class Secret:
    """A value that never prints itself; `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@attrs.frozen(kw_only=True)
class OpenAISettings:
    """`[openai]`: which model answers, and how it talks."""

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
    welcome_message: str | None = attrs.field(
        default=None,
        metadata=about(
            "What the model says first; not set: it waits for the caller to speak",
            variable="OPENAI_WELCOME_MSG",
            example="Welcome to Example Ltd. How can I help you?",
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
    transfer_to: str | None = attrs.field(
        default=None,
        metadata=about(
            "Where the model may transfer a call to; not used yet, set it for later versions",
            variable="OPENAI_TRANSFER_TO",
            example="sip:support@example.com",
            rule=sip_uri,
        ),
    )
    transfer_by: str | None = attrs.field(
        default=None,
        metadata=about(
            "Who a transfer says it comes from (Referred-By), by default the number dialled; not used yet",
            variable="OPENAI_TRANSFER_BY",
            example="sip:assistant@example.com",
            rule=sip_uri,
        ),
    )
    tools: tuple[str, ...] = attrs.field(
        default=(),
        metadata=about(
            "A Python file, or a list of them, with functions the model may call; a relative path is looked for"
            " beside the configuration file, then in the working directory",
            variable="OPENAI_TOOLS",
        ),
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
    tool_seconds: float = attrs.field(
        default=20.0, metadata=about("Deadline for one tool call", unit="s", low=0.1, high=600)
    )
    farewell_seconds: float = attrs.field(
        default=10.0, metadata=about("Longest time for the model's last words before our BYE", unit="s", low=0, high=60)
    )


@attrs.frozen(kw_only=True)
class SipSettings:
    """`[sip]`: the built-in SIP user agent."""

    enabled: bool = attrs.field(default=True, metadata=about("Whether the built-in user agent listens"))
    listen: tuple[str, ...] = attrs.field(
        default=("udp:0.0.0.0:5060",),
        metadata=about(
            "Where to listen: `udp:HOST:PORT`; HOST is an IP address, an IPv6 one in brackets, port 0 any free one",
            rule=parse_listen,
        ),
    )
    external_ip: str | None = attrs.field(
        default=None,
        metadata=about(
            "The address written into Contact and Via instead of the local one, when a NAT lies between",
            example="203.0.113.10",
            rule=advertised_ip,
        ),
    )
    numbers: tuple[str, ...] = attrs.field(
        default=(),
        metadata=about("User parts of the SIP URIs that are answered, others get 404; empty: every one is"),
    )
    # 32 s is timer F, 64*T1: after that no answer to a BYE can come (RFC 3261 section 17.1.2.2)
    hang_up_seconds: float = attrs.field(
        default=2.0, metadata=about("Longest wait for the answer to our BYE", unit="s", low=0.1, high=32)
    )


@attrs.frozen(kw_only=True)
class RtpSettings:
    """`[rtp]`: the media sockets."""

    min_port: int = attrs.field(
        default=35000,
        metadata=about(
            "The lowest media port; each call takes an even one for RTP and the next for RTCP",
            low=1024,
            high=65535,
            variable="RTP_MIN_PORT",
        ),
    )
    max_port: int = attrs.field(
        default=65000, metadata=about("The highest media port", low=1024, high=65535, variable="RTP_MAX_PORT")
    )
    bind_ip: str = attrs.field(
        default="0.0.0.0",
        metadata=about("The local address of the media sockets", variable="RTP_BIND_IP", rule=media_ip),
    )
    ip: str | None = attrs.field(
        default=None,
        metadata=about(
            "The address written into SDP; not set: `sip.external_ip`, else the local one that reaches the peer",
            variable="RTP_IP",
            example="203.0.113.10",
            rule=advertised_media_ip,
        ),
    )
    nat: Literal["auto", "on", "off"] = attrs.field(
        default="auto",
        metadata=about(
            "Whether audio may come from, and go to, another IP address than the SDP's: if that one is private and the"
            " signalling came from one that is not, always, or never"
        ),
    )
    timeout_seconds: float = attrs.field(
        default=60.0,
        metadata=about(
            "A call without audio from the caller for so long is over; 0: never", unit="s", low=0, high=86400
        ),
    )
    # rtpengine's learning takes 3 s, too: short for a caller whose NAT has moved, long for a thief in a pause
    relatch_seconds: float = attrs.field(
        default=3.0,
        metadata=about(
            "Silence from where the caller's audio came from after which another source may take its place",
            unit="s",
            low=0.1,
            high=3600,
        ),
    )
    probe_seconds: float = attrs.field(
        default=15.0,
        metadata=about(
            "Audio is sent for so long to an address that sends none; 0: for ever, for trunks that only listen",
            unit="s",
            low=0,
            high=3600,
        ),
    )
    quarantine_seconds: float = attrs.field(
        default=5.0, metadata=about("Time before a freed port is given to a new call", unit="s", low=0, high=600)
    )


@attrs.frozen(kw_only=True)
class ServiceSettings:
    """`[service]`: the process."""

    max_calls: int = attrs.field(
        default=100, metadata=about("Calls at a time; more are refused with 503", low=1, high=10000)
    )
    drain_seconds: float = attrs.field(
        default=30.0,
        metadata=about("Time that calls get to end when the process is told to stop", unit="s", low=0, high=3600),
    )
    retry_after_seconds: int = attrs.field(
        default=10, metadata=about("When a caller refused with 503 may try again", unit="s", low=0, high=86400)
    )
    max_call_seconds: float = attrs.field(
        default=3600.0, metadata=about("The longest call", unit="s", low=1, high=86400)
    )


@attrs.frozen(kw_only=True)
class LogSettings:
    """`[log]`: what is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = attrs.field(
        default="info", metadata=about("The least severe lines that are written")
    )
    format: Literal["console", "json"] = attrs.field(
        default="console", metadata=about("Lines for people, or one JSON object a line")
    )


@attrs.frozen(kw_only=True)
class Settings:
    """The whole configuration, validated and immutable."""

    openai: OpenAISettings = attrs.field(factory=OpenAISettings)
    sip: SipSettings = attrs.field(factory=SipSettings)
    rtp: RtpSettings = attrs.field(factory=RtpSettings)
    service: ServiceSettings = attrs.field(factory=ServiceSettings)
    log: LogSettings = attrs.field(factory=LogSettings)
