"""A `Conversation` and the events that bring it somewhere."""

from __future__ import annotations

import itertools

import attrs

from aivc.config.settings import OpenAISettings
from aivc.realtime import events
from aivc.realtime.conversation import Conversation
from aivc.realtime.effects import Effect, Send

FRAME = b"\xff" * 160


@attrs.frozen
class Cut:
    """What a playout says of one item."""

    item_id: str
    heard_ms: int
    received_ms: int
    complete: bool = False


def conversation(welcome_message: str | None = None, instructions: str | None = None) -> Conversation:
    numbers = itertools.count(1)
    settings = OpenAISettings(welcome_message=welcome_message, instructions=instructions)
    return Conversation(settings, lambda: f"e{next(numbers)}")


def sent(wanted: list[Effect]) -> list[events.ClientEvent]:
    return [effect.event for effect in wanted if isinstance(effect, Send)]


def speaking(talk: Conversation, response_id: str = "r1", item_id: str = "i1", now: float = 0.0) -> None:
    """The model began a response of its own and sent 20 ms of it."""
    talk.handle(events.ResponseCreated(response_id), now)
    talk.handle(events.AudioDelta(response_id, item_id, FRAME), now)


def call(call_id: str, response_id: str = "r1", status: str = "completed") -> events.FunctionCall:
    return events.FunctionCall(response_id, f"item-{call_id}", call_id, "book", "{}", status)
