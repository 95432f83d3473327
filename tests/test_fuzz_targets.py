"""The fuzz targets without a fuzzer: over the kept corpus, over what hypothesis makes of it, and ever longer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aivc.sip import info
from fuzz.__main__ import main
from fuzz.catalogue import CORPUS, TARGETS, inputs, words
from fuzz.choices import Choices
from fuzz.dialog import Bug
from fuzz.lines import check_body, check_head
from fuzz.steps import TooManyCalls, check_within_bounds, grown
from fuzz.target import Target

MOST_OCTETS = 200_000  # of the whole corpus
LONG = 8192  # octets of an input that has been grown
PIECES = (1, 2, 7, 40)  # octets of what is repeated in it

every_target = pytest.mark.parametrize("name", TARGETS)


@pytest.mark.parametrize(("name", "file"), [(name, file) for name in TARGETS for file, _ in inputs(name)])
def test_the_kept_corpus_finds_nothing(name: str, file: str) -> None:
    check_within_bounds(TARGETS[name], dict(inputs(name))[file])


@every_target
def test_damaged_inputs_of_the_corpus_find_nothing(name: str) -> None:
    kept = [data for _, data in inputs(name)]

    @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def damage(data: st.DataObject) -> None:
        octets = bytearray(data.draw(st.sampled_from(kept)))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(octets)))
            piece = data.draw(st.sampled_from(words(name)) | st.binary(max_size=4))
            octets[at : at + data.draw(st.integers(0, 8))] = piece
        check_within_bounds(TARGETS[name], bytes(octets))

    damage()


@every_target
@settings(max_examples=60)
@given(data=st.binary(max_size=200))
def test_any_octets_find_nothing(name: str, data: bytes) -> None:
    check_within_bounds(TARGETS[name], data)


@every_target
def test_longer_inputs_cost_no_more_for_each_octet(name: str) -> None:
    target = TARGETS[name]
    for number, (_, data) in enumerate(inputs(name)):
        at = len(data) * (number % 5) // 5
        check_within_bounds(target, grown(data, at, PIECES[number % len(PIECES)], min(LONG, target.max_octets)))


def test_work_that_is_not_linear_is_seen() -> None:
    def quadratic(data: bytes) -> None:
        for first in data:
            for second in data:
                abs(first - second)

    check_within_bounds(Target("short", quadratic), b"x" * 50)
    with pytest.raises(TooManyCalls):
        check_within_bounds(Target("long", quadratic), b"x" * 1000)


@pytest.mark.parametrize("message", [b"A: b\nC: d\r\n\r\n", b"A: \0\r\n\r\n", b"A: b\r\n", b"A: b\r\nno colon\r\n\r\n"])
def test_a_message_with_a_smuggled_line_is_seen(message: bytes) -> None:
    with pytest.raises(AssertionError):
        check_head(message)


@pytest.mark.parametrize("body", [b"v=0", b"v=0\r\nx\r\n", b"v=0\0\r\n", b"v=0\na=b\r\n"])
def test_a_description_with_a_smuggled_line_is_seen(body: bytes) -> None:
    with pytest.raises(AssertionError):
        check_body(body)


def test_a_bug_that_the_user_agent_survives_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(body: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(info, "parse_untrusted", broken)
    with pytest.raises(Bug) as bug:
        TARGETS["dialog"].check(dict(inputs("dialog"))["call"])
    assert isinstance(bug.value.__cause__, ZeroDivisionError)


def test_an_input_is_read_from_its_beginning_and_then_zero() -> None:
    choices = Choices(b"\x07\x02abrest")
    assert (choices.number(4), choices.piece(), choices.rest(), choices.is_over) == (3, b"ab", b"rest", True)
    assert (choices.number(300), choices.piece()) == (0, b"")


def test_every_target_has_a_corpus_and_all_of_it_is_small() -> None:
    folders = {path.name for path in CORPUS.iterdir()}
    assert folders == set(TARGETS)
    assert all(any(inputs(name)) for name in TARGETS)
    assert sum(len(data) for name in TARGETS for _, data in inputs(name)) < MOST_OCTETS


def test_without_atheris_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    result = CliRunner().invoke(main, ["run"])
    assert result.exit_code == 1
    assert "aivc[fuzz]" in result.output


def test_an_input_can_be_given_to_a_target_again(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"OPTIONS")
    result = CliRunner().invoke(main, ["repeat", "message", str(file)])
    assert result.exit_code == 0, result.output
