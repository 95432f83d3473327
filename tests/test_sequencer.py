"""One response at a time, against a simulated server whose turn detection makes responses of its own."""

from __future__ import annotations

import itertools
from collections import deque

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aivc.config.settings import OpenAISettings
from aivc.realtime import events
from aivc.realtime.conversation import Conversation
from aivc.realtime.effects import Effect, RunTool, Send
from aivc.realtime.events import CreateResponse
from aivc.realtime.sequencer import (
    ANSWER_SECONDS,
    ATTEMPTS,
    WAITING,
    Active,
    Blocked,
    Idle,
    Requested,
    ResponseRequest,
    ResponseSequencer,
)

ASK = ResponseRequest("say this")


def sequencer() -> ResponseSequencer:
    numbers = itertools.count(1)
    return ResponseSequencer(lambda: f"e{next(numbers)}")


def in_state(name: str) -> ResponseSequencer:
    responses = sequencer()
    if name != "idle":
        responses.request(ASK, 0.0)
    if name == "active":
        responses.created("r1")
    if name == "blocked":
        responses.already_active("e1", 0.0)
    return responses


def state_of(responses: ResponseSequencer) -> object:
    return responses.state


IDLE, ACTIVE = Idle(), Active("r1", ASK, "e1")
REQUESTED, BLOCKED = Requested(ASK, "e1", ANSWER_SECONDS), Blocked(ANSWER_SECONDS)
TABLE = {
    ("idle", "created"): Active("r9"),
    ("idle", "done"): IDLE,
    ("idle", "busy"): IDLE,
    ("idle", "refused"): IDLE,
    ("idle", "expire"): IDLE,
    ("requested", "created"): Active("r9", ASK, "e1"),
    ("requested", "done"): IDLE,
    ("requested", "busy"): BLOCKED,
    ("requested", "refused"): IDLE,
    ("requested", "expire"): IDLE,
    ("active", "created"): Active("r9"),
    ("active", "done"): ACTIVE,  # another response's end
    ("active", "busy"): Active("r1"),
    ("active", "refused"): Active("r1"),
    ("active", "expire"): ACTIVE,
    ("blocked", "created"): Active("r9"),
    ("blocked", "done"): IDLE,
    ("blocked", "busy"): BLOCKED,
    ("blocked", "refused"): BLOCKED,
    ("blocked", "expire"): Requested(ASK, "e2", 2 * ANSWER_SECONDS),
}


@pytest.mark.parametrize(("state", "happens"), TABLE)
def test_every_state_meets_every_input(state: str, happens: str) -> None:
    responses = in_state(state)
    match happens:
        case "created":
            responses.created("r9")
        case "done":
            responses.done("r9")
        case "busy":
            responses.already_active("e1", 0.0)
        case "refused":
            responses.refused("e1", 0.0)
        case "expire":
            responses.expire(ANSWER_SECONDS)
        case _:
            raise AssertionError(happens)
    assert responses.state == TABLE[state, happens]


def test_equal_requests_are_merged_and_different_ones_wait_in_order() -> None:
    responses = sequencer()
    assert responses.request(ResponseRequest("a"), 0.0) == CreateResponse("e1", "a")
    for words in ("b", "b", "c", "b"):
        assert responses.request(ResponseRequest(words), 0.0) is None
    said = []
    for n in range(3):
        responses.created(f"r{n}")
        responses.done(f"r{n}")
        request = responses.next(0.0)
        said.append(request and request.instructions)
    assert said == ["b", "c", None]


def test_more_requests_than_anybody_can_mean_are_refused_and_counted() -> None:
    responses = sequencer()
    for n in range(WAITING + 3):
        responses.request(ResponseRequest(str(n)), 0.0)
    assert responses.refused_requests == 2  # one is on its way


def test_a_request_that_always_collides_is_given_up() -> None:
    responses = sequencer()
    request = responses.request(ASK, 0.0)
    for n in range(ATTEMPTS):
        assert request is not None
        responses.already_active(request.event_id, 0.0)
        responses.done(f"r{n}")
        request = responses.next(0.0)
    assert request is None
    assert responses.refused_requests == 1


def test_without_an_event_id_a_collision_is_about_our_only_request() -> None:
    responses = in_state("requested")
    responses.already_active(None, 0.0)
    assert responses.state == BLOCKED
    responses.done("r1")
    again = responses.next(1.0)
    assert again == CreateResponse("e2", "say this")


def test_a_collision_about_something_else_changes_nothing() -> None:
    responses = in_state("requested")
    responses.already_active("not ours", 0.0)
    assert responses.state == REQUESTED


def test_a_repeated_end_does_not_end_the_next_response() -> None:
    responses = in_state("active")
    responses.done("r1")
    responses.request(ASK, 1.0)
    responses.done("r1")
    assert isinstance(responses.state, Requested)
    responses.created("r1")  # late news of the old one
    assert isinstance(responses.state, Requested)


def test_a_response_of_the_servers_own_is_not_taken_for_ours_when_the_server_tells_them_apart() -> None:
    responses = in_state("requested")
    responses.created("r1", "")
    assert responses.active_id == "r1"
    responses.done("r1")
    assert state_of(responses) == REQUESTED
    responses.created("r2", "e1")
    assert state_of(responses) == Active("r2", ASK, "e1")


def test_a_request_that_met_the_servers_own_response_waits_for_its_end() -> None:
    responses = in_state("requested")
    responses.created("r1", "")
    responses.already_active("e1", 0.0)
    assert responses.state == Active("r1")
    responses.done("r1")
    assert responses.next(1.0) == CreateResponse("e2", "say this")


@attrs.define
class Server:
    """The real server's rules on responses, with everything in flight both ways."""

    echoes_event_ids: bool
    echoes_metadata: bool
    to_server: deque[events.ClientEvent] = attrs.field(factory=deque)
    to_client: deque[events.ServerEvent] = attrs.field(factory=deque)
    active: str | None = None
    numbers: itertools.count[int] = attrs.field(factory=itertools.count)
    known_calls: set[str] = attrs.field(factory=set)
    outputs: list[str] = attrs.field(factory=list)
    refusals: int = 0

    def create(self, answers: str = "") -> None:
        self.active = f"r{next(self.numbers)}"
        self.to_client.append(events.ResponseCreated(self.active, answers if self.echoes_metadata else None))

    def speech(self) -> None:
        self.to_client.append(events.SpeechStarted())
        self.finish("cancelled", 0)

    def turn_ends(self) -> None:
        self.to_client.append(events.SpeechStopped())
        if self.active is None:
            self.create()

    def finish(self, status: str, calls: int) -> None:
        if self.active is None:
            return
        ids = [f"c{next(self.numbers)}" for _ in range(calls)]
        made = tuple(events.FunctionCall(self.active, "i", call_id, "t", "{}") for call_id in ids)
        self.to_client.extend(made)
        self.to_client.append(events.ResponseDone(self.active, status, function_calls=made))
        self.known_calls |= set(ids)
        self.active = None

    def read(self) -> None:
        match self.to_server.popleft():
            case CreateResponse(event_id) if self.active is not None:
                self.refusals += 1
                echoed = event_id if self.echoes_event_ids else None
                code = "conversation_already_has_active_response"
                self.to_client.append(events.ErrorEvent(code, "", event_id=echoed))
            case CreateResponse(event_id):
                self.create(event_id)
            case events.CancelResponse(event_id, response_id):
                if self.active == response_id:
                    self.finish("cancelled", 0)
                else:
                    self.to_client.append(events.ErrorEvent("response_cancel_not_active", "", event_id=event_id))
            case events.SendToolOutput(call_id=call_id):
                assert call_id in self.known_calls, "an output before the end of its response"
                self.outputs.append(call_id)
            case other:
                raise AssertionError(other)


@attrs.define
class Client:
    """A conversation, with its tools."""

    server: Server
    talk: Conversation
    running: deque[str] = attrs.field(factory=deque)
    now: float = 0.0
    caller_speaks: bool = False

    def perform(self, wanted: list[Effect]) -> None:
        for effect in wanted:
            match effect:
                case Send(event):
                    if isinstance(event, CreateResponse):
                        assert self.talk.responses.active_id is None
                        assert not self.caller_speaks, "the caller is talked down"
                        assert not (self.server.echoes_metadata and self.unanswered()), "two at a time"
                    self.server.to_server.append(event)
                case RunTool(call):
                    self.running.append(call.call_id)
                case _:
                    pass

    def unanswered(self) -> bool:
        """Whether a request of ours, or the server's answer to one, is on its way."""
        coming = [
            event
            for event in self.server.to_client
            if isinstance(event, events.ErrorEvent) or (isinstance(event, events.ResponseCreated) and event.answers)
        ]
        return bool(coming) or any(isinstance(event, CreateResponse) for event in self.server.to_server)

    def read(self) -> None:
        event = self.server.to_client.popleft()
        match event:
            case events.SpeechStarted():
                self.caller_speaks = True
            case events.SpeechStopped() | events.ResponseCreated(answers=""):
                self.caller_speaks = False
            case _:
                pass
        self.perform(self.talk.handle(event, self.now))

    def finish_tool(self) -> None:
        self.perform(self.talk.tool_finished(self.running.popleft(), "ok", self.now))


def simulate(steps: list[str], echoes_event_ids: bool, echoes_metadata: bool) -> Server:
    server = Server(echoes_event_ids, echoes_metadata)
    numbers = itertools.count()
    client = Client(server, Conversation(OpenAISettings(welcome_message="Hello."), lambda: f"e{next(numbers)}"))
    client.perform(client.talk.begin(0.0))
    for step in steps:
        client.now += 0.01
        match step:
            case "speech":
                server.speech()
            case "turn ends":
                server.turn_ends()
            case "server reads" if server.to_server:
                server.read()
            case "client reads" if server.to_client:
                client.read()
            case "tool" if client.running:
                client.finish_tool()
            case "finish":
                server.finish("completed", 0)
            case "finish with calls":
                server.finish("completed", 2)
            case _:
                pass  # nothing to read, no tool running
    # Let everything that is on its way arrive.
    while server.to_server or server.to_client or client.running or server.active:
        client.now += 0.01
        if server.to_server:
            server.read()
        elif server.to_client:
            client.read()
        elif client.running:
            client.finish_tool()
        else:
            server.finish("completed", 0)
    assert isinstance(client.talk.responses.state, Idle | Blocked)
    client.perform(client.talk.expire(client.now + ANSWER_SECONDS))
    assert sorted(server.outputs) == sorted(server.known_calls), "every call is answered, once"
    return server


OURS = ["server reads", "client reads", "tool", "finish", "finish with calls"]


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.sampled_from(OURS), max_size=60), echoes=st.booleans())
def test_without_turn_detection_the_server_never_refuses_a_response(steps: list[str], echoes: bool) -> None:
    assert simulate(steps, echoes, echoes).refusals == 0


@settings(max_examples=300, deadline=None)
@given(
    steps=st.lists(st.sampled_from([*OURS, "speech", "turn ends"]), max_size=80),
    event_ids=st.booleans(),
    metadata=st.booleans(),
)
def test_with_turn_detection_nothing_is_stuck_every_call_is_answered_once_and_one_request_is_out_at_a_time(
    steps: list[str], event_ids: bool, metadata: bool
) -> None:
    simulate(steps, event_ids, metadata)
