"""The tasks of a call that only wait for a reason to end it, or for the moment to act."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import pytest
import trio
from call_parts import REMOTE, keep_within, parts, rtp_stream
from paper_leg import AGREEMENT, PaperLeg, paper_leg
from paper_stream import EVENTS, datagram, paper_stream
from trio.testing import MockClock, wait_all_tasks_blocked

from aivc.config.settings import RtpSettings, ServiceSettings, Settings
from aivc.nursery.alarm import Alarm
from aivc.nursery.causes import until_over
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.entries import Source
from aivc.nursery.ground import Progress
from aivc.nursery.keys import Keypad
from aivc.nursery.watch import SETTLED, Limits, heeded
from aivc.sip.leg import (
    AckMissing,
    Cancelled,
    DigitPressed,
    HungUp,
    LegEvent,
    MediaChanged,
    SessionExpired,
    SignallingFailed,
)

ELSEWHERE = ("192.0.2.10", 5000)


async def ending_of(task: Callable[[], Awaitable[None]]) -> CallOver:
    with trio.fail_after(100), pytest.raises(CallOver) as caught:
        await task()
    return caught.value


async def serve(leg: PaperLeg, progress: Progress, keypad: Keypad) -> None:
    """Follow what the peer does, until it ends the call."""
    async with trio.open_nursery() as nursery:
        with heeded(leg, progress, keypad, nursery):
            await trio.sleep_forever()


async def over_after(leg: PaperLeg, progress: Progress, *events: LegEvent) -> CallOver:
    """How the call ends when the peer does this."""
    for event in events:
        leg.events.tell(event)
    with trio.fail_after(100):
        over = await until_over(partial(serve, leg, progress, Keypad(progress)))
    assert over is not None
    return over


async def go_on(leg: PaperLeg, progress: Progress, *events: LegEvent) -> list[tuple[str, Source]]:
    """Let the peer do what ends no call; returns the keys."""
    for event in events:
        leg.events.tell(event)
    keypad = Keypad(progress)
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, leg, progress, keypad)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    return keypad.waiting


# What the peer does with its dialog


@pytest.mark.parametrize(
    ("event", "ending"),
    [
        (HungUp(), Ending.CALLER_HUNG_UP),
        (Cancelled(), Ending.CALLER_CANCELLED),
        (AckMissing("sip:192.0.2.1:5060"), Ending.ACK_MISSING),
        (SessionExpired("no refresh within 90 s"), Ending.SESSION_EXPIRED),
        (SignallingFailed("no PRACK came"), Ending.SIGNALLING_FAILED),
    ],
)
async def test_what_the_caller_does_with_the_dialog_ends_the_call(event: LegEvent, ending: Ending) -> None:
    assert (await over_after(paper_leg(), Progress(0.0), event)).ending is ending


async def test_a_bye_while_a_refer_is_out_is_its_success() -> None:
    progress = Progress(0.0)
    progress.leaving.referring = True
    assert (await over_after(paper_leg(), progress, HungUp())).ending is Ending.TRANSFERRED


async def test_a_front_end_that_goes_away_ends_the_call() -> None:
    leg = paper_leg()
    leg.events.close(None)
    over = await over_after(leg, Progress(0.0))
    assert (over.ending, over.detail) == (Ending.INTERNAL_ERROR, "the front end closed the leg's events")


async def test_a_media_change_moves_and_holds_the_audio_and_ends_nothing() -> None:
    leg, stream = paper_leg(), rtp_stream()
    progress = Progress(0.0, stream=stream)
    held = attrs.evolve(AGREEMENT, remote=ELSEWHERE, payload_type=8, may_send=False, telephone_event=96)
    await go_on(leg, progress, MediaChanged(held))
    assert (stream.remote, stream.may_send, stream.expects_audio) == (ELSEWHERE, False, False)
    assert (stream.payload_type, stream.pacer.payload_type, stream.telephone_event) == (8, 8, 96)
    await go_on(leg, progress, MediaChanged(AGREEMENT))
    assert (stream.remote, stream.may_send, stream.expects_audio) == (REMOTE, True, True)


async def test_the_conversation_knows_of_the_hold_so_that_no_silence_counts() -> None:
    leg, given = paper_leg(), parts()
    progress = Progress(0.0, stream=given.performer.stream, performer=given.performer)
    machines = given.performer.conversation._machines
    await go_on(leg, progress, MediaChanged(attrs.evolve(AGREEMENT, may_receive=False)))
    assert machines.on_hold
    await go_on(leg, progress, MediaChanged(AGREEMENT))
    assert not machines.on_hold


async def test_a_media_change_before_there_is_media_is_ignored() -> None:
    over = await over_after(paper_leg(), Progress(0.0), MediaChanged(AGREEMENT), HungUp())
    assert over.ending is Ending.CALLER_HUNG_UP


async def test_keys_come_by_info_until_one_came_by_rtp() -> None:
    """A telephone that sends both would otherwise be heard twice."""
    leg, paper = paper_leg(), paper_stream()
    progress = Progress(0.0, stream=paper.stream)
    assert await go_on(leg, progress, DigitPressed("1", 100), DigitPressed("2", 100)) == [("1", "info"), ("2", "info")]
    paper.come(datagram(1, bytes([3, 10, 0, 160]), EVENTS, marker=True), 0.02)
    assert paper.pressed == ["3"]
    assert await go_on(leg, progress, DigitPressed("3", 100)) == []


async def test_keys_before_there_is_media_are_nobodys() -> None:
    assert await go_on(paper_leg(), Progress(0.0), DigitPressed("1", 100)) == []


# Limits


async def ending_within(limits: Limits) -> CallOver:
    with trio.fail_after(100):
        over = await until_over(partial(keep_within, limits))
    assert over is not None
    return over


async def test_draining_ends_the_call() -> None:
    draining = trio.Event()
    draining.set()
    assert (await ending_of(partial(Alarm().ring, draining))).ending is Ending.DRAINED


@pytest.mark.parametrize(
    ("timeout", "longest", "ending", "after"),
    [
        (5.0, 60.0, Ending.MEDIA_TIMEOUT, 5.0),
        (60.0, 8.0, Ending.MAX_DURATION, 8.0),
        (0.0, 8.0, Ending.MAX_DURATION, 8.0),
    ],
)
async def test_a_call_has_limits(
    autojump_clock: MockClock, timeout: float, longest: float, ending: Ending, after: float
) -> None:
    now = trio.current_time()
    settings = Settings(rtp=RtpSettings(timeout_seconds=timeout), service=ServiceSettings(max_call_seconds=longest))
    over = await ending_within(Limits(rtp_stream(now, settings.rtp), settings))
    assert over.ending is ending
    assert trio.current_time() - now == pytest.approx(after)


async def test_a_caller_who_holds_us_need_not_send(autojump_clock: MockClock) -> None:
    now = trio.current_time()
    settings = Settings(rtp=RtpSettings(timeout_seconds=5.0), service=ServiceSettings(max_call_seconds=60.0))
    stream = rtp_stream(now, settings.rtp)
    stream.expects_audio = False
    assert (await ending_within(Limits(stream, settings))).ending is Ending.MAX_DURATION


async def test_a_caller_on_hold_must_show_that_they_are_there_if_a_setting_says_so(autojump_clock: MockClock) -> None:
    now = trio.current_time()
    rtp = RtpSettings(timeout_seconds=30.0, hold_timeout_seconds=5.0)
    stream = rtp_stream(now, rtp)

    async def hold_and_report() -> None:
        await trio.sleep(10.0)
        stream.last_received = trio.current_time()
        stream.expects_audio = False
        await trio.sleep(4.0)
        stream.last_received = trio.current_time()  # a report, or music

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold_and_report)
            over = await ending_within(Limits(stream, Settings(rtp=rtp)))
    assert over.ending is Ending.MEDIA_TIMEOUT
    assert over.detail == "nothing came for 5 s from a caller on hold (rtp.hold_timeout_seconds)"
    assert trio.current_time() - now == pytest.approx(19.0)


@pytest.mark.parametrize(("foreign", "received", "warned"), [(50, 0, True), (50, 1, False), (0, 0, False)])
async def test_audio_that_comes_only_from_elsewhere_is_told_with_what_to_do(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, foreign: int, received: int, warned: bool
) -> None:
    stream = rtp_stream()
    stream.latch.foreign, stream.reception.received = foreign, received
    with trio.move_on_after(SETTLED + 1), caplog.at_level(logging.WARNING, logger="aivc.call"):
        await keep_within(Limits(stream, Settings()))
    assert ["rtp.unheard"] * warned == [record.getMessage() for record in caplog.records]
