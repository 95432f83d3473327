"""A caller and a connector, both by hand: what an OpenSIPS with UA sessions says to each, octet by octet.

Nothing of aivc is used here, so that what it takes for granted of OpenSIPS can be wrong without this agreeing.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

HOST: Final = "127.0.0.1"
SDP: Final = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8\r\n"
SDP_TYPE: Final = "Content-Type: application/sdp\r\n"
SOON_SECONDS: Final = 3.0  # for what must come
GONE: Final = "404 Entity not found"
QUIET_SECONDS: Final = 0.25  # for what must not
COPIED: Final = re.compile(r"(?:Via|From|To|Call-ID|CSeq): ")  # from a request to its response

Event = dict[str, Any]
Socket = trio.socket.SocketType


class Surprise(AssertionError):
    """Something else came than the test says, or nothing."""


async def open_socket(host: str) -> Socket:
    opened = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await opened.bind((host, 0))
    return opened


async def receive(socket: Socket, seconds: float = SOON_SECONDS) -> bytes | None:
    """The next datagram; None: nothing came in time."""
    with trio.move_on_after(seconds):
        data, _ = await socket.recvfrom(65535)
        return data
    return None


def summary(message: str) -> str:
    """`200 INVITE` of a response, `BYE` of a request."""
    first = message.split(" ", 2)
    found = re.search(r"(?m)^CSeq: \d+ (\S+)", message)
    return f"{first[1]} {found[1] if found else '?'}" if first[0] == "SIP/2.0" else first[0]


def field(message: str, name: str) -> str | None:
    """The value of the first header field of this name."""
    found = re.search(rf"(?mi)^{name}: ?(.*?)\r?$", message.partition("\r\n\r\n")[0])
    return found[1] if found else None


def fields(message: str, name: str) -> list[str]:
    """The values of all header fields of this name."""
    return re.findall(rf"(?mi)^{name}: ?(.*?)\r?$", message.partition("\r\n\r\n")[0])


@attrs.define(eq=False)
class Party:
    """One end of a SIP dialog with OpenSIPS: nothing is sent, answered or repeated that the test does not say."""

    socket: Socket
    opensips: tuple[str, int]
    number: int  # of parties in this test
    remote_tag: str | None = None
    cseq: int = 0
    invite_branch: str = ""
    invite_cseq: int = 0

    @property
    def port(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port

    @property
    def host(self) -> str:
        return str(self.socket.getsockname()[0])

    @property
    def call_id(self) -> str:
        return f"{self.port}-{self.number}@caller"

    async def send(
        self,
        method: str,
        body: str | bytes = "",
        extra: str | bytes = "",
        *,
        cseq: int | None = None,
        branch: str | None = None,
    ) -> None:
        """A request of this dialog; `extra` are whole header lines."""
        if cseq is None:
            self.cseq += 1
            cseq = self.cseq
        branch = branch or f"z9hG4bK{self.port}{method}{cseq}"
        if method == "INVITE":
            self.invite_branch, self.invite_cseq = branch, cseq
        tag = f";tag={self.remote_tag}" if self.remote_tag and method != "CANCEL" else ""
        octets = body.encode() if isinstance(body, str) else body
        head = (
            f"{method} sip:1000@{self.opensips[0]}:{self.opensips[1]} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {self.host}:{self.port};branch={branch};rport\r\n"
            "Max-Forwards: 69\r\n"
            f'From: "Ann" <sip:ann@{self.host}>;tag=ann{self.number}\r\n'
            f"To: <sip:1000@{self.opensips[0]}>{tag}\r\n"
            f"Call-ID: {self.call_id}\r\n"
            f"CSeq: {cseq} {method}\r\n"
            f"Contact: <sip:ann@{self.host}:{self.port}>\r\n"
        ).encode() + (extra.encode() if isinstance(extra, str) else extra)
        if octets and b"Content-Type:" not in head:
            head += SDP_TYPE.encode()
        message = head + b"Content-Length: %d\r\n\r\n" % len(octets) + octets
        await self.socket.sendto(message, self.opensips)

    async def acknowledge(self) -> None:
        """A 2xx."""
        await self.send("ACK", cseq=self.invite_cseq)

    async def cancel(self) -> None:
        await self.send("CANCEL", cseq=self.invite_cseq, branch=self.invite_branch)

    async def expect(self, expected: str, seconds: float = SOON_SECONDS) -> str:
        """The next message, such as `200 INVITE` or `BYE`; a response's tag is noted."""
        data = await receive(self.socket, seconds)
        text = "nothing" if data is None else data.decode("latin-1")
        if data is None or summary(text) != expected:
            raise Surprise(f"the caller waited for {expected}, and got: {text}")
        tag = re.search(r";tag=([^;\r]+)", field(text, "To") or "")
        if text.startswith("SIP/2.0") and tag and not expected.endswith("CANCEL"):  # which gets a tag of its own
            self.remote_tag = tag[1]
        return text

    async def reply(self, request: str, status: str, body: str = "", extra: str = "") -> None:
        """Answer a request of OpenSIPS, e.g. with `200 OK`."""
        lines = [line for line in request.split("\r\n") if COPIED.match(line)]
        lines = [f"{line};tag=bob" if line.startswith("To: ") and ";tag=" not in line else line for line in lines]
        head = "\r\n".join([f"SIP/2.0 {status}", *lines, f"Contact: <sip:bob@{self.host}:{self.port}>"])
        content = SDP_TYPE if body else ""
        message = f"{head}\r\n{extra}{content}Content-Length: {len(body)}\r\n\r\n{body}"
        await self.socket.sendto(message.encode(), self.opensips)

    async def wait_nothing(self, seconds: float = QUIET_SECONDS) -> None:
        data = await receive(self.socket, seconds)
        if data is not None:
            raise Surprise(f"the caller got: {data.decode('latin-1')}")


@attrs.define(eq=False)
class Lab:
    """Somebody who commands an OpenSIPS and gets its events, and those who call it. Made by `open_lab()`."""

    host: str
    sip: tuple[str, int]
    commands: Socket  # connected
    events: Socket
    restart: Callable[[], Awaitable[None]]  # ends OpenSIPS and starts it anew, at the same address
    parties: list[Party] = attrs.field(factory=list)
    commanded: int = 0

    @property
    def event_socket(self) -> str:
        return f"udp:{self.host}:{self.events.getsockname()[1]}"

    # The connector

    async def send_command(self, data: bytes) -> bytes | None:
        """The answer, as it is; None: there is none."""
        await self.commands.send(data)
        with trio.move_on_after(SOON_SECONDS if b'"id"' in data or not data.startswith(b"{") else QUIET_SECONDS):
            return bytes(await self.commands.recv(65535))
        return None

    async def mi(self, command: str, /, **params: object) -> Any:
        """The result; of an error, or an answer that is no JSON, `500 Failed to send reply`."""
        self.commanded += 1
        request = {"jsonrpc": "2.0", "id": str(self.commanded), "method": command}
        answer = await self.send_command(json.dumps(request | ({"params": params} if params else {})).encode())
        if answer is None:
            raise Surprise(f"no answer to {command}")
        try:
            parsed = json.loads(answer)
        except ValueError:
            return answer.decode()
        assert parsed["id"] == str(self.commanded), (command, answer)
        if "error" in parsed:
            data = parsed["error"].get("data")
            return f"{parsed['error']['code']} {parsed['error']['message']}" + (f": {data}" if data else "")
        return parsed["result"]

    async def subscribe(self, seconds: int = 120) -> None:
        assert await self.mi("event_subscribe", event="E_UA_SESSION", socket=self.event_socket, expire=seconds) == "OK"

    async def reply(self, key: str, method: str, code: int, reason: str, **more: str) -> Any:
        return await self.mi("ua_session_reply", key=key, method=method, code=code, reason=reason, **more)

    async def answer(self, key: str) -> Any:
        return await self.reply(key, "INVITE", 200, "OK", body=SDP, content_type=SDP_TYPE)

    async def state(self, key: str) -> Any:
        """Of the session in OpenSIPS's list; `404 Entity not found` when it is not there."""
        listed = await self.mi("ua_session_list", key=key)
        return listed["state"] if isinstance(listed, dict) else listed

    async def wait_gone(self, key: str) -> None:
        """Until the session is freed, which is right after the event of its end."""
        with trio.fail_after(SOON_SECONDS):
            while await self.state(key) != GONE:  # noqa: ASYNC110 - no event tells of it
                await trio.sleep(0.01)

    async def expect(self, expected: str, seconds: float = SOON_SECONDS) -> Event:
        """The next event, such as `NEW INVITE` or `REJECTED 408 OPTIONS`."""
        data = await receive(self.events, seconds)
        if data is None:
            raise Surprise(f"no event; waited for {expected}")
        event: Event = json.loads(data.decode("latin-1"))["params"]
        status = [str(event["status"])] if event["status"] else []
        if " ".join([event["event_type"], *status, event["method"]]) != expected:
            raise Surprise(f"waited for {expected}, and got {event}")
        return event

    # The callers

    async def party(self) -> Party:
        self.parties.append(Party(await open_socket(self.host), self.sip, len(self.parties)))
        return self.parties[-1]

    async def ring(self, body: str | bytes = SDP, extra: str | bytes = "") -> tuple[Party, str]:
        """A caller who waits for the answer, and the key of the session."""
        caller = await self.party()
        await caller.send("INVITE", body, extra)
        await caller.expect("100 INVITE")
        return caller, (await self.expect("NEW INVITE"))["key"]

    async def talk(self, *, acknowledged: str | None = "UPDATED ACK") -> tuple[Party, str]:
        """A caller in a call, and the key of the session. `acknowledged` is the event of the ACK."""
        caller, key = await self.ring()
        assert await self.answer(key) == "OK"
        await caller.expect("200 INVITE")
        await caller.acknowledge()
        if acknowledged:
            await self.expect(acknowledged)
        return caller, key

    async def hear(self, caller: Party, key: str, method: str, body: str = "", extra: str = "") -> Event:
        """A request of the caller in the call, and its event."""
        await caller.send(method, body, extra)
        event = await self.expect(f"UPDATED {method}")
        assert event["key"] == key
        return event

    async def wait_nothing(self, seconds: float = QUIET_SECONDS) -> None:
        """No event, and nothing for any caller."""
        data = await receive(self.events, seconds)
        if data is not None:
            raise Surprise(f"event: {data.decode('latin-1')}")
        for party in self.parties:
            await party.wait_nothing(0.01)


@asynccontextmanager
async def open_lab(
    sip: tuple[str, int],
    mi: tuple[str, int],
    restart: Callable[[], Awaitable[None]],
    *,
    host: str = HOST,
    subscribed: bool = True,
) -> AsyncIterator[Lab]:
    """A lab at an OpenSIPS. At its end nothing may be left that the test has not looked at."""
    commands = await open_socket(host)
    await commands.connect(mi)
    lab = Lab(host, sip, commands, await open_socket(host), restart)
    with commands, lab.events:
        if subscribed:
            await lab.subscribe()
        try:
            yield lab
            await lab.wait_nothing()
        finally:
            for party in lab.parties:
                party.socket.close()
