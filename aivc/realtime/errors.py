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
CODES: dict[ErrorKind, tuple[str, ...]] = {
    ErrorKind.FATAL: (
        "invalid_api_key",
        "invalid_authentication",
        "authentication_error",
        "account_deactivated",
        "insufficient_quota",
        "billing_hard_limit_reached",
        "invalid_model",
        "missing_model",
        "model_not_found",
        "beta_api_shape_disabled",
        "session_expired",
        "session_limit_reached",
    ),
    ErrorKind.ACTIVE_RESPONSE: ("conversation_already_has_active_response",),
    ErrorKind.TOOL: ("invalid_tool_call_id",),
    ErrorKind.BENIGN: (
        "response_cancel_not_active",
        "input_audio_buffer_commit_empty",
        "item_truncate_invalid_item_id",
        "item_delete_invalid_item_id",
        "item_retrieve_invalid_item_id",
        "mcp_call_failed",  # ours, for the events of this name; the model hears of it by itself
        "mcp_list_tools_failed",
    ),
    ErrorKind.OTHER: (
        "server_error",
        "rate_limit_exceeded",
        "rate_limit_error",
        "inference_rate_limit_exceeded",
        "overloaded_error",
        "service_unavailable",
        "cannot_update_voice",
        "unsupported_content_type",
        "item_create_duplicate_item_id",
        "item_create_invalid_previous_item_id",
        "invalid_event",
        "invalid_json",
        "invalid_value",
        "invalid_type",
        "unknown_parameter",
        "unsupported_parameter",
        "missing_required_parameter",
        "integer_below_min_value",
        "integer_above_max_value",
        "decimal_below_min_value",
        "decimal_above_max_value",
        "string_above_max_length",
        "array_above_max_length",
        "object_above_max_properties",
    ),
}
KINDS: dict[str, ErrorKind] = {code: kind for kind, codes in CODES.items() for code in codes}
FAMILIES = ("item_truncate_", "item_delete_", "mcp_")  # whatever they say, the talk goes on

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
        if name.startswith(FAMILIES):
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
