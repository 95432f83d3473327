"""The small machines of one conversation, and what both sides of it do with them: ask for responses."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs

from aivc.config.settings import OpenAISettings
from aivc.realtime.courtesies import Cause, Farewell, Greeting
from aivc.realtime.effects import Effect, HangUp, Send
from aivc.realtime.events import CreateResponse, UpdateTurnDetection
from aivc.realtime.history import History
from aivc.realtime.interruption import CallerTurn
from aivc.realtime.items import SpokenItems
from aivc.realtime.patience import AnswerWatch, IdleWatch
from aivc.realtime.sequencer import Purpose, ResponseRequest, ResponseSequencer
from aivc.realtime.setbacks import Setbacks
from aivc.realtime.toolcalls import ToolLedger
from aivc.realtime.usage import UsageTotals


@attrs.define
class Machines:
    """Each answers one question; none knows another."""

    settings: OpenAISettings
    new_event_id: Callable[[], str]
    responses: ResponseSequencer = attrs.field(init=False)
    items: SpokenItems = attrs.field(init=False)
    turn: CallerTurn = attrs.field(init=False)
    watch: AnswerWatch = attrs.field(init=False)
    idle: IdleWatch = attrs.field(init=False)
    greeting: Greeting = attrs.field(init=False)
    goodbye: Farewell = attrs.field(factory=Farewell, init=False)
    tools: ToolLedger = attrs.field(factory=ToolLedger, init=False)
    setbacks: Setbacks = attrs.field(factory=Setbacks, init=False)
    history: History = attrs.field(factory=History, init=False)
    usage: UsageTotals = attrs.field(factory=UsageTotals, init=False)
    playing: bool = attrs.field(default=False, init=False)  # the playout holds something, as far as we gave it
    on_hold: bool = attrs.field(default=False, init=False)  # the caller put the call on hold
    ending: bool = attrs.field(default=False, init=False)  # the call is over when what is being said was heard

    def __attrs_post_init__(self) -> None:
        self.responses = ResponseSequencer(self.new_event_id)
        self.items = SpokenItems(self.new_event_id)
        self.turn = CallerTurn(self.settings)
        self.watch = AnswerWatch(self.settings.answer_seconds)
        self.idle = IdleWatch(self.settings)
        self.greeting = Greeting(self.settings)

    @property
    def deadline(self) -> float:
        """When the first of them wants to be asked; infinity when nothing is awaited."""
        return min(
            self.setbacks.retry_at,
            self.responses.deadline,
            self.turn.deadline,
            self.watch.deadline,
            self.idle.deadline,
            self.greeting.deadline,
            self.goodbye.deadline,
        )

    @property
    def quiet(self) -> bool:
        """Whether nobody speaks, is about to, or waits for something."""
        return not (
            self.playing
            or self.watch.deadline < math.inf
            or not self.turn.silent
            or self.responses.typing
            or not self.responses.idle
            or self.tools.running
            or self.setbacks.retry_at < math.inf
            or self.ending
            or self.goodbye.cause is not None
            or self.on_hold
            or self.greeting.holds
        )

    def request(self, request: ResponseRequest, now: float) -> list[Effect]:
        """Ask for a response, now or when its turn comes; before the end of the call only for words of ours."""
        if self.ending and request.instructions is None:
            return []
        return self.sent(self.responses.request(request, now), now)

    def request_words(self, instructions: str, purpose: Purpose, now: float) -> list[Effect]:
        """Ask for a response that says this and uses no tools."""
        return self.request(ResponseRequest(self.in_session(instructions), "none", purpose), now)

    def last_words(self) -> None:
        """Nothing more is to be said than what is being said, and what a tool has asked to be said."""
        self.ending = True
        self.setbacks.take()
        self.responses.finish()

    def next_request(self, now: float) -> list[Effect]:
        return self.sent(self.responses.next(now), now)

    def sent(self, event: CreateResponse | None, now: float) -> list[Effect]:
        """Send a request that the sequencer lets go: from then on the model is awaited."""
        if event is None:
            return []
        self.watch.model_turn(now)
        return [Send(event)]

    def in_session(self, instructions: str) -> str:
        """Return instructions for one response: they replace the session's, so both stand in them."""
        session = self.settings.instructions
        return f"{session}\n\n{instructions}" if session else instructions

    def alive(self, response_id: str, now: float) -> None:
        """The model works on a response, which may be one that nobody wants."""
        if not (self.items.is_muted(response_id) or self.responses.is_over(response_id)):
            self.works(now)

    def works(self, now: float) -> None:
        """The model works on a response that somebody wants."""
        if self.turn.silent:
            self.watch.alive(now)

    def sign_of_life(self) -> list[Effect]:
        """The caller said a word or pressed a key: nobody asks whether they are there, or says goodbye to them."""
        if self.goodbye.withdraw():
            self.responses.withdraw("farewell")
        self.responses.withdraw("idle")
        self.tools.caller_is_there()
        return self.server_asks(True) if self.idle.caller_is_there() else []

    def server_asks(self, wanted: bool) -> list[Effect]:
        """Switch the server's idle time-out."""
        return [Send(UpdateTurnDetection(self.new_event_id(), self.settings, wanted))]

    def forget_session(self) -> None:
        """A new session knows nothing of the old one's responses, items and sounds."""
        self.responses.new_session()
        self.history.new_session()
        self.items = SpokenItems(self.new_event_id)
        self.turn.new_session()
        self.idle.new_session()
        self.watch.rest()


def hang_up(cause: Cause | None) -> list[Effect]:
    return [] if cause is None else [HangUp(cause)]
