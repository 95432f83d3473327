"""One response under way: what it will say and when, what it said so far, and how it ends.

A response is planned whole when it is created (`planned`), as a row of steps with absolute times; then it is only a
matter of taking the steps that are due (`advance`). Cancelling throws the rest of the plan away.

    in_progress --last step--> completed | failed | incomplete
        | cancel
        v
    cancelling  --deltas that were in flight, closing events--> cancelled
"""

from __future__ import annotations

import base64
import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import attrs

from aivc.config.settings import Codec
from aivc.testing.conversation import Conversation, Item
from aivc.testing.schema import Json
from aivc.testing.script import CallTool, CutOff, Fail, Part, Say
from aivc.testing.vad import OCTETS_PER_MS, AudioFormat
from aivc.testing.voice import to_pcm_24k, transcode

if TYPE_CHECKING:
    import random

IN_FLIGHT_SECONDS = 0.005  # between the deltas that still arrive after a cancellation
ARGUMENT_DELTAS = 3
ARGUMENT_DELTA_SECONDS = 0.02


@attrs.frozen(kw_only=True)
class Pace:
    """How fast the model is."""

    think_ms: float = 300.0  # from response.created to the first item, varied by a fifth either way
    speed: float = 5.0  # seconds of audio generated in one second
    delta_ms: tuple[float, float] = (60.0, 480.0)  # shortest and longest audio delta


@attrs.define
class Output:
    """One output item and what of it was streamed."""

    item: Item
    index: int  # output_index
    opened: bool = False
    closed: bool = False


@attrs.frozen
class Step:
    at: float
    kind: Literal["open", "audio", "words", "arguments", "close", "finish"]
    index: int = 0  # of the output item
    octets: bytes = b""
    text: str = ""


@attrs.define
class Generation:
    """An active response. Events are in GA form and lack their `event_id`."""

    id: str
    conversation: Conversation | None  # None: out of band
    settings: Json  # the session's configuration with this response's overrides
    outputs: list[Output] = attrs.field(factory=list)
    steps: deque[Step] = attrs.field(factory=deque)
    status: str = "in_progress"
    ends_as: str = "completed"
    details: Json | None = None
    cancelling: bool = False
    first_audio_at: float | None = None
    usage: Json | None = None

    @property
    def next_at(self) -> float:
        return self.steps[0].at if self.steps else math.inf

    @property
    def wire(self) -> Json:
        """The `response` object of `response.created` and `response.done`."""
        output = self.settings["audio"]["output"]
        response: Json = {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": self.details if self.status != "in_progress" else None,
            "output": [output.item.wire for output in self.outputs if output.closed],
            "conversation_id": self.conversation.id if self.conversation else None,
            "output_modalities": self.settings["output_modalities"],
            "max_output_tokens": self.settings["max_output_tokens"],
            "audio": {"output": {"format": output["format"], "voice": output["voice"]}},
            "usage": self.usage,
            "metadata": self.settings.get("metadata"),
        }
        if "temperature" in self.settings:
            response["temperature"] = self.settings["temperature"]
        return response

    def cancel(self, now: float, reason: str, in_flight: int) -> None:
        """Give up the rest of the plan, except the next `in_flight` audio deltas, which are on their way already."""
        self.cancelling = True
        self.ends_as = "cancelled"
        self.details = {"type": "cancelled", "reason": reason}
        current = next((output.index for output in self.outputs if output.opened and not output.closed), None)
        late = [step for step in self.steps if step.kind == "audio" and step.index == current][:in_flight]
        steps = [attrs.evolve(step, at=now + n * IN_FLIGHT_SECONDS) for n, step in enumerate(late, 1)]
        end = now + (len(late) + 1) * IN_FLIGHT_SECONDS
        if current is not None:
            steps.append(Step(end, "close", current))
        self.steps = deque([*steps, Step(end, "finish")])

    def fail(self, error: Json) -> None:
        """Let it end as `failed`, with no output."""
        self.ends_as = "failed"
        self.details = {"type": "failed", "error": error}
        self.outputs.clear()
        self.steps = deque([self.steps[-1]])

    def advance(self, now: float) -> list[Json]:
        """Take the next step, which is due: its events. The response is over when `status` changes."""
        step = self.steps.popleft()
        if step.kind == "finish":
            self.status = self.ends_as
            return []
        output = self.outputs[step.index]
        match step.kind:
            case "open":
                return self._open(output)
            case "audio":
                self.first_audio_at = self.first_audio_at or now
                if not output.item.truncated:
                    output.item.audio += step.octets
                return [self._content("output_audio.delta", output, delta=base64.b64encode(step.octets).decode())]
            case "words":
                return [self._words(output, step.text)]
            case "arguments":
                output.item.body["arguments"] += step.text
                return [self._call("function_call_arguments.delta", output, delta=step.text)]
            case _:
                return self._close(output)

    def _event(self, name: str, output: Output, /, **more: object) -> Json:
        return {"type": f"response.{name}", "response_id": self.id, "output_index": output.index, **more}

    def _content(self, name: str, output: Output, /, **more: object) -> Json:
        return self._event(name, output, item_id=output.item.id, content_index=0, **more)

    def _call(self, name: str, output: Output, /, **more: object) -> Json:
        return self._event(name, output, item_id=output.item.id, call_id=output.item.body["call_id"], **more)

    def _words(self, output: Output, text: str) -> Json:
        content = output.item.body["content"][0]
        field = "transcript" if content["type"] == "output_audio" else "text"
        if not output.item.truncated:
            content[field] = content.get(field, "") + text
        name = "output_audio_transcript.delta" if field == "transcript" else "output_text.delta"
        return self._content(name, output, delta=text)

    def _open(self, output: Output) -> list[Json]:
        output.opened = True
        item = output.item
        events = [self._event("output_item.added", output, item=item.opening)]
        if self.conversation:
            self.conversation.add(item)
            previous = self.conversation.previous_id(item)
            events.append({"type": "conversation.item.added", "previous_item_id": previous, "item": item.opening})
        if "content" in item.body:
            audio = item.body["content"][0]["type"] == "output_audio"
            part = {"type": "audio", "transcript": ""} if audio else {"type": "text", "text": ""}
            events.append(self._content("content_part.added", output, part=part))
        return events

    def _close(self, output: Output) -> list[Json]:
        output.closed = True
        item = output.item
        cut_off = self.ends_as == "incomplete" and output is self.outputs[-1]
        item.status = "incomplete" if self.cancelling or cut_off else "completed"
        if "content" not in item.body:
            body = item.body
            done = [self._call("function_call_arguments.done", output, name=body["name"], arguments=body["arguments"])]
        elif item.body["content"][0]["type"] == "output_audio":
            transcript = item.body["content"][0].get("transcript", "")
            done = [
                self._content("output_audio.done", output),
                self._content("output_audio_transcript.done", output, transcript=transcript),
                self._content("content_part.done", output, part={"type": "audio", "transcript": transcript}),
            ]
        else:
            text = item.body["content"][0].get("text", "")
            done = [
                self._content("output_text.done", output, text=text),
                self._content("content_part.done", output, part={"type": "text", "text": text}),
            ]
        if self.conversation and self.conversation.find(item.id):
            previous = self.conversation.previous_id(item)
            done.append({"type": "conversation.item.done", "previous_item_id": previous, "item": item.wire})
        return [*done, self._event("output_item.done", output, item=item.wire)]


def spoken(part: Say, audio_format: AudioFormat) -> bytes:
    """The octets of a part in the session's output format."""
    codec: Codec = "PCMA" if audio_format == "audio/pcma" else "PCMU"
    octets = part.octets(codec)
    law = part.codec if part.audio else codec
    return to_pcm_24k(octets, law) if audio_format == "audio/pcm" else transcode(octets, law, codec)


def chunked(
    octets: bytes, octets_per_ms: int, delta_ms: tuple[float, float], random: random.Random, size_octets: int | None
) -> list[bytes]:
    """Deltas of uneven size, which fall on no frame border; 16-bit samples stay whole."""
    chunks: list[bytes] = []
    at = 0
    while at < len(octets):
        size = size_octets or max(1, int(random.uniform(*delta_ms) * octets_per_ms))
        if octets_per_ms == OCTETS_PER_MS["audio/pcm"]:
            size += size % 2
        chunks.append(octets[at : at + size])
        at += size
    return chunks


def worded(transcript: str, pieces: int) -> list[str]:
    """The transcript in so many pieces, words whole; pieces may be empty."""
    words = [word if n == 0 else f" {word}" for n, word in enumerate(transcript.split(" "))]
    borders = [math.ceil(len(words) * n / pieces) for n in range(pieces + 1)]
    return ["".join(words[start:end]) for start, end in pairwise(borders)]


def lettered(text: str, pieces: int) -> list[str]:
    size = max(1, math.ceil(len(text) / pieces))
    return [text[at : at + size] for at in range(0, len(text), size)]


@attrs.define
class Planner:
    """Turns a script's parts into output items and steps.

    Args:
        pace: of the model.
        random: draws sizes and times.
        new_id: gives ids with a prefix such as `item`.
        speak_format: a format other than the session's, for a server that lies.
        delta_octets: size of every audio delta, instead of the pace's.
        broken_arguments: cut the arguments of function calls short.
        phase: decorate items with `phase`, as the 2.x models do.
    """

    pace: Pace
    random: random.Random
    new_id: Callable[[str], str]
    speak_format: AudioFormat | None = None
    delta_octets: int | None = None
    broken_arguments: bool = False
    phase: bool = True

    def plan(self, generation: Generation, parts: Sequence[Part], now: float) -> None:
        """Fill a new generation: its outputs, its steps, and how it ends."""
        at = now + self.pace.think_ms / 1000 * self.random.uniform(0.8, 1.2)
        for part in parts:
            match part:
                case Say():
                    at = self._say(generation, part, at)
                case CallTool():
                    at = self._call_tool(generation, part, at)
                case Fail():
                    error = {"type": "server_error", "code": part.code, "message": part.message}
                    generation.ends_as, generation.details = "failed", {"type": "failed", "error": error}
                    break
                case CutOff():
                    generation.ends_as = "incomplete"
                    generation.details = {"type": "incomplete", "reason": part.reason}
                    break
        generation.steps.append(Step(at, "finish"))

    def _item(self, generation: Generation, body: Json, octets_per_ms: int = 8) -> int:
        if self.phase:
            body["phase"] = "final_answer"
        item = Item(self.new_id("item"), body, "in_progress", octets_per_ms=octets_per_ms, from_model=True)
        item.settled = body["type"] != "function_call"
        generation.outputs.append(Output(item, len(generation.outputs)))
        return len(generation.outputs) - 1

    def _say(self, generation: Generation, part: Say, at: float) -> float:
        if generation.settings["output_modalities"] == ["text"]:
            return self._write(generation, part, at)
        audio_format: AudioFormat = self.speak_format or generation.settings["audio"]["output"]["format"]["type"]
        content = [{"type": "output_audio", "transcript": ""}]
        body: Json = {"type": "message", "role": "assistant", "content": content}
        octets_per_ms = OCTETS_PER_MS[audio_format]
        index = self._item(generation, body, octets_per_ms)
        chunks = chunked(spoken(part, audio_format), octets_per_ms, self.pace.delta_ms, self.random, self.delta_octets)
        steps = generation.steps
        steps.append(Step(at, "open", index))
        for octets, words in zip(chunks, worded(part.transcript, max(1, len(chunks))), strict=False):
            at += len(octets) / octets_per_ms / 1000 / self.pace.speed
            if words:
                steps.append(Step(at, "words", index, text=words))
            steps.append(Step(at, "audio", index, octets=octets))
        steps.append(Step(at, "close", index))
        return at

    def _write(self, generation: Generation, part: Say, at: float) -> float:
        body: Json = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": ""}]}
        index = self._item(generation, body)
        generation.steps.append(Step(at, "open", index))
        for words in worded(part.transcript, ARGUMENT_DELTAS):
            at += ARGUMENT_DELTA_SECONDS
            generation.steps.append(Step(at, "words", index, text=words))
        generation.steps.append(Step(at, "close", index))
        return at

    def _call_tool(self, generation: Generation, part: CallTool, at: float) -> float:
        body: Json = {"type": "function_call", "name": part.name, "call_id": self.new_id("call"), "arguments": ""}
        index = self._item(generation, body)
        arguments = part.arguments_text
        if self.broken_arguments:
            arguments = arguments[:-1] or "{"
        generation.steps.append(Step(at, "open", index))
        for letters in lettered(arguments, ARGUMENT_DELTAS):
            at += ARGUMENT_DELTA_SECONDS
            generation.steps.append(Step(at, "arguments", index, text=letters))
        generation.steps.append(Step(at, "close", index))
        return at
