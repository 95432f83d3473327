"""A user agent without a model: what telephones do with its signalling, and what it makes of theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from aivc.config.settings import SipSettings
from aivc.sip.leg import Leg
from aivc.sip.useragent import UserAgent, open_user_agent
from aivc.testing.handset import Handset
from interop.phone import DIALLED

HOST = "127.0.0.1"


@attrs.frozen
class Answered:
    """A call that was answered, and the ear that listens to it."""

    leg: Leg
    handset: Handset


@attrs.define(eq=False)
class Exchange:
    """Made by `open_exchange()`."""

    agent: UserAgent
    media: trio.socket.SocketType
    nursery: trio.Nursery

    @property
    def uri(self) -> str:
        host, port = self.agent.listening[0]
        return f"sip:{DIALLED}@{host}:{port}"

    async def answer(self) -> Answered:
        """Take the next call, and send silence to it."""
        leg = await self.agent.legs.receive()
        await leg.ring()
        await leg.answer(self.media.getsockname()[:2])
        agreement = leg.agreement
        handset = Handset(self.media, agreement.codec, telephone_event=agreement.telephone_event)
        self.nursery.start_soon(handset.listen)
        self.nursery.start_soon(handset.speak, agreement.remote)
        return Answered(leg, handset)


@asynccontextmanager
async def open_exchange() -> AsyncIterator[Exchange]:
    """Listen on a free port of 127.0.0.1 for the length of the block."""
    settings = SipSettings(listen=(f"udp:{HOST}:0",))
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as media:
        await media.bind((HOST, 0))
        async with open_user_agent(settings) as agent, trio.open_nursery() as nursery:
            yield Exchange(agent, media, nursery)
            nursery.cancel_scope.cancel()
