"""Tables and figures of the bench, as text."""

from __future__ import annotations

import pytest

from bench.tables import figure, table


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.2449, "0.24"),
        (0.004, "0.00"),
        (2.984, "2.98"),
        (31.44, "31.4"),
        (145.2, "145"),
        (1449.9, "1450"),
        (0, "0"),
        (-3.14159, "-3.14"),
        (9.999, "10.00"),
        (None, "-"),
        (float("nan"), "-"),
        (float("inf"), "-"),
    ],
)
def test_a_figure_has_the_digits_that_mean_something(number: float | None, text: str) -> None:
    assert figure(number) == text


def test_a_table_lines_up_and_is_markdown() -> None:
    assert table(("program", "ms"), [("aivc", "2.25"), ("plain trio", "11")]).splitlines() == [
        "| program    |   ms |",
        "| ---------- | ---: |",
        "| aivc       | 2.25 |",
        "| plain trio |   11 |",
    ]


def test_a_line_with_a_cell_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        table(("program", "ms"), [("aivc",)])
