"""Calls that end while a tool is at work, or by what it does: transfers first of all."""

from __future__ import annotations

import threading
from typing import Any, Final

import trio

from aivc import Ending, ToolContext, tool
from aivc.testing import CallTool, PhoneCall, Say, Transfers, decided
from aivc.testing.script import Context, Part, Script
from scenarios.arena import Arena
from scenarios.ways import AT_ONCE, HELLO, SHORT, Seen, Way, be_hung_up_on, talk
from scenarios.world import changed

SUPPORT: Final = "sip:support@example.com"
TRANSFERS: Final = changed(SHORT, openai={"transfer_to": SUPPORT, "transfer_seconds": 1.0, "farewell_seconds": 0.5})


def calls(name: str) -> Script:
    """A model that calls this tool, and speaks when it has returned."""

    def respond(context: Context) -> list[Part]:
        return [Say("So.", audio=HELLO)] if context.responses else [CallTool(name)]

    return decided(respond)


# Transfers


async def leave_for_it(arena: Arena) -> PhoneCall:
    """BYE instead of the NOTIFY that would tell of the answer."""
    async with arena.dial(transfers=Transfers(progress=(100,), delay=0.05, forget_end=True, then_bye=True)) as call:
        await call.wait_over()
    return call


async def be_transferred(arena: Arena) -> PhoneCall:
    return await be_hung_up_on(arena, transfers=Transfers(delay=0.05))


async def race(arena: Arena) -> PhoneCall:
    """BYE crosses the REFER."""
    async with arena.dial(transfers=Transfers(answer=None, progress=())) as call:
        await call.wait_referral()
    return call


async def refuse(arena: Arena) -> PhoneCall:
    return await talk(arena, transfers=Transfers(answer=603))


async def fail_to_reach(arena: Arena) -> PhoneCall:
    return await talk(arena, transfers=Transfers(progress=(100, 486), delay=0.05))


async def say_nothing_of_it(arena: Arena) -> PhoneCall:
    return await talk(arena, transfers=Transfers(answer=None, progress=()))


def transfer(name: str, happens: str, ending: Ending, live: Any, **more: Any) -> Way:
    seen: Seen = "hangs up" if live is not be_transferred else "is hung up on"
    return Way(
        name=name,
        happens=happens,
        ending=ending,
        sees=seen,
        live=live,
        settings=TRANSFERS,
        script=calls("transfer_call"),
        **more,
    )


# Other tools


@tool
async def hang() -> None:
    """Never return."""
    await trio.sleep_forever()


@tool
async def blunder() -> None:
    """Have a bug."""
    raise LookupError("no such customer")


@tool
async def leave() -> None:
    """Want to end the whole process."""
    raise SystemExit(1)


@tool
async def give_up(context: ToolContext) -> None:
    """End the call."""
    context.hang_up()


@tool(finish=True)
async def book() -> str:
    """Do what must be done even when the caller is gone."""
    await trio.sleep(1.0)
    return "booked"


LET_GO: Final = threading.Event()


@tool
def block() -> None:
    """Block a thread."""
    LET_GO.wait(10.0)


async def hang_up_meanwhile(arena: Arena) -> PhoneCall:
    async with arena.dial() as call:
        await (await arena.model.wait_session()).wait_sent("response.done")
        await trio.sleep(0.1)
    return call


async def hang_up_on_a_thread(arena: Arena) -> PhoneCall:
    """The thread goes on when the call is over, and keeps nothing of it but what the tool itself holds."""
    LET_GO.clear()
    try:
        call = await hang_up_meanwhile(arena)
        await arena.wait_over()
    finally:
        LET_GO.set()
    return call


TOOLS: Final = (
    Way(
        name="a tool hangs",
        happens="The caller hangs up while a tool runs that never returns: it is cancelled.",
        ending=Ending.CALLER_HUNG_UP,
        sees="hangs up",
        live=hang_up_meanwhile,
        script=calls("hang"),
        tools=(hang,),
    ),
    Way(
        name="a tool blocks a thread",
        happens="The caller hangs up while a tool blocks its thread: the call does not wait for it.",
        ending=Ending.CALLER_HUNG_UP,
        sees="hangs up",
        live=hang_up_on_a_thread,
        script=calls("block"),
        tools=(block,),
    ),
    Way(
        name="a tool must finish",
        happens="The caller hangs up while a tool with `finish=True` runs: the record waits for it.",
        ending=Ending.CALLER_HUNG_UP,
        sees="hangs up",
        live=hang_up_meanwhile,
        script=calls("book"),
        tools=(book,),
    ),
    Way(
        name="a tool has a bug",
        happens="A tool raises an exception: the model is told, and the call goes on until the caller hangs up.",
        ending=Ending.CALLER_HUNG_UP,
        sees="hangs up",
        live=talk,
        script=calls("blunder"),
        tools=(blunder,),
        logged=("tool.failed",),
    ),
    Way(
        name="a tool wants to end the process",
        happens="A tool calls `sys.exit()`: it has failed, and the call goes on until the caller hangs up.",
        ending=Ending.CALLER_HUNG_UP,
        sees="hangs up",
        live=talk,
        script=calls("leave"),
        tools=(leave,),
        logged=("tool.failed",),
    ),
    transfer(
        "the transfer is refused",
        "The telephone refuses the REFER: the model is told, and the call goes on until the caller hangs up.",
        Ending.CALLER_HUNG_UP,
        refuse,
    ),
    transfer(
        "the target does not answer",
        "The target of the transfer is busy: the model is told, and the call goes on until the caller hangs up.",
        Ending.CALLER_HUNG_UP,
        fail_to_reach,
    ),
    transfer(
        "nothing is heard of the transfer",
        "Nothing is heard of the transfer for `openai.transfer_seconds`: the model is told, and the call goes on until"
        " the caller hangs up.",
        Ending.CALLER_HUNG_UP,
        say_nothing_of_it,
    ),
    transfer(
        "the transfer succeeds",
        "The model calls `transfer_call`, and the target answers.",
        Ending.TRANSFERRED,
        be_transferred,
        detail=SUPPORT,
    ),
    transfer(
        "the caller leaves for the target",
        "The telephone sends BYE when it has called the target, instead of a last NOTIFY.",
        Ending.TRANSFERRED,
        leave_for_it,
        detail="the caller left while the transfer was under way",
    ),
    transfer(
        "the caller hangs up before the transfer is answered",
        "BYE comes before any answer to the REFER, as some telephones have it.",
        Ending.TRANSFERRED,
        race,
        detail="the caller left while the transfer was under way",
    ),
    Way(
        name="a tool hangs up",
        happens="A tool of one's own calls `context.hang_up()`.",
        ending=Ending.MODEL_HUNG_UP,
        sees="is hung up on",
        live=be_hung_up_on,
        script=calls("give_up"),
        tools=(give_up,),
        model={"speed": AT_ONCE},
    ),
)
