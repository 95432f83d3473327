"""The admin view by HTTP on a virtual network: what is shown at which path, and what hostile clients get."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any, Final

import attrs
import h11
import pytest
import trio
from trio.testing import MockClock

from aivc.config.settings import Address, AdminSettings
from aivc.nursery.admin import DEADLINE, LINGER, MOST_CONNECTIONS, MOST_HEAD_OCTETS, TURN, Look, open_admin, serve_admin
from aivc.nursery.status import CallInProgress, Status
from aivc.testing import VirtualNetwork

HOST: Final = "192.0.2.1"
LISTEN: Final = f"{HOST}:9464"
FINE: Final = Status(version="aivc/1", pid=7, accepting=True, calls=1, max_calls=10)
GET: Final = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@asynccontextmanager
async def open_view(*statuses: Status, look: Look | None = None) -> AsyncIterator[Address]:
    """An admin view of these processes."""

    def told() -> Sequence[Status]:
        return statuses

    VirtualNetwork(host=HOST).enable()
    with trio.fail_after(60):
        async with open_admin(AdminSettings(listen=LISTEN), look or told) as address:
            assert address is not None
            yield address


async def connected(address: Address) -> trio.SocketStream:
    return await trio.open_tcp_stream(*address)


async def send(address: Address, request: bytes) -> bytes:
    """What comes back until the server closes."""
    async with await connected(address) as stream:
        await stream.send_all(request)
        return await rest(stream)


async def rest(stream: trio.SocketStream) -> bytes:
    return b"".join([block async for block in stream])


async def ask(address: Address, path: str, method: str = "GET") -> Answer:
    raw = await send(address, f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    return parsed(raw, method)


def parsed(raw: bytes, method: str = "GET") -> Answer:
    """By h11 as a client: an answer that breaks the rules raises."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", HOST)]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(raw)
    connection.receive_data(b"")
    response = connection.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return Answer(response.status_code, {k.decode(): v.decode() for k, v in response.headers}, body)


async def test_healthz_is_ok_while_calls_are_taken(autojump_clock: MockClock) -> None:
    async with open_view(FINE) as address:
        answer = await ask(address, "/healthz")
    assert (answer.status, answer.body) == (200, b"ok\n")
    assert answer.headers["cache-control"] == "no-store"


async def test_healthz_tells_why_no_call_is_taken(autojump_clock: MockClock) -> None:
    async with open_view(Status(why_not="service.max_calls = 2 is reached")) as address:
        answer = await ask(address, "/healthz")
    assert (answer.status, answer.body) == (503, b"service.max_calls = 2 is reached\n")


async def test_healthz_is_ok_as_long_as_one_worker_takes_calls(autojump_clock: MockClock) -> None:
    async with open_view(Status(why_not="full"), attrs.evolve(FINE, worker="1")) as address:
        assert (await ask(address, "/healthz")).status == 200
    async with open_view() as address:
        answer = await ask(address, "/healthz")
    assert (answer.status, answer.body) == (503, b"no worker runs\n")


async def test_status_has_the_total_and_each_worker(autojump_clock: MockClock) -> None:
    call = CallInProgress(call_id="a", agent="night", caller="***123", state="answered", seconds=2.5)
    one = attrs.evolve(FINE, in_progress=(call,), ended={"caller_hung_up": 2}, settings={"openai.model": "m"})
    two = attrs.evolve(one, worker="1", pid=8, in_progress=(), calls=4, ended={"caller_hung_up": 3, "drained": 1})
    async with open_view(one, two) as address:
        shown = (await ask(address, "/status?pretty")).json
    assert (shown["calls"], shown["max_calls"], shown["accepting"]) == (5, 20, True)
    assert shown["ended"] == {"caller_hung_up": 5, "drained": 1}
    assert shown["in_progress"] == [attrs.asdict(call)]
    assert shown["settings"] == {"openai.model": "m"}
    assert [(worker["worker"], worker["pid"], worker["calls"]) for worker in shown["workers"]] == [
        ("0", 7, 1),
        ("1", 8, 4),
    ]


async def test_metrics_are_of_the_type_that_prometheus_asks_for(autojump_clock: MockClock) -> None:
    async with open_view(FINE) as address:
        answer = await ask(address, "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'aivc_calls{worker="0"} 1\n' in answer.body


async def test_head_is_get_without_a_body(autojump_clock: MockClock) -> None:
    async with open_view(FINE) as address:
        full, head = await ask(address, "/metrics"), await ask(address, "/metrics", "HEAD")
    assert (head.status, head.headers) == (full.status, full.headers)
    assert (head.body, head.headers["content-length"]) == (b"", str(len(full.body)))


async def test_the_absolute_form_of_a_path_is_understood(autojump_clock: MockClock) -> None:
    """RFC 9112 section 3.2.2: a server must."""
    async with open_view(FINE) as address:
        assert (await ask(address, f"http://{LISTEN}/healthz")).status == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /healthz/ HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET http: HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"DELETE /status HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"OPTIONS sip:x SIP/2.0\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 2 * MOST_HEAD_OCTETS), 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: %s" % (b"b" * 3 * MOST_HEAD_OCTETS), 431),
    ],
)
async def test_what_cannot_be_served_is_refused(autojump_clock: MockClock, request_: bytes, status: int) -> None:
    async with open_view(FINE) as address:
        answer = parsed(await send(address, request_))
        assert answer.status == status
        assert ("allow" in answer.headers) == (status == 405)
        assert (await ask(address, "/healthz")).status == 200


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\n"], ids=["nothing", "half a request"])
async def test_a_client_that_does_not_finish_is_let_go(autojump_clock: MockClock, sent: bytes) -> None:
    async with open_view(FINE) as address, await connected(address) as stream:
        began = trio.current_time()
        if sent:
            await stream.send_all(sent)
        assert await rest(stream) == b""
        assert trio.current_time() - began == pytest.approx(DEADLINE, abs=0.1)


async def test_a_client_that_does_not_leave_is_cut_off(autojump_clock: MockClock) -> None:
    async with open_view(FINE) as address, await connected(address) as stream:
        began = trio.current_time()
        await stream.send_all(GET)
        await trio.sleep(LINGER + 0.1)
        with suppress(trio.BrokenResourceError):
            while trio.current_time() < began + DEADLINE:
                await stream.send_all(b"more")
                await trio.sleep(0.1)
        assert trio.current_time() - began < DEADLINE


async def test_a_client_that_leaves_at_once_disturbs_nobody(autojump_clock: MockClock) -> None:
    async with open_view(FINE) as address:
        for sent in (b"", GET[:9], GET):
            stream = await connected(address)
            if sent:
                await stream.send_all(sent)
            await trio.aclose_forcefully(stream)
        assert (await ask(address, "/healthz")).status == 200


async def test_many_connections_keep_nobody_out_for_long(autojump_clock: MockClock) -> None:
    async with open_view(FINE) as address:
        idle = [await connected(address) for _ in range(MOST_CONNECTIONS)]
        await trio.sleep(0.1)
        with pytest.raises((trio.BrokenResourceError, AssertionError, h11.RemoteProtocolError)):
            await ask(address, "/healthz")
        await trio.sleep(DEADLINE)
        assert (await ask(address, "/healthz")).status == 200
        for stream in idle:
            await stream.aclose()


async def test_a_flood_of_requests_leaves_the_time_between_them_to_calls(autojump_clock: MockClock) -> None:
    looks: list[float] = []

    def look() -> Sequence[Status]:
        looks.append(trio.current_time())
        return (FINE,)

    async with open_view(look=look) as address, trio.open_nursery() as nursery:
        for _ in range(MOST_CONNECTIONS):
            nursery.start_soon(ask, address, "/status")
    assert len(looks) == MOST_CONNECTIONS
    assert min(later - sooner for sooner, later in pairwise(looks)) == pytest.approx(TURN)


async def test_a_bug_in_what_is_shown_costs_the_answer_only(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def look() -> Sequence[Status]:
        raise ValueError("a bug")

    async with open_view(look=look) as address:
        assert (await ask(address, "/status")).status == 500
        assert (await ask(address, "/nowhere")).status == 404
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == ["admin.bug"]


async def test_without_a_setting_nothing_listens() -> None:
    def look() -> Sequence[Status]:
        raise AssertionError("nobody can ask")

    async with open_admin(AdminSettings(), look) as address:
        assert address is None


async def test_it_works_on_a_real_socket_and_a_taken_port_is_a_clear_error() -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            address: Address = await nursery.start(serve_admin, "127.0.0.1:0", lambda: (FINE,))
            assert (await ask(address, "/healthz")).body == b"ok\n"
            assert (await ask(address, "/metrics")).status == 200
            taken = f"127.0.0.1:{address[1]}"
            with pytest.raises(OSError, match=f"^.*admin.listen: cannot listen on {taken}: Address already in use$"):
                await serve_admin(taken, lambda: ())
            nursery.cancel_scope.cancel()
