"""Why a Realtime session cannot be had, or is over: what servers, proxies and the network say, in one form."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aivc.realtime.errors import is_retryable_status

SHOWN_CHARACTERS = 300  # of a refusal's text
RETRYABLE_CLOSES = frozenset({1001, 1006, 1011, 1012, 1013})  # going away, lost, server error, restart, try later
PRIVATE_CLOSES = 3000  # codes from here on are the application's own, RFC 6455 section 7.4.2


class RealtimeRefused(Exception):
    """The session cannot be had: no connection, no upgrade, refused by the server, or not configured as asked."""

    def __init__(self, code: str, message: str, http_status: int | None = None, retryable: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code  # the server's, or one of: unreachable, tls, timeout, closed_N, http_N, wrong_format, ...
        self.message = message
        self.http_status = http_status  # of the answer to the upgrade, when it was not 101
        self.retryable = retryable  # the same may succeed a little later, or elsewhere


class RealtimeClosed(Exception):
    """The WebSocket is closed, or as good as that."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code  # RFC 6455 section 7.4; 1006 when no close frame came
        self.reason = reason


def refused_by_close(error: RealtimeClosed) -> RealtimeRefused:
    """Read a close: OpenAI's reason is `type.code`, for example `invalid_request_error.invalid_model`."""
    named = error.reason.rpartition(".")[2]
    code = named if error.code >= PRIVATE_CLOSES and named.isidentifier() else f"closed_{error.code}"
    message = f"the server closed the connection: {error.code} {error.reason}".rstrip()
    return RealtimeRefused(code, message, retryable=error.code in RETRYABLE_CLOSES)


def refused_by_http(status: int, body: bytes | None, key: str) -> RealtimeRefused:
    """Read an HTTP answer other than 101; many servers explain it in OpenAI's JSON form."""
    text = (body or b"").decode("utf-8", "replace")
    explained = explanation(text)
    code, said = explained.get("code"), explained.get("message")
    return RealtimeRefused(
        code if isinstance(code, str) and code else f"http_{status}",
        printable(said if isinstance(said, str) else text, key) or f"HTTP status {status}",
        status,
        is_retryable_status(status),
    )


def explanation(text: str) -> Mapping[str, object]:
    """Return the `error` object of a JSON body; nothing of plain text or HTML."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def printable(text: str, *secrets: str) -> str:
    """Return a peer's text for a log line: one line, bounded, without the secrets that some servers repeat."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return "".join(c if c.isprintable() else " " for c in text[:SHOWN_CHARACTERS]).strip()
