"""A call of ours without an OpenSIPS: it is asked for by commands on paper, and answered by events that are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
from session_leg_parts import KEY, LOCAL, PaperCommands, ack, invite, open_board, sdp, settle

from aivc.sip.jsonrpc import Command
from aivc.sip.leg import Consultation, ConsultationFailed
from aivc.sip.message import Headers
from aivc.sip.mi import MiRefused
from aivc.sip.session_board import Session, SessionBoard
from aivc.sip.session_calling import SessionConsultation
from aivc.sip.session_leg import SessionLeg, receive_session
from aivc.sip.uasession import EventType, SessionEvent

OURS = "B2B.99.1234567.1795333300.7"
DESK = "sip:desk@192.0.2.30"
CONTACT = "sip:192.0.2.5:5060"  # of OpenSIPS
Field = tuple[str, str]


@attrs.define
class PaperStarts(PaperCommands):
    """And starts sessions.

    Attributes:
      contact: of OpenSIPS in the caller's session.
      non_local: it says that the socket is none of its own.
      start_seconds: how long a start takes.
      key: of the session.
    """

    contact: str = CONTACT
    non_local: bool = False
    start_seconds: float = 0.001
    key: object = OURS

    async def perform(self, command: Command, seconds: float | None = None) -> object:
        result = await PaperCommands.perform(self, command, seconds)
        if command.method == "ua_session_list" and isinstance(result, dict):
            return result | {"contact": {"caller": "sip:probe@192.0.2.9:5060", "callee": self.contact}}
        if command.method == "ua_session_client_start":
            await trio.sleep(self.start_seconds)
            if self.non_local and "socket" in command.params:
                raise MiRefused(command, 500, "Non-local socket specified")
            return self.key
        return result


def said(
    event_type: EventType, method: str, *fields: Field, status: int = 0, reason: str = "", body: bytes = b""
) -> SessionEvent:
    """An event of our call: an answer to our INVITE, or a request of who was called."""
    names = {name.lower() for name, _ in fields}
    parties = (("From", "<sip:openai@192.0.2.5>;tag=ours"), ("To", f"<{DESK}>;tag=desks"))
    usual: tuple[Field, ...] = (
        ("Via", "SIP/2.0/UDP 192.0.2.5:5060;branch=z9hG4bK1.2.0"),
        *(parties if status or method == "CANCEL" else (("From", parties[1][1]), ("To", parties[0][1]))),
        ("Call-ID", OURS),
        ("CSeq", f"2 {method}"),
        ("Contact", "<sip:desk@192.0.2.30:5070>"),
        *((("Content-Type", "application/sdp"),) if body else ()),
    )
    headers = Headers((*(field for field in usual if field[0].lower() not in names), *fields))
    return SessionEvent(OURS, event_type, "UAC", status, reason, method, headers, body, None)


def ringing() -> SessionEvent:
    return said("EARLY", "INVITE", status=180, reason="Ringing")


def answered(*fields: Field, body: bytes | None = None) -> SessionEvent:
    return said("ANSWERED", "INVITE", *fields, status=200, reason="OK", body=sdp(7000) if body is None else body)


def refused(status: int, reason: str) -> SessionEvent:
    return said("REJECTED", "INVITE", status=status, reason=reason)


@attrs.define
class Scene:
    """A caller's leg, and a call that is being made for them.

    Attributes:
      served: sessions of ours that get their events.
      outcome: of `consult`, when it is over.
    """

    leg: SessionLeg
    paper: PaperStarts
    board: SessionBoard
    served: dict[str, Session]
    tasks: trio.Nursery
    outcome: Consultation | ConsultationFailed | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def consult(self, uri: str = DESK, seconds: float = 20.0) -> None:
        """Begin, until OpenSIPS has told the key."""
        self.tasks.start_soon(self._consult, uri, seconds)
        await settle()

    async def _consult(self, uri: str, seconds: float) -> None:
        with self.scope:
            try:
                self.outcome = await self.leg.consult(uri, LOCAL, seconds)
            except ConsultationFailed as failed:
                self.outcome = failed

    async def say(self, event: SessionEvent) -> None:
        """As the front end does."""
        session = self.served.get(event.key)
        if session is not None:
            session.take(event)
        else:
            assert self.board.own.keep(event)
        await settle()

    @property
    def consultation(self) -> SessionConsultation:
        assert isinstance(self.outcome, SessionConsultation)
        return self.outcome

    @property
    def failure(self) -> tuple[int | None, str]:
        assert isinstance(self.outcome, ConsultationFailed)
        return self.outcome.status, self.outcome.text

    def commands_of(self, key: str) -> list[str]:
        """What was told of one session."""
        pairs = zip(self.paper.told, self.paper.commands, strict=True)
        return [told for told, command in pairs if command.params.get("key") == key and told != "list"]


@asynccontextmanager
async def open_scene(paper: PaperStarts | None = None, new: SessionEvent | None = None) -> AsyncIterator[Scene]:
    """A caller who is talking with us."""
    paper, served = paper or PaperStarts(), dict[str, Session]()
    async with open_board(paper) as plain, trio.open_nursery() as tasks:

        def forget(key: str) -> None:
            served.pop(key, None)
            paper.forgotten.append(key)

        board = attrs.evolve(plain, forget=forget, serve=served.__setitem__)
        leg = receive_session(board, new or invite())
        assert isinstance(leg, SessionLeg)
        served[KEY] = leg
        await leg.answer(LOCAL)
        leg.take(ack())
        yield Scene(leg, paper, board, served, tasks)
        await settle()
        tasks.cancel_scope.cancel()


async def begun(scene: Scene, **more: Any) -> SessionConsultation:
    """A consultation that was answered."""
    await scene.consult(**more)
    await scene.say(ringing())
    await scene.say(answered())
    return scene.consultation
