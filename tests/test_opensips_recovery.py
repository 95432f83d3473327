"""The OpenSIPS front end with the emulated OpenSIPS: lost events, restarts, several connectors. A raw phone calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio
from connector_parts import EVENTS, seeded
from sip_phone import PHONE, Phone, sdp
from trio.testing import MockClock

from aivc.config.settings import EngineSettings, OpenSipsSettings, SipSettings
from aivc.sip.leg import HungUp, Leg, SessionExpired
from aivc.sip.message import Request, Response
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
    async def connector(self, host: str = EVENTS[0], **settings: object) -> AsyncIterator[OpenSips]:
        ip, port = self.opensips.mi_address
        chosen = OpenSipsSettings(ip=ip, port=port, **settings)  # type: ignore[arg-type]
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


async def test_a_caller_whose_event_was_lost_hears_503(autojump_clock: MockClock) -> None:
    async with world() as found, found.connector(check_seconds=1):
        found.opensips.lose("event")
        await found.invite()
        assert await found.hear() == 503
        await found.opensips.wait_empty()


async def test_a_caller_who_calls_before_we_are_there_hears_503(autojump_clock: MockClock) -> None:
    async with world() as found:
        await found.invite()
        async with found.connector():
            assert await found.hear() == 503
            await found.opensips.wait_empty()


async def test_a_hang_up_whose_event_was_lost_is_found_out(autojump_clock: MockClock) -> None:
    async with world() as found, found.connector() as front_end:
        leg = await found.talk(front_end)
        found.opensips.lose("event", lambda event: event["event_type"] == "TERMINATED")
        assert await found.hear(found.phone.write("BYE", cseq=2)) == 200
        with trio.fail_after(20):
            assert isinstance(await leg.events.receive(), SessionExpired)
        assert front_end.statistics().lost == 1


async def test_a_hang_up_is_one_however_late_its_event_is(autojump_clock: MockClock) -> None:
    async with world() as found, found.connector(check_seconds=1) as front_end:
        leg = await found.talk(front_end)
        found.opensips.delay("event", 0.9)
        assert await found.hear(found.phone.write("BYE", cseq=2)) == 200
        assert await leg.events.receive() == HungUp()
        await trio.sleep(30)
        assert front_end.statistics().lost == 0


async def test_after_a_restart_of_opensips_calls_end_and_new_ones_come(autojump_clock: MockClock) -> None:
    async with world() as found, found.connector(subscription_seconds=30) as front_end:
        leg = await found.talk(front_end)
        await found.opensips.restart()
        with trio.fail_after(15):
            assert isinstance(await leg.events.receive(), SessionExpired)
        found.phone.call_id, found.phone.to_tag = "call-2", None
        await found.talk(front_end)
        assert front_end.statistics().lapses == 1


async def test_calls_of_a_killed_connector_are_hung_up_by_the_next(autojump_clock: MockClock) -> None:
    async with world() as found:
        async with found.connector() as front_end:
            await found.talk(front_end)
        async with found.connector(subscription_seconds=9) as front_end:
            request = await found.phone.receive()
            assert isinstance(request, Request)
            assert request.method == "BYE"
            assert front_end.statistics().orphans == 1


async def test_the_subscription_stands_while_a_third_of_all_datagrams_is_lost(autojump_clock: MockClock) -> None:
    async with world(loss=0.33) as found, found.connector():
        await found.opensips.wait_subscribed()
        began, missing = trio.current_time(), []
        for _ in range(300):
            await trio.sleep(1)
            missing += [trio.current_time() - began] * (not found.opensips.subscribers)
        assert missing == []


async def test_each_of_two_connectors_takes_the_calls_that_name_it(autojump_clock: MockClock) -> None:
    async with world() as found:
        one = found.connector(instance="one", check_seconds=1)
        two = found.connector("192.0.2.8", instance="two", check_seconds=1)
        found.opensips.extra_params = '{"instance": "two"}'
        async with one as first, two as second:
            await found.talk(second)
            assert await found.hear(found.phone.write("OPTIONS", cseq=2)) == 200
            await trio.sleep(60)
            assert (first.statistics().ignored, first.statistics().legs, second.statistics().legs) == (1, 0, 1)
            assert len(found.opensips.sessions) == 1
