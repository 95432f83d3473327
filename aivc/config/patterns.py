"""Patterns for text that strangers write: regular expressions matched in linear time, whatever pattern and text are.

Python's `re` tries one way after another, and `([0-9]+-?)+@` may make it try for hours: who writes the text decides.
Here all ways are followed at once (K. Thompson, "Regular Expression Search Algorithm", 1968): at most so many steps for
each character as the pattern has states. Python's own `re` reads the pattern first, and says what is wrong with it; it
also decides which characters a class such as `[0-9a-f]`, `\\d` or `.` has. What needs the other way of matching is left
out: back-references, look-around, atomic groups, possessive repetition and word boundaries.
"""

from __future__ import annotations

import functools
import re
import warnings
from typing import Final

import attrs

MOST_STATES: Final = 2000  # of one pattern: a list of some hundred numbers; a repetition counts as often as it repeats
MOST_NESTED: Final = 50  # groups in groups
FLAGS: Final = {"a": re.ASCII, "i": re.IGNORECASE, "s": re.DOTALL}
CLASS: Final = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
ESCAPE: Final = re.compile(r"\\(?:x..|u.{4}|U.{8}|0[0-7]{0,2}|[^1-9bBAZN])", re.DOTALL)
COUNT: Final = re.compile(r"\{([0-9]*)(,?)([0-9]*)\}")
GROUP: Final = re.compile(r"\((?:\?:|\?P<\w+>|(?!\?))")
LEADING_FLAGS: Final = re.compile(r"\(\?([ais]+)\)")


@attrs.define(eq=False)
class State:
    """One place in a pattern.

    Attributes:
      takes: the one character that leads on; None: nothing is taken.
      at_start, at_end: leads on there only.
      onward: where it leads.
    """

    takes: re.Pattern[str] | None = None
    at_start: bool = False
    at_end: bool = False
    onward: list[State] = attrs.field(factory=list)


@attrs.frozen
class Atom:
    """A character, a class of characters, or an edge of the text."""

    takes: re.Pattern[str] | None = None
    at_start: bool = False
    at_end: bool = False


@attrs.frozen
class Repeat:
    part: Part
    least: int
    most: int | None


@attrs.frozen
class Sequence:
    parts: tuple[Part, ...]


@attrs.frozen
class Choice:
    branches: tuple[Part, ...]


Part = Atom | Repeat | Sequence | Choice


@attrs.frozen(eq=False)
class Pattern:
    """A pattern that is ready to be matched."""

    start: State
    end: State

    def matches(self, text: str) -> bool:
        """Whether it matches all of the text."""
        now = self._reached([self.start], 0, text)
        for index, char in enumerate(text):
            taken = [state for state in now if state.takes is not None and state.takes.match(char)]
            now = self._reached([onward for state in taken for onward in state.onward], index + 1, text)
            if not now:
                return False
        return self.end in now

    def _reached(self, first: list[State], index: int, text: str) -> dict[State, None]:
        """Those states, and where they lead without taking anything."""
        found: dict[State, None] = {}
        waiting = first
        while waiting:
            state = waiting.pop()
            if state in found or (state.at_start and index) or (state.at_end and index < len(text)):
                continue
            found[state] = None
            if state.takes is None:
                waiting += state.onward
        return found


@functools.lru_cache(maxsize=4096)
def compiled(text: str) -> Pattern:
    """The pattern that the text is. Raises ValueError."""
    check(text)
    leading = LEADING_FLAGS.match(text)
    flags = functools.reduce(lambda flags, name: flags | FLAGS[name], leading[1] if leading else "", re.NOFLAG)
    reader = Reader(text, flags, leading.end() if leading else 0)
    return Builder().pattern(reader.choice())


def check(text: str) -> None:
    """Raises ValueError if `re` cannot read it, or warns of it: what `[[:digit:]]` means may change with Python."""
    try:
        with warnings.catch_warnings(action="error", category=FutureWarning):
            re.compile(text)
    except FutureWarning as warning:
        raise ValueError(f"{warning}: put a backslash before the character there") from None
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None


def matches_any(patterns: tuple[str, ...], text: str) -> bool:
    """Whether one of them matches all of the text. Raises ValueError for a bad pattern before that."""
    return any(compiled(pattern).matches(text) for pattern in patterns)


@attrs.define
class Reader:
    """Takes a pattern apart that `re` has found to be well-formed. Raises ValueError for what is left out here."""

    text: str
    flags: re.RegexFlag
    place: int
    depth: int = 0

    def choice(self) -> Part:
        branches = [self._sequence()]
        while self._accept("|"):
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else Choice(tuple(branches))

    def _sequence(self) -> Part:
        parts: list[Part] = []
        while self.place < len(self.text) and self.text[self.place] not in "|)":
            parts.append(self._repeated(self._part()))
        return Sequence(tuple(parts))

    def _part(self) -> Part:
        group = GROUP.match(self.text, self.place)
        if group is not None:
            return self._group(group.end())
        if self._accept("^") or self._accept("\\A"):
            return Atom(at_start=True)
        if self._accept("$") or self._accept("\\Z"):
            return Atom(at_end=True)
        match self.text[self.place]:
            case "[":
                found = CLASS.match(self.text, self.place)
            case "\\":
                found = ESCAPE.match(self.text, self.place)
            case "(":
                found = None
            case _:
                return self._atom(self.place + 1)
        if found is None:
            raise ValueError(f"{self.text[self.place : self.place + 10]!r} cannot be matched in linear time")
        return self._atom(found.end())

    def _group(self, begin: int) -> Part:
        self.depth += 1
        if self.depth > MOST_NESTED:
            raise ValueError(f"more than {MOST_NESTED} groups in groups")
        self.place = begin
        inner = self.choice()
        self.place += 1  # the parenthesis that `re` has seen
        self.depth -= 1
        return inner

    def _atom(self, end: int) -> Atom:
        begin, self.place = self.place, end
        return Atom(re.compile(self.text[begin:end], self.flags))

    def _repeated(self, part: Part) -> Part:
        least, most = 1, 1
        count = COUNT.match(self.text, self.place)
        if self._accept("*"):
            least, most = 0, -1
        elif self._accept("+"):
            most = -1
        elif self._accept("?"):
            least = 0
        elif count is not None and count[0] != "{}":
            self.place = count.end()
            least = int(count[1] or 0)
            most = int(count[3] or -1) if count[2] else least
        else:
            return part
        if self._accept("+"):
            raise ValueError("possessive repetition cannot be matched in linear time")
        self._accept("?")  # as few as possible: of a match of the whole text it makes no difference
        return Repeat(part, least, None if most == -1 else most)

    def _accept(self, token: str) -> bool:
        found = self.text.startswith(token, self.place)
        self.place += len(token) * found
        return found


@attrs.define
class Builder:
    """Makes states of the parts, from the last to the first. Raises ValueError when there are too many."""

    count: int = 0

    def pattern(self, part: Part) -> Pattern:
        end = self._state(Atom())
        return Pattern(self._built(part, end), end)

    def _built(self, part: Part, onward: State) -> State:
        """The state where that part begins, before `onward`."""
        match part:
            case Atom():
                return self._state(part, onward)
            case Sequence(parts):
                for each in reversed(parts):
                    onward = self._built(each, onward)
                return onward
            case Choice(branches):
                return self._state(Atom(), *(self._built(branch, onward) for branch in branches))
            case Repeat(inner, least, most):
                return self._repeated(inner, least, most, onward)

    def _repeated(self, part: Part, least: int, most: int | None, onward: State) -> State:
        first = onward
        if most is None:
            first = self._state(Atom(), onward)
            first.onward.append(self._built(part, first))
        else:
            for _ in range(most - least):
                first = self._state(Atom(), self._built(part, first), onward)
        for _ in range(least):
            self._spend()  # a part of nothing makes no states, and takes its time all the same
            first = self._built(part, first)
        return first

    def _state(self, atom: Atom, *onward: State) -> State:
        self._spend()
        return State(atom.takes, atom.at_start, atom.at_end, list(onward))

    def _spend(self) -> None:
        self.count += 1
        if self.count > MOST_STATES:
            raise ValueError(f"a pattern of more than {MOST_STATES} characters, with repetitions counted as often")
