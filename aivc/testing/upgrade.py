"""Who may come in: the HTTP request that asks for a WebSocket, read before it is answered.

OpenAI upgrades every request to a known path and refuses afterwards, with an `error` event and a close frame; other
servers and proxies refuse with an HTTP status. A request that asks for no WebSocket (some proxies probe so) gets 426.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from http import HTTPStatus
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import attrs

from aivc.testing.rules import Dialect
from aivc.testing.schema import Refusal

PATHS = ("/v1/realtime", "/openai/v1/realtime")  # the second is Azure's
LARGEST_HEAD_OCTETS = 16384  # request line and headers; browsers send some 1000
KEY_PROTOCOL = "openai-insecure-api-key."
BETA_PROTOCOL = "openai-beta.realtime-v1"


class BadRequest(Exception):
    """Not an HTTP request that can be upgraded; `status` is what to answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def __bytes__(self) -> bytes:
        return http_answer(self.status, self.message)


class EntryRefused(Exception):
    """To be said after the upgrade: `refusal` as an error event, then a close frame with `code`."""

    def __init__(self, refusal: Refusal, code: int) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.code = code


@attrs.frozen
class UpgradeRequest:
    """What the request line and the headers say."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]  # lower-case names; the last of repeated ones
    protocols: tuple[str, ...]  # Sec-WebSocket-Protocol

    @property
    def model(self) -> str | None:
        return self.query.get("model", [None])[-1]

    @property
    def beta(self) -> bool:
        return self.headers.get("openai-beta", "") == "realtime=v1" or BETA_PROTOCOL in self.protocols

    @property
    def key(self) -> str | None:
        """The bearer token, Azure's `api-key`, or the key that a browser puts into its sub-protocols."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return token.strip()
        offered = (name for name in self.protocols if name.startswith(KEY_PROTOCOL))
        insecure = next(offered, None)
        return insecure.removeprefix(KEY_PROTOCOL) if insecure else self.headers.get("api-key")


def http_answer(status: int, message: str) -> bytes:
    """A whole HTTP response with a JSON body, after which the connection is closed."""
    phrase = HTTPStatus(status).phrase
    error = {"message": message, "type": "invalid_request_error", "code": None, "param": None}
    body = json.dumps({"error": error}).encode()
    upgrade = "Upgrade: websocket\r\n" if status == HTTPStatus.UPGRADE_REQUIRED else ""
    head = f"HTTP/1.1 {status} {phrase}\r\n{upgrade}Connection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def parse_untrusted(head: bytes) -> UpgradeRequest:
    """Read an HTTP request head, up to and without its empty line.

    Raises:
        BadRequest: it is not HTTP, asks for another path, or for no WebSocket.
    """
    request_line, *lines = head.decode("latin-1").split("\r\n")
    method, _, rest = request_line.partition(" ")
    target, _, version = rest.rpartition(" ")
    if not version.startswith("HTTP/1.") or not target.startswith("/"):
        raise BadRequest(400, "Expected an HTTP/1.1 request.")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    url = urlsplit(target)
    if url.path.rstrip("/") not in PATHS:
        raise BadRequest(404, f"Invalid URL ({method} {url.path})")
    if headers.get("upgrade", "").lower() != "websocket" or "sec-websocket-key" not in headers:
        raise BadRequest(426, "This is a WebSocket server for OpenAI's Realtime API: connect with wss:// or ws://.")
    protocols = tuple(name.strip() for name in headers.get("sec-websocket-protocol", "").split(",") if name.strip())
    return UpgradeRequest(url.path, parse_qs(url.query), headers, protocols)


def check_key(request: UpgradeRequest, keys: Collection[str] | None) -> None:
    """Raises EntryRefused if there is no key, or it is none of `keys`; None = any that is not empty."""
    if request.key is None:
        message = "Missing bearer or basic authentication in header"
        raise EntryRefused(Refusal(None, message), 3000)
    if not request.key or (keys is not None and request.key not in keys):
        message = "Incorrect API key provided. You can find your API key in your account."
        raise EntryRefused(Refusal("invalid_api_key", message), 3000)


def check_model(request: UpgradeRequest, models: Collection[str] | None) -> str:
    """The model that is asked for; `models` None = every name with `realtime` in it.

    Raises:
        EntryRefused: there is none, or it is not one of `models`.
    """
    if request.model is None:
        message = "You must provide a model parameter, for example wss://api.openai.com/v1/realtime?model=gpt-realtime"
        raise EntryRefused(Refusal("missing_model", message), 4000)
    if "realtime" not in request.model if models is None else request.model not in models:
        message = f'Model "{request.model}" is not supported in realtime mode.'
        raise EntryRefused(Refusal("invalid_model", message), 4000)
    return request.model


def check_dialect(request: UpgradeRequest, dialect: Literal["ga", "beta", "both"]) -> Dialect:
    """The dialect that is asked for.

    Raises:
        EntryRefused: the server does not speak it.
    """
    if request.beta and dialect == "ga":
        message = "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API."
        raise EntryRefused(Refusal("beta_api_shape_disabled", message), 4000)
    if not request.beta and dialect == "beta":
        message = "You must provide the header 'OpenAI-Beta: realtime=v1' to use the Realtime Beta API."
        raise EntryRefused(Refusal("missing_beta_header", message), 4000)
    return "beta" if request.beta else "ga"
