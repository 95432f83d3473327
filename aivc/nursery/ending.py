"""Why a call ended: one closed list, and which of two causes in the same tick is the one to tell."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

import attrs

from aivc.sip.leg import Rejection
from aivc.sip.reasons import named


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
    """What an ending says: to the peer and, in `advice`, to the operator. docs/troubleshooting.md tells more of each.

    Attributes:
      status: SIP status while the call is unanswered; in the Reason of a BYE, too, unless the ending is orderly.
      text: for Reason (RFC 3326), Warning and the log.
      advice: one line: which setting to change, or where to look; "": nothing need be done.
      retry: whether Retry-After makes sense.
      orderly: a call that is over as it was meant to be: BYE says 200.
    """

    status: int
    text: str
    advice: str = ""
    retry: bool = False
    orderly: bool = False


FAREWELLS: dict[Ending, Farewell] = {
    Ending.CALLER_HUNG_UP: Farewell(487, "the caller hung up", orderly=True),
    Ending.CALLER_CANCELLED: Farewell(487, "the caller gave up before the answer", orderly=True),
    Ending.TRANSFERRED: Farewell(603, "the call was transferred", orderly=True),
    Ending.MODEL_HUNG_UP: Farewell(603, "the agent ended the call", orderly=True),
    Ending.CALLER_IDLE: Farewell(
        603,
        "the caller was silent",
        "openai.idle_timeout_ms and openai.idle_prompts say how long a silent caller is kept",
        orderly=True,
    ),
    Ending.DRAINED: Farewell(
        503, "the service is going down", "service.drain_seconds gives calls more time to end", retry=True
    ),
    Ending.MAX_DURATION: Farewell(
        503, "the call reached its maximum duration", "service.max_call_seconds says how long it is", orderly=True
    ),
    Ending.ACK_MISSING: Farewell(
        408, "no ACK came for our 200", "the caller must reach our Contact: see sip.external_ip and sip.listen"
    ),
    Ending.SIGNALLING_FAILED: Farewell(
        488, "the call could not be set up", "detail names the SIP message; compare it with sip.refused in the log"
    ),
    Ending.SESSION_EXPIRED: Farewell(
        408,
        "the session timer ran out",
        "the peer did not refresh: let it, or raise sip.session_expires_seconds",
    ),
    Ending.MEDIA_TIMEOUT: Farewell(
        408,
        "no RTP came from the caller",
        "open UDP rtp.min_port to rtp.max_port, see rtp.ip and rtp.nat; rtp.timeout_seconds is the patience",
    ),
    Ending.MEDIA_UNREACHABLE: Farewell(
        488,
        "the address in your SDP cannot be reached from here",
        "give the machine a route to it, or have the proxy mend the SDP; see rtp.ip and rtp.ipv6",
    ),
    Ending.NO_RTP_PORT: Farewell(
        503,
        "no RTP port is free",
        "widen rtp.min_port to rtp.max_port, lower service.max_calls, or raise the limit of open files",
        retry=True,
    ),
    Ending.CONFIG_FAILED: Farewell(
        503,
        "the settings of this call cannot be had",
        "see whether engine.api_url answers, and engine.api_failure",
        retry=True,
    ),
    Ending.REALTIME_REFUSED: Farewell(
        503,
        "the model is not available",
        "detail says who refused: see openai.key, openai.model, openai.url; then openai.connect_seconds",
        retry=True,
    ),
    Ending.REALTIME_FATAL: Farewell(
        503,
        "the model failed",
        "detail is the error of the model's side: mostly the account's limits, openai.model, or a setting",
        retry=True,
    ),
    Ending.REALTIME_LOST: Farewell(
        503,
        "the connection to the model was lost",
        "see the network to openai.url; openai.reconnect takes a new session, sounds.failure tells the caller",
        retry=True,
    ),
    Ending.REALTIME_SILENT: Farewell(
        503,
        "the model does not answer",
        "openai.answer_seconds is the patience; see the status of the model's side",
        retry=True,
    ),
    Ending.REALTIME_EXPIRED: Farewell(
        503, "the model's session has expired", "turn openai.reconnect on for calls that long", retry=True
    ),
    Ending.REALTIME_STUCK: Farewell(
        503,
        "the model takes no more messages",
        "see the network to openai.url; openai.pong_seconds finds a dead connection",
        retry=True,
    ),
    Ending.INTERNAL_ERROR: Farewell(
        500, "internal error", "a bug: the line call.bug of this call in the log has the traceback; report it"
    ),
    Ending.EMBEDDER_CANCELLED: Farewell(
        503, "the service stopped", "it was told to end at once: see service.second_signal in the log", retry=True
    ),
}


STOPPED: Final = frozenset({Ending.DRAINED, Ending.EMBEDDER_CANCELLED})  # somebody has ended the service


def is_as_it_should_be(ending: Ending) -> bool:
    """Whether nothing went wrong: neither with the call, nor with the service that was told to end."""
    return FAREWELLS[ending].orderly or ending in STOPPED


def advice_for(ending: Ending) -> str | None:
    """What to change so that the next call does not end so; None: nothing need be done."""
    return FAREWELLS[ending].advice or None


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
        wait = retry_after_seconds if farewell.retry else None
        return Rejection(farewell.status, farewell.text, wait, self.ending.value, ended_call=True)

    @property
    def reason(self) -> str:
        """For the Reason of a BYE: the ending's name, and its text."""
        return named(self.ending.value, FAREWELLS[self.ending].text)

    @property
    def status(self) -> int:
        """Likewise."""
        farewell = FAREWELLS[self.ending]
        return 200 if farewell.orderly else farewell.status


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
