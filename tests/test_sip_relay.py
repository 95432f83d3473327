"""Sockets of one process, user agents in others: messages find their way both ways. Real sockets on loopback."""

from __future__ import annotations

import os
import socket as stdlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from transport_world import request

from aivc.config.settings import Address, SipRegister, SipSettings
from aivc.sip.counters import Counters
from aivc.sip.flow import Arrival
from aivc.sip.message import Headers, Request, Response, answer_to, parse_untrusted
from aivc.sip.relay import (
    KINDS,
    MESSAGES,
    RESERVE,
    Beat,
    Closed,
    Datagram,
    Drain,
    Failed,
    Frame,
    Identities,
    Link,
    Open,
    Say,
    Stop,
    Streamed,
    decoded,
    encoded,
)
from aivc.sip.relayed import Owner
from aivc.sip.relaying import Exchange, open_relaying
from aivc.sip.spreading import mark_of
from aivc.sip.switchboard import Identity
from aivc.sip.transport import SocketTransports
from aivc.testing.registrar import open_registrar

UDP, TCP = "udp:127.0.0.1:0", "tcp:127.0.0.1:0"
HERE = ("127.0.0.1", 0)
FRAMES: tuple[Frame, ...] = (
    Datagram(1, ("192.0.2.1", 5060), b"INVITE\r\n\n\xff\x00", given=2),
    Streamed(7, "TLS", ("2001:db8::1", 5061), ("2001:db8::2", 5061), b"", given=3),
    Closed(-3, failed=True),
    Identities({"192.0.2.1": ("sip:100@example.com", ("<sip:a;lr>", "<sip:b;lr>"))}),
    Drain(),
    Stop(),
    Say(-3, b"\n\n"),
    Open(-3, "TCP", ("192.0.2.1", 5060), ("192.0.2.2", 5060), ("0.0.0.0", 0), "example.com"),
    Beat(3, accepting=True, used=(1, -2), taken=2, status={"calls": 3}),
    Failed("no such file", usable=False),
)


def pair() -> tuple[trio.socket.SocketType, trio.socket.SocketType]:
    ours, theirs = stdlib.socketpair(stdlib.AF_UNIX, stdlib.SOCK_SEQPACKET)
    return trio.socket.from_stdlib_socket(ours), trio.socket.from_stdlib_socket(theirs)


@attrs.frozen(eq=False)
class WorkerSide:
    """One worker's transports."""

    owner: Owner
    transports: SocketTransports
    arrivals: trio.MemoryReceiveChannel[Arrival]
    counters: Counters
    used: set[object]

    async def arrival(self) -> Arrival:
        with trio.fail_after(5):
            return await self.arrivals.receive()

    def answer(self, arrival: Arrival) -> None:
        assert isinstance(arrival.message, Request)
        flow = self.transports.answering(arrival, arrival.message.via)
        flow.send_nowait(bytes(answer_to(arrival.message.headers, 200, tag=f"{mark_of(0)}abc")))


@attrs.frozen(eq=False)
class World:
    exchange: Exchange
    workers: list[WorkerSide]
    nursery: trio.Nursery

    def address(self, transport: str) -> Address:
        return next(address for kind, address in self.exchange.listening if kind == transport)


@asynccontextmanager
async def world(*listen: str, workers: int = 1, settings: SipSettings | None = None) -> AsyncIterator[World]:
    """The owner of the sockets and some workers, all in this process. Nothing is left open when it ends."""
    before = len(os.listdir("/proc/self/fd"))
    used = attrs.evolve(settings or SipSettings(), listen=listen or (UDP, TCP))
    with trio.fail_after(30):
        async with open_relaying(used) as exchange, trio.open_nursery() as nursery:
            made = World(exchange, [], nursery)
            for number in range(workers):
                made.workers.append(await nursery.start(work, exchange, used, number))
            yield made
            nursery.cancel_scope.cancel()
    assert len(os.listdir("/proc/self/fd")) == before


async def work(
    exchange: Exchange, settings: SipSettings, number: int, *, task_status: trio.TaskStatus[WorkerSide]
) -> None:
    """Both ends of the link to one worker, until cancelled."""
    ours, theirs = pair()
    sockets = tuple(copied(socket.socket) for socket in exchange.transports.datagrams)
    owner = Owner(Link(theirs), exchange.listening, sockets, lambda: Beat(0, accepting=True))
    counters, used = Counters(), set[object]()
    arrived, arrivals = trio.open_memory_channel[Arrival](256)
    link = Link(ours)
    try:
        async with trio.open_nursery() as nursery:
            exchange.relaying.join(number, link, 100)
            nursery.start_soon(link.transmit)
            nursery.start_soon(obey, exchange, number, link)
            opened = owner.open_transports(settings, counters, lambda host: True, arrived, used.__contains__)
            async with opened as transports:
                task_status.started(WorkerSide(owner, transports, arrivals, counters, used))
                await trio.sleep_forever()
    finally:
        exchange.relaying.leave(number)
        for socket in (ours, theirs, *sockets):
            socket.close()


async def obey(exchange: Exchange, number: int, link: Link) -> None:
    relaying = exchange.relaying
    while (frame := await link.receive()) is not None:
        if isinstance(frame, Beat):
            relaying.spreading.note(number, frame.calls, frame.accepting, frame.taken)
            relaying.lines[number].used = frozenset(frame.used)
        else:
            relaying.obey(number, frame)


def copied(socket: trio.socket.SocketType) -> trio.socket.SocketType:
    """The same socket by another descriptor, as a child inherits it."""
    return trio.socket.from_stdlib_socket(stdlib.socket(fileno=os.dup(socket.fileno())))


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110 - real sockets between tasks of one process: nothing else tells
            await trio.sleep(0.01)


@asynccontextmanager
async def phone() -> AsyncIterator[trio.socket.SocketType]:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(HERE)
        yield socket


async def hear(socket: trio.socket.SocketType) -> Request | Response:
    with trio.fail_after(5):
        return parse_untrusted((await socket.recvfrom(65_535))[0])


def call(call_id: str, method: str = "INVITE", transport: str = "UDP") -> bytes:
    """An INVITE that is a new call."""
    via = f"SIP/2.0/{transport} 127.0.0.1:9;branch=z9hG4bK{call_id};rport"
    return request(method, via).replace(b"Call-ID: call-1", f"Call-ID: {call_id}".encode())


# Frames


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_is_the_same_after_the_way(frame: Frame) -> None:
    assert decoded(encoded(frame)) == frame


def test_every_kind_of_frame_is_tried() -> None:
    assert {type(frame) for frame in FRAMES} == set(KINDS.values())


async def test_a_process_that_takes_nothing_costs_a_bounded_queue_and_the_news_still_fit() -> None:
    ours, theirs = pair()
    with ours, theirs:
        link = Link(ours)
        message = Datagram(0, ("192.0.2.1", 5060), b"x" * 65_535)
        assert [link.put_nowait(message) for _ in range(MESSAGES + 100)] == [True] * MESSAGES + [False] * 100
        assert link.dropped == 100
        assert [link.put_nowait(Closed(1, failed=False)) for _ in range(RESERVE + 1)] == [True] * RESERVE + [False]


async def test_the_longest_message_fits_into_a_packet() -> None:
    ours, theirs = pair()
    with ours, theirs, trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Link(ours).transmit)
            sender, receiver = Link(ours), Link(theirs)
            nursery.start_soon(sender.transmit)
            frame = Streamed(1, "TCP", ("192.0.2.1", 5060), ("192.0.2.2", 5060), bytes(range(256)) * 255)
            assert sender.put_nowait(frame)
            assert await receiver.receive() == frame
            nursery.cancel_scope.cancel()


# Both ways


async def test_a_datagram_reaches_a_worker_and_the_answer_leaves_from_the_address_that_was_asked() -> None:
    async with world() as at, phone() as alice:
        await alice.sendto(call("a"), at.address("UDP"))
        arrival = await at.workers[0].arrival()
        assert arrival.source == alice.getsockname()
        assert arrival.flow.local == at.address("UDP")
        at.workers[0].answer(arrival)
        with trio.fail_after(5):
            data, source = await alice.recvfrom(65_535)
        assert source == at.address("UDP")
        assert isinstance(parse_untrusted(data), Response)


async def test_each_call_of_a_peer_stays_with_its_worker() -> None:
    async with world(workers=2) as at, phone() as proxy:
        for worker in at.workers:
            worker.owner.tell_soon()
        await until(lambda: all(load.accepting for load in at.exchange.relaying.spreading.loads.values()))
        for repeat in range(2):
            for number in range(10):
                await proxy.sendto(call(f"call-{number}"), at.address("UDP"))
            got = [{(await worker.arrival()).message.call_id for _ in range(5)} for worker in at.workers]
            assert [len(each) for each in got] == [5, 5], repeat
            assert got[0].isdisjoint(got[1])
        assert at.exchange.relaying.counters.relayed == 20


async def test_a_connection_carries_the_calls_of_several_workers() -> None:
    async with world(workers=2) as at, await trio.open_tcp_stream(*at.address("TCP")) as trunk:
        for worker in at.workers:
            worker.owner.tell_soon()
        await until(lambda: all(load.accepting for load in at.exchange.relaying.spreading.loads.values()))
        await trunk.send_all(call("a", transport="TCP") + call("b", transport="TCP"))
        arrivals = [await worker.arrival() for worker in at.workers]
        assert {arrival.message.call_id for arrival in arrivals} == {"a", "b"}
        for worker, arrival in zip(at.workers, arrivals, strict=True):
            assert arrival.flow.transport == "TCP"
            assert arrival.source == trunk.socket.getsockname()
            worker.answer(arrival)
        heard = b""
        while heard.count(b"\r\n\r\n") < 2:
            heard += await trunk.receive_some()
        assert heard.count(b"SIP/2.0 200 OK") == 2


async def test_keep_alives_are_answered_without_the_workers() -> None:
    async with world() as at, await trio.open_tcp_stream(*at.address("TCP")) as trunk:
        await trunk.send_all(b"\r\n\r\n")
        assert await trunk.receive_some() == b"\r\n"
    assert at.exchange.counters.keep_alives == 1


async def test_a_worker_hears_that_a_connection_is_closed() -> None:
    async with world() as at:
        (worker,) = at.workers
        async with await trio.open_tcp_stream(*at.address("TCP")) as trunk:
            await trunk.send_all(call("a", transport="TCP"))
            flow = (await worker.arrival()).flow
            assert flow.is_open
        await until(lambda: not flow.is_open)
        flow.send_nowait(b"x")
        assert worker.counters.unsent == 1
        assert not [*worker.transports.pool.connections, *at.exchange.transports.pool.connections]


async def test_a_worker_makes_connections_and_two_of_them_share_one() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, world(workers=2) as at:
        peer = listener.socket.getsockname()
        flows = [await worker.transports.towards("TCP", *peer) for worker in at.workers]
        for number, flow in enumerate(flows):
            assert flow.local == at.address("TCP")
            flow.send_nowait(call(f"call-{number}", "OPTIONS", "TCP"))
        with trio.fail_after(5):
            async with await listener.accept() as stream:
                heard = b""
                while heard.count(b"OPTIONS ") < 2:
                    heard += await stream.receive_some()
                await stream.send_all(call("back", transport="TCP"))
                arrivals: list[Arrival] = []

                async def take(worker: WorkerSide) -> None:
                    arrivals.append(await worker.arrivals.receive())
                    scope.cancel()

                async with trio.open_nursery() as nursery:
                    scope = nursery.cancel_scope
                    for worker in at.workers:
                        nursery.start_soon(take, worker)
        assert arrivals[0].flow in flows  # and not another way to the same peer


async def test_a_connection_that_cannot_be_made_closes_and_another_address_is_tried_first_then() -> None:
    async with world() as at:
        with stdlib.create_server(HERE) as server:
            nobody = server.getsockname()
        transports = at.workers[0].transports
        flow = await transports.towards("TCP", *nobody)
        await until(lambda: not flow.is_open)
        assert transports.pool.has_failed(nobody)


async def test_no_more_connections_are_made_than_the_settings_allow() -> None:
    async with (
        world(settings=SipSettings(max_connections=1)) as at,
        await trio.open_tcp_stream(*at.address("TCP")) as trunk,
    ):
        await trunk.send_all(call("a", transport="TCP"))
        await at.workers[0].arrival()
        with stdlib.create_server(HERE) as server:
            flow = await at.workers[0].transports.towards("TCP", *server.getsockname())
            await until(lambda: not flow.is_open)


async def test_a_connection_that_a_call_needs_is_not_closed_for_being_quiet() -> None:
    async with world(settings=SipSettings(idle_seconds=1.0)) as at:
        (worker,) = at.workers
        async with await trio.open_tcp_stream(*at.address("TCP")) as trunk:
            await trunk.send_all(call("a", transport="TCP"))
            flow = (await worker.arrival()).flow
            worker.used.add(flow)
            with trio.move_on_after(1.7) as waiting:
                await trunk.receive_some()
            assert waiting.cancelled_caught
            worker.used.clear()
            with trio.fail_after(5):
                assert await trunk.receive_some() == b""


# Nobody


async def test_while_no_worker_runs_requests_are_refused() -> None:
    async with world(workers=0) as at, phone() as alice:
        await alice.sendto(call("a", "OPTIONS"), at.address("UDP"))
        answer = await hear(alice)
        assert isinstance(answer, Response)
        assert answer.status == 503
        async with await trio.open_tcp_stream(*at.address("TCP")) as trunk:
            await trunk.send_all(call("b", transport="TCP"))
            assert (await trunk.receive_some()).startswith(b"SIP/2.0 503")
        await alice.sendto(call("c", "ACK"), at.address("UDP"))
        await until(lambda: at.exchange.relaying.counters.ownerless == 3)
        assert at.exchange.relaying.refusals.counts["no_worker"] == 2  # nobody answers an ACK


async def test_what_tells_no_call_goes_nowhere_and_is_counted() -> None:
    async with world() as at, phone() as stranger:
        for data in (b"hello", b"\xff" * 100):
            await stranger.sendto(data, at.address("UDP"))
        await stranger.sendto(bytes(answer_to(request_headers(), 200)), at.address("UDP"))
        counters = at.exchange.relaying.counters
        await until(lambda: counters.unspreadable + counters.stray == 3)
        assert (counters.unspreadable, counters.stray, counters.relayed) == (2, 1, 0)


def request_headers() -> Headers:
    message = parse_untrusted(call("a"))
    return message.headers


# Registrations


async def test_the_owner_registers_once_and_the_workers_know_who_we_are_there() -> None:
    async with open_registrar("127.0.0.1", port=0) as registrar:
        register = SipRegister(server="{}:{}".format(*registrar.address), user="100")
        async with world(workers=2, settings=SipSettings(register=(register,))) as at:
            at.exchange.register()
            await until(lambda: all(worker.owner.identities for worker in at.workers))
            own = Identity("sip:100@127.0.0.1")
            assert [worker.owner.identity_at("127.0.0.1") for worker in at.workers] == [own, own]
            assert at.workers[1].owner.identity_at("192.0.2.1") is None
            assert [each.state for each in at.exchange.registrations] == ["registered"]
