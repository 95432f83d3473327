"""Every scenario runs under twenty orders of ready tasks, ten of them in each dialect, and ten behind each front end.

The variants of a parametrized scenario share the twenty; each has four at least. What only the built-in user agent can
do (TCP, digest, Replaces, ...) is marked `sip_only`, with the reason; what only OpenSIPS brings is `opensips_only`, and
all of its runs are behind it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from scenarios.front_ends import FRONT_END, FrontEndName

Dialect = Literal["ga", "beta"]

HERE = Path(__file__).parent
MOST_SHARES = 5  # a fifth of twenty schedules is four
SCHEDULE = "any_schedule"
SCHEDULES = 20
OPENSIPS_SCHEDULES = range(2, 12)  # so that each share of each dealing below has both front ends, in both dialects


@pytest.fixture(autouse=True)
def schedule(any_schedule: int) -> int:
    """The number of the schedule: a scenario that fails under one of them always fails under it."""
    return any_schedule


@pytest.fixture
def dialect(schedule: int) -> Dialect:
    """The dialect of both the service and the model; the other one under the next schedule."""
    return "beta" if schedule % 2 else "ga"


@pytest.fixture(autouse=True)
def front_end(request: pytest.FixtureRequest, schedule: int) -> Iterator[FrontEndName]:
    """What `open_world` puts between the telephone and the service."""
    node = request.node
    alone, always = (node.get_closest_marker(name) is not None for name in ("sip_only", "opensips_only"))
    is_behind = always or (schedule in OPENSIPS_SCHEDULES and not alone)
    name: FrontEndName = "opensips" if is_behind else "sip"
    token = FRONT_END.set(name)
    yield name
    FRONT_END.reset(token)


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
