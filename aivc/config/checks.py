"""What no single setting can tell: pairs that contradict each other, what is missing, and what has no effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from aivc.config.models import resolve_model
from aivc.config.rules import is_openai_host, is_readable_on_the_way
from aivc.config.settings import Settings

TTS_ONLY_VOICES = ("fable", "onyx", "nova")  # of OpenAI's text-to-speech; the Realtime API refuses them
SERVER_VAD_ONLY = ("turn_detection_silence_ms", "turn_detection_threshold", "turn_detection_prefix_ms")


@attrs.frozen
class Finding:
    """Something wrong, said of the first of its settings."""

    paths: tuple[str, ...]  # every setting that was looked at
    text: str


def contradictions(settings: Settings, *, simulator: bool) -> Iterator[Finding]:
    """Why these settings, each fine by itself, cannot work together."""
    openai, rtp, sip = settings.openai, settings.rtp, settings.sip
    key_needed = is_openai_host(openai.url) and not simulator and not openai.disable
    if key_needed and openai.key is None:
        yield Finding(
            ("openai.key", "openai.url", "openai.disable"),
            "missing: OpenAI asks for an API key; set OPENAI_API_KEY, or try `--simulator`, which needs none",
        )
    if rtp.min_port >= rtp.max_port:
        yield Finding(("rtp.min_port", "rtp.max_port"), f"{rtp.min_port} is not below rtp.max_port, {rtp.max_port}")
    elif even_ports(rtp.min_port, rtp.max_port) == 0:
        yield Finding(("rtp.min_port", "rtp.max_port"), "no even port with an odd one after it lies in this range")
    if rtp.ip is None and sip.external_ip is not None and ":" in sip.external_ip:
        yield Finding(("rtp.ip", "sip.external_ip"), "set it: sip.external_ip is IPv6, and media are IPv4 only")
    if sip.enabled and not sip.listen:
        yield Finding(("sip.listen", "sip.enabled"), "is empty; give an address, or set sip.enabled = false")


def even_ports(low: int, high: int) -> int:
    """How many calls the range has room for: an even port for RTP and the next for RTCP (RFC 3550 section 11)."""
    return max(0, (high - (low + low % 2) + 1) // 2)


def doubts(settings: Settings, sources: Mapping[str, str], *, simulator: bool) -> Iterator[str]:
    """What will work otherwise than its writer may think. `sources` tells what was set by hand."""
    yield from openai_doubts(settings, simulator=simulator)
    yield from idle_settings(settings, sources)
    ports, calls = even_ports(settings.rtp.min_port, settings.rtp.max_port), settings.service.max_calls
    if ports < calls:
        yield (
            f"rtp.min_port: the range has room for {ports} calls, service.max_calls allows {calls};"
            " calls beyond the range are refused"
        )


def openai_doubts(settings: Settings, *, simulator: bool) -> Iterator[str]:
    openai = settings.openai
    if openai.turn_detection_type == "none":
        yield "openai.turn_detection_type: none: nobody tells the model that the caller has finished, it never answers"
    if openai.key is not None and not simulator and is_readable_on_the_way(openai.url):
        yield "openai.url: not encrypted: key and call can be read on their way; use wss"
    if simulator or openai.disable or not is_openai_host(openai.url):
        return
    resolved = resolve_model(openai.model, openai.url)
    if resolved.warning is not None:
        yield f"openai.model: {resolved.warning}"
    if openai.dialect == "beta":
        yield 'openai.dialect: OpenAI removed the beta interface on 2026-05-12; set "ga", or another openai.url'
    if openai.voice in TTS_ONLY_VOICES:
        yield f"openai.voice: {openai.voice} is a text-to-speech voice, which the Realtime API refuses"


def idle_settings(settings: Settings, sources: Mapping[str, str]) -> Iterator[str]:
    """Settings that were given but have no effect beside the others."""
    openai = settings.openai
    if openai.temperature is not None and openai.dialect == "ga":
        yield "openai.temperature: has no effect: the GA interface has no temperature (the beta dialect does)"
    for name in ("transfer_to", "transfer_by"):
        if getattr(openai, name) is not None:
            yield f"openai.{name}: has no effect yet: this version does not transfer calls"
    if not settings.sip.enabled:
        yield "sip.enabled: nothing answers calls: there is no other front end"
    if openai.turn_detection_type != "server_vad":
        for name in SERVER_VAD_ONLY:
            if sources[f"openai.{name}"] != "default":
                yield f'openai.{name}: has no effect with turn_detection_type = "{openai.turn_detection_type}"'
