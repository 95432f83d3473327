"""One conversation through OpenAI's own Python client, and whether its types know every event that comes.

Run by an interpreter that has the package `openai`, which is not the one that runs the tests:

    python openai_talk.py ws://127.0.0.1:8765/v1 ga caller.ulaw

The file is what the caller says each time, mu-law octets. The conversation: greeting, a turn, an interruption with a
truncation, a tool, and a cancellation of nothing, which is an error. Prints one JSON object at the end.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

# These are in a virtual environment of its own, where mypy does not look.
import openai  # type: ignore[import-not-found, unused-ignore]
import pydantic  # type: ignore[import-not-found, unused-ignore]
from openai.types.beta.realtime import (  # type: ignore[import-not-found, unused-ignore]
    realtime_server_event as beta_types,
)
from openai.types.realtime import (  # type: ignore[import-not-found, unused-ignore]
    realtime_server_event as ga_types,
)

Json = dict[str, Any]
FRAME_OCTETS = 160
FRAME_SECONDS = 0.020
PAUSE_FRAMES = 25  # of silence after what was said: half a second, which ends a turn
HEARD_MS = 300  # of the answer when it is interrupted
MODELS = {"ga": "gpt-realtime-2.1", "beta": "gpt-4o-realtime-preview"}  # the beta's types know no newer ones
TOOL: Json = {"type": "function", "name": "opening_hours", "parameters": {"type": "object", "properties": {}}}
TURN_DETECTION: Json = {"type": "server_vad", "silence_duration_ms": 300}
GA_SESSION: Json = {
    "type": "realtime",
    "output_modalities": ["audio"],
    "audio": {
        "input": {
            "format": {"type": "audio/pcmu"},
            "turn_detection": TURN_DETECTION,
            "noise_reduction": {"type": "near_field"},
            "transcription": {"model": "gpt-4o-transcribe", "language": "en"},
        },
        "output": {"format": {"type": "audio/pcmu"}, "voice": "marin"},
    },
    "tools": [TOOL],
}
BETA_SESSION: Json = {
    "modalities": ["audio", "text"],
    "input_audio_format": "g711_ulaw",
    "output_audio_format": "g711_ulaw",
    "voice": "alloy",
    "turn_detection": TURN_DETECTION,
    "input_audio_noise_reduction": {"type": "near_field"},
    "input_audio_transcription": {"model": "whisper-1", "language": "en"},
    "tools": [TOOL],
}


def classes_of(union: Any) -> dict[str, Any]:
    """The classes of a union of events, by the value of their field `type`."""
    members = get_args(get_args(union)[0]) if get_args(union) else ()
    return {get_args(cls.model_fields["type"].annotation)[0]: cls for cls in members}


class Talk:
    """The events so far, and what OpenAI's types say of them."""

    def __init__(self, connection: Any, classes: dict[str, Any]) -> None:
        self.connection = connection
        self.classes = classes
        self.events: list[Json] = []
        self.invalid: list[str] = []
        self._news = asyncio.Condition()

    async def read(self) -> None:
        """Task: keep what comes, and let the types look at it."""
        while True:
            event = json.loads(await self.connection.recv_bytes())
            if cls := self.classes.get(event["type"]):
                try:
                    cls.model_validate(event)
                except pydantic.ValidationError as error:
                    self.invalid.append(f"{event['type']}: {error}")
            async with self._news:
                self.events.append(event)
                self._news.notify_all()

    def received(self, event_type: str) -> list[Json]:
        return [event for event in self.events if event["type"] == event_type]

    async def wait_for(self, found: Callable[[], Json | None]) -> Json:
        async with self._news:
            while (event := found()) is None:
                await self._news.wait()
        return event

    async def wait_nth(self, event_type: str, number: int = 1) -> Json:
        return await self.wait_for(lambda: next(iter(self.received(event_type)[number - 1 :]), None))

    async def say(self, octets: bytes) -> None:
        """Append the caller's words and a pause, in real time."""
        padded = octets + b"\xff" * (FRAME_OCTETS * PAUSE_FRAMES)
        for at in range(0, len(padded), FRAME_OCTETS):
            frame = base64.b64encode(padded[at : at + FRAME_OCTETS]).decode()
            await self.connection.input_audio_buffer.append(audio=frame)
            await asyncio.sleep(FRAME_SECONDS)


async def converse(talk: Talk, session: Json, caller: bytes) -> None:
    connection, delta = talk.connection, "response.output_audio.delta" if "audio" in session else "response.audio.delta"
    await talk.wait_nth("session.created")
    await connection.session.update(session=session)
    await talk.wait_nth("session.updated")
    await connection.response.create(response={"instructions": "Greet."})
    await talk.wait_nth("response.done")
    await talk.say(caller)  # a turn, which gets a long answer
    second = (await talk.wait_nth("response.created", 2))["response"]["id"]
    first_delta = await talk.wait_for(
        lambda: next((event for event in talk.received(delta) if event["response_id"] == second), None)
    )
    speaking = asyncio.create_task(talk.say(caller))  # over it: an interruption
    await talk.wait_nth("input_audio_buffer.speech_started", 2)
    await connection.conversation.item.truncate(item_id=first_delta["item_id"], content_index=0, audio_end_ms=HEARD_MS)
    await talk.wait_nth("conversation.item.truncated")
    await speaking  # gets a response with a function call
    third = (await talk.wait_nth("response.done", 3))["response"]
    (call,) = (item for item in third["output"] if item["type"] == "function_call")
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "from nine"}
    await connection.conversation.item.create(item=output)
    await connection.response.create()
    await talk.wait_nth("response.done", 4)
    await connection.response.cancel()  # nothing: the one error that is meant
    await talk.wait_nth("error")


async def main(url: str, dialect: str, caller_file: str) -> None:
    client = openai.AsyncOpenAI(api_key="sk-any", websocket_base_url=url)
    realtime = client.realtime if dialect == "ga" else client.beta.realtime
    types = ga_types if dialect == "ga" else beta_types
    caller = await asyncio.to_thread(Path(caller_file).read_bytes)
    async with realtime.connect(model=MODELS[dialect]) as connection:
        talk = Talk(connection, classes_of(types.RealtimeServerEvent))
        reading = asyncio.create_task(talk.read())
        await converse(talk, GA_SESSION if dialect == "ga" else BETA_SESSION, caller)
        reading.cancel()
    types_seen = {event["type"] for event in talk.events}
    report = {
        "known": sorted(types_seen & talk.classes.keys()),
        "unknown": sorted(types_seen - talk.classes.keys()),
        "invalid": talk.invalid,
        "errors": [event["error"]["code"] for event in talk.received("error")],
        "statuses": [event["response"]["status"] for event in talk.received("response.done")],
    }
    print(json.dumps(report), flush=True)


asyncio.run(main(*sys.argv[1:]))
