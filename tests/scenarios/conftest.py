"""Every scenario runs under twenty orders of ready tasks, ten of them in each dialect.

The variants of a parametrized scenario share the twenty; each has four at least.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Literal

import pytest

Dialect = Literal["ga", "beta"]

HERE = Path(__file__).parent
MOST_SHARES = 5  # a fifth of twenty schedules is four
SCHEDULE = "any_schedule"
SCHEDULES = 20


@pytest.fixture(autouse=True)
def schedule(any_schedule: int) -> int:
    """The number of the schedule: a scenario that fails under one of them always fails under it."""
    return any_schedule


@pytest.fixture
def dialect(schedule: int) -> Dialect:
    """The dialect of both the service and the model; the other one under the next schedule."""
    return "beta" if schedule % 2 else "ga"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the schedules out among the variants of each scenario that has all of them."""
    scenarios: defaultdict[str, dict[str, list[pytest.Item]]] = defaultdict(dict)
    for item in items:
        if isinstance(item, pytest.Function) and item.path.parent == HERE:
            scenarios[f"{item.path}::{item.originalname}"].setdefault(variant(item), []).append(item)
    spared = {item for variants in scenarios.values() for item in undealt(list(variants.values()))}
    config.hook.pytest_deselected(items=list(spared))
    items[:] = [item for item in items if item not in spared]


def variant(item: pytest.Function) -> str:
    """What tells this run from others of its scenario, but for the schedule."""
    return repr([(name, id(value)) for name, value in item.callspec.params.items() if name != SCHEDULE])


def undealt(variants: list[list[pytest.Item]]) -> list[pytest.Item]:
    """The runs that are another variant's turn. Dealt in pairs, so that every variant meets both dialects."""
    shares = min(len(variants), MOST_SHARES)
    return [
        run
        for number, runs in enumerate(variants)
        if len(runs) == SCHEDULES
        for place, run in enumerate(runs)
        if place // 2 % shares != number % shares
    ]
