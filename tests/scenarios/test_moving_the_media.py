"""A phone that holds, resumes, moves its audio, or says from the start that it cannot be spoken to."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.testing import PhoneCall, Say, scripted, speech
from scenarios.conftest import Dialect
from scenarios.world import PHONE, changed, open_world

ANSWER = speech(1.0, pitch_hz=210.0, seed=2)


def offer(call: PhoneCall, *lines: str, port: int | None = None) -> str:
    """What the phone describes now: its own address unless another port is given."""
    port = port or call.handset.socket.getsockname()[1]
    head = f"v=0\r\no=- 1 {port} IN IP4 {PHONE}\r\ns=-\r\nc=IN IP4 {PHONE}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
    return head + "".join(f"{line}\r\n" for line in lines)


async def test_a_caller_on_hold_hears_nothing_and_the_answer_goes_on_afterwards(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = changed(service={"max_call_seconds": 4.0})
    async with open_world(scripted([[Say("Hello.", audio=ANSWER)]]), settings=settings, dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.49)
            held = await call.reinvite(offer(call, "a=sendonly"))
            assert b"a=recvonly" in held.body
            await trio.sleep(0.1)
            before = len(call.handset.heard)
            await trio.sleep(1.0)
            assert len(call.handset.heard) == before
            resumed = await call.reinvite(offer(call, "a=sendrecv"))
            assert b"a=sendrecv" in resumed.body
            await call.wait_hung_up()
        last, first, *_ = call.handset.heard[before - 1 :]
        assert first.marker  # after a gap, RFC 3551 section 4.1
        assert first.sequence == (last.sequence + 1) % 2**16
        assert first.rtp_timestamp - last.rtp_timestamp > 8000
        assert call.handset.speech_heard() == ANSWER


async def test_a_caller_who_holds_for_long_and_sends_nothing_is_not_hung_up_on(autojump_clock: MockClock) -> None:
    settings = changed(rtp={"timeout_seconds": 2.0})
    hello = scripted([[Say("Hello.", seconds=0.5)]])
    async with open_world(hello, settings=settings) as world, world.dial() as call:
        await call.handset.wait_speech()
        call.handset.muted = True
        await call.reinvite(offer(call, "a=inactive"))
        await trio.sleep(10.0)
        assert call.hung_up_at is None
        await call.reinvite(offer(call, "a=sendrecv"))
        resumed_at = trio.current_time()
        hung_up_at = await call.wait_hung_up()  # now it should speak, and does not
        assert hung_up_at - resumed_at == pytest.approx(2.0, abs=0.05)
    assert world.record.ending is Ending.MEDIA_TIMEOUT


async def test_audio_follows_the_phone_to_its_new_port_at_once(autojump_clock: MockClock) -> None:
    async with open_world(scripted([[Say("Hello.", seconds=3.0)]])) as world, world.dial() as call:
        await call.handset.wait_speech(0.5)
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as elsewhere:
            await elsewhere.bind((PHONE, 0))
            await call.reinvite(offer(call, port=elsewhere.getsockname()[1]))
            left = len(call.handset.heard)  # the old port goes on speaking for a while, and hears no more
            with trio.fail_after(0.1):
                await elsewhere.recvfrom(2048)
            await trio.sleep(0.5)
            assert len(call.handset.heard) <= left + 1


async def test_a_reinvite_that_cannot_be_accepted_leaves_the_call_as_it_was(autojump_clock: MockClock) -> None:
    async with open_world(scripted([[Say("Hello.", audio=ANSWER)]])) as world, world.dial() as call:
        refused = await call.reinvite(offer(call).replace("RTP/AVP 0", "RTP/AVP 18"))
        assert refused.status == 488
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.2)
        assert call.handset.speech_heard() == ANSWER
