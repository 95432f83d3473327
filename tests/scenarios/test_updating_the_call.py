"""UPDATE in place of re-INVITE (RFC 3311), before and after the answer, and offers that cross each other on the way."""

from __future__ import annotations

from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.config.settings import Address
from aivc.sip.message import Response
from aivc.testing import CallTool, Faults, PhoneCall, Say, SessionTimer, decided, open_phone, speech
from aivc.testing.script import Context, Part
from aivc.testing.wording import ALLOW
from scenarios.conftest import Dialect
from scenarios.front_ends import FrontEndName
from scenarios.world import DELAY, World, open_world

HELLO: Final = speech(2.0, pitch_hz=210.0, seed=1)
QUESTION: Final = speech(0.4, seed=4)
ANSWER: Final = speech(0.7, pitch_hz=210.0, seed=3)
SLOW: Final = Faults(session_updated_seconds=2.0)  # so long it rings
FEW_SCHEDULES: Final = pytest.mark.parametrize("any_schedule", [0, 3, 6, 9, 12, 15], indirect=True)
WITHOUT_UPDATE: Final = ALLOW.replace("UPDATE, ", "")
REFRESHED_BY_US: Final = SessionTimer(expires=90, refresher="uas")
CROSSING: Final = pytest.mark.sip_only("refreshes of ours: behind OpenSIPS they are all the caller's")
OURS: Final = 45.0  # seconds after the answer: our refresh leaves
PATIENCE: Final = 4.0  # seconds: RFC 3261 section 14.1 has us wait up to 2 s after 491


def talk(context: Context) -> list[Part]:
    return [Say("Yes.", audio=ANSWER)] if context.turns else [Say("Hello.", audio=HELLO)]


async def until(call: PhoneCall, after_answer: float) -> None:
    assert call.answered_at is not None
    await trio.sleep_until(call.answered_at - DELAY + after_answer)


async def test_a_caller_holds_and_resumes_by_update(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(decided(talk), dialect=dialect, speed=100.0) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
            held = await call.update(call.describe("sendonly"))
            assert (held.status, held.header("Contact")) == (200, "<sip:192.0.2.1:5060>")
            assert b"a=recvonly" in held.body
            await trio.sleep(2 * DELAY)
            seen = len(call.handset.heard)
            await trio.sleep(5.0)
            assert len(call.handset.heard) == seen
            assert b"a=sendrecv" in (await call.update(call.describe())).body
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.3)
        assert call.handset.speech_heard() == HELLO
    assert world.record.cuts == ()
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_the_audio_moves_by_update(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(decided(talk), dialect=dialect) as world:
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as other:
            await other.bind((world.phone.address[0], 4444))
            async with world.dial() as call:
                await call.handset.wait_speech(0.5)
                own = call.handset.socket.getsockname()[1]
                moved = call.describe().replace(f"m=audio {own} ", "m=audio 4444 ")
                assert (await call.update(moved)).status == 200
                await trio.sleep(0.05)
                with trio.fail_after(0.1):
                    data, source = await other.recvfrom(2048)
                assert source == call.remote_media
                assert len(data) == 172
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_an_update_without_an_offer_changes_nothing(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(decided(talk), dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
            response = await call.update()
            assert (response.status, response.body) == (200, b"")
            assert response.headers.get("Content-Type") is None
            await call.handset.wait_silence(0.3)
        assert call.handset.speech_heard() == HELLO
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_an_update_that_cannot_be_taken_leaves_the_call_as_it_was(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(decided(talk), dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
            g722 = call.describe().replace("RTP/AVP 0", "RTP/AVP 9").replace("0 PCMU/8000", "9 G722/8000")
            assert (await call.update(g722)).status == 488
            assert (await call.update("v=0\r\nnonsense\r\n")).status == 400
            await call.handset.wait_silence(0.3)
        assert call.handset.speech_heard() == HELLO
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_before_the_answer_an_update_may_refresh_but_not_offer(
    autojump_clock: MockClock, dialect: Dialect, front_end: FrontEndName
) -> None:
    async with open_world(decided(talk), dialect=dialect, faults=SLOW) as world:
        async with world.ring(reliable="required" if front_end == "sip" else "off") as call:  # OpenSIPS has no PRACK
            while len(call.responses) < 2:  # noqa: ASYNC110 - the 180
                await trio.sleep(0.01)
            assert (await call.update()).status == 200
            early = await call.update(call.describe())
            assert early.status == 500  # RFC 3311 section 5.2: the offer of the INVITE has no answer yet
            assert 0 <= int(early.header("Retry-After")) <= 10
            await call.wait_answer()
            assert (await call.update(call.describe())).status == 200
        assert [response.status for response in call.responses] == [100, 180, 200]
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.sip_only("a new Contact: OpenSIPS stays with that of the INVITE")
async def test_the_new_contact_of_an_update_gets_the_bye(autojump_clock: MockClock, dialect: Dialect) -> None:
    def leave(context: Context) -> list[Part]:
        return [CallTool("terminate_call")] if context.turns else [Say("Hello.", audio=HELLO)]

    moved, at_moved = ("192.0.2.77", 5070), list[bytes]()

    def note(source: Address, to: Address, data: bytes) -> None:
        if to == moved:
            at_moved.append(data)

    async with open_world(decided(leave), dialect=dialect) as world:
        world.network.on_packet = note
        async with open_phone(*moved), world.dial() as call:
            await call.handset.wait_speech(0.1)
            message = call.request("UPDATE", call.next_cseq(), "z9hG4bKmoved")
            await call.send(message.replace(call.contact.encode(), b"<sip:bob@192.0.2.77:5070>"))
            call.handset.say(QUESTION)
            while world.service.calls:  # noqa: ASYNC110 - a fake clock makes polling cheap
                await trio.sleep(0.02)
            assert call.requests == []
    assert at_moved[0].startswith(b"BYE sip:bob@192.0.2.77:5070 SIP/2.0\r\n")
    assert world.record.ending is Ending.MODEL_HUNG_UP


# Offers that cross


async def refreshed(world: World, call: PhoneCall) -> None:
    """Until the end of the session would have come without any refresh."""
    await until(call, 70.0)
    assert call.hung_up_at is None
    assert world.service.calls == 1


@CROSSING
@FEW_SCHEDULES
@pytest.mark.parametrize("lead", [0.0, DELAY / 2, -DELAY / 2])
async def test_our_reinvite_and_the_callers_cross_and_both_are_made_again(
    autojump_clock: MockClock, dialect: Dialect, lead: float
) -> None:
    """Both are refused with 491; the caller, who owns the Call-ID, waits longer (RFC 3261 section 14.1)."""
    async with open_world(decided(talk), dialect=dialect) as world:
        async with world.dial(ptime_ms=60, session_timer=REFRESHED_BY_US, allow=WITHOUT_UPDATE) as call:
            await until(call, OURS + lead)
            refused = await call.reinvite(call.describe("sendonly"))
            assert refused.status == 491
            ours = await call.wait_request("INVITE", 2)
            assert trio.current_time() < (call.answered_at or 0.0) + OURS + 2.1
            assert ours.header("Session-Expires") == "90;refresher=uac"
            await until(call, OURS + PATIENCE)
            held = await call.reinvite(call.describe("sendonly"))
            assert (held.status, b"a=recvonly" in held.body) == (200, True)
            await refreshed(world, call)
        assert [request.method for request in call.requests] == ["INVITE", "INVITE"]
        assert len(call.acknowledgements) == 2  # of the 491 and of the 200
    assert world.record.ending is Ending.CALLER_HUNG_UP


@CROSSING
@FEW_SCHEDULES
async def test_our_refresh_by_update_crosses_the_callers_reinvite(autojump_clock: MockClock, dialect: Dialect) -> None:
    """It has no offer, so the caller's is taken; a caller who refuses ours with 491 all the same gets it again."""
    async with open_world(decided(talk), dialect=dialect) as world:
        async with world.dial(ptime_ms=60, session_timer=REFRESHED_BY_US) as call:
            await until(call, OURS)
            assert (await call.reinvite(call.describe("sendonly"))).status == 200
            await refreshed(world, call)
        assert {request.method for request in call.requests} <= {"UPDATE"}
    assert world.record.ending is Ending.CALLER_HUNG_UP


@CROSSING
@FEW_SCHEDULES
async def test_our_reinvite_crosses_the_callers_update(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with (
        open_world(decided(talk), dialect=dialect) as world,
        world.dial(ptime_ms=60, session_timer=REFRESHED_BY_US, allow=WITHOUT_UPDATE) as call,
    ):
        await until(call, OURS)
        assert (await call.update(call.describe("sendonly"))).status == 491  # RFC 3311 section 5.2
        assert (await call.update(call.describe("sendonly"))).status == 200
        await refreshed(world, call)
    assert world.record.ending is Ending.CALLER_HUNG_UP


@CROSSING
@FEW_SCHEDULES
async def test_a_caller_who_always_answers_491_is_asked_again_and_then_given_up(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(decided(talk), dialect=dialect) as world:
        async with world.dial(ptime_ms=60, session_timer=REFRESHED_BY_US, reoffer_status=491) as call:
            over_at = await call.wait_hung_up()
            assert over_at == pytest.approx((call.answered_at or 0.0) + 60.0)  # 90 s less a third
        assert len({request.cseq for request in call.requests if request.method == "UPDATE"}) >= 7
    assert world.record.ending is Ending.SESSION_EXPIRED
    assert world.record.detail == "refreshes fail: 491 to UPDATE"


async def test_a_reinvite_before_the_ack_of_the_first_is_for_later(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(decided(talk), dialect=dialect) as world, world.dial(acknowledge=False) as call:
        early: Response = await call.reinvite(call.describe("sendonly"))
        assert early.status == 500  # RFC 3261 section 14.2
        assert 0 <= int(early.header("Retry-After")) <= 10
        assert (await call.update(call.describe("sendonly"))).status == 200
    assert world.record.ending is Ending.CALLER_HUNG_UP
