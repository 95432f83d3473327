"""A configuration file in the making: keys with what is said about them, to TOML and to lines for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from aivc.config.checks import contradictions
from aivc.config.loading import Draft, take_file
from aivc.config.spelling import as_key, as_toml

WIDTH: Final = 110
MISSING: Final = "openai.key"  # the contradiction that no key of the file is guilty of: there is no API key


@attrs.frozen(kw_only=True)
class Key:
    """One key of the new file, or one that is left out of it and stays as a comment."""

    name: str
    value: object = None  # as TOML has it; None: left out
    old: str | None = None  # what is shown of one that is left out; None: nothing, it is a secret
    remark: str = ""  # what is to be known about it; stands above it


@attrs.define
class Page:
    """Sections of keys, and what is said beside them."""

    heading: str
    sections: dict[str, list[Key]] = attrs.field(factory=dict)
    purposes: dict[str, str] = attrs.field(factory=dict)  # a comment below the name of a section
    ending: list[str] = attrs.field(factory=list)  # comments behind all sections, each of one line or several
    said: list[str] = attrs.field(factory=list)  # what is no remark of one key

    def add(self, section: str, key: Key) -> None:
        self.sections.setdefault(section, []).append(key)

    def tables(self) -> dict[str, dict[str, object]]:
        """What the file says to who reads it."""
        return {
            section: {key.name: key.value for key in keys if key.value is not None}
            for section, keys in self.sections.items()
        }

    def settle(self) -> None:
        """Leave out keys that contradict each other, until the rest can be used together."""
        for _ in range(sum(map(len, self.sections.values())) + 1):
            draft = Draft({})
            take_file(draft, self.tables())
            for finding in contradictions(draft.settings(), draft.sources, simulator=False):
                guilty = [path for path in finding.paths if path in draft.taken]
                if guilty and finding.paths[0] != MISSING:
                    self.leave_out(guilty, f"{finding.paths[0]}: {finding.text}")
                    break
            else:
                return

    def leave_out(self, paths: Sequence[str], why: str) -> None:
        for section, keys in self.sections.items():
            for index, key in enumerate(keys):
                if key.value is not None and f"{section}.{key.name}" in paths:
                    keys[index] = Key(name=key.name, old=as_toml(key.value), remark=f"left out: {why}")

    def notes(self) -> Iterator[str]:
        """One line for each thing to know."""
        for section, keys in self.sections.items():
            yield from (f"{section}.{as_key(key.name)}: {key.remark}" for key in keys if key.remark)
        yield from self.said

    def toml(self) -> str:
        """The text of the file."""
        parts = [comment(self.heading)]
        for section, keys in self.sections.items():
            parts.append(f"\n[{section}]\n{comment(self.purposes.get(section, ''))}")
            parts += map(entry, sorted(keys, key=lambda key: bool(key.remark)))  # those with comments last
        return "".join(parts) + "".join(f"\n{comment(text)}" for text in self.ending)


def entry(key: Key) -> str:
    above = f"\n{comment(key.remark)}" if key.remark else ""
    if key.value is not None:
        return f"{above}{key.name} = {written(key.value)}\n"
    return f"{above}#{as_key(key.name)} = {'(not shown)' if key.old is None else as_toml(key.old)}\n"


def written(value: object) -> str:
    """A value in TOML's spelling; a text of several lines as it stands, if it can."""
    return f"'''\n{value}'''" if isinstance(value, str) and can_stand(value) else as_toml(value)


def can_stand(text: str) -> bool:
    """Whether it has lines, and nothing that a multi-line literal string cannot have."""
    printable = all(char.isprintable() or char in "\n\t" for char in text)
    return "\n" in text and printable and "'''" not in text and not text.endswith("'")


def comment(text: str) -> str:
    """The text as comments, each of its lines filled to the width."""
    filler = textwrap.TextWrapper(
        WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )
    return "".join(f"{filler.fill(line)}\n" for line in text.splitlines() if line)
