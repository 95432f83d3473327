"""A peer's REFER that we follow: its target is called, its progress told by NOTIFY, and the leg goes over to it."""

from __future__ import annotations

import logging
from typing import Final, Protocol

import attrs
import trio

from aivc import logs
from aivc.sip.call_dialog import Board, CallDialog
from aivc.sip.calling import Wanted, call_out
from aivc.sip.dialog_client import Asked
from aivc.sip.holder import Holder
from aivc.sip.leg import ConsultationFailed, Fields
from aivc.sip.message import REASONS, Response
from aivc.sip.referred import RING_SECONDS, Order, notify_fields, sipfrag

log = logging.getLogger("aivc.sip")

NO_ANSWER: Final = 408  # how silence is told of


class Follower(Holder[CallDialog], Protocol):
    """Whose dialog is exchanged: `aivc.sip.party.Party`."""

    @property
    def board(self) -> Board: ...

    @property
    def call_id(self) -> str: ...

    @property
    def dialog(self) -> CallDialog: ...

    def exchange(self, dialog: CallDialog, why: str) -> CallDialog:
        """Talk in that dialog from now on."""

    def stop_following(self) -> None:
        """The REFER is followed no longer."""


@attrs.define(eq=False)
class Notifier:
    """The implicit subscription of one REFER (RFC 3515 section 2.4.4)."""

    dialog: CallDialog
    order: Order
    until: float
    is_gone: bool = attrs.field(default=False, init=False)  # nobody has that subscription (RFC 6665 section 4.2.2)

    def tell(self, status: int, phrase: str, *, is_last: bool) -> Asked | None:
        """Send a NOTIFY, if anybody wants to hear it."""
        if not self.order.is_told or self.is_gone or self.dialog.is_over:
            return None
        left = self.until - trio.current_time()
        fields = notify_fields(self.order, seconds=left, is_last=is_last)
        client = self.dialog.client
        asked = client.send("NOTIFY", (client.contact_field, *fields), sipfrag(status, phrase))
        asked.report = self._take
        return asked

    def _take(self, response: Response | None) -> None:
        self.is_gone |= response is None or response.status == 481


async def follow(party: Follower, order: Order, scope: trio.CancelScope) -> None:
    """Task: call the target; when it answers, the leg talks to it from then on. Never raises."""
    before = party.dialog
    notifier = Notifier(before, order, trio.current_time() + RING_SECONDS)
    logs.event(log, "sip.following_refer", call_id=party.call_id, target=str(order.target))
    try:
        with scope:
            notifier.tell(100, REASONS[100], is_last=False)
            if await exchange(party, order, notifier, scope):
                await leave(before, notifier)
                return
    except Exception as error:  # a bug of ours may cost one transfer, never all calls
        logs.event(log, "sip.bug", level=logging.ERROR, call_id=party.call_id, exc_info=error)
    finally:
        party.stop_following()


async def exchange(party: Follower, order: Order, notifier: Notifier, scope: trio.CancelScope) -> bool:
    """Call the target and put it in the place of who sent the REFER; False, and told, when that failed."""
    before = party.dialog
    wanted = Wanted(
        uri=str(order.target),
        near=before.client,
        local=before.media.local,
        codec=before.media.agreement.codec,
        fields=invite_fields(order),
    )
    try:
        reached = await call_out(party.board, wanted, RING_SECONDS)
    except (ConsultationFailed, ValueError) as error:
        status = (error.status if isinstance(error, ConsultationFailed) else None) or NO_ANSWER
        text = error.text if isinstance(error, ConsultationFailed) else "no URI that can be called"
        logs.event(log, "sip.refer_failed", call_id=party.call_id, status=status, cause=text)
        notifier.tell(status, REASONS.get(status, "Failed"), is_last=True)
        return False
    if scope.cancel_called:  # in the same step: the leg is over, or goes on with somebody else
        reached.leave("nobody waits for it any more")
        return False
    if not party.has_room(before):  # nobody serves this call any more
        reached.leave("the call is not served any more", 503)
        notifier.tell(503, REASONS[503], is_last=True)
        return False
    party.exchange(reached.dialog_of(party), "REFER")
    return True


async def leave(before: CallDialog, notifier: Notifier) -> None:
    """Tell of the success, give the peer time to hang up by itself, and then do it."""
    try:
        told = notifier.tell(200, REASONS[200], is_last=True)
        if told is not None:
            with trio.move_on_after(before.board.settings.hang_up_seconds):
                await told.done.wait()
    finally:  # also when the leg is hung up meanwhile
        before.leave("transferred as asked for by REFER")


def invite_fields(order: Order) -> Fields:
    """What the INVITE says of the REFER (RFC 3892 section 2, RFC 3891)."""
    referred: Fields = () if order.referred_by is None else (("Referred-By", order.referred_by),)
    if order.replaces is None:
        return referred
    return (*referred, ("Require", "replaces"), ("Replaces", str(order.replaces)))
