"""Why a call ended: one closed list, and which of two causes in the same tick is the one to tell."""

from __future__ import annotations

import enum
from collections.abc import Iterator

import attrs

from aivc.sip.leg import Rejection


class Ending(enum.Enum):
    """Exactly one of these is recorded for every call. The order decides: of two causes in one tick the first wins."""

    CALLER_HUNG_UP = "caller_hung_up"
    CALLER_CANCELLED = "caller_cancelled"  # before the answer
    TRANSFERRED = "transferred"  # by REFER: the target answered, or the caller left for it
    MODEL_HUNG_UP = "model_hung_up"  # by its tool terminate_call
    CALLER_IDLE = "caller_idle"  # silent in spite of openai.idle_prompts questions
    DRAINED = "drained"  # the service is going down and the grace is over
    MAX_DURATION = "max_duration"
    ACK_MISSING = "ack_missing"  # our 200 was never acknowledged
    SIGNALLING_FAILED = "signalling_failed"  # a message that sets the call up never came or is of no use
    SESSION_EXPIRED = "session_expired"  # no refresh of the SIP session came (RFC 4028)
    MEDIA_TIMEOUT = "media_timeout"  # no RTP from the caller
    MEDIA_UNREACHABLE = "media_unreachable"  # no route to the address in the caller's SDP
    NO_RTP_PORT = "no_rtp_port"
    CONFIG_FAILED = "config_failed"  # engine.api_url gave no settings for this call, and engine.api_failure refuses it
    REALTIME_REFUSED = "realtime_refused"  # the model could not be had: key, model name, network, time-out
    REALTIME_FATAL = "realtime_fatal"  # the model reported an error that no retry mends
    REALTIME_LOST = "realtime_lost"  # the connection broke
    REALTIME_SILENT = "realtime_silent"  # the model did not answer in its turn
    REALTIME_EXPIRED = "realtime_expired"  # the session reached its end, and openai.reconnect is off
    REALTIME_STUCK = "realtime_stuck"  # the model's side reads nothing any more
    INTERNAL_ERROR = "internal_error"
    EMBEDDER_CANCELLED = "embedder_cancelled"  # serve_call() was cancelled from outside


@attrs.frozen
class Farewell:
    """What an ending says to the peer."""

    status: int  # SIP status while the call is unanswered
    text: str  # for Reason (RFC 3326), Warning and the log
    retry: bool = False  # whether Retry-After makes sense


FAREWELLS: dict[Ending, Farewell] = {
    Ending.CALLER_HUNG_UP: Farewell(487, "the caller hung up"),
    Ending.CALLER_CANCELLED: Farewell(487, "the caller gave up before the answer"),
    Ending.TRANSFERRED: Farewell(603, "the call was transferred"),
    Ending.CALLER_IDLE: Farewell(603, "the caller was silent"),
    Ending.REALTIME_SILENT: Farewell(503, "the model does not answer", retry=True),
    Ending.REALTIME_EXPIRED: Farewell(503, "the model's session has expired", retry=True),
    Ending.MODEL_HUNG_UP: Farewell(603, "the agent ended the call"),
    Ending.DRAINED: Farewell(503, "the service is going down", retry=True),
    Ending.MAX_DURATION: Farewell(503, "the call reached its maximum duration"),
    Ending.ACK_MISSING: Farewell(408, "no ACK came for our 200"),
    Ending.SIGNALLING_FAILED: Farewell(488, "the call could not be set up"),
    Ending.SESSION_EXPIRED: Farewell(408, "the session timer ran out"),
    Ending.MEDIA_TIMEOUT: Farewell(408, "no RTP came from the caller"),
    Ending.MEDIA_UNREACHABLE: Farewell(488, "the address in your SDP cannot be reached from here"),
    Ending.NO_RTP_PORT: Farewell(503, "no RTP port is free", retry=True),
    Ending.CONFIG_FAILED: Farewell(503, "the settings of this call cannot be had", retry=True),
    Ending.REALTIME_REFUSED: Farewell(503, "the model is not available", retry=True),
    Ending.REALTIME_FATAL: Farewell(503, "the model failed", retry=True),
    Ending.REALTIME_LOST: Farewell(503, "the connection to the model was lost", retry=True),
    Ending.REALTIME_STUCK: Farewell(503, "the model takes no more messages", retry=True),
    Ending.INTERNAL_ERROR: Farewell(500, "internal error"),
    Ending.EMBEDDER_CANCELLED: Farewell(503, "the service stopped", retry=True),
}


class CallOver(Exception):
    """Raised inside a call's nursery by the task that knows why the call is over; not an error.

    Args:
      ending: the cause.
      detail: what exactly happened, for the log and the record; shown to operators, never to the caller.
    """

    def __init__(self, ending: Ending, detail: str = "") -> None:
        super().__init__(f"{ending.value}: {detail}" if detail else ending.value)
        self.ending = ending
        self.detail = detail

    def rejection(self, retry_after_seconds: int) -> Rejection:
        """How to refuse a call that was not answered yet."""
        farewell = FAREWELLS[self.ending]
        return Rejection(farewell.status, farewell.text, retry_after_seconds if farewell.retry else None)

    @property
    def reason(self) -> str:
        return FAREWELLS[self.ending].text


def first_cause(causes: list[CallOver]) -> CallOver:
    """The cause to record when several tasks failed in the same tick."""
    order = list(Ending)
    return min(causes, key=lambda over: order.index(over.ending))


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions inside nested exception groups: nurseries and context managers wrap one in another."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
