"""A wish to change a session, read and judged: RFC 3261 section 14.2, RFC 3311 section 5.2, RFC 4028 section 9."""

from __future__ import annotations

from typing import Protocol

import attrs

from aivc.sip.inspection import Refusal, not_acceptable, session_body
from aivc.sip.message import Request
from aivc.sip.negotiation import Accepted, Refused
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.refreshing import Changeable, Refresher
from aivc.sip.scanner import AddressError
from aivc.sip.sdp import SdpError
from aivc.sip.session_timer import Terms
from aivc.sip.transaction_layer import ServerTransaction


class Modified(Changeable, Protocol):
    """The dialog, as far as a change of it matters."""

    @property
    def refresher(self) -> Refresher: ...

    @property
    def is_early(self) -> bool:
        """Whether the INVITE that makes it has no final response yet."""

    @property
    def is_unacknowledged(self) -> bool:
        """Whether a 2xx of ours waits for its ACK."""

    @property
    def is_unanswered(self) -> bool:
        """Whether that 2xx made an offer."""

    @property
    def has_room(self) -> bool:
        """Whether a change can be told."""


@attrs.frozen
class Change:
    """What a re-INVITE or UPDATE that is granted asks for.

    Attributes:
      offer: None: it has none.
      terms: of the session timer from now on; None: there is none.
    """

    offer: Accepted | None
    terms: Terms | None


def read_change(dialog: Modified, transaction: ServerTransaction) -> Change | Refusal:
    """A new target, a new session, or a refresh. When it is granted, our requests go to the new target."""
    request = transaction.request
    body, terms = session_body(request), dialog.refresher.judge(request)
    refusal = find_glare(dialog, request.method, bool(body))
    if refusal is not None:
        return refusal
    if isinstance(terms, Refusal):
        return terms
    offer = read_offer(dialog.media, body, dialog.client.host)
    if isinstance(offer, Refusal):
        return offer
    return retarget(dialog, transaction) or Change(offer, terms)


def find_glare(dialog: Modified, method: str, has_offer: bool) -> Refusal | None:
    """RFC 3261 sections 14.1 and 14.2, and RFC 3311 section 5.2."""
    if method == "UPDATE" and not has_offer:
        return None
    if dialog.refresher.is_inviting or (method == "UPDATE" and dialog.is_unanswered):
        return Refusal(491, "an offer of ours is not answered yet")
    if dialog.is_early or (method == "INVITE" and dialog.is_unacknowledged):
        return dialog.board.later("an INVITE is still open")
    return None if dialog.has_room else dialog.board.later("too many events")


def retarget(dialog: Modified, transaction: ServerTransaction) -> Refusal | None:
    request: Request = transaction.request
    if request.method == "INVITE" and request.headers.get("Contact") is None:
        return Refusal(400, "Missing Contact")
    try:
        dialog.client.dialog.refresh_target(request)
    except AddressError as error:
        return Refusal(400, str(error))
    dialog.client.learn(transaction)
    return None


def read_offer(media: OfferAnswer, body: bytes, host: str) -> Accepted | Refusal | None:
    """What a peer offers; None: nothing.

    Args:
      host: ours, for Warning.
    """
    if not body:
        return None
    try:
        offer = media.read(body)
    except SdpError as error:
        return Refusal(400, str(error))
    return not_acceptable(offer, host) if isinstance(offer, Refused) else offer
