"""What the test phone can do in a call: holds, updates, session timers, reliable ringing, SRTP, reports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc.testing import PhoneCall, ReceivedCall, SessionTimer, VirtualNetwork, open_phone, speech

URI = "sip:bob@192.0.2.2:5060"
DELAY = 0.005


@attrs.define(eq=False)
class Talk:
    """A call between two phones, from both of its sides."""

    caller: PhoneCall
    callee: ReceivedCall


@asynccontextmanager
async def open_talk(*, answering: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Talk]:
    VirtualNetwork(delay=DELAY).enable()
    with trio.fail_after(1000):
        async with (
            open_phone("192.0.2.9") as alice,
            open_phone("192.0.2.2", 5060, user="bob") as bob,
            bob.answering(**(answering or {})) as calls,
            alice.dial(URI, **options) as call,
        ):
            theirs = await calls.receive()
            await theirs.wait_answered()
            yield Talk(call, theirs)


async def test_a_reinvite_moves_the_audio(autojump_clock: MockClock) -> None:
    async with open_talk() as talk:
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as moved:
            await moved.bind(("192.0.2.9", 0))
            sdp = talk.caller.describe().replace(
                str(talk.caller.handset.socket.getsockname()[1]), str(moved.getsockname()[1])
            )
            assert (await talk.caller.reinvite(sdp)).status == 200
            assert talk.callee.remote_media == moved.getsockname()
            talk.callee.handset.say(speech(0.1))
            with trio.fail_after(1):
                await moved.recvfrom(2048)


async def test_holds_and_their_ends_are_answered_with_the_mirrored_direction(autojump_clock: MockClock) -> None:
    async with open_talk() as talk:
        assert b"a=recvonly" in (await talk.callee.hold()).body
        assert talk.caller.remote_direction == "sendonly"
        assert b"a=inactive" in (await talk.callee.hold("inactive")).body
        assert b"a=sendrecv" in (await talk.callee.resume()).body
        assert talk.caller.remote_direction == "sendrecv"
        await trio.sleep(10)
        assert len([request for request in talk.caller.requests if request.method == "INVITE"]) == 3
        assert len(talk.caller.acknowledgements) == 3


async def test_updates_carry_offers_or_nothing(autojump_clock: MockClock) -> None:
    async with open_talk() as talk:
        assert (await talk.caller.update()).body == b""
        response = await talk.caller.update(talk.caller.describe("sendonly"))
        assert b"a=recvonly" in response.body
        assert talk.callee.remote_direction == "sendonly"


async def test_a_phone_can_refuse_offers_for_a_while(autojump_clock: MockClock) -> None:
    async with open_talk() as talk:
        talk.callee.reoffer_status = 491
        assert (await talk.caller.reinvite(talk.caller.describe())).status == 491
        assert (await talk.caller.update(talk.caller.describe())).status == 491
        talk.callee.reoffer_status = 200
        assert (await talk.caller.reinvite(talk.caller.describe())).status == 200
        assert not talk.caller.is_over


async def test_offers_that_cross_are_glare(autojump_clock: MockClock) -> None:
    async with open_talk() as talk:
        statuses: list[int] = []

        async def hold(side: PhoneCall | ReceivedCall) -> None:
            statuses.append((await side.hold()).status)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, talk.caller)
            nursery.start_soon(hold, talk.callee)
        assert statuses == [491, 491]


# Session timers

SLOW: dict[str, Any] = {"answering": {"ptime_ms": 60}, "ptime_ms": 60}  # fewer packets in long calls


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
async def test_the_caller_refreshes(autojump_clock: MockClock, method: Literal["INVITE", "UPDATE"]) -> None:
    timer = SessionTimer(expires=90, refresher="uac", method=method)
    async with open_talk(**SLOW, session_timer=timer) as talk:
        answered_at = trio.current_time()
        request = await talk.callee.wait_request(method, 3)
        assert request.header("Session-Expires") == "90;refresher=uac"
        assert trio.current_time() - answered_at == pytest.approx(3 * 45, abs=0.1)
        assert talk.caller.timed is not None
        assert talk.caller.timed.ours


async def test_the_answering_phone_refreshes_when_it_is_chosen(autojump_clock: MockClock) -> None:
    timer = SessionTimer(expires=100)
    answering = {"session_timer": SessionTimer(refresher="uas"), "ptime_ms": 60}
    async with open_talk(answering=answering, ptime_ms=60, session_timer=timer) as talk:
        assert talk.caller.answered is not None
        assert talk.caller.answered.header("Session-Expires") == "100;refresher=uas"
        assert talk.caller.answered.header("Require") == "timer"
        await talk.caller.wait_request("UPDATE", 2)


async def test_a_phone_can_fail_to_refresh(autojump_clock: MockClock) -> None:
    async with open_talk(**SLOW, session_timer=SessionTimer(refresher="uac", refreshes=False)) as talk:
        await trio.sleep(200)
        assert talk.callee.requests == []


# Reliable ringing


async def test_a_reliable_180_is_acknowledged_once(autojump_clock: MockClock) -> None:
    async with open_talk(answering={"ring_seconds": 5.0, "reliable": True}, reliable="supported") as talk:
        (prack,) = talk.callee.pracks
        assert prack.header("RAck") == f"1 {talk.callee.invite.header('CSeq')}"
        assert [response.status for response in talk.caller.responses] == [180, 200]


async def test_a_prack_can_be_withheld(autojump_clock: MockClock) -> None:
    answering = {"ring_seconds": 5.0, "reliable": True}
    async with open_talk(answering=answering, reliable="required", prack=False) as talk:
        assert talk.callee.pracks == []
        assert [response.status for response in talk.caller.responses] == [180] * 4 + [200]  # at 0, 0.5, 1.5, 3.5


async def test_ringing_is_not_reliable_unless_the_caller_can(autojump_clock: MockClock) -> None:
    async with open_talk(answering={"reliable": True}) as talk:
        assert talk.caller.responses[0].headers.get("Require") is None


# Media


async def test_secure_calls_are_ciphered_both_ways(autojump_clock: MockClock) -> None:
    pytest.importorskip("pylibsrtp")
    suite = "AES_CM_128_HMAC_SHA1_32"
    async with open_talk(answering={"crypto": "AES_CM_128_HMAC_SHA1_80"}, crypto=suite) as talk:
        assert b"RTP/SAVP" in talk.callee.invite.body
        assert talk.callee.crypto == suite  # the offer's
        talk.caller.handset.say(speech(0.1))
        talk.callee.handset.say(speech(0.1, seed=1))
        await talk.caller.handset.wait_speech(0.3)
        assert talk.caller.handset.speech_heard() == speech(0.1, seed=1)
        assert talk.callee.handset.speech_heard() == speech(0.1)
        assert (await talk.caller.hold()).status == 200
        before = len(talk.callee.handset.heard)
        await trio.sleep(0.5)
        assert len(talk.callee.handset.heard) > before + 20
        assert talk.callee.handset.undeciphered == 0


@pytest.mark.parametrize("rtcp", ["port", "mux"])
async def test_reports_come_to_where_the_sdp_says(autojump_clock: MockClock, rtcp: Literal["port", "mux"]) -> None:
    async with open_talk(answering={"rtcp": rtcp}, rtcp=rtcp) as talk:
        await trio.sleep(1)
        await talk.caller.handset.send_report()
        await talk.callee.handset.send_report(jitter_ms=1.0)
        assert (await talk.callee.handset.wait_report()).kinds == (200, 202)
        received = (await talk.caller.handset.wait_report()).received
        assert received == (talk.caller.handset.ssrc, 0.0, 0, 8)
        shared = talk.callee.handset.rtcp_remote == talk.caller.handset.socket.getsockname()
        assert shared == (rtcp == "mux")
