"""`python -m bench run` and what the commands have in common: options, table, pictures, warnings."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from bench_result_parts import trial
from click.testing import CliRunner

from bench.__main__ import main
from bench.conditions import Conditions, by_name, name, notes, numbers, target_of, warnings
from bench.measuring import Cores
from bench.results import Case, Trial, machine
from bench.run import HEADINGS, cells, charts, draw, latencies, per_append


def trials() -> list[Trial]:
    return [trial(calls, append_ms=append_ms) for append_ms in (20, 60) for calls in (1, 100, 200)]


def test_a_line_of_the_table_has_a_cell_for_each_heading() -> None:
    row = cells(trial(100, lost_up=1))
    assert len(row) == len(HEADINGS)
    assert row[:4] == ("100", "20", "2.50", "25.0")
    assert row[-1] == "1 lost"


def test_a_spoilt_run_is_marked_in_the_table_and_explained_below() -> None:
    spoilt = trial(100, waited_ms=200)
    assert cells(spoilt)[0] == "100 (spoilt)"
    assert warnings(by_name([trial(50), spoilt])).splitlines() == [
        "Do not trust the times of",
        "  aivc, 100 calls: the target waited 200 ms a second for its core",
    ]
    assert warnings(by_name([trial(50)])) == ""


def test_there_is_a_line_for_each_length_of_appends_in_the_order_of_calls() -> None:
    lines = list(per_append(list(reversed(trials())), lambda each: each.result.cpu_ms))
    assert [line.name for line in lines] == ["appends of 20 ms", "appends of 60 ms"]
    assert [x for x, _ in lines[0].points] == [1, 100, 200]
    (alone,) = per_append(trials()[:3], lambda each: each.result.cpu_ms)
    assert alone.name == "aivc"


def test_delays_are_drawn_for_the_shortest_appends_alone() -> None:
    lines = latencies(trials())
    assert [line.name for line in lines] == ["caller to model, p50", "p99", "model to caller, p50", "p99"]
    assert {len(line.points) for line in lines} == {3}


def test_the_four_pictures_are_drawn(tmp_path: Path) -> None:
    assert [file for file, _ in charts(trials(), [])] == ["cpu", "pacing", "latency", "memory"]
    draw(trials(), tmp_path / "images", ["a note"])
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [
        "cpu.svg",
        "latency.svg",
        "memory.svg",
        "pacing.svg",
    ]


def test_a_picture_of_spoilt_runs_says_so() -> None:
    conditions = Conditions()
    assert "disturbed" in notes(machine(), conditions, [trial(), trial(lag_ms=50)])[1]
    assert "disturbed" not in notes(machine(), conditions, [trial()])[1]


def test_conditions_are_told_in_words() -> None:
    conditions = Conditions(Cores(0, 3, (1,)), 5.0, "mi", tls=False, workers=2)
    assert str(conditions) == "target on core 0 1, 2 workers, callers and model on core 3, mi, no TLS, 5 s each"


def test_a_case_becomes_settings_of_aivc() -> None:
    target = target_of(Case("aivc", 10, append_ms=60, workers=2, signalling="mi"), AIVC_ADMIN_LISTEN="127.0.0.1:9")
    assert target.signalling == "mi"
    assert target.environ["AIVC_REALTIME_APPEND_MS"] == "60"
    assert target.environ["AIVC_SERVICE_WORKERS"] == "2"
    assert target.environ["AIVC_ADMIN_LISTEN"] == "127.0.0.1:9"
    assert name(Case("aivc", 10, append_ms=60)) == "aivc, 10 calls, appends of 60 ms"


@pytest.mark.parametrize("value", ["", "1,", "a", "1;2", "-1", "1.5", "²"])
def test_numbers_that_are_none_are_refused(value: str) -> None:
    command = click.Command("run")
    with pytest.raises(click.BadParameter):
        numbers(click.Context(command), click.Option(["--calls"]), value)


@pytest.mark.parametrize("command", ["run", "max", "compare", "setup", "answer", "soak", "smoke"])
def test_every_command_tells_its_options(command: str) -> None:
    told = CliRunner().invoke(main, [command, "--help"])
    assert told.exit_code == 0
    assert "--seconds" in told.output


def test_a_missing_compiler_is_told_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    told = CliRunner().invoke(main, ["smoke"])
    assert told.exit_code == 1
    assert "gcc" in told.output
    assert "Traceback" not in told.output
