"""One conversation through the OpenAI Agents SDK: greeting, a turn that is interrupted, a tool.

Run by an interpreter that has the package `openai-agents`, which is not the one that runs the tests:

    python agents_talk.py ws://127.0.0.1:8765/v1/realtime?model=gpt-realtime-2.1 caller.ulaw

The file is what the caller says each time, mu-law octets. Prints one JSON object at the end.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

# These are in a virtual environment of its own, where mypy does not look.
from agents import function_tool, set_tracing_disabled  # type: ignore[import-not-found, unused-ignore]
from agents.realtime import RealtimeAgent, RealtimeRunner  # type: ignore[import-not-found, unused-ignore]

FRAME_OCTETS = 160
FRAME_SECONDS = 0.020
PAUSE_FRAMES = 25  # of silence after what was said: half a second, which ends a turn
SPOKEN_SECONDS = 0.4  # of the answer when it is interrupted
SETTINGS: dict[str, Any] = {
    "model_name": "gpt-realtime-2.1",
    "voice": "marin",
    "input_audio_format": "g711_ulaw",
    "output_audio_format": "g711_ulaw",
    "input_audio_transcription": {"model": "gpt-4o-transcribe"},
    "input_audio_noise_reduction": {"type": "far_field"},
    "turn_detection": {"type": "server_vad", "silence_duration_ms": 300, "interrupt_response": True},
}


@function_tool  # type: ignore[untyped-decorator, unused-ignore]  # the package is not installed for the type checker
def opening_hours() -> str:
    """When the shop is open."""
    return "from nine"


class Heard:
    """The events of the session so far, by type."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self._news = asyncio.Condition()

    async def read(self, session: Any) -> None:
        """Task: count what comes."""
        async for event in session:
            async with self._news:
                self.counts[event.type] += 1
                if event.type == "error":
                    self.errors.append(str(event.error))
                self._news.notify_all()

    async def wait(self, event_type: str, count: int) -> None:
        async with self._news:
            await self._news.wait_for(lambda: self.counts[event_type] >= count)


async def say(session: Any, octets: bytes) -> None:
    """The caller's words and a pause, in real time."""
    padded = octets + b"\xff" * (FRAME_OCTETS * PAUSE_FRAMES)
    for at in range(0, len(padded), FRAME_OCTETS):
        await session.send_audio(padded[at : at + FRAME_OCTETS])
        await asyncio.sleep(FRAME_SECONDS)


async def main(url: str, caller_file: str) -> None:
    set_tracing_disabled(True)
    caller = await asyncio.to_thread(Path(caller_file).read_bytes)
    runner = RealtimeRunner(
        RealtimeAgent(name="desk", instructions="Help the caller.", tools=[opening_hours]),
        config={"model_settings": SETTINGS},
    )
    model_config = {"url": url, "api_key": "sk-any", "initial_model_settings": SETTINGS}
    heard = Heard()
    async with await runner.run(model_config=model_config) as session:
        reading = asyncio.create_task(heard.read(session))
        await say(session, caller)  # a turn, which gets a long answer
        await heard.wait("audio", 1)
        await asyncio.sleep(SPOKEN_SECONDS)
        await say(session, caller)  # over it: an interruption, then a function call
        await heard.wait("audio_interrupted", 1)
        await heard.wait("tool_end", 1)
        await heard.wait("audio_end", 2)  # of the interrupted answer, and of the one after the tool
        reading.cancel()
    print(json.dumps({"counts": heard.counts, "errors": heard.errors}), flush=True)


asyncio.run(main(*sys.argv[1:]))
