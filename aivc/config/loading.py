"""Defaults, then a TOML file, then the environment: to settings that are checked, with all that is wrong at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import tomli

from aivc.config.catalogue import CATALOGUE, SECTIONS, Setting, settings_of
from aivc.config.checks import contradictions, doubts
from aivc.config.environment import CONFIG_FILE, given, unknown
from aivc.config.rules import shortened
from aivc.config.settings import Settings
from aivc.config.values import did_you_mean, from_text, read, wrong_type


class ConfigError(Exception):
    """The configuration cannot be used."""

    def __init__(self, errors: tuple[str, ...]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors  # one sentence each, beginning with its path


@attrs.frozen
class Loaded:
    """Settings, and what to tell the operator about them."""

    settings: Settings
    sources: Mapping[str, str]  # "section.name" -> "default", "file" or "environment VARIABLE"
    warnings: tuple[str, ...]


@attrs.define
class Draft:
    """What is known so far; later layers overwrite earlier ones."""

    values: dict[str, object] = attrs.field(factory=dict)  # by path
    sources: dict[str, str] = attrs.field(factory=lambda: {setting.path: "default" for setting in CATALOGUE})
    errors: list[str] = attrs.field(factory=list)
    faulty: set[str] = attrs.field(factory=set)  # paths that have an error of their own

    def take(self, setting: Setting, raw: object, source: str) -> None:
        """Note what `source` says of a setting."""
        self.sources[setting.path] = source
        try:
            self.values[setting.path] = read(setting, raw)
        except ValueError as error:
            self.refuse(setting, str(error))

    def refuse(self, setting: Setting, text: str) -> None:
        """Note that a setting cannot be used."""
        self.faulty.add(setting.path)
        self.errors.append(f"{self.label(setting.path)}: {text}")

    def label(self, path: str) -> str:
        """The path, with the variable when that is where the value comes from."""
        source = self.sources[path]
        return f"{path} ({source.removeprefix('environment ')})" if source.startswith("environment ") else path

    def settings(self) -> Settings:
        """The settings from all values that could be read."""
        return Settings(**{name: self.section(name) for name in SECTIONS})

    def section(self, section: str) -> Any:
        names = {setting.name: setting.path for setting in settings_of(section)}
        return SECTIONS[section](**{name: self.values[path] for name, path in names.items() if path in self.values})


def load(path: str | None, environ: Mapping[str, str], *, simulator: bool = False) -> Loaded:
    """The settings that the file and the environment give.

    Args:
        path: a TOML file; None = the one that CONFIG_FILE names, else none.
        environ: the environment's variables.
        simulator: whether a local Realtime server stands in for OpenAI, which needs no key.

    Raises:
        ConfigError: with everything that is wrong.
    """
    draft = Draft()
    file = path or environ.get(CONFIG_FILE) or None
    if file is not None:
        take_file(draft, read_file(Path(file)))
    for setting, text in given(environ):
        take_variable(draft, setting, text)
    find_tools(draft, Path(file).parent if file is not None else Path())
    settings = draft.settings()
    for finding in contradictions(settings, simulator=simulator):
        if draft.faulty.isdisjoint(finding.paths):
            draft.errors.append(f"{draft.label(finding.paths[0])}: {finding.text}")
    if draft.errors:
        raise ConfigError(tuple(draft.errors))
    warnings = (*unknown(environ), *doubts(settings, draft.sources, simulator=simulator))
    return Loaded(settings, draft.sources, warnings)


def read_file(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; ConfigError if it cannot be read or is not TOML."""
    try:
        return tomli.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from None
    except UnicodeDecodeError as error:
        raise ConfigError((f"{path}: is not UTF-8 text: byte {error.start}",)) from None
    except tomli.TOMLDecodeError as error:
        raise ConfigError((f"{path}:{error.lineno}:{error.colno}: {error.msg}",)) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets nested as deep
        raise ConfigError((f"{path}: {error}",)) from None


def take_file(draft: Draft, tables: Mapping[str, Any]) -> None:
    """Note what the file says."""
    for name, table in tables.items():
        if name not in SECTIONS:
            draft.errors.append(f"{name}: {unknown_section(name)}")
        elif not isinstance(table, dict):
            draft.errors.append(f"{name}: {wrong_type(f'a table, [{name}]', table)}")
        else:
            take_table(draft, name, table)


def take_table(draft: Draft, section: str, table: Mapping[str, Any]) -> None:
    spellings = {spelling: setting for setting in settings_of(section) for spelling in spellings_of(setting)}
    taken: dict[str, str] = {}
    for key, raw in table.items():
        setting = spellings.get(key)
        if setting is None:
            draft.errors.append(f"{section}.{key}: {unknown_key(key, list(spellings))}")
        elif setting.path in taken:
            draft.refuse(setting, f"given twice, also as {taken[setting.path]}")
        else:
            taken[setting.path] = key
            draft.take(setting, raw, "file")


def spellings_of(setting: Setting) -> Iterator[str]:
    yield setting.name
    if setting.about.alias is not None:
        yield setting.about.alias


def unknown_section(name: str) -> str:
    hint = elsewhere(name) or did_you_mean(name, list(SECTIONS))
    return "unknown section" + (hint or f"; known are {', '.join(SECTIONS)}")


def unknown_key(key: str, known: list[str]) -> str:
    return f"unknown key{elsewhere(key) or did_you_mean(key, known)}"


def elsewhere(key: str) -> str:
    """Where a key belongs that stands in the wrong section."""
    homes = [f"[{setting.section}]" for setting in CATALOGUE if key in spellings_of(setting)]
    return f"; {key} belongs in {' or '.join(homes)}" if homes else ""


def take_variable(draft: Draft, setting: Setting, text: str) -> None:
    """Note what a variable says; a text that does not fit its type is left for `Draft.take` to refuse."""
    source = f"environment {setting.variable}"
    try:
        raw = from_text(setting.kind, text)
    except ValueError as error:
        draft.sources[setting.path] = source
        draft.refuse(setting, str(error))
    else:
        draft.take(setting, raw, source)


def find_tools(draft: Draft, folder: Path) -> None:
    """Replace each tool file by the path it was found at."""
    setting = next(setting for setting in CATALOGUE if setting.path == "openai.tools")
    value = draft.values.get(setting.path, ())
    assert isinstance(value, tuple)
    found: list[str] = []
    for tool in value:
        file = next((path for path in (folder / tool, Path(tool)) if is_file(path)), None)
        if file is None:
            draft.refuse(setting, f"there is no file {shortened(tool)}")
        else:
            found.append(str(file))
    draft.values[setting.path] = tuple(found)


def is_file(path: Path) -> bool:
    """As `Path.is_file`, which raises for a name that is too long or a folder that may not be read."""
    try:
        return path.is_file()
    except OSError:
        return False
