"""What one UA session has OpenSIPS do: one command after the other, whoever gave them and whether they wait or not."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import attrs
import trio

from aivc import logs
from aivc.sip.jsonrpc import Command
from aivc.sip.mi import MiError
from aivc.sip.session_board import SessionBoard

log = logging.getLogger("aivc.sip")

Report = Callable[[Exception | None], None]


@attrs.define(eq=False, repr=False)
class Given:
    """One command that was given.

    Attributes:
      done: set when it was carried out, has failed, or never will be.
      error: how it failed.
    """

    command: Command
    report: Report | None
    done: trio.Event = attrs.field(factory=trio.Event, init=False)
    error: Exception | None = attrs.field(default=None, init=False)


@attrs.define(eq=False, repr=False)
class SessionCommands:
    """The commands of one session in their order: that of a 180, a 200 and a BYE must not change.

    They are carried out in a task of the board, so that a call that is cancelled does not take back what it said.
    """

    board: SessionBoard
    call_id: str
    _waiting: deque[Given] = attrs.field(factory=deque, init=False)
    _is_running: bool = attrs.field(default=False, init=False)
    _trying: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)  # what is being carried out

    def __len__(self) -> int:
        """How many are not carried out yet."""
        return len(self._waiting)

    def give(self, command: Command, report: Report | None = None) -> Given:
        """Have it carried out after those before.

        Args:
          report: told as soon as that is done, with how it failed.
        """
        given = Given(command, report)
        self._waiting.append(given)
        if not self._is_running:
            self._is_running = True
            self.board.tasks.start_soon(self._run)
        return given

    def supersede(self, method: str) -> None:
        """A new request of the peer has come: a reply to an earlier one, or a copy of it, would answer the new one.

        OpenSIPS refuses a request while another has no answer, so such a reply has been carried out. Only an UPDATE
        takes the place of an earlier one, which is never answered then (b2b_entities/dlg.c).
        """
        old = [given for given in self._waiting if is_final_reply(given.command, is_update=method == "UPDATE")]
        for given in old:
            if given is self._waiting[0]:
                self._trying.cancel()
            elif method == "UPDATE":
                self._waiting.remove(given)
                given.done.set()

    async def perform(self, command: Command) -> Exception | None:
        """The same, and wait for it; how it failed."""
        given = self.give(command)
        await given.done.wait()
        return given.error

    async def _run(self) -> None:
        """Task: carry out what there is. Never raises."""
        try:
            while self._waiting:
                given = self._waiting[0]
                with trio.CancelScope() as self._trying:
                    given.error = await attempt(self.board, given.command, self.call_id)
                self._waiting.popleft()
                given.done.set()
                if given.report is not None:
                    given.report(given.error)
        finally:
            self._is_running = False
            for given in self._waiting:  # the front end ends: nobody must wait for them
                given.done.set()


def is_final_reply(command: Command, *, is_update: bool) -> bool:
    """Whether a command answers an UPDATE, or any other request."""
    code, method = command.params.get("code"), command.params.get("method")
    return isinstance(code, int) and code >= 200 and (method == "UPDATE") == is_update


async def attempt(board: SessionBoard, command: Command, call_id: str) -> Exception | None:
    """Have OpenSIPS carry out a command whose result does not matter; how it failed.

    A failure is mostly that of a session that has just ended: whether it matters is for the caller to say.
    """
    try:
        await board.commands.perform(command)
    except MiError as error:
        board.counts.failed += 1
        logs.event(log, "sip.command_failed", level=logging.DEBUG, call_id=call_id, cause=str(error))
        return error
    except Exception as error:  # a bug of ours may cost one command, never all calls
        logs.event(log, "sip.bug", level=logging.ERROR, call_id=call_id, exc_info=error)
        return error
    return None
