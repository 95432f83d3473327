"""Why a request is refused: one closed list. Each has a paragraph in docs/troubleshooting.md.

The calls that were taken, and ended before the answer, have an `aivc.nursery.ending.Ending` instead, and a record.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import attrs

from aivc.sip.leg import Rejection


class Cause(enum.Enum):
    """Why a request got a final failure. Its value stands in the log, in Reason, and in the metrics.

    Of several with one status the first is what is meant where nothing else is said.
    """

    INTERNAL_ERROR = "internal_error"
    OVERLOADED = "overloaded"
    # Of whoever asks
    FORBIDDEN = "forbidden"
    UNAUTHENTICATED = "unauthenticated"
    WRONG_PASSWORDS = "wrong_passwords"
    TOO_MANY_REQUESTS = "too_many_requests"
    # Of what is asked for
    MALFORMED = "malformed"
    NUMBER_NOT_SERVED = "number_not_served"
    METHOD_NOT_SERVED = "method_not_served"
    SCHEME_NOT_SERVED = "scheme_not_served"
    CONTENT_NOT_SERVED = "content_not_served"
    EXTENSION_REQUIRED = "extension_required"
    RELIABILITY_MISSING = "reliability_missing"
    SESSION_TOO_SHORT = "session_too_short"
    MEDIA_NOT_ACCEPTABLE = "media_not_acceptable"
    ANSWER_TOO_LONG = "answer_too_long"
    HEADERS_NOT_TOLD = "headers_not_told"  # by OpenSIPS
    # Of what does not fit to the calls that there are
    NO_SUCH_CALL = "no_such_call"
    MERGED = "merged"
    CANCELLED = "cancelled"
    NO_PRACK = "no_prack"
    GLARE = "glare"
    RETRY_LATER = "retry_later"
    REFER_NOT_FOLLOWED = "refer_not_followed"
    REPLACES_FAILED = "replaces_failed"
    # Of new calls, by the service
    DRAINING = "draining"
    DISABLED = "disabled"
    PACING_LATE = "pacing_late"
    MAX_CALLS = "max_calls"
    CALLS_PER_SECOND = "calls_per_second"
    NO_AGENT = "no_agent"
    CONFIG_FAILED = "config_failed"  # as the Ending of that name, but before there was a call
    NO_WORKER = "no_worker"


@attrs.define
class RefusalCounts:
    """How often requests were refused, by `Cause`; what has another name is not counted here."""

    counts: dict[str, int] = attrs.field(factory=lambda: {cause.value: 0 for cause in Cause})

    def add(self, name: str) -> None:
        if name in self.counts:
            self.counts[name] += 1


@attrs.frozen
class Explanation:
    """What is said of a cause.

    Attributes:
      statuses: SIP statuses that go with it; the first is the usual one.
      text: for Reason; nothing in it is the peer's secret or ours.
      advice: one line for the operator: what to change.
    """

    statuses: tuple[int, ...]
    text: str
    advice: str


EXPLANATIONS: Final[Mapping[Cause, Explanation]] = {
    Cause.DRAINING: Explanation((503,), "the service is going down", "send calls elsewhere until it is up again"),
    Cause.DISABLED: Explanation(
        (503,), "no calls are answered here", "openai.disable, or disable of the agent, is set"
    ),
    Cause.PACING_LATE: Explanation(
        (503,), "the machine is too busy", "give the machine fewer calls (service.max_calls) or more CPU"
    ),
    Cause.MAX_CALLS: Explanation(
        (503,), "all lines are busy", "raise service.max_calls, and rtp.max_port with it, or send calls elsewhere"
    ),
    Cause.CALLS_PER_SECOND: Explanation(
        (503,), "too many calls at once", "raise service.calls_per_second if this machine can take more"
    ),
    Cause.NO_AGENT: Explanation(
        (404,), "no agent for this number", "match and match_from of [openai] and [agents.*] must fit"
    ),
    Cause.CONFIG_FAILED: Explanation(
        (503,), "the settings of this call cannot be used", "mend what came with the call, or see engine.api_failure"
    ),
    Cause.NO_WORKER: Explanation((503,), "no worker runs", "look for worker.ended and worker.not_started in the log"),
    Cause.INTERNAL_ERROR: Explanation((500,), "internal error", "report the traceback of the line call.bug or sip.bug"),
    Cause.FORBIDDEN: Explanation((403,), "not allowed from there", "name the network in sip.allow if it is yours"),
    Cause.UNAUTHENTICATED: Explanation(
        (401,), "a password is needed", "name a trunk in sip.trusted, a telephone's user in sip.users"
    ),
    Cause.WRONG_PASSWORDS: Explanation(
        (403,), "too many wrong passwords", "compare the password with sip.users; the source waits a minute"
    ),
    Cause.TOO_MANY_REQUESTS: Explanation(
        (503,), "too many requests", "a trunk belongs into sip.trusted; else see sip.requests_per_second"
    ),
    Cause.OVERLOADED: Explanation((503,), "overloaded", "give the machine fewer calls or more CPU"),
    Cause.MALFORMED: Explanation((400,), "bad request", "the cause says which part of the peer's message is broken"),
    Cause.NUMBER_NOT_SERVED: Explanation(
        (404,), "this number is not served", "name it in sip.numbers, or leave that empty"
    ),
    Cause.METHOD_NOT_SERVED: Explanation((405, 501), "this method is not served", "turn the method off at the peer"),
    Cause.SCHEME_NOT_SERVED: Explanation((416,), "only sip and sips URIs are served", "have the peer call a sip URI"),
    Cause.CONTENT_NOT_SERVED: Explanation(
        (415, 406, 469, 489), "this content is not understood", "have the peer send plain SDP"
    ),
    Cause.EXTENSION_REQUIRED: Explanation(
        (420,), "a required extension is not supported", "turn off at the peer what Unsupported names"
    ),
    Cause.RELIABILITY_MISSING: Explanation(
        (421,), "100rel is required", 'set sip.reliable_provisional to "on", or turn 100rel on at the peer'
    ),
    Cause.SESSION_TOO_SHORT: Explanation(
        (422,), "the session interval is too short", "raise Session-Expires at the peer, or lower sip.min_se_seconds"
    ),
    Cause.MEDIA_NOT_ACCEPTABLE: Explanation(
        (488,), "no audio that both can do", "have the peer offer PCMU or PCMA; for SDES see rtp.srtp"
    ),
    Cause.ANSWER_TOO_LONG: Explanation(
        (513,), "our answer is too long", "have the peer send fewer Via and routes, or use TCP"
    ),
    Cause.HEADERS_NOT_TOLD: Explanation(
        (500,), "the call came without its headers", 'give ua_session_server_init the flags "abh"'
    ),
    Cause.NO_SUCH_CALL: Explanation((481,), "there is no such call", "mostly nothing: the call was over already"),
    Cause.MERGED: Explanation((482,), "the same request came another way", "have the proxy fork to us only once"),
    Cause.CANCELLED: Explanation((487,), "the caller gave up", ""),
    Cause.NO_PRACK: Explanation(
        (504,), "no PRACK came for the 180", "see whether the peer reaches our Contact, or turn off 100rel"
    ),
    Cause.GLARE: Explanation((491,), "an offer of ours is not answered yet", "nothing: the peer tries again"),
    Cause.RETRY_LATER: Explanation((500,), "not now", "nothing: the peer tries again"),
    Cause.REFER_NOT_FOLLOWED: Explanation(
        (603,), "REFER is not followed", "let sip.follow_refer match where calls may be sent"
    ),
    Cause.REPLACES_FAILED: Explanation(
        (603, 486), "the call to replace cannot be replaced", "mostly nothing: the call to replace was over already"
    ),
}
USUAL: Final[Mapping[int, Cause]] = {
    status: cause for cause in reversed(Cause) for status in EXPLANATIONS[cause].statuses
}


def turned_away(cause: Cause, text: str, retry_after_seconds: int | None = None) -> Rejection:
    """How a call is rejected for this cause.

    Args:
      text: the true one, with figures.
    """
    return Rejection(EXPLANATIONS[cause].statuses[0], text, retry_after_seconds, cause.value)


def advice_on(name: str) -> str | None:
    """What to change so that requests are not refused with this name; None: nothing, or no such name."""
    return next((EXPLANATIONS[cause].advice or None for cause in Cause if cause.value == name), None)


def usual_cause(status: int) -> Cause:
    """What a status means where nothing else is said. Raises KeyError for one that nothing is refused with."""
    return USUAL[status]
