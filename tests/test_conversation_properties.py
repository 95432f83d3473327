"""Whatever happens in whatever order: what a conversation never does. With a server and a playout made of paper."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Literal

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from realtime_talk import FRAME, Cut

from aivc.config.settings import OpenAISettings
from aivc.realtime import effects, events
from aivc.realtime.conversation import Conversation
from aivc.realtime.effects import Effect

FRAME_MS = 20


@attrs.define
class PaperPlayout:
    """Items with frames received and heard, oldest first."""

    items: dict[str, list[int]] = attrs.field(factory=dict)
    ended: set[str] = attrs.field(factory=set)
    paused: bool = False

    def play_frame(self) -> bool:
        """Play one frame; say whether that was the last."""
        waiting = [heard for heard in self.items.values() if heard[1] < heard[0]]
        if self.paused or not waiting:
            return False
        waiting[0][1] += 1
        return len(waiting) == 1 and waiting[0][1] == waiting[0][0]

    def cut(self) -> list[Cut]:
        cut = [
            Cut(item_id, heard * FRAME_MS, received * FRAME_MS, item_id in self.ended and heard == received)
            for item_id, (received, heard) in self.items.items()
        ]
        self.items.clear()
        self.paused = False
        return cut


@attrs.define
class World:
    """One call: the server does something, the conversation's effects are performed at once."""

    talk: Conversation
    confirms: bool
    now: float = 0.0
    numbers: itertools.count[int] = attrs.field(factory=itertools.count)
    playout: PaperPlayout = attrs.field(factory=PaperPlayout)
    received_ms: Counter[str] = attrs.field(factory=Counter)
    corrected: set[str] = attrs.field(factory=set)
    asked: list[str] = attrs.field(factory=list)  # event ids of response.create that the server has not read
    active: str | None = None
    item: str = ""
    speaks: str | None = None  # the item that the caller speaks
    began: float = 0.0
    calls: list[str] = attrs.field(factory=list)

    def perform(self, wanted: list[Effect]) -> None:
        for effect in wanted:
            match effect:
                case effects.Send(event=event):
                    self.send(event)
                case effects.Play(item_id=item_id):
                    self.playout.items.setdefault(item_id, [0, 0])[0] += 1
                    self.received_ms[item_id] += FRAME_MS
                case effects.ItemAudioDone(item_id=item_id):
                    self.playout.ended.add(item_id)
                case effects.CutPlayout():
                    self.perform(self.talk.playout_cut(self.playout.cut(), self.now))
                case effects.PausePlayout():
                    assert self.confirms
                    self.playout.paused = True
                case effects.ResumePlayout():
                    assert self.playout.paused
                    self.playout.paused = False
                case effects.RunTool(call=call):
                    self.calls.append(call.call_id)
                case _:
                    pass

    def send(self, event: events.ClientEvent) -> None:
        match event:
            case events.CreateResponse(event_id):
                assert self.speaks is None, "the caller is talked down"
                assert not self.asked, "two requests at a time"
                assert not self.talk.responses.typing, "nobody answers half an entry"
                self.asked.append(event_id)
            case events.TruncateItem(item_id=item_id, audio_end_ms=end_ms):
                assert 0 < end_ms <= self.received_ms[item_id], "longer than the item"
                self.correct(item_id)
            case events.DeleteItem(item_id=item_id):
                self.correct(item_id)
            case events.CancelResponse(response_id=response_id) if response_id == self.active:
                self.end("cancelled")
            case _:
                pass

    def correct(self, item_id: str) -> None:
        assert item_id not in self.corrected, "corrected twice"
        self.corrected.add(item_id)

    def tell(self, event: events.ServerEvent) -> None:
        self.perform(self.talk.handle(event, self.now))

    def end(self, status: str) -> None:
        response_id, self.active = self.active, None
        if response_id is not None:
            self.tell(events.ResponseDone(response_id, status, error_code="server_error"))

    def create(self, answers: str) -> None:
        self.active = f"r{next(self.numbers)}"
        self.item = f"i{next(self.numbers)}"
        self.tell(events.ResponseCreated(self.active, answers))

    def happen(self, step: str) -> None:
        self.now += 0.01
        match step:
            case "read" if self.asked:
                event_id = self.asked.pop(0)
                if self.active is None:
                    self.create(event_id)
                else:
                    code = "conversation_already_has_active_response"
                    self.tell(events.ErrorEvent(code, "", event_id=event_id))
            case "speech" if self.speaks is None and not self.talk.holds_back_caller:
                self.speaks, self.began = f"u{next(self.numbers)}", self.now
                self.tell(events.SpeechStarted(self.speaks, int(self.now * 1000)))
                if self.active is not None and not self.confirms:
                    self.end("cancelled")
            case "stop" if self.speaks is not None:
                item_id, self.speaks = self.speaks, None
                self.tell(events.SpeechStopped(item_id, int(self.now * 1000)))
                self.tell(events.InputCommitted(item_id))
                if self.active is None and not self.confirms:
                    self.create("")
            case "audio" if self.active is not None:
                self.tell(events.AudioDelta(self.active, self.item, FRAME))
            case "item" if self.active is not None:
                self.tell(events.AudioDone(self.active, self.item))
                self.item = f"i{next(self.numbers)}"
            case "call" if self.active is not None:
                call_id = f"c{next(self.numbers)}"
                self.tell(events.FunctionCall(self.active, f"f{call_id}", call_id, "t", "{}"))
            case "completed" | "failed":
                self.end(step)
            case "tool" if self.calls:
                self.perform(self.talk.tool_finished(self.calls.pop(0), "ok", self.now))
            case "play":
                if self.playout.play_frame():
                    self.perform(self.talk.playout_drained(self.now))
            case "time":
                self.happen("read")  # within the time after which an unanswered request is repeated
                self.now += 0.4
                self.perform(self.talk.expire(self.now))
            case "say":
                self.perform(self.talk.say(f"Say {next(self.numbers)}.", self.now))
            case "key":
                self.perform(self.talk.key_pressed(self.now))
            case "entry" if self.talk.responses.typing:
                self.perform(self.talk.digits_entered("1", self.now))
            case "interrupt":
                self.perform(self.talk.interrupt(self.now))
            case "restart":
                self.active = None
                self.asked.clear()
                if self.speaks is not None:
                    self.speaks = None
                self.perform(self.talk.restart(self.now))
            case _:
                pass


STEPS = ["read", "speech", "stop", "audio", "audio", "item", "call", "completed", "failed", "tool", "play", "play"]
SELDOM = ["time", "say", "key", "entry", "interrupt", "restart"]


@settings(max_examples=400, deadline=None)
@given(
    steps=st.lists(st.sampled_from(STEPS + SELDOM), max_size=120),
    interruption=st.sampled_from(["cut", "confirm"]),
    interrupts=st.booleans(),
)
def test_nobody_is_talked_down_nothing_is_asked_twice_and_no_item_is_corrected_wrongly(
    steps: list[str], interruption: Literal["cut", "confirm"], interrupts: bool
) -> None:
    numbers = itertools.count()
    openai = OpenAISettings(
        welcome_message="Hello.",
        interruption=interruption,
        turn_detection_interrupt_response=interrupts,
        dialect="beta",
        idle_timeout_ms=1000,
        answer_seconds=2,
    )
    world = World(Conversation(openai, lambda: f"e{next(numbers)}"), confirms=interruption == "confirm")
    world.perform(world.talk.begin(0.0))
    for step in steps:
        world.happen(step)
        utterances = world.talk.history.utterances
        assert all((said.heard_ms or 0) <= (said.received_ms or 0) for said in utterances)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.sampled_from(STEPS + SELDOM), max_size=80), interruption=st.sampled_from(["cut", "confirm"]))
def test_a_deadline_that_has_passed_is_over_after_expire(
    steps: list[str], interruption: Literal["cut", "confirm"]
) -> None:
    numbers = itertools.count()
    openai = OpenAISettings(welcome_message="Hello.", interruption=interruption, welcome_interruptible=False)
    world = World(Conversation(openai, lambda: f"e{next(numbers)}"), confirms=interruption == "confirm")
    world.perform(world.talk.begin(0.0))
    for step in steps:
        world.happen(step)
        if world.talk.deadline <= world.now:
            world.perform(world.talk.expire(world.now))
            assert world.talk.deadline > world.now
