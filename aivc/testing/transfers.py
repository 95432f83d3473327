"""What the test phone does when it is asked to call somebody else (REFER, RFC 3515)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Literal, Protocol
from urllib.parse import unquote

import attrs
import trio

from aivc.config.settings import Address, Codec
from aivc.sip.message import Request, Response
from aivc.testing.refusal import CallRefused
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
      calls: when it makes a real call instead, and tells how that went: to take somebody's place by Replaces
        (RFC 3891), always or never. `Referral.call` is the call; it lasts as long as the one that was told to make it.
    """

    answer: int | None = 202
    progress: tuple[int, ...] = (100, 180, 200)
    delay: float = 0.1
    early: int = 0
    then_bye: bool = False
    name_id: bool = True
    forget_end: bool = False
    reason: str = "noresource"
    calls: Literal["to replace", "always", "never"] = "to replace"

    def state(self, index: int) -> str:
        """Subscription-State of one of the NOTIFYs."""
        return self.state_of(index == len(self.progress) - 1)

    def state_of(self, is_last: bool) -> str:
        ends = is_last and not self.forget_end
        return f"terminated;reason={self.reason}" if ends else "active;expires=60"

    def makes_call(self, referral: Referral) -> bool:
        """Whether this REFER is followed by a real call."""
        accepted = self.answer is not None and self.answer < 300
        return accepted and (self.calls == "always" or (self.calls == "to replace" and referral.replaces is not None))


@attrs.define(eq=False)
class Referral:
    """A REFER that the phone got."""

    at: float  # seconds on trio's clock
    request: Request
    answers: list[Response] = attrs.field(factory=list)  # to the phone's NOTIFYs
    call: Dialled | None = None  # that it makes for it, once that is answered
    _ending: trio.Event = attrs.field(factory=trio.Event, init=False)
    _over: trio.Event = attrs.field(factory=trio.Event, init=False)

    @property
    def refer_to(self) -> str:
        """The URI."""
        return self.request.header("Refer-To").strip("<>")

    @property
    def referred_by(self) -> str:
        """The URI."""
        return self.request.header("Referred-By").strip("<>")

    @property
    def replaces(self) -> str | None:
        """The value of Replaces that the URI asks for, unescaped."""
        for header in self.refer_to.partition("?")[2].split("&"):
            name, _, value = header.partition("=")
            if name.lower() == "replaces":
                return unquote(value)
        return None

    async def end(self) -> None:
        """Hang up the call that was made for it, if there is one."""
        self._ending.set()
        if self.call is not None:
            await self._over.wait()

    async def last(self, call: Dialled) -> None:
        """Until that call is over, or to be ended."""
        async with trio.open_nursery() as nursery:

            async def stop_after(wait: Callable[[], Awaitable[object]]) -> None:
                await wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop_after, call.wait_over)
            nursery.start_soon(stop_after, self._ending.wait)

    def note_over(self) -> None:
        self._over.set()


class Dialled(Protocol):
    """A call that the phone makes because it was told to."""

    @property
    def is_over(self) -> bool: ...
    async def wait_over(self) -> None: ...


class Dialler(Protocol):
    """A phone that can call somebody else."""

    def dial_referred(
        self, uri: str, codec: Codec, replaces: str | None, referred_by: str
    ) -> AbstractAsyncContextManager[Dialled]: ...


class Transferee(Protocol):
    """The call of the phone that is asked to go elsewhere."""

    @property
    def is_over(self) -> bool: ...
    @property
    def codec(self) -> Codec: ...
    @property
    def phone(self) -> Dialler: ...
    async def reply(self, request: Request, status: str, to: Address) -> None: ...
    async def hang_up(self) -> None: ...
    async def ask(
        self, method: str, headers: Sequence[tuple[str, str]] = ..., content_type: str = ..., body: str = ...
    ) -> Response: ...


async def follow(call: Transferee, referral: Referral, plan: Transfers, source: Address) -> None:
    """Task of the phone: answer a REFER and tell how the call to its target goes, whether it is made or not."""
    if plan.makes_call(referral):
        await make_call(call, referral, plan, source)
        return
    accepted = plan.answer is not None and plan.answer < 300
    for index, status in enumerate((*plan.progress, 0)):
        if index == plan.early and plan.answer is not None:
            await call.reply(referral.request, status_line(plan.answer), source)
        if call.is_over or not status or (not accepted and index >= plan.early):
            break
        await trio.sleep(plan.delay)
        await tell(call, referral, plan, status_line(status), plan.state(index))
    if plan.then_bye:
        await call.hang_up()


async def make_call(call: Transferee, referral: Referral, plan: Transfers, source: Address) -> None:
    """Follow a REFER for real."""
    assert plan.answer is not None
    await call.reply(referral.request, status_line(plan.answer), source)
    await tell(call, referral, plan, status_line(100), plan.state_of(False))
    uri = referral.refer_to.partition("?")[0]
    referred_by = referral.request.headers.get("Referred-By") or ""
    try:
        async with call.phone.dial_referred(uri, call.codec, referral.replaces, referred_by) as made:
            referral.call = made
            await tell(call, referral, plan, status_line(200), plan.state_of(True))
            if plan.then_bye:
                await call.hang_up()
            await referral.last(made)
    except CallRefused as refused:
        await tell(call, referral, plan, str(refused), plan.state_of(True))
    except trio.TooSlowError:
        await tell(call, referral, plan, status_line(408), plan.state_of(True))
    finally:
        referral.note_over()


async def tell(call: Transferee, referral: Referral, plan: Transfers, status: str, state: str) -> None:
    """Send one NOTIFY, unless the call is over."""
    if call.is_over:
        return
    event = f"refer;id={referral.request.cseq.number}" if plan.name_id else "refer"
    fields = (("Event", event), ("Subscription-State", state))
    with suppress(trio.TooSlowError):
        referral.answers.append(
            await call.ask("NOTIFY", fields, "message/sipfrag;version=2.0", f"SIP/2.0 {status}\r\n")
        )
