"""The Realtime server of one session, as a machine: messages and time in, effects out. No clock, no socket.

`receive_untrusted` takes what the client sent and `expire` what is due; both return effects in the order in which
they are to be performed. `deadline` says when `expire` has something to do.
"""

from __future__ import annotations

import base64
import json
import math
from functools import partial
from typing import TYPE_CHECKING

from aivc.config.settings import Codec
from aivc.testing.configuration import default_session, updated_session
from aivc.testing.conversation import Conversation, Item
from aivc.testing.hearing import Heard, InputBuffer, TurnEnded, TurnMissing, TurnStarted, user_item_body
from aivc.testing.outbox import Agenda, Close, Effect, Outbox, Setup
from aivc.testing.phrases import recognised
from aivc.testing.responses import Responses
from aivc.testing.rules import LARGEST_APPEND_OCTETS, LONGEST_EVENT_ID, check_event
from aivc.testing.schema import Json, Refusal
from aivc.testing.script import ToolOutput, Turn
from aivc.testing.vad import AudioFormat
from aivc.testing.wire import from_beta, item_from_beta

if TYPE_CHECKING:
    import random

TRANSCRIPTION_SECONDS = (0.3, 0.9)  # from the commit to the transcript
MCP_SECONDS = 0.2  # until a remote server has told its tools
CODECS: dict[AudioFormat, Codec | None] = {"audio/pcmu": "PCMU", "audio/pcma": "PCMA", "audio/pcm": None}


def transcription_usage(transcription: Json, text: str, seconds: float) -> Json:
    """What a transcript costs: the whisper models count seconds, the others tokens."""
    if "whisper" in transcription.get("model", "whisper-1"):
        return {"type": "duration", "seconds": math.ceil(seconds)}
    heard, prompt, written = math.ceil(seconds * 10), len(transcription.get("prompt", "")) // 4, len(text) // 4 + 1
    return {
        "type": "tokens",
        "total_tokens": heard + prompt + written,
        "input_tokens": heard + prompt,
        "output_tokens": written,
        "input_token_details": {"text_tokens": prompt, "audio_tokens": heard},
    }


class SessionMachine:
    """One session. Call `open` (or `refuse_entry`) first, then the others in the order of time.

    Args:
        setup: how it behaves.
        random: of this session alone: the same seed gives the same ids, sizes and times.
    """

    def __init__(self, setup: Setup, random: random.Random) -> None:
        self.setup = setup
        self.outbox = Outbox(setup, random)
        self.id = self.outbox.new_id("sess")
        self.session: Json = {}
        self.conversation = Conversation(self.outbox.new_id("conv"))
        self.buffer = InputBuffer()
        self.received_audio = bytearray()  # all that was appended
        self._random = random
        self._agenda = Agenda()
        self._responses = Responses(setup, self.outbox, self._agenda, random, self.conversation, self.buffer)
        self._turn_item_id = ""  # reserved by speech_started

    @property
    def deadline(self) -> float:
        """When `expire` has something to do; inf = never."""
        return math.inf if self.outbox.closed else min(self._agenda.next_at, self._responses.next_at)

    def expire(self, now: float) -> list[Effect]:
        """Do everything that is due."""
        while (at := self.deadline) <= now:
            if self._agenda.next_at == at:
                self._agenda.run_next()
            else:
                self._responses.advance(at)
        return self.outbox.take()

    # Session

    def open(self, now: float, unix_now: float) -> list[Effect]:
        """The first events of a session that was let in.

        Args:
            unix_now: the wall clock, for `expires_at`.
        """
        life = self.setup.faults.expires_after_seconds
        self.session = default_session(self.id, self.setup.model, int(unix_now + life), self.setup.dialect)
        self._configure_input()
        self._agenda.enter(now + life, self._end_of_session)
        if not self.setup.faults.no_session_created:
            self.outbox.emit({"type": "session.created", "session": self.session})
        if self.setup.dialect == "beta":
            conversation = {"id": self.conversation.id, "object": "realtime.conversation"}
            self.outbox.emit({"type": "conversation.created", "conversation": conversation})
        return self.outbox.take()

    def refuse_entry(self, refusal: Refusal, code: int) -> list[Effect]:
        """Turn a client away after the upgrade: the error event, then a close frame that repeats it."""
        self.outbox.refuse(refusal, None)
        self.outbox.end(Close(code, f"{refusal.type}.{refusal.code}" if refusal.code else refusal.type))
        return self.outbox.take()

    def turn_away(self, code: str) -> list[Effect]:
        """Let nobody in though they have done nothing wrong: a server that is full, or an account without money."""
        self.outbox.error("invalid_request_error", code, f"The session was refused: {code}.")
        self.outbox.end(Close(4000, f"invalid_request_error.{code}"))
        return self.outbox.take()

    def _end_of_session(self, now: float) -> None:
        minutes = round(self.setup.faults.expires_after_seconds / 60)
        text = f"Your session hit the maximum duration of {minutes} minutes."
        self.outbox.error("invalid_request_error", "session_expired", text)
        self.outbox.end(Close(1001, ""))

    def _configure_input(self) -> None:
        settings = self.session["audio"]["input"]
        self.buffer.configure(settings["format"]["type"], settings["turn_detection"])

    @property
    def _assistant_audio(self) -> bool:
        return any(item.from_model and item.audio for item in self.conversation)

    def _update_session(self, update: Json, now: float) -> None:
        update = from_beta(update) if self.setup.dialect == "beta" else update
        known = self._mcp_labels
        self.session = updated_session(self.session, update, assistant_audio=self._assistant_audio)
        self._configure_input()
        delay = self.setup.faults.session_updated_seconds
        if delay == 0:
            self._tell_session(now)
        elif delay < math.inf:
            self._agenda.enter(now + delay, self._tell_session)
        for label in self._mcp_labels - known:
            self._agenda.enter(now + delay + MCP_SECONDS, partial(self._list_mcp_tools, label))

    @property
    def _mcp_labels(self) -> set[str]:
        return {tool["server_label"] for tool in self.session["tools"] if tool.get("type") == "mcp"}

    def _list_mcp_tools(self, label: str, now: float) -> None:
        """Ask a remote server what it can do, in a manner of speaking: it can do nothing, or it fails."""
        item = Item(self.outbox.new_id("mcpl"), {"type": "mcp_list_tools", "server_label": label, "tools": []})
        self.outbox.emit({"type": "mcp_list_tools.in_progress", "item_id": item.id})
        self.conversation.add(item)
        self._tell_item(item)
        outcome = "failed" if self.setup.faults.mcp_fails else "completed"
        self.outbox.emit({"type": f"mcp_list_tools.{outcome}", "item_id": item.id})

    def _tell_session(self, now: float) -> None:
        session = self.session
        if claimed := self.setup.faults.echo_format:
            audio = {way: {**session["audio"][way], "format": {"type": claimed}} for way in ("input", "output")}
            session = {**session, "audio": audio}
        self.outbox.emit({"type": "session.updated", "session": session})

    # Client events

    def receive_untrusted(self, message: str | bytes, now: float) -> list[Effect]:
        """Obey one WebSocket message, or answer it with an `error` event."""
        client_event_id: str | None = None
        try:
            event = self.parse_untrusted(message)
            given = event.get("event_id") if isinstance(event, dict) else None
            client_event_id = given if isinstance(given, str) and len(given) <= LONGEST_EVENT_ID else None
            self._obey(check_event(event, self.setup.dialect), now)
        except Refusal as refusal:
            self.outbox.refuse(refusal, client_event_id)
        return self.outbox.take()

    def parse_untrusted(self, message: str | bytes) -> object:
        """The JSON value of a text message.

        Raises:
            Refusal: it is binary, or not JSON.
        """
        if isinstance(message, bytes):
            text = "Expected a text WebSocket message; binary frames are not supported."
            raise Refusal("invalid_event", text)
        try:
            return json.loads(message)
        except (ValueError, RecursionError):
            raise Refusal("invalid_json", "We could not parse the JSON body of your message.") from None

    def _obey(self, event: Json, now: float) -> None:
        match event["type"]:
            case "session.update":
                self._update_session(event["session"], now)
            case "input_audio_buffer.append":
                self._append(base64.b64decode(event["audio"]), now)
            case "input_audio_buffer.commit":
                self._commit(self.outbox.new_id("item"), self.buffer.commit(), now)
            case "input_audio_buffer.clear":
                self.buffer.take()
                self.outbox.emit({"type": "input_audio_buffer.cleared"})
            case "conversation.item.create":
                self._create_item(event["item"], event.get("previous_item_id"))
            case "conversation.item.delete":
                self.conversation.delete(event["item_id"])
                self.outbox.emit({"type": "conversation.item.deleted", "item_id": event["item_id"]})
            case "conversation.item.retrieve":
                self._retrieve(event["item_id"])
            case "conversation.item.truncate":
                self._truncate(event["item_id"], event["content_index"], event["audio_end_ms"])
            case "response.create":
                params = event.get("response") or {}
                params = from_beta(params) if self.setup.dialect == "beta" else params
                self._create_response(params, event.get("event_id"), now)
            case _:
                self._responses.cancel(event.get("response_id"), now)

    def _create_response(self, params: Json, client_event_id: str | None, now: float) -> None:
        if crossed := self._responses.crosses(self.session, now):  # nobody's fault
            self.outbox.error(crossed.type, crossed.code, crossed.message, client_event_id=client_event_id)
        else:
            self._responses.create(self.session, params, self._assistant_audio, now)

    # Input audio

    def _append(self, octets: bytes, now: float) -> None:
        if len(octets) > LARGEST_APPEND_OCTETS:
            text = f"Invalid 'audio': larger than the maximum of {LARGEST_APPEND_OCTETS} bytes."
            raise Refusal("invalid_value", text, "audio")
        if self.setup.record:
            self.received_audio += octets
        for heard in self.buffer.append(octets):
            self._hear(heard, now)

    def _hear(self, heard: Heard, now: float) -> None:
        switches = self.session["audio"]["input"]["turn_detection"]
        match heard:
            case TurnStarted():
                self._turn_item_id = self.outbox.new_id("item")
                self._tell_input("speech_started", audio_start_ms=heard.start_ms, item_id=self._turn_item_id)
                self.buffer.idle_from_ms = None
                if switches["interrupt_response"]:
                    self._responses.interrupt(now)
            case TurnEnded():
                self._tell_input("speech_stopped", audio_end_ms=heard.end_ms, item_id=self._turn_item_id)
                self._commit(self._turn_item_id, heard.audio, now)
                if switches["create_response"]:
                    self._responses.answer(self.session, "turn", now)
            case TurnMissing():
                item_id = self.outbox.new_id("item")
                span = {"audio_start_ms": heard.start_ms, "audio_end_ms": heard.end_ms}
                self._tell_input("timeout_triggered", **span, item_id=item_id)
                self._commit(item_id, b"", now)
                self._responses.answer(self.session, "idle", now)

    def _tell_input(self, name: str, **more: object) -> None:
        self.outbox.emit({"type": f"input_audio_buffer.{name}", **more})

    def _commit(self, item_id: str, audio: bytes, now: float) -> None:
        octets_per_ms = self.buffer.octets_per_ms
        item = Item(item_id, user_item_body(audio), audio=bytearray(audio), octets_per_ms=octets_per_ms)
        self.conversation.add(item)
        if not self.setup.faults.lose_committed:
            self._tell_input("committed", previous_item_id=self.conversation.previous_id(item), item_id=item_id)
        self._tell_item(item)
        if audio:
            turn = Turn(audio, CODECS[self.buffer.audio_format], item.audio_ms / 1000)
            self._responses.add_turn(turn)
            if transcription := self.session["audio"]["input"]["transcription"]:
                at = now + self._random.uniform(*TRANSCRIPTION_SECONDS)
                self._agenda.enter(at, lambda _: self._transcribe(item, turn, transcription))

    def _transcribe(self, item: Item, turn: Turn, transcription: Json) -> None:
        place = {"item_id": item.id, "content_index": 0}
        name = "conversation.item.input_audio_transcription"
        if self.setup.faults.transcription_fails:
            error = {"type": "transcription_error", "code": "audio_unintelligible", "message": "?", "param": None}
            self.outbox.emit({"type": f"{name}.failed", **place, "error": error})
            return
        text = recognised(turn.audio, turn.codec) if turn.codec else None
        text = text or f"({turn.seconds:.1f} seconds of speech)"
        item.body["content"][0]["transcript"] = text
        self.outbox.emit({"type": f"{name}.delta", **place, "delta": text})
        usage = transcription_usage(transcription, text, turn.seconds)
        self.outbox.emit({"type": f"{name}.completed", **place, "transcript": text, "usage": usage})

    # Items

    def _tell_item(self, item: Item) -> None:
        place = {"previous_item_id": self.conversation.previous_id(item), "item": item.wire}
        self.outbox.emit({"type": "conversation.item.added", **place})
        self.outbox.emit({"type": "conversation.item.done", **place})

    def _create_item(self, given: Json, previous_item_id: str | None) -> None:
        body = dict(item_from_beta(given) if self.setup.dialect == "beta" else given)
        item = Item(body.pop("id", None) or self.outbox.new_id("item"), body, body.pop("status", "completed"))
        body.pop("object", None)
        if body["type"] == "function_call":
            body.setdefault("call_id", self.outbox.new_id("call"))
        self.conversation.add(item, previous_item_id)
        if body["type"] == "function_call_output":
            call = self.conversation.call(body["call_id"])
            assert call is not None  # add() would have refused
            self._responses.add_output(ToolOutput(body["call_id"], call.body["name"], body["output"]))
        elif item.speaker == "user":
            self._responses.add_text(item.text)
        self._tell_item(item)

    def _retrieve(self, item_id: str) -> None:
        item = self.conversation.get(item_id, "item_retrieve_invalid_item_id", "retrieving")
        wire = item.wire
        if wire.get("role") == "user" and item.audio:
            wire |= user_item_body(bytes(item.audio), with_audio=True)
        self.outbox.emit({"type": "conversation.item.retrieved", "item": wire})

    def _truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        self.conversation.truncate(item_id, content_index, audio_end_ms)
        place = {"item_id": item_id, "content_index": content_index, "audio_end_ms": audio_end_ms}
        self.outbox.emit({"type": "conversation.item.truncated", **place})
