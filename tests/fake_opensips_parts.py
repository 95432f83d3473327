"""A connector and a caller without any mind of their own, to try the test OpenSIPS with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from aivc.config.settings import Address
from aivc.sip.message import Request, Response, parse_untrusted
from aivc.testing import FakeOpenSips, VirtualNetwork, open_fake_opensips

EVENTS: Address = ("192.0.2.1", 9000)
SDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n"
BRIEFLY = 0.1  # seconds, in which everything that is under way arrives
Json = dict[str, Any]


@attrs.define(eq=False)
class Connector:
    """Tells commands and hears events.

    Attributes:
      heard: (source, event) in their order, as far as `hear` has read them.
    """

    mi: trio.socket.SocketType
    events: trio.socket.SocketType
    to: Address
    heard: list[tuple[Address, Json]] = attrs.field(factory=list)
    _id: int = 0

    async def tell(self, command: str, /, **params: object) -> Any:
        """The result, or the error object, of a command."""
        self._id += 1
        request: Json = {"jsonrpc": "2.0", "method": command, "id": f"c{self._id}"}
        answer = json.loads(await self.tell_raw(json.dumps(request | ({"params": params} if params else {})).encode()))
        assert answer["id"] == request["id"]
        return answer["result"] if "result" in answer else answer["error"]

    async def tell_raw(self, data: bytes) -> bytes:
        await self.mi.sendto(data, self.to)
        return (await self.mi.recvfrom(65_535))[0]

    async def reply(self, key: str, method: str, code: int, reason: str = "Said", **params: object) -> Any:
        return await self.tell("ua_session_reply", key=key, method=method, code=code, reason=reason, **params)

    async def subscribe(self, seconds: int) -> Any:
        return await self.tell("event_subscribe", event="E_UA_SESSION", socket="udp:192.0.2.1:9000", expire=seconds)

    async def hear(self, seconds: float = BRIEFLY) -> list[Json]:
        """What comes within that time."""
        found = []
        with trio.move_on_after(seconds):
            while True:
                data, source = await self.events.recvfrom(65_535)
                found.append(json.loads(data)["params"])
                self.heard.append((source, found[-1]))
        return found

    async def hear_one(self) -> Json:
        (event,) = await self.hear()
        return event

    async def state(self, key: str) -> Any:
        """As the list has it, or the code of the error."""
        listed = await self.tell("ua_session_list", key=key)
        return listed.get("state", listed.get("code"))


@attrs.define(eq=False)
class Caller:
    """Sends requests as they are, and repeats nothing."""

    socket: trio.socket.SocketType
    to: Address
    key: str = ""  # the To-tag of the session
    call_id: str = "call1"
    raw: bytes = b""  # what came last

    async def ask(self, method: str, number: int, *, body: str = "", extra: str = "", branch: str = "") -> None:
        """Send one request; INVITE 1 and its CANCEL have no To-tag and share the branch."""
        is_first = number == 1 and method in ("INVITE", "CANCEL")
        tag = "" if is_first else f";tag={self.key}"
        branch = branch or f"{'INVITE' if method == 'CANCEL' else method}{number}"
        lines = [
            f"{method} sip:1000@192.0.2.5 SIP/2.0",
            f"Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK{self.call_id}{branch}",
            "Max-Forwards: 70",
            'f: "Alice" <sip:alice@192.0.2.9>;tag=a1',
            f"To: <sip:1000@192.0.2.5>{tag}",
            f"i: {self.call_id}",
            f"CSeq: {number} {method}",
            "m: <sip:alice@192.0.2.9:5060>",
            *([extra] if extra else []),
            f"Content-Length: {len(body)}",
        ]
        await self.socket.sendto("\r\n".join([*lines, "", body]).encode(), self.to)

    async def acknowledge(self, number: int, *, failure: bool = False) -> None:
        await self.ask("ACK", number, branch=f"INVITE{number}" if failure else "")

    async def read(self, seconds: float = BRIEFLY) -> list[Request | Response]:
        """What comes within that time."""
        found = []
        with trio.move_on_after(seconds):
            while True:
                self.raw, _ = await self.socket.recvfrom(65_535)
                found.append(parse_untrusted(self.raw))
        return found

    async def read_lines(self, seconds: float = BRIEFLY) -> list[str]:
        """The same as status and CSeq, or as the method."""
        return [
            f"{each.status} {each.reason} {each.cseq}" if isinstance(each, Response) else each.method
            for each in await self.read(seconds)
        ]

    async def read_raw(self) -> bytes:
        """The last of what comes, which need not be SIP."""
        with trio.move_on_after(BRIEFLY):
            while True:
                self.raw, _ = await self.socket.recvfrom(65_535)
        return self.raw

    async def answer(self, request: Request, status: str, extra: str = "") -> None:
        names = ("Via", "From", "To", "Call-ID", "CSeq")
        lines = [f"{name}: {value}" for name, value in request.headers if name in names]
        text = "\r\n".join([f"SIP/2.0 {status}", *lines, *([extra] if extra else []), "Content-Length: 0", "", ""])
        await self.socket.sendto(text.encode(), self.to)


@attrs.frozen
class World:
    opensips: FakeOpenSips
    connector: Connector
    caller: Caller

    async def ring(self) -> str:
        """The key of a new call."""
        await self.caller.ask("INVITE", 1, body=SDP, extra="Content-Type: application/sdp")
        event = await self.connector.hear_one()
        assert await self.caller.read_lines() == ["100 Giving it a try 1 INVITE"]
        self.caller.key = event["key"]
        return self.caller.key

    async def talk(self) -> str:
        """The key of a call that was answered and acknowledged."""
        key = await self.ring()
        assert await self.connector.reply(key, "INVITE", 200, "OK", body=SDP) == "OK"
        await self.caller.read()
        await self.caller.acknowledge(1)
        await self.connector.hear()
        return key


@asynccontextmanager
async def open_world(
    flags: str = "abh", extra_params: str | None = None, fr_timeout: float = 2.0
) -> AsyncIterator[World]:
    """An OpenSIPS with one subscriber on a virtual network; everything ends within ten minutes."""
    VirtualNetwork(delay=0.005).enable()
    with trio.fail_after(600), udp_socket() as mi, udp_socket() as events, udp_socket() as sip:
        await mi.bind(("192.0.2.1", 0))
        await events.bind(EVENTS)
        await sip.bind(("192.0.2.9", 5060))
        opened = open_fake_opensips(flags=flags, extra_params=extra_params, fr_timeout=fr_timeout, fr_inv_timeout=4.0)
        async with opened as opensips:
            connector = Connector(mi, events, opensips.mi_address)
            assert await connector.subscribe(500) == "OK"
            yield World(opensips, connector, Caller(sip, opensips.sip_address))


def udp_socket() -> trio.socket.SocketType:
    return trio.socket.socket(type=trio.socket.SOCK_DGRAM)
