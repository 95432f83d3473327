"""The responses of a session: at most one that writes to the conversation, and any number beside it."""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Literal

from aivc.testing.configuration import response_settings
from aivc.testing.conversation import Conversation
from aivc.testing.generation import Generation, Planner
from aivc.testing.hearing import InputBuffer
from aivc.testing.outbox import Agenda, Outbox, Setup
from aivc.testing.schema import Json, Refusal
from aivc.testing.script import CallTool, Context, ToolOutput, Turn

if TYPE_CHECKING:
    import random

RATE_LIMITS_SECONDS = 0.043  # after response.done, as captured from the live service
UNKNOWN_EVENTS_SHARE = 0.5  # of the responses are announced with an event that no client knows


class Responses:
    """Creates, advances, cancels and ends responses, and remembers what scripts want to know."""

    def __init__(
        self,
        setup: Setup,
        outbox: Outbox,
        agenda: Agenda,
        random: random.Random,
        conversation: Conversation,
        buffer: InputBuffer,
    ) -> None:
        faults = setup.faults
        self._setup = setup
        self._outbox = outbox
        self._agenda = agenda
        self._random = random
        self._conversation = conversation
        self._buffer = buffer
        self._planner = Planner(
            setup.pace,
            random,
            outbox.new_id,
            faults.speak_format,
            faults.delta_octets,
            faults.broken_arguments,
            setup.decorate,
        )
        self._generations: list[Generation] = []
        self._created = 0
        self._turns = 0
        self._turn: Turn | None = None
        self._interrupted = False
        self._outputs: list[ToolOutput] = []  # since the last response
        self._texts: list[str] = []  # likewise
        self._unanswered = 0
        self._crossed = 0
        self._called: list[str] = []

    @property
    def next_at(self) -> float:
        return min((generation.next_at for generation in self._generations), default=math.inf)

    @property
    def active(self) -> Generation | None:
        """The one response that may write to the conversation."""
        return next((generation for generation in self._generations if generation.conversation), None)

    def add_turn(self, turn: Turn) -> None:
        """The caller said something."""
        self._turns += 1
        self._turn = turn

    def add_output(self, output: ToolOutput) -> None:
        """The client answered a function call."""
        self._outputs.append(output)

    def add_text(self, text: str) -> None:
        """The client wrote in the caller's name."""
        self._texts.append(text)

    def answer(self, session: Json, trigger: Literal["turn", "idle"], now: float) -> None:
        """Respond to the caller; an interrupted response is brought to its end first.

        A response that goes on (`interrupt_response: false`) stays the only one: nothing is created.
        """
        active = self.active
        while active and active.cancelling and active in self._generations:
            self._take_step(active, now)
        if self.active is None:
            self._start(session, {}, trigger, now, self._conversation)

    def create(self, session: Json, params: Json, assistant_audio: bool, now: float) -> None:
        """Obey `response.create`.

        Raises:
            Refusal: one is active already, or the parameters do not hold.
        """
        in_conversation = params.get("conversation", "auto") != "none"
        if in_conversation and self.active:
            raise self._already_active(self.active)
        for item in params.get("input", []):
            if item["type"] == "item_reference":
                self._conversation.get(item["id"], "invalid_value", "referencing")
        settings = response_settings(session, params, assistant_audio=assistant_audio)
        self._start(settings, params, "client", now, self._conversation if in_conversation else None)

    def crosses(self, session: Json, now: float) -> Refusal | None:
        """Make a response of our own just before the client's, if that is a fault: what the client is told then."""
        if self._crossed >= self._setup.faults.crossing or self.active:
            return None
        self._crossed += 1
        self._start(session, {}, "turn", now, self._conversation)
        return None if self.active is None else self._already_active(self.active)

    def _already_active(self, active: Generation) -> Refusal:
        text = (
            f"Conversation already has an active response in progress: {active.id}. "
            "Wait until the response is finished before creating a new one."
        )
        return Refusal("conversation_already_has_active_response", text)

    def interrupt(self, now: float) -> None:
        """The caller began to speak."""
        active = self.active
        if active and not active.cancelling:
            active.cancel(now, "turn_detected", self._setup.faults.late_deltas)

    def cancel(self, response_id: str | None, now: float) -> None:
        """Obey `response.cancel`.

        Raises:
            Refusal: nothing is active, or not this one.
        """
        if self._setup.faults.ignore_cancel:
            return
        running = [generation for generation in self._generations if not generation.cancelling]
        if response_id is None:
            wanted = [generation for generation in running if generation.conversation]
        else:
            wanted = [generation for generation in running if generation.id == response_id]
        if not wanted and running and response_id:
            text = f"Cancellation failed: the response '{response_id}' is not active."
            raise Refusal("response_cancel_not_active", text, "response_id")
        if not wanted:
            raise Refusal("response_cancel_not_active", "Cancellation failed: no active response found")
        wanted[0].cancel(now, "client_cancelled", self._setup.faults.late_deltas)

    def advance(self, now: float) -> None:
        """Take the step that is due first."""
        self._take_step(min(self._generations, key=lambda generation: generation.next_at), now)

    def _take_step(self, generation: Generation, now: float) -> None:
        for event in generation.advance(now):
            self._outbox.emit(event)
        if generation.status != "in_progress":
            self._finish(generation, now)

    def _start(
        self,
        settings: Json,
        params: Json,
        trigger: Literal["client", "turn", "idle"],
        now: float,
        conversation: Conversation | None,
    ) -> None:
        faults = self._setup.faults
        if faults.no_response_to_create:
            return
        if self._unanswered < faults.unanswered and self._created >= faults.unanswered_after:
            self._unanswered += 1
            return
        generation = Generation(self._outbox.new_id("resp"), conversation, settings)
        parts = list(self._setup.script.respond(self._context(settings, params, trigger)))
        if settings["tool_choice"] == "none":
            parts = [part for part in parts if not isinstance(part, CallTool)]
        self._called += [part.name for part in parts if isinstance(part, CallTool)]
        self._created += 1
        self._outputs.clear()
        self._texts.clear()
        self._interrupted = False
        self._buffer.idle_from_ms = None
        self._planner.plan(generation, parts, now)
        if code := faults.fail_responses:
            error = {"type": code, "code": code, "message": f"The response failed: {code}."}
            generation.fail(error)
        self._generations.append(generation)
        self._outbox.emit({"type": "response.created", "response": generation.wire})
        if self._setup.decorate and self._random.random() < UNKNOWN_EVENTS_SHARE:
            self._outbox.emit({"type": "response.mood.estimated", "response_id": generation.id, "mood": {"calm": 0.7}})
        for _ in range(faults.error_storm):
            self._outbox.error("server_error", "server_error", "The server had an error.")

    def _context(self, settings: Json, params: Json, trigger: Literal["client", "turn", "idle"]) -> Context:
        return Context(
            session=settings,
            trigger=trigger,
            instructions=params.get("instructions"),
            responses=self._created,
            turns=self._turns,
            turn=self._turn,
            interrupted=self._interrupted,
            outputs=tuple(self._outputs),
            texts=tuple(self._texts),
            history=tuple(self._conversation.history),
            called=tuple(self._called),
            tools=tuple(settings["tools"]),
        )

    def _finish(self, generation: Generation, now: float) -> None:
        self._generations.remove(generation)
        self._interrupted = generation.cancelling
        for output in generation.outputs:
            output.item.settled = True
        generation.usage = None if generation.status == "failed" else self._usage(generation)
        faults = self._setup.faults
        for _ in range({"once": 1, "lost": 0, "doubled": 2}[faults.response_done]):
            self._outbox.emit({"type": "response.done", "response": generation.wire})
        if faults.delta_after_done and (item := next((o.item for o in generation.outputs if o.item.audio), None)):
            place = {"response_id": generation.id, "item_id": item.id, "output_index": 0, "content_index": 0}
            late = base64.b64encode(item.audio[-160:]).decode()
            self._outbox.emit({"type": "response.output_audio.delta", **place, "delta": late})
        self._agenda.enter(now + RATE_LIMITS_SECONDS, self._tell_rate_limits)
        if generation.conversation and self._buffer.vad and not self._buffer.vad.speaking:
            self._buffer.idle_from_ms = self._buffer.now_ms + self._unheard_ms(generation, now)

    def _unheard_ms(self, generation: Generation, now: float) -> float:
        """How much of a finished response the caller has still to hear, when it is played as it comes."""
        if generation.first_audio_at is None:
            return 0.0
        spoken_ms = sum(output.item.audio_ms for output in generation.outputs)
        return max(0.0, spoken_ms - (now - generation.first_audio_at) * 1000)

    def _tell_rate_limits(self, now: float) -> None:
        limits = [{"name": "tokens", "limit": 40000, "remaining": 39000, "reset_seconds": 1.5}]
        self._outbox.emit({"type": "rate_limits.updated", "rate_limits": limits})

    def _usage(self, generation: Generation) -> Json:
        """Tokens by the published rule of thumb: 10 a second heard, 20 a second spoken, 4 letters each of text."""
        heard = round(sum(item.audio_ms for item in self._conversation if not item.from_model) / 100)
        spoken = round(sum(output.item.audio_ms for output in generation.outputs) / 50)
        asked = len(generation.settings["instructions"]) // 4
        written = sum(len(json.dumps(output.item.body)) for output in generation.outputs) // 4
        cached = {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}
        details = {"text_tokens": asked, "audio_tokens": heard, "image_tokens": 0, "cached_tokens": 0}
        return {
            "total_tokens": heard + asked + spoken + written,
            "input_tokens": heard + asked,
            "output_tokens": spoken + written,
            "input_token_details": {**details, "cached_tokens_details": cached},
            "output_token_details": {"text_tokens": written, "audio_tokens": spoken},
        }
