"""No item is without its test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ITEMS = {
    "tx": "01 02 03 04 05 06 08 09 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 30 31 33 34 35 36 37 38 40"
    " 41",
    "tcp": "01 03 05 06 07 08 10",
    "oa": "01 02 03 04 05 06 07 08 10 11 13 14 16 17 18 19 20 21 22 23 25 26 27 29 30",
    "rtp": "01 02 03 04 05 06 08 09 10 11 12 13 14 16",
    "dl": "02 03 04 06 07 08 09 10",
    "se": "01 02 03 04 08 09 10 11 12",
    "rf": "01 02 03 04 06 07 08 09",
    "au": "01 02 03 04 05 06",
    "rg": "01 02 03 04",
    "st": "01 02 03",
    "lb": "01 02 03 04 06",  # 05, an instance that comes back, needs a real dispatcher
    "ld": "01 02 03",
    "ec": "01 02 03 04 05",
}
NAME = re.compile(r"def test_([a-z]+)_((?:\d\d_)+)")


@pytest.mark.parametrize("group", ITEMS)
def test_each_item_has_a_test_of_its_name(group: str) -> None:
    shown: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for name, numbers in NAME.findall(path.read_text()):
            shown |= set(numbers.strip("_").split("_")) if name == group else set()
    assert shown == set(ITEMS[group].split())
