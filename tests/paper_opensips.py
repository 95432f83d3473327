"""OpenSIPS on paper: who is subscribed, which sessions there are, and what was commanded. No SIP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from aivc.config.settings import Address
from aivc.sip.jsonrpc import Command
from aivc.sip.mi import MiRefused, MiUnanswered

OPENSIPS: Address = ("192.0.2.5", 8080)
WORKER: Address = ("192.0.2.5", 41_000)  # a process of OpenSIPS, which events come from
MOST_LISTED = 135
BEGAN = 1_795_333_284  # of every session, seconds since 1970, when trio's clock is 0


class Refused(Exception):
    """OpenSIPS says no: code and text."""


@attrs.define
class PaperOpenSips:
    """What it knows and was told.

    Attributes:
      sessions: state of each entity by key; a key that begins with "uac" is one that OpenSIPS was told to make.
      subscribers: when each subscription ends, by socket.
      twin: pretends that a new subscription is the one of this socket, as OpenSIPS does with prefixes.
      told: what was commanded, "method key status".
      is_up: False: no answer.
    """

    sessions: dict[str, int] = attrs.field(factory=dict)
    subscribers: dict[str, float] = attrs.field(factory=dict)
    twin: str | None = None
    told: list[str] = attrs.field(factory=list)
    is_up: bool = True
    knows_event: bool = True
    subscriptions: int = 0  # how many were made or renewed
    lists: int = 0  # of all sessions

    def restart(self) -> None:
        self.sessions.clear()
        self.subscribers.clear()

    async def perform(self, command: Command, seconds: float | None = None) -> object:
        """As a management interface does it."""
        await trio.sleep(0.001)
        if not self.is_up:
            raise MiUnanswered(command, "Connection refused")
        try:
            return self.carry_out(command.method, command.params)
        except Refused as error:
            code, text = error.args
            raise MiRefused(command, code, text) from None

    def carry_out(self, method: str, params: object) -> object:
        assert isinstance(params, dict)
        match method:
            case "event_subscribe":
                return self._subscribe(params["socket"], params["expire"])
            case "subscribers_list":
                return {"Event": self._event()}
            case "ua_session_list":
                return self._list(params.get("key"))
            case _:
                return self._end(method, params, params["key"])

    def _end(self, method: str, params: dict[str, Any], key: str) -> str:
        self.told.append(" ".join(str(params[name]) for name in ("key", "method", "code") if name in params))
        if key not in self.sessions:
            raise Refused(500, "Failed")
        if method == "ua_session_terminate":
            self.told[-1] = f"{key} terminate"
            if self.sessions[key] in (1, 3):
                raise Refused(500, "Failed to terminate session")
            del self.sessions[key]
        elif params["method"] == "INVITE" and params["code"] >= 300:
            self.sessions[key] = 7
        return "OK"

    def _subscribe(self, socket: str, seconds: int) -> str:
        if not self.knows_event:
            raise Refused(400, "Bad parameter value")
        self.subscriptions += 1
        self.subscribers[self.twin or socket] = trio.current_time() + seconds
        return "OK"

    def _event(self) -> dict[str, object]:
        if not self.knows_event:
            raise Refused(404, "Event not published")
        now = trio.current_time()
        self.subscribers = {socket: until for socket, until in self.subscribers.items() if until > now}
        found = [{"socket": name, "expire": 90, "ttl": int(until - now)} for name, until in self.subscribers.items()]
        return {"name": "E_UA_SESSION", "id": 6, "Subscribers": found} if found else {}

    def _list(self, key: str | None) -> object:
        if key is not None:
            if key not in self.sessions:
                raise Refused(404, "Entity not found")
            return entity(key, self.sessions[key])
        self.lists += 1
        if len(self.sessions) > MOST_LISTED:
            raise Refused(500, "Internal error")
        return [entity(key, state) for key, state in self.sessions.items()]


def entity(key: str, state: int) -> dict[str, object]:
    """One of ua_session_list; the keys of this test are no real ones: prefix.hash.dlg.time.number."""
    dlg = int(key.split(".")[2])
    if key.startswith("uac"):
        return {"dlg": dlg, "state": state, "callid": key, "to_tag": "theirs"}
    return {"dlg": dlg, "state": state, "ruri": "sip:ai@192.0.2.5", "callid": f"call-{dlg}@phone", "to_tag": key}


def key(number: int, prefix: str = "B2B") -> str:
    return f"{prefix}.{number % 512}.{number}.{BEGAN}.543018876"


@asynccontextmanager
async def serve(opensips: PaperOpenSips, address: Address = OPENSIPS) -> AsyncIterator[int]:
    """It answers commands that come by datagram, on the network of this trio run; the port."""
    socket = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await socket.bind(address)
    with socket:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_commands, opensips, socket)
            yield int(socket.getsockname()[1])
            nursery.cancel_scope.cancel()


async def answer_commands(opensips: PaperOpenSips, socket: trio.socket.SocketType) -> None:
    while True:
        data, source = await socket.recvfrom(65_535)
        if not opensips.is_up:
            continue
        command = json.loads(data)
        answer: dict[str, object] = {"jsonrpc": "2.0", "id": command["id"]}
        try:
            answer["result"] = opensips.carry_out(command["method"], command["params"])
        except Refused as error:
            answer["error"] = {"code": error.args[0], "message": error.args[1]}
        await socket.sendto(json.dumps(answer).encode(), source)


def event(key: str, event_type: str = "NEW", method: str = "INVITE", **members: object) -> bytes:
    """One datagram of OpenSIPS."""
    params: dict[str, object] = {
        "key": key,
        "event_type": event_type,
        "entity_type": "UAS",
        "status": 0,
        "reason": None,
        "method": method,
        "body": SDP if method == "INVITE" else "",
        "headers": headers(key, method, "" if event_type == "NEW" else f";tag={key}"),
        "extra_params": None,
    }
    return json.dumps({"jsonrpc": "2.0", "method": "E_UA_SESSION", "params": params | members}).encode()


SDP = (
    "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"
)


def headers(key: str, method: str, tag: str) -> str:
    lines = [
        "Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK1;rport",
        "From: <sip:alice@192.0.2.10>;tag=a",
        f"To: <sip:openai@192.0.2.5>{tag}",
        f"Call-ID: call-{key}@phone",
        f"CSeq: 1 {method}",
        "Contact: <sip:alice@192.0.2.10:5060>",
    ]
    lines += ["Content-Type: application/sdp", f"Content-Length: {len(SDP)}"] if method == "INVITE" else []
    return "".join(f"{line}\r\n" for line in lines)
