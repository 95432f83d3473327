"""Kinds of call of which recordings are made and replayed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import attrs
import trio
from flight_parts import Live, flight_in_virtual_time, talk
from scenarios.world import NO_FAULTS, NUMBER, SETTINGS, changed

from aivc import Settings, tool
from aivc.flight.entries import Flight
from aivc.testing import (
    CallRefused,
    CallTool,
    FakeModel,
    Faults,
    Phone,
    Say,
    Script,
    Transfers,
    decided,
    scripted,
    speech,
)
from aivc.testing.script import Context, Part

HELLO: Final = speech(2.0, pitch_hz=210.0, seed=1)
LONG: Final = speech(3.0, pitch_hz=210.0, seed=1)
ANSWER: Final = speech(0.7, pitch_hz=210.0, seed=3)
QUESTION: Final = speech(0.4, seed=4)


@tool
async def opening_hours(day: str) -> str:
    """When the shop is open."""
    await trio.sleep(0.3)
    return f"{day}: nine to six"


def shop() -> Script:
    """Greets, and answers every turn or key alike."""

    def respond(context: Context) -> list[Part]:
        if context.turns or context.texts:
            return [Say("Yes.", audio=ANSWER)]
        return [Say("Hello, this is the shop.", audio=HELLO)]

    return decided(respond)


async def asks(phone: Phone, _model: FakeModel) -> None:
    async with phone.dial(NUMBER) as call:
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)
        call.handset.say(QUESTION)
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.5)


async def interrupts(phone: Phone, _model: FakeModel) -> None:
    async with phone.dial(NUMBER) as call:
        await call.handset.wait_speech(0.75)
        call.handset.say(QUESTION)
        await call.handset.wait_silence(0.3)
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)


async def waits_for_bye(phone: Phone, _model: FakeModel) -> None:
    async with phone.dial(NUMBER, transfers=Transfers(progress=(100, 180, 200), delay=0.5)) as call:
        await call.wait_hung_up()


async def holds(phone: Phone, _model: FakeModel) -> None:
    async with phone.dial(NUMBER) as call:
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)
        await call.hold("inactive")
        call.handset.muted = True
        await trio.sleep(1.5)
        call.handset.muted = False
        await call.resume()
        call.handset.say(QUESTION)
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)


async def presses(phone: Phone, _model: FakeModel) -> None:
    async with phone.dial(NUMBER) as call:
        await call.handset.wait_speech(0.5)
        call.handset.press("42#")
        await call.handset.wait_pressed()
        await call.handset.wait_silence(1.0)


async def loses_the_model(phone: Phone, model: FakeModel) -> None:
    async with phone.dial(NUMBER) as call:
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)
        model.sessions[0].drop()
        await trio.sleep(1.0)
        call.handset.say(QUESTION)
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)


async def is_refused(phone: Phone, _model: FakeModel) -> None:
    with suppress(CallRefused):
        async with phone.dial(NUMBER):
            pass


@attrs.frozen
class Kind:
    """One kind of call."""

    script: Script
    live: Live
    settings: Settings = SETTINGS
    faults: Faults = NO_FAULTS
    speed: float = 5.0

    def flight(self, *, is_kept: bool = False, opensips: bool = False) -> Flight:
        return flight_in_virtual_time(
            self.script,
            self.live,
            self.settings,
            is_kept=is_kept,
            opensips=opensips,
            faults=self.faults,
            tools=(opening_hours,),
            speed=self.speed,
        )


TRANSFER: Final = changed(openai={"transfer_to": "sip:sales@192.0.2.40"})

KINDS: Final[dict[str, Callable[[], Kind]]] = {
    "a talk": partial(Kind, shop(), asks),
    "an interruption": partial(
        Kind, scripted([[Say("A long story.", audio=LONG)], [Say("Yes.", audio=ANSWER)]]), interrupts, speed=100.0
    ),
    "a tool": partial(
        Kind, scripted([[CallTool("opening_hours", {"day": "Monday"})], [Say("It is so.", audio=ANSWER)]]), talk
    ),
    "a hang-up": partial(Kind, scripted([[Say("Goodbye.", audio=ANSWER), CallTool("terminate_call")]]), waits_for_bye),
    "a transfer": partial(
        Kind, scripted([[Say("One moment.", audio=ANSWER), CallTool("transfer_call")]]), waits_for_bye, TRANSFER
    ),
    "a hold": partial(Kind, shop(), holds),
    "keys": partial(Kind, shop(), presses),
    "a lost session": partial(Kind, shop(), loses_the_model),
    "a refusal": partial(Kind, shop(), is_refused, faults=Faults(refuse_upgrade=401)),
}
