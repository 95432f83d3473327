"""One connection over trio's memory streams: what a peer may do wrong, and how long it may take."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MemoryReceiveStream, MockClock, lockstep_stream_pair, memory_stream_pair

from aivc.sip.connections import GOODBYE, OUTBOX, SEND_SECONDS, Connection, Patience
from aivc.sip.counters import Counters
from aivc.sip.datagrams import Intake
from aivc.sip.flow import Arrival
from aivc.sip.message import Request, Response, answer_to, parse_untrusted

PEER = ("192.0.2.10", 40_000)
LOCAL = ("192.0.2.1", 5060)
HEAD = "\r\n".join(
    ["Via: SIP/2.0/TCP phone:5070;branch=z9hG4bK1", "From: <sip:a@b>;tag=1", "To: <sip:a@b>", "Call-ID: 1"]
)


def request(method: str = "OPTIONS", length: str = "Content-Length: 0") -> bytes:
    return f"{method} sip:a@b SIP/2.0\r\n{HEAD}\r\nCSeq: 1 {method}\r\n{length}\r\n\r\n".encode()


@attrs.frozen(eq=False)
class Line:
    """A connection being served, and the peer's end of it."""

    connection: Connection
    peer: trio.abc.Stream
    arrivals: trio.MemoryReceiveChannel[Arrival]
    counters: Counters
    done: trio.Event

    async def request(self) -> Request:
        message = (await self.arrivals.receive()).message
        assert isinstance(message, Request)
        return message

    async def answer(self) -> Response:
        data = await self.peer.receive_some()
        message = parse_untrusted(bytes(data))
        assert isinstance(message, Response)
        return message


@asynccontextmanager
async def line(
    *,
    seconds: float = 600,
    admits: Callable[[str], bool] = lambda host: True,
    lockstep: bool = False,
    room: int = 100,
) -> AsyncIterator[Line]:
    ours, theirs = lockstep_stream_pair() if lockstep else memory_stream_pair()
    counters, done = Counters(), trio.Event()
    arrived, arrivals = trio.open_memory_channel[Arrival](room)
    intake = Intake(arrived, admits, counters)
    connection = Connection("TCP", PEER, LOCAL, intake, Patience(message=10, idle=60))

    async def serve() -> None:
        await connection.serve(ours)
        done.set()

    with trio.fail_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield Line(connection, theirs, arrivals, counters, done)
            nursery.cancel_scope.cancel()
    assert not connection.is_open


async def test_a_request_is_passed_on_stamped_and_answered_on_the_same_connection(autojump_clock: MockClock) -> None:
    async with line() as at:
        await at.peer.send_all(request())
        arrival = await at.arrivals.receive()
        assert isinstance(arrival.message, Request)
        assert str(arrival.message.via) == "SIP/2.0/TCP phone:5070;branch=z9hG4bK1;received=192.0.2.10"
        assert (arrival.flow, arrival.source, arrival.octets) == (at.connection, PEER, len(request()))
        arrival.flow.send_nowait(bytes(answer_to(arrival.message.headers, 200)))
        assert (await at.answer()).status == 200
        assert (at.counters.received, at.counters.sent) == (1, 1)


async def test_a_request_may_come_byte_by_byte(autojump_clock: MockClock) -> None:
    async with line() as at:
        for octet in request():
            await at.peer.send_all(bytes([octet]))
            await trio.sleep(0.01)
        assert (await at.request()).method == "OPTIONS"


async def test_pings_get_one_pong_each_as_long_as_it_is_read(autojump_clock: MockClock) -> None:
    async with line() as at:
        for _ in range(3):
            await at.peer.send_all(b"\r\n\r\n")
            assert await at.peer.receive_some() == b"\r\n"
        await at.peer.send_all(b"\r\n\r\n" * 1000)
        await trio.sleep(1)
        assert await at.peer.receive_some() == b"\r\n"
        await at.peer.send_all(request())
        assert (await at.request()).method == "OPTIONS"
        assert at.counters.keep_alives == 1003


async def test_a_broken_request_is_answered_400_and_the_connection_goes_on(autojump_clock: MockClock) -> None:
    async with line() as at:
        await at.peer.send_all(request().replace(b"sip:a@b SIP", b"sip: SIP"))
        assert (await at.answer()).reason == "Bad Request-URI: URI without a scheme"
        await at.peer.send_all(request())
        assert (await at.request()).method == "OPTIONS"
        assert at.counters.malformed == 1


@pytest.mark.parametrize(
    ("length", "status"),
    [("Content-Length: -999", 400), ("Content-Length: abc", 400), ("X: y", 400), ("Content-Length: 70000", 513)],
)
async def test_a_length_that_cannot_be_followed_is_answered_and_the_connection_closed(
    autojump_clock: MockClock, length: str, status: int
) -> None:
    async with line() as at:
        await at.peer.send_all(request(length=length))
        assert (await at.answer()).status == status
        assert await at.peer.receive_some() == b""
        await at.done.wait()
        assert (at.counters.unframed, at.counters.malformed, at.counters.received) == (1, 1, 0)


async def test_an_ack_or_a_response_without_its_length_is_not_answered(autojump_clock: MockClock) -> None:
    for start in (
        request("ACK", length="X: y"),
        request(length="X: y").replace(b"OPTIONS sip:a@b SIP/2.0", b"SIP/2.0 200 OK"),
    ):
        async with line() as at:
            await at.peer.send_all(start)
            assert await at.peer.receive_some() == b""
            assert at.counters.unanswerable == 1


async def test_what_is_no_sip_is_closed_without_a_word(autojump_clock: MockClock) -> None:
    async with line() as at:
        await at.peer.send_all(b"GET / HTTP/1.1\r\n")
        assert await at.peer.receive_some() == b""
        assert (at.counters.garbage, at.counters.sent) == (1, 0)


@pytest.mark.parametrize("start", [b"O", request()[:40], request(length="Content-Length: 9") + b"12345678"])
async def test_a_message_that_is_not_complete_in_time_ends_the_connection(
    autojump_clock: MockClock, start: bytes
) -> None:
    async with line() as at:
        await at.peer.send_all(start)
        began = trio.current_time()
        await at.done.wait()
        assert trio.current_time() - began == pytest.approx(10)
        assert at.counters.slow == 1


async def test_octets_one_by_one_do_not_stretch_the_time_of_a_message(autojump_clock: MockClock) -> None:
    async with line() as at:
        began = trio.current_time()
        for octet in request():
            if at.done.is_set():
                break
            await at.peer.send_all(bytes([octet]))
            await trio.sleep(1)
        assert trio.current_time() - began == pytest.approx(11, abs=1)
        assert at.counters.slow == 1


async def test_a_busy_connection_is_not_slow_however_its_messages_are_cut(autojump_clock: MockClock) -> None:
    async with line() as at:
        cut = 10
        for _ in range(10):  # always some of the next message is there
            await at.peer.send_all(request()[cut if _ else 0 :] + request()[:cut])
            await trio.sleep(8)
            assert (await at.request()).method == "OPTIONS"
        assert not at.done.is_set()


async def test_a_connection_on_which_nothing_comes_is_closed_and_keep_alives_hold_it(autojump_clock: MockClock) -> None:
    async with line() as at:
        for _ in range(3):
            await trio.sleep(50)
            await at.peer.send_all(b"\r\n")
        began = trio.current_time()
        await at.done.wait()
        assert trio.current_time() - began == pytest.approx(60)
        assert at.counters.idle == 1


async def test_a_peer_that_does_not_read_is_cut_and_what_it_missed_is_counted(autojump_clock: MockClock) -> None:
    async with line(lockstep=True) as at:
        for _ in range(OUTBOX + 10):
            at.connection.send_nowait(b"x")
        assert at.counters.unsent == 10
        began = trio.current_time()
        await at.done.wait()
        assert trio.current_time() - began == pytest.approx(SEND_SECONDS)
        assert (at.counters.stuck, at.counters.unsent) == (1, OUTBOX + 10)
        at.connection.send_nowait(b"x")
        assert at.counters.unsent == OUTBOX + 11


async def test_waiting_for_an_empty_outbox_goes_on_while_more_is_put_into_it(autojump_clock: MockClock) -> None:
    async with line(lockstep=True) as at:
        at.connection.send_nowait(b"1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.connection.outbox.wait_empty)
            await trio.sleep(0.1)
            at.connection.send_nowait(b"2")
            await trio.sleep(0.1)
            assert nursery.child_tasks
            assert [bytes(await at.peer.receive_some()) for _ in range(2)] == [b"1", b"2"]


async def test_a_lost_peer_ends_the_connection(autojump_clock: MockClock) -> None:
    async with line() as at:
        await at.peer.aclose()
        await at.done.wait()
        assert not at.connection.is_open
        assert at.counters.slow == at.counters.idle == 0


async def test_what_is_queued_when_the_peer_stops_sending_is_still_sent(autojump_clock: MockClock) -> None:
    async with line() as at:
        at.connection.send_nowait(request("BYE"))
        assert isinstance(at.peer, trio.StapledStream)
        await at.peer.send_stream.aclose()
        assert bytes(await at.peer.receive_some()) == request("BYE")


async def test_the_last_answer_can_be_read_by_a_peer_that_is_still_sending(autojump_clock: MockClock) -> None:
    async with line() as at:
        began = trio.current_time()
        await at.peer.send_all(request(length="Content-Length: 70000") + bytes(30_000))
        await trio.sleep(GOODBYE / 2)
        await at.peer.send_all(bytes(40_000))
        assert (await at.answer()).status == 513
        await at.done.wait()
        assert trio.current_time() - began <= 2 * GOODBYE


async def test_a_user_agent_without_room_is_waited_for_and_then_messages_are_dropped(autojump_clock: MockClock) -> None:
    async with line(room=1) as at:
        await at.peer.send_all(request() * 3)
        await trio.sleep(0.2)
        assert [await at.request() for _ in range(3)]
        assert at.counters.overflow == 0
        await at.peer.send_all(request() * 3)
        await trio.sleep(5)
        assert (at.counters.overflow, at.counters.received) == (2, 4)


async def test_a_peer_that_has_become_unwanted_is_closed_unread(autojump_clock: MockClock) -> None:
    wanted = True
    async with line(admits=lambda host: wanted) as at:
        await at.peer.send_all(request())
        assert (await at.request()).method == "OPTIONS"
        wanted = False
        await at.peer.send_all(request())
        assert await at.peer.receive_some() == b""
        assert (at.counters.unwanted, at.counters.received) == (1, 1)


async def test_a_connection_leads_to_its_peer_and_to_the_sent_by_of_its_requests(autojump_clock: MockClock) -> None:
    async with line() as at:
        assert at.connection.leads_to(PEER)
        assert not at.connection.leads_to(("192.0.2.10", 5070))
        await at.peer.send_all(request())
        await at.request()
        assert at.connection.leads_to(("192.0.2.10", 5070))
        assert at.connection.leads_to(("phone", 5070))
        assert not at.connection.leads_to(("192.0.2.10", 5060))
        for port in range(100):
            await at.peer.send_all(request().replace(b"phone:5070", f"phone:{6000 + port}".encode()))
            await at.request()
        assert not at.connection.leads_to(("phone", 6099))


async def test_cancelling_closes_the_stream(autojump_clock: MockClock) -> None:
    async with line() as at:
        await at.peer.send_all(request()[:20])
        await trio.sleep(1)
    assert isinstance(at.peer, trio.StapledStream)
    assert isinstance(at.peer.receive_stream, MemoryReceiveStream)
    with trio.fail_after(1):
        assert await at.peer.receive_some() == b""
