"""The caller hands the call to somebody else, by Replaces (RFC 3891) or REFER: the model goes on with whoever comes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.config.settings import Codec
from aivc.testing import CallRefused, Phone, PhoneCall, Say, SessionTimer, decided, open_phone, speech
from aivc.testing.script import Context, Part
from aivc.testing.wording import media_address
from scenarios.conftest import Dialect
from scenarios.world import NUMBER, PHONE, RTP_PORT, SERVICE, changed, open_world

BOB: Final = "192.0.2.31"
BOBS: Final = f"sip:bob@{BOB}:5060"
HELLO: Final = speech(2.0, pitch_hz=210.0, seed=41)
ANSWER: Final = speech(0.6, pitch_hz=210.0, seed=42)
ALICES: Final = speech(0.4, seed=43)
BOBS_QUESTION: Final = speech(0.4, seed=44)
FOLLOWING: Final = changed(sip={"follow_refer": ("sip:bob@192[.]0[.]2[.]31:5060",)})
REPLACES: Final = pytest.mark.sip_only("Replaces: OpenSIPS lets no session take the place of another")
FOLLOWED: Final = pytest.mark.sip_only("a REFER that is followed: behind OpenSIPS it is declined")
FEW_SCHEDULES: Final = pytest.mark.parametrize("any_schedule", [0, 6, 11, 17], indirect=True)


def talk(context: Context) -> Sequence[Part]:
    return [Say("Yes.", audio=ANSWER)] if context.turns else [Say("Hello.", audio=HELLO)]


def open_bob(**more: Any) -> AbstractAsyncContextManager[Phone]:
    return open_phone(BOB, 5060, user="bob", seed=2, **more)


def methods(call: PhoneCall) -> list[str]:
    """Of the requests that came in the call, copies not counted."""
    return [request.method for request in {str(request.cseq): request for request in call.requests}.values()]


async def ask(call: Any, question: bytes) -> None:
    seen = len(call.handset.speech_heard())
    call.handset.say(question)
    await call.handset.wait_speech()
    await call.handset.wait_silence(0.4)
    assert call.handset.speech_heard()[seen:] == ANSWER


@REPLACES
async def test_bob_takes_the_place_of_alice_and_the_conversation_goes_on(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(decided(talk), dialect=dialect, speed=100.0) as world:
        async with open_bob() as bob, world.dial() as alices:
            await alices.handset.wait_speech(1.0)
            async with bob.dial(NUMBER, replaces=alices.replaces) as bobs:
                assert [response.status for response in bobs.responses] == [200]
                assert bobs.answered is not None
                assert media_address(bobs.answered.body.decode()) == (SERVICE, RTP_PORT)
                assert await alices.wait_hung_up() == pytest.approx(bobs.answered_at or 0.0)
                assert alices.requests[-1].header("Reason") == 'SIP;cause=200;text="replaced by another call"'
                alices.handset.muted = True
                await bobs.handset.wait_silence(0.5)
                both = alices.handset.speech_heard() + bobs.handset.speech_heard()
                lost = len(HELLO) - len(both)
                assert 0 <= lost <= 480  # on the way to alice when she hung up
                assert both[: 8000 - 480] == HELLO[: 8000 - 480]
                assert HELLO.endswith(bobs.handset.speech_heard())
                assert {(packet.ssrc, packet.source) for packet in bobs.handset.heard} == {
                    (alices.handset.heard[0].ssrc, (SERVICE, RTP_PORT))
                }
                seen = len(alices.handset.heard)
                await ask(bobs, BOBS_QUESTION)
                assert len(alices.handset.heard) == seen
                steps = {(later.sequence - one.sequence) % 2**16 for one, later in pairwise(bobs.handset.heard)}
                assert steps == {1}
            assert bobs.hung_up_at is None
        assert methods(alices) == ["BYE"]
        assert len(world.model.sessions) == 1
        assert BOBS_QUESTION in world.session.received_audio
        assert world.session.received("conversation.item.truncate") == []
    record = world.record
    assert record.ending is Ending.CALLER_HUNG_UP
    assert record.call_id == alices.call_id
    assert record.caller == f"sip:alice@{PHONE}"


@REPLACES
async def test_the_call_may_be_handed_on_again_and_back(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(decided(talk), dialect=dialect) as world:
        async with open_bob() as bob, world.dial() as first:
            await first.handset.wait_speech()
            await first.handset.wait_silence(0.5)
            await ask(first, ALICES)
            async with bob.dial(NUMBER, replaces=first.replaces) as second:
                await ask(second, BOBS_QUESTION)
                async with world.dial(replaces=second.replaces) as third:
                    await ask(third, ALICES)
                assert methods(second) == ["BYE"]
        assert len(world.session.received("response.create")) == 1  # turn detection made the others
    assert world.record.ending is Ending.CALLER_HUNG_UP


@REPLACES
async def test_a_held_call_goes_on_when_it_is_handed_over(autojump_clock: MockClock, dialect: Dialect) -> None:
    """As a telephone does that transfers: it holds, and then somebody else comes."""
    async with (
        open_world(decided(talk), dialect=dialect, speed=100.0) as world,
        open_bob() as bob,
        world.dial() as alices,
    ):
        await alices.handset.wait_speech(1.0)
        await alices.hold()
        await trio.sleep(3.0)
        before = alices.handset.speech_heard()
        async with bob.dial(NUMBER, replaces=alices.replaces) as bobs:
            await bobs.handset.wait_silence(0.5)
            assert before + bobs.handset.speech_heard() == HELLO
            await ask(bobs, BOBS_QUESTION)
    assert world.record.ending is Ending.CALLER_HUNG_UP


@REPLACES
async def test_bob_with_another_codec_or_a_call_that_is_over_gets_nothing(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async def refused(bob: Phone, replaces: str, codec: Codec = "PCMU") -> int:
        with pytest.raises(CallRefused) as caught:
            async with bob.dial(NUMBER, codec=codec, replaces=replaces):
                pass
        return caught.value.response.status

    async with open_world(decided(talk), dialect=dialect) as world, open_bob() as bob:
        async with world.dial() as alices:
            await alices.handset.wait_speech(0.1)
            assert await refused(bob, alices.replaces, "PCMA") == 488
            assert await refused(bob, alices.replaces + ";early-only") == 486
            assert await refused(bob, alices.replaces.replace(";to-tag=", ";to-tag=x")) == 481
            await alices.handset.wait_silence(0.5)
            assert alices.handset.speech_heard() == HELLO
            assert alices.hung_up_at is None
        assert await refused(bob, alices.replaces) == 603
    assert world.record.ending is Ending.CALLER_HUNG_UP


@REPLACES
@FEW_SCHEDULES
async def test_bobs_call_has_its_own_session_timer(autojump_clock: MockClock, dialect: Dialect) -> None:
    timer = SessionTimer(expires=90, refresher="uac", refreshes=False)
    async with (
        open_world(decided(talk), dialect=dialect) as world,
        open_bob() as bob,
        world.dial(ptime_ms=60) as alices,
    ):
        await alices.handset.wait_speech(0.1)
        async with bob.dial(NUMBER, ptime_ms=60, replaces=alices.replaces, session_timer=timer) as bobs:
            assert await bobs.wait_hung_up() == pytest.approx((bobs.answered_at or 0.0) + 60.0)
    assert world.record.ending is Ending.SESSION_EXPIRED


@REPLACES
async def test_of_alice_and_bob_who_hang_up_together_the_call_is_over_once(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(decided(talk), dialect=dialect) as world, open_bob() as bob, world.dial() as alices:
        await alices.handset.wait_speech(0.1)
        async with bob.dial(NUMBER, replaces=alices.replaces):
            await alices.hang_up()
    assert world.record.ending is Ending.CALLER_HUNG_UP


# REFER


async def test_a_refer_is_declined_unless_the_settings_allow_it(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(decided(talk), dialect=dialect) as world:
        async with open_bob() as bob, bob.answering() as calls, world.dial() as call:
            await call.handset.wait_speech(0.1)
            assert (await call.ask_transfer(BOBS)).status == 603
            await call.handset.wait_silence(0.5)
            assert call.notified == []
            assert calls.statistics().current_buffer_used == 0
        assert call.handset.speech_heard() == HELLO
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.parametrize("target", ["sip:eve@192.0.2.31:5060", "sip:bob@192.0.2.66", "tel:+15551234", BOBS + "0"])
async def test_a_refer_elsewhere_than_the_settings_allow_is_declined(autojump_clock: MockClock, target: str) -> None:
    async with open_world(decided(talk), settings=FOLLOWING) as world, world.dial() as call:
        assert (await call.ask_transfer(target)).status == 603
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FOLLOWED
async def test_we_call_bob_because_alice_asks_for_it(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(decided(talk), settings=FOLLOWING, dialect=dialect, speed=100.0) as world:
        async with open_bob() as bob, bob.answering(ring_seconds=1.0) as calls, world.dial() as call:
            await call.handset.wait_speech(0.5)
            response = await call.ask_transfer(BOBS)
            assert (response.status, response.header("Contact")) == (202, "<sip:192.0.2.1:5060>")
            bobs = await calls.receive()
            assert bobs.invite.header("Referred-By") == f"<sip:alice@{PHONE}>"
            await bobs.wait_answered()
            assert await call.wait_notified(2) == ["100 Trying", "200 OK"]
            states = [each.header("Subscription-State").split(";")[0] for each in notifies(call)]
            assert states == ["active", "terminated"]
            await call.wait_hung_up()
            assert media_address(bobs.invite.body.decode()) == (SERVICE, RTP_PORT)
            await bobs.handset.wait_silence(0.5)
            assert HELLO.endswith(bobs.handset.speech_heard())
            assert len(call.handset.speech_heard()) + len(bobs.handset.speech_heard()) >= len(HELLO) - 480
            await ask(bobs, BOBS_QUESTION)
            assert not bobs.is_over
        assert methods(call) == ["NOTIFY", "NOTIFY", "BYE"]
        assert len(world.model.sessions) == 1
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.call_id == call.call_id


def notifies(call: PhoneCall) -> list[Any]:
    return list({request.cseq.number: request for request in call.requests if request.method == "NOTIFY"}.values())


@FOLLOWED
@pytest.mark.parametrize("status", [486, 603, 404])
async def test_when_bob_refuses_alice_is_told_and_keeps_the_model(
    autojump_clock: MockClock, dialect: Dialect, status: int
) -> None:
    async with (
        open_world(decided(talk), settings=FOLLOWING, dialect=dialect) as world,
        open_bob() as bob,
        bob.answering(status=status) as calls,
        world.dial() as call,
    ):
        await call.handset.wait_speech(0.5)
        assert (await call.ask_transfer(BOBS)).status == 202
        told = await call.wait_notified(2)
        assert told[0] == "100 Trying"
        assert told[1].startswith(f"{status} ")
        assert notifies(call)[-1].header("Subscription-State").startswith("terminated")
        await call.handset.wait_silence(0.5)
        assert call.handset.speech_heard() == HELLO
        await ask(call, ALICES)
        assert calls.statistics().current_buffer_used == 1
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FOLLOWED
async def test_alice_may_hang_up_as_soon_as_her_refer_is_accepted(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with (
        open_world(decided(talk), settings=FOLLOWING, dialect=dialect) as world,
        open_bob() as bob,
        bob.answering(ring_seconds=2.0) as calls,
        world.dial() as call,
    ):
        await call.handset.wait_speech(0.5)
        await call.ask_transfer(BOBS)
        await call.hang_up()
        bobs = await calls.receive()
        await bobs.wait_answered()
        await bobs.handset.wait_silence(1.0)
        await ask(bobs, BOBS_QUESTION)
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FOLLOWED
async def test_a_call_whose_caller_has_gone_and_whose_target_refuses_is_over(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with (
        open_world(decided(talk), settings=FOLLOWING, dialect=dialect) as world,
        open_bob() as bob,
        bob.answering(ring_seconds=2.0, status=486),
        world.dial() as call,
    ):
        await call.handset.wait_speech(0.5)
        await call.ask_transfer(BOBS)
        await call.hang_up()
        over_at = trio.current_time() + 2.0
        while world.service.calls:  # noqa: ASYNC110 - a fake clock makes polling cheap
            await trio.sleep(0.02)
        assert trio.current_time() == pytest.approx(over_at, abs=0.1)
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FOLLOWED
async def test_alice_connects_us_with_bob_whom_she_talks_to(autojump_clock: MockClock, dialect: Dialect) -> None:
    """An attended transfer by the caller: REFER with Replaces."""
    async with (
        open_world(decided(talk), settings=FOLLOWING, dialect=dialect, speed=100.0) as world,
        open_bob() as bob,
        bob.answering() as calls,
        world.dial() as call,
    ):
        await call.handset.wait_speech(0.5)
        await call.hold()
        async with world.phone.dial(BOBS) as consultation:
            first = await calls.receive()
            await trio.sleep(1.0)
            assert (await call.ask_transfer(BOBS, replaces=consultation.replaces)).status == 202
            joined = await calls.receive()
            assert joined.invite.header("Replaces") == consultation.replaces
            await consultation.wait_hung_up()
            assert first.replaced_by is joined
            assert await call.wait_notified(2) == ["100 Trying", "200 OK"]
            await call.wait_hung_up()
            await joined.handset.wait_silence(0.5)
            assert call.handset.speech_heard() + joined.handset.speech_heard() == HELLO
            await ask(joined, BOBS_QUESTION)
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FOLLOWED
async def test_a_replaces_that_bob_does_not_know_is_told_and_the_call_goes_on(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with (
        open_world(decided(talk), settings=FOLLOWING, dialect=dialect) as world,
        open_bob() as bob,
        bob.answering(),
        world.dial() as call,
    ):
        await call.handset.wait_speech(0.1)
        await call.ask_transfer(BOBS, replaces="nobody;to-tag=a;from-tag=b")
        assert (await call.wait_notified(2))[1].startswith("481 ")
        await call.handset.wait_silence(0.5)
        await ask(call, ALICES)
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FOLLOWED
async def test_a_second_refer_is_for_later(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with (
        open_world(decided(talk), settings=FOLLOWING, dialect=dialect) as world,
        open_bob() as bob,
        bob.answering(ring_seconds=3.0, status=486),
        world.dial() as call,
    ):
        assert (await call.ask_transfer(BOBS)).status == 202
        again = await call.ask_transfer(BOBS)
        assert (again.status, 0 <= int(again.header("Retry-After")) <= 10) == (500, True)
        await call.wait_notified(2)
        assert (await call.ask_transfer(BOBS)).status == 202
        await call.wait_notified(4)
    assert world.record.ending is Ending.CALLER_HUNG_UP
