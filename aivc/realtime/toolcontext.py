"""What a tool may know of its call, and do to it.

Everything that a tool begins through its context ends with the tool call: a thread that outlived its deadline, or the
call, gets `ToolOver` instead of a say in a conversation that has moved on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import attrs
import trio

from aivc.realtime.headers import HeaderFields, header_fields
from aivc.realtime.toolerrors import ToolError


class TransferFailed(ToolError):
    """The call was not transferred and goes on; the message tells the model why."""


class DigitsFailed(ToolError):
    """The tones were not sent; the message tells the model why."""


class ToolOver(RuntimeError):
    """The tool call, or the whole call, has ended: nothing can be done to it any more."""


class CallControl(Protocol):
    """The hands of a call. All of it is called in trio's own thread."""

    def say(self, instructions: str) -> None:
        """Ask the model for an answer by these instructions, as soon as none is under way."""

    def interrupt(self) -> None:
        """Stop what the model is saying."""

    def hang_up(self, fields: HeaderFields = ()) -> None:
        """End the call once the model's last words are heard, unless the caller speaks again.

        Args:
          fields: more header fields for the BYE, checked.
        """

    def send_event(self, event: Mapping[str, object]) -> None:
        """Send a client event of the Realtime API, in the form of the session's dialect."""

    def start_hold_sound(self) -> None:
        """Play `sounds.hold`, again and again, if there is one."""

    def stop_hold_sound(self) -> None:
        """End it."""

    async def transfer(self, target: str | None = None, attended: bool | None = None, fields: HeaderFields = ()) -> str:
        """Transfer the call; a success ends the call and never returns. Raises TransferFailed.

        Args:
          attended: whether the target is called first; None: as `openai.transfer_attended` says.
          fields: more header fields for the REFER, checked.
        """

    async def send_digits(self, digits: str) -> None:
        """Send tones and wait until they are sent. Raises DigitsFailed."""


@attrs.define(eq=False)
class Lifetime:
    """How long a tool call may act on its call."""

    token: trio.lowlevel.TrioToken | None = None  # of trio's thread, so that any other may reach it
    over: bool = False
    transferring: bool = False  # a transfer that this tool call asked for is under way, or was done
    hung_up: bool = False  # this tool call asked for the end of the call
    _scopes: set[trio.CancelScope] = attrs.field(factory=set)

    def end(self) -> None:
        """Cancel what the tool began, wherever it runs: a thread's async calls are tasks outside of the call's."""
        self.over = True
        for scope in self._scopes:
            scope.cancel()

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Run a block that must not outlive the tool call. Raises ToolOver."""
        self.check()
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)
        if scope.cancelled_caught:
            self.check()

    def check(self) -> None:
        """Raises ToolOver when it is too late."""
        if self.over:
            raise ToolOver("the tool call is over")


@attrs.frozen(eq=False)
class ToolContext:
    """A parameter annotated with this class receives it; the model never sees it.

    `say`, `interrupt`, `hang_up` and `send_event` may be called from async and from plain functions, which run in
    threads; the two async methods from a plain function by `trio.from_thread.run(context.transfer, "sales")`.
    """

    call_id: str  # the SIP Call-ID
    caller: str  # the caller's address, as text
    dialled: str  # what the caller dialled
    control: CallControl = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)  # of the INVITE, by lower-case name
    state: dict[str, object] = attrs.field(factory=dict, repr=False)  # one for the whole call, for its tools to share
    tool_call_id: str = ""  # the model's name for this one call of the function
    lifetime: Lifetime = attrs.field(factory=Lifetime, repr=False)
    session_key: str | None = None  # of OpenSIPS's commands; None: the call came by SIP

    def of_tool_call(self, tool_call_id: str) -> ToolContext:
        """Return the context of one tool call, with a lifetime of its own; called in trio's thread."""
        lifetime = Lifetime(trio.lowlevel.current_trio_token())
        return attrs.evolve(self, tool_call_id=tool_call_id, lifetime=lifetime)

    def say(self, instructions: str) -> None:
        """Have the model say something now: the text tells it what, as `response.create` instructions do."""
        self._act(self.control.say, instructions)

    def interrupt(self) -> None:
        """Stop what the model is saying."""
        self._act(self.control.interrupt)

    def hang_up(self, headers: Mapping[str, str] | None = None) -> None:
        """End the call once the model's last words are heard; a caller who speaks again withdraws it.

        Args:
            headers: more header fields for the BYE.

        Raises:
            ToolError: a header field that cannot be sent; the call goes on.
        """
        self._act(self._hang_up, header_fields(headers))

    def send_event(self, event: Mapping[str, object]) -> None:
        """Send any client event of the Realtime API, in the form of the dialect in use."""
        self._act(self.control.send_event, event)

    async def transfer(
        self, target: str | None = None, attended: bool | None = None, headers: Mapping[str, str] | None = None
    ) -> str:
        """Transfer the call: to a name of `openai.transfer_targets`, to what `openai.transfer_allow` allows, or to
        `openai.transfer_to`.

        A success ends the call, and this function never returns.

        Args:
            target: as the model says it; None is `openai.transfer_to`.
            attended: whether the target is called first, and told who comes, while the caller hears `sounds.hold`: that
                may take a minute, so give the tool a deadline of its own. None: as `openai.transfer_attended` says.
            headers: more header fields for the REFER.

        Raises:
            TransferFailed: refused here or there, or no answer came; the call goes on.
            ToolError: a header field that cannot be sent; likewise.
        """
        fields = header_fields(headers)
        self.lifetime.transferring = True
        try:
            with self.lifetime.scope():
                return await self.control.transfer(target, attended, fields)
        except ToolError:
            self.lifetime.transferring = False
            raise
        raise AssertionError("a scope that was cancelled has raised")

    async def send_digits(self, digits: str) -> None:
        """Send tones (0 to 9, *, #, A to D) and wait until they are sent.

        Raises:
            DigitsFailed: no such keys, or the caller's side takes none.
        """
        with self.lifetime.scope():
            await self.control.send_digits(digits)

    def _hang_up(self, fields: HeaderFields) -> None:
        self.lifetime.hung_up = True
        self.control.hang_up(fields)

    def _act(self, action: Callable[..., None], *args: object) -> None:
        """Act in trio's thread, from there or from a worker's."""
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            trio.from_thread.run_sync(self._act_here, action, *args, trio_token=self.lifetime.token)
        else:
            self._act_here(action, *args)

    def _act_here(self, action: Callable[..., None], *args: object) -> None:
        self.lifetime.check()
        action(*args)
