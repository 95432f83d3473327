"""A whole call on paper whose model transfers it: a leg, a model, and ears at both ends of the audio."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import attrs
import trio
import trio.lowlevel
from call_parts import REMOTE
from paper_leg import CONSULTED, PaperConsultation, PaperLeg, paper_leg
from paper_stream import datagram

from aivc import CallRecord, OpenAISettings, RtpSettings, Settings, serve_call
from aivc.config.settings import Address
from aivc.media.clock import TaskClock
from aivc.media.sounds import parse_sound
from aivc.nursery.prompts import Prompts
from aivc.realtime.tools import Tool, load_registry
from aivc.sip.leg import HungUp, ReferOutcome
from aivc.testing import CallTool, FakeModel, Faults, Say, Script, VirtualNetwork, connect_to
from aivc.testing.script import Context, Part, decided

DESK: Final = "sip:desk@example.com"
ANNOUNCED: Final = b"\x31" * 8000  # 1 s
EXCUSED: Final = b"\x32" * 4000
ANSWERED_KEYS: Final = b"\x33" * 4000
MUSIC: Final = b"\x10" * 8000
JOINED: Final = ReferOutcome(200, "OK", accepted=True)
BUSY: Final = ReferOutcome(486, "Busy Here", accepted=True)
NO_FAULTS: Final = Faults()
SETTINGS: Final = Settings(
    openai=OpenAISettings(
        url="ws://model.test/v1/realtime",
        model="gpt-realtime-2.1",
        welcome_message="Hello.",
        transfer_to=DESK,
        transfer_attended=True,
        transfer_seconds=5.0,
        transfer_ring_seconds=10.0,
    ),
    rtp=RtpSettings(bind_ip="192.0.2.1"),
)


def respond(context: Context) -> Sequence[Part]:
    """One session transfers the call at once and excuses a failure; the other, without functions, announces it."""
    if not context.tools:
        return [Say("Alice is calling.", audio=ANNOUNCED)]
    if context.outputs:
        return [Say("Nobody is there.", audio=EXCUSED)]
    if context.texts:
        return [Say("You pressed keys.", audio=ANSWERED_KEYS)]
    return [Say("One moment.", seconds=0.5), CallTool("transfer_call")] if context.responses == 0 else []


@attrs.define(eq=False)
class Ear:
    """A telephone's RTP socket."""

    address: Address
    payloads: list[bytes] = attrs.field(factory=list)
    speaks: bool = False  # one packet of voice for each that comes

    async def listen(self) -> None:
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
            await sock.bind(self.address)
            for sequence in itertools.count(1):
                packet, source = await sock.recvfrom(2048)
                self.payloads.append(packet[12:])
                if self.speaks:
                    await sock.sendto(datagram(sequence), source)

    @property
    def heard(self) -> bytes:
        """Everything but silence."""
        return b"".join(self.payloads).replace(b"\xff", b"")


@attrs.define(eq=False)
class Stage:
    """One call, its model, and who hears what."""

    leg: PaperLeg
    model: FakeModel
    caller: Ear = attrs.field(factory=lambda: Ear(REMOTE))
    target: Ear = attrs.field(factory=lambda: Ear(CONSULTED.remote))
    network: VirtualNetwork = attrs.field(factory=lambda: VirtualNetwork().enable())
    record: CallRecord | None = None

    @property
    def over(self) -> CallRecord:
        assert self.record is not None
        return self.record

    @property
    def referred(self) -> list[object]:
        return self.done("refer")

    def done(self, what: str) -> list[object]:
        """What the leg did of this kind, with the arguments."""
        return [done for done in self.leg.did if isinstance(done, tuple) and done[0] == what]

    async def wait_consulted(self) -> None:
        while not self.done("consult"):  # noqa: ASYNC110 - no event tells of it
            await trio.sleep(0.01)

    def hang_up(self) -> None:
        self.leg.events.tell(HungUp())


def stage(
    target: PaperConsultation | Exception | None = None,
    *outcomes: ReferOutcome,
    script: Script | None = None,
    faults: Faults = NO_FAULTS,
    announcer_faults: Faults = NO_FAULTS,
) -> Stage:
    """A call that is to be transferred; without outcomes no REFER is ever answered."""
    leg = paper_leg()
    leg.target, leg.outcomes = target, list(outcomes)
    chosen = script or decided(respond)
    model = FakeModel(chosen, require_key=False, faults=faults, later_faults=[announcer_faults], think_ms=50.0)
    return Stage(leg, model)


async def play(
    here: Stage,
    during: Callable[[Stage], Awaitable[None]],
    *,
    settings: Settings = SETTINGS,
    music: bool = False,
    tools: tuple[Tool, ...] = (),
    **more: Any,
) -> Stage:
    """Run the call; `during` runs beside it, and the caller hangs up after it if the call goes on."""
    registry = load_registry(settings.openai)
    for definition in tools:
        registry.add(definition)
    prompts = Prompts(hold=parse_sound(MUSIC, "PCMU") if music else None)
    given = {"connect": connect_to(here.model), "clock": TaskClock(), "tools": registry, "prompts": prompts, **more}

    async def happen() -> None:
        await during(here)
        here.hang_up()

    with trio.fail_after(200):
        async with here.model, trio.open_nursery() as nursery:
            nursery.start_soon(here.caller.listen)
            nursery.start_soon(here.target.listen)
            await trio.lowlevel.checkpoint()
            nursery.start_soon(happen)
            here.record = await serve_call(here.leg, settings, **given)
            nursery.cancel_scope.cancel()
    assert here.network.bound == {}  # all sockets of the call are closed
    return here


async def a_while(here: Stage) -> None:
    """Long enough for any of these calls."""
    await trio.sleep(45)
