"""The OpenSIPS front end with the emulated OpenSIPS, which a raw phone calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
from connector_parts import EVENTS, seeded
from sip_phone import PHONE, Phone, sdp

from aivc.config.settings import EngineSettings, OpenSipsSettings, SipSettings
from aivc.sip.leg import Leg
from aivc.sip.message import Response
from aivc.sip.opensips import OpenSips, open_opensips
from aivc.testing.network import VirtualNetwork
from aivc.testing.opensips import FakeOpenSips, open_fake_opensips

RTP = (EVENTS[0], 40_000)


@attrs.define(eq=False)
class World:
    network: VirtualNetwork
    opensips: FakeOpenSips
    phone: Phone

    @asynccontextmanager
    async def connector(self, host: str = EVENTS[0], **settings: Any) -> AsyncIterator[OpenSips]:
        ip, port = self.opensips.mi_address
        chosen = OpenSipsSettings(ip=ip, port=port, **settings)
        engine = EngineSettings(event_ip=host, event_port=EVENTS[1])
        async with open_opensips(chosen, engine, SipSettings(), randomness=seeded()) as front_end:
            await trio.sleep(0.1)
            yield front_end

    async def invite(self) -> None:
        """Call, and hear 100."""
        assert await self.hear(self.phone.write("INVITE", sdp())) == 100

    async def hear(self, sent: bytes | None = None) -> int:
        """The status of the next response."""
        if sent is not None:
            await self.phone.send(sent)
        found = await self.phone.receive()
        assert isinstance(found, Response)
        return found.status

    async def talk(self, front_end: OpenSips) -> Leg:
        """A call that is answered and acknowledged."""
        await self.invite()
        leg = await front_end.legs.receive()
        await leg.answer(RTP)
        answer = await self.phone.receive()
        assert isinstance(answer, Response)
        assert answer.status == 200
        self.phone.to_tag = answer.to.tag
        await self.phone.send(self.phone.write("ACK"))
        await trio.sleep(0.1)
        return leg


@asynccontextmanager
async def world(loss: float = 0.0) -> AsyncIterator[World]:
    network = VirtualNetwork(seed=3, loss=loss).enable()
    with trio.fail_after(600):
        async with open_fake_opensips() as opensips:
            socket = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
            await socket.bind(PHONE)
            with socket:
                yield World(network, opensips, Phone(socket, server=opensips.sip_address))
