"""Fixtures that several files share."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import settings

# The same examples every time, so that a run says something about the change and not about luck. To look for new ones:
# HYPOTHESIS_PROFILE=explore pytest -k "any or every"
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=3000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# So that their assertions tell what they saw.
pytest.register_assert_rewrite("scenarios.world", "scenarios.behind", "scenarios.arena")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Half a surrogate pair in what a test logged cannot travel from one of xdist's processes to the other."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture
def test_data() -> Path:
    """The folder of other people's messages, vectors and recordings, which are not part of this repository."""
    folder = os.environ.get("AIVC_TEST_DATA")
    if not folder:
        pytest.skip("AIVC_TEST_DATA does not say where the RFC messages and vectors are")
    return Path(folder)


@pytest.fixture(params=range(20), ids=lambda seed: f"schedule{seed}")
def any_schedule(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Run the test under a known order of ready tasks; trio otherwise draws one on purpose.

    The two private names are those of trio's own test_scheduler_determinism.py.
    """
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
    dice = trio._core._run._r
    state = dice.getstate()
    dice.seed(request.param)
    yield request.param
    dice.setstate(state)
