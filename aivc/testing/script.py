"""What the model does, decided by the test: scripts, and a few ready ones.

A script is asked once for every response and answers with the parts of it, in order. It holds no state: everything
that it needs to know is in the `Context`, so one script serves any number of sessions.

    model = FakeModel(scripted([[Say("Hello.", seconds=1.5)], [CallTool("hours"), CallTool("weather")]]))
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import attrs

from aivc.config.settings import Codec
from aivc.testing.phrases import phrase
from aivc.testing.schema import Json
from aivc.testing.voice import speech

CALL_CONTROL = ("terminate_call", "transfer_call", "send_digits")  # no ready script uses them as an example


@attrs.frozen
class Say:
    """One message item: audio with its transcript, or the transcript alone in a text session."""

    transcript: str
    seconds: float = 1.0  # length of synthetic speech, other octets for another transcript; unused with `audio`
    audio: bytes = b""  # G.711 octets, 8000 a second
    codec: Codec = "PCMU"  # law of `audio`; it is sent unchanged to a session that uses the same

    def octets(self, codec: Codec) -> bytes:
        """What to speak, in its own law; synthetic speech comes in the law that is asked for."""
        return self.audio or speech(self.seconds, codec, pitch_hz=210.0, seed=zlib.crc32(self.transcript.encode()))


@attrs.frozen
class CallTool:
    """One function call item."""

    name: str
    arguments: Json | str = attrs.field(factory=dict)  # text is sent as it is, valid JSON or not

    @property
    def arguments_text(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@attrs.frozen
class Fail:
    """The response ends here with status `failed`; no `error` event follows, as at OpenAI."""

    code: str = "server_error"  # rate_limit_exceeded, insufficient_quota ...
    message: str = "The server had an error while processing your request."


@attrs.frozen
class CutOff:
    """The response ends here with status `incomplete`."""

    reason: Literal["max_output_tokens", "content_filter"] = "max_output_tokens"


Part = Say | CallTool | Fail | CutOff


@attrs.frozen
class Turn:
    """What the caller said last."""

    audio: bytes  # octets of the input format, prefix padding included
    codec: Codec | None  # None = 24 kHz PCM
    seconds: float


@attrs.frozen
class ToolOutput:
    """A `function_call_output` that the client created."""

    call_id: str
    name: str
    output: str


@attrs.frozen(kw_only=True)
class Context:
    """What a script may look at when a response is created."""

    session: Json  # the effective configuration, in GA form
    trigger: Literal["client", "turn", "idle"]  # response.create, end of the caller's turn, idle_timeout_ms
    instructions: str | None  # those of this response.create, if any
    responses: int  # created before this one
    turns: int  # of the caller, committed so far
    turn: Turn | None  # the last of them
    interrupted: bool  # the response before this one was cancelled
    outputs: tuple[ToolOutput, ...]  # created since the last response
    texts: tuple[str, ...] = ()  # user messages in writing, created since the last response: digits, for example
    history: tuple[
        tuple[str, str], ...
    ] = ()  # who said what before: role and text of messages, type and text of others
    called: tuple[str, ...]  # names of the tools called so far
    tools: tuple[Json, ...]  # advertised: session.tools, or those of this response.create

    def tool(self, name: str) -> Json | None:
        """The advertised tool with this name."""
        return next((tool for tool in self.tools if tool.get("name") == name), None)

    def ordinary_tool(self) -> Json | None:
        """The first advertised function that does not act on the call."""
        names = (tool for tool in self.tools if tool.get("type", "function") == "function")
        return next((tool for tool in names if tool["name"] not in CALL_CONTROL), None)


class Script(Protocol):
    """Decides what each response consists of."""

    def respond(self, context: Context) -> Sequence[Part]:
        """The parts of a response, in order; none is a response without output."""


@attrs.frozen
class Scripted:
    responses: Sequence[Sequence[Part]]

    def respond(self, context: Context) -> Sequence[Part]:
        return self.responses[context.responses] if context.responses < len(self.responses) else []


@attrs.frozen
class Decided:
    decide: Callable[[Context], Sequence[Part]]

    def respond(self, context: Context) -> Sequence[Part]:
        return self.decide(context)


def scripted(responses: Sequence[Sequence[Part]]) -> Script:
    """The first response has the first parts, and so on; later ones are empty."""
    return Scripted(responses)


def decided(decide: Callable[[Context], Sequence[Part]]) -> Script:
    """A script from one function."""
    return Decided(decide)


def echo() -> Script:
    """Say back what the caller said, octet by octet (a beep-like 0.2 s when nothing was said, or in 24 kHz PCM)."""

    def respond(context: Context) -> Sequence[Part]:
        if context.turn is None or context.turn.codec is None:
            return [Say("I heard nothing.", seconds=0.2)]
        return [Say("You said this.", audio=context.turn.audio, codec=context.turn.codec)]

    return Decided(respond)


def recording(phrase_id: str) -> Say:
    """One of the packaged recordings (`aivc.testing.phrases`)."""
    found = phrase(phrase_id)
    return Say(found.text, audio=found.octets)


def example_value(schema: Json) -> object:
    if "enum" in schema:
        return schema["enum"][0]
    examples: Json = {"integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}, "null": None}
    return examples.get(str(schema.get("type")), "example")


def example_arguments(tool: Json) -> Json:
    """Arguments that satisfy a tool's JSON schema, as far as its required top-level properties go."""
    parameters = tool.get("parameters") or {}
    properties = parameters.get("properties", {})
    return {name: example_value(properties.get(name, {})) for name in parameters.get("required", [])}


def goodbye(context: Context) -> Sequence[Part]:
    """The farewell, with the hang-up in the same response if the client offers it."""
    last_words: list[Part] = [recording("model_goodbye")]
    if context.tool("terminate_call"):
        last_words.append(CallTool("terminate_call"))
    return last_words


def stand_in(turns: int = 4) -> Script:
    """Serve any caller with the packaged recordings: greet, answer, call one ordinary tool once, say goodbye.

    Args:
        turns: the caller's turn that is answered with the farewell and `terminate_call`; 0 = never.
    """

    def respond(context: Context) -> Sequence[Part]:
        if context.outputs:
            return [recording("model_tool_done")]
        if context.turns == 0:
            return [recording("model_hello")]
        if turns and context.turns >= turns:
            return goodbye(context)
        tool = context.ordinary_tool()
        if context.turns >= 2 and tool and tool["name"] not in context.called:
            return [CallTool(tool["name"], example_arguments(tool))]
        return [recording("model_heard" if context.turns == 1 else "model_go_on")]

    return Decided(respond)


def demo() -> Script:
    """The model of the demo call: greets, answers at length (to be interrupted), uses a tool, says goodbye."""

    def respond(context: Context) -> Sequence[Part]:
        if context.outputs:
            return [recording("model_looked_up")]
        tool = context.ordinary_tool()
        match context.turns:
            case 0:
                return [recording("model_greeting")]
            case 1:
                return [recording("model_hours")]
            case 2 if tool:
                return [recording("model_one_moment"), CallTool(tool["name"], example_arguments(tool))]
            case 2:
                return [recording("model_looked_up")]
            case _:
                return goodbye(context)

    return Decided(respond)
