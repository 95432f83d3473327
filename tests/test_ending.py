"""Which of several causes a call's record tells."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest
import trio

from aivc.nursery.ending import FAREWELLS, CallOver, Ending, first_cause, leaves


@pytest.mark.parametrize(("first", "second"), list(combinations(Ending, 2)), ids=lambda ending: ending.value)
def test_of_two_causes_in_one_tick_the_one_declared_first_counts(first: Ending, second: Ending) -> None:
    one, other = CallOver(first), CallOver(second)
    assert first_cause([one, other]) is first_cause([other, one]) is one


def test_a_bye_beats_the_loss_of_the_model_whatever_the_order() -> None:
    causes = [CallOver(Ending.REALTIME_LOST), CallOver(Ending.CALLER_HUNG_UP), CallOver(Ending.INTERNAL_ERROR)]
    for order in permutations(causes):
        assert first_cause(list(order)).ending is Ending.CALLER_HUNG_UP


def test_of_two_equal_causes_the_first_counts() -> None:
    one, other = CallOver(Ending.REALTIME_LOST, "reader"), CallOver(Ending.REALTIME_LOST, "writer")
    assert first_cause([one, other]) is one


async def test_tasks_that_fail_in_one_tick_always_make_the_same_ending(any_schedule: int) -> None:
    async def fail(ending: Ending) -> None:
        raise CallOver(ending)

    with trio.fail_after(1):
        try:
            async with trio.open_nursery() as nursery:
                for ending in (Ending.REALTIME_LOST, Ending.CALLER_HUNG_UP, Ending.REALTIME_STUCK):
                    nursery.start_soon(fail, ending)
        except* CallOver as group:
            causes = [error for error in leaves(group) if isinstance(error, CallOver)]
    assert first_cause(causes).ending is Ending.CALLER_HUNG_UP


def test_leaves_are_found_in_nested_groups_in_order() -> None:
    one, two, three = ValueError("1"), KeyError("2"), CallOver(Ending.DRAINED)
    group = BaseExceptionGroup("a", [one, ExceptionGroup("b", [ExceptionGroup("c", [two]), three])])
    assert list(leaves(group)) == [one, two, three]
    assert list(leaves(one)) == [one]


@pytest.mark.parametrize("ending", list(Ending), ids=lambda ending: ending.value)
def test_every_ending_has_a_failure_status_and_a_text_for_one_line(ending: Ending) -> None:
    farewell = FAREWELLS[ending]
    assert 400 <= farewell.status <= 699
    assert farewell.text.isprintable()
    assert farewell.text
    assert (farewell.status in (500, 503)) >= farewell.retry  # RFC 3261 section 20.33 knows it for these


def test_a_refusal_tells_when_to_try_again_only_where_that_makes_sense() -> None:
    refused = CallOver(Ending.REALTIME_REFUSED, "invalid_api_key: sk-...").rejection(7)
    assert (refused.status, refused.retry_after_seconds) == (503, 7)
    assert "sk-" not in refused.cause  # the detail is for operators
    assert CallOver(Ending.CALLER_CANCELLED).rejection(7).retry_after_seconds is None


def test_a_cause_prints_its_ending_and_its_detail() -> None:
    assert str(CallOver(Ending.REALTIME_LOST, "1006")) == "realtime_lost: 1006"
    assert str(CallOver(Ending.DRAINED)) == "drained"
