"""What scenarios behind OpenSIPS have in common: what it was told, what the phone got, and a second service."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import pytest
import trio

from aivc.sip.message import Request
from aivc.testing import FakeOpenSips, PhoneCall, Say, Script, decided, speech
from aivc.testing.opensips import MiCommand
from aivc.testing.schema import Json
from aivc.testing.script import Context, Part
from scenarios.world import DELAY, RTP_PORT, World, changed

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
    return [name for each in opensips.commands if (name := brief(each))]


def brief(command: MiCommand) -> str:
    """As in `told`; "" for one about no session."""
    match command.method:
        case "ua_session_reply":
            return f"{command.params['method']} {command.params['code']}"
        case "ua_session_update":
            return str(command.params["method"])
        case "ua_session_terminate":
            return "terminate"
        case _:
            return ""


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


async def hear_refusal(call: PhoneCall) -> list[int]:
    """Wait until an INVITE was refused; the statuses that were heard."""
    await call.wait_over()
    await trio.sleep(2 * DELAY)
    return statuses(call)


def excuse(opensips: FakeOpenSips, *names: str) -> None:
    """Only these commands, named as by `told`, were refused: they crossed what OpenSIPS did meanwhile."""
    assert {brief(each) for each in opensips.commands if each.error is not None} <= set(names)
    found = opensips.judge.found
    found[:] = [each for each in found if not any(f" {name}: 500 Failed to send reply" in each for name in names)]
    opensips.was_troubled = True


async def until_over(world: World) -> float:
    """When the service has no calls any more."""
    while world.service.calls:  # noqa: ASYNC110 - a fake clock makes polling cheap
        await trio.sleep(0.02)
    return trio.current_time()
