"""Every setting: its type, default, meaning, unit, range and names.

docs/configuration.md and config.toml are rendered from here: `python -m aivc.config.reference`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from aivc.config.metadata import about
from aivc.config.opensips import OpenSipsSettings
from aivc.config.recorder import RecorderSettings
from aivc.config.rules import (
    digits,
    field_value,
    header_name,
    http_url,
    ipv4,
    object_schema,
    plain_name,
    regular_expression,
)
from aivc.config.secret import Secret
from aivc.config.service import AdminSettings, RealtimeSettings, ServiceSettings
from aivc.config.session import LinkSettings, SessionSettings
from aivc.config.talk import TalkSettings, ToolSettings
from aivc.config.telephony import RtpSettings, SipRegister, SipSettings, SipUser

__all__ = [
    "Address",
    "AdminSettings",
    "Agent",
    "Codec",
    "DtmfSettings",
    "EngineSettings",
    "HttpTool",
    "LogSettings",
    "McpServer",
    "OpenAISettings",
    "OpenSipsSettings",
    "RealtimeSettings",
    "RecorderSettings",
    "RecordsSettings",
    "RtpSettings",
    "Secret",
    "ServiceSettings",
    "Settings",
    "SipRegister",
    "SipSettings",
    "SipUser",
    "SoundsSettings",
    "ToolsSettings",
]

Address = tuple[str, int]  # IP address as text, UDP or TCP port
Codec = Literal["PCMU", "PCMA"]  # the laws of G.711, by their RTP names (RFC 3551 section 6)


@attrs.frozen(kw_only=True)
class OpenAISettings(ToolSettings, TalkSettings, SessionSettings, LinkSettings):
    """`[openai]`: which model answers, how it talks and what it may do."""

    match: tuple[str, ...] = attrs.field(
        default=(),
        metadata=about(
            "Patterns (regular expressions in linear time), of which one must match all of the dialled user; empty:"
            " every one is answered",
            example=["1[0-9]{3}"],
            rule=regular_expression,
        ),
    )
    match_from: tuple[str, ...] = attrs.field(
        default=(),
        metadata=about(
            "The same for the caller: the user part of the From URI", example=["[+]49.*"], rule=regular_expression
        ),
    )


@attrs.frozen(kw_only=True)
class Agent:
    """`[agents.NAME]`: an agent of its own for some numbers; every key of `[openai]` may be given, and wins over it."""

    name: str
    openai: OpenAISettings  # those of `[openai]` with this table's keys over them


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
class DtmfSettings:
    """`[dtmf]`: keys that the caller presses, and tones that we send."""

    enabled: bool = attrs.field(default=True, metadata=about("Whether the model is told which keys the caller pressed"))
    finish: str = attrs.field(
        default="#", metadata=about("Keys that end an entry at once; they are not told", rule=digits, blank=True)
    )
    pause_seconds: float = attrs.field(
        default=2.0,
        metadata=about("Without a further key for so long the entry is complete", unit="s", low=0.1, high=30),
    )
    tone_ms: int = attrs.field(
        default=160, metadata=about("How long each tone of send_digits lasts", unit="ms", low=40, high=2000)
    )
    gap_ms: int = attrs.field(default=80, metadata=about("The pause between two tones", unit="ms", low=40, high=2000))


@attrs.frozen(kw_only=True)
class SoundsSettings:
    """`[sounds]`: instead of silence: WAV (8 kHz, mono, 16-bit or G.711), .ulaw or .alaw files."""

    failure: str | None = attrs.field(
        default=None,
        metadata=about(
            "Played when the model is lost, before the transfer or hang-up", example="sounds/sorry.wav", file=True
        ),
    )
    busy: str | None = attrs.field(
        default=None,
        metadata=about(
            "Played to a caller whose model cannot be had, before the transfer or hang-up; not set: refused with 503",
            example="sounds/busy.wav",
            file=True,
        ),
    )
    hold: str | None = attrs.field(
        default=None,
        metadata=about("Played, again and again, while the caller waits", example="sounds/music.wav", file=True),
    )


@attrs.frozen(kw_only=True)
class RecordsSettings:
    """`[records]`: what is kept of a call."""

    directory: str | None = attrs.field(
        default=None,
        metadata=about("A folder for one file of JSON lines a day, one line a call", example="records"),
    )
    transcripts: bool = attrs.field(
        default=True, metadata=about("Whether the lines have what was said, and the digits that were pressed")
    )


@attrs.frozen(kw_only=True)
class EngineSettings:
    """`[engine]`: where the settings of a call may come from, and where events of OpenSIPS come to."""

    event_ip: str = attrs.field(
        default="127.0.0.1",
        metadata=about(
            "Where OpenSIPS sends its events: a local address; 0.0.0.0: all, and OpenSIPS is told the one that leads to"
            " it",
            variable="EVENT_IP",
            rule=ipv4,
        ),
    )
    event_port: int = attrs.field(
        default=0, metadata=about("The UDP port for events; 0: any free one", variable="EVENT_PORT", low=0, high=65535)
    )
    api_url: str | None = attrs.field(
        default=None,
        metadata=about(
            "Asked by HTTP POST for the settings of each call while it rings",
            variable="API_URL",
            example="https://example.com/bots",
            rule=http_url,
        ),
    )
    api_seconds: float = attrs.field(default=3.0, metadata=about("Deadline for its answer", unit="s", low=0.1, high=30))
    api_failure: Literal["fallback", "refuse"] = attrs.field(
        default="fallback",
        metadata=about(
            "A call without its answer, or with extra_params of OpenSIPS that cannot be used: goes on with the settings"
            " from here, or is refused with 503"
        ),
    )


@attrs.frozen(kw_only=True)
class HttpTool:
    """`[[tools.http]]`: a function of the model's that is an HTTP request."""

    name: str = attrs.field(metadata=about("What the model calls it", example="opening_hours", rule=plain_name))
    description: str = attrs.field(
        metadata=about("What the model is told about it", example="Tell when the shop is open on a day of the week.")
    )
    url: str = attrs.field(metadata=about("Where it is", example="https://example.com/hours", rule=http_url))
    method: Literal["POST", "GET", "PUT", "PATCH", "DELETE"] = attrs.field(
        default="POST", metadata=about("The request; GET and DELETE carry the arguments in the query, others as JSON")
    )
    schema: Mapping[str, object] = attrs.field(
        factory=dict,
        metadata=about(
            "JSON schema of the arguments, an object; empty: no arguments",
            example={"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]},
            rule=object_schema,
        ),
    )
    headers: Mapping[str, Secret] = attrs.field(
        factory=dict,
        metadata=about(
            "Header fields, each with the name of the environment variable that has its value",
            example={"Authorization": "HOURS_AUTHORIZATION"},
            names=header_name,
            rule=field_value,
            indirect=True,
        ),
    )
    secret: Secret | None = attrs.field(
        default=None,
        metadata=about(
            "The environment variable with the key that signs each request (HMAC-SHA256)",
            example="HOURS_SECRET",
            indirect=True,
        ),
    )
    seconds: float = attrs.field(default=10.0, metadata=about("Deadline for one try", unit="s", low=0.1, high=300))
    retries: int = attrs.field(
        default=0,
        metadata=about("Further tries after no answer, 429 or 5xx; only for what may be done twice", low=0, high=5),
    )


@attrs.frozen(kw_only=True)
class McpServer:
    """`[[tools.mcp]]`: a remote MCP server whose tools the model calls by itself (GA only)."""

    server_label: str = attrs.field(metadata=about("What the model calls it", example="wiki", rule=plain_name))
    server_url: str = attrs.field(metadata=about("Where it is", example="https://example.com/mcp", rule=http_url))
    authorization: Secret | None = attrs.field(
        default=None,
        metadata=about(
            "The environment variable with the token for it", example="WIKI_TOKEN", rule=field_value, indirect=True
        ),
    )
    allowed_tools: tuple[str, ...] = attrs.field(
        default=(), metadata=about("Those of its tools that may be used; empty: all", example=["search"])
    )
    server_description: str | None = attrs.field(
        default=None, metadata=about("What the model is told about it", example="Our handbook")
    )


@attrs.frozen(kw_only=True)
class ToolsSettings:
    """`[tools]`: functions that are no Python code."""

    http: tuple[HttpTool, ...] = attrs.field(default=(), metadata=about("HTTP requests, each a `[[tools.http]]` table"))
    mcp: tuple[McpServer, ...] = attrs.field(default=(), metadata=about("MCP servers, each a `[[tools.mcp]]` table"))


@attrs.frozen(kw_only=True)
class Settings:
    """The whole configuration, validated and immutable."""

    openai: OpenAISettings = attrs.field(factory=OpenAISettings)
    realtime: RealtimeSettings = attrs.field(factory=RealtimeSettings)
    sip: SipSettings = attrs.field(factory=SipSettings)
    opensips: OpenSipsSettings = attrs.field(factory=OpenSipsSettings)
    rtp: RtpSettings = attrs.field(factory=RtpSettings)
    service: ServiceSettings = attrs.field(factory=ServiceSettings)
    admin: AdminSettings = attrs.field(factory=AdminSettings)
    log: LogSettings = attrs.field(factory=LogSettings)
    dtmf: DtmfSettings = attrs.field(factory=DtmfSettings)
    sounds: SoundsSettings = attrs.field(factory=SoundsSettings)
    tools: ToolsSettings = attrs.field(factory=ToolsSettings)
    engine: EngineSettings = attrs.field(factory=EngineSettings)
    records: RecordsSettings = attrs.field(factory=RecordsSettings)
    recorder: RecorderSettings = attrs.field(factory=RecorderSettings)
    agents: tuple[Agent, ...] = ()
