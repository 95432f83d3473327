"""The bench's pictures: SVG that any browser shows, whatever it is fed."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from bench.pictures import Bar, Chart, Scale, Series, bars, chart

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*series: Series, logarithmic: bool = False) -> ElementTree.Element:
    limits = ((5.0, "5 ms"),)
    return ElementTree.fromstring(
        chart(Chart("Pacing <error>", "calls", "ms", series, limits, logarithmic, ("a & b",)))
    )


def words(picture: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in picture.iter(f"{SVG}text")]


def test_a_chart_names_its_title_axes_lines_limits_and_circumstances() -> None:
    said = words(drawn(Series("aivc", [(1, 1.0), (100, 2.0)]), Series("other", [(1, 2.0)], colour=1)))
    assert {"Pacing <error>", "calls", "ms", "aivc", "other", "5 ms", "a & b"} <= set(said)


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("ys", [(0.0, 0.0), (0.07, 0.0), (0.24, 34.0), (3.0, 3.0), (1e-6, 9000.0)])
def test_every_point_lies_inside_the_axes(ys: tuple[float, float], logarithmic: bool) -> None:
    picture = drawn(Series("aivc", [(1, ys[0]), (300, ys[1])]), logarithmic=logarithmic)
    points = [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in picture.iter(f"{SVG}circle")]
    assert len(points) == 2
    for x, y in points:
        assert 68 <= x <= 732
        assert 92 <= y <= 354


def test_more_is_further_up_and_to_the_right() -> None:
    picture = drawn(Series("aivc", [(50, 1.0), (100, 2.0)]))
    (x1, y1), (x2, y2) = ((float(c.attrib["cx"]), float(c.attrib["cy"])) for c in picture.iter(f"{SVG}circle"))
    assert x1 < x2
    assert y1 > y2


def test_a_picture_is_light_or_dark_with_its_page_and_loads_nothing() -> None:
    text = bars("CPU", "ms", [Bar("aivc", 2.2, 2.0, 2.5), Bar("floor", 1.0, 0.9, 1.1)])
    assert "prefers-color-scheme: dark" in text
    assert 'class="panel"' in text
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)|url\(|<script|@import|href", text) == []


def test_bars_are_as_long_as_their_values_and_say_them() -> None:
    picture = ElementTree.fromstring(bars("CPU", "ms", [Bar("aivc", 2.0, 2.0, 2.0), Bar("floor", 1.0, 0.5, 1.5)]))
    widths = [float(each.attrib["width"]) for each in picture.iter(f"{SVG}rect")][1:]
    assert widths[0] == pytest.approx(2 * widths[1])
    assert {"aivc", "floor", "2.00", "1.00"} <= set(words(picture))


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (Scale(0, 300, 0, 1), [0, 100, 200, 300]),
        (Scale(0, 2.5, 0, 1), [0, 0.5, 1, 1.5, 2, 2.5]),
        (Scale(0.1, 5, 0, 1, logarithmic=True), [0.1, 0.2, 0.5, 1, 2, 5]),
    ],
)
def test_ticks_are_round_values(scale: Scale, ticks: list[float]) -> None:
    assert scale.ticks() == pytest.approx(ticks)
