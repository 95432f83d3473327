"""The two spellings of the Realtime API: GA, and the beta that OpenAI itself switched off in May 2026.

The beta lives on in compatible servers. It is chosen by the header `OpenAI-Beta: realtime=v1`, which GA must not carry.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Literal, assert_never

import attrs

from aivc.realtime.decoding import BETA_READERS, GA_READERS, ProtocolViolation, Reader, read_untrusted
from aivc.realtime.events import (
    CancelResponse,
    ClientEvent,
    ConfigureSession,
    CreateResponse,
    DeleteItem,
    SendFunctionCall,
    SendRaw,
    SendText,
    SendToolOutput,
    ServerEvent,
    TruncateItem,
    UpdateTurnDetection,
)
from aivc.realtime.session import (
    beta_session,
    beta_turn_detection_alone,
    ga_session,
    ga_turn_detection_alone,
    response_options,
)
from aivc.realtime.turn_detection import Json

__all__ = ["BETA", "GA", "Dialect", "ProtocolViolation", "dialect_named"]


@attrs.frozen
class Dialect:
    """One spelling of the protocol."""

    name: Literal["ga", "beta"]
    headers: tuple[tuple[str, str], ...]  # of the WebSocket upgrade, beside the credentials
    session: Callable[[ConfigureSession], Json] = attrs.field(repr=False)
    turn_detection: Callable[[UpdateTurnDetection], Json] = attrs.field(repr=False)  # the session with that alone
    assistant_text: str  # the content type of text that the assistant said
    readers: Mapping[str, Reader] = attrs.field(repr=False)

    def encode(self, event: ClientEvent) -> str:
        """Return the JSON text of one client event.

        Raises:
            TypeError: what JSON cannot hold, in `openai.extra_session` or a `SendRaw`.
        """
        return json.dumps(self.wire_form(event), separators=(",", ":"))

    def decode(self, message: str | bytes) -> ServerEvent:
        """Return the event in one WebSocket message, `Unknown` for a type without use here.

        Raises:
            ProtocolViolation: not JSON, or a needed field is missing or malformed. Worth counting, not worth a call.
        """
        return read_untrusted(message, self.readers)

    def wire_form(self, event: ClientEvent) -> Json:
        match event:
            case ConfigureSession():
                return wire("session.update", event.event_id, session=self.session(event))
            case UpdateTurnDetection():
                return wire("session.update", event.event_id, session=self.turn_detection(event))
            case CreateResponse():
                return wire("response.create", event.event_id, response=response_options(event))
            case CancelResponse(response_id=None):
                return wire("response.cancel", event.event_id)
            case CancelResponse():
                return wire("response.cancel", event.event_id, response_id=event.response_id)
            case TruncateItem():
                # An item has its audio in its first content part.
                place = {"item_id": event.item_id, "content_index": 0, "audio_end_ms": event.audio_end_ms}
                return wire("conversation.item.truncate", event.event_id, **place)
            case DeleteItem():
                return wire("conversation.item.delete", event.event_id, item_id=event.item_id)
            case SendToolOutput():
                item = {"type": "function_call_output", "call_id": event.call_id, "output": event.output}
                return wire("conversation.item.create", event.event_id, item=item)
            case SendText():
                return wire("conversation.item.create", event.event_id, item=self.message(event))
            case SendFunctionCall():
                call = {"call_id": event.call_id, "name": event.name, "arguments": event.arguments}
                return wire("conversation.item.create", event.event_id, item={"type": "function_call", **call})
            case SendRaw():
                return dict(event.event)
            case _:
                assert_never(event)

    def message(self, event: SendText) -> Json:
        content_type = self.assistant_text if event.role == "assistant" else "input_text"
        return {"type": "message", "role": event.role, "content": [{"type": content_type, "text": event.text}]}


def wire(event_type: str, event_id: str, **fields: object) -> Json:
    return {"type": event_type, "event_id": event_id, **fields}


GA = Dialect("ga", (), ga_session, ga_turn_detection_alone, "output_text", GA_READERS)
BETA = Dialect("beta", (("OpenAI-Beta", "realtime=v1"),), beta_session, beta_turn_detection_alone, "text", BETA_READERS)


def dialect_named(name: Literal["ga", "beta"]) -> Dialect:
    """Return the dialect that `openai.dialect` names."""
    return BETA if name == "beta" else GA
