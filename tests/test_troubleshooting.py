"""docs/troubleshooting.md explains every ending and every refusal, and names nothing that there is not."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from aivc.cli import main
from aivc.config.catalogue import CATALOGUE
from aivc.nursery.ending import FAREWELLS, CallOver, Ending, advice_for
from aivc.nursery.metrics import METRICS
from aivc.sip.reasons import ACK_MISSING, SESSION_EXPIRED, SIGNALLING_FAILED
from aivc.sip.refusals import EXPLANATIONS, USUAL, Cause, advice_on, turned_away, usual_cause

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = (ROOT / "docs" / "troubleshooting.md").read_text()
SETTINGS: Final = frozenset(setting.path for setting in CATALOGUE)
SECTIONS: Final = frozenset(path.partition(".")[0] for path in SETTINGS)
DOTTED: Final = re.compile(r"\b([a-z]+\.[a-z_]+[a-z])\b(?!\()")
ADVICE: Final = {
    **{f"ending {ending.value}": FAREWELLS[ending].advice for ending in Ending},
    **{f"refusal {cause.value}": EXPLANATIONS[cause].advice for cause in Cause},
}


def paragraphs(mark: str) -> dict[str, str]:
    """By the name in their heading."""
    parts = re.split(r"^(#+) ([^\n]*)\n", PAGE, flags=re.MULTILINE)[1:]
    found = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return {title.split("`")[1]: text for level, title, text in found if level == mark and "`" in title}


def names_in_source() -> frozenset[str]:
    """What the log's events are called."""
    text = "".join(path.read_text() for path in (ROOT / "aivc").rglob("*.py"))
    return frozenset(re.findall(r'"([a-z]+\.[a-z_]+)"', text))


def test_every_ending_has_its_paragraph_and_no_other_has() -> None:
    assert list(paragraphs("###")) == [ending.value for ending in sorted(Ending, key=list(FAREWELLS).index)]


def test_every_refusal_has_its_paragraph_and_no_other_has() -> None:
    assert sorted(paragraphs("####")) == sorted(cause.value for cause in Cause)


@pytest.mark.parametrize("ending", list(Ending), ids=lambda ending: ending.value)
def test_a_paragraph_tells_the_status_that_the_peer_gets(ending: Ending) -> None:
    text = paragraphs("###")[ending.value]
    told = set(map(int, re.findall(r"\b[2-6]\d\d\b", text)))
    assert len(text) > 80
    assert told & {FAREWELLS[ending].status, CallOver(ending).status}


@pytest.mark.parametrize("cause", list(Cause), ids=lambda cause: cause.value)
def test_a_paragraph_begins_with_the_status_of_the_refusal(cause: Cause) -> None:
    text = paragraphs("####")[cause.value].strip()
    assert text.startswith(str(EXPLANATIONS[cause].statuses[0]))
    assert all(str(status) in text for status in EXPLANATIONS[cause].statuses)
    assert len(text) > 60


def test_every_setting_and_every_event_that_the_page_names_exists() -> None:
    known = SETTINGS | names_in_source() | frozenset(re.findall(r"`([a-z]+\.[a-z_]+)`", records()))
    named = {word for quoted in re.findall(r"`([^`\n]+)`", PAGE) for word in DOTTED.findall(quoted)}
    named -= {"context.hang_up"}
    assert {name for name in named if name not in known} == set()
    assert len(named & SETTINGS) > 40


def records() -> str:
    return (ROOT / "docs" / "records.md").read_text()


def test_every_command_and_metric_that_the_page_names_exists() -> None:
    commands = set(re.findall(r"`aivc ([a-z]+)", PAGE))
    assert commands
    assert commands <= set(main.commands)
    metrics = set(re.findall(r"`(aivc_[a-z_]+)`", PAGE))
    assert metrics
    assert metrics <= {metric.name for metric in METRICS}


@pytest.mark.parametrize("name", ADVICE)
def test_an_advice_is_one_short_line_that_names_settings_that_exist(name: str) -> None:
    advice = ADVICE[name]
    assert len(advice) <= 110
    assert advice.isprintable()
    named = [word for word in DOTTED.findall(advice) if word.partition(".")[0] in SECTIONS]
    assert [word for word in named if word not in SETTINGS | names_in_source()] == []


def test_only_calls_that_ended_as_calls_do_have_no_advice() -> None:
    without = {ending for ending in Ending if advice_for(ending) is None}
    assert without == {
        Ending.CALLER_HUNG_UP,
        Ending.CALLER_CANCELLED,
        Ending.TRANSFERRED,
        Ending.MODEL_HUNG_UP,
    }
    assert all(FAREWELLS[ending].orderly for ending in without)


def test_what_is_refused_in_the_code_has_a_status_whose_cause_is_known() -> None:
    statuses = {
        node.args[0].value
        for path in (ROOT / "aivc" / "sip").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refusal" and node.args
        if isinstance(node.args[0], ast.Constant)
    }
    assert {400, 403, 481, 488, 503} <= statuses <= USUAL.keys()


@pytest.mark.parametrize(
    ("status", "cause"),
    [(403, Cause.FORBIDDEN), (404, Cause.NUMBER_NOT_SERVED), (500, Cause.INTERNAL_ERROR), (503, Cause.OVERLOADED)],
)
def test_of_several_causes_with_one_status_the_vaguest_is_meant(status: int, cause: Cause) -> None:
    assert usual_cause(status) is cause


def test_a_dialog_that_hangs_up_by_itself_names_the_ending_that_the_record_has() -> None:
    named = (ACK_MISSING, SIGNALLING_FAILED, SESSION_EXPIRED)
    assert named == (Ending.ACK_MISSING.value, Ending.SIGNALLING_FAILED.value, Ending.SESSION_EXPIRED.value)


def test_one_name_means_one_thing_whether_there_was_a_call_or_not() -> None:
    both = {cause.value for cause in Cause} & {ending.value for ending in Ending}
    assert both == {"config_failed", "internal_error"}


def test_the_advice_on_a_rejection_is_found_by_its_name() -> None:
    refused = turned_away(Cause.MAX_CALLS, "service.max_calls = 2 is reached", 7)
    assert (refused.status, refused.name, refused.retry_after_seconds) == (503, "max_calls", 7)
    assert "service.max_calls" in (advice_on(refused.name) or "")
    assert advice_on("cancelled") is None
    assert advice_on("nothing of ours") is None
