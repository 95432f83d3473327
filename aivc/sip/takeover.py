"""An INVITE with Replaces: one of our calls goes on with whoever sent it (RFC 3891). No new leg, no ringing."""

from __future__ import annotations

from aivc.sip.call_dialog import Board, CallDialog
from aivc.sip.dialog import Dialog
from aivc.sip.dialog_client import DialogClient
from aivc.sip.holder import Phase
from aivc.sip.inspection import Refusal, session_body
from aivc.sip.modifying import read_offer
from aivc.sip.party import Party
from aivc.sip.refreshing import judge
from aivc.sip.refusals import Cause
from aivc.sip.replacing import Replaces, find_replaced
from aivc.sip.scanner import AddressError
from aivc.sip.transaction_layer import ServerTransaction


def find(board: Board, wanted: Replaces) -> CallDialog | Refusal:
    """The dialog to replace, or why none is (section 3)."""
    found = find_replaced(wanted, board.dialogs)
    if found is None:
        if any(board.is_over(identity) for identity in wanted.dialogs):
            return Refusal(603, "the call to replace is over", name=Cause.REPLACES_FAILED.value)
        return Refusal(481, "there is no such call to replace")
    match found.phase:
        case Phase.EARLY:  # one that we have not answered ourselves must not be replaced
            return Refusal(481, "the call to replace is not answered")
        case Phase.LEAVING | Phase.OVER:
            return Refusal(603, "the call to replace is over", name=Cause.REPLACES_FAILED.value)
        case Phase.CONFIRMED:
            return Refusal(486, "the call to replace is answered already") if wanted.early_only else found


def take_over(board: Board, transaction: ServerTransaction, replaced: CallDialog) -> Refusal | None:
    """Answer the INVITE with 200 and our RTP address and codec, and hang up the dialog in whose place it comes.

    Whoever knows Call-ID and both tags was told them by a party to the call, which is as good as a password on a way
    that nobody else reads; with `sip.users` they must have proved to be one of them all the same (section 8).
    """
    request, party = transaction.request, replaced.holder
    settings = board.settings
    if not isinstance(party, Party) or party.dialog is not replaced:
        return Refusal(481, "the call to replace is another one's now")
    if not party.has_room(replaced):
        return board.later("too many events")
    terms = judge(request.headers, settings.session_expires_seconds, settings.min_se_seconds)
    if isinstance(terms, Refusal):
        return terms
    media = board.media_for(transaction.arrival.flow)
    media.local = replaced.media.local
    media.stay_with(replaced.media.agreement.codec)
    try:
        dialog = Dialog.from_invite(request, transaction.tag)
    except AddressError as error:
        return Refusal(400, str(error))
    offer = read_offer(media, session_body(request), transaction.arrival.flow.local[0])
    if isinstance(offer, Refusal):
        return offer
    fresh = CallDialog(DialogClient.of_invite(dialog, transaction, board.credentials), media, board, party)
    if not fresh.answer_invite(transaction, offer, terms):
        return None
    party.stop_following()  # of whoever was replaced
    party.exchange(fresh, "Replaces").leave("replaced by another call")
    return None
