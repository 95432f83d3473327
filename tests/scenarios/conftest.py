"""Every scenario runs under twenty orders of ready tasks; those that ask for `dialect`, in both dialects."""

from __future__ import annotations

from typing import Literal

import pytest

Dialect = Literal["ga", "beta"]


@pytest.fixture(autouse=True)
def schedule(any_schedule: int) -> int:
    """The number of the schedule: a scenario that fails under one of them always fails under it."""
    return any_schedule


@pytest.fixture(params=["ga", "beta"])
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """The dialect of both the service and the model."""
    chosen: Dialect = request.param
    return chosen
