"""The table of docs/endings.md, rendered from the ways that tests/scenarios/matrix.py lives through.

python tests/endings_page.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs
from scenarios.matrix import ANY_TASK, THE_READER, WAYS, in_order
from scenarios.ways import Way

from aivc import Ending
from aivc.nursery.ending import FAREWELLS

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "endings.md"
BEGIN: Final = "<!-- begin: rendered by tests/endings_page.py -->"
END: Final = "<!-- end -->"
FRONT_ENDS: Final = {"sip": "the built-in user agent", "opensips": "OpenSIPS"}


@attrs.frozen
class Elsewhere:
    """What happens to the whole process, which other tests do with real ones.

    Args:
      test: the file and the test.
    """

    happens: str
    becomes: str  # of the calls
    test: tuple[str, str]


PROCESSES: Final = (
    Elsewhere(
        "A worker is killed, or crashes.",
        "Its calls have no record and no BYE, and their telephones hear 481 when they hang up. Those of other workers"
        " go on; another worker takes its place.",
        ("test_workers.py", "test_a_killed_worker_costs_only_its_calls_and_is_replaced"),
    ),
    Elsewhere(
        "A worker hangs.",
        "It is killed, and the same as above.",
        ("test_workers.py", "test_a_worker_that_hangs_is_killed_and_replaced"),
    ),
    Elsewhere(
        "One worker is told to stop.",
        "Its calls may finish, and new ones go to others.",
        ("test_workers.py", "test_one_worker_can_be_drained_and_comes_back"),
    ),
    Elsewhere(
        "`aivc serve` gets SIGTERM or SIGINT, and a second one.",
        "As with `drained` and `embedder_cancelled` above, in all workers.",
        ("test_workers.py", "test_a_signal_drains_all_workers_and_a_second_one_ends_them_with_goodbyes"),
    ),
    Elsewhere(
        "The parent of the workers is killed.",
        "The workers hang up on their calls, and end.",
        ("test_workers.py", "test_when_the_parent_is_killed_the_workers_hang_up_and_end"),
    ),
)


def tables() -> str:
    """The rendered part."""
    ways = in_order((*WAYS, ANY_TASK, THE_READER))
    rows = ["| what happens | ending | what the caller's telephone sees | front ends | logged as errors |"]
    rows += ["| --- | --- | --- | --- | --- |", *map(row, ways), "", "### Whole processes", ""]
    rows += ["| what happens | what becomes of the calls | test |", "| --- | --- | --- |"]
    rows += [f"| {each.happens} | {each.becomes} | `tests/{each.test[0]}` |" for each in PROCESSES]
    return "\n".join(rows) + "\n"


def row(way: Way) -> str:
    cells = (way.happens, endings(way), seen(way), front_ends(way), ", ".join(f"`{name}`" for name in way.logged))
    return "| " + " | ".join(cells) + " |"


def endings(way: Way) -> str:
    if way.ending is None:
        return "none: no call came about"
    found = [way.ending] if way.or_else is None else [way.ending, way.or_else]
    return " or ".join(f"`{ending.value}`" for ending in found)


def seen(way: Way) -> str:
    """What the telephone does and sees, in words."""
    text = told(way)
    match way.sees:
        case "hangs up":
            return "200 for its BYE"
        case "both hang up":
            return "200 for its BYE, and perhaps our BYE"
        case "is hung up on":
            return f"BYE{text}"
        case "is refused":
            return f"{status(way)}{text}"
        case "cancels":
            return "487, or 200 if that was faster" if way.or_else is not None else "487"
        case "is left alone":
            return "nothing: OpenSIPS cannot be told"


def told(way: Way) -> str:
    text = way.says if way.says is not None else FAREWELLS[way.ending or Ending.INTERNAL_ERROR].text
    return f": {text}" if text else ""


def status(way: Way) -> int:
    return way.status or (503 if way.ending is None else FAREWELLS[way.ending].status)


def front_ends(way: Way) -> str:
    return "both" if way.only is None else f"{FRONT_ENDS[way.only[0]]} only: {way.only[1]}"


def with_tables(document: str) -> str:
    """The document with the part between its two marks rendered anew; ValueError if a mark is missing."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks {BEGIN if not begin else END}")
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def main() -> None:
    """Write the page."""
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
    print(f"{len(WAYS)} ways written to {DOCUMENT}")


if __name__ == "__main__":
    main()
