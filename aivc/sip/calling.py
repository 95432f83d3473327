"""Calls of ours inside somebody's call: for an attended transfer, and because a peer's REFER has us make one."""

from __future__ import annotations

import attrs
import trio

from aivc.config.settings import Address, Codec
from aivc.sip import outgoing
from aivc.sip.address import SipUri, parse_uri
from aivc.sip.call_dialog import Board, CallDialog
from aivc.sip.dialog import asked_transport, reachable_address
from aivc.sip.dialog_client import DialogClient
from aivc.sip.flow import Flow, NoFlow, Transport
from aivc.sip.holder import Holder
from aivc.sip.invitation import own_uri
from aivc.sip.leg import ConsultationFailed, Fields
from aivc.sip.negotiation import Accepted, Refused
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.outgoing import Answered, Invitation
from aivc.sip.sdp import SdpError
from aivc.sip.session_timer import LEAST_SECONDS
from aivc.sip.switchboard import Identity


@attrs.frozen(kw_only=True)
class Wanted:
    """A call to make.

    Attributes:
      near: of the dialog in whose call it is made: the same way is taken.
      local: our RTP address, and the only codec that it may have.
    """

    uri: str
    near: DialogClient
    local: Address
    codec: Codec
    fields: Fields = ()


@attrs.frozen(eq=False)
class Reached:
    """A call of ours that was answered with a codec that fits."""

    board: Board
    answered: Answered
    media: OfferAnswer
    outcome: Accepted

    def leave(self, reason: str, status: int = 200) -> None:
        """Nobody takes it."""
        self.answered.client.send("BYE", self.board.bye_fields(reason, status))

    def dialog_of(self, holder: Holder[CallDialog]) -> CallDialog:
        """Its dialog, from now on served for `holder`."""
        dialog = CallDialog(self.answered.client, self.media, self.board, holder, owns_call_id=True)
        dialog.take(self.outcome)
        dialog.begin_session(self.answered.response)
        return dialog


async def call_out(board: Board, wanted: Wanted, seconds: float) -> Reached:
    """Call somebody; returns when they have answered and are acknowledged.

    Raises:
      ConsultationFailed: not answered within `seconds`, or not to be reached.
      ValueError: a URI that cannot be called.
    """
    flow = way_to(wanted.uri, wanted.near)
    media = board.media_for(flow)
    media.local = wanted.local
    identity = board.identity_at(flow.peer[0]) or Identity(own_uri(wanted.near.dialog.local))
    invitation = Invitation(
        target=wanted.uri,
        caller=identity.uri,
        route=identity.route,
        offer=media.offer(wanted.codec),
        flow=flow,
        fields=(*board.capabilities.fields, *wanted.fields),
    )
    answered = await invite(board, invitation, seconds)
    try:
        outcome = media.read(answered.answer)
    except SdpError as error:
        outcome = Refused(str(error))
    if isinstance(outcome, Accepted):
        return Reached(board, answered, media, outcome)
    answered.client.send("BYE", board.bye_fields(outcome.cause, 488))
    raise ConsultationFailed(488, f"unusable answer: {outcome.cause}")


async def invite(board: Board, invitation: Invitation, seconds: float) -> Answered:
    """With our wish for a session timer, or without it for whoever finds that too short (RFC 4028 section 7.1)."""
    wanted, least = board.settings.session_expires_seconds, board.settings.min_se_seconds
    timer: Fields = (("Session-Expires", str(max(wanted, least))),) if wanted else ()
    if least > LEAST_SECONDS:
        timer += (("Min-SE", str(least)),)
    asking, deadline = attrs.evolve(invitation, fields=(*timer, *invitation.fields)), trio.current_time() + seconds
    try:
        return await outgoing.call(board.layer, asking, seconds, board.credentials)
    except ConsultationFailed as failure:
        if failure.status != 422 or not wanted:
            raise
    return await outgoing.call(board.layer, invitation, deadline - trio.current_time(), board.credentials)


def way_to(uri: str, near: DialogClient) -> Flow:
    """Straight to a target that names another IP address or port; else the way that the call came, which is a proxy's
    or PBX's to go on.

    Raises ValueError for a URI that cannot be read, and ConsultationFailed.
    """
    flow, parsed = near.near, parse_uri(uri)
    transport: Transport = flow.transport
    if isinstance(parsed, SipUri):
        transport = asked_transport(parsed) or transport
        is_elsewhere = parsed.address is not None and parsed.address[0] != flow.peer[0]
        if is_elsewhere or (parsed.address is not None and parsed.port not in (None, flow.peer[1])):
            return onward(near, transport, reachable_address(parsed, flow.peer, transport))
    if flow.is_open and flow.transport == transport:
        return flow
    hop = SipUri(flow.peer[0])
    return onward(near, transport, reachable_address(hop, flow.peer, transport))


def onward(near: DialogClient, transport: Transport, peer: Address) -> Flow:
    try:
        return near.layer.transports.onward(transport, peer, near.near)
    except NoFlow as error:
        raise ConsultationFailed(None, f"there is no way to call it: {error}") from error
