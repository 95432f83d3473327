"""Functions of the model's that are HTTP requests, as `[[tools.http]]` has them.

Each request says which call it belongs to, and is signed when there is a key:

    X-Aivc-Timestamp: 1767225600
    X-Aivc-Signature: sha256=HEX of HMAC-SHA256(key, timestamp + "." + payload)

The payload is the body; where the arguments are in the query, it is the query as it stands in the request line.
Redirects are not followed, and proxies of the environment are not used: a signed request goes where the settings say.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit, urlunsplit

import attrs
import trio

from aivc.config.secret import Secret
from aivc.config.settings import HttpTool
from aivc.realtime.arguments import check, parse_untrusted
from aivc.realtime.definition import Tool
from aivc.realtime.toolcontext import ToolContext
from aivc.realtime.toolerrors import ToolError, ToolFileError

if TYPE_CHECKING:
    import httpx2

LONGEST_ANSWER: Final = 32_768  # octets; more would crowd the model's context
LONGEST_EXCERPT: Final = 1_000  # characters of an error's body that the model is shown
FIRST_PAUSE: Final = 0.5  # seconds before the second try, doubled before each further one
MARGIN: Final = 1.0  # seconds for what is not waiting: the deadlines of the tries shall decide
NO_ARGUMENTS: Final[Mapping[str, object]] = {"type": "object", "properties": {}, "additionalProperties": False}
IN_QUERY: Final = frozenset({"GET", "DELETE"})


def http_tools(definitions: Iterable[HttpTool]) -> list[Tool]:
    """Return the tools for these settings.

    Raises:
        ToolFileError: httpx2 is not installed, or a name or schema that the API does not take.
    """
    tools = [http_tool(definition) for definition in definitions]
    if tools:
        try:
            import httpx2  # noqa: F401 - only whoever has such tools needs it; better missed at start than in a call
        except ImportError:
            raise ToolFileError("needs httpx2: pip install 'aivc[http]'", "tools.http") from None
    return tools


def http_tool(settings: HttpTool) -> Tool:
    schema = dict(settings.schema) or NO_ARGUMENTS
    if schema.get("type") != "object":
        raise ToolFileError(f"{settings.name}: the schema is not one of an object", "tools.http")
    seconds = settings.seconds * (settings.retries + 1) + FIRST_PAUSE * (2**settings.retries - 1) + MARGIN
    try:
        return HttpFunction(settings.name, settings.description, schema, ask, seconds=seconds, settings=settings)
    except ValueError as error:
        raise ToolFileError(str(error), "tools.http") from None


@attrs.frozen
class HttpFunction(Tool):
    """A tool whose function is one request."""

    settings: HttpTool = attrs.field(kw_only=True, repr=False)

    def bind(self, arguments_json: str, context: ToolContext) -> Callable[[], object]:
        given = parse_untrusted(self.name, arguments_json)
        check(self.name, self.parameters, given)
        return partial(ask, self.settings, given, context)


@attrs.frozen
class Request:
    """One try, whole."""

    url: str
    headers: Mapping[str, str]
    body: bytes


@attrs.frozen
class Answer:
    """What came back."""

    status: int
    text: str

    @property
    def may_be_better_later(self) -> bool:
        return self.status == 429 or self.status >= 500


class NoAnswer(Exception):
    """A try that got none; the message says why."""


async def ask(settings: HttpTool, given: Mapping[str, object], context: ToolContext) -> str:
    """Make the request, again if need be, and return the answer's text.

    Raises:
        ToolError: no answer, or one that is not 2xx; the message is for the model.
    """
    import httpx2

    async with httpx2.AsyncClient(verify=await verification(settings.url), trust_env=False, timeout=None) as client:
        pause, failure = FIRST_PAUSE, ""
        for left in reversed(range(settings.retries + 1)):
            request = request_of(settings, given, context, int(time.time()))
            try:
                answer = await try_once(client, settings, request)
            except NoAnswer as error:
                failure = f"{settings.name}: {error}"
            else:
                if 200 <= answer.status < 300:
                    return answer.text or "ok"
                failure = f"{settings.name}: HTTP {answer.status} {answer.text[:LONGEST_EXCERPT]}".rstrip()
                if not answer.may_be_better_later:
                    break
            if left:
                await trio.sleep(pause)
                pause *= 2
    raise ToolError(failure)


async def verification(url: str) -> ssl.SSLContext | bool:
    """How certificates are checked: by the system's roots, read in a thread, for they take as long as an RTP packet."""
    import httpx2

    if urlsplit(url).scheme != "https":
        return False
    return await trio.to_thread.run_sync(partial(httpx2.create_ssl_context, trust_env=False))


async def try_once(client: httpx2.AsyncClient, settings: HttpTool, request: Request) -> Answer:
    """Raises NoAnswer, and ToolError for an answer that no further try would make usable."""
    import httpx2

    with trio.move_on_after(settings.seconds):
        try:
            async with client.stream(
                settings.method, request.url, headers=request.headers, content=request.body
            ) as response:
                return Answer(response.status_code, await read_text(response))
        except httpx2.InvalidURL as error:
            raise ToolError(f"{settings.name}: {error}") from None
        except (httpx2.HTTPError, OSError) as error:
            raise NoAnswer(f"no answer: {str(error) or type(error).__name__}") from None
    raise NoAnswer(f"no answer within {settings.seconds:g} seconds")


async def read_text(response: httpx2.Response) -> str:
    """Read a body without trusting its length; nothing is decompressed, a small body could become a huge one.

    Raises ToolError.
    """
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise ToolError("the answer is compressed, which was not asked for")
    octets = bytearray()
    with trio.CancelScope() as scope:
        async for chunk in response.aiter_raw():
            octets += chunk
            if len(octets) > LONGEST_ANSWER:
                scope.cancel()  # at the next read; `break` would leave a generator of httpx2's open
    if len(octets) > LONGEST_ANSWER and response.is_success:  # of an error page the beginning is enough
        raise ToolError(f"the answer is longer than {LONGEST_ANSWER} octets")
    return octets.decode("utf-8", "replace").strip()


def request_of(settings: HttpTool, given: Mapping[str, object], context: ToolContext, timestamp: int) -> Request:
    """Put one try together. A retry has a new timestamp and the same idempotency key."""
    url, body = settings.url, b""
    headers = {
        "Accept": "application/json, text/*;q=0.9",
        "Accept-Encoding": "identity",
        "User-Agent": "aivc",
        "X-Aivc-Call-Id": printable(context.call_id),
        "X-Aivc-Caller": printable(context.caller),
        "X-Aivc-Dialled": printable(context.dialled),
    }
    if context.tool_call_id:
        headers["Idempotency-Key"] = printable(context.tool_call_id)
    if settings.method in IN_QUERY:
        url = with_query(url, given)
        payload = urlsplit(url).query.encode()
    else:
        payload = body = json.dumps(given, ensure_ascii=False).encode("utf-8", "replace")
        headers["Content-Type"] = "application/json"
    if settings.secret is not None:
        headers["X-Aivc-Timestamp"] = str(timestamp)
        headers["X-Aivc-Signature"] = signature(settings.secret.reveal(), timestamp, payload)
    return Request(url, with_fields(headers, settings.headers), body)


def with_fields(headers: Mapping[str, str], chosen: Mapping[str, Secret]) -> dict[str, str]:
    """Ours with the operator's in place of those of the same name, however that is written (RFC 9110 section 5.1)."""
    replaced = {name.lower() for name in chosen}
    kept = {name: value for name, value in headers.items() if name.lower() not in replaced}
    return kept | {name: secret.reveal() for name, secret in chosen.items()}


def signature(key: str, timestamp: int, payload: bytes) -> str:
    """`sha256=HEX`, over the time as well: an old request cannot be sent again as a new one."""
    signed = hmac.new(key.encode(), str(timestamp).encode() + b"." + payload, hashlib.sha256)
    return f"sha256={signed.hexdigest()}"


def with_query(url: str, given: Mapping[str, object]) -> str:
    """Add arguments to a URL's query; what is no text is written as JSON has it."""
    parts = urlsplit(url)
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    added = urlencode(texts, errors="replace")  # half a surrogate pair, as JSON may have it
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, added))), fragment=""))


def printable(text: str) -> str:
    """Text of the network's as the value of a header field: nothing that could end it."""
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)[:256].strip()
