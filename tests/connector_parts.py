"""The OpenSIPS front end on a virtual network, with OpenSIPS on paper at the other end."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
from paper_opensips import BEGAN, OPENSIPS, WORKER, PaperOpenSips, event, serve

from aivc.config.settings import Address, EngineSettings, OpenSipsSettings, SipSettings
from aivc.sip.leg import Leg
from aivc.sip.opensips import OpenSips, OpenSipsStatistics, open_opensips
from aivc.testing.network import VirtualNetwork

EVENTS: Address = ("192.0.2.7", 50_060)


@attrs.define(eq=False)
class Connector:
    opensips: PaperOpenSips
    front_end: OpenSips
    worker: trio.socket.SocketType

    async def send(self, data: bytes) -> None:
        """From a process of OpenSIPS, and give it time to be served."""
        await self.worker.sendto(data, self.front_end.event_address)
        await trio.sleep(0.01)

    async def call(self, key: str, state: int = 1) -> Leg:
        """A call that comes in, and the leg of it."""
        self.opensips.sessions[key] = state
        await self.send(event(key))
        with trio.fail_after(1):
            return await self.front_end.legs.receive()

    def waiting(self) -> int:
        """Legs that nobody has taken."""
        return self.front_end.legs.statistics().current_buffer_used

    def counts(self) -> OpenSipsStatistics:
        return self.front_end.statistics()


@asynccontextmanager
async def connector(
    opensips: PaperOpenSips | None = None, *, engine: EngineSettings | None = None, **settings: Any
) -> AsyncIterator[Connector]:
    """Subscribed unless OpenSIPS is down."""
    VirtualNetwork(host=EVENTS[0]).enable()
    opensips = opensips or PaperOpenSips()
    chosen = OpenSipsSettings(ip=OPENSIPS[0], port=OPENSIPS[1], **settings)
    engine = engine or EngineSettings(event_ip=EVENTS[0], event_port=EVENTS[1])
    worker = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await worker.bind(WORKER)
    with trio.fail_after(10_000), worker:
        opened = open_opensips(chosen, engine, SipSettings(), randomness=seeded(), wall_clock=lambda: BEGAN)
        async with serve(opensips), opened as front_end:
            await trio.sleep(0.1)
            yield Connector(opensips, front_end, worker)


def seeded() -> random.Random:
    return random.Random(1)
