"""Transports in a virtual network, and bare sockets to talk to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import trio

from aivc.config.settings import Address, SipSettings
from aivc.sip.counters import Counters
from aivc.sip.flow import Arrival, Flow
from aivc.sip.message import Request, Response, answer_to, parse_untrusted
from aivc.sip.transport import SocketTransports, open_transports
from aivc.testing.network import VirtualNetwork

SERVER: Address = ("192.0.2.1", 5060)
PHONE: Address = ("192.0.2.10", 5060)
SERVER6: Address = ("2001:db8::1", 5060)
PHONE6: Address = ("2001:db8::10", 5060)


def request(
    method: str = "OPTIONS", via: str = "SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK1;rport", body: str = ""
) -> bytes:
    lines = [
        f"{method} sip:100@192.0.2.1 SIP/2.0",
        f"Via: {via}",
        "From: <sip:alice@192.0.2.10>;tag=1",
        "To: <sip:100@192.0.2.1>",
        "Call-ID: call-1",
        f"CSeq: 1 {method}",
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


@attrs.frozen(eq=False)
class World:
    network: VirtualNetwork
    transports: SocketTransports
    arrivals: trio.MemoryReceiveChannel[Arrival]
    counters: Counters

    async def arrival(self) -> Arrival:
        with trio.fail_after(5):
            return await self.arrivals.receive()

    def answer(self, arrival: Arrival, status: int = 200) -> Flow:
        """Answer a request; the flow that was used."""
        assert isinstance(arrival.message, Request)
        flow = self.transports.answering(arrival, arrival.message.via)
        flow.send_nowait(bytes(answer_to(arrival.message.headers, status)))
        return flow


@asynccontextmanager
async def world(
    *listen: str,
    network: VirtualNetwork | None = None,
    admits: Callable[[str], bool] = lambda host: True,
    settings: SipSettings | None = None,
) -> AsyncIterator[World]:
    """Listening where it is told, else on UDP and TCP of SERVER."""
    net = (network or VirtualNetwork(host=SERVER[0], ipv6_host=SERVER6[0])).enable()
    entries = listen or ("udp:192.0.2.1:5060", "tcp:192.0.2.1:5060")
    used = attrs.evolve(settings or SipSettings(), listen=entries)
    counters = Counters()
    arrived, arrivals = trio.open_memory_channel[Arrival](256)
    with trio.fail_after(3600):
        async with open_transports(used, counters, admits, arrived) as transports:
            yield World(net, transports, arrivals, counters)
    assert not any(stream.is_at(SERVER[0]) and stream.is_listening for stream in net.streams)
    assert not any(address[0] in (SERVER[0], SERVER6[0], "0.0.0.0", "::") for address in net.bound)


@asynccontextmanager
async def udp_phone(address: Address = PHONE) -> AsyncIterator[trio.socket.SocketType]:
    family = trio.socket.AF_INET6 if ":" in address[0] else trio.socket.AF_INET
    with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(address)
        yield socket


async def hear(socket: trio.socket.SocketType) -> Request | Response:
    with trio.fail_after(5):
        return parse_untrusted((await socket.recvfrom(65_535))[0])


async def hears_nothing(socket: trio.socket.SocketType, seconds: float = 1.0) -> bool:
    with trio.move_on_after(seconds) as waiting:
        await socket.recvfrom(65_535)
    return waiting.cancelled_caught


async def dial(address: Address = PHONE, to: Address = SERVER, port: int = 0) -> trio.SocketStream:
    """A connection from that host to the server."""
    family = trio.socket.AF_INET6 if ":" in to[0] else trio.socket.AF_INET
    socket = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    await socket.bind((address[0], port))
    await socket.connect(to)
    return trio.SocketStream(socket)


async def listen_at(address: Address) -> trio.socket.SocketType:
    family = trio.socket.AF_INET6 if ":" in address[0] else trio.socket.AF_INET
    socket = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    await socket.bind(address)
    socket.listen(16)
    return socket


async def read_one(stream: trio.abc.ReceiveStream) -> Request | Response:
    with trio.fail_after(5):
        return parse_untrusted(bytes(await stream.receive_some()))
