"""What scenarios behind OpenSIPS have in common: what it was told, what the phone got, and a second service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, Final, Literal

import attrs
import pytest
import trio

from aivc import CallEvent, CallRecord, Service, Settings, open_service
from aivc.media.clock import TaskClock
from aivc.nursery.record import OBSERVER_EVENTS, Ended
from aivc.sip.message import Request
from aivc.testing import FakeOpenSips, PhoneCall, Say, Script, connect_to, decided, speech
from aivc.testing.schema import Json
from aivc.testing.script import Context, Part
from scenarios.world import NOON, RTP_PORT, World, behind_opensips, changed, in_dialect, only_one, received

FEW_SCHEDULES: Final = pytest.mark.parametrize("any_schedule", [0, 7, 12, 19], indirect=True)  # it takes long
HELLO: Final = speech(1.0, pitch_hz=210.0, seed=61)
LOST: Final = "OpenSIPS does not have the session any more"

ROOMY: Final = changed(rtp={"max_port": RTP_PORT + 9, "quarantine_seconds": 0.0})  # for several calls

Told = Callable[[Json], bool]


def greeter() -> Script:
    """Greets everybody once, and listens then."""

    def respond(context: Context) -> list[Part]:
        return [] if context.turns else [Say("Hello.", audio=HELLO)]

    return decided(respond)


def opensips_of(world: World) -> FakeOpenSips:
    assert world.opensips is not None
    return world.opensips


def told(opensips: FakeOpenSips) -> list[str]:
    """The commands about sessions, in order, each as `INVITE 200`, `BYE` or `terminate`."""
    found = []
    for command in opensips.commands:
        params = command.params
        match command.method:
            case "ua_session_reply":
                found.append(f"{params['method']} {params['code']}")
            case "ua_session_update":
                found.append(params["method"])
            case "ua_session_terminate":
                found.append("terminate")
            case _:
                pass
    return found


def command(name: str, method: str | None = None, code: int | None = None) -> Told:
    """Concerns these commands, and the answers to them: `command("reply", "INVITE", 200)`."""

    def concerns(call: Json) -> bool:
        params = call.get("params", {})
        is_named = call["method"] == f"ua_session_{name}"
        return is_named and method in (None, params.get("method")) and code in (None, params.get("code"))

    return concerns


def event(event_type: str, method: str | None = None) -> Told:
    """Concerns these events."""
    return lambda params: params["event_type"] == event_type and method in (None, params["method"])


def byes(call: PhoneCall) -> list[Request]:
    """The other side's BYEs, copies not counted."""
    return list({each.cseq.number: each for each in call.requests if each.method == "BYE"}.values())


def reason(call: PhoneCall) -> str:
    """What the only BYE said (RFC 3326)."""
    (bye,) = byes(call)
    return bye.header("Reason")


def statuses(call: PhoneCall) -> list[int]:
    """Of all responses to INVITEs, in order, copies not counted."""
    found = {(each.cseq.number, each.status): each.status for each in call.responses}
    return list(found.values())


def check_pace(call: PhoneCall, since: float = 0.0) -> None:
    """Audio came in time, packet by packet."""
    times = [packet.at for packet in call.handset.heard if packet.at >= since]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) == pytest.approx(0.020, abs=1e-6) == max(gaps)


async def until_over(world: World) -> float:
    """When the service has no calls any more."""
    while world.service.calls:  # noqa: ASYNC110 - a fake clock makes polling cheap
        await trio.sleep(0.02)
    return trio.current_time()


@attrs.define(eq=False)
class Another:
    """A service beside that of the world, or after it."""

    service: Service
    _observed: trio.MemoryReceiveChannel[CallEvent]
    records: list[CallRecord] = attrs.field(factory=list)  # once it has ended

    def note_records(self) -> None:
        events = received(self._observed)
        self.records += [event.what.record for event in events if isinstance(event.what, Ended)]


@asynccontextmanager
async def open_another(
    world: World, settings: Settings, dialect: Literal["ga", "beta"] = "ga", **more: Any
) -> AsyncIterator[Another]:
    """Another service at the same OpenSIPS, with the same model."""
    observer, observed = trio.open_memory_channel[CallEvent](OBSERVER_EVENTS)
    try:
        async with open_service(
            in_dialect(behind_opensips(settings), dialect),
            connect=connect_to(world.model),
            clock=TaskClock(),
            observer=observer,
            wall_clock=lambda: NOON,
            **more,
        ) as service:
            another = Another(service, observed)
            yield another
    except BaseExceptionGroup as group:
        raise only_one(group) from None
    another.note_records()
