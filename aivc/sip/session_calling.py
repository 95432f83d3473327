"""Calls of ours through OpenSIPS, for attended transfers: it sends the INVITE of ua_session_client_start.

             the key is told            ANSWERED, which OpenSIPS acknowledges
    ASKED -------------------> CALLING ---------------------------------------> answered: a SessionDialog
      |                          | REJECTED, or OpenSIPS has lost it
      +--------------------------+-------------------------------------------> failed
        out of time, cancelled, refused: BYE, which is a CANCEL then

The Call-ID of the new session is its key. OpenSIPS resolves the target by itself, and its `local_route` may send the
INVITE elsewhere.
"""

from __future__ import annotations

import logging
from math import ceil
from typing import Any, Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import Address, Codec
from aivc.sip.address import SipUri, default_port, format_host_port, parse_name_addr, parse_uri
from aivc.sip.dialog import asked_transport
from aivc.sip.event_queue import EventQueue
from aivc.sip.holder import Phase
from aivc.sip.inspection import session_body
from aivc.sip.jsonrpc import Command
from aivc.sip.leg import AudioAgreement, ConsultationFailed, Fields, LegEvent
from aivc.sip.message import Headers, Request, Response
from aivc.sip.mi import MiError, MiRefused, MiUnanswered
from aivc.sip.negotiation import Accepted, Refused
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.outgoing import failure_text
from aivc.sip.own_sessions import MAX_EVENTS, marked
from aivc.sip.referral import NO_ANSWER, TEL, name_addr_of
from aivc.sip.replacing import Replaces, replaceable_at
from aivc.sip.scanner import AddressError
from aivc.sip.sdp import SdpError
from aivc.sip.session_board import CAPABILITIES, SessionBoard
from aivc.sip.session_commands import attempt
from aivc.sip.session_dialog import SessionDialog
from aivc.sip.uasession import (
    EventError,
    SessionEvent,
    end_call,
    list_sessions,
    read_sessions,
    response_of,
    start_session,
)

log = logging.getLogger("aivc.sip")

NON_LOCAL: Final = "Non-local socket"  # what OpenSIPS says of a `socket` that is none of its own
LONGEST_SECONDS: Final = 3600  # of a consultation; OpenSIPS ends it then, should we not be there any more


@attrs.frozen(kw_only=True)
class Wanted:
    """A call to make.

    Attributes:
      uri: a sip, sips or tel URI.
      caller: our URI, for From.
      near: the key of the session in whose call it is made: the same socket of OpenSIPS is used.
      call_id: of that call, for the log.
      local: our RTP address, and the only codec that it may have.
    """

    uri: str
    caller: str
    near: str
    call_id: str
    local: Address
    codec: Codec


@attrs.frozen
class Joining:
    """What another party must be told to take our place in a call of ours (RFC 5589 section 7).

    Attributes:
      target: whom to call for it.
    """

    target: str
    replaces: Replaces


async def call_out(board: SessionBoard, wanted: Wanted, seconds: float) -> SessionConsultation:
    """Call somebody; returns when they have answered, and OpenSIPS has acknowledged that.

    Cancelling the wait gives the call up.

    Raises:
      ConsultationFailed: not answered within `seconds`, or not to be reached.
      ValueError: a URI that cannot be called.
    """
    name_addr_of(wanted.uri)
    consultation = SessionConsultation(board, wanted, ceil(seconds) + LONGEST_SECONDS)
    board.tasks.start_soon(consultation.start)  # not here: a key that nobody waits for would be lost
    try:
        with trio.move_on_after(max(0.0, seconds)):
            await consultation.settled.wait()
    except BaseException:
        consultation.abandon("given up")
        raise
    if not consultation.settled.is_set():
        consultation.abandon(f"not answered in {seconds:g} s")
    if consultation.failure is not None:
        raise consultation.failure
    return consultation


@attrs.define(eq=False, repr=False)
class SessionConsultation:
    """Implements `aivc.sip.leg.Consultation` once it is answered, and `aivc.sip.session_board.Session`.

    Args:
      longest: seconds after which OpenSIPS ends it by itself.

    Attributes:
      failure: why there is no call.
      settled: set when it is answered, or has failed.
    """

    board: SessionBoard
    wanted: Wanted
    longest: int
    failure: ConsultationFailed | None = attrs.field(default=None, init=False)
    settled: trio.Event = attrs.field(factory=trio.Event, init=False)
    _mark: str = attrs.field(init=False)
    _media: OfferAnswer = attrs.field(init=False)
    _key: str = attrs.field(default="", init=False)
    _dialog: SessionDialog | None = attrs.field(default=None, init=False)
    _joining: Joining | None = attrs.field(default=None, init=False)
    _early: list[SessionEvent] = attrs.field(factory=list, init=False)  # requests that have overtaken the answer

    def __attrs_post_init__(self) -> None:
        self._mark = marked(self.wanted.uri, self.board.randomness.getrandbits(64))
        self._media = self.board.new_media()
        self._media.local = self.wanted.local

    # What the service sees: aivc.sip.leg.Consultation

    @property
    def agreement(self) -> AudioAgreement:
        return self.dialog.media.agreement

    @property
    def events(self) -> EventQueue[LegEvent]:
        return self.dialog.queue

    async def hang_up(self, reason: str, fields: Fields = (), *, status: int = 200) -> None:
        await trio.lowlevel.checkpoint()
        if self.dialog.phase is Phase.CONFIRMED:
            await self.dialog.hang_up(reason, fields, status=status)

    @property
    def dialog(self) -> SessionDialog:
        """Of a call that was answered."""
        assert self._dialog is not None
        return self._dialog

    @property
    def joining(self) -> Joining:
        """Likewise."""
        assert self._joining is not None
        return self._joining

    # Making the call

    async def start(self) -> None:
        """Task: have OpenSIPS send the INVITE."""
        board = self.board
        socket = await own_contact(board, self.wanted)
        if self.settled.is_set():
            return
        board.own.begin()
        try:
            self._begin(await self._ask(socket))
        except MiRefused as error:
            self._fail(None, f"OpenSIPS cannot call it: {error.text}")
        except MiError as error:
            board.own.untold(self._mark, trio.current_time())
            self._fail(None, f"OpenSIPS does not say whether it calls: {error.text}")
        except Exception as error:  # a bug of ours may cost one call, never all
            self._log("sip.bug", level=logging.ERROR, exc_info=error)
            self._fail(None, "a bug")
        finally:
            for key in board.own.settle(trio.current_time()):
                give_up(board, key)

    async def _ask(self, contact: SipUri | None) -> object:
        """The key. Without a socket of its own OpenSIPS needs the modparam `advertised_contact`; and with that, we
        cannot know the socket. Raises MiError."""
        commands, offer = self.board.commands, self._media.offer(self.wanted.codec)
        try:
            return await commands.perform(self._start_with(contact, offer))
        except MiRefused as error:
            if contact is None or NON_LOCAL not in error.text:
                raise
        return await commands.perform(self._start_with(None, offer))

    def _start_with(self, contact: SipUri | None, offer: bytes) -> Command:
        uri = self.wanted.uri
        is_number = uri[: len(TEL) + 1].lower() == f"{TEL}:"  # where that leads is for OpenSIPS's script to say
        return start_session(
            uri,
            to=self._mark,
            sender=self.wanted.caller,
            body=offer,
            fields=CAPABILITIES.fields[:1],
            proxy=str(contact) if is_number and contact is not None else None,
            socket=None if contact is None else socket_of(contact),
            seconds=self.longest,
        )

    def _begin(self, key: object) -> None:
        if not isinstance(key, str) or not key:
            raise TypeError(f"a session key that is {type(key).__name__}")
        self._key, is_wanted = key, not self.settled.is_set()
        self._log("sip.calling", target=self.wanted.uri, within=self.wanted.call_id)
        if is_wanted:
            self.board.serve(key, self)
        self.board.own.told(key, self)
        if not is_wanted:
            give_up(self.board, key)

    def abandon(self, text: str) -> None:
        """Nobody waits for it any more."""
        if self._dialog is not None:
            self._dialog.leave(text)
        elif self._fail(None, text) and self._key:
            give_up(self.board, self._key)

    # What the front end tells us: aivc.sip.session_board.Session

    @property
    def is_over(self) -> bool:
        return self.failure is not None if self._dialog is None else self._dialog.is_over

    @property
    def is_unanswered(self) -> bool:
        """Never: no INVITE came in."""
        return False

    @property
    def is_ending(self) -> bool:
        return self._dialog is not None and self._dialog.phase is Phase.LEAVING

    def take(self, event: SessionEvent) -> None:
        if self._dialog is not None:
            self._dialog.take(event)
            return
        match event.event_type, event.method:
            case "ANSWERED", "INVITE" if not self.settled.is_set():
                self._accept(event)
            case "REJECTED", "INVITE" if not self.settled.is_set():
                self._take_refusal(event)
            case "TERMINATED", _:
                self._fail(None, "OpenSIPS has ended it")
            case "EARLY", _:
                pass
            case "UPDATED", _ if not self.settled.is_set() and len(self._early) < MAX_EVENTS:
                self._early.append(event)  # unanswered, it would keep OpenSIPS from taking another
            case _:
                self.board.counts.stray += 1

    def lose(self, cause: str) -> None:
        if self._dialog is not None:
            self._dialog.lose(cause)
        else:
            self._fail(None, cause)

    def close(self) -> None:
        if self._dialog is not None:
            self._dialog.close()
        else:
            self._fail(None, "the front end ends")

    # Steps

    def _accept(self, event: SessionEvent) -> None:
        invite = Request(method="INVITE", target=self.wanted.uri, headers=Headers((("Call-ID", self._key),)))
        outcome = self._read_answer(event)
        accepted = outcome if isinstance(outcome, Accepted) else None
        self._dialog = SessionDialog(self.board, self._key, invite, self._media, accepted, None)
        self._dialog.establish()
        if isinstance(outcome, Refused):
            self._dialog.leave(outcome.cause, 488)
            self.failure = ConsultationFailed(488, f"unusable answer: {outcome.cause}")
            self._log("sip.call_failed", status=488, cause=outcome.cause)
        else:
            self._log("sip.call_answered")
        self.settled.set()
        for early in self._early:
            self._dialog.take(early)

    def _read_answer(self, event: SessionEvent) -> Accepted | Refused:
        try:
            response = response_of(event)
            self._joining = joining_of(self._key, self.wanted.uri, response)
            body = session_body(response)
            return self._media.read(body) if body else Refused("no SDP came")
        except (EventError, AddressError, SdpError) as error:
            return Refused(str(error))

    def _take_refusal(self, event: SessionEvent) -> None:
        """OpenSIPS frees the session by itself, or, without its module uac_auth, never."""
        self.board.own.forget(self._key)
        if event.headers is not None and event.headers.get("CSeq") is None:  # made up: nobody has answered
            self._fail(None, NO_ANSWER)
        else:
            self._fail(
                event.status, failure_text(Response(status=event.status, reason=event.reason, headers=Headers()))
            )

    def _fail(self, status: int | None, text: str) -> bool:
        """There will be no call; False when that is settled already."""
        if self.settled.is_set():
            return False
        self.failure = ConsultationFailed(status, text)
        self.settled.set()
        self._log("sip.call_failed", status=status, cause=text)
        if self._key:
            self.board.forget(self._key)
        return True

    def _log(self, name: str, **fields: Any) -> None:
        logs.event(log, name, call_id=self._key or self.wanted.call_id, **fields)


async def own_contact(board: SessionBoard, wanted: Wanted) -> SipUri | None:
    """Where OpenSIPS was called in the call at hand, as it writes itself into Contact; None: it does not say."""
    try:
        found = read_sessions(await board.commands.perform(list_sessions(wanted.near)))
        uri = parse_uri(found[0].contact) if found else None
    except (MiError, EventError, AddressError) as error:
        logs.event(log, "sip.no_contact", level=logging.DEBUG, call_id=wanted.call_id, cause=str(error))
        return None
    except Exception as error:  # a bug of ours may cost one call, never all
        logs.event(log, "sip.bug", level=logging.ERROR, call_id=wanted.call_id, exc_info=error)
        return None
    return uri if isinstance(uri, SipUri) else None


def socket_of(contact: SipUri) -> str:
    """The socket of OpenSIPS that has this Contact, such as udp:192.0.2.5:5060."""
    transport = asked_transport(contact) or "UDP"
    return f"{transport.lower()}:{format_host_port(contact.host, contact.port or default_port(transport))}"


def joining_of(key: str, uri: str, response: Response) -> Joining:
    """Raises AddressError.

    Args:
      uri: that was called.
      response: the 2xx.
    """
    to_tag, from_tag = response.to.tag, response.sender.tag
    if not to_tag or not from_tag:
        raise AddressError("an answer without tags")
    contacts = response.headers.items("Contact")
    target = replaceable_at(uri, parse_name_addr(contacts[0]).uri if contacts else None)
    return Joining(target, Replaces(key, to_tag=to_tag, from_tag=from_tag))


def give_up(board: SessionBoard, key: str) -> None:
    """Have a session of ours ended that nobody serves."""
    board.own.end(key)
    board.tasks.start_soon(end, board, key)


async def end(board: SessionBoard, key: str) -> None:
    """Task: the same; the census ends it if OpenSIPS does not answer now."""
    try:
        if not isinstance(await attempt(board, end_call(key), key), MiUnanswered):
            board.own.forget(key)
    finally:
        board.own.ended(key)
