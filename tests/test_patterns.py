"""Patterns matched in linear time, with what Python's own `re` says of the same ones."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.config.patterns import MOST_NESTED, MOST_STATES, compiled, matches_any

ATOMS = ("a", "b", "1", ".", "[ab]", "[^a]", "[]a]", "[^]a-]", r"\d", r"\W", r"\.", r"\x61", "é", "{", "a{", "}", "^")
REPEATS = ("*", "+", "?", "{2}", "{1,3}", "{,2}", "{0,}", "{,}", "*?", "{1,2}?")


def grown(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    group = st.tuples(st.sampled_from(("(", "(?:", "(?P<n>")), part, part).map(
        lambda each: f"{each[0]}{each[1]}|{each[2]})"
    )
    repeated = st.tuples(part, st.sampled_from(REPEATS)).map(lambda each: f"(?:{each[0]}){each[1]}")
    return st.lists(part, max_size=3).map("".join) | group | repeated


PATTERNS = st.recursive(st.sampled_from(ATOMS), grown, max_leaves=12)
TEXTS = st.text(alphabet="abAB1.é-]{}", max_size=8)


@given(st.sampled_from(("", "(?i)", "(?s)", "(?a)")), PATTERNS, st.lists(TEXTS, max_size=8))
def test_they_mean_what_python_means(flags: str, pattern: str, texts: list[str]) -> None:
    try:
        expected = re.compile(flags + pattern)
    except re.error:  # one name for two groups
        return
    for text in texts:
        assert compiled(flags + pattern).matches(text) == bool(expected.fullmatch(text)), text


@pytest.mark.parametrize(
    "pattern", ["([0-9]+-?)+@x", "(a|a)*b", "(.*)*x", "(.*.*.*.*.*)x", "(x+x+)+y", "(a?){64}a{64}"]
)
@pytest.mark.parametrize("char", ["1", "a", "x"])
def test_no_text_makes_any_pattern_slow(pattern: str, char: str) -> None:
    started = time.perf_counter()
    assert not compiled(pattern).matches(char * 1000 + "!")
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"(a)\1", "(?P<n>a)(?P=n)", "(?=a)a", "(?!a)b", "(?<=a)b", "(?<!a)b", "(?>a*)b", "a*+b", r"\ba", r"\Ba"),
        *("(?i:a)b", "(?x) a b", r"\N{DIGIT ONE}", "(", "[", "a**", f"a{{{MOST_STATES}}}", "(a{100}){100}"),
        *("(){4000000000}", "(((){1999}){1999}){1999}", "(" * (MOST_NESTED + 1) + ")" * (MOST_NESTED + 1)),
    ],
)
def test_what_cannot_be_matched_in_linear_time_is_an_error(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        compiled(pattern)


@pytest.mark.parametrize("pattern", ["[[:digit:]]+", "[[]", "1[a--b]", "[a&&b]", "[a~~b]", "[a||b]"])
def test_what_a_later_python_may_read_otherwise_is_an_error(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"^Possible .* at position \d: put a backslash before the character there$"):
        compiled(pattern)
    assert compiled(r"[\[]").matches("[")


def test_the_edges_of_the_text_may_be_named() -> None:
    assert matches_any(("^1[0-9]{2}$",), "100")
    assert matches_any((r"\A1|2\Z",), "2")
    assert not matches_any(("1^0", "1$0"), "10")
    assert not matches_any((), "")
