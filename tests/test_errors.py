"""The table of errors: every code that OpenAI documents, or that servers were seen to send, has its place."""

from __future__ import annotations

import pytest

from aivc.realtime.errors import CODES, KINDS, ErrorKind, classify, is_retryable, is_retryable_status

NO_CALL = (
    "invalid_api_key",
    "account_deactivated",
    "insufficient_quota",
    "billing_hard_limit_reached",
    "invalid_model",
    "missing_model",
    "beta_api_shape_disabled",
    "session_expired",
    "session_limit_reached",
)
CROSSED = (
    "response_cancel_not_active",
    "input_audio_buffer_commit_empty",
    "item_truncate_invalid_item_id",
    "item_truncate_whatever",
    "item_delete_invalid_item_id",
    "item_delete_whatever",
    "mcp_call_failed",
    "mcp_list_tools_failed",
)
WARNED = (
    "rate_limit_exceeded",
    "inference_rate_limit_exceeded",
    "server_error",
    "cannot_update_voice",
    "invalid_event",
    "invalid_json",
    "invalid_value",
    "invalid_type",
    "unknown_parameter",
    "missing_required_parameter",
    "integer_below_min_value",
    "integer_above_max_value",
    "unsupported_content_type",
)
EXPECTED = (
    dict.fromkeys(NO_CALL, ErrorKind.FATAL)
    | dict.fromkeys(CROSSED, ErrorKind.BENIGN)
    | dict.fromkeys(WARNED, ErrorKind.OTHER)
    | {
        "conversation_already_has_active_response": ErrorKind.ACTIVE_RESPONSE,
        "invalid_tool_call_id": ErrorKind.TOOL,
    }
)


@pytest.mark.parametrize(("code", "kind"), EXPECTED.items())
def test_every_known_code_has_its_kind_as_a_code_and_as_a_type(code: str, kind: ErrorKind) -> None:
    assert classify(code, "invalid_request_error") is kind
    assert classify(None, code) is kind
    assert classify("", code) is kind


def test_every_known_code_is_written_in_the_table_but_for_those_of_a_family() -> None:
    assert EXPECTED.keys() - KINDS.keys() == {"item_truncate_whatever", "item_delete_whatever"}


def test_no_code_has_two_kinds() -> None:
    assert len(KINDS) == sum(len(codes) for codes in CODES.values())
    assert set(CODES) == set(ErrorKind)


def test_what_nobody_knows_is_warned_of() -> None:
    assert classify(None) is ErrorKind.OTHER
    assert classify("brand_new", "invalid_request_error") is ErrorKind.OTHER
    assert classify("brand_new", "insufficient_quota") is ErrorKind.FATAL  # the type says more


@pytest.mark.parametrize(
    ("code", "again"),
    [
        ("rate_limit_exceeded", True),
        ("inference_rate_limit_exceeded", True),
        ("server_error", True),
        ("session_limit_reached", True),
        ("insufficient_quota", False),
        ("invalid_api_key", False),
        ("invalid_value", False),
    ],
)
def test_what_may_succeed_later_is_known(code: str, again: bool) -> None:
    assert is_retryable(code) is again


@pytest.mark.parametrize(("status", "again"), [(429, True), (503, True), (500, True), (401, False), (404, False)])
def test_so_it_is_of_http(status: int, again: bool) -> None:
    assert is_retryable_status(status) is again
