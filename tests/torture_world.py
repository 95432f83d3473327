"""A user agent that answers every call, a phone that says anything to it, and what must hold afterwards."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio
from sip_phone import Phone, sdp
from transport_world import dial, udp_phone

from aivc.config.settings import Address, SipSettings
from aivc.sip.framing import StreamFramer
from aivc.sip.message import ParseError, Request, Response, parse_untrusted
from aivc.sip.scanner import split_list
from aivc.sip.useragent import UserAgent, open_user_agent
from aivc.testing.network import VirtualNetwork

SERVER: Final[Address] = ("192.0.2.1", 5060)
SERVER6: Final[Address] = ("2001:db8::1", 5060)
TORTURER: Final[Address] = ("192.0.2.66", 5060)
TORTURER6: Final[Address] = ("2001:db8::66", 5060)
CALLER: Final[Address] = ("192.0.2.10", 5060)
SETTINGS: Final = SipSettings(
    listen=tuple(f"{name}:{host}:5060" for host in ("192.0.2.1", "[2001:db8::1]") for name in ("udp", "tcp")),
    message_seconds=5.0,
)
AT_ONCE: Final = 1.0  # seconds within which every answer is due
LIFETIME: Final = 110.0  # seconds: an answer without its ACK (32), its BYE (32), and the server's memory of both
ECHOED: Final = ("From", "Call-ID", "CSeq")


@attrs.frozen
class Heard:
    """What came back for one message.

    Attributes:
      statuses: of the final responses, each once.
      closed: the connection was closed by the server.
    """

    statuses: tuple[int, ...]
    closed: bool = False


@attrs.define(eq=False)
class Server:
    """The user agent and everything that it has sent by UDP."""

    agent: UserAgent
    network: VirtualNetwork
    said: list[bytes] = attrs.field(factory=list)
    calls: int = 0

    async def answer_calls(self) -> None:
        """Task: the service behind the user agent, which takes every call."""
        async for leg in self.agent.legs:
            self.calls += 1
            await leg.ring()
            host = SERVER6[0] if ":" in leg.agreement.remote[0] else SERVER[0]
            await leg.answer((host, 40_000))

    async def torture(self, message: bytes, *, ipv6: bool = False) -> Heard:
        """Say it in one datagram."""
        self.said.clear()
        async with udp_phone(TORTURER6 if ipv6 else TORTURER) as socket:
            await socket.sendto(message, SERVER6 if ipv6 else SERVER)
            await trio.sleep(AT_ONCE)
        responses = [data for data in self.said if data.startswith(b"SIP/2.0 ")]
        assert len(responses) == len(self.said), "it sends requests because of what a stranger says"
        check_echo(message, responses)
        return Heard(final_statuses(responses))

    async def torture_stream(self, message: bytes, *, ipv6: bool = False) -> Heard:
        """Say it on a connection, and wait until there is an answer, or the end of the connection."""
        stream = await (dial(TORTURER6, SERVER6) if ipv6 else dial(TORTURER, SERVER))
        framer, responses, closed = StreamFramer(), list[bytes](), False
        async with stream:
            await stream.send_all(message)
            with trio.move_on_after(SETTINGS.message_seconds + AT_ONCE):
                while data := bytes(await stream.receive_some()):
                    responses += [frame for frame in framer.feed(data) if isinstance(frame, bytes)]
                closed = True
        responses = [data for data in responses if data.startswith(b"SIP/2.0 ")]
        check_echo(message, responses)
        return Heard(final_statuses(responses), closed)

    async def serves_everybody_else(self) -> None:
        """An ordinary ping and an ordinary call, over UDP and over TCP."""
        async with udp_phone(CALLER) as socket:
            phone = Phone(socket, call_id=f"afterwards-{self.calls}")
            assert (await phone.ask(phone.write("OPTIONS"))).status == 200
            await phone.send(phone.write("INVITE", sdp(), cseq=2))
            while (answer := await phone.response()).status != 200:
                assert answer.status < 200
            phone.to_tag = answer.to.tag
            await phone.send(phone.write("ACK", cseq=2))
            assert (await phone.ask(phone.write("BYE", cseq=3))).status == 200
        async with await dial(CALLER, SERVER) as stream:
            await stream.send_all(phone.write("OPTIONS", cseq=4).replace(b"SIP/2.0/UDP", b"SIP/2.0/TCP"))
            with trio.fail_after(5):
                assert (await stream.receive_some()).startswith(b"SIP/2.0 481 ")  # of the call that is over


@asynccontextmanager
async def open_server() -> AsyncIterator[Server]:
    """Check at the end that others are served, and that nothing is left of anything."""
    tasks = trio.lowlevel.current_statistics().tasks_living
    network = VirtualNetwork(host=SERVER[0], ipv6_host=SERVER6[0]).enable()
    with trio.fail_after(600):
        async with open_user_agent(SETTINGS, randomness=random.Random(7)) as agent, trio.open_nursery() as nursery:
            server = Server(agent, network)
            network.on_packet = lambda source, to, data: note(server, source, data)
            nursery.start_soon(server.answer_calls)
            yield server
            await server.serves_everybody_else()
            await trio.sleep(LIFETIME)
            left = agent.statistics()
            assert (left.legs, left.server_transactions, left.client_transactions) == (0, 0, 0)
            assert (left.failures, left.broken) == (0, 0)
            nursery.cancel_scope.cancel()
    assert network.bound == {}
    assert trio.lowlevel.current_statistics().tasks_living == tasks


def note(server: Server, source: Address, data: bytes) -> None:
    if source in (SERVER, SERVER6):
        server.said.append(data)


def final_statuses(responses: list[bytes]) -> tuple[int, ...]:
    statuses = [int(data[8:11]) for data in responses]
    return tuple(dict.fromkeys(status for status in statuses if status >= 200))


def check_echo(message: bytes, responses: list[bytes]) -> None:
    """RFC 3261 section 8.2.6.2: what a response copies, for requests that can be read."""
    try:
        request = parse_untrusted(message)
    except ParseError:
        return
    assert isinstance(request, Request) or not responses
    for data in responses[:1]:
        response = parse_untrusted(data)
        assert isinstance(response, Response)
        for name in ECHOED:
            assert response.header(name) == request.header(name)
        assert vias(response)[1:] == vias(request)[1:]
        assert response.to.uri == request.to.uri


def vias(message: Request | Response) -> list[str]:
    return [value for line in message.headers.lines("Via") for value in split_list(line)]
