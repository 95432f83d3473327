"""One response at a time: the server refuses `response.create` while a response is active.

        request            response.created           response.done
  IDLE ---------> REQUESTED ----------------> ACTIVE ---------------> IDLE
                   |   |                        ^
                   |   | "already active"       | response.created (the server's turn detection made one)
           refused,|   v                        |
           timeout |  BLOCKED ------------------+
                   v   | response.done, timeout
                  IDLE <-+

Requests wait in a queue; equal ones are merged. A response that the server made on its own may come while ours is
requested. Where the server repeats our event id in the response (as OpenAI does with metadata) the two are told apart;
elsewhere it is taken for ours, until "already active" says that it was not and the request is queued again.

While the caller speaks the queue is held, so that nobody is talked down; the server's answer to the turn comes first.
While the caller presses keys it is held as well, whatever else happens, a new session included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import attrs

from aivc.realtime.events import CreateResponse, ToolChoice
from aivc.realtime.recent import Recent

ANSWER_SECONDS = 5.0  # from response.create to response.created or its error: one round trip and a busy server
CANCEL_SECONDS = 2.0  # from response.cancel to response.done: some servers never say so
COVERED_SECONDS = 0.5  # what was sent so long before a response began is known to it: one slow round trip
WAITING = 8  # requests: welcome, tool results, nudges; equal ones are merged, so more is a bug or an attack
ATTEMPTS = 3  # of one request that keeps colliding with other responses
FINISHED = 32  # response ids remembered, to know a repeated response.done

Purpose = Literal["welcome", "turn", "tools", "keys", "say", "idle", "farewell"]
REPEATED: frozenset[Purpose] = frozenset({"welcome", "turn", "tools", "keys"})  # unanswered ones: the caller waits


@attrs.frozen
class ResponseRequest:
    """A response that somebody wants."""

    instructions: str | None = None
    tool_choice: ToolChoice | None = None
    purpose: Purpose = attrs.field(default="say", eq=False)
    attempts: int = attrs.field(default=0, eq=False)
    asked_at: float = attrs.field(default=0.0, eq=False)
    unanswered: str | None = attrs.field(default=None, eq=False)  # event id of a first try that nobody answered


@attrs.frozen
class Idle:
    """No response in the default conversation."""


@attrs.frozen
class Requested:
    """`response.create` is on its way."""

    request: ResponseRequest
    event_id: str
    deadline: float
    other_id: str | None = None  # a response of the server's own that is active meanwhile
    unwanted: bool = False  # it is to be cancelled as soon as it has an id

    def is_answered(self, answers: str | None) -> bool:
        """Say whether `response.created` is about this request; `answers` as in `events.ResponseCreated`."""
        return answers in (self.event_id, None) or (bool(answers) and answers == self.request.unanswered)


@attrs.frozen
class Active:
    """The server generates. `request` is what we take it to answer, None when the server made it on its own."""

    response_id: str
    request: ResponseRequest | None = None
    event_id: str | None = None
    deadline: float = math.inf  # of its end, when it was cancelled


@attrs.frozen
class Blocked:
    """The server says that a response is active, and we have not seen it begin."""

    deadline: float


@attrs.define
class ResponseSequencer:
    """Decides when `response.create` may be sent; methods that return one want it sent now."""

    new_event_id: Callable[[], str]
    state: Idle | Requested | Active | Blocked = attrs.field(factory=Idle, init=False)
    typing: bool = attrs.field(default=False, init=False)  # the caller is in the middle of an entry of keys
    refused_requests: int = attrs.field(default=0, init=False)  # dropped: the queue was full, or attempts ran out
    _queue: list[ResponseRequest] = attrs.field(factory=list, init=False)
    _finished: Recent[None] = attrs.field(factory=lambda: Recent(FINISHED), init=False)
    _abandoned: Recent[None] = attrs.field(factory=lambda: Recent(FINISHED), init=False)  # their end may yet come
    _held_until: float = attrs.field(default=-math.inf, init=False)

    @property
    def deadline(self) -> float:
        """When to call `expire`; infinity when nothing is awaited."""
        if isinstance(self.state, Idle):
            return self._held_until if self._queue and not self.typing else math.inf
        return self.state.deadline

    @property
    def idle(self) -> bool:
        """Whether no response is active, asked for or queued."""
        return isinstance(self.state, Idle) and not self._queue

    @property
    def expects_audio(self) -> bool:
        """Whether a response is active or asked for."""
        return isinstance(self.state, Active | Requested)

    @property
    def waiting(self) -> list[ResponseRequest]:
        """What was asked for and has not begun, first come first."""
        asked = [self.state.request] if isinstance(self.state, Requested) else []
        return asked + self._queue

    def request(self, request: ResponseRequest, now: float) -> CreateResponse | None:
        """Ask for a response, now or when its turn comes."""
        if request in self._queue:  # which answers this cause as well, so no earlier response covers it
            place = self._queue.index(request)
            self._queue[place] = attrs.evolve(self._queue[place], asked_at=now)
        elif len(self._queue) < WAITING:
            self._queue.append(attrs.evolve(request, asked_at=now))
        else:
            self.refused_requests += 1
        return self.next(now)

    def put_back(self, request: ResponseRequest) -> None:
        """Ask again for a response that had begun, unless another one begins before: that knows as much as it did."""
        if request not in self._queue:
            self._queue.insert(0, attrs.evolve(request, asked_at=-math.inf))

    def hold(self, until: float = math.inf) -> None:
        """Send no request before this time."""
        self._held_until = until

    def release(self) -> None:
        """Let requests be sent again; call `next` for the one that waited."""
        self._held_until = -math.inf

    def cover(self, now: float) -> None:
        """Forget what the response that just began says anyway: it knows all items sent well before."""
        known = now - COVERED_SECONDS
        self._keep(lambda request: request.instructions is not None or request.asked_at > known)
        self.withdraw("welcome", "idle")

    def withdraw(self, *purposes: Purpose) -> None:
        """Forget requests that wait for one of these reasons."""
        self._keep(lambda request: request.purpose not in purposes)

    def finish(self) -> None:
        """Ask for no answers any more, only for words of ours."""
        self._keep(lambda request: request.instructions is not None)
        if isinstance(self.state, Requested) and self.state.request.instructions is None:
            self.unwant()

    def give_up(self, purpose: Purpose) -> None:
        """Forget requests for this reason, also one that was sent: its answer is not waited for any more."""
        self.withdraw(purpose)
        if isinstance(self.state, Requested) and self.state.request.purpose == purpose:
            self._drop_request()

    def unwant(self) -> None:
        """Note that nobody wants the response that was asked for and has not begun."""
        if isinstance(self.state, Requested):
            self.state = attrs.evolve(self.state, unwanted=True)

    def answered_by(self, answers: str | None) -> Requested | None:
        """Return our open request if a `response.created` with this `answers` is about it."""
        match self.state:
            case Requested() as requested if requested.is_answered(answers):
                return requested
            case _:
                return None

    def created(self, response_id: str, answers: str | None = None) -> None:
        """Note `response.created`; `answers` as in `events.ResponseCreated`."""
        match self.state:
            case _ if response_id in self._finished or response_id in self._abandoned:
                return  # announced after its end
            case Requested(request, event_id) as requested if requested.is_answered(answers):
                late = bool(answers) and answers != event_id  # the repetition will be refused, and is not to be queued
                self.state = Active(response_id, request, None if late else event_id)
            case Requested() as requested:
                self.state = attrs.evolve(requested, other_id=response_id)
            case Active(active_id) if active_id == response_id:
                return
            case _:  # the server's own; an older one must be over, for there is only one at a time
                self.state = Active(response_id)

    def done(self, response_id: str) -> None:
        """Note `response.done`; repeated ones change nothing. Call `next` when its tool outputs are on their way."""
        if response_id in self._finished:
            return
        self._finished.add(response_id, None)
        if response_id in self._abandoned:
            return
        match self.state:
            case Active(active_id) if active_id != response_id:
                return
            case Requested(other_id=str() as other_id) as requested:
                if other_id == response_id:
                    self.state = attrs.evolve(requested, other_id=None)
            case _:  # also Requested and Blocked: a response may end without having been announced
                self.state = Idle()

    def next(self, now: float) -> CreateResponse | None:
        """Return the next request that waits, when no response is active or asked for."""
        if not isinstance(self.state, Idle) or not self._queue or self.typing or now < self._held_until:
            return None
        request, event_id = self._queue.pop(0), self.new_event_id()
        self.state = Requested(request, event_id, now + ANSWER_SECONDS)
        return CreateResponse(event_id, request.instructions, request.tool_choice)

    @property
    def active_id(self) -> str | None:
        """The response being generated, as far as we know."""
        match self.state:
            case Active(response_id=active_id) | Requested(other_id=active_id):
                return active_id
            case _:
                return None

    def cancelled(self, response_id: str, now: float) -> None:
        """Note that a response was told to end; it counts as ended soon, whatever the server says."""
        match self.state:
            case Active(active_id, deadline=deadline) as active if active_id == response_id:
                self.state = attrs.evolve(active, deadline=min(deadline, now + CANCEL_SECONDS))
            case _:
                pass

    def abandon(self, now: float) -> ResponseRequest | None:
        """Wait no longer for what was asked for or is active, nor hold the queue; return our request for it, if any.

        An active response was told to end: the next one is asked for when it did, or after a moment.
        """
        request, active_id = None, self.active_id
        if isinstance(self.state, Active | Requested):
            request = self.state.request
        self.state = Idle() if active_id is None else Active(active_id, deadline=now + CANCEL_SECONDS)
        self.release()
        return request

    def new_session(self) -> None:
        """Forget every response and request: the session that knew them is gone, and another may use their ids."""
        self.state = Idle()
        self._queue.clear()
        self._finished.clear()
        self._abandoned.clear()
        self.release()

    def is_over(self, response_id: str) -> bool:
        """Say whether this response's end was seen already (of the last 32)."""
        return response_id in self._finished

    def request_of(self, response_id: str) -> ResponseRequest | None:
        """Return what the active response was asked for with; None when the server made it."""
        match self.state:
            case Active(active_id, request) if active_id == response_id:
                return request
            case _:
                return None

    def request_sent_as(self, event_id: str) -> ResponseRequest | None:
        """Return the request that this event of ours asked for; None when it is another's or answered."""
        match self.state:
            case Requested(request=request, event_id=ours) | Active(request=request, event_id=ours) if ours == event_id:
                return request
            case _:
                return None

    def already_active(self, event_id: str | None, now: float) -> None:
        """Note "conversation already has an active response"; without an event id it is about our only request."""
        match self.state:
            case Requested(request, ours) if event_id in (ours, None):
                self._drop_request()
                if isinstance(self.state, Idle):
                    self.state = Blocked(now + ANSWER_SECONDS)
                self._again(request)
            case Active(response_id, ResponseRequest() as request, ours) if event_id in (ours, None):
                self.state = Active(response_id)
                self._again(request)
            case _:
                return  # the server's own attempt met our response

    def refused(self, event_id: str, now: float) -> CreateResponse | None:
        """Note any other error about our request: asking again in the same words would fail again."""
        match self.state:
            case Requested(event_id=ours) if event_id == ours:
                self._drop_request()
                return self.next(now)
            case Active(response_id, event_id=ours) if event_id == ours:
                self.state = Active(response_id)
                return None
            case _:
                return None

    def expire(self, now: float) -> tuple[ResponseRequest | None, CreateResponse | None]:
        """Wait no longer for an answer that never came.

        What the caller waits for is asked once more. A slow server does not answer twice: it refuses the repetition.

        Returns:
            The request that was not answered, and what to send now.
        """
        if now < self.deadline:
            return None, None
        unanswered = None
        match self.state:
            case Requested(request, event_id, other_id=other_id):
                unanswered = request
                self._drop_request()
                if other_id is None and request.purpose in REPEATED and request.unanswered is None:
                    self._queue.insert(0, attrs.evolve(request, unanswered=event_id))
            case Active(response_id):
                self._abandoned.add(response_id, None)
                self.state = Idle()
            case _:
                self.state = Idle()
        return unanswered, self.next(now)

    def _keep(self, wanted: Callable[[ResponseRequest], bool]) -> None:
        self._queue = [request for request in self._queue if wanted(request)]

    def _drop_request(self) -> None:
        other_id = self.active_id
        self.state = Idle() if other_id is None else Active(other_id)

    def _again(self, request: ResponseRequest) -> None:
        request = attrs.evolve(request, attempts=request.attempts + 1)
        if request.attempts >= ATTEMPTS:
            self.refused_requests += 1
        elif request not in self._queue:
            self._queue.insert(0, request)
