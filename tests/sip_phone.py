"""A bare SIP phone for the tests of the user agent: it says exactly what a test tells it to, right or wrong."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from aivc.config.settings import Address, SipSettings
from aivc.sip.leg import Leg
from aivc.sip.message import Request, Response, parse_untrusted
from aivc.sip.useragent import UserAgent, open_user_agent
from aivc.testing.network import VirtualNetwork

SERVER: Address = ("192.0.2.1", 5060)
PHONE: Address = ("192.0.2.10", 5060)
RTP: Address = ("192.0.2.1", 40_000)


def sdp(
    body: str = "m=audio 49170 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n", version: int = 1
) -> bytes:
    head = f"v=0\r\no=- 1 {version} IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n"
    return (head + body).encode()


@attrs.define(eq=False)
class Phone:
    """One socket, one dialog."""

    socket: trio.socket.SocketType
    server: Address = SERVER
    call_id: str = "call-1@192.0.2.10"
    tag: str = "phone"
    to_tag: str | None = None
    cseq: int = 1
    branches: int = 0
    contact: str = "<sip:alice@192.0.2.10:5060>"
    host: str = PHONE[0]

    def write(
        self,
        method: str,
        body: bytes = b"",
        *extra: str,
        cseq: int | None = None,
        branch: str | None = None,
        target: str = "sip:100@192.0.2.1",
        via: str | None = None,
        rport: str = ";rport",
        content_type: str = "application/sdp",
    ) -> bytes:
        """One request; a fresh branch unless given."""
        self.branches += 1
        tag = "" if self.to_tag is None else f";tag={self.to_tag}"
        number = self.cseq if cseq is None else cseq
        lines = [
            f"{method} {target} SIP/2.0",
            f"Via: SIP/2.0/UDP {via or f'{self.host}:5060'};branch={branch or f'z9hG4bK-{self.branches}'}{rport}",
            f"From: <sip:alice@{self.host}>;tag={self.tag}",
            f"To: <sip:100@192.0.2.1>{tag}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {number} {method}",
            f"Contact: {self.contact}",
            "User-Agent: a phone of the tests",
            *extra,
        ]
        lines += [f"Content-Type: {content_type}"] if body else []
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body

    async def send(self, data: bytes) -> None:
        await self.socket.sendto(data, self.server)

    async def receive(self, seconds: float = 5.0) -> Request | Response:
        with trio.fail_after(seconds):
            return parse_untrusted((await self.socket.recvfrom(65_535))[0])

    async def response(self, seconds: float = 5.0) -> Response:
        message = await self.receive(seconds)
        assert isinstance(message, Response), message
        return message

    async def request(self, seconds: float = 5.0) -> Request:
        message = await self.receive(seconds)
        assert isinstance(message, Request), message
        return message

    async def ask(self, data: bytes) -> Response:
        """Send, and return the first response that is not 100."""
        await self.send(data)
        response = await self.response()
        return await self.response() if response.status == 100 else response

    async def hears_nothing(self, seconds: float) -> bool:
        with trio.move_on_after(seconds):
            await self.socket.recvfrom(65_535)
            return False
        return True

    async def reply(
        self, request: Request, status: int = 200, *extra: str, tag: str | None = None, body: bytes = b""
    ) -> None:
        """Answer a request; a `tag` goes to To."""
        lines = [f"{n}: {v}" for n, v in request.headers if n in ("Via", "From", "To", "Call-ID", "CSeq")]
        if tag is not None:
            lines = [f"{line};tag={tag}" if line.startswith("To:") else line for line in lines]
        lines += [*extra, *(["Content-Type: application/sdp"] if body else []), f"Content-Length: {len(body)}"]
        await self.send("\r\n".join([f"SIP/2.0 {status} Whatever", *lines, "", ""]).encode() + body)

    async def call(self, agent: UserAgent, body: bytes | None = None, *extra: str) -> tuple[Leg, Response]:
        """Set up a call as far as the 200; the ACK is the test's."""
        await self.send(self.write("INVITE", sdp() if body is None else body, *extra))
        leg = await agent.legs.receive()
        await leg.answer(RTP)
        assert (await self.response()).status == 100
        answer = await self.response()
        assert answer.status == 200
        self.to_tag = answer.to.tag
        return leg, answer

    async def ack(self, body: bytes = b"") -> None:
        await self.send(self.write("ACK", body))
        await trio.sleep(0.01)

    async def connect(self, agent: UserAgent) -> Leg:
        """A call with its ACK."""
        leg, _ = await self.call(agent)
        await self.ack()
        self.cseq += 1
        return leg


@asynccontextmanager
async def another_phone(host: str, port: int = 5060) -> AsyncIterator[Phone]:
    """A second phone in the network of `user_agent`, for whom the user agent calls."""
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        await sock.bind((host, port))
        contact = f"<sip:{host}:{port}>"
        yield Phone(sock, call_id=f"call@{host}", tag=f"tag-{host}", contact=contact, host=host)


@asynccontextmanager
async def user_agent(
    settings: SipSettings | None = None,
    network: VirtualNetwork | None = None,
    listen: str = "udp:192.0.2.1:5060",
    seconds: float = 200.0,
    rtcp: bool = True,
) -> AsyncIterator[tuple[UserAgent, Phone]]:
    """A user agent and a phone on one virtual network; so many virtual seconds at most."""
    (network or VirtualNetwork()).enable()
    chosen = attrs.evolve(settings or SipSettings(), listen=(listen,))
    with trio.fail_after(seconds), trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(PHONE)
        async with open_user_agent(chosen, rtcp=rtcp, randomness=random.Random(7)) as agent:
            yield agent, Phone(sock)
            assert agent.statistics().failures == 0
