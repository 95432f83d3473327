"""What is wrong or doubtful about the settings of `[openai]`, or of one agent, beside each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import attrs

from aivc.config.agents import takes_every_call
from aivc.config.models import resolve_model
from aivc.config.rules import is_openai_host, is_readable_on_the_way
from aivc.config.settings import OpenAISettings, Settings

TTS_ONLY_VOICES = ("fable", "onyx", "nova")  # of OpenAI's text-to-speech; the Realtime API refuses them
# In extra_session these would change what was agreed with the caller, or the session itself: the call would be noise.
OURS_IN_SESSION: Final[tuple[tuple[str, ...], ...]] = (
    ("audio", "input", "format"),
    ("audio", "output", "format"),
    ("input_audio_format",),
    ("output_audio_format",),
    ("model",),
    ("type",),
)
TABLES_IN_SESSION: Final[tuple[tuple[str, ...], ...]] = (
    ("audio",),
    ("audio", "input"),
    ("audio", "output"),
)  # another value would remove the formats


@attrs.frozen
class Finding:
    """Something wrong, said of the first of its settings."""

    paths: tuple[str, ...]  # every setting that was looked at
    text: str


@attrs.frozen(kw_only=True)
class AgentView:
    """`[openai]`, or an agent that has what it is not given from there."""

    section: str  # "openai" or "agents.NAME"
    openai: OpenAISettings
    sources: Mapping[str, str]  # by path, as of `Loaded`

    def given(self, name: str) -> bool:
        """Whether a key was set by hand; of an agent, in its own table."""
        return self.sources.get(f"{self.section}.{name}", "default") != "default"

    def paths(self, *names: str) -> tuple[str, ...]:
        """Where the values of these keys come from: its own table, and [openai]."""
        own = tuple(f"{self.section}.{name}" for name in names)
        return own if self.section == "openai" else own + tuple(f"openai.{name}" for name in names)

    def finding(self, *names: str, text: str, others: tuple[str, ...] = ()) -> Finding:
        """One about these keys, and about settings elsewhere."""
        return Finding(self.paths(*names) + others, text)


def contradictions_of(view: AgentView, settings: Settings, *, simulator: bool) -> Iterator[Finding]:
    """Why these settings, each fine by itself, cannot work together."""
    openai = view.openai
    key_needed = is_openai_host(openai.url) and not simulator and not openai.disable
    if key_needed and openai.key is None and not is_hidden(view, settings):
        yield view.finding(
            "key",
            "url",
            "disable",
            text="missing: OpenAI asks for an API key; set OPENAI_API_KEY, or try `--simulator`, which needs none",
        )
    if openai.dialect == "beta" and settings.tools.mcp:
        yield view.finding("dialect", text="the beta dialect has no MCP; leave out tools.mcp", others=("tools.mcp",))
    for text in extra_session_faults(openai.extra_session):
        yield view.finding("extra_session", text=text)
    if openai.filler == "sound" and settings.sounds.hold is None:
        yield view.finding("filler", text="there is no sound: set sounds.hold", others=("sounds.hold",))


def is_hidden(view: AgentView, settings: Settings) -> bool:
    """Whether no call ever comes to [openai] itself."""
    return view.section == "openai" and any(takes_every_call(agent.openai) for agent in settings.agents)


def extra_session_faults(extra: Mapping[str, object]) -> Iterator[str]:
    """What `extra_session` must not say."""
    for path in TABLES_IN_SESSION:
        if is_in(extra, path) and not isinstance(value_at(extra, path), Mapping):
            yield f"{'.'.join(path)}: is not a table"
    for path in OURS_IN_SESSION:
        if is_in(extra, path):
            hint = "set openai.model" if path == ("model",) else "the call would break"
            yield f"{'.'.join(path)}: cannot be set here; {hint}"


def is_in(table: Mapping[str, object], path: tuple[str, ...]) -> bool:
    holder = value_at(table, path[:-1])
    return isinstance(holder, Mapping) and path[-1] in holder


def value_at(table: Mapping[str, object], path: tuple[str, ...]) -> object:
    value: object = table
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def doubts_of(view: AgentView, *, simulator: bool) -> Iterator[Finding]:
    """What will work otherwise than its writer may think."""
    yield from silent_model(view)
    openai = view.openai
    if openai.key is not None and not simulator and is_readable_on_the_way(openai.url):
        yield view.finding("url", "key", text="not encrypted: key and call can be read on their way; use wss")
    if not simulator and not openai.disable and is_openai_host(openai.url):
        yield from refused_by_openai(view)
    yield from overruled(view)
    for names, works, why in EFFECTIVE_IF:
        if not works(openai):
            for name in names:
                if view.given(name):
                    yield view.finding(name, text=f"has no effect {why(openai)}")


def silent_model(view: AgentView) -> Iterator[Finding]:
    """Why the model may never say or do a thing."""
    openai = view.openai
    if openai.turn_detection_type == "none":
        text = "none: nobody tells the model that the caller has finished, it never answers"
        yield view.finding("turn_detection_type", text=text)
        if openai.interruption == "confirm":
            text = "nobody notices that the caller speaks, so nothing is interrupted"
            yield view.finding("interruption", "turn_detection_type", text=text)
    elif not openai.turn_detection_create_response:
        text = "false: the model does not answer the caller unless a tool or an embedder asks it to"
        yield view.finding("turn_detection_create_response", text=text)
    for name in ("output_modalities", "modalities"):
        modalities = openai.extra_session.get(name, ["audio"])
        if isinstance(modalities, list) and "audio" not in modalities:
            yield view.finding("extra_session", text=f"{name}: without audio the caller hears nothing")
    if "tools" in openai.extra_session:
        yield view.finding("extra_session", text="tools: takes the place of all functions, those of aivc too")


def refused_by_openai(view: AgentView) -> Iterator[Finding]:
    """What OpenAI's own hosts do not take."""
    openai = view.openai
    resolved = resolve_model(openai.model, openai.url)
    if resolved.warning is not None:
        yield view.finding("model", "url", text=resolved.warning)
    if openai.dialect == "beta":
        text = 'OpenAI removed the beta interface on 2026-05-12; set "ga", or another openai.url'
        yield view.finding("dialect", "url", text=text)
    if openai.voice in TTS_ONLY_VOICES:
        yield view.finding("voice", text=f"{openai.voice} is a text-to-speech voice, which the Realtime API refuses")


def overruled(view: AgentView) -> Iterator[Finding]:
    name = "turn_detection_interrupt_response"
    if view.openai.interruption == "confirm" and view.given(name) and view.openai.turn_detection_interrupt_response:
        text = 'true: is taken as false with interruption = "confirm", where aivc decides what is cut'
        yield view.finding(name, "interruption", text=text)


def detection(openai: OpenAISettings) -> str:
    return f'with turn_detection_type = "{openai.turn_detection_type}"'


def saying(text: str) -> Callable[[OpenAISettings], str]:
    return lambda _openai: text


def can_transfer(openai: OpenAISettings) -> bool:
    return bool(openai.transfer_to or openai.transfer_targets or openai.transfer_allow)


# keys; whether they have an effect; why they have none
EFFECTIVE_IF: Final[
    tuple[tuple[tuple[str, ...], Callable[[OpenAISettings], bool], Callable[[OpenAISettings], str]], ...]
] = (
    (
        ("temperature",),
        lambda openai: openai.dialect == "beta",
        saying("in the GA interface, which has no temperature (the beta dialect does)"),
    ),
    (
        ("turn_detection_silence_ms", "turn_detection_threshold", "turn_detection_prefix_ms"),
        lambda openai: openai.turn_detection_type == "server_vad",
        detection,
    ),
    (("turn_detection_eagerness",), lambda openai: openai.turn_detection_type == "semantic_vad", detection),
    (
        ("turn_detection_create_response", "turn_detection_interrupt_response"),
        lambda openai: openai.turn_detection_type != "none",
        detection,
    ),
    (
        ("transcription_language", "transcription_prompt"),
        lambda openai: openai.transcription_model is not None,
        saying("without transcription_model"),
    ),
    (("confirm_ms",), lambda openai: openai.interruption == "confirm", saying('without interruption = "confirm"')),
    (
        ("idle_prompts", "idle_message"),
        lambda openai: openai.idle_timeout_ms > 0,
        saying("without idle_timeout_ms"),
    ),
    (("filler", "filler_message"), lambda openai: openai.filler_after_ms > 0, saying("without filler_after_ms")),
    (("filler_message",), lambda openai: openai.filler == "speech", saying('with filler = "sound"')),
    (
        (
            "transfer_by",
            "transfer_seconds",
            "transfer_attended",
            "transfer_ring_seconds",
            "transfer_announcement",
        ),
        can_transfer,
        saying("without transfer_to, transfer_targets or transfer_allow"),
    ),
)
