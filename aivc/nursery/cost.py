"""What the tokens of a call cost, by the prices that the settings give; no price is known here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aivc.realtime.usage import UsageTotals

PER: Final = 1_000_000  # tokens that a price is for


def cost(usage: UsageTotals | None, prices: Mapping[str, float]) -> float | None:
    """Return USD, or None where there is no usage or no price.

    Cached tokens are a part of the input, and OpenAI's totals do not say of which: they are taken from audio and text
    in proportion, and cost `input_cached`; without that price they cost what other input costs. Any other kind without
    a price costs nothing. Tokens of the transcription model are not in it.

    Args:
      prices: USD per million tokens: input_audio, input_text, input_cached, output_audio, output_text.
    """
    if usage is None or not prices:
        return None
    inputs = usage.input_audio + usage.input_text
    cached = min(usage.input_cached, inputs) if "input_cached" in prices else 0
    uncached = 1.0 if inputs == 0 else 1.0 - cached / inputs
    tokens = {
        "input_audio": usage.input_audio * uncached,
        "input_text": usage.input_text * uncached,
        "input_cached": cached,
        "output_audio": usage.output_audio,
        "output_text": usage.output_text,
    }
    return sum(count * prices.get(kind, 0.0) for kind, count in tokens.items()) / PER
