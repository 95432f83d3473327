"""`aivc show` and `aivc replay` as commands: what they print, what they write, and their exit status."""

from __future__ import annotations

import runpy
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner, Result
from flight_kinds import KINDS

from aivc.cli import main
from aivc.flight.entries import Flight
from aivc.flight.flightfile import write

pytestmark = pytest.mark.usefixtures("restored_logging")  # the commands configure it, as they may


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> Flight:
    return KINDS["a tool"].flight(tmp_path_factory.mktemp("flights"))


@pytest.fixture
def file(tmp_path: Path, flight: Flight) -> Path:
    path = tmp_path / "20270115T080000.000Z-1@192.0.2.9.jsonl"
    path.write_bytes(write(flight))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def other_greeting(flight: Flight) -> Flight:
    settings = {**flight.header.settings, "openai": {**flight.header.settings["openai"], "welcome_message": "Hi."}}
    return attrs.evolve(flight, header=attrs.evolve(flight.header, settings=settings))


def test_an_equal_replay_is_one_line_and_status_0(file: Path) -> None:
    result = run("replay", file)
    assert result.exit_code == 0
    assert result.output.startswith("Equal: ")
    assert len(result.output.splitlines()) == 1


def test_a_difference_is_told_with_both_sides_and_what_came_before(file: Path, flight: Flight) -> None:
    file.write_bytes(write(other_greeting(flight)))
    result = run("replay", file)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].startswith("Different at 0.0")
    assert "response.instructions" in lines[0]
    assert [line for line in lines if line.endswith(":")] == ["  recorded:", "  came:", "  before that:"]
    assert "Hello." in result.output
    assert "Hi." in result.output


def test_what_cannot_be_replayed_is_status_2_and_a_reason(file: Path, flight: Flight) -> None:
    file.write_bytes(write(attrs.evolve(flight, entries=flight.entries[30:])))
    result = run("replay", file)
    assert (result.exit_code, result.output) == (2, f"aivc: {file}: it has no INVITE\n")


@pytest.mark.parametrize("command", ["show", "replay"])
def test_no_recording_and_no_file_are_status_2(command: str, tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("hello\n")
    assert run(command, other).exit_code == 2
    result = run(command, tmp_path / "nowhere")
    assert (result.exit_code, result.output) == (2, f"aivc: {tmp_path / 'nowhere'}: No such file or directory\n")


def test_a_tolerance_of_none_at_all_is_kept_by_a_call_in_virtual_time(file: Path) -> None:
    assert run("replay", file, "--tolerance-ms", "1").exit_code == 0


def test_show_prints_the_ladder(file: Path) -> None:
    result = run("show", file)
    assert result.exit_code == 0
    assert result.output.startswith("Call ")
    assert "INVITE 1 sip:1000@" in result.output
    assert "Ended: caller_hung_up" in result.output


def test_show_draws_the_picture(file: Path, tmp_path: Path) -> None:
    assert run("show", file, "--picture", tmp_path / "call.svg").exit_code == 0
    assert (tmp_path / "call.svg").read_text(encoding="utf-8").startswith("<svg")


def test_a_picture_that_cannot_be_written_is_status_2(file: Path, tmp_path: Path) -> None:
    assert run("show", file, "--picture", tmp_path / "nowhere" / "call.svg").exit_code == 2


def test_a_recording_becomes_a_test_beside_its_copy(file: Path, tmp_path: Path) -> None:
    result = run("replay", file, "--as-test", tmp_path / "tests")
    case = tmp_path / "tests" / "test_20270115t080000_000z_1_192_0_2_9.py"
    assert (result.exit_code, result.output) == (0, f"wrote {case}\n")
    assert (tmp_path / "tests" / "20270115t080000_000z_1_192_0_2_9.jsonl").read_bytes() == file.read_bytes()
    (test,) = (value for name, value in runpy.run_path(str(case)).items() if name.startswith("test_"))
    test()


def test_the_test_fails_when_the_call_goes_another_way(file: Path, flight: Flight, tmp_path: Path) -> None:
    file.write_bytes(write(other_greeting(flight)))
    run("replay", file, "--as-test", tmp_path / "tests")
    (case,) = (tmp_path / "tests").glob("test_*.py")
    (test,) = (value for name, value in runpy.run_path(str(case)).items() if name.startswith("test_"))
    with pytest.raises(AssertionError):
        test()
