"""One UA session without an OpenSIPS: its events are told by hand, and its commands are noted."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from aivc.config.settings import Address, SipSettings
from aivc.sip.inspection import Refusal
from aivc.sip.jsonrpc import Command
from aivc.sip.leg import LegEvent
from aivc.sip.message import Headers
from aivc.sip.mi import MiRefused, MiUnanswered
from aivc.sip.session_board import Session as Served
from aivc.sip.session_board import SessionBoard
from aivc.sip.session_leg import SessionLeg, receive_session
from aivc.sip.uasession import EventType, SessionEvent

KEY = "B2B.212.500.1795333284.543018876"
CALL_ID = "2e52e45834@probe"
LOCAL: Address = ("192.0.2.7", 35000)
EVENTS: Address = ("192.0.2.7", 50060)  # where events come to
CONNECTION = "c=IN IP4 192.0.2.9\r\n"
HELD = "a=sendonly\r\n"
Field = tuple[str, str]


def sdp(port: int = 40000, more: str = "", version: int = 1) -> bytes:
    text = f"v=0\r\no=- 1 {version} IN IP4 192.0.2.9\r\ns=-\r\n{CONNECTION}t=0 0\r\nm=audio {port} RTP/AVP 0 8 101\r\n"
    return (text + "a=rtpmap:101 telephone-event/8000\r\n" + more).encode()


def event(
    event_type: EventType,
    method: str,
    *fields: Field,
    cseq: int = 1,
    body: bytes = b"",
    status: int = 0,
    reason: str = "",
    to_tag: str | None = KEY,
    extra_params: str | None = None,
) -> SessionEvent:
    """As parsed; header fields given here take the place of those that every request has."""
    names = {name.lower() for name, _ in fields}
    usual: tuple[Field, ...] = (
        ("Via", "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK9609227846;rport"),
        ("Max-Forwards", "69"),
        ("From", '"Probe" <sip:probe@192.0.2.9>;tag=f373d7cb'),
        ("To", "<sip:openai@192.0.2.5>" + (f";tag={to_tag}" if to_tag else "")),
        ("Call-ID", CALL_ID),
        ("CSeq", f"{cseq} {method}"),
        ("Contact", "<sip:probe@192.0.2.9:5060>"),
        *((("Content-Type", "application/sdp"),) if body else ()),
    )
    headers = Headers((*(field for field in usual if field[0].lower() not in names), *fields))
    return SessionEvent(KEY, event_type, "UAS", status, reason, method, headers, body, extra_params)


def invite(*fields: Field, body: bytes | None = None, extra_params: str | None = None) -> SessionEvent:
    """The NEW of a call; None: an offer of G.711."""
    body = sdp() if body is None else body
    return event("NEW", "INVITE", *fields, body=body, to_tag=None, extra_params=extra_params)


def request(method: str, *fields: Field, cseq: int = 2, body: bytes = b"") -> SessionEvent:
    """A request in the dialog."""
    return event("UPDATED", method, *fields, cseq=cseq, body=body)


def ack(cseq: int = 1, body: bytes = b"") -> SessionEvent:
    return request("ACK", cseq=cseq, body=body)


def ended(method: str) -> SessionEvent:
    return event("TERMINATED", method, cseq=9, to_tag=None if method == "CANCEL" else KEY)


def response(method: str, status: int, reason: str, *, cseq: int = 1) -> SessionEvent:
    """The final answer to a request of ours."""
    return event("ANSWERED" if status < 300 else "REJECTED", method, cseq=cseq, status=status, reason=reason)


def notify(line: str, state: str = "active;expires=60", event_name: str = "refer", cseq: int = 5) -> SessionEvent:
    fields = (("Event", event_name), ("Subscription-State", state), ("Content-Type", "message/sipfrag;version=2.0"))
    return request("NOTIFY", *fields, cseq=cseq, body=f"SIP/2.0 {line}\r\n".encode())


@attrs.define
class PaperCommands:
    """Notes commands and carries them out on paper.

    Attributes:
      told: "method SIP-method status", as far as a command has them.
      commands: the same as they came.
      refused: those that OpenSIPS refuses, as `told` names them.
      unanswered: those that are never answered.
      broken: those that meet a bug of ours.
      state: of the session in ua_session_list; None: it is gone.
      seconds: how long each takes.
    """

    told: list[str] = attrs.field(factory=list)
    commands: list[Command] = attrs.field(factory=list)
    refused: set[str] = attrs.field(factory=set)
    unanswered: set[str] = attrs.field(factory=set)
    broken: set[str] = attrs.field(factory=set)
    state: int | None = 5
    seconds: float = 0.001
    command_seconds: float = 3.5
    forgotten: list[str] = attrs.field(factory=list)

    async def perform(self, command: Command, seconds: float | None = None) -> object:
        params = command.params
        name = " ".join(str(part) for part in (command.method, params.get("method"), params.get("code")) if part)
        name = name.removeprefix("ua_session_")
        self.told.append(name)
        self.commands.append(command)
        if name in self.unanswered:
            await trio.sleep(self.command_seconds)
            raise MiUnanswered(command, "no answer")
        await trio.sleep(self.seconds)
        if name in self.broken:
            raise RuntimeError("a bug")
        if name in self.refused:
            raise MiRefused(command, 500, "Failed")
        if name == "list":
            return self._listed(command)
        return "OK"

    def _listed(self, command: Command) -> object:
        if self.state is None:
            raise MiRefused(command, 404, "Entity not found")
        return {"dlg": 500, "state": self.state, "ruri": "sip:openai@192.0.2.5", "callid": CALL_ID, "to_tag": KEY}

    def params(self, name: str) -> dict[str, Any]:
        """Of the last command of that name."""
        found = [command for told, command in zip(self.told, self.commands, strict=True) if told == name]
        return dict(found[-1].params)

    def fields(self, name: str) -> list[str]:
        """The header lines of it."""
        text = self.params(name).get("extra_headers", "")
        assert text == "" or text.endswith("\r\n")
        return str(text).split("\r\n")[:-1]


@attrs.define
class Session:
    """A leg, what it has told, and what it was told."""

    leg: SessionLeg
    paper: PaperCommands
    board: SessionBoard

    async def answer(self) -> None:
        """Answered and acknowledged."""
        await self.leg.answer(LOCAL)
        self.leg.take(ack())

    async def say(self, told: SessionEvent) -> None:
        """Tell an event, and let what follows from it happen."""
        self.leg.take(told)
        await settle()

    async def last_event(self) -> LegEvent | None:
        """The events to the end of the leg; the last of them."""
        last = None
        async for told in self.leg.events:
            last = told
        return last


async def settle() -> None:
    """Let every command that is not slow be carried out."""
    await trio.sleep(0.05)


@asynccontextmanager
async def open_board(paper: PaperCommands, **settings: Any) -> AsyncIterator[SessionBoard]:
    with trio.fail_after(600):
        async with trio.open_nursery() as tasks:
            forget: Callable[[str], None] = paper.forgotten.append
            sip = SipSettings(**settings)
            serve = dict[str, Served]().__setitem__
            yield SessionBoard(paper, tasks, sip, "off", True, random.Random(7), EVENTS, forget, serve)
            await settle()
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def open_session(new: SessionEvent | None = None, **settings: Any) -> AsyncIterator[Session]:
    """A session that is not answered yet."""
    paper = PaperCommands()
    async with open_board(paper, **settings) as board:
        leg = receive_session(board, new or invite())
        assert isinstance(leg, SessionLeg)
        yield Session(leg, paper, board)


async def refusal_of(new: SessionEvent, **settings: Any) -> Refusal:
    """How a session is refused."""
    async with open_board(PaperCommands(), **settings) as board:
        refusal = receive_session(board, new)
        assert isinstance(refusal, Refusal)
    return refusal
