"""The call's own wish to end, and what may put it off."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs
import pytest
import trio
from call_parts import Parts, parts
from trio.testing import MockClock

from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.leaving import FINAL, JITTER_BUFFER, Leaving, Speaker, wait_said
from aivc.realtime.effects import Play
from aivc.realtime.events import ResponseCreated, ResponseDone

FRAME = 0.02  # seconds
LIMIT = 10.0


@attrs.define
class Voice:
    """Somebody who speaks until a certain time."""

    until: float = 0.0

    @property
    def is_speaking(self) -> bool:
        return trio.current_time() < self.until


Happening = tuple[float, Callable[[], object]]  # when, since the beginning, and what


async def hung_up(
    leaving: Leaving, speaker: Speaker, *events: Happening, seconds: float = LIMIT
) -> tuple[float, Ending]:
    """How long it took to hang up, and as what."""
    began = trio.current_time()

    async def happen() -> None:
        for at, event in events:
            await trio.sleep_until(began + at)
            event()

    with trio.fail_after(100):
        try:
            async with trio.open_nursery() as nursery:
                with leaving.heeded(nursery, speaker, seconds):
                    await happen()
                    await trio.sleep_forever()
        except* CallOver as group:
            (over,) = group.exceptions
    assert isinstance(over, CallOver)
    return trio.current_time() - began, over.ending


# The wish


def test_the_first_wish_counts_but_for_one_that_nothing_can_put_off() -> None:
    leaving, endings = Leaving(), []
    for wish in (Ending.MODEL_HUNG_UP, Ending.CALLER_IDLE, Ending.REALTIME_EXPIRED, Ending.MODEL_HUNG_UP):
        leaving.ask(wish)
        endings.append(leaving.ending)
    assert endings == [*[Ending.MODEL_HUNG_UP] * 2, *[Ending.REALTIME_EXPIRED] * 2]


def test_tool_calls_are_answered_as_long_as_nobody_leaves() -> None:
    leaving = Leaving()
    assert not leaving.keeps("fc1", "noon")
    leaving.ask(Ending.MODEL_HUNG_UP)
    assert leaving.keeps("fc2", "bye")


def test_a_wish_that_is_taken_back_gives_the_tool_outputs_once() -> None:
    leaving = Leaving()
    leaving.ask(Ending.MODEL_HUNG_UP)
    assert leaving.keeps("fc1", "bye")
    assert leaving.keeps("fc2", "noon")
    assert leaving.withdraw() == [("fc1", "bye"), ("fc2", "noon")]
    assert leaving.ending is None
    assert leaving.withdraw() == []
    assert not leaving.keeps("fc3", "noon")


@pytest.mark.parametrize("ending", sorted(FINAL, key=str))
def test_some_wishes_cannot_be_taken_back(ending: Ending) -> None:
    leaving = Leaving()
    leaving.ask(ending)
    assert leaving.keeps("fc1", "bye")
    assert leaving.withdraw() == []
    assert leaving.ending is ending


# Hanging up


async def test_nothing_to_say_is_said_at_once(autojump_clock: MockClock) -> None:
    leaving = Leaving()
    leaving.ask(Ending.CALLER_IDLE)
    after, ending = await hung_up(leaving, parts().performer)
    assert after == pytest.approx(JITTER_BUFFER)
    assert ending is Ending.CALLER_IDLE


async def test_nobody_hangs_up_unasked_or_while_the_model_speaks(autojump_clock: MockClock) -> None:
    leaving, voice = Leaving(), Voice(trio.current_time() + 3.0)
    after, _ = await hung_up(leaving, voice, (1.0, lambda: leaving.ask(Ending.MODEL_HUNG_UP)))
    assert after == pytest.approx(3.0 + JITTER_BUFFER, abs=FRAME)


async def test_last_words_that_are_never_said_are_not_waited_for_longer_than_allowed(
    autojump_clock: MockClock,
) -> None:
    given = parts()
    given.performer.perform([Play("r1", "i1", b"x" * 1600)])
    given.performer.leaving.ask(Ending.MODEL_HUNG_UP)
    after, _ = await hung_up(given.performer.leaving, given.performer, seconds=3.0)
    assert after == pytest.approx(3.0)


async def test_an_answer_that_is_still_generated_is_waited_for(autojump_clock: MockClock) -> None:
    given = parts()
    given.performer.handle(ResponseCreated("r1"))
    given.performer.leaving.ask(Ending.MODEL_HUNG_UP)
    after, _ = await hung_up(given.performer.leaving, given.performer, (1.0, lambda: finish(given)))
    assert after == pytest.approx(1.0 + JITTER_BUFFER, abs=FRAME)


def finish(given: Parts) -> None:
    given.performer.handle(ResponseDone("r1", "completed"))


@pytest.mark.parametrize("at", [1.0, 2.1], ids=["while it is said", "while the telephone still plays it"])
async def test_a_wish_that_is_taken_back_ends_nothing_until_there_is_another(
    autojump_clock: MockClock, at: float
) -> None:
    leaving, voice = Leaving(), Voice(trio.current_time() + 2.0)
    after, ending = await hung_up(
        leaving,
        voice,
        (0.5, lambda: leaving.ask(Ending.MODEL_HUNG_UP)),
        (at, leaving.withdraw),
        (8.0, lambda: leaving.ask(Ending.CALLER_IDLE)),
    )
    assert after == pytest.approx(8.0 + JITTER_BUFFER, abs=FRAME)
    assert ending is Ending.CALLER_IDLE


async def test_another_wish_while_the_telephone_still_plays_has_its_own_last_words(autojump_clock: MockClock) -> None:
    """Taken back and asked for again within the jitter buffer: what is said then is waited for."""
    began, leaving = trio.current_time(), Leaving()
    voice = Voice(began + 2.0)

    def again() -> None:
        leaving.withdraw()
        voice.until = began + 5.0
        leaving.ask(Ending.MODEL_HUNG_UP)

    after, _ = await hung_up(leaving, voice, (0.0, lambda: leaving.ask(Ending.MODEL_HUNG_UP)), (2.1, again))
    assert after == pytest.approx(5.0 + JITTER_BUFFER, abs=FRAME)


async def test_another_wish_has_its_own_time_for_last_words(autojump_clock: MockClock) -> None:
    leaving, voice = Leaving(), Voice(trio.current_time() + 20.0)
    ask = partial(leaving.ask, Ending.MODEL_HUNG_UP)
    after, _ = await hung_up(leaving, voice, (0.0, ask), (1.0, leaving.withdraw), (3.0, ask), seconds=5.0)
    assert after == pytest.approx(3.0 + 5.0, abs=FRAME)


async def test_who_waits_for_the_call_to_go_on_waits_as_long_as_somebody_wants_to_leave(
    autojump_clock: MockClock,
) -> None:
    leaving, began = Leaving(), trio.current_time()
    with trio.fail_after(5):
        await leaving.wait_stay()
        assert trio.current_time() == began
        leaving.ask(Ending.MODEL_HUNG_UP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leaving.wait_stay)
            await trio.sleep(1.0)
            leaving.withdraw()
        assert trio.current_time() == began + 1.0
    leaving.ask(Ending.REALTIME_EXPIRED)
    with trio.move_on_after(10) as waiting:
        leaving.withdraw()
        await leaving.wait_stay()
    assert waiting.cancelled_caught


async def test_a_tool_ends_the_call_by_word_of_mouth(autojump_clock: MockClock) -> None:
    leaving, over = Leaving(), CallOver(Ending.TRANSFERRED, "sip:desk@example.com")

    ends: list[object] = []
    with trio.fail_after(5):
        try:
            async with trio.open_nursery() as nursery:
                with leaving.heeded(nursery, Voice(), LIMIT):
                    await trio.sleep(1.0)
                    leaving.end(over)
                    await trio.sleep_forever()
        except* CallOver as group:
            ends.extend(group.exceptions)
        leaving.end(over)  # once more, when it is over: nobody minds
    assert ends == [over]


# What is said before a transfer


@pytest.mark.parametrize(
    ("spoken", "seconds", "expected"), [(0.0, 5.0, JITTER_BUFFER), (2.0, 5.0, 2.0 + JITTER_BUFFER), (9.0, 5.0, 5.0)]
)
async def test_words_are_let_out_within_bounds(
    autojump_clock: MockClock, spoken: float, seconds: float, expected: float
) -> None:
    began = trio.current_time()
    with trio.fail_after(60):
        await wait_said(Voice(began + spoken), seconds)
    assert trio.current_time() - began == pytest.approx(expected, abs=FRAME)
