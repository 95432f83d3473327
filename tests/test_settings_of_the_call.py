"""Every setting about sessions, transfers, keys and sounds changes what a caller lives through."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio
from scenarios.world import NONE, SETTINGS, Changes, World, changed, open_world
from settings_shown import shows
from trio.testing import MockClock

from aivc import Ending, Settings
from aivc.config.settings import DtmfSettings, SoundsSettings
from aivc.realtime.replay import keys_pressed
from aivc.testing import CallRefused, CallTool, Faults, PhoneCall, Say, Transfers, scripted

SILENT: Final = scripted([[]])
DESK: Final = "sip:desk@example.com"
MUSIC: Final = b"\x10" * 8000  # 1 s
LOST: Final = Faults(close_after_deltas=1)
GONE: Final = Faults(refuse_upgrade=503)


def with_sound(folder: Path, name: str, given: bool, openai: Changes = NONE) -> Settings:
    """Settings with `sounds.NAME`, or without."""
    file = folder / f"{name}.ulaw"
    file.write_bytes(MUSIC)
    sounds = SoundsSettings(**{name: str(file)}) if given else SoundsSettings()
    return attrs.evolve(changed(openai=openai), sounds=sounds)


def music(call: PhoneCall) -> bytes:
    """What of it was heard."""
    return bytes(octet for octet in call.handset.speech_heard() if octet == MUSIC[0])


# openai: sessions


@shows("openai.reconnect")
@pytest.mark.parametrize("reconnect", [True, False])
async def test_a_lost_session_is_replaced_or_ends_the_call(autojump_clock: MockClock, reconnect: bool) -> None:
    settings = changed(openai={"reconnect": reconnect})
    script = scripted([[Say("Hello.", seconds=1.0)]])
    opened = open_world(script, settings=settings, faults=LOST, later_faults=[Faults()])
    async with opened as world, world.dial() as call:
        with trio.move_on_after(5):
            await call.wait_hung_up()
    assert (call.hung_up_at is None) is reconnect
    assert world.record.ending is (Ending.CALLER_HUNG_UP if reconnect else Ending.REALTIME_LOST)
    assert world.record.sessions == len(world.model.sessions) == 1 + reconnect


@shows("openai.expiry_seconds")
@pytest.mark.parametrize("seconds", [5.0, 20.0])
async def test_a_session_is_renewed_so_long_before_its_end(autojump_clock: MockClock, seconds: float) -> None:
    settings = changed(openai={"expiry_seconds": seconds})
    faults = Faults(expires_after_seconds=60.0)
    opened = open_world(SILENT, settings=settings, faults=faults, later_faults=[Faults()])
    async with opened as world, world.dial() as call:
        assert call.answered_at is not None
        await world.model.wait_session(2)
        renewed_after = trio.current_time() - call.answered_at
    assert renewed_after == pytest.approx(60.0 - seconds, abs=0.1)


# openai: transfers


async def transferred(**openai: Any) -> tuple[World, PhoneCall]:
    """A call that the model wants to transfer, to a phone that takes a REFER and then tells nothing."""
    script = scripted([[CallTool("transfer_call")], [Say("That was nothing.")]])
    settings = changed(openai={"transfer_to": DESK, **openai})
    silent = Transfers(progress=(100,), forget_end=True)
    async with open_world(script, settings=settings) as world, world.dial(transfers=silent) as call:
        await world.session.wait_received("response.create", count=2)
    return world, call


@shows("openai.transfer_by")
@pytest.mark.parametrize(
    ("transfer_by", "expected"),
    [(None, "sip:1000@192.0.2.1:5060"), ("sip:assistant@example.com", "sip:assistant@example.com")],
)
async def test_a_transfer_says_whom_it_comes_from(
    autojump_clock: MockClock, transfer_by: str | None, expected: str
) -> None:
    _, call = await transferred(transfer_by=transfer_by)
    assert [referral.referred_by for referral in call.referrals] == [expected]


@shows("openai.transfer_seconds")
@pytest.mark.parametrize("seconds", [2.0, 9.0])
async def test_the_outcome_of_a_transfer_is_waited_for_so_long(autojump_clock: MockClock, seconds: float) -> None:
    world, _ = await transferred(transfer_seconds=seconds)
    (run,) = world.record.transfers
    assert run.ended_at is not None
    assert run.ended_at - run.started_at == pytest.approx(seconds, abs=0.01)
    assert not run.succeeded


# dtmf


async def pressed(*keys: str, gap: float = 1.0, **dtmf: Any) -> list[tuple[str, float]]:
    """The entries of a caller who presses these keys `gap` s apart, with the times since the beginning."""
    settings = attrs.evolve(SETTINGS, dtmf=DtmfSettings(**dtmf))
    async with open_world(SILENT, settings=settings) as world:
        async with world.dial() as call:
            began = trio.current_time()
            for number, group in enumerate(keys):
                await trio.sleep_until(began + gap * number)
                call.handset.press(group, tone_ms=40, gap_ms=40)
            await trio.sleep(6.0)
        seen = [
            (event.event["item"]["content"][0]["text"], round(event.at - began, 1))
            for event in world.session.events_received
            if event.event["type"] == "conversation.item.create"
        ]
    assert [keys_pressed(entry.digits) for entry in world.record.digits] == [text for text, _ in seen]
    return seen


@shows("dtmf.enabled")
async def test_the_model_is_told_of_keys_or_not(autojump_clock: MockClock) -> None:
    assert [text for text, _ in await pressed("12#")] == [keys_pressed("12")]
    assert await pressed("12#", enabled=False) == []


@shows("dtmf.finish")
async def test_the_finishing_keys_end_an_entry(autojump_clock: MockClock) -> None:
    entries = {finish: [text for text, _ in await pressed("1#2*3", finish=finish)] for finish in ("#", "*", "#*", "")}
    assert entries == {
        "#": [keys_pressed("1"), keys_pressed("2*3")],
        "*": [keys_pressed("1#2"), keys_pressed("3")],
        "#*": [keys_pressed("1"), keys_pressed("2"), keys_pressed("3")],
        "": [keys_pressed("1#2*3")],
    }


@shows("dtmf.pause_seconds")
@pytest.mark.parametrize(("pause", "expected"), [(0.5, ["1", "2"]), (1.5, ["12"]), (3.0, ["12"])])
async def test_a_pause_ends_an_entry(autojump_clock: MockClock, pause: float, expected: list[str]) -> None:
    entries = await pressed("1", "2", pause_seconds=pause)
    assert [text for text, _ in entries] == [keys_pressed(entry) for entry in expected]
    assert entries[-1][1] == pytest.approx(1.0 + pause, abs=0.1)


# sounds


@shows("sounds.failure")
@pytest.mark.parametrize("given", [True, False])
async def test_a_caller_whose_model_is_lost_hears_an_excuse(
    autojump_clock: MockClock, tmp_path: Path, given: bool
) -> None:
    settings = with_sound(tmp_path, "failure", given, {"reconnect": False})
    script = scripted([[Say("Hello.", audio=b"\x11" * 8000)]])
    async with open_world(script, settings=settings, faults=LOST) as world, world.dial() as call:
        await call.wait_hung_up()
    assert music(call) == (MUSIC if given else b"")
    assert world.record.ending is Ending.REALTIME_LOST


@shows("sounds.busy")
@pytest.mark.parametrize("given", [True, False])
async def test_a_caller_whose_model_cannot_be_had_hears_a_sound_or_is_refused(
    autojump_clock: MockClock, tmp_path: Path, given: bool
) -> None:
    settings, refused = with_sound(tmp_path, "busy", given), False
    async with open_world(SILENT, settings=settings, faults=GONE) as world:
        try:
            async with world.dial() as call:
                await call.wait_hung_up()
                assert music(call) == MUSIC
        except CallRefused as error:
            refused = error.status == 503
    assert refused is not given
    assert world.record.ending is Ending.REALTIME_REFUSED


@shows("sounds.hold")
@pytest.mark.parametrize("given", [True, False])
async def test_a_caller_who_waits_for_another_session_hears_music(
    autojump_clock: MockClock, tmp_path: Path, given: bool
) -> None:
    settings = with_sound(tmp_path, "hold", given, {"connect_seconds": 2.0, "configure_seconds": 1.5})
    script = scripted([[Say("Hello.", audio=b"\x11" * 1600)]])
    opened = open_world(script, settings=settings, faults=LOST, later_faults=[GONE])
    async with opened as world, world.dial() as call:
        await call.wait_hung_up()
    assert len(music(call)) / 8000 == pytest.approx(3.3 if given else 0.0, abs=0.25)
    assert world.record.ending is Ending.REALTIME_LOST
