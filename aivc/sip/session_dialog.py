"""One UA session as its peer and OpenSIPS see it: events come in, commands go out, and it ends in one of many ways.

                 answer: reply 200                      BYE of the peer, or OpenSIPS has lost it: nothing is sent
    EARLY -------------------------> CONFIRMED ---------------------------------------------------------------> OVER
      | reject, CANCEL, Expires:         | hang_up, no ACK, no refresh, no usable answer:                         ^
      | reply, then terminate            | BYE by ua_session_update, then terminate if need be                    |
      +--------------------------------> LEAVING -----------------------------------------------------------------+

OpenSIPS keeps a session until it is told to free it, or has seen a BYE. Events may be lost, and those of different
processes of OpenSIPS come in any order. Every method that does not await is one step.
"""

from __future__ import annotations

import logging
from math import inf
from typing import Any, Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import Address
from aivc.sip.address import format_host_port
from aivc.sip.event_queue import EventQueue
from aivc.sip.holder import Phase
from aivc.sip.inspection import SDP_TYPE, Refusal, session_body
from aivc.sip.invitation import read_expires
from aivc.sip.leg import (
    AckMissing,
    Cancelled,
    Fields,
    HungUp,
    LegEvent,
    ReferOutcome,
    SessionExpired,
    SignallingFailed,
)
from aivc.sip.message import Request
from aivc.sip.negotiation import Accepted
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.reasons import ACK_MISSING, SESSION_EXPIRED, SIGNALLING_FAILED, named
from aivc.sip.referral import NO_ANSWER, NO_CALL
from aivc.sip.session_ack import AckWatch, Seen
from aivc.sip.session_board import CAPABILITIES, SessionBoard
from aivc.sip.session_commands import Given, Report, SessionCommands
from aivc.sip.session_deadlines import ACK_SECONDS, Lapse, SessionDeadlines
from aivc.sip.session_release import SessionRelease
from aivc.sip.session_requests import Answer, SessionRequests
from aivc.sip.session_timer import Terms
from aivc.sip.session_transfer import SessionTransfer, read_cseq
from aivc.sip.uasession import EventError, SessionEvent, reply, request_of

log = logging.getLogger("aivc.sip")

MAX_WAITING: Final = 32  # commands of one session; OpenSIPS tells of two unanswered requests at most, so it is less
CROSSING_SECONDS: Final = 0.1  # the event of a CANCEL and the refusal of our 200 come on two ways
ANSWER_SECONDS: Final = 4.0  # between two looks for the ACK that brings the answer to our offer: T2
LOST: Final = "OpenSIPS does not have the session any more"
NO_REFRESH: Final = "no refresh came"


@attrs.define(eq=False, repr=False)
class SessionDialog:
    """The dialog that one INVITE makes, from its beginning.

    Args:
      request: the INVITE; of one of ours hardly more than its Call-ID is known.
      offer: what the peer has described: in that INVITE, or in its answer to one of ours; None when it had no SDP: then
        our 2xx offers and the ACK answers.
      terms: of the session timer.

    Attributes:
      is_over: its end was told; OpenSIPS may have to be told still.
      release: how OpenSIPS is made to free it.
    """

    board: SessionBoard
    key: str
    request: Request
    media: OfferAnswer
    offer: Accepted | None
    terms: Terms | None
    is_over: bool = attrs.field(default=False, init=False)
    queue: EventQueue[LegEvent] = attrs.field(init=False)
    release: SessionRelease = attrs.field(init=False)
    _phase: Phase = attrs.field(default=Phase.EARLY, init=False)
    _deadlines: SessionDeadlines = attrs.field(factory=SessionDeadlines, init=False)
    _commands: SessionCommands = attrs.field(init=False)
    _transfer: SessionTransfer = attrs.field(init=False)
    _requests: SessionRequests = attrs.field(init=False)
    _ack: AckWatch = attrs.field(init=False)
    _ended: trio.Event = attrs.field(factory=trio.Event, init=False)  # by the peer

    def __attrs_post_init__(self) -> None:
        board, call_id, now = self.board, self.request.call_id, trio.current_time()
        self.queue = EventQueue(call_id)
        self._commands = SessionCommands(board, call_id)
        self._transfer = SessionTransfer(board, self.key, call_id)
        self._ack = AckWatch(board, self.key, call_id)
        self.release = SessionRelease(board, self.key, self._commands, self._ack)
        self._requests = SessionRequests(
            board, call_id, self.media, self.queue, self._transfer, self._deadlines.refreshes, now
        )
        if self.offer is not None:
            self._requests.has_agreed = self.media.take(self.offer)
        seconds = read_expires(self.request)
        self._deadlines.answer = inf if seconds is None else now + seconds
        self.board.timers.watch(self)

    @property
    def phase(self) -> Phase:
        """OVER: OpenSIPS needs to be told nothing any more."""
        return Phase.OVER if self.release.done.is_set() else self._phase

    @property
    def is_acknowledged(self) -> bool:
        """Whether OpenSIPS has taken our last 2xx, and the peer has."""
        return self.release.is_answered and not self._ack.is_open

    def establish(self) -> None:
        """It is a call of ours, which the peer has answered and OpenSIPS acknowledged."""
        self._phase, self.release.is_answered = Phase.CONFIRMED, True

    # What the leg wants

    async def ring(self) -> None:
        """Have OpenSIPS send 180."""
        await self._commands.perform(reply(self.key, "INVITE", 180, "Ringing"))

    def answer(self, local: Address) -> Given:
        """Have OpenSIPS send the 2xx. Without success the session is over, with SignallingFailed."""
        now, self._phase, self.media.local = trio.current_time(), Phase.CONFIRMED, local
        description = self._requests.describe(self.offer)
        fields = (*CAPABILITIES.fields, *self._requests.restart(self.terms, now))
        self._await_ack(self.request)
        return self._say("INVITE", Answer(200, fields, description), self._take_outcome)

    def refuse(self, refusal: Refusal, event: LegEvent | None) -> None:
        """Have OpenSIPS send a final failure to the INVITE, and free the session."""
        self._phase = Phase.LEAVING
        self._say("INVITE", self._requests.refuse("INVITE", refusal))
        self.release.terminate()
        self.end(event)

    async def refer(self, fields: Fields, seconds: float) -> ReferOutcome:
        """Send REFER and follow it. Before the ACK has come it is waited for first, in the same `seconds`."""
        deadline = trio.current_time() + seconds
        await trio.lowlevel.checkpoint()
        is_acknowledged = self.phase is not Phase.CONFIRMED or await self._ack.wait(seconds)
        if self.phase is not Phase.CONFIRMED or not is_acknowledged:
            return ReferOutcome(None, NO_CALL if is_acknowledged else NO_ANSWER)
        outcome = await self._transfer.refer(fields, deadline - trio.current_time())
        self._log("sip.referred", status=outcome.status, outcome=outcome.text, accepted=outcome.accepted)
        return outcome

    async def hang_up(self, reason: str, fields: Fields = (), *, status: int = 200) -> None:
        """Send BYE and wait for its answer, at most `sip.hang_up_seconds`; before that for the ACK, as long again."""
        seconds = self.board.settings.hang_up_seconds * (2 if self._ack.is_open else 1)
        self._part(reason, status, fields)
        try:
            with trio.move_on_after(seconds):
                await self.release.done.wait()
        finally:
            self.end(None)

    def leave(self, reason: str, status: int = 200) -> None:
        """Send BYE and wait for nothing."""
        if self.phase is Phase.CONFIRMED:
            self._part(reason, status)
        self.end(None)

    # What the front end tells us

    def take(self, event: SessionEvent) -> None:
        """An event of this session but NEW."""
        is_request = event.status == 0
        match event.event_type, event.method:
            case "TERMINATED", method if self.phase is not Phase.OVER:
                self._take_end(method)
            case "UPDATED", "ACK" if is_request and self._acknowledge(event):
                pass
            case "UPDATED", method if is_request and method != "ACK" and self.phase is not Phase.OVER:
                self._serve(event)
            case (("ANSWERED" | "REJECTED"), "REFER") if self._transfer.take_response(event):
                pass
            case (("ANSWERED" | "REJECTED"), "BYE") if self.phase is Phase.LEAVING:
                self.release.bye_answered.set()
            case _:
                self.board.counts.stray += 1
        self.board.timers.watch(self)

    def lose(self, cause: str) -> None:
        """OpenSIPS does not have the session any more: nothing is sent."""
        self._log("sip.session_lost", cause=cause)
        self.end(SessionExpired(cause))
        self.release.forget()

    def close(self) -> None:
        """The front end ends: nothing is sent."""
        self.end(None)
        self.release.forget()

    @property
    def deadline(self) -> float:
        return self._deadlines.deadline

    def expire(self, now: float) -> None:
        match self._deadlines.expire(now):
            case Lapse.ANSWER if self.phase is Phase.EARLY:
                self.refuse(Refusal(487, "the Expires of the INVITE has passed"), Cancelled())
            case Lapse.ACK if self.phase is Phase.CONFIRMED:
                self.board.tasks.start_soon(self._look_for_ack)
            case Lapse.REFRESH if self.phase is Phase.CONFIRMED:
                self._log("sip.session_expired", cause=NO_REFRESH)
                self._part(named(SESSION_EXPIRED, NO_REFRESH), 408, event=SessionExpired(NO_REFRESH))
            case _:
                pass

    # The peer's requests

    def _serve(self, event: SessionEvent) -> None:
        """Answer a request, whatever it is."""
        if self._requests.is_copy(read_cseq(event)):
            self.board.counts.stray += 1
            return
        self._commands.supersede(event.method)
        self.release.has_crossed = self.phase is Phase.LEAVING
        if len(self._commands) >= MAX_WAITING:
            self.board.counts.dropped += 1
            return
        try:
            self._say(event.method, self._answer_to(event))
        except Exception as error:  # a bug of ours may cost one request, but not block all that come after it
            self._log("sip.bug", level=logging.ERROR, exc_info=error)
            self._say(event.method, self._requests.refuse(event.method, Refusal(500, "a bug")))

    def _answer_to(self, event: SessionEvent) -> Answer:
        try:
            request = request_of(event)
        except EventError as error:
            return self._requests.refuse(event.method, Refusal(400, str(error)))
        answer = self._requests.answer(request, self.phase, trio.current_time())
        if request.method == "INVITE" and answer.status == 200:
            self._await_ack(request)
        return answer

    def _say(self, method: str, answer: Answer, report: Report | None = None) -> Given:
        """Answer a request of the peer."""
        command = reply(
            self.key,
            method,
            answer.status,
            answer.reason,
            body=answer.body,
            content_type=SDP_TYPE,
            fields=answer.fields,
        )
        return self._commands.give(command, report)

    def _take_end(self, method: str) -> None:
        """BYE, which OpenSIPS has answered, or CANCEL, for which the INVITE may still have to get its 487."""
        self._ended.set()
        if self.phase is Phase.EARLY:
            self.refuse(Refusal(487, "cancelled by the peer"), Cancelled())
        elif method == "CANCEL":  # it and our 200 cross: what has become of that is told later, or never
            if self.phase is Phase.CONFIRMED:
                self._phase = Phase.LEAVING
                self.board.tasks.start_soon(self.release.free, 487)
            self.end(HungUp() if self.release.is_answered else Cancelled())
        else:
            self._log("sip.bye_received")
            self.end(HungUp())
            self._take_bye()

    def _take_bye(self) -> None:
        """It has freed the session, but perhaps not if a request had no answer when it came."""
        if len(self._commands):
            self._phase = Phase.LEAVING
            self.release.terminate()
        else:
            self.release.forget()

    # The ACK

    def _await_ack(self, request: Request) -> None:
        now = trio.current_time()
        self._ack.begin(request.cseq.number, now)
        self._deadlines.ack = now + (ANSWER_SECONDS if self._requests.is_offering else ACK_SECONDS)
        self.board.timers.watch(self)

    def _acknowledge(self, event: SessionEvent) -> bool:
        """Take an ACK; False: it is of no use."""
        try:
            request = request_of(event)
        except EventError:
            return False
        if not self._ack.take(request.cseq.number):
            return False
        self._deadlines.ack = inf
        if self._requests.is_offering:
            self._take_answer(session_body(request))
        return True

    async def _look_for_ack(self) -> None:
        """Task: it should have come, or have been told."""
        seen, now = await self._ack.look(), trio.current_time()
        if self.phase is not Phase.CONFIRMED or not self._ack.is_open:
            return
        if seen is Seen.GONE:
            self.lose(LOST)
        elif seen is Seen.ENDED:
            self._take_end("CANCEL")  # or BYE: either way something is left to be freed
        elif seen is Seen.ACKNOWLEDGED:
            self._ack.close()
            if self._requests.is_offering:
                self._take_answer(None)
        elif seen is Seen.UNACKNOWLEDGED and now >= self._ack.since + ACK_SECONDS:
            self._log("sip.ack_missing")
            self._ack.close()
            self._part(named(ACK_MISSING, "no ACK received"), 408, event=AckMissing("of OpenSIPS"))
        else:
            self._deadlines.ack = now + ANSWER_SECONDS
            self.board.timers.watch(self)

    def _take_answer(self, body: bytes | None) -> None:
        """The peer's answer to our offer; None: it was not told. Without one an old session goes on, and a new one
        cannot."""
        cause = self._requests.take_answer(body)
        if cause is not None:
            self._log("sip.unusable_answer", cause=cause)
            if not self._requests.has_agreed and self.phase is Phase.CONFIRMED:
                self._part(named(SIGNALLING_FAILED, cause), 488, event=SignallingFailed(cause))

    # The end

    def _take_outcome(self, error: Exception | None) -> None:
        """What became of our 200."""
        if error is None:
            self.release.is_answered = True
            self._log("sip.answered", codec=self.media.agreement.codec, media=format_host_port(*self.media.local))
        elif self.phase is Phase.CONFIRMED:
            self._phase = Phase.LEAVING
            self.board.tasks.start_soon(self._give_up, str(error))

    async def _give_up(self, cause: str) -> None:
        """Task: our 200 was not taken. Mostly because of a CANCEL, whose event may still be on its way."""
        with trio.move_on_after(CROSSING_SECONDS):
            await self._ended.wait()
        self.end(SignallingFailed(f"the call could not be answered: {cause}"))
        await self.release.free(487 if self._ended.is_set() else 500)

    def _part(self, text: str, status: int = 200, fields: Fields = (), event: LegEvent | None = None) -> None:
        """Hang up; nothing here waits for it."""
        self._phase = Phase.LEAVING
        self.board.tasks.start_soon(self.release.hang_up, text, status, fields)
        if event is not None:
            self.end(event)

    def end(self, event: LegEvent | None) -> None:
        """The leg is over for who serves the call: tell so once."""
        if not self.is_over:
            self.is_over = True
            self._deadlines.stop()
            self.board.timers.watch(self)
            self._transfer.close("the caller hung up" if isinstance(event, HungUp) else "the call is over")
            self.queue.close(event)

    def _log(self, name: str, **fields: Any) -> None:
        logs.event(log, name, call_id=self.request.call_id, **fields)
