"""The conversation so far as items for a session that takes the place of a lost one.

What cannot be carried over: audio (the model gets the words of both sides instead), and the caller's words if nobody
wrote them down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, assert_never

import attrs

from aivc.realtime.events import ClientEvent, SendFunctionCall, SendText, SendToolOutput
from aivc.realtime.history import Entry, History, ToolUse, Utterance

MOST_ITEMS = 100
MOST_OCTETS = 32_000  # of text: some 8000 tokens, a quarter of what the smallest Realtime model keeps in mind


class OpenCalls(Protocol):
    """The calls whose output is still to be sent."""

    def is_open(self, call_id: str) -> bool: ...


@attrs.frozen
class Piece:
    """One entry of the history, ready to be sent: one item, or two for a call with its output."""

    events: tuple[ClientEvent, ...]
    octets: int
    needed: bool = False  # its output comes later, and would be refused without the call


def replayed(history: History, tools: OpenCalls, new_event_id: Callable[[], str]) -> list[ClientEvent]:
    """Return the newest part of the conversation that fits, oldest first, and every call that is still running."""
    pieces = [piece for entry in history.entries if (piece := piece_of(entry, tools, new_event_id)) is not None]
    chosen: list[Piece] = []
    items = octets = 0
    full = False
    for piece in reversed(pieces):
        full = full or items + len(piece.events) > MOST_ITEMS or octets + piece.octets > MOST_OCTETS
        if piece.needed or not full:
            chosen.append(piece)
            items, octets = items + len(piece.events), octets + piece.octets
    return [event for piece in reversed(chosen) for event in piece.events]


def piece_of(entry: Entry, tools: OpenCalls, new_event_id: Callable[[], str]) -> Piece | None:
    """Return what to send of an entry; None if that is nothing: no words, or a call that nobody will answer."""
    if isinstance(entry, ToolUse):
        return tool_piece(entry, tools, new_event_id)
    said = entry.utterance()
    if said is None or not said.text or said.heard_ms == 0:  # what was only written, nobody has heard
        return None
    return Piece((message(said, new_event_id()),), octets_of(said.text))


def tool_piece(use: ToolUse, tools: OpenCalls, new_event_id: Callable[[], str]) -> Piece | None:
    call, running = use.call, tools.is_open(use.call.call_id)
    if use.output is None and not running:
        return None
    told = SendFunctionCall(new_event_id(), call.call_id, call.name, call.arguments)
    octets = octets_of(call.arguments)
    if use.output is None:
        return Piece((told,), octets, needed=True)
    answer = SendToolOutput(new_event_id(), call.call_id, use.output)
    return Piece((told, answer), octets + octets_of(use.output))


def octets_of(text: str) -> int:
    """The length of a text, which may have half a surrogate pair: JSON allows it, and deltas may part what is whole."""
    return len(text.encode("utf-8", "surrogatepass"))


def message(said: Utterance, event_id: str) -> SendText:
    match said.speaker:
        case "caller":
            return SendText(event_id, "user", said.text)
        case "keys":
            return SendText(event_id, "user", keys_pressed(said.text))
        case "model":
            return SendText(event_id, "assistant", said.text)
        case _:
            assert_never(said.speaker)


def keys_pressed(keys: str) -> str:
    """Return how the model is told; a WebSocket session has no event for DTMF."""
    return f"[The caller pressed the keys {keys} on the telephone's keypad.]"
