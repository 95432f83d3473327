"""The keys that a tool presses live no longer than its call."""

from __future__ import annotations

import pytest
import trio
from call_parts import parts
from paper_leg import paper_leg
from trio.testing import MockClock

from aivc.config.settings import DtmfSettings, OpenAISettings
from aivc.media.dtmf import END
from aivc.media.rtp import parse_untrusted
from aivc.nursery.control import Attempt, Control
from aivc.realtime.toolcontext import DigitsFailed, ToolContext, ToolOver
from aivc.sip.leg import ReferOutcome

EVENTS = 101  # payload type
KEY = 0.24  # seconds, of a tone and its gap


async def nobody(refer_to: str, attempt: Attempt) -> ReferOutcome:
    raise AssertionError(f"{refer_to} is not consulted")


def control(openai: OpenAISettings | None = None) -> Control:
    """The hands of a call whose caller takes keys; `play_frames` lets them leave."""
    settings, given = openai or OpenAISettings(), parts()
    performer = given.performer
    performer.stream.telephone_event, performer.stream.pacer.due = EVENTS, trio.current_time()
    hands = (DtmfSettings(), performer.stream, performer, performer.leaving, b"", nobody)
    return Control(paper_leg(), settings, *hands)


async def play_frames(some: Control, keys: list[str]) -> None:
    """Task: let frames leave; `keys` has one for each end packet."""
    stream = some.stream
    while True:
        await trio.sleep_until(stream.pacer.due)
        datagram = stream.outgoing(trio.current_time())
        packet = None if datagram is None else parse_untrusted(datagram)
        if packet is not None and packet.payload_type == EVENTS and packet.payload[1] & END:
            keys.append(str(packet.payload[0]))


@pytest.mark.parametrize("where", ["at the deadline", "in another task"])
async def test_keys_not_begun_when_the_tool_call_is_cancelled_are_not_pressed(
    autojump_clock: MockClock, where: str
) -> None:
    some, keys = control(), list[str]()
    context = ToolContext("call-1", "sip:a", "1", some).of_tool_call("c1")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play_frames, some, keys)
            if where == "at the deadline":
                with trio.move_on_after(5) as scope:
                    nursery.start_soon(expire_after, scope, 1.5 * KEY)
                    await some.send_digits("12345")
            else:  # as of a thread that has outlived its deadline
                nursery.start_soon(end_after, context, 1.5 * KEY)
                with pytest.raises(ToolOver):
                    await context.send_digits("12345")
            await trio.sleep(2)
            nursery.cancel_scope.cancel()
    assert keys == ["1"] * 3 + ["2"] * 3
    assert not some.stream.sends_digits


async def expire_after(scope: trio.CancelScope, seconds: float) -> None:
    await trio.sleep(seconds)
    scope.cancel()


async def end_after(context: ToolContext, seconds: float) -> None:
    await trio.sleep(seconds)
    context.lifetime.end()


async def test_a_caller_who_holds_us_is_sent_no_keys() -> None:
    some = control()
    some.stream.may_send = False
    with trio.fail_after(1), pytest.raises(DigitsFailed, match="on hold"):
        await some.send_digits("1")
    assert not some.stream.sends_digits


async def test_more_keys_than_there_is_time_for_are_refused_with_how_many_fit(autojump_clock: MockClock) -> None:
    some = control()
    with trio.fail_after(10 * KEY + 0.15), pytest.raises(DigitsFailed, match="11 keys take too long: 10 can") as caught:
        await some.send_digits("12345678901")
    assert "12345" not in str(caught.value)
    assert not some.stream.sends_digits


async def test_as_many_keys_as_fit_are_sent_within_the_time(autojump_clock: MockClock) -> None:
    some, keys = control(), list[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play_frames, some, keys)
        with trio.fail_after(10 * KEY + 0.15):
            await some.send_digits("1234567890")
        nursery.cancel_scope.cancel()
    assert keys == [key for key in "1234567890" for _ in range(3)]


async def test_keys_that_wait_behind_others_have_less_time(autojump_clock: MockClock) -> None:
    some = control()
    some.stream.send_digits("12345", 160, 80)
    with trio.fail_after(10 * KEY + 0.15), pytest.raises(DigitsFailed, match="6 keys take too long: 5 can"):
        await some.send_digits("123456")


async def test_in_a_thread_the_deadline_of_all_tools_counts(autojump_clock: MockClock) -> None:
    some, refused = control(OpenAISettings(tool_seconds=1.0)), False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expire_after, nursery.cancel_scope, 5)
        with pytest.raises(DigitsFailed, match="4 keys take too long: 3 can"):
            await some.send_digits("1234")
        refused = True
        nursery.cancel_scope.cancel()
    assert refused
