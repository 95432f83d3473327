"""A call that an OpenSIPS hands over as a UA session, behind `Leg`."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import trio

from aivc.config.settings import Address
from aivc.sip.event_queue import EventQueue
from aivc.sip.fields import sent_fields
from aivc.sip.holder import Phase
from aivc.sip.inspection import Refusal, inspect, session_body
from aivc.sip.invitation import addressee, asserted_identity, origin_of, own_uri, rejected
from aivc.sip.leg import (
    AudioAgreement,
    Consultation,
    Fields,
    LegEvent,
    ReferOutcome,
    Rejection,
)
from aivc.sip.modifying import read_offer
from aivc.sip.referral import refer_fields
from aivc.sip.session_board import CAPABILITIES, SessionBoard
from aivc.sip.session_calling import SessionConsultation, Wanted, call_out
from aivc.sip.session_deadlines import session_terms
from aivc.sip.session_dialog import SessionDialog
from aivc.sip.transaction import merge_key
from aivc.sip.uasession import SessionEvent, request_of


@attrs.frozen(eq=False, repr=False)
class SessionLeg:
    """Implements `aivc.sip.leg.Leg`. Built by `receive_session`."""

    dialog: SessionDialog
    extra_params: str | None

    # What the service sees: aivc.sip.leg.Leg

    @property
    def call_id(self) -> str:
        return self.dialog.request.call_id

    @property
    def caller(self) -> str:
        return asserted_identity(self.dialog.request) or str(self.dialog.request.sender.uri)

    @property
    def dialled(self) -> str:
        """The user part of To: the Request-URI is not told."""
        return addressee(self.dialog.request)

    @property
    def agreement(self) -> AudioAgreement:
        return self.dialog.media.agreement

    @property
    def headers(self) -> Mapping[str, str]:
        return self.dialog.request.headers.joined()

    @property
    def session_key(self) -> str | None:
        return self.dialog.key

    @property
    def source(self) -> Address:
        """As far as the headers tell; where OpenSIPS reaches us when they tell nothing."""
        return origin_of(self.dialog.request) or self.dialog.board.signalling

    @property
    def is_trusted(self) -> bool:
        """Always: OpenSIPS has let the call in."""
        return True

    @property
    def events(self) -> EventQueue[LegEvent]:
        return self.dialog.queue

    async def ring(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_unanswered:
            await self.dialog.ring()

    async def answer(self, local: Address) -> None:
        """Returns when OpenSIPS has taken the 2xx, or does not answer: then the leg ends with SignallingFailed."""
        await trio.lowlevel.checkpoint()
        if self.is_unanswered:
            await self.dialog.answer(local).done.wait()

    async def reject(self, rejection: Rejection) -> None:
        """Returns when OpenSIPS has sent it and freed the session, at the latest after `sip.hang_up_seconds`."""
        await trio.lowlevel.checkpoint()
        if self.is_unanswered:
            board = self.dialog.board
            self.dialog.refuse(rejected(rejection, board.signalling[0]), None)
            with trio.move_on_after(board.settings.hang_up_seconds):
                await self.dialog.release.done.wait()

    async def consult(self, uri: str, local: Address, seconds: float) -> Consultation:
        """Whom the caller called is who calls."""
        caller = own_uri(self.dialog.request.header("To"))
        codec = self.agreement.codec
        wanted = Wanted(uri=uri, caller=caller, near=self.key, call_id=self.call_id, local=local, codec=codec)
        return await call_out(self.dialog.board, wanted, seconds)

    async def refer(
        self,
        refer_to: str,
        referred_by: str,
        seconds: float,
        *,
        fields: Fields = (),
        replaces: Consultation | None = None,
    ) -> ReferOutcome:
        """Before the ACK has come it is waited for first, in the same `seconds`."""
        replaced = None
        if replaces is not None:
            if not isinstance(replaces, SessionConsultation):
                raise ValueError("replaces is no consultation of this front end")
            refer_to, replaced = replaces.joining.target, replaces.joining.replaces
        own, settings = refer_fields(refer_to, referred_by, replaced), self.dialog.board.settings
        sent = sent_fields(own, CAPABILITIES.fields[1:], settings.refer_headers, fields)
        return await self.dialog.refer(sent, seconds)

    async def hang_up(self, reason: str, fields: Fields = (), *, status: int = 200) -> None:
        """Before the ACK has come it is waited for first, as long again (RFC 3261 section 15)."""
        await trio.lowlevel.checkpoint()
        if self.dialog.phase is Phase.CONFIRMED:
            await self.dialog.hang_up(reason, fields, status=status)

    # What the front end tells us

    @property
    def key(self) -> str:
        return self.dialog.key

    @property
    def is_unanswered(self) -> bool:
        """Whether the INVITE has no final answer of ours."""
        return self.dialog.phase is Phase.EARLY

    @property
    def is_ending(self) -> bool:
        return self.dialog.phase is Phase.LEAVING

    @property
    def is_over(self) -> bool:
        """Whether its end was told; OpenSIPS may have to be told still."""
        return self.dialog.is_over

    @property
    def acknowledged(self) -> bool:
        return self.dialog.is_acknowledged

    def is_merged_with(self, other: SessionLeg) -> bool:
        """Whether the INVITE is the same one, which a proxy has forked to us twice (RFC 3261 section 8.2.2.2)."""
        key = merge_key(self.dialog.request)
        return key is not None and key == merge_key(other.dialog.request)

    def take(self, event: SessionEvent) -> None:
        """An event of this session but NEW."""
        self.dialog.take(event)

    def lose(self, cause: str) -> None:
        """OpenSIPS does not have the session any more: nothing is sent."""
        self.dialog.lose(cause)

    def close(self) -> None:
        """The front end ends: nothing is sent."""
        self.dialog.close()


def receive_session(board: SessionBoard, event: SessionEvent) -> SessionLeg | Refusal:
    """Make a leg of a new session, or say why its INVITE is refused.

    Raises EventError: its headers are none of an INVITE.
    """
    request = request_of(event)
    refusal = inspect(request, CAPABILITIES)
    if refusal is not None:
        return refusal
    settings = board.settings
    terms = session_terms(request.headers, settings.session_expires_seconds, settings.min_se_seconds)
    if isinstance(terms, Refusal):
        return terms
    media = board.new_media()
    offer = read_offer(media, session_body(request), board.signalling[0])
    if isinstance(offer, Refusal):
        return offer
    dialog = SessionDialog(board, event.key, request, media, offer, terms)
    return SessionLeg(dialog, event.extra_params)
