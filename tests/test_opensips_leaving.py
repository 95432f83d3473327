"""The OpenSIPS front end ends: what becomes of the calls that are there, and of those that come meanwhile."""

from __future__ import annotations

import trio
from opensips_world import RTP, world
from sip_phone import Phone, sdp
from trio.testing import MockClock

from aivc.sip.message import Response


async def test_a_caller_whom_nobody_has_answered_hears_503_when_the_connector_ends(autojump_clock: MockClock) -> None:
    async with world() as found:
        async with found.connector() as front_end:
            await found.invite()
            leg = await front_end.legs.receive()
        assert await found.hear() == 503
        assert found.opensips.sessions == {}
        assert [event async for event in leg.events] == []


async def test_a_caller_who_comes_while_the_last_bye_is_on_its_way_hears_503(autojump_clock: MockClock) -> None:
    async with world() as found, trio.open_nursery() as nursery:
        async with found.connector() as front_end:
            leg = await found.talk(front_end)
            with trio.move_on_after(0.1):
                await leg.hang_up("the service is going down")
            assert (await found.phone.request()).method == "BYE"
            nursery.start_soon(call_again, found.phone)
        heard = [await found.phone.receive() for _ in range(6)]  # the BYE, too, and copies of either
        assert {message.status for message in heard if isinstance(message, Response)} == {100, 503}
        await trio.sleep(40)
        assert found.opensips.sessions == {}


async def call_again(phone: Phone) -> None:
    await trio.sleep(0.5)
    phone.call_id, phone.to_tag = "call-2", None
    await phone.send(phone.write("INVITE", sdp()))


async def test_a_call_that_is_hung_up_before_its_ack_is_over_when_the_connector_is(autojump_clock: MockClock) -> None:
    async with world() as found:
        async with found.connector() as front_end:
            await found.invite()
            leg = await front_end.legs.receive()
            await leg.answer(RTP)
            with trio.move_on_after(0.5):
                await leg.hang_up("the service is going down")
        assert found.opensips.told("ua_session_update")[0].params["method"] == "BYE"
        await trio.sleep(40)  # the phone does not answer it
        assert found.opensips.sessions == {}


async def test_the_connector_ends_as_soon_as_the_last_bye_is_answered(autojump_clock: MockClock) -> None:
    async with world() as found:
        async with found.connector() as front_end:
            leg = await found.talk(front_end)
            with trio.move_on_after(0.1):
                await leg.hang_up("the service is going down")
            await found.phone.reply(await found.phone.request())
            began = trio.current_time()
        assert trio.current_time() < began + 0.5
        assert (found.opensips.sessions, found.opensips.violations) == ({}, [])
