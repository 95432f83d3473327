"""Calls of ours through OpenSIPS when datagrams are lost: no telephone rings for ever, and nobody else's call ends."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc.config.settings import Address, EngineSettings, OpenSipsSettings, SipSettings
from aivc.sip.leg import Consultation, ConsultationFailed, HungUp, Leg
from aivc.sip.message import Headers
from aivc.sip.opensips import OpenSips, open_opensips
from aivc.sip.own_sessions import MAX_EVENTS, MAX_KEPT, MAX_KEYS, UNTOLD_SECONDS, OwnSessions
from aivc.sip.uasession import ListedSession, SessionEvent
from aivc.testing import FakeOpenSips, Phone, PhoneCall, ReceivedCall, VirtualNetwork, open_fake_opensips, open_phone

HOST = "192.0.2.1"
LOCAL: Address = (HOST, 40_002)
DESK = "sip:desk@192.0.2.30:5060"
BODY = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4 RTP/AVP 0\r\n"
CLICK_TO_DIAL = {
    "jsonrpc": "2.0",
    "id": "1",
    "method": "ua_session_client_start",
    "params": {
        "ruri": DESK,
        "to": DESK,
        "from": "sip:1000@192.0.2.1:5060",
        "socket": "udp:192.0.2.1:5060",
        "body": BODY,
        "content_type": "Content-Type: application/sdp\r\n",
        "flags": "abh",
    },
}


# The real front end, and the test OpenSIPS


@attrs.define
class World:
    opensips: FakeOpenSips
    front_end: OpenSips
    desk: Phone
    call: PhoneCall
    leg: Leg

    def ring(self, seconds: float = 0.0) -> Any:
        return self.desk.answering(ring_seconds=seconds)

    async def consult(self, seconds: float = 20.0) -> Consultation | ConsultationFailed:
        try:
            return await self.leg.consult(DESK, LOCAL, seconds)
        except ConsultationFailed as failed:
            return failed


@asynccontextmanager
async def open_world(delay: float = 0.0, **settings: Any) -> AsyncIterator[World]:
    """A caller who talks with us; at the end nothing is left in OpenSIPS, and nothing was done that it cannot bear."""
    VirtualNetwork(host=HOST, delay=delay).enable()
    chosen = OpenSipsSettings(ip=HOST, **settings)
    engine = EngineSettings(event_ip=HOST)
    with trio.fail_after(1000):
        async with (
            open_fake_opensips(HOST) as opensips,
            open_opensips(chosen, engine, SipSettings(), randomness=random.Random(1)) as front_end,
            open_phone("192.0.2.9") as phone,
            open_phone("192.0.2.30", 5060, user="desk", seed=1) as desk,
        ):
            await opensips.wait_subscribed()
            async with phone.ring(f"sip:1000@{HOST}:5060") as call:
                leg = await front_end.legs.receive()
                await leg.answer((HOST, 40_000))
                await call.wait_answer()
                yield World(opensips, front_end, desk, call, leg)
            await opensips.wait_empty()
            assert opensips.violations == []


def is_start(told: dict[str, Any]) -> bool:
    return told.get("method") == "ua_session_client_start"


def is_hang_up(told: dict[str, Any]) -> bool:
    return told.get("method") == "ua_session_update"


async def test_a_call_whose_key_is_not_told_is_ended_as_soon_as_it_is_heard_of(autojump_clock: MockClock) -> None:
    async with open_world(check_seconds=0) as world, world.ring(60.0) as calls:
        world.opensips.lose("answer", is_start)
        failed = await world.consult()
        assert isinstance(failed, ConsultationFailed)
        assert failed.text == "OpenSIPS does not say whether it calls: no answer"
        theirs = await calls.receive()
        with trio.fail_after(1.0):
            await theirs.wait_over()
        assert theirs.is_cancelled
        await trio.sleep(1.0)
        assert len(world.opensips.sessions) == 1


async def test_a_call_that_is_heard_of_only_when_it_is_answered_is_ended_then(autojump_clock: MockClock) -> None:
    async with open_world(check_seconds=0) as world, world.ring(10.0) as calls:
        world.opensips.lose("answer", is_start)
        world.opensips.lose("event", lambda told: told["event_type"] == "EARLY")
        assert isinstance(await world.consult(), ConsultationFailed)
        theirs = await calls.receive()
        await theirs.wait_hung_up()


async def test_a_call_that_is_not_heard_of_is_found_in_the_list(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.ring(60.0) as calls:
        world.opensips.lose("answer", is_start)
        world.opensips.lose("event", lambda told: told["entity_type"] == "UAC")
        assert isinstance(await world.consult(), ConsultationFailed)
        theirs = await calls.receive()
        with trio.fail_after(20.0):
            await theirs.wait_over()
        assert theirs.is_cancelled
        assert world.front_end.statistics().orphans == 1


async def test_a_start_that_is_lost_makes_no_call_and_no_trouble(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.ring(0.5) as calls:
        world.opensips.lose("command", is_start, times=1)
        assert isinstance(await world.consult(), ConsultationFailed)
        consultation = await world.consult()
        assert not isinstance(consultation, ConsultationFailed)
        theirs: ReceivedCall = await calls.receive()
        await trio.sleep(40.0)
        assert not theirs.is_over
        await consultation.hang_up("enough")
        await theirs.wait_hung_up()


async def test_a_call_that_opensips_was_not_told_to_end_is_ended_by_the_census(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_world() as world, world.ring(60.0) as calls:
        world.opensips.lose("command", is_hang_up)
        assert isinstance(await world.consult(5.1), ConsultationFailed)
        theirs = await calls.receive()
        await trio.sleep(4.0)
        assert not theirs.is_over
        world.opensips.heal()
        with trio.fail_after(20.0):
            await theirs.wait_over()
    assert [record.getMessage() for record in caplog.records].count("opensips.orphan") == 1


async def test_an_answer_that_is_not_told_is_no_answer(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.ring(0.5) as calls:
        world.opensips.lose("event", lambda told: told["event_type"] == "ANSWERED")
        failed = await world.consult(5.0)
        assert isinstance(failed, ConsultationFailed)
        theirs = await calls.receive()
        await theirs.wait_hung_up()


async def test_an_answer_that_crosses_the_end_of_our_waiting_is_hung_up_on(autojump_clock: MockClock) -> None:
    async with open_world(delay=0.1) as world, world.ring(5.0) as calls:
        began = trio.current_time()
        assert isinstance(await world.consult(5.1), ConsultationFailed)
        theirs = await calls.receive()
        await theirs.wait_hung_up()
        assert trio.current_time() - began < 10.0


async def test_a_hang_up_of_the_target_that_is_not_told_is_found_out(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.ring() as calls:
        consultation = await world.consult()
        assert not isinstance(consultation, ConsultationFailed)
        theirs = await calls.receive()
        world.opensips.lose("event", lambda told: told["event_type"] == "TERMINATED")
        await theirs.hang_up()
        with trio.fail_after(30.0):
            events = [event async for event in consultation.events]
        assert len(events) == 1
        world.opensips.heal()


async def test_calls_that_others_have_opensips_make_are_left_alone(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.ring(2.0) as calls:
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as other:
            await other.sendto(json.dumps(CLICK_TO_DIAL).encode(), world.opensips.mi_address)
            theirs = await calls.receive()
            assert isinstance(await world.consult(1.0), ConsultationFailed)
            await theirs.wait_answered()
            await trio.sleep(60.0)
            assert not theirs.is_over
            assert world.front_end.statistics().orphans == 0
            await theirs.hang_up()


async def test_a_start_that_was_not_answered_ends_no_call_of_others_with_the_same_parties(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.ring(2.0) as calls:
        world.opensips.lose("command", is_start, times=1)
        assert isinstance(await world.consult(), ConsultationFailed)
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as other:
            await other.sendto(json.dumps(CLICK_TO_DIAL).encode(), world.opensips.mi_address)
            theirs = await calls.receive()
            await theirs.wait_answered()
            await trio.sleep(60.0)
            assert not theirs.is_over
            await theirs.hang_up()


async def test_a_restart_of_opensips_ends_the_second_call_as_well(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.ring() as calls:
        consultation = await world.consult()
        assert not isinstance(consultation, ConsultationFailed)
        await calls.receive()
        await world.opensips.restart()
        events = [event async for event in consultation.events]
        assert len(events) == 1
        assert events != [HungUp()]


async def test_a_start_without_its_answer_is_waited_for_before_the_front_end_ends(autojump_clock: MockClock) -> None:
    VirtualNetwork(host=HOST).enable()
    chosen, engine = OpenSipsSettings(ip=HOST), EngineSettings(event_ip=HOST)
    with trio.fail_after(100):
        async with (
            open_fake_opensips(HOST) as opensips,
            open_phone("192.0.2.9") as phone,
            open_phone("192.0.2.30", 5060, user="desk", seed=1) as desk,
            desk.answering(ring_seconds=20.0) as calls,
        ):
            async with open_opensips(chosen, engine, SipSettings(), randomness=random.Random(1)) as front_end:
                await opensips.wait_subscribed()
                async with phone.ring(f"sip:1000@{HOST}:5060") as call:
                    leg = await front_end.legs.receive()
                    await leg.answer((HOST, 40_000))
                    await call.wait_answer()
                    opensips.delay("answer", 1.0, is_start)
                    with trio.move_on_after(0.3):
                        await leg.consult(DESK, LOCAL, 20.0)
            theirs = await calls.receive()
            await theirs.wait_over()
            assert theirs.is_cancelled
            await opensips.wait_empty()


# The record of them


def told(key: str, mark: str = f"{DESK};aivc=1", entity_type: Any = "UAC") -> SessionEvent:
    headers = Headers((("From", "<sip:1000@192.0.2.1>;tag=a"), ("To", f"<{mark}>;tag=b")))
    return SessionEvent(key, "EARLY", entity_type, 180, "Ringing", "INVITE", headers, None, None)


def listed(key: str) -> ListedSession:
    return ListedSession(key, 3, key, is_outgoing=True, callee=f"{DESK};aivc=1")


@attrs.define
class Taker:
    taken: list[str] = attrs.field(factory=list)

    def take(self, event: SessionEvent) -> None:
        self.taken.append(event.key)


def test_events_are_kept_only_while_a_start_is_not_answered() -> None:
    own, taker = OwnSessions(), Taker()
    assert not own.keep(told("a"))
    own.begin()
    assert own.keep(told("a"))
    assert own.keep(told("a"))
    assert not own.keep(told("b", entity_type="UAS"))
    own.told("a", taker)
    assert own.settle(1.0) == ()
    assert taker.taken == ["a", "a"]
    assert not own.keep(told("a"))


def test_no_more_is_kept_than_there_is_room_for() -> None:
    own, taker = OwnSessions(), Taker()
    own.begin()
    for _ in range(MAX_EVENTS + 5):
        assert own.keep(told("a"))
    for number in range(MAX_KEPT - 1):
        assert own.keep(told(f"b{number}"))
    assert not own.keep(told("c"))
    own.told("a", taker)
    assert len(taker.taken) == MAX_EVENTS


def test_sessions_of_a_start_that_was_not_answered_are_known_by_their_mark() -> None:
    own = OwnSessions()
    own.begin()
    own.keep(told("a"))
    own.keep(told("b", f"{DESK};aivc=2"))
    own.untold(f"{DESK};aivc=1", 1.0)
    assert own.settle(1.0) == ("a",)
    assert own.is_lost(told("c"), 2.0)
    assert own.is_ours(listed("c"), 2.0)
    assert not own.is_lost(told("c", f"{DESK};aivc=2"), 2.0)
    assert not own.is_lost(told("c", entity_type="UAS"), 2.0)
    assert not own.is_lost(attrs.evolve(told("c"), headers=None), 2.0)
    assert not own.is_lost(attrs.evolve(told("c"), headers=Headers()), 2.0)
    assert not own.is_lost(told("c"), 1.0 + UNTOLD_SECONDS)
    assert not own.is_ours(listed("c"), 1.0 + UNTOLD_SECONDS)


def test_as_long_as_another_start_is_not_answered_nothing_is_ended() -> None:
    own = OwnSessions()
    own.begin()
    own.untold(f"{DESK};aivc=1", 1.0)
    own.begin()
    assert own.settle(1.0) == ()
    assert own.keep(told("a"))
    assert not own.is_ours(listed("a"), 1.0)
    own.told("a", Taker())
    assert own.settle(1.0) == ()


def test_keys_that_were_told_are_known_until_they_are_forgotten_or_too_many() -> None:
    own = OwnSessions()
    own.told("a", Taker())
    own.told("b", Taker())
    assert own.is_ours(listed("a"), 1.0)
    assert not own.is_ours(attrs.evolve(listed("a"), is_outgoing=False), 1.0)
    own.forget("b")
    assert not own.is_ours(listed("b"), 1.0)
    for number in range(MAX_KEYS):
        own.told(f"c{number}", Taker())
    assert not own.is_ours(listed("a"), 1.0)
