"""What the test phone does when it is asked to call somebody else (REFER, RFC 3515)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import attrs
import trio

from aivc.config.settings import Address
from aivc.sip.message import Request, Response
from aivc.testing.wording import status_line


@attrs.frozen(kw_only=True)
class Transfers:
    """The phone's answer to a REFER, and what it tells then.

    Args:
      answer: the status of the response; None: there is none at all.
      progress: the statuses of the calls that it pretends to make, each a NOTIFY; the last one, or a final one, ends
        the subscription. Nothing after a refusal.
      delay: before each NOTIFY, seconds.
      early: how many of the NOTIFYs leave before the response to the REFER.
      then_bye: whether it hangs up after the last of them (at once when there is none).
      name_id: whether Event names the REFER by its CSeq.
      forget_end: the last NOTIFY says `active`, as some phones do.
      reason: why the subscription ends, in the last NOTIFY.
    """

    answer: int | None = 202
    progress: tuple[int, ...] = (100, 180, 200)
    delay: float = 0.1
    early: int = 0
    then_bye: bool = False
    name_id: bool = True
    forget_end: bool = False
    reason: str = "noresource"

    def state(self, index: int) -> str:
        """Subscription-State of one of the NOTIFYs."""
        ends = index == len(self.progress) - 1 and not self.forget_end
        return f"terminated;reason={self.reason}" if ends else "active;expires=60"


@attrs.define(eq=False)
class Referral:
    """A REFER that the phone got."""

    at: float  # seconds on trio's clock
    request: Request
    answers: list[Response] = attrs.field(factory=list)  # to the phone's NOTIFYs

    @property
    def refer_to(self) -> str:
        """The URI."""
        return self.request.header("Refer-To").strip("<>")

    @property
    def referred_by(self) -> str:
        """The URI."""
        return self.request.header("Referred-By").strip("<>")


class Transferee(Protocol):
    """The call of the phone that is asked to go elsewhere."""

    @property
    def is_over(self) -> bool: ...
    async def reply(self, request: Request, status: str, to: Address) -> None: ...
    async def hang_up(self) -> None: ...
    async def ask(
        self, method: str, headers: Sequence[tuple[str, str]] = ..., content_type: str = ..., body: str = ...
    ) -> Response: ...


async def follow(call: Transferee, referral: Referral, plan: Transfers, source: Address) -> None:
    """Task of the phone: answer a REFER and tell how the call to its target goes, which nobody makes."""
    number = referral.request.cseq.number
    event = f"refer;id={number}" if plan.name_id else "refer"
    accepted = plan.answer is not None and plan.answer < 300
    for index, status in enumerate((*plan.progress, 0)):
        if index == plan.early and plan.answer is not None:
            await call.reply(referral.request, status_line(plan.answer), source)
        if call.is_over or not status or (not accepted and index >= plan.early):
            break
        await trio.sleep(plan.delay)
        fields = (("Event", event), ("Subscription-State", plan.state(index)))
        sipfrag = f"SIP/2.0 {status_line(status)}\r\n"
        with suppress(trio.TooSlowError):
            referral.answers.append(await call.ask("NOTIFY", fields, "message/sipfrag;version=2.0", sipfrag))
    if plan.then_bye:
        await call.hang_up()
