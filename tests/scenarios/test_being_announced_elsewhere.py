"""Attended transfers over TCP, IPv6 and SRTP, through a PBX that wants passwords, with music, and when things break."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, Secret
from aivc.config.settings import Settings, SoundsSettings
from aivc.config.telephony import SipRegister
from aivc.testing import Faults, Guard, ReceivedCall, Transfers, decided, open_phone, speech
from aivc.testing.registrar import open_registrar
from scenarios.conftest import Dialect
from scenarios.test_being_announced import ANNOUNCEMENT, DESK, DESK_HOST, EXCUSE, SETTINGS, WELCOME, talk
from scenarios.world import NUMBER, PHONE6, REGISTRAR, SERVICE, SERVICE6, World, changed, open_world

MUSIC: Final = speech(1.0, pitch_hz=330.0, seed=39)
DESK6: Final = "2001:db8::30"


async def joined(calls: trio.MemoryReceiveChannel[ReceivedCall]) -> ReceivedCall:
    """The desk was called and told, and is called by the caller in our place."""
    theirs = await calls.receive()
    with trio.fail_after(15.0):
        other = await calls.receive()
        await theirs.wait_over()
    assert theirs.handset.speech_heard() == ANNOUNCEMENT
    assert theirs.replaced_by is other
    return other


def check_transferred(world: World) -> None:
    assert world.record.ending is Ending.TRANSFERRED
    (run,) = world.record.transfers
    assert (run.status, run.succeeded, run.attended) == (200, True, True)


@pytest.mark.sip_only("TCP is between OpenSIPS and the telephones")
async def test_caller_and_target_over_tcp(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(SETTINGS, sip={"listen": (f"tcp:{SERVICE}:5060",)})
    async with (
        open_world(decided(talk), settings=settings, dialect=dialect) as world,
        open_phone(DESK_HOST, 5060, user="desk", seed=1, transport="tcp") as desk,
        desk.answering(ring_seconds=1.0) as calls,
        open_phone("192.0.2.20", seed=2, transport="tcp") as phone,
        phone.dial(NUMBER, transfers=Transfers()) as call,
    ):
        await joined(calls)
        await call.wait_hung_up()
        assert call.handset.speech_heard() == WELCOME
    check_transferred(world)


@pytest.mark.sip_only("TCP is between OpenSIPS and the telephones")
async def test_a_connection_to_the_target_that_is_lost_is_made_again_for_the_bye(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = changed(SETTINGS, sip={"listen": (f"tcp:{SERVICE}:5060",)})
    async with (
        open_world(decided(talk), settings=settings, dialect=dialect) as world,
        open_phone(DESK_HOST, 5060, user="desk", seed=1, transport="tcp") as desk,
        desk.answering(ring_seconds=1.0) as calls,
        open_phone("192.0.2.20", seed=2, transport="tcp") as phone,
        phone.dial(NUMBER, transfers=Transfers(answer=603)) as call,
    ):
        theirs = await calls.receive()
        await theirs.handset.wait_speech(0.3)
        assert world.network.cut(DESK_HOST) == 1
        await theirs.wait_hung_up()
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.5)
        assert call.handset.speech_heard() == WELCOME + EXCUSE
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.sip_only("the test OpenSIPS has IPv4 only")
async def test_caller_and_target_over_ipv6(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(
        SETTINGS,
        openai={"transfer_to": f"sip:desk@[{DESK6}]:5060"},
        sip={"listen": (f"udp:[{SERVICE6}]:5060",)},
        rtp={"bind_ipv6": SERVICE6},
    )
    async with (
        open_world(decided(talk), settings=settings, dialect=dialect) as world,
        open_phone(DESK6, 5060, user="desk", seed=1) as desk,
        desk.answering(ring_seconds=1.0) as calls,
        open_phone(PHONE6, seed=2) as phone,
        phone.dial(f"sip:1000@[{SERVICE6}]:5060", transfers=Transfers()) as call,
    ):
        other = await joined(calls)
        assert other.source[0] == PHONE6
        await call.wait_hung_up()
    check_transferred(world)


async def test_caller_and_target_with_keys_of_their_own(autojump_clock: MockClock, dialect: Dialect) -> None:
    pytest.importorskip("pylibsrtp", reason="the extra `srtp`")
    settings = changed(SETTINGS, rtp={"srtp": "required"})
    async with (
        open_world(decided(talk), settings=settings, dialect=dialect) as world,
        open_phone(DESK_HOST, 5060, user="desk", seed=1) as desk,
        desk.answering(ring_seconds=1.0, crypto="AES_CM_128_HMAC_SHA1_80") as calls,
        world.dial(transfers=Transfers(calls="never"), crypto="AES_CM_128_HMAC_SHA1_32") as call,
    ):
        theirs = await calls.receive()
        assert b"RTP/SAVP" in theirs.invite.body
        await call.wait_hung_up()
        await theirs.wait_hung_up()
        assert theirs.handset.speech_heard() == ANNOUNCEMENT
        assert call.handset.speech_heard() == WELCOME
    check_transferred(world)


@pytest.mark.sip_only("OpenSIPS registers, and has the passwords")
@pytest.mark.parametrize("password", ["s3cret", "wrong"])
async def test_a_pbx_that_asks_for_our_password_in_the_consultation(
    autojump_clock: MockClock, dialect: Dialect, password: Literal["s3cret", "wrong"]
) -> None:
    """Caller and target are both reached through it, and so it asks for each of our requests in both calls."""
    register = SipRegister(user="200", server=REGISTRAR, password=Secret("s3cret"))
    settings = changed(SETTINGS, openai={"transfer_to": "sip:300@pbx.test"}, sip={"register": (register,)})
    callers, desks = Guard("200", "s3cret"), Guard("200", password)
    async with (
        open_world(
            decided(talk), settings=settings, dialect=dialect, registrar=open_registrar(REGISTRAR, port=5070)
        ) as world,
        open_phone(REGISTRAR, 5060, user="pbx", seed=1) as pbx,
        pbx.answering(ring_seconds=1.0, guard=desks) as calls,
        pbx.dial(NUMBER, transfers=Transfers(calls="never"), guard=callers) as call,
    ):
        theirs = await calls.receive()
        await call.wait_hung_up()
        await trio.sleep(3.0)
        assert theirs.invite.header("To") == "<sip:300@pbx.test>"
        assert theirs.handset.speech_heard() == ANNOUNCEMENT
        assert theirs.is_over == (password == "s3cret")
        assert callers.refused == ["REFER", "BYE"]
        assert desks.refused[:1] == ["BYE"]
    check_transferred(world)


async def test_a_service_that_goes_down_lets_the_target_go(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings: Settings = changed(SETTINGS, service={"drain_seconds": 1.0})
    over: list[str] = []
    async with open_world(decided(talk), settings=settings, dialect=dialect, drains=True) as world:

        async def live(answered: trio.Event) -> None:
            async with (
                open_phone(DESK_HOST, 5060, user="desk", seed=1) as desk,
                desk.answering(ring_seconds=30.0) as calls,
                world.dial(transfers=Transfers()) as call,
            ):
                theirs = await calls.receive()
                answered.set()
                await call.wait_hung_up()
                with trio.fail_after(2.0):
                    await theirs.wait_over()
                over.append("cancelled" if theirs.is_cancelled else "hung up")

        answered = trio.Event()
        world.phone.nursery.start_soon(live, answered)
        await answered.wait()
    assert over == ["cancelled"]
    assert world.record.ending is Ending.DRAINED


async def test_a_model_that_is_lost_while_the_target_rings_does_not_matter(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with (
        open_world(decided(talk), settings=SETTINGS, dialect=dialect) as world,
        open_phone(DESK_HOST, 5060, user="desk", seed=1) as desk,
        desk.answering(ring_seconds=3.0) as calls,
        world.dial(transfers=Transfers()) as call,
    ):
        theirs = await calls.receive()
        await trio.sleep(1.0)
        world.model.sessions[0].drop()
        await calls.receive()
        assert theirs.handset.speech_heard() == ANNOUNCEMENT
        await call.wait_hung_up()
    check_transferred(world)


async def test_an_announcement_that_breaks_off_does_not_cost_the_transfer(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with (
        open_world(
            decided(talk), settings=SETTINGS, dialect=dialect, later_faults=[Faults(drop_after_deltas=2)]
        ) as world,
        open_phone(DESK_HOST, 5060, user="desk", seed=1) as desk,
        desk.answering(ring_seconds=1.0) as calls,
        world.dial(transfers=Transfers()) as call,
    ):
        theirs = await calls.receive()
        await calls.receive()
        assert ANNOUNCEMENT.startswith(theirs.handset.speech_heard().rstrip(b"\xff")[:160])
        assert len(theirs.handset.speech_heard()) < len(ANNOUNCEMENT)
        await call.wait_hung_up()
    check_transferred(world)


async def test_two_callers_are_announced_to_two_desks_at_once(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(SETTINGS, rtp={"max_port": SETTINGS.rtp.min_port + 7})
    async with (
        open_world(decided(talk), settings=settings, dialect=dialect, calls=2) as world,
        open_phone(DESK_HOST, 5060, user="desk", seed=1) as desk,
        desk.answering(ring_seconds=1.0) as calls,
        open_phone("192.0.2.20", seed=2) as other,
        world.dial(transfers=Transfers(calls="never")) as first,
        other.dial(NUMBER, transfers=Transfers(calls="never")) as second,
    ):
        desks = [await calls.receive(), await calls.receive()]
        await first.wait_hung_up()
        await second.wait_hung_up()
        for theirs in desks:
            await theirs.wait_hung_up()
            assert theirs.handset.speech_heard() == ANNOUNCEMENT
        assert [referral.refer_to.partition("?")[0] for call in (first, second) for referral in call.referrals] == [
            DESK,
            DESK,
        ]
        assert len({referral.replaces for call in (first, second) for referral in call.referrals}) == 2
    assert [record.ending for record in world.records] == [Ending.TRANSFERRED] * 2


@pytest.mark.parametrize("status", [200, 486])
async def test_the_caller_hears_music_until_it_is_settled(
    autojump_clock: MockClock, dialect: Dialect, status: int, tmp_path: Path
) -> None:
    (tmp_path / "music.ulaw").write_bytes(MUSIC)
    settings = attrs.evolve(SETTINGS, sounds=SoundsSettings(hold=str(tmp_path / "music.ulaw")))
    async with open_world(decided(talk), settings=settings, dialect=dialect) as world:
        async with (
            open_phone(DESK_HOST, 5060, user="desk", seed=1) as desk,
            desk.answering(ring_seconds=3.0, status=status) as calls,
            world.dial(transfers=Transfers(calls="never")) as call,
        ):
            theirs = await calls.receive()
            await theirs.wait_over()
            if status == 200:
                await call.wait_hung_up()
            else:
                await call.handset.wait_silence(1.5)
        heard = call.handset.speech_heard()
        assert heard.startswith(WELCOME)
        music = heard[len(WELCOME) :].removesuffix(EXCUSE if status != 200 else b"")
        assert len(music) > 2.9 * 8000
        assert (MUSIC * 9).startswith(music)
        assert heard.endswith(EXCUSE) == (status != 200)
        assert not theirs.handset.speech_heard().startswith(MUSIC[:160])
    assert world.record.ending is (Ending.TRANSFERRED if status == 200 else Ending.CALLER_HUNG_UP)
