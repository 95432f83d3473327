"""Fixtures that several files share."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import trio
from dealing import places, processes
from hypothesis import settings

# The same examples every time, so that a run says something about the change and not about luck. To look for new ones:
# HYPOTHESIS_PROFILE=explore pytest -k "any or every"
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=3000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# So that their assertions tell what they saw.
pytest.register_assert_rewrite("scenarios.world", "scenarios.behind", "scenarios.arena")


def pytest_configure() -> None:
    """Whoever tests in the background (nohup, a script's &) ignores these signals, and programs under test would, too.

    A handler is not inherited as "ignored" is.
    """
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_xdist_auto_num_workers() -> int:
    """Of `-n auto`."""
    return processes()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In one of xdist's processes: the order in which the files are dealt out among them."""
    if hasattr(config, "workerinput"):
        place = places(file_of(item) for item in items)
        items.sort(key=lambda item: (place[file_of(item)], file_of(item)))


def file_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def pytest_collection_finish() -> None:
    """Twenty thousand tests are there to stay: the collector of cycles need not look at them again and again."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Whatever the test makes of Python's logging."""
    root, ours = logging.getLogger(), logging.getLogger("aivc")
    before = (list(root.handlers), root.level, ours.level)
    yield
    root.handlers, root.level, ours.level = before
    logging.getLogger().setLevel(before[1])  # forgets the cached answers of isEnabledFor


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
