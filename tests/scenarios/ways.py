"""A way in which a call can end: what happens, and all that must be seen of it from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from aivc import Ending, Settings
from aivc.realtime.tools import Tool
from aivc.testing import CallTool, Faults, PhoneCall, Say, Script, VirtualNetwork, decided, speech
from aivc.testing.script import Context, Part
from scenarios.front_ends import FrontEndName
from scenarios.world import NO_FAULTS, RTP_PORT, changed

if TYPE_CHECKING:
    from scenarios.arena import Arena

HELLO: Final = speech(0.2, pitch_hz=210.0, seed=71)
SCHEDULES: Final = 20
FEW: Final = 4
QUARANTINE: Final = 5.0  # seconds
AT_ONCE: Final = 50.0  # speed of a model that has generated everything before it is heard

# One port for the calls, so that the next one cannot have it before its quarantine is over.
SHORT: Final = changed(
    openai={"close_seconds": 0.5, "reconnect": False},
    service={"drain_seconds": 0.0},
    rtp={"quarantine_seconds": QUARANTINE, "min_port": RTP_PORT, "max_port": RTP_PORT + 1},
)

# What the caller's telephone does or sees.
Seen = Literal["hangs up", "is hung up on", "both hang up", "is refused", "cancels", "is left alone"]

RINGS: Final = Faults(session_updated_seconds=inf)  # the model is never ready


def greets(context: Context) -> list[Part]:
    """Says hello, and nothing else."""
    return [] if context.responses else [Say("Hello.", audio=HELLO)]


GREETER: Final = decided(greets)
GOODBYE: Final[list[Part]] = [Say("Goodbye.", audio=HELLO), CallTool("terminate_call")]


@attrs.frozen(kw_only=True, eq=False)
class Way:
    """One way to end.

    Args:
      name: of its test.
      happens: the same as a sentence, for docs/endings.md.
      ending, detail: of the record, the latter in part; None: no call came about, and there is no record.
      or_else: another ending that it has under some orders of tasks.
      sees: what the telephone does and sees at the end.
      status: of the refusal, where it is another one than that of the ending.
      says: what the Reason of our BYE or refusal has, where it is another text than that of the ending; "": anything.
      logged: the names of all events at error level.
      live: makes the call, has it end and returns it.
      only: the front end that it makes sense with, and why not with the other one.
      others: the endings of further calls.
      blunders: it makes us break the model's rules.
      excused: what OpenSIPS refuses because it crosses what happens there, as `scenarios.behind.told` names it.
      schedules: under how many orders of tasks it is lived through; fewer where it takes long.
      network: what carries it all.
      model, opensips: arguments of `FakeModel` and `open_fake_opensips`.
    """

    name: str
    happens: str
    ending: Ending | None
    sees: Seen
    live: Callable[[Arena], Awaitable[PhoneCall]]
    detail: str = ""
    or_else: Ending | None = None
    status: int | None = None
    says: str | None = None
    logged: tuple[str, ...] = ()
    only: tuple[FrontEndName, str] | None = None
    settings: Settings = SHORT
    script: Script = GREETER
    faults: Faults = NO_FAULTS
    model: Mapping[str, Any] = {}
    opensips: Mapping[str, Any] = {}
    tools: tuple[Tool, ...] = ()
    others: tuple[Ending, ...] = ()
    blunders: bool = False
    excused: tuple[str, ...] = ()
    schedules: int = SCHEDULES
    network: type[VirtualNetwork] = VirtualNetwork

    def makes_sense_with(self, front_end: FrontEndName) -> bool:
        return self.only is None or self.only[0] == front_end


async def talk(arena: Arena, **more: Any) -> PhoneCall:
    """Call, hear the model, and hang up."""
    async with arena.dial(**more) as call:
        await call.handset.wait_speech()
    return call


async def be_hung_up_on(arena: Arena, **more: Any) -> PhoneCall:
    """Call, and talk until the other side hangs up."""
    async with arena.dial(**more) as call:
        await call.wait_hung_up()
    return call


async def be_refused(arena: Arena, **more: Any) -> PhoneCall:
    """Call, and never be answered."""
    async with arena.ring(**more) as call:
        await call.wait_over()
    return call
