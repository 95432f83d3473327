"""Ten thousand calls of all kinds in virtual time: `python tests/endurance.py --calls 10000 --seed 1`.

Everything is drawn from the seed. What goes wrong is told with the number of the call and how to have that call again.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import trio
from endurance_calls import KINDS, Kind
from endurance_town import Town, open_town
from trio.testing import MockClock

BATCH: Final = 1000
SHOWN: Final = 20  # faults


async def run(seed: int, numbers: Sequence[int], batch: int = BATCH, kinds: Sequence[Kind] = KINDS) -> Town:
    """All of these calls on one service, in batches, after each of which nothing may be left."""
    async with open_town(seed, kinds) as town:
        for start in range(0, len(numbers), batch):
            await town.live(numbers[start : start + batch])
    return town


def run_repeatably(seed: int, numbers: Sequence[int], batch: int = BATCH) -> Town:
    """The same under a fake clock, and in an order of ready tasks that the seed decides.

    The two private names are those of trio's own test_scheduler_determinism.py.
    """
    internals: Any = trio._core._run
    internals._ALLOW_DETERMINISTIC_SCHEDULING = True
    internals._r.seed(seed)
    gc.set_threshold(50_000, 20, 50)  # a tenth of the time; each batch ends with a collection
    return trio.run(partial(run, seed, numbers, batch), clock=MockClock(autojump_threshold=0))


def report(town: Town, seconds: float, cpu: float) -> str:
    """What there was, for people."""
    calls = sum(town.kinds.values())
    lines = [
        f"{calls} calls, up to {town.most_at_once} at once, in {seconds:.0f} s; {1000 * cpu / calls:.0f} ms CPU each",
        "kinds: " + ", ".join(f"{count} {name}" for name, count in town.kinds.most_common()),
        "endings: " + ", ".join(f"{count} {name}" for name, count in town.endings.most_common()),
        "warnings: " + ", ".join(f"{count} {name}" for name, count in town.listener.warnings.most_common()),
        f"objects alive after each batch: {[objects.total() for objects in town.objects]}",
        *(f"FAULT: {fault}" for fault in town.faults[:SHOWN]),
        f"{len(town.faults)} faults",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--processes", type=int, default=2, help="each takes its share of the calls, on its own service"
    )
    parser.add_argument("--part", type=int, help="do this process's share only")
    parser.add_argument("--only", type=int, help="nothing but the call of this number")
    given = parser.parse_args()
    if given.only is None and given.part is None and given.processes > 1:
        return divide(given)
    numbers = range(given.part or 0, given.calls, given.processes if given.part is not None else 1)
    began, cpu = time.monotonic(), time.process_time()
    town = run_repeatably(given.seed, numbers if given.only is None else [given.only])
    print(report(town, time.monotonic() - began, time.process_time() - cpu), flush=True)
    return 1 if town.faults else 0


def divide(given: argparse.Namespace) -> int:
    """The same in several processes."""
    began = time.monotonic()
    same = ["--calls", str(given.calls), "--seed", str(given.seed), "--processes", str(given.processes)]
    shares = [
        subprocess.Popen([sys.executable, __file__, *same, "--part", str(part)]) for part in range(given.processes)
    ]
    codes = [share.wait() for share in shares]
    print(f"{given.calls} calls in {time.monotonic() - began:.0f} s: {'faults' if any(codes) else 'no faults'}")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
