"""Settings of `[openai]` about what aivc itself does in a conversation.

docs/configuration.md and config.toml are rendered from here: `python -m aivc.config.reference`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from aivc.config.metadata import about
from aivc.config.rules import builtin_tool, idle_timeout, plain_name, regular_expression, sip_uri, token_kind


@attrs.frozen(kw_only=True, slots=False)  # several bases with slots cannot be joined in one class
class TalkSettings:
    """Greeting, interruption, silence, farewell."""

    welcome_message: str | None = attrs.field(
        default=None,
        metadata=about(
            "What the model says first; not set: it waits for the caller to speak",
            variable="OPENAI_WELCOME_MSG",
            example="Welcome to Example Ltd. How can I help you?",
        ),
    )
    welcome_interruptible: bool = attrs.field(
        default=True,
        metadata=about(
            "Whether the caller can interrupt the welcome message; if not, the model hears silence until it was played",
        ),
    )
    interruption: Literal["cut", "confirm"] = attrs.field(
        default="cut",
        metadata=about(
            "What happens when the caller speaks over the model: its answer is cut at once, or it pauses, and goes on"
            " where it stopped if it was only a cough",
        ),
    )
    confirm_ms: int = attrs.field(
        default=250,
        metadata=about(
            'How long the caller must speak to interrupt, if interruption is "confirm"',
            unit="ms",
            low=20,
            high=5000,
        ),
    )
    idle_timeout_ms: int = attrs.field(
        default=0,
        metadata=about(
            "After how long a silence of both the model asks whether the caller is still there: 5000 or more, as OpenAI"
            " has it; 0: never",
            unit="ms",
            low=0,
            high=30000,
            rule=idle_timeout,
        ),
    )
    idle_prompts: int = attrs.field(
        default=2,
        metadata=about(
            "How often it asks before it says goodbye and hangs up",
            low=1,
            high=20,
        ),
    )
    idle_message: str = attrs.field(
        default="Ask briefly whether the caller is still there.",
        metadata=about(
            "How the model is told to ask, where the server has no idle time-out of its own",
        ),
    )
    farewell_message: str = attrs.field(
        default="Say one short, friendly goodbye; the call ends now.",
        metadata=about(
            "How the model is told to say goodbye when aivc ends the call by itself: an idle caller, a session that"
            " expires",
        ),
    )
    farewell_seconds: float = attrs.field(
        default=10.0,
        metadata=about("Longest time for the model's last words before our BYE or REFER", unit="s", low=0, high=60),
    )


@attrs.frozen(kw_only=True, slots=False)  # several bases with slots cannot be joined in one class
class ToolSettings:
    """Functions of the model's, and where it may send a call."""

    tools: tuple[str, ...] = attrs.field(
        default=(),
        metadata=about(
            "A Python file, or a list of them, with functions the model may call; a relative path is looked for"
            " beside the configuration file, then in the working directory",
            variable="OPENAI_TOOLS",
            file=True,
        ),
    )
    tool_seconds: float = attrs.field(
        default=20.0, metadata=about("Deadline for one tool call", unit="s", low=0.1, high=600)
    )
    disabled_tools: tuple[str, ...] = attrs.field(
        default=(),
        metadata=about(
            "Built-in functions that the model is not offered: terminate_call, transfer_call, send_digits",
            rule=builtin_tool,
        ),
    )
    tool_descriptions: Mapping[str, str] = attrs.field(
        factory=dict,
        metadata=about(
            "What the model is told about a function instead of its own description, by name",
            example={"terminate_call": "Hang up when the caller has said goodbye."},
            names=plain_name,
        ),
    )
    filler_after_ms: int = attrs.field(
        default=0,
        metadata=about(
            "How long a function may take before the caller gets a sign of life; 0: as long as it likes",
            unit="ms",
            low=0,
            high=60000,
        ),
    )
    filler: Literal["speech", "sound"] = attrs.field(
        default="speech",
        metadata=about(
            "The sign of life: the model says something, or `sounds.hold` is played",
        ),
    )
    filler_message: str = attrs.field(
        default="Say only: one moment, please.",
        metadata=about(
            "How the model is told what to say meanwhile",
        ),
    )
    transfer_to: str | None = attrs.field(
        default=None,
        metadata=about(
            "Where the model may transfer a call to, and where a call goes whose model is lost",
            variable="OPENAI_TRANSFER_TO",
            example="sip:support@example.com",
            rule=sip_uri,
        ),
    )
    transfer_by: str | None = attrs.field(
        default=None,
        metadata=about(
            "Who a transfer says it comes from (Referred-By); not set: the number dialled",
            variable="OPENAI_TRANSFER_BY",
            example="sip:assistant@example.com",
            rule=sip_uri,
        ),
    )
    transfer_targets: Mapping[str, str] = attrs.field(
        factory=dict,
        metadata=about(
            "Names that the model may transfer a call to, each with its URI",
            example={"sales": "sip:sales@example.com"},
            names=plain_name,
            rule=sip_uri,
        ),
    )
    transfer_allow: tuple[str, ...] = attrs.field(
        default=(),
        metadata=about(
            "Patterns (regular expressions in linear time); a number or URI that the model itself names is called if"
            " one of them matches all of it",
            example=["sip:[0-9]{3}@example[.]com"],
            rule=regular_expression,
        ),
    )
    transfer_seconds: float = attrs.field(
        default=20.0,
        metadata=about(
            "How long the outcome of a transfer is waited for",
            unit="s",
            low=1,
            high=300,
        ),
    )
    transfer_attended: bool = attrs.field(
        default=False,
        metadata=about(
            "Whether transfer_call calls the target first and tells it who comes and why, before it joins the two"
        ),
    )
    transfer_ring_seconds: float = attrs.field(
        default=30.0,
        metadata=about("How long the target of an attended transfer may ring", unit="s", low=1, high=180),
    )
    transfer_announcement: str = attrs.field(
        default="Tell the colleague who has just picked up, in one or two short sentences, who is calling and what"
        " about, and that you are connecting them now. Ask nothing.",
        metadata=about("Instructions for what the model tells the target of an attended transfer"),
    )
    prices: Mapping[str, float] = attrs.field(
        factory=dict,
        metadata=about(
            "USD per million tokens by kind, for the cost in the record: input_audio, input_text, input_cached,"
            " output_audio, output_text",
            example={"input_audio": 32.0, "output_audio": 64.0},
            names=token_kind,
            low=0,
        ),
    )
