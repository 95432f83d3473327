"""What one measurement says: the case, the figures, what spoilt it, and the machine it was made on."""

from __future__ import annotations

import json
import math
import os
import platform
import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import attrs

from bench.measuring import Cores, Result

WAITED_MS: Final = 100.0  # a second; who is woken for each packet of 200 calls waits 80 for the waking alone
SENDER_LAG_MS: Final = 3.0  # p99; a caller who talks later than that moves the delays that are measured with him
STOLEN_MS: Final = 20.0  # a second, of one core, that the hypervisor gave to somebody else
SPEAKS_SECONDS: Final = 5.0  # in so long a window there is something of an answer in every call: one begins every 4 s

Signalling = Literal["sip", "mi"]


@attrs.frozen
class Machine:
    """What figures depend on, beside the program."""

    cpu: str
    cores: int
    kernel: str
    python: str
    openssl: str
    load: float  # average of the last minute, when it was asked

    def __str__(self) -> str:
        cores = f"{self.cores} cores" if self.cores > 1 else "1 core"
        return f"{self.cpu}, {cores}, Linux {self.kernel}, Python {self.python}, {self.openssl}, load {self.load:.2f}"


@attrs.frozen
class Case:
    """What is asked for in one measurement."""

    target: str
    calls: int
    append_ms: int = 20
    workers: int = 1
    signalling: Signalling = "sip"
    tls: bool = True


@attrs.frozen
class Trial:
    """One measurement of a case."""

    case: Case
    result: Result
    stolen_ms: float = 0.0  # a second, of all cores: another guest of the same machine

    @property
    def spoilt(self) -> Sequence[str]:
        """Why the times of this run say little; its losses count all the same."""
        result = self.result
        found = [result.note] if result.note else []
        if result.waited_ms > WAITED_MS:
            found.append(f"the target waited {result.waited_ms:.0f} ms a second for its core")
        if (lag := result.report.sender_lag.p99) > SENDER_LAG_MS:
            found.append(f"the callers talked up to {lag:.1f} ms late (p99)")
        if self.stolen_ms > STOLEN_MS:
            found.append(f"the hypervisor took {self.stolen_ms:.0f} ms a second")
        return found

    @property
    def faults(self) -> str:
        """What did not arrive as it was sent, and which calls were not there; "none" if all is as it should be."""
        result, report = self.result, self.result.report
        judged = report.seconds >= SPEAKS_SECONDS
        counts = {
            "calls failed": result.failed,
            "calls hung up": result.hung_up,
            "calls silent": self.case.calls - report.calls - result.failed - result.hung_up if judged else 0,
            "lost": report.lost_up + report.lost_down,
            "twice": report.duplicated_up + report.duplicated_down,
            "reordered": report.reordered_up + report.reordered_down,
            "wrong": report.wrong_up + report.wrong_down,
            "at another call": report.crosstalk,
            "against the rules": report.violations,
        }
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count > 0) or "none"

    @property
    def whole(self) -> bool:
        """Every call was there, and every octet arrived once, in order and where it belongs."""
        return self.result.ok and self.faults == "none"


def machine() -> Machine:
    """The facts of this one (Linux)."""
    model = [
        line.partition(":")[2].strip() for line in read("/proc/cpuinfo").splitlines() if line.startswith("model n")
    ]
    return Machine(
        cpu=model[0] if model else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=platform.python_version(),
        openssl=" ".join(ssl.OPENSSL_VERSION.split()[:2]),
        load=os.getloadavg()[0],
    )


def stolen_seconds() -> float:
    """CPU time that the hypervisor withheld since the start, of all cores: "steal" in proc_stat(5)."""
    fields = read("/proc/stat").partition("\n")[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0


def read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def as_json(trials: Iterable[Trial], on: Machine, cores: Cores, **more: object) -> str:
    """Everything that was measured; times are milliseconds unless the name says otherwise."""
    document = {
        "machine": attrs.asdict(on),
        "cores": attrs.asdict(cores),
        **more,
        "runs": [
            {
                **attrs.asdict(trial),
                "spoilt": list(trial.spoilt),
                "whole": trial.whole,
                "exact": trial.result.report.exact,
            }
            for trial in trials
        ],
    }
    return json.dumps(without_nan(document), indent=1, allow_nan=False)


def without_nan(value: Any) -> Any:
    """JSON has no word for what was not measured but null."""
    match value:
        case dict():
            return {key: without_nan(each) for key, each in value.items()}
        case list() | tuple():
            return [without_nan(each) for each in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
