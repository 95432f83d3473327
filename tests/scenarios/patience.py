"""What scenarios of silence have in common: a polite model, and how to hear it out."""

from __future__ import annotations

from typing import Final

from aivc.config.settings import OpenAISettings
from aivc.testing import Context, Part, PhoneCall, Say, Script, decided, speech
from scenarios.barge_in import SHORT

DEFAULTS: Final = OpenAISettings()
HELLO: Final = speech(0.6, pitch_hz=210.0, seed=21)
STILL_THERE: Final = speech(0.4, pitch_hz=210.0, seed=22)
GOODBYE: Final = speech(1.0, pitch_hz=210.0, seed=23)
YES: Final = speech(0.3, seed=24)


def polite() -> Script:
    """Greets, asks, says goodbye, and answers: by what it is told to do, or by the silence that the server noticed."""

    def respond(context: Context) -> list[Part]:
        told = context.instructions or ""
        if DEFAULTS.farewell_message in told:
            return [Say("Goodbye.", audio=GOODBYE)]
        if DEFAULTS.idle_message in told or context.trigger == "idle":
            return [Say("Are you still there?", audio=STILL_THERE)]
        return [Say("Hello.", audio=HELLO)] if told else [Say("Well,", audio=SHORT)]

    return decided(respond)


async def hear_out(call: PhoneCall, times: int = 1) -> None:
    """Listen until the model has said something, so many times."""
    for _ in range(times):
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.5)
