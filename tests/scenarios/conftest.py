"""Every scenario runs under twenty orders of ready tasks, ten of them in each dialect."""

from __future__ import annotations

from typing import Literal

import pytest

Dialect = Literal["ga", "beta"]


@pytest.fixture(autouse=True)
def schedule(any_schedule: int) -> int:
    """The number of the schedule: a scenario that fails under one of them always fails under it."""
    return any_schedule


@pytest.fixture
def dialect(schedule: int) -> Dialect:
    """The dialect of both the service and the model; the other one under the next schedule."""
    return "beta" if schedule % 2 else "ga"
