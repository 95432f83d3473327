"""The sessions of one call at a real fake model, without a telephone: nothing moves the audio but the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio
from call_parts import Parts, parts

from aivc.config.settings import OpenAISettings
from aivc.nursery.causes import until_over
from aivc.nursery.ending import CallOver
from aivc.nursery.sessions import Session, Talk, keep_sessions, open_session
from aivc.nursery.uplink import Uplink
from aivc.realtime.connection import RealtimeSocket
from aivc.realtime.dialects import dialect_named
from aivc.testing import FakeModel, connect_to

NOON = 1_800_000_000.0  # seconds since 1970, when a session begins


@attrs.define(eq=False)
class Sessions:
    """A talk, and how it goes.

    Attributes:
      opened: when each session was ready.
      retired: when each was given up, and which.
      over: why there was an end of it, once `keep` has returned.
    """

    talk: Talk
    given: Parts
    model: FakeModel
    heard: Uplink
    opened: list[float] = attrs.field(factory=list)
    retired: list[tuple[float, RealtimeSocket]] = attrs.field(factory=list)
    over: CallOver | None = None
    over_at: float = 0.0

    async def keep(self, seconds: float = 100.0) -> None:
        """Open the first session and go on until the end, or for so long."""
        with trio.move_on_after(seconds):
            session = await self.talk.open_session()
            self.given.performer.turns.session_began()
            self.given.performer.begin()
            self.over = await until_over(partial(self._keep, session))
            self.over_at = trio.current_time()

    async def _keep(self, session: Session) -> None:
        leaving, performer = self.talk.leaving, self.given.performer
        async with trio.open_nursery() as nursery:
            nursery.start_soon(performer.alarm.ring, trio.Event())
            with leaving.heeded(nursery, performer, self.talk.openai.farewell_seconds):
                await keep_sessions(self.talk, session)

    async def happen(self, at: float, event: Callable[[], object]) -> None:
        """Task: do something so long after the first session was ready."""
        while not self.opened:  # noqa: ASYNC110 - a fake clock makes polling cheap
            await trio.sleep(0.001)
        await trio.sleep_until(self.opened[0] + at)
        event()


@asynccontextmanager
async def open_sessions(
    model: FakeModel, openai: OpenAISettings, *, hold: bytes = b"", wall_clock: Callable[[], float] = lambda: NOON
) -> AsyncIterator[Sessions]:
    given = parts(openai)
    with trio.fail_after(300):
        async with model, trio.open_nursery() as sockets:

            async def open_next() -> Session:
                socket = await connect_to(model)(sockets, openai)
                session = await open_session(socket, openai, "PCMU", (), (), wall_clock)
                made.opened.append(trio.current_time())
                return session

            def retire(socket: RealtimeSocket) -> None:
                made.retired.append((trio.current_time(), socket))
                sockets.start_soon(socket.close, openai.close_seconds)

            performer, uplink = given.performer, given.performer.uplink
            dialect = dialect_named(openai.dialect)
            talk = Talk(openai, dialect, performer, performer.leaving, uplink, given.outbox, hold, open_next, retire)
            made = Sessions(talk, given, model, uplink)
            yield made
            sockets.cancel_scope.cancel()
