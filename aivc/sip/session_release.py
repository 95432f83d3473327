"""How OpenSIPS is made to free a UA session, which it does not do by itself unless the peer has hung up.

A final failure to the INVITE does not free it: ua_session_terminate must follow. Before a final response that command
is refused. After a 2xx it sends a BYE, but one without header fields of ours; ua_session_update sends one with them,
whose answer frees the session. After a CANCEL nothing is sure, so the session is always terminated (b2b_entities/dlg.c
and ua_api.c).
"""

from __future__ import annotations

import logging

import attrs
import trio

from aivc import logs
from aivc.sip.fields import overridden, sendable_fields
from aivc.sip.jsonrpc import Command
from aivc.sip.leg import Fields
from aivc.sip.message import REASONS
from aivc.sip.mi import MiUnanswered
from aivc.sip.reasons import reason_fields
from aivc.sip.session_ack import AckWatch
from aivc.sip.session_board import SessionBoard
from aivc.sip.session_commands import SessionCommands
from aivc.sip.uasession import reply, terminate, update

log = logging.getLogger("aivc.sip")


@attrs.define(eq=False, repr=False)
class SessionRelease:
    """Frees one session, and tells the board so, once.

    Attributes:
      is_answered: OpenSIPS has taken our 2xx to the INVITE.
      bye_answered: set when the peer has answered our BYE.
      has_crossed: a request of the peer has come since our BYE: OpenSIPS takes the session for alive again then, and
        does not free it with the answer to the BYE.
      done: set when OpenSIPS needs to be told nothing any more.
    """

    board: SessionBoard
    key: str
    commands: SessionCommands
    ack: AckWatch
    is_answered: bool = attrs.field(default=False, init=False)
    bye_answered: trio.Event = attrs.field(factory=trio.Event, init=False)
    has_crossed: bool = attrs.field(default=False, init=False)
    done: trio.Event = attrs.field(factory=trio.Event, init=False)

    def forget(self) -> None:
        """OpenSIPS needs to be told nothing any more."""
        if not self.done.is_set():
            self.done.set()
            self.ack.close()
            self.board.forget(self.key)

    def terminate(self) -> None:
        """After the commands that were given so far, have it freed."""
        self.commands.give(terminate(self.key), self._take_outcome)

    def _take_outcome(self, error: Exception | None) -> None:
        """What became of the command that frees it."""
        if isinstance(error, MiUnanswered):
            self.board.unfreed.add(self.key, *self._answer(500), terminate(self.key))
        self.forget()

    async def hang_up(self, text: str, status: int, fields: Fields) -> None:
        """Task: send BYE, after the ACK if that comes soon (RFC 3261 section 15).

        Args:
          text, status: of its Reason.
          fields: beside or in place of the configured ones.
        """
        settings = self.board.settings
        configured = sendable_fields(tuple(settings.bye_headers.items()))
        sent = overridden(overridden(reason_fields(text, status), configured), sendable_fields(fields))
        await self.ack.wait(settings.hang_up_seconds)
        if self.done.is_set():
            return
        logs.event(log, "sip.bye_sent", call_id=self.commands.call_id, reason=text)
        if await self.commands.perform(update(self.key, "BYE", fields=sent)) is None:
            with trio.move_on_after(settings.hang_up_seconds):
                await self.bye_answered.wait()
                if not self.has_crossed:
                    self.forget()
        if not self.done.is_set():
            await self.free(500)

    async def free(self, status: int) -> None:
        """Task: end the session, whatever has become of it; with this status if its INVITE was not answered.

        The status comes first, for OpenSIPS would answer an open INVITE with 408. If a 2xx is on its way all the same,
        OpenSIPS takes it for a repetition of that, and sends nothing.
        """
        for command in self._answer(status):
            self.commands.give(command)
        self._take_outcome(await self.commands.perform(terminate(self.key)))

    def _answer(self, status: int) -> tuple[Command, ...]:
        """To the INVITE, if that has none."""
        return () if self.is_answered else (reply(self.key, "INVITE", status, REASONS[status]),)
