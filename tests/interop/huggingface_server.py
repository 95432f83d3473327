"""Hugging Face's speech-to-speech server with a scripted pipeline where its models would be.

Run by an interpreter that has the package `speech-to-speech` and need not have its models:

    python huggingface_server.py FOLDER SCENE

FOLDER has what the model says, as mu-law octets. SCENE is one of

- `talk`: the pipeline speaks the codec of the session. The server passes audio on as it is when a format has no rate;
- `pcm`: it speaks 16-bit samples, 16000 a second, as the models that come with the server do;
- `closes`: as `talk`, but the server closes the connection instead of its first answer.

There is room for one session at a time. Prints `listening PORT`, and one JSON object at the end of each session: what
its model knew of the conversation, and how often the server sent which error.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any

# These are in a virtual environment of its own, where mypy does not look.
import uvicorn  # type: ignore[import-not-found, unused-ignore]
from openai.types.realtime import (  # type: ignore[import-not-found, unused-ignore]
    RealtimeConversationItemFunctionCall,
)
from speech_to_speech.api.openai_realtime.pipeline_unit import (  # type: ignore[import-not-found, unused-ignore]
    PipelineUnit,
)
from speech_to_speech.api.openai_realtime.service import RealtimeService  # type: ignore[import-not-found, unused-ignore]
from speech_to_speech.api.openai_realtime.websocket_router import (  # type: ignore[import-not-found, unused-ignore]
    create_app,
)
from speech_to_speech.pipeline.cancel_scope import CancelScope  # type: ignore[import-not-found, unused-ignore]
from speech_to_speech.pipeline.control import is_control_message  # type: ignore[import-not-found, unused-ignore]
from speech_to_speech.pipeline.events import (  # type: ignore[import-not-found, unused-ignore]
    AssistantOutputEvent,
    AssistantResponseDoneEvent,
    ResponseGenerationDoneEvent,
    SpeechStartedEvent,
    SpeechStoppedEvent,
    TranscriptionCompletedEvent,
)
from speech_to_speech.pipeline.messages import (  # type: ignore[import-not-found, unused-ignore]
    AUDIO_RESPONSE_DONE,
    AssistantTextPart,
    AssistantToolCallPart,
    AudioOutput,
)

HOST = "127.0.0.1"
OCTETS_PER_MS = 8
PIECE_OCTETS = 1600  # 200 ms
PIECE_SECONDS = 0.05  # four times as fast as it is spoken
LOUD = 0x40  # mu-law magnitude of a voice, of 0x7F
LOUD_SHARE = 0.05  # of the octets of a block, when somebody speaks
PAUSE_BLOCKS = 5  # of 128 ms, after a turn
PCM_SAMPLES_PER_OCTET = 2
VOLUME = 0.7


class Pipeline:
    """What the server has for a pipeline: it hears, thinks and speaks, each through the server's queues."""

    def __init__(self, folder: Path, scene: str) -> None:
        self.folder, self.scene = folder, scene
        prompts: Queue[Any] = Queue()
        listens, playing = Event(), Event()
        listens.set()
        service = RealtimeService(text_prompt_queue=prompts, should_listen=listens)
        self.unit = PipelineUnit(
            index=0,
            service=service,
            cancel_scope=CancelScope(),
            should_listen=listens,
            response_playing=playing,
            input_queue=Queue(),
            output_queue=Queue(),
            text_output_queue=Queue(),
            text_prompt_queue=prompts,
            handlers=[],
        )
        self.loop: asyncio.AbstractEventLoop | None = None
        self.turns = 0

    # Hearing

    def hear(self) -> None:
        """Thread: turn detection, a transcript for each turn, and the end of each session."""
        speaking, quiet_blocks, octets = False, 0, 0
        while True:
            item = self.unit.input_queue.get()
            if is_control_message(item):
                self.report()
                self.unit.output_queue.put(item)  # which tells the server that the pipeline is empty
                speaking, octets = False, 0
                continue
            block = item[0]
            octets += len(block)
            quiet_blocks = 0 if is_loud(block) else quiet_blocks + 1
            if not speaking and quiet_blocks == 0:
                speaking = True
                self.tell(SpeechStartedEvent(audio_start_ms=octets // OCTETS_PER_MS))
            elif speaking and quiet_blocks == PAUSE_BLOCKS:
                speaking = False
                self.turns += 1
                self.tell(SpeechStoppedEvent(audio_end_ms=octets // OCTETS_PER_MS))
                self.tell(TranscriptionCompletedEvent(transcript=f"Turn {self.turns}."))

    def tell(self, event: Any) -> None:
        self.unit.text_output_queue.put(event)

    def report(self) -> None:
        session = self.unit.session.session_id
        chat = self.unit.service._state(session).runtime_config.chat.buffer
        items = [item.model_dump(exclude_none=True) for item in chat]
        print(json.dumps({"items": items, "errors": self.unit.service.total_usage.errors_by_type}), flush=True)

    # Thinking

    def think(self) -> None:
        """Thread: answer every request of the server's."""
        while True:
            request = self.unit.text_prompt_queue.get()
            if is_control_message(request):
                continue
            items = request.runtime_config.chat.buffer
            outputs = [item.output for item in items if item.type == "function_call_output"]
            users = [item for item in items if item.type == "message" and item.role == "user"]
            answer = Answer(self, request)
            if outputs:
                answer.say(f"We are open {outputs[0]}. Goodbye.", "model_goodbye")
                answer.call("terminate_call", {})
            elif not users:
                answer.say("Please go on.", "model_go_on")
            elif self.scene == "closes" and self.turns == len(users) == 1:
                self.turns += 1
                self.run(self.unit.session.transport.close())
            elif len(users) == 1 and self.scene == "talk":
                answer.say("A long story.", "model_hours")
            else:
                answer.call("opening_hours", {"day": "Monday"})
            answer.end()

    def run(self, job: Coroutine[Any, Any, None]) -> None:
        assert self.loop is not None
        asyncio.run_coroutine_threadsafe(job, self.loop).result()


class Answer:
    """One response in the making."""

    def __init__(self, pipeline: Pipeline, request: Any) -> None:
        self.pipeline, self.chat = pipeline, request.runtime_config.chat
        self.scope, self.put = pipeline.unit.cancel_scope, pipeline.unit.output_queue.put
        self.generation = self.scope.generation
        self.marks = {"response_key": request.response_key, "cancel_generation": self.generation}
        self.call_ids: list[str] = []

    def say(self, text: str, recording: str) -> None:
        """Words and audio, faster than real time, until the caller interrupts."""
        octets = (self.pipeline.folder / f"{recording}.ulaw").read_bytes()
        if self.pipeline.scene == "pcm":
            octets = b"".join(sample_of(octet) * PCM_SAMPLES_PER_OCTET for octet in octets)
        self.put(AssistantOutputEvent(parts=[AssistantTextPart(text=text)], **self.marks))
        for at in range(0, len(octets), PIECE_OCTETS):
            if self.scope.is_stale(self.generation):
                return
            self.put(AudioOutput(audio=octets[at : at + PIECE_OCTETS], **self.marks))
            time.sleep(PIECE_SECONDS)

    def call(self, name: str, arguments: dict[str, str]) -> None:
        call_id = f"call_{time.monotonic_ns()}"
        call = {"type": "function_call", "call_id": call_id, "name": name, "arguments": json.dumps(arguments)}
        item = RealtimeConversationItemFunctionCall.model_validate(call)
        self.chat.add_provisional_generation_items(self.marks["response_key"], [item])
        self.put(AssistantOutputEvent(parts=[AssistantToolCallPart.model_validate({"tool": call})], **self.marks))
        self.call_ids.append(call_id)

    def end(self) -> None:
        self.pipeline.tell(ResponseGenerationDoneEvent(call_ids=self.call_ids, **self.marks))
        self.put(AssistantResponseDoneEvent(**self.marks))
        self.put(AudioOutput(audio=AUDIO_RESPONSE_DONE, **self.marks))


def sample_of(octet: int) -> bytes:
    """ITU-T G.711, mu-law, at less than full volume."""
    inverted = ~octet & 0xFF
    magnitude = (((inverted & 0x0F) << 3) + 0x84 << ((inverted & 0x70) >> 4)) - 0x84
    return round(VOLUME * (-magnitude if inverted & 0x80 else magnitude)).to_bytes(2, "little", signed=True)


def is_loud(block: bytes) -> bool:
    loud = sum(1 for octet in block if (~octet & 0x7F) > LOUD)
    return loud > LOUD_SHARE * len(block)


async def main(folder: str, scene: str) -> None:
    pipeline = Pipeline(Path(folder), scene)
    pipeline.loop = asyncio.get_running_loop()
    for work in (pipeline.hear, pipeline.think):
        Thread(target=work, daemon=True).start()
    listener = socket.create_server((HOST, 0))
    server = uvicorn.Server(uvicorn.Config(create_app(pool=[pipeline.unit], stop_event=Event()), log_level="warning"))
    print(f"listening {listener.getsockname()[1]}", flush=True)
    await server.serve([listener])


asyncio.run(main(*sys.argv[1:]))
