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
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import attrs

from aivc.realtime.events import CreateResponse, ToolChoice

ANSWER_SECONDS = 5.0  # from response.create to response.created or its error: one round trip and a busy server
WAITING = 8  # requests: welcome, tool results, nudges; equal ones are merged, so more is a bug or an attack
ATTEMPTS = 3  # of one request that keeps colliding with other responses
FINISHED = 32  # response ids remembered, to know a repeated response.done


@attrs.frozen
class ResponseRequest:
    """A response that somebody wants."""

    instructions: str | None = None
    tool_choice: ToolChoice | None = None
    attempts: int = attrs.field(default=0, eq=False)


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


@attrs.frozen
class Active:
    """The server generates. `request` is what we take it to answer, None when the server made it on its own."""

    response_id: str
    request: ResponseRequest | None = None
    event_id: str | None = None


@attrs.frozen
class Blocked:
    """The server says that a response is active, and we have not seen it begin."""

    deadline: float


@attrs.define
class ResponseSequencer:
    """Decides when `response.create` may be sent; methods that return one want it sent now."""

    new_event_id: Callable[[], str]
    state: Idle | Requested | Active | Blocked = attrs.field(factory=Idle, init=False)
    refused_requests: int = attrs.field(default=0, init=False)  # dropped: the queue was full, or attempts ran out
    _queue: deque[ResponseRequest] = attrs.field(factory=deque, init=False)
    _finished: deque[str] = attrs.field(factory=lambda: deque(maxlen=FINISHED), init=False)

    @property
    def deadline(self) -> float:
        """When to call `expire`; infinity when nothing is awaited."""
        return self.state.deadline if isinstance(self.state, Requested | Blocked) else math.inf

    def request(self, request: ResponseRequest, now: float) -> CreateResponse | None:
        """Ask for a response, now or when its turn comes."""
        if request not in self._queue:
            if len(self._queue) < WAITING:
                self._queue.append(request)
            else:
                self.refused_requests += 1
        return self.next(now)

    def created(self, response_id: str, answers: str | None = None) -> None:
        """Note `response.created`; `answers` as in `events.ResponseCreated`."""
        match self.state:
            case _ if response_id in self._finished:
                return  # announced after its end
            case Requested(request, event_id) if answers in (event_id, None):
                self.state = Active(response_id, request, event_id)
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
        self._finished.append(response_id)
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
        if not isinstance(self.state, Idle) or not self._queue:
            return None
        request, event_id = self._queue.popleft(), self.new_event_id()
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

    def expire(self, now: float) -> tuple[bool, CreateResponse | None]:
        """Give up an answer that never came; return whether one was given up, and what to send now.

        The request is not repeated: a slow server would then answer twice, and the caller hear both.
        """
        if now < self.deadline:
            return False, None
        unanswered = isinstance(self.state, Requested)
        self._drop_request()
        return unanswered, self.next(now)

    def _drop_request(self) -> None:
        other_id = self.active_id
        self.state = Idle() if other_id is None else Active(other_id)

    def _again(self, request: ResponseRequest) -> None:
        request = attrs.evolve(request, attempts=request.attempts + 1)
        if request.attempts >= ATTEMPTS:
            self.refused_requests += 1
        elif request not in self._queue:
            self._queue.appendleft(request)
