"""The model cannot be had, or is gone for good: the caller hears a word of excuse, and then goes to somebody else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, Settings
from aivc.config.settings import Codec, SoundsSettings
from aivc.media.g711 import convert
from aivc.testing import CallRefused, Fail, Faults, PhoneCall, Say, Script, Transfers, scripted, speech
from scenarios.conftest import Dialect
from scenarios.world import NUMBER, World, changed, open_world

HELLO: Final = speech(0.5, pitch_hz=210.0, seed=1)
SORRY: Final = speech(1.5, pitch_hz=180.0, seed=8)  # as a file of mu-law
COLLEAGUE: Final = "sip:colleague@example.com"
GREETING: Final = scripted([[Say("Hello.", audio=HELLO)]])
REFUSED: Final = Faults(refuse_upgrade=401)


def with_sounds(folder: Path, transfer_to: str | None = None) -> Settings:
    """The same excuse for every occasion."""
    file = folder / "sorry.ulaw"
    file.write_bytes(SORRY)
    settings = changed(openai={"reconnect": False, "transfer_to": transfer_to})
    return attrs.evolve(settings, sounds=SoundsSettings(failure=str(file), busy=str(file)))


def excuse(codec: Codec) -> bytes:
    return SORRY if codec == "PCMU" else convert(SORRY, "PCMU", "PCMA")


async def lose_after_greeting(world: World, call: PhoneCall) -> None:
    await call.handset.wait_speech()
    await call.handset.wait_silence(0.3)
    world.session.close(1011)


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_who_lost_the_model_hears_the_whole_excuse_and_then_our_bye(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path, codec: Codec
) -> None:
    script = scripted([[Say("Hello.", audio=speech(0.5, codec, pitch_hz=210.0), codec=codec)]])
    async with open_world(script, settings=with_sounds(tmp_path), dialect=dialect) as world:
        async with world.dial(codec) as call:
            await lose_after_greeting(world, call)
            lost_at = trio.current_time()
            # 1.5 s of excuse, and 0.2 s for what waits in the telephone
            assert await call.wait_hung_up() - lost_at == pytest.approx(1.7, abs=0.05)
        assert call.handset.speech_heard() == speech(0.5, codec, pitch_hz=210.0) + excuse(codec)
    assert world.record.ending is Ending.REALTIME_LOST


@pytest.mark.parametrize(
    ("later", "sought"),
    [(REFUSED, 0.0), (Faults(session_updated_seconds=30.0), 2.0), (Faults(refuse_session="insufficient_quota"), 0.0)],
    ids=["refused", "slow", "out of money"],
)
async def test_an_excuse_is_made_when_no_other_session_can_be_had(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path, later: Faults, sought: float
) -> None:
    settings = changed(with_sounds(tmp_path), openai={"reconnect": True})
    async with open_world(GREETING, settings=settings, dialect=dialect, later_faults=(later,)) as world:
        async with world.dial() as call:
            await lose_after_greeting(world, call)
            lost_at = trio.current_time()
            assert await call.wait_hung_up() - lost_at == pytest.approx(sought + 1.7, abs=0.1)
        assert call.handset.speech_heard() == HELLO + SORRY
        assert world.model.asked == 2
    assert (world.record.ending, world.record.sessions) == (Ending.REALTIME_LOST, 1)


async def test_who_hangs_up_while_another_session_is_sought_has_hung_up(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path
) -> None:
    settings = changed(with_sounds(tmp_path), openai={"reconnect": True})
    slow = Faults(session_updated_seconds=30.0)
    async with open_world(GREETING, settings=settings, dialect=dialect, later_faults=(slow,)) as world:
        async with world.dial() as call:
            await lose_after_greeting(world, call)
            await trio.sleep(1.0)
        assert call.handset.speech_heard() == HELLO
        assert await world.model.sessions[1].wait_closed() == 1000
    assert (world.record.ending, world.record.sessions) == (Ending.CALLER_HUNG_UP, 1)


async def test_after_the_excuse_the_caller_is_transferred(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path
) -> None:
    settings = with_sounds(tmp_path, COLLEAGUE)
    async with (
        open_world(GREETING, settings=settings, dialect=dialect) as world,
        world.dial(transfers=Transfers()) as call,
    ):
        await lose_after_greeting(world, call)
        referral = await call.wait_referral()
        assert call.handset.speech_heard() == HELLO + SORRY
        assert (referral.refer_to, referral.referred_by) == (COLLEAGUE, NUMBER.removesuffix(":5060") + ":5060")
        await call.wait_hung_up()
    assert world.record.ending is Ending.TRANSFERRED
    assert world.record.detail.startswith(f"{COLLEAGUE}, after realtime_lost")
    assert [(run.target, run.succeeded) for run in world.record.transfers] == [(COLLEAGUE, True)]


async def test_a_transfer_that_is_refused_leaves_the_loss_as_the_ending(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path
) -> None:
    settings = with_sounds(tmp_path, COLLEAGUE)
    async with open_world(GREETING, settings=settings, dialect=dialect) as world:
        async with world.dial(transfers=Transfers(answer=603)) as call:
            await lose_after_greeting(world, call)
            await call.wait_hung_up()
        assert call.handset.speech_heard() == HELLO + SORRY
        assert len(call.referrals) == 1
    assert world.record.ending is Ending.REALTIME_LOST
    assert [(run.status, run.succeeded) for run in world.record.transfers] == [(603, False)]


async def test_without_an_excuse_the_caller_is_transferred_at_once(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(openai={"reconnect": False, "transfer_to": COLLEAGUE})
    async with (
        open_world(GREETING, settings=settings, dialect=dialect) as world,
        world.dial(transfers=Transfers()) as call,
    ):
        await lose_after_greeting(world, call)
        lost_at = trio.current_time()
        assert (await call.wait_referral()).at - lost_at < 0.1
        await call.wait_hung_up()
    assert world.record.ending is Ending.TRANSFERRED


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_who_cannot_have_the_model_is_answered_hears_why_and_our_bye(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path, codec: Codec
) -> None:
    settings = with_sounds(tmp_path)
    async with open_world(GREETING, settings=settings, dialect=dialect, faults=REFUSED) as world:
        async with world.dial(codec) as call:
            assert call.answered_at is not None
            assert await call.wait_hung_up() - call.answered_at == pytest.approx(1.7, abs=0.05)
        assert call.handset.speech_heard() == excuse(codec)
        assert world.model.sessions == []
    assert (world.record.ending, world.record.sessions) == (Ending.REALTIME_REFUSED, 0)
    assert "401" in world.record.detail
    assert world.record.answered_at is not None


async def test_who_cannot_have_the_model_is_transferred_after_the_excuse(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path
) -> None:
    settings = with_sounds(tmp_path, COLLEAGUE)
    async with (
        open_world(GREETING, settings=settings, dialect=dialect, faults=REFUSED) as world,
        world.dial(transfers=Transfers()) as call,
    ):
        await call.wait_referral()
        assert call.handset.speech_heard() == SORRY
        await call.wait_hung_up()
    assert world.record.ending is Ending.TRANSFERRED


async def test_without_a_sound_who_cannot_have_the_model_is_refused(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = changed(openai={"transfer_to": COLLEAGUE})
    async with open_world(GREETING, settings=settings, dialect=dialect, faults=REFUSED) as world:
        with pytest.raises(CallRefused) as caught:
            async with world.dial():
                pass
        assert caught.value.response.status == 503
    assert world.record.ending is Ending.REALTIME_REFUSED


async def test_who_hangs_up_during_the_excuse_has_hung_up(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path
) -> None:
    settings = with_sounds(tmp_path, COLLEAGUE)
    async with open_world(GREETING, settings=settings, dialect=dialect) as world:
        async with world.dial(transfers=Transfers()) as call:
            await lose_after_greeting(world, call)
            await call.handset.wait_speech(0.5)
        assert call.referrals == []
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.transfers == ()


async def test_who_holds_the_call_during_the_excuse_hears_the_rest_of_it_afterwards(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path
) -> None:
    async with open_world(GREETING, settings=with_sounds(tmp_path), dialect=dialect) as world:
        async with world.dial() as call:
            await lose_after_greeting(world, call)
            await call.handset.wait_speech(0.5)
            await call.hold()
            heard = len(call.handset.heard)
            await trio.sleep(10.0)
            assert len(call.handset.heard) == heard
            await call.resume()
            await call.wait_hung_up()
        assert call.handset.speech_heard() == HELLO + SORRY
    assert world.record.ending is Ending.REALTIME_LOST


async def test_who_holds_the_call_for_ever_is_let_go(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path
) -> None:
    async with (
        open_world(GREETING, settings=with_sounds(tmp_path), dialect=dialect) as world,
        world.dial() as call,
    ):
        await lose_after_greeting(world, call)
        lost_at = trio.current_time()
        await call.handset.wait_speech(0.5)
        await call.hold()
        assert await call.wait_hung_up() - lost_at == pytest.approx(31.5, abs=0.1)
    assert world.record.ending is Ending.REALTIME_LOST


def out_of_money(*, by_fault: bool) -> tuple[Script, Faults]:
    if by_fault:
        return GREETING, Faults(fail_responses="insufficient_quota")
    return scripted([[Fail("insufficient_quota", "You exceeded your current quota.")]]), Faults()


@pytest.mark.parametrize("by_fault", [True, False], ids=["after speaking", "at once"])
async def test_a_model_without_money_is_excused_and_no_other_session_is_tried(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path, by_fault: bool
) -> None:
    script, faults = out_of_money(by_fault=by_fault)
    settings = changed(with_sounds(tmp_path), openai={"reconnect": True})
    async with open_world(script, settings=settings, dialect=dialect, faults=faults) as world:
        async with world.dial() as call:
            await call.wait_hung_up()
        assert call.handset.speech_heard().endswith(SORRY)
        assert world.model.asked == 1
    assert world.record.ending is Ending.REALTIME_FATAL
    assert world.record.detail.startswith("insufficient_quota")
    assert world.record.errors_by_kind == {"fatal": 1}


async def test_an_excuse_waits_for_the_words_that_came_before_the_loss(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path
) -> None:
    answer = speech(2.0, pitch_hz=210.0, seed=5)
    script = scripted([[Say("Hello.", audio=answer)]])
    async with open_world(script, settings=with_sounds(tmp_path), dialect=dialect, speed=100.0) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
            world.session.drop()
            await call.wait_hung_up()
        assert call.handset.speech_heard() == answer + SORRY
