"""What the peer of a UA session asks for in its dialog, and what it gets: OpenSIPS answers nothing by itself.

A request without an answer would block every later one (OpenSIPS refuses them with 500), so each gets exactly one.
RFC 3261 sections 11, 12.2.2 and 14.2, RFC 3311, RFC 3515, RFC 4028, RFC 6086.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

from aivc.sip.call_dialog import REQUESTS_BURST, REQUESTS_PER_SECOND
from aivc.sip.event_queue import EventQueue
from aivc.sip.holder import Phase
from aivc.sip.inspection import ACCEPT_HEADER, Refusal, inspect, read_key, retry_after_header, session_body
from aivc.sip.leg import Fields, LegEvent, MediaChanged
from aivc.sip.message import REASONS, Request
from aivc.sip.modifying import Change, read_offer
from aivc.sip.negotiation import Accepted, Refused
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.refusals import Cause
from aivc.sip.sdp import SdpError
from aivc.sip.session_board import CAPABILITIES, SessionBoard
from aivc.sip.session_deadlines import session_terms
from aivc.sip.session_timer import SessionTimer, Terms, answer_fields
from aivc.sip.session_transfer import SessionTransfer
from aivc.sip.sources import Bucket

RETRY_AFTER_SECONDS: Final = 10  # of who asks for too much
REMEMBERED: Final = 32  # CSeq numbers of the latest requests
NOT_TOLD: Final = 'the answer to our offer was not told: ua_session_server_init needs the flag "a"'
NO_REFER: Final = "REFER is not followed in calls from OpenSIPS"


@attrs.frozen
class Answer:
    """The final response to one request; a body is SDP."""

    status: int
    fields: Fields = ()
    body: bytes = b""
    phrase: str = ""

    @classmethod
    def of(cls, refusal: Refusal) -> Answer:
        return cls(refusal.status, refusal.headers, phrase=refusal.phrase)

    @property
    def reason(self) -> str:
        return self.phrase or REASONS.get(self.status) or "Refused"


@attrs.define(eq=False, repr=False)
class SessionRequests:
    """Answers the requests in the dialog of one session. No method awaits.

    Args:
      began: now, on trio's clock.

    Attributes:
      is_offering: whether our offer in a 2xx waits for the ACK that brings its answer.
      has_agreed: whether any session description is in force.
    """

    board: SessionBoard
    call_id: str
    media: OfferAnswer
    queue: EventQueue[LegEvent]
    transfer: SessionTransfer
    refreshes: SessionTimer
    began: float
    is_offering: bool = attrs.field(default=False, init=False)
    has_agreed: bool = attrs.field(default=False, init=False)
    _pace: Bucket = attrs.field(init=False)
    _served: deque[int] = attrs.field(factory=lambda: deque(maxlen=REMEMBERED), init=False)

    def __attrs_post_init__(self) -> None:
        self._pace = Bucket(REQUESTS_BURST, 0, self.began)

    def is_copy(self, cseq: int | None) -> bool:
        """Whether the request with this CSeq number was here before: a datagram may come twice, in any order."""
        if cseq is None or cseq in self._served:
            return cseq is not None
        self._served.append(cseq)
        return False

    def answer(self, request: Request, phase: Phase, now: float) -> Answer:
        """Serve one request, not ACK, BYE or CANCEL."""
        outcome = self._inspect(request, now) or self._serve(request, phase, now)
        if isinstance(outcome, Answer):
            return outcome
        return self.refuse(request.method, outcome)

    def refuse(self, method: str, refusal: Refusal) -> Answer:
        self.board.note_refusal(self.call_id, method, refusal)
        return Answer.of(refusal)

    def describe(self, offer: Accepted | None) -> bytes:
        """The SDP of a 2xx: our answer, or our offer where the request had none."""
        self.is_offering = offer is None
        return self.media.offer() if offer is None else self.media.answer(offer)

    def take_answer(self, body: bytes | None) -> str | None:
        """The peer answers our offer in its ACK; why that is of no use, None: it is in force.

        Args:
          body: None: what the ACK said was not told.
        """
        self.is_offering = False
        if body is None:
            self.media.withdraw()
            return NOT_TOLD
        try:
            outcome = self.media.read(body)
        except SdpError as error:
            outcome = Refused(str(error) if body else "no SDP came")
        if isinstance(outcome, Refused):
            return f"unusable answer: {outcome.cause}"
        self._change(outcome)
        return None

    def _change(self, accepted: Accepted) -> None:
        self.has_agreed = True
        if self.media.take(accepted):
            self.queue.tell(MediaChanged(self.media.agreement))

    def _inspect(self, request: Request, now: float) -> Refusal | None:
        if not self._pace.take(REQUESTS_PER_SECOND, REQUESTS_BURST, now):
            wait = retry_after_header(RETRY_AFTER_SECONDS)
            return Refusal(503, "too many requests in one call", (wait,), Cause.TOO_MANY_REQUESTS.value)
        if request.method == "REFER":  # whoever can send us one must not make us call others
            return Refusal(603, NO_REFER, CAPABILITIES.fields[:1])
        return inspect(request, CAPABILITIES)

    def _serve(self, request: Request, phase: Phase, now: float) -> Answer | Refusal:
        match request.method:
            case "OPTIONS":
                return Answer(200, (*CAPABILITIES.fields, ACCEPT_HEADER))
            case "INFO":
                return self._informed(request, phase) or Answer(200)
            case "NOTIFY":
                return self.transfer.take_notify(request) or Answer(200)
            case "INVITE" | "UPDATE" if phase in (Phase.EARLY, Phase.CONFIRMED):
                change = self._read_change(request, phase)
                return change if isinstance(change, Refusal) else self._agree(request, phase, change, now)
            case _:
                return Refusal(481, "the call is being hung up")

    def _informed(self, request: Request, phase: Phase) -> Refusal | None:
        digit = read_key(request)
        if digit is None or isinstance(digit, Refusal):
            return digit
        if phase is Phase.CONFIRMED:
            if not self.queue.has_room:
                return Refusal(500, "too many events", (retry_after_header(1),), Cause.RETRY_LATER.value)
            self.queue.tell(digit)
        return None

    def _read_change(self, request: Request, phase: Phase) -> Change | Refusal:
        """A re-INVITE or UPDATE: a new session description, or a refresh."""
        body, settings = session_body(request), self.board.settings
        terms = session_terms(request.headers, settings.session_expires_seconds, settings.min_se_seconds)
        refusal = self._find_glare(request.method, phase, bool(body))
        if refusal is not None:
            return refusal
        if isinstance(terms, Refusal):
            return terms
        offer = read_offer(self.media, body, self.board.signalling[0])
        return offer if isinstance(offer, Refusal) else Change(offer, terms)

    def _find_glare(self, method: str, phase: Phase, has_offer: bool) -> Refusal | None:
        """RFC 3261 section 14.2, RFC 3311 section 5.2. A re-INVITE before the ACK is none: that may be told later, or
        never, and OpenSIPS takes care of the order."""
        if method == "UPDATE" and not has_offer:
            return None
        if self.is_offering and method == "UPDATE":
            return Refusal(491, "an offer of ours is not answered yet")
        if self.is_offering or phase is Phase.EARLY:
            return self.board.later("an INVITE is still open")
        return None if self.queue.has_room else self.board.later("too many events")

    def _agree(self, request: Request, phase: Phase, change: Change, now: float) -> Answer:
        fields = CAPABILITIES.fields
        if phase is not Phase.EARLY:  # an early dialog has no session timer
            fields += self.restart(change.terms, now)
        if request.method == "UPDATE" and change.offer is None:
            return Answer(200, fields)
        description = self.describe(change.offer)
        if change.offer is not None:
            self._change(change.offer)
        return Answer(200, fields, description)

    def restart(self, terms: Terms | None, now: float) -> Fields:
        """The session timer begins anew on these terms; what the 2xx says of it."""
        self.refreshes.restart(terms, now)
        return answer_fields(terms)
