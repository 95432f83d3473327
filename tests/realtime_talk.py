"""A `Conversation` and the events that bring it somewhere."""

from __future__ import annotations

import itertools
from typing import Any

import attrs

from aivc.config.settings import OpenAISettings
from aivc.realtime import events
from aivc.realtime.conversation import Conversation
from aivc.realtime.effects import Effect, Send

FRAME = b"\xff" * 160
Ours = (
    events.ConfigureSession
    | events.UpdateTurnDetection
    | events.CreateResponse
    | events.CancelResponse
    | events.TruncateItem
    | events.DeleteItem
    | events.SendToolOutput
    | events.SendText
    | events.SendFunctionCall
)


@attrs.frozen
class Cut:
    """What a playout says of one item."""

    item_id: str
    heard_ms: int
    received_ms: int
    complete: bool = False


def conversation(welcome_message: str | None = None, **chosen: Any) -> Conversation:
    """A conversation with these settings; its event ids are e1, e2 and so on."""
    numbers = itertools.count(1)
    settings = OpenAISettings(welcome_message=welcome_message, **chosen)
    return Conversation(settings, lambda: f"e{next(numbers)}")


def sent(wanted: list[Effect]) -> list[Ours]:
    """What is sent to the server; a conversation never sends raw events."""
    told = [effect.event for effect in wanted if isinstance(effect, Send)]
    ours = [event for event in told if not isinstance(event, events.SendRaw)]
    assert ours == told
    return ours


def speaking(talk: Conversation, response_id: str = "r1", item_id: str = "i1", now: float = 0.0) -> None:
    """The model began a response of its own and sent 20 ms of it."""
    talk.handle(events.ResponseCreated(response_id), now)
    talk.handle(events.AudioDelta(response_id, item_id, FRAME), now)


def requests(wanted: list[Effect]) -> list[events.CreateResponse]:
    return [event for event in sent(wanted) if isinstance(event, events.CreateResponse)]


def answered(talk: Conversation, now: float = 0.0, response_id: str = "r1") -> list[Effect]:
    """The server answers what was asked last, with 20 ms of audio, and is done."""
    speaking(talk, response_id, f"item-{response_id}", now)
    talk.handle(events.AudioDone(response_id, f"item-{response_id}"), now)
    return talk.handle(events.ResponseDone(response_id, "completed"), now)


def caller_spoke(talk: Conversation, now: float, item_id: str = "u1", seconds: float = 1.0) -> list[Effect]:
    """The caller says something and is silent again; the offsets are those of a call that began at 0."""
    start_ms = max(0, int(now * 1000) - 300)
    wanted = talk.handle(events.SpeechStarted(item_id, start_ms), now)
    end = now + seconds + 0.2
    wanted += talk.handle(events.SpeechStopped(item_id, int(end * 1000)), end)
    return wanted + talk.handle(events.InputCommitted(item_id), end)


def call(call_id: str, response_id: str = "r1", status: str = "completed") -> events.FunctionCall:
    return events.FunctionCall(response_id, f"item-{call_id}", call_id, "book", "{}", status)
