"""Messages that cross on the wire: the phone has sent one of its own when another arrives."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio

from aivc.sip.message import Request, Response
from aivc.testing.calling import PhoneCall
from aivc.testing.chaos import Crossing
from aivc.testing.dialog import PhoneDialog
from aivc.testing.refusal import CallRefused

AHEAD: Final = 0.001  # seconds that the phone's message has left before the other is taken


async def cross(call: PhoneDialog, message: Request | Response, crossings: Sequence[Crossing]) -> None:
    """Send what is to meet this message, if it is the first of its kind in the call; return once it has left."""
    met = [crossing for crossing in crossings if crossing not in call.crossed and crossing.meets == name_of(message)]
    for crossing in met:
        call.crossed.append(crossing)
        call.phone.nursery.start_soon(send, call, crossing)
    if met:
        await trio.sleep(AHEAD)


def name_of(message: Request | Response) -> str:
    """As `Crossing.meets` calls it."""
    if isinstance(message, Request):
        return message.method
    return str(message.status) if message.cseq.method == "INVITE" else ""


async def send(call: PhoneDialog, crossing: Crossing) -> None:
    """Task: say it, and what follows from the answer."""
    with suppress(trio.TooSlowError):
        match crossing.sends:
            case "CANCEL":
                await cancel(call)
            case "BYE":
                await call.hang_up()
            case "INVITE":
                await call.resume()
            case "UPDATE":
                await call.update()


async def cancel(call: PhoneDialog) -> None:
    """CANCEL; who was answered all the same hangs up (RFC 3261 section 15)."""
    assert isinstance(call, PhoneCall), "only a call of the phone's own can be cancelled"
    await call.cancel()
    with suppress(CallRefused):
        await call.wait_answer()
        await call.hang_up()
