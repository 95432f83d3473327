"""What each error of the Realtime API means for a call: one table, by `code`, or by `type` where that is missing."""

from __future__ import annotations

from enum import Enum


class ErrorKind(Enum):
    """What to do about an error."""

    FATAL = "fatal"  # no call can go on: credentials, money, model, expiry
    ACTIVE_RESPONSE = "active response"  # ask again when the active response is done
    TOOL = "tool"  # a tool's output came before the server knew the call
    BENIGN = "benign"  # two things crossed on the way; count it
    OTHER = "other"  # warn and go on


# Codes of OpenAI's service as captured and documented in 2026, and of compatible servers.
KINDS: dict[str, ErrorKind] = {
    "invalid_api_key": ErrorKind.FATAL,
    "invalid_authentication": ErrorKind.FATAL,
    "authentication_error": ErrorKind.FATAL,
    "account_deactivated": ErrorKind.FATAL,
    "insufficient_quota": ErrorKind.FATAL,
    "billing_hard_limit_reached": ErrorKind.FATAL,
    "invalid_model": ErrorKind.FATAL,
    "missing_model": ErrorKind.FATAL,
    "model_not_found": ErrorKind.FATAL,
    "beta_api_shape_disabled": ErrorKind.FATAL,
    "session_expired": ErrorKind.FATAL,
    "session_limit_reached": ErrorKind.FATAL,
    "conversation_already_has_active_response": ErrorKind.ACTIVE_RESPONSE,
    "invalid_tool_call_id": ErrorKind.TOOL,
    "response_cancel_not_active": ErrorKind.BENIGN,
    "input_audio_buffer_commit_empty": ErrorKind.BENIGN,
    "item_truncate_invalid_item_id": ErrorKind.BENIGN,
    "item_delete_invalid_item_id": ErrorKind.BENIGN,
}

# Trying again soon, or at another server, may help.
RETRYABLE = frozenset(
    {
        "server_error",
        "session_limit_reached",
        "rate_limit_exceeded",
        "rate_limit_error",
        "inference_rate_limit_exceeded",
        "overloaded_error",
        "service_unavailable",
    }
)


def classify(code: str | None, error_type: str | None = None) -> ErrorKind:
    """Return what an error event asks for; anything unlisted is OTHER."""
    for name in (code or "", error_type or ""):
        if name.startswith(("item_truncate_", "item_delete_")):
            return ErrorKind.BENIGN
        if name in KINDS:
            return KINDS[name]
    return ErrorKind.OTHER


def is_retryable(code: str) -> bool:
    """Say whether the same request may succeed later."""
    return code in RETRYABLE


def is_retryable_status(http_status: int) -> bool:
    """Say the same of an HTTP answer to the upgrade: RFC 9110 section 15 and RFC 6585 section 4."""
    return http_status in (408, 425, 429) or http_status >= 500
