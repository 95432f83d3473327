"""The expressions of the AI Voice Connector CE, for the beginning of a user in lower case, as our patterns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.config.migration_match import has_capitals, looks_like_a_list, whole
from aivc.config.patterns import compiled

ATOMS = (
    "a",
    "b",
    "1",
    ".",
    "[ab]",
    "[^a]",
    "[]a]",
    r"\d",
    r"\W",
    r"\.",
    r"\$",
    r"\\",
    r"\x61",
    "é",
    "^",
    "$",
    "{",
    "a{",
)
REPEATS = ("*", "+", "?", "{2}", "{1,3}", "*?")


def grown(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    group = st.tuples(st.sampled_from(("(", "(?:", "(?P<N>")), part, part).map(
        lambda each: f"{each[0]}{each[1]}|{each[2]})"
    )
    repeated = st.tuples(part, st.sampled_from(REPEATS)).map(lambda each: f"(?:{each[0]}){each[1]}")
    branches = st.tuples(part, part).map("|".join)
    return st.lists(part, max_size=3).map("".join) | group | repeated | branches


EXPRESSIONS = st.recursive(st.sampled_from(ATOMS), grown, max_leaves=10)
USERS = st.text(alphabet="abAB1.$\\é-{", max_size=8)


@given(st.sampled_from(("", "(?i)", "(?m)", "(?as)")), EXPRESSIONS, st.lists(USERS, max_size=8))
def test_the_same_calls_match(flags: str, expression: str, users: list[str]) -> None:
    try:
        expected = re.compile(flags + expression)
    except re.error:  # one name for two groups
        return
    pattern = compiled(whole(flags + expression))
    for user in users:
        assert pattern.matches(user) == bool(expected.match(user.lower())), user


@pytest.mark.parametrize(
    ("expression", "pattern"),
    [
        ("store", "(?i)store.*"),
        ("1[0-9]", "1[0-9].*"),
        ("^1[0-9]{3}$", "^1[0-9]{3}$"),
        ("1.*", "1.*"),
        ("1.+", "1.+"),
        (r"1\.*", r"1\.*.*"),
        (r"1\\.*", r"1\\.*"),
        (r"1\$", r"1\$.*"),
        ("10|20", "(?:10|20).*"),
        ("^(10|20)$", "^(10|20)$"),
        ("[|]1", "[|]1.*"),
        ("(?a)x", "(?ai)x.*"),
        (r"\d+", r"\d+.*"),
    ],
)
def test_what_is_written_stays_as_short_as_it_can(expression: str, pattern: str) -> None:
    assert whole(expression) == pattern


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("(", "not a regular expression"),
        ("(?!9)1", "linear time"),
        (r"(1)\1", "linear time"),
        (r"1\b", "linear time"),
        ("(?x)1 2", "the flag x"),
        ("1{3000}", "more than"),
        ("[[]", "Possible nested set at position 1"),
    ],
)
def test_what_we_cannot_match_is_refused_with_the_reason(expression: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        whole(expression)


@pytest.mark.parametrize(("expression", "capitals"), [("Store", True), (r"\D\Ustore", False), ("(?P<N>1)", False)])
def test_capitals_are_noticed(expression: str, capitals: bool) -> None:
    assert has_capitals(expression) is capitals


@pytest.mark.parametrize(("expression", "listed"), [("100,200", True), ("1{2,3}", False), ("1{2,}", False)])
def test_commas_that_separate_nothing_are_noticed(expression: str, listed: bool) -> None:
    assert looks_like_a_list(expression) is listed
