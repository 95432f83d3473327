"""What all dialogs of one user agent share, and which dialogs there are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import attrs
import trio

from aivc import logs
from aivc.config.settings import SipSettings
from aivc.sip.dialog import DialogId
from aivc.sip.dialog_client import Credentials
from aivc.sip.fields import overridden, sendable_fields
from aivc.sip.flow import Flow
from aivc.sip.inspection import Capabilities, Refusal, retry_after_header
from aivc.sip.leg import Fields
from aivc.sip.message import Request, Response, answer_to
from aivc.sip.negotiation import Origin, SrtpPolicy
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.reasons import reason_fields
from aivc.sip.refusals import Cause, RefusalCounts
from aivc.sip.sources import Sources
from aivc.sip.transaction_layer import ServerTransaction, TransactionLayer

log = logging.getLogger("aivc.sip")
Live = TypeVar("Live")  # a dialog

KEY_OCTETS: Final = 30  # of SDES: master key and salt (RFC 4568 section 6.1)
REMEMBERED: Final = 256  # dialogs that are over: who wants to replace one of them gets 603 (RFC 3891 section 3)
MAX_RETRY_SECONDS: Final = 10  # RFC 3261 section 14.2: a random Retry-After from 0 to 10


@attrs.frozen
class Identity:
    """Who we are where we have registered."""

    uri: str
    route: tuple[str, ...] = ()  # RFC 3608


@attrs.define(eq=False, repr=False)
class Switchboard(Generic[Live]):
    """Shared by all dialogs of one user agent.

    Args:
      credentials: our passwords for servers that challenge our requests.
      identity_at: who we are at the server with that IP address, and the Route of our calls there; None: nobody.
      tasks: where calls that a peer's REFER has us make are made; they outlive the step that begins them.
      srtp, rtcp: the settings of `[rtp]`.

    Attributes:
      dialogs: those that live.
      refused: requests refused so far.
      refusals: the same, by cause.
    """

    settings: SipSettings
    srtp: SrtpPolicy
    layer: TransactionLayer
    sources: Sources
    credentials: Credentials
    tasks: trio.Nursery
    identity_at: Callable[[str], Identity | None]
    rtcp: bool = True
    dialogs: dict[DialogId, Live] = attrs.field(factory=dict)
    capabilities: Capabilities = attrs.field(init=False)
    refused: int = attrs.field(default=0, init=False)
    refusals: RefusalCounts = attrs.field(factory=RefusalCounts, init=False)
    _over: dict[DialogId, None] = attrs.field(factory=dict, init=False)  # lately, oldest first

    def __attrs_post_init__(self) -> None:
        self.capabilities = Capabilities.of(self.settings)

    def media_for(self, flow: Flow) -> OfferAnswer:
        """The offer/answer of a new session with whoever is at the end of `flow`."""
        origin = Origin(self.random() >> 2)  # fits a signed 64-bit integer everywhere
        return OfferAnswer(flow.local, origin, self.srtp, self.new_key, rtcp=self.rtcp)

    def new_key(self) -> bytes:
        """For SDES."""
        text = "".join(self.layer.new_token() for _ in range(KEY_OCTETS * 2 // 16 + 1))
        return bytes.fromhex(text[: KEY_OCTETS * 2])

    def random(self) -> int:
        """64 bits."""
        return int(self.layer.new_token(), 16)

    def forget(self, identity: DialogId, dialog: Live) -> None:
        """That dialog is over."""
        if self.dialogs.get(identity) is dialog:
            del self.dialogs[identity]
            self._over[identity] = None
            if len(self._over) > REMEMBERED:
                del self._over[next(iter(self._over))]

    def is_over(self, identity: DialogId) -> bool:
        """Whether that dialog was one of ours and is over."""
        return identity in self._over

    def bye_fields(self, text: str, status: int = 200) -> Fields:
        """What every BYE of ours says."""
        return overridden(reason_fields(text, status), sendable_fields(tuple(self.settings.bye_headers.items())))

    def respond(self, transaction: ServerTransaction, status: int, extra: Fields = (), body: bytes = b"") -> Response:
        response = answer_to(transaction.request.headers, status, tag=transaction.tag, extra=extra, body=body)
        transaction.respond(response)
        return response

    def refuse(self, transaction: ServerTransaction, refusal: Refusal, **fields: Any) -> None:
        """Answer with a failure, log its true cause, and count it."""
        request = transaction.request
        self.note_refusal(request, refusal, **fields)
        told = refusal.explained if request.method == "INVITE" else refusal
        transaction.respond(told.answer(request.headers, transaction.tag))

    def note_refusal(self, request: Request, refusal: Refusal, *, level: int = logging.INFO, **fields: Any) -> None:
        """Log and count a refusal."""
        self.refused += 1
        if refusal.is_counted:
            self.refusals.add(refusal.name)
        fields |= {"method": request.method, "refusal": refusal.name or None}
        fields |= {"status": refusal.status, "cause": refusal.cause}
        logs.event(log, "sip.refused", level=level, call_id=request.call_id, **fields)

    def later(self, cause: str) -> Refusal:
        """500 with a random Retry-After (RFC 3261 section 14.2)."""
        wait = retry_after_header(self.random() % (MAX_RETRY_SECONDS + 1))
        return Refusal(500, cause, (wait,), Cause.RETRY_LATER.value)
