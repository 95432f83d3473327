"""Which tool calls were announced, which are finished, and when their outputs may go back.

One call is announced up to four times and runs once. An output sent before its response is done can be refused
(`invalid_tool_call_id`), and one that is never sent leaves the model waiting. The calls of one response are answered
together: every output, then one new response.
"""

from __future__ import annotations

from collections import OrderedDict

import attrs

from aivc.realtime.events import FunctionCall
from aivc.realtime.recent import Recent

REMEMBERED_CALLS = 512  # call ids of a session; hours of talk have dozens
TOOL_ROUNDS = 10  # tool calls upon tool calls without a word of the caller; then the model must talk
CALLS_OF_RESPONSE = 64  # that run; a model asks for a handful at once
OPEN_RESPONSES = 32  # with unanswered calls; a tool has seconds, so more than two or three is hostile


@attrs.frozen
class ToolOutput:
    """What a tool returned, for the model."""

    call_id: str
    output: str
    resent: bool = False  # once, when the server did not know the call yet


@attrs.define
class CallsOfResponse:
    """The calls of one response."""

    outputs: dict[str, str | None] = attrs.field(factory=dict)  # by call id, None while the tool runs
    over: bool = False  # response.done has come

    @property
    def ready(self) -> bool:
        return self.over and None not in self.outputs.values()


@attrs.define
class ToolLedger:
    """The unanswered tool calls of a session."""

    forgotten: int = attrs.field(default=0, init=False)  # responses whose calls were dropped to stay within bounds
    _rounds: int = attrs.field(default=0, init=False)  # since the caller's last word
    _sent: Recent[ToolOutput] = attrs.field(factory=Recent, init=False)  # by event id
    _again: list[ToolOutput] = attrs.field(factory=list, init=False)  # refused as too early
    _unconfirmed: Recent[FunctionCall] = attrs.field(factory=Recent, init=False)  # by call id
    _seen: OrderedDict[str, None] = attrs.field(factory=OrderedDict, init=False)
    _open: OrderedDict[str, CallsOfResponse] = attrs.field(factory=OrderedDict, init=False)

    def announce(self, call: FunctionCall, *, over: bool = False) -> bool:
        """Say whether this call is to be run: complete, and not announced before.

        Args:
            over: its response is over already; nothing else would ever say so.
        """
        if not call.confirmed:
            self._unconfirmed.add(call.call_id, call)
            return False
        self._unconfirmed.take(call.call_id)
        if call.status != "completed" or call.call_id in self._seen:
            return False
        if (calls := self._open.get(call.response_id)) is not None and len(calls.outputs) >= CALLS_OF_RESPONSE:
            return False
        self._seen[call.call_id] = None
        if len(self._seen) > REMEMBERED_CALLS:
            self._seen.popitem(last=False)
        self._open.setdefault(call.response_id, CallsOfResponse(over=over)).outputs[call.call_id] = None
        if len(self._open) > OPEN_RESPONSES:
            self._open.popitem(last=False)
            self.forgotten += 1
        return True

    def take_unconfirmed(self, response_id: str) -> list[FunctionCall]:
        """Return, once and as confirmed, the calls of a completed response that were announced in no other way."""
        calls = [call for _, call in self._unconfirmed.items() if call.response_id == response_id]
        for call in calls:
            self._unconfirmed.take(call.call_id)
        return [attrs.evolve(call, confirmed=True) for call in calls]

    def finish(self, call_id: str, output: str) -> list[ToolOutput]:
        """Note a tool's output; return what may be sent now. A call that is not open changes nothing."""
        for response_id, calls in self._open.items():
            if call_id in calls.outputs:
                calls.outputs[call_id] = output
                return self._ready(response_id)
        return []

    def sent(self, event_id: str, output: ToolOutput) -> None:
        """Note that an output is on its way."""
        self._sent.add(event_id, output)

    def refused(self, event_id: str | None) -> None:
        """Note that the server did not know the call yet: it is told the output once more."""
        output = self._sent.take(event_id)
        if output is not None and not output.resent:
            self._again.append(attrs.evolve(output, resent=True))

    def take_refused(self) -> list[ToolOutput]:
        """Return, once, the outputs to be sent again."""
        refused, self._again = self._again, []
        return refused

    def is_last_round(self) -> bool:
        """Count one more round of outputs; say whether the model must talk now."""
        self._rounds += 1
        return self._rounds >= TOOL_ROUNDS

    def caller_is_there(self) -> None:
        self._rounds = 0

    @property
    def running(self) -> bool:
        """Whether a tool is at work."""
        return any(output is None for calls in self._open.values() for output in calls.outputs.values())

    def is_open(self, call_id: str) -> bool:
        """Whether the output of this call is still to be sent."""
        return any(call_id in calls.outputs for calls in self._open.values())

    def all_over(self) -> list[ToolOutput]:
        """Note that the session of these calls is gone; return the outputs that no sibling keeps back."""
        outputs = [output for response_id in list(self._open) for output in self.over(response_id)]
        self._unconfirmed = Recent()
        self._seen = OrderedDict.fromkeys(call_id for calls in self._open.values() for call_id in calls.outputs)
        return outputs

    def over_but(self, response_id: str) -> list[ToolOutput]:
        """Note that every response but this one is over, its `response.done` seen or lost; return what may be sent."""
        return [output for other in list(self._open) if other != response_id for output in self.over(other)]

    def over(self, response_id: str) -> list[ToolOutput]:
        """Note the end of a response; return what may be sent now."""
        if (calls := self._open.get(response_id)) is None:
            return []
        calls.over = True
        return self._ready(response_id)

    def _ready(self, response_id: str) -> list[ToolOutput]:
        if not self._open[response_id].ready:
            return []
        outputs = self._open.pop(response_id).outputs
        return [ToolOutput(call_id, output) for call_id, output in outputs.items() if output is not None]
