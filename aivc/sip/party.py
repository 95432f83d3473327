"""Whom one leg of a call talks to: a dialog, which may be exchanged for another while the call goes on."""

from __future__ import annotations

import logging

import attrs
import trio

from aivc import logs
from aivc.sip.call_dialog import Board, CallDialog
from aivc.sip.calling import Reached
from aivc.sip.event_queue import EventQueue
from aivc.sip.following import follow
from aivc.sip.inspection import Refusal
from aivc.sip.leg import AudioAgreement, Fields, LegEvent, MediaChanged, ReferOutcome
from aivc.sip.referral import UNDER_WAY
from aivc.sip.referred import Order

log = logging.getLogger("aivc.sip")


@attrs.define(eq=False, repr=False)
class Party:
    """Implements `aivc.sip.leg.Consultation`, and holds the dialogs of either kind of leg.

    Args:
      call_id: of the leg: it stays when the dialog is exchanged.

    Attributes:
      dialog: the present one; the events of all others are nobody's.
    """

    board: Board
    call_id: str
    dialog: CallDialog = attrs.field(init=False)
    events: EventQueue[LegEvent] = attrs.field(init=False)
    _following: trio.CancelScope | None = attrs.field(default=None, init=False)
    _end: tuple[LegEvent | None] | None = attrs.field(default=None, init=False)  # kept back while a REFER is followed

    def __attrs_post_init__(self) -> None:
        self.events = EventQueue(self.call_id)

    @classmethod
    def of(cls, board: Board, reached: Reached) -> Party:
        """The party that a call of ours has reached."""
        party = cls(board, reached.answered.dialog.call_id)
        party.dialog = reached.dialog_of(party)
        return party

    @property
    def agreement(self) -> AudioAgreement:
        return self.dialog.media.agreement

    async def hang_up(self, reason: str, fields: Fields = (), *, status: int = 200) -> None:
        self.stop_following()
        await self.dialog.hang_up(reason, fields, status=status)

    async def refer(self, fields: Fields, seconds: float) -> ReferOutcome:
        if self._following is not None:
            await trio.lowlevel.checkpoint()
            return ReferOutcome(None, UNDER_WAY)
        return await self.dialog.refer(fields, seconds)

    def exchange(self, dialog: CallDialog, why: str) -> CallDialog:
        """From now on the leg talks in another dialog, which is confirmed; returns the one before."""
        before, self.dialog = self.dialog, dialog
        codec, call_id = dialog.media.agreement.codec, dialog.client.dialog.call_id
        logs.event(log, "sip.replaced", call_id=self.call_id, why=why, new_call_id=call_id, codec=codec)
        source = dialog.client.near.peer
        is_trusted = self.board.sources.is_trusted(source[0])
        self.events.tell(MediaChanged(dialog.media.agreement, source, is_trusted))
        return before

    # What a dialog tells: aivc.sip.holder.Holder

    def has_room(self, dialog: CallDialog) -> bool:
        return dialog is not self.dialog or self.events.has_room

    def tell(self, dialog: CallDialog, event: LegEvent) -> None:
        if dialog is self.dialog:
            self.events.tell(event)

    def finish(self, dialog: CallDialog, event: LegEvent | None) -> None:
        """Many telephones hang up as soon as their REFER is accepted: that does not end the call while it is followed,
        for the call goes on with somebody else, or ends when that fails."""
        if dialog is not self.dialog:
            return
        if self._following is not None:
            self._end = (event,)
            return
        self.events.close(event)

    def follow(self, dialog: CallDialog, order: Order) -> Refusal | None:
        if dialog is not self.dialog:
            return Refusal(481, "this call is another one's now")
        if self._following is not None:
            return self.board.later(UNDER_WAY)
        self._following = trio.CancelScope()
        self.board.tasks.start_soon(follow, self, order, self._following)
        return None

    def stop_following(self) -> None:
        """The REFER is not followed any longer, whatever became of it."""
        scope, self._following = self._following, None
        if scope is not None:
            scope.cancel()
        end, self._end = self._end, None
        if end is not None and self.dialog.is_over:
            self.finish(self.dialog, end[0])
