"""`aivc serve` under a wall clock that a test steps: seconds are read from a file, and added to those of the system.

A container cannot step its real clock. All that aivc, and the libraries below it, know of the wall clock they have from
`time.time`, or from a `datetime.now` that only writes the time of a log line.

Usage: python stepping_clock.py FILE ARGUMENTS OF aivc...
"""

from __future__ import annotations

import sys
import time
from pathlib import Path


def main() -> None:
    file, real = Path(sys.argv[1]), time.time

    def stepped() -> float:
        return real() + float(file.read_text() or 0)

    time.time = stepped
    from aivc.cli import main as aivc  # not before: some functions take time.time as a default

    sys.argv = ["aivc", *sys.argv[2:]]
    aivc()


if __name__ == "__main__":
    main()
