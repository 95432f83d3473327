"""Kinds of telephone calls, each with what its caller does, what its model does, and how it may end."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal

import attrs
import trio

from aivc import Ending
from aivc.config.settings import Codec
from aivc.testing import (
    CallRefused,
    CallTool,
    Chaos,
    Crossing,
    Faults,
    Phone,
    PhoneCall,
    Say,
    Script,
    Transfers,
    VirtualNetwork,
    decided,
    speech,
)
from aivc.testing.script import Context, Part

Front = Literal["sip", "opensips"]

HELLO: Final = speech(0.3, pitch_hz=210.0, seed=71)
STORY: Final = speech(3.0, pitch_hz=210.0, seed=72)
WORDS: Final = speech(0.3, seed=73)
TARGET: Final = "sip:support@192.0.2.77"
DELAY: Final = 0.005  # seconds, one way, unless a call has troubles of its own


@attrs.frozen(kw_only=True)
class Model:
    """One fake model: who calls its number talks to it."""

    respond: Callable[[Context], list[Part]]
    faults: Faults = attrs.field(factory=Faults)

    @property
    def script(self) -> Script:
        return decided(self.respond)


def talk(context: Context) -> list[Part]:
    return [Say("Hello.", audio=HELLO)]


def tell(context: Context) -> list[Part]:
    return [Say("Once upon a time.", audio=HELLO if context.turns else STORY)]


def look_up(context: Context) -> list[Part]:
    if context.turns and not context.outputs:
        return [CallTool("opening_hours")]
    return [Say("Hm.", audio=HELLO)]


def leave(context: Context) -> list[Part]:
    return [Say("Goodbye.", audio=HELLO), CallTool("terminate_call")]


def connect(context: Context) -> list[Part]:
    return [Say("I connect you.", audio=HELLO), CallTool("transfer_call")]


MODELS: Final[dict[str, Model]] = {
    "talker": Model(respond=talk),
    "teller": Model(respond=tell),
    "looker": Model(respond=look_up),
    "leaver": Model(respond=leave),
    "connector": Model(respond=connect),
    "refuser": Model(respond=talk, faults=Faults(refuse_upgrade=503)),
    "slow": Model(respond=talk, faults=Faults(session_updated_seconds=60.0)),
    "dropper": Model(respond=tell, faults=Faults(drop_after_deltas=2)),
    "closer": Model(respond=tell, faults=Faults(close_after_deltas=3)),
    "stormy": Model(respond=talk, faults=Faults(error_storm=3, code_null=True)),
    "clumsy": Model(respond=look_up, faults=Faults(broken_arguments=True, delta_after_done=True)),
    "broke": Model(respond=talk, faults=Faults(fail_responses="insufficient_quota")),
}


@attrs.define(eq=False)
class Caller:
    """Who makes one call; everything about it follows from the seed and its number."""

    number: int
    kind: Kind
    dice: random.Random
    front: Front
    dialect: Literal["ga", "beta"]
    codec: Codec
    ptime_ms: int
    chaos: Chaos
    network: VirtualNetwork
    phone: Phone
    uri: str

    def dial(self, **options: Any) -> AbstractAsyncContextManager[PhoneCall]:
        return self.phone.dial(self.uri, codec=self.codec, ptime_ms=self.ptime_ms, **options)

    async def pause(self, most: float) -> None:
        await trio.sleep(self.dice.uniform(0, most))


async def hang_up_at_once(caller: Caller) -> None:
    async with caller.dial():
        await caller.pause(0.1)


async def listen(caller: Caller) -> None:
    async with caller.dial() as call:
        await call.handset.wait_speech(caller.dice.uniform(0, 0.2))


async def converse(caller: Caller) -> None:
    async with caller.dial() as call:
        await call.handset.wait_speech(0.3)
        call.handset.say(WORDS)
        await call.handset.wait_said()
        await call.handset.wait_speech(caller.dice.uniform(0, 0.2))


async def interrupt(caller: Caller) -> None:
    async with caller.dial() as call:
        await call.handset.wait_speech(caller.dice.uniform(0.1, 0.5))
        call.handset.say(WORDS)
        await call.handset.wait_said()
        await call.handset.wait_silence(0.2)
        await call.handset.wait_speech(0.1)
        assert len(call.handset.speech_heard()) < len(STORY)


async def hold(caller: Caller) -> None:
    async with caller.dial() as call:
        await call.handset.wait_speech(0.1)
        assert (await call.hold(caller.dice.choice(("sendonly", "inactive", "0.0.0.0")))).status == 200
        await caller.pause(0.3)
        assert (await call.resume()).status == 200
        await caller.pause(0.1)


async def press_keys(caller: Caller) -> None:
    async with caller.dial() as call:
        await call.handset.wait_speech(0.1)
        if caller.dice.random() < 0.5:
            call.handset.press("42#")
            await call.handset.wait_pressed()
        else:
            assert (await call.info_digit("5")).status == 200
        await caller.pause(0.2)


async def wait_for_bye(caller: Caller) -> None:
    async with caller.dial() as call:
        await call.wait_hung_up()


async def be_transferred(caller: Caller) -> None:
    async with caller.dial(transfers=Transfers(progress=(100, 200), delay=0.1, then_bye=True)) as call:
        await call.wait_over()


async def be_transferred_in_vain(caller: Caller) -> None:
    async with caller.dial(transfers=Transfers(answer=caller.dice.choice((405, 603)))) as call:
        await call.handset.wait_speech(0.3)
        await caller.pause(0.4)


async def be_refused(caller: Caller) -> None:
    try:
        async with caller.dial():
            pass
    except CallRefused:
        return
    raise AssertionError("the call was answered")


async def give_up_ringing(caller: Caller) -> None:
    async with caller.phone.ring(caller.uri, codec=caller.codec):
        await caller.pause(0.5)


async def stay_or_lose(caller: Caller) -> None:
    """Whatever the model does: listen for a while, and be gone then."""
    try:
        async with caller.dial() as call:
            with trio.move_on_after(caller.dice.uniform(0.5, 2.5)):
                await call.wait_hung_up()
    except CallRefused:
        pass


async def cross(caller: Caller) -> None:
    async with caller.dial() as call:
        with trio.move_on_after(3.0):
            await call.wait_over()


async def endure(caller: Caller) -> None:
    """A call with troubles: what is heard is the scenarios' business, here it need only end well."""
    async with caller.dial() as call:
        await caller.pause(0.8)
        call.handset.say(WORDS)
        await call.handset.wait_said()
        await caller.pause(0.8)


async def vanish(caller: Caller) -> None:
    async with caller.dial() as call:
        await call.handset.wait_speech(0.1)
        caller.network.hosts[caller.phone.address[0]] = Chaos(loss=1.0)


async def acknowledge_nothing(caller: Caller) -> None:
    async with caller.dial(acknowledge=False) as call:
        await call.wait_hung_up()


def calm(dice: random.Random) -> Chaos:
    return Chaos(delay=DELAY)


def troubled(dice: random.Random) -> Chaos:
    return Chaos.drawn(dice.randrange(1 << 30), seconds=2.0)


def crossing(*pairs: Crossing) -> Callable[[random.Random], Chaos]:
    return lambda dice: Chaos(delay=dice.uniform(0.005, 0.05), crossings=(dice.choice(pairs),))


CALLER: Final = frozenset({Ending.CALLER_HUNG_UP})
NONE: Final = frozenset[Ending]()
# TRANSFERRED: who hangs up while our REFER is on its way may have left for its target; `transfer_to` is also where
# callers go whose model is lost.
LOST: Final = frozenset(
    {Ending.CALLER_HUNG_UP, Ending.REALTIME_LOST, Ending.REALTIME_FATAL, Ending.REALTIME_SILENT, Ending.TRANSFERRED}
)


@attrs.frozen
class Kind:
    """One kind of call.

    Args:
      weight: how often it is drawn.
      live: the caller's part.
      model: the name of its model.
      endings: one of them is in the record; none: there is no record, as the call was never taken.
      may_lack: there may be no record: whether the call was taken before the caller gave up is a matter of moments.
      chaos: drawn for each call.
      only: the front end; None: either.
    """

    name: str
    weight: int
    live: Callable[[Caller], Awaitable[None]]
    model: str = "talker"
    endings: frozenset[Ending] = CALLER
    may_lack: bool = False
    chaos: Callable[[random.Random], Chaos] = calm
    only: Front | None = None


KINDS: Final = (
    Kind("hangs up at once", 300, hang_up_at_once),
    Kind("listens", 240, listen),
    Kind("converses", 80, converse),
    Kind("interrupts", 50, interrupt, "teller"),
    Kind("asks for a tool", 50, converse, "looker"),
    Kind("asks for a tool in vain", 10, stay_or_lose, "clumsy"),
    Kind("is held", 40, hold),
    Kind("presses keys", 40, press_keys),
    Kind("hears goodbye", 60, wait_for_bye, "leaver", frozenset({Ending.MODEL_HUNG_UP})),
    Kind("is transferred", 30, be_transferred, "connector", frozenset({Ending.TRANSFERRED})),
    Kind("is not transferred", 10, be_transferred_in_vain, "connector", CALLER | {Ending.TRANSFERRED}),
    Kind("finds no model", 40, be_refused, "refuser", frozenset({Ending.REALTIME_REFUSED})),
    Kind("calls a wrong number", 20, be_refused, "nobody", NONE),
    Kind("gives up", 50, give_up_ringing, "slow", frozenset({Ending.CALLER_CANCELLED}), may_lack=True),
    Kind("loses the model", 15, stay_or_lose, "dropper", LOST),
    Kind("is left by the model", 15, stay_or_lose, "closer", LOST),
    Kind("hears of errors", 10, stay_or_lose, "stormy", LOST),
    Kind("has not paid", 10, stay_or_lose, "broke", LOST),
    Kind("has a bad line", 40, endure, chaos=troubled),
    Kind(
        "crosses our BYE",
        20,
        cross,
        "leaver",
        frozenset({Ending.MODEL_HUNG_UP}),
        chaos=crossing(Crossing("BYE", "BYE"), Crossing("INVITE", "BYE"), Crossing("UPDATE", "BYE")),
        only="sip",
    ),
    Kind(
        "cancels when we answer",
        20,
        cross,
        "talker",
        frozenset({Ending.CALLER_HUNG_UP, Ending.CALLER_CANCELLED}),
        chaos=crossing(Crossing("CANCEL", "200")),
        only="sip",
    ),
    Kind("vanishes", 2, vanish, "talker", frozenset({Ending.MEDIA_TIMEOUT}), only="sip"),
    Kind("never acknowledges", 2, acknowledge_nothing, "talker", frozenset({Ending.ACK_MISSING}), only="sip"),
)
