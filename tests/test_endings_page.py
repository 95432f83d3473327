"""docs/endings.md has every way in which a call can end, and every ending has a way."""

from __future__ import annotations

from pathlib import Path

import endings_page
import pytest
from scenarios.matrix import ANY_TASK, WAYS

from aivc import Ending

TESTS = Path(__file__).parent


@pytest.mark.parametrize("ending", Ending, ids=lambda ending: ending.value)
def test_every_ending_has_a_way(ending: Ending) -> None:
    assert [way for way in (*WAYS, ANY_TASK) if ending is way.ending]


def test_no_two_ways_have_one_name() -> None:
    assert len({way.name for way in WAYS}) == len(WAYS)
    assert len({way.happens for way in WAYS}) == len(WAYS)


def test_the_page_has_the_tables_that_the_ways_render() -> None:
    document = endings_page.DOCUMENT.read_text()
    assert document == endings_page.with_tables(document), "run python tests/endings_page.py"


@pytest.mark.parametrize("test", [each.test for each in endings_page.PROCESSES], ids=lambda test: test[1])
def test_what_is_tested_elsewhere_is(test: tuple[str, str]) -> None:
    file, name = test
    assert f"async def {name}(" in (TESTS / file).read_text()


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        endings_page.with_tables("# How calls end\n")
