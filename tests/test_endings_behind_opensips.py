"""Every way in which a call can end, behind OpenSIPS: in both dialects, under 20 orders of tasks."""

from __future__ import annotations

import pytest
from scenarios.arena import Dialect
from scenarios.matrix import bugs_in_each_task, live_through_all, ways_with
from scenarios.ways import Way

BUG_SCHEDULES = 5  # for each task, each dialect and each front end: 20 for each task

in_both_dialects = pytest.mark.parametrize("dialect", ["ga", "beta"])


@in_both_dialects
@pytest.mark.parametrize("way", ways_with("opensips"), ids=lambda way: way.name)
def test_nothing_is_left_of_a_call_that_ends_in_this_way(way: Way, dialect: Dialect) -> None:
    live_through_all(way, "opensips", dialect)


@in_both_dialects
def test_a_bug_in_any_task_of_a_call_costs_this_call_only_and_leaves_nothing(dialect: Dialect) -> None:
    ways = bugs_in_each_task("opensips", dialect)
    assert len(ways) > 5
    for way in ways:
        live_through_all(way, "opensips", dialect, BUG_SCHEDULES)
