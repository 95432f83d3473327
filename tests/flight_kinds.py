"""Kinds of call, each recorded in virtual time by the flight recorder, to be shown and replayed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, Final

import attrs
import trio
import trio.testing
from recorder_parts import flights, recording
from scenarios.front_ends import FRONT_END, FrontEndName
from scenarios.world import NO_FAULTS, NUMBER, PHONE6, SERVICE, SERVICE6, SETTINGS, World, changed, only_one, open_world

from aivc import Secret, Settings, tool
from aivc.config.telephony import SipUser
from aivc.flight.entries import Flight
from aivc.testing import (
    CallRefused,
    CallTool,
    Faults,
    Phone,
    Say,
    Script,
    Transfers,
    decided,
    open_phone,
    scripted,
    speech,
)
from aivc.testing.credentials import Credentials
from aivc.testing.script import Context, Part

HELLO: Final = speech(2.0, pitch_hz=210.0, seed=1)
LONG: Final = speech(3.0, pitch_hz=210.0, seed=1)
ANSWER: Final = speech(0.7, pitch_hz=210.0, seed=3)
QUESTION: Final = speech(0.4, seed=4)

Live = Callable[[World], Awaitable[None]]


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


async def asks(world: World) -> None:
    async with world.dial() as call:
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)
        call.handset.say(QUESTION)
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.5)


async def listens(world: World) -> None:
    async with world.dial() as call:
        await call.handset.wait_speech(0.5)
        await call.handset.wait_silence(0.3)


async def interrupts(world: World) -> None:
    async with world.dial() as call:
        await call.handset.wait_speech(0.75)
        call.handset.say(QUESTION)
        await call.handset.wait_silence(0.3)
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)


async def waits_for_bye(world: World) -> None:
    async with world.dial(transfers=Transfers(progress=(100, 180, 200), delay=0.5)) as call:
        await call.wait_hung_up()


async def holds(world: World) -> None:
    async with world.dial() as call:
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


async def presses(world: World) -> None:
    async with world.dial() as call:
        await call.handset.wait_speech(0.5)
        call.handset.press("42#")
        await call.handset.wait_pressed()
        await call.handset.wait_silence(1.0)


async def loses_the_model(world: World) -> None:
    async with world.dial() as call:
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)
        world.model.sessions[0].drop()
        await trio.sleep(1.0)
        call.handset.say(QUESTION)
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)


async def asks_over(phone: AbstractAsyncContextManager[Phone]) -> None:
    async with phone as calling, calling.dial(NUMBER) as call:
        await call.handset.wait_speech(0.5)
        await call.handset.wait_silence(0.3)


async def calls_over_tcp(_world: World) -> None:
    await asks_over(open_phone(OTHER, transport="tcp"))


async def proves_who_calls(_world: World) -> None:
    await asks_over(open_phone(OTHER, credentials=Credentials("trunk", "secret-of-trunk")))


async def calls_over_ipv6(_world: World) -> None:
    async with open_phone(PHONE6) as phone, phone.dial(f"sip:1000@[{SERVICE6}]:5060") as call:
        await call.handset.wait_speech(0.5)
        await call.handset.wait_silence(0.3)


async def is_refused(world: World) -> None:
    with suppress(CallRefused):
        async with world.dial():
            pass


@attrs.frozen
class Kind:
    """One kind of call."""

    script: Script
    live: Live
    settings: Settings = SETTINGS
    faults: Faults = NO_FAULTS
    speed: float = 5.0

    def flight(self, folder: Path, front_end: FrontEndName = "sip", **recorder: Any) -> Flight:
        """Live through it in a trio run of its own; its recording. `recorder`: settings of it, nothing masked."""

        async def run() -> None:
            settings = recording(folder, self.settings, **({"mask": ()} | recorder))
            more: dict[str, Any] = {"faults": self.faults, "tools": (opening_hours,), "speed": self.speed}
            try:
                async with open_world(self.script, settings=settings, **more) as world:
                    await self.live(world)
            except BaseExceptionGroup as group:
                raise only_one(group) from None

        clock, token = trio.testing.MockClock(autojump_threshold=0), FRONT_END.set(front_end)
        try:
            trio.run(run, clock=clock)
        finally:
            FRONT_END.reset(token)
        (flight,) = flights(folder)
        return flight


OTHER: Final = "192.0.2.30"
SIP_KINDS: Final[dict[str, Kind]] = {  # what OpenSIPS does by itself
    "over TCP": Kind(shop(), calls_over_tcp, changed(sip={"listen": (f"tcp:{SERVICE}:5060",)})),
    "over IPv6": Kind(
        shop(), calls_over_ipv6, changed(sip={"listen": (f"udp:[{SERVICE6}]:5060",)}, rtp={"bind_ipv6": SERVICE6})
    ),
    "with a password": Kind(
        shop(), proves_who_calls, changed(sip={"users": (SipUser(name="trunk", password=Secret("secret-of-trunk")),)})
    ),
}
TRANSFER: Final = changed(openai={"transfer_to": "sip:sales@192.0.2.40"})
STORY: Final[list[list[Part]]] = [[Say("A long story.", audio=LONG)], [Say("Yes.", audio=ANSWER)]]
ASKING: Final[list[list[Part]]] = [[CallTool("opening_hours", {"day": "Monday"})], [Say("It is so.", audio=ANSWER)]]

KINDS: Final[dict[str, Kind]] = {
    "a talk": Kind(shop(), asks),
    "an interruption": Kind(scripted(STORY), interrupts, speed=100.0),
    "a tool": Kind(scripted(ASKING), listens),
    "a hang-up": Kind(scripted([[Say("Goodbye.", audio=ANSWER), CallTool("terminate_call")]]), waits_for_bye),
    "a transfer": Kind(scripted([[Say("Wait.", audio=ANSWER), CallTool("transfer_call")]]), waits_for_bye, TRANSFER),
    "a hold": Kind(shop(), holds),
    "keys": Kind(shop(), presses),
    "a lost session": Kind(shop(), loses_the_model),
    "a refusal": Kind(shop(), is_refused, faults=Faults(refuse_upgrade=401)),
}
