"""Functions that are HTTP requests, against a server on the loopback interface."""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from paper_control import PaperControl
from trio.testing import MockClock

from aivc.config.secret import Secret
from aivc.config.settings import HttpTool, OpenAISettings
from aivc.realtime import arguments, httptools
from aivc.realtime.toolcontext import ToolContext
from aivc.realtime.toolerrors import ToolArgumentsError, ToolError, ToolFileError
from aivc.realtime.tools import load_registry

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
STOCK: Mapping[str, object] = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "copies": {"type": "integer"}, "exact": {"type": "boolean"}},
    "required": ["title"],
}


@attrs.frozen
class Received:
    """One request as the server saw it."""

    line: str
    headers: Mapping[str, str]  # by lower-case name
    body: bytes
    fields: list[str]  # the names, in lower case, each as often as it came


@attrs.define(eq=False)
class Server:
    """Answers each connection with the next of its answers; None: never."""

    answers: list[bytes | None]
    requests: list[Received] = attrs.field(factory=list)
    times: list[float] = attrs.field(factory=list)
    url: str = ""

    async def handle(self, stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some()
        head, _, body = data.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        while len(body) < int(headers.get("content-length", 0)):
            body += await stream.receive_some()
        self.requests.append(Received(line, headers, body, [field.partition(":")[0].lower() for field in fields]))
        self.times.append(trio.current_time())
        answer = self.answers.pop(0)
        if answer is None:
            await trio.sleep_forever()
        await stream.send_all(answer or b"")


def answer(body: bytes, head: bytes = OK) -> bytes:
    return head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def status(code: int, body: bytes = b"", more: bytes = b"") -> bytes:
    return answer(body, f"HTTP/1.1 {code} x\r\n".encode() + more)


@asynccontextmanager
async def serving(*answers: bytes | None) -> AsyncIterator[Server]:
    server = Server(list(answers))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, server.handle, 0, host="127.0.0.1")
            (listener,) = await nursery.start(serve)
            server.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/stock?shop=1"
            yield server
            nursery.cancel_scope.cancel()


async def ask(server: Server, given_json: str = '{"title": "Emma"}', **given: Any) -> object:
    """Call the function as the model does."""
    settings = HttpTool(**{"name": "stock", "description": "Look.", "url": server.url, "schema": STOCK} | given)
    context = ToolContext("call\r\nX: 1@host", "sip:alice@example.com", "100", PaperControl()).of_tool_call("fc1")
    function: Any = load_registry(OpenAISettings(), (settings,)).prepare("stock", given_json, context)
    return await function()


@pytest.fixture
def patient_clock() -> MockClock:
    """Jumps only when loopback traffic has settled for certain."""
    return MockClock(autojump_threshold=0.2)


async def test_the_arguments_are_posted_as_json_and_the_answer_is_the_output() -> None:
    async with serving(answer(b'{"copies": 3}\n')) as server:
        assert await ask(server, '{"title": "Jane Eyre \\u00fc", "copies": 2}') == '{"copies": 3}'
    (request,) = server.requests
    assert request.line == "POST /stock?shop=1 HTTP/1.1"
    assert json.loads(request.body) == {"title": "Jane Eyre ü", "copies": 2}
    assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_the_arguments_are_in_the_query_where_there_is_no_body(method: str) -> None:
    async with serving(answer(b"three")) as server:
        assert await ask(server, '{"title": "A & B", "exact": true}', method=method) == "three"
    (request,) = server.requests
    assert request.line == f"{method} /stock?shop=1&title=A+%26+B&exact=true HTTP/1.1"
    assert request.body == b""


async def test_the_server_is_told_of_the_call_and_nothing_can_break_a_header() -> None:
    async with serving(answer(b"")) as server:
        assert await ask(server, headers={"Authorization": Secret("Bearer 1")}) == "ok"
    headers = server.requests[0].headers
    assert headers["x-aivc-call-id"] == "call??X: 1@host"
    assert headers["x-aivc-caller"] == "sip:alice@example.com"
    assert headers["x-aivc-dialled"] == "100"
    assert headers["idempotency-key"] == "fc1"
    assert headers["authorization"] == "Bearer 1"
    assert "x-aivc-signature" not in headers


@pytest.mark.parametrize(
    ("method", "payload"),
    [("POST", b'{"title": "Emma"}'), ("GET", b"shop=1&title=Emma")],
)
async def test_a_request_is_signed(method: str, payload: bytes) -> None:
    async with serving(answer(b"x")) as server:
        await ask(server, method=method, secret=Secret("key"))
    headers = server.requests[0].headers
    timestamp = headers["x-aivc-timestamp"]
    signed = hmac.new(b"key", timestamp.encode() + b"." + payload, hashlib.sha256).hexdigest()
    assert headers["x-aivc-signature"] == f"sha256={signed}"
    assert abs(int(timestamp) - time.time()) < 60


@pytest.mark.parametrize("refusal", [status(503), status(429), status(500), b"", None])
async def test_what_may_be_better_later_is_tried_again_after_growing_pauses(
    patient_clock: MockClock, refusal: bytes | None
) -> None:
    async with serving(refusal, refusal, answer(b"at last")) as server:
        assert await ask(server, retries=2, seconds=10.0) == "at last"
    first, second = (after - before for before, after in zip(server.times, server.times[1:], strict=False))
    waited = 10.0 if refusal is None else 0.0
    assert first == pytest.approx(waited + 0.5, abs=0.4)
    assert second == pytest.approx(waited + 1.0, abs=0.4)
    assert {request.headers["idempotency-key"] for request in server.requests} == {"fc1"}


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (status(404, b"no such shop"), "stock: HTTP 404 no such shop"),
        (status(301, more=b"Location: http://127.0.0.1:1/\r\n"), "stock: HTTP 301"),
        (status(400, b"x" * 100_000), f"stock: HTTP 400 {'x' * httptools.LONGEST_EXCERPT}"),
        (answer(b"x" * (httptools.LONGEST_ANSWER + 1)), "the answer is longer than 32768 octets"),
        (answer(b"x", OK + b"Content-Encoding: gzip\r\n"), "the answer is compressed, which was not asked for"),
    ],
    ids=["404", "301", "400", "long", "gzip"],
)
async def test_what_is_no_answer_is_an_error_for_the_model_and_not_tried_again(refusal: bytes, error: str) -> None:
    async with serving(refusal) as server:
        with pytest.raises(ToolError) as caught:
            await ask(server, retries=3)
    assert str(caught.value) == error
    assert len(server.requests) == 1


async def test_without_retries_a_failure_is_told_at_once() -> None:
    async with serving(status(503)) as server:
        with pytest.raises(ToolError, match="stock: HTTP 503"):
            await ask(server)
    for url in ("http://127.0.0.1:1/", "https://127.0.0.1:1/"):
        with trio.fail_after(10), pytest.raises(ToolError, match="stock: no answer: "):
            await ask(Server([], url=url))
    async with serving(b"what?\r\n\r\n") as server:
        with pytest.raises(ToolError, match="stock: no answer: "):
            await ask(server)


async def test_a_silent_server_has_a_deadline() -> None:
    async with serving(None) as server:
        with pytest.raises(ToolError, match=r"stock: no answer within 0.2 seconds"):
            await ask(server, seconds=0.2)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("{}", "missing argument 'title'"),
        ('{"title": 5}', "title: expected string, got 5"),
        ('{"title": "x", "copies": "two"}', "copies: expected integer, got 'two'"),
        ('{"title": "x", "copies": true}', "copies: expected integer, got True"),
        ("[]", "the arguments are not a JSON object"),
    ],
)
async def test_wrong_arguments_are_explained_before_any_request(given: str, error: str) -> None:
    async with serving() as server:
        with pytest.raises(ToolArgumentsError, match=error):
            await ask(server, given)
    assert server.requests == []


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        ({"type": ["string", "null"]}, None, None),
        ({"type": ["string", "null"]}, 1, "expected string or null, got 1"),
        ({"enum": ["a", "b"]}, "a", None),
        ({"enum": ["a", "b"]}, "c", 'expected one of ["a", "b"], got \'c\''),
        ({"type": "integer"}, 3.0, None),
        ({"type": "number"}, 3, None),
        ({"type": "array"}, {}, "expected array, got {}"),
        ({"type": "object"}, {"x": 1}, None),
        ({"anyOf": []}, 1, None),
        ({"type": "date"}, 1, None),
    ],
)
def test_values_are_checked_by_their_type(schema: dict[str, object], value: object, problem: str | None) -> None:
    whole = {"type": "object", "properties": {"x": schema}}
    if problem is None:
        arguments.check("f", whole, {"x": value})
    else:
        with pytest.raises(ToolArgumentsError) as caught:
            arguments.check("f", whole, {"x": value})
        assert str(caught.value) == f"f: x: {problem}"


def test_a_deadline_is_long_enough_for_every_try() -> None:
    tool = httptools.http_tool(HttpTool(name="f", description="", url="http://x/", seconds=10, retries=3))
    assert tool.seconds == 40 + 0.5 + 1 + 2 + httptools.MARGIN
    assert tool.parameters == httptools.NO_ARGUMENTS


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ({"name": "two words"}, "tools.http: tool name 'two words'"),
        ({"schema": {"type": "array"}}, "tools.http: f: the schema is not one of an object"),
    ],
)
def test_what_the_api_would_refuse_is_refused_at_start(given: dict[str, Any], cause: str) -> None:
    with pytest.raises(ToolFileError) as caught:
        load_registry(OpenAISettings(), (HttpTool(**{"name": "f", "description": "", "url": "http://x/"} | given),))
    assert str(caught.value).startswith(cause)


def test_without_the_library_the_start_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    load_registry(OpenAISettings())
    with pytest.raises(ToolFileError, match=r"tools.http: needs httpx2: pip install 'aivc\[http\]'"):
        load_registry(OpenAISettings(), (HttpTool(name="f", description="", url="http://x/"),))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
async def test_what_json_does_not_know_as_a_number_is_not_sent(number: str) -> None:
    schema = {"type": "object", "properties": {"price": {"type": "number"}}}
    async with serving(answer(b"x")) as server:
        with pytest.raises(ToolArgumentsError, match="price"):
            await ask(server, f'{{"price": {number}}}', schema=schema)
    assert server.requests == []


async def test_a_header_of_the_settings_takes_the_place_of_ours_however_it_is_written() -> None:
    chosen = {"content-TYPE": Secret("application/vnd.shop+json"), "user-agent": Secret("shop")}
    async with serving(answer(b"x")) as server:
        await ask(server, headers=chosen)
    (request,) = server.requests
    assert [request.fields.count(name) for name in ("content-type", "user-agent")] == [1, 1]
    assert (request.headers["content-type"], request.headers["user-agent"]) == ("application/vnd.shop+json", "shop")


async def test_half_a_character_in_a_query_is_replaced() -> None:
    async with serving(answer(b"x")) as server:
        assert await ask(server, '{"title": "\\ud83d!"}', method="GET") == "x"
    assert server.requests[0].line == "GET /stock?shop=1&title=%3F%21 HTTP/1.1"


async def test_arguments_that_make_too_long_a_url_are_an_error_for_the_model_without_the_url() -> None:
    async with serving(answer(b"x")) as server:
        with pytest.raises(ToolError, match="stock") as caught:
            await ask(server, json.dumps({"title": "x" * 70_000}), method="GET")
    assert len(str(caught.value)) < 200
    assert server.requests == []
