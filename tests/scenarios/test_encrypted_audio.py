"""Calls with SRTP, keys in the SDP (RFC 3711, RFC 4568): wanted, required, refused, and all through a call."""

from __future__ import annotations

import re
from typing import Final, get_args

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.config.settings import Address
from aivc.testing import CallRefused, Say, decided, open_phone, speech
from aivc.testing.script import Context, Part
from aivc.testing.wording import Suite, read_description
from scenarios.conftest import Dialect
from scenarios.world import NUMBER, PHONE, RTP_PORT, SERVICE, changed, open_world

pytest.importorskip("pylibsrtp", reason="the extra `srtp`")

HELLO: Final = speech(1.0, pitch_hz=210.0, seed=51)
ANSWER: Final = speech(0.6, pitch_hz=210.0, seed=52)
QUESTION: Final = speech(0.4, seed=53)
OPTIONAL: Final = changed(rtp={"srtp": "optional"})
REQUIRED: Final = changed(rtp={"srtp": "required"})
SUITES: Final = pytest.mark.parametrize("suite", get_args(Suite))
DEFAULT: Final[Suite] = "AES_CM_128_HMAC_SHA1_80"


def talk(context: Context) -> list[Part]:
    return [Say("Yes.", audio=ANSWER)] if context.turns else [Say("Hello.", audio=HELLO)]


class Wire:
    """What a listener on the line gets of the media."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []

    def note(self, source: Address, to: Address, data: bytes) -> None:
        if source[1] != 5060 and to[1] != 5060:
            self.packets.append(data)

    def hears(self, speech: bytes) -> bool:
        return any(speech[:160] in packet for packet in self.packets)


@SUITES
@pytest.mark.parametrize("policy", ["optional", "required"])
async def test_both_directions_are_encrypted(
    autojump_clock: MockClock, dialect: Dialect, suite: Suite, policy: str
) -> None:
    wire = Wire()
    async with open_world(decided(talk), settings=changed(rtp={"srtp": policy}), dialect=dialect) as world:
        world.network.on_packet = wire.note
        async with world.dial(crypto=suite, rtcp="port") as call:
            assert call.answered is not None
            heard = read_description(call.answered.body.decode())
            assert (heard.profile, heard.crypto is not None and heard.crypto[1]) == ("RTP/SAVP", suite)
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.4)
            call.handset.say(QUESTION)
            await call.handset.wait_speech()
            await call.handset.wait_report()
            await call.handset.send_report(jitter_ms=2.0)
            await call.handset.wait_silence(0.4)
        assert call.handset.speech_heard() == HELLO + ANSWER
        assert call.handset.undeciphered <= 1  # which came together with the 200
        assert QUESTION in world.session.received_audio
        assert not wire.hears(HELLO)
        assert not wire.hears(QUESTION)
        tag = 10 if suite.endswith("80") else 4
        assert {len(packet) for packet in wire.packets if packet[1] & 0x7F == 0} == {172 + tag}
    record = world.record
    assert record.ending is Ending.CALLER_HUNG_UP
    assert record.rtp.malformed == 0
    assert record.quality is not None
    assert (record.quality.reports_received, record.quality.remote_jitter_ms) == (1, 2.0)


async def test_a_caller_without_keys_is_served_where_they_are_optional(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(decided(talk), settings=OPTIONAL, dialect=dialect) as world:
        async with world.dial() as call:
            assert call.answered is not None
            assert b"RTP/AVP" in call.answered.body
            assert b"a=crypto" not in call.answered.body
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.4)
        assert call.handset.speech_heard() == HELLO
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.parametrize(
    ("policy", "suite"), [("required", None), ("off", DEFAULT)], ids=["none though required", "some though off"]
)
async def test_an_offer_that_does_not_fit_is_refused_before_anything_is_spent(
    autojump_clock: MockClock, policy: str, suite: Suite | None
) -> None:
    async with open_world(decided(talk), settings=changed(rtp={"srtp": policy}), calls=0) as world:
        with pytest.raises(CallRefused) as caught:
            async with world.dial(crypto=suite):
                pass
        assert caught.value.response.status == 488
        refused = caught.value.response.headers
        assert (refused.get("Warning") or "").startswith("30")
        told = ('SIP;cause=488;text="media_not_acceptable: no audio that both can do"', "Q.850;cause=65")
        assert tuple(refused.lines("Reason")) == told
        assert world.model.sessions == []
        assert world.media_sockets() == []


async def test_a_packet_that_nobody_of_the_call_has_sent_is_not_heard(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(decided(talk), settings=REQUIRED, dialect=dialect) as world:
        async with world.dial(crypto=DEFAULT) as call:
            await call.handset.wait_speech(0.1)
            clear = call.handset._packet(0, speech(0.02, seed=77), marker=False)
            for _ in range(20):
                await call.handset.socket.sendto(clear, (SERVICE, RTP_PORT))
            await call.handset.wait_silence(0.4)
        assert speech(0.02, seed=77) not in world.session.received_audio
    assert world.record.ending is Ending.CALLER_HUNG_UP


@SUITES
async def test_hold_resume_and_a_refresh_keep_the_keys(
    autojump_clock: MockClock, dialect: Dialect, suite: Suite
) -> None:
    async with open_world(decided(talk), settings=REQUIRED, dialect=dialect, speed=100.0) as world:
        async with world.dial(crypto=suite) as call:
            await call.handset.wait_speech(0.3)
            await call.hold()
            await trio.sleep(1.0)
            await call.resume()
            await call.handset.wait_speech()
            assert (await call.update(call.describe())).status == 200
            await call.handset.wait_silence(0.4)
            call.handset.say(QUESTION)
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.4)
        assert call.handset.speech_heard() == HELLO + ANSWER
        assert call.handset.undeciphered <= 1  # which came together with the 200
        assert QUESTION in world.session.received_audio
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_an_offer_without_keys_in_an_encrypted_call_is_refused_and_the_call_goes_on(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(decided(talk), settings=REQUIRED, dialect=dialect) as world:
        async with world.dial(crypto=DEFAULT) as call:
            await call.handset.wait_speech(0.1)
            clear = re.sub(r"a=crypto:.*\r\n", "", call.describe()).replace("RTP/SAVP", "RTP/AVP")
            assert (await call.reinvite(clear)).status == 488
            await call.handset.wait_silence(0.4)
        assert call.handset.speech_heard() == HELLO
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_late_offer_has_our_keys(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(decided(talk), settings=REQUIRED, dialect=dialect) as world:
        async with world.dial(crypto=DEFAULT, late_offer=True) as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.4)
            call.handset.say(QUESTION)
            await call.handset.wait_said()
            await trio.sleep(0.1)
        assert call.handset.speech_heard() == HELLO
        assert QUESTION in world.session.received_audio
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.sip_only("Replaces: OpenSIPS lets no session take the place of another")
async def test_who_takes_an_encrypted_call_over_brings_keys_of_their_own(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(decided(talk), settings=REQUIRED, dialect=dialect, speed=100.0) as world:
        async with open_phone("192.0.2.31", 5060, user="bob", seed=2) as bob, world.dial(crypto=DEFAULT) as alices:
            await alices.handset.wait_speech(0.5)
            async with bob.dial(NUMBER, replaces=alices.replaces, crypto="AES_CM_128_HMAC_SHA1_32") as bobs:
                await bobs.handset.wait_silence(0.4)
                assert HELLO.endswith(bobs.handset.speech_heard())
                assert len(bobs.handset.speech_heard()) > 2000
                bobs.handset.say(QUESTION)
                await bobs.handset.wait_speech()
                await bobs.handset.wait_silence(0.4)
                assert bobs.handset.speech_heard().endswith(ANSWER)
                assert bobs.handset.undeciphered <= 1
        assert QUESTION in world.session.received_audio
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.caller == f"sip:alice@{PHONE}"
