"""Defaults, then a TOML file, then the environment: to settings that are checked, with all that is wrong at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import tomli

from aivc.config.catalogue import CATALOGUE, SECTIONS, SPECIAL, Setting, fields_of, settings_of, spellings_of
from aivc.config.checks import contradictions, doubts
from aivc.config.environment import CONFIG_FILE, given, unknown
from aivc.config.records import read_value
from aivc.config.rules import plain_name, shortened
from aivc.config.settings import Agent, OpenAISettings, Settings
from aivc.config.spelling import as_key, did_you_mean, wrong_type
from aivc.config.values import Wrong, from_text


class ConfigError(Exception):
    """The configuration cannot be used."""

    def __init__(self, errors: tuple[str, ...]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors  # one sentence each, beginning with its path


@attrs.frozen
class Loaded:
    """Settings, and what to tell the operator about them."""

    settings: Settings
    # "section.name" -> "default", "file" or "environment VARIABLE"; "agents.NAME.key" only for the keys it was given
    sources: Mapping[str, str]
    warnings: tuple[str, ...]


@attrs.define
class Draft:
    """What is known so far; later layers overwrite earlier ones."""

    environ: Mapping[str, str]
    values: dict[str, object] = attrs.field(factory=dict)  # by path
    sources: dict[str, str] = attrs.field(factory=lambda: {setting.path: "default" for setting in CATALOGUE})
    taken: dict[str, Setting] = attrs.field(factory=dict)  # by path, what some layer gives
    agents: list[str] = attrs.field(factory=list)  # names, in the order of the file
    errors: list[str] = attrs.field(factory=list)
    faulty: set[str] = attrs.field(factory=set)  # paths that have an error of their own

    def take(self, setting: Setting, raw: object, source: str) -> None:
        """Note what `source` says of a setting."""
        self.sources[setting.path] = source
        self.taken[setting.path] = setting
        try:
            self.values[setting.path] = read_value(setting, raw, self.environ)
        except Wrong as wrong:
            for where, text in wrong.found:
                self.refuse(setting, text, where)

    def refuse(self, setting: Setting, text: str, where: str = "") -> None:
        """Note that a setting cannot be used, and where in it the fault is."""
        self.faulty.add(setting.path)
        self.errors.append(f"{self.label(setting.path, where)}: {text}")

    def label(self, path: str, where: str = "") -> str:
        """The path, with the variable when that is where the value comes from."""
        source = self.sources.get(path, "default")
        variable = f" ({source.removeprefix('environment ')})" if source.startswith("environment ") else ""
        return f"{path}{where}{variable}"

    def settings(self) -> Settings:
        """The settings from all values that could be read."""
        made = Settings(**{name: cls(**self.given(settings_of(name))) for name, cls in SECTIONS.items()})
        return attrs.evolve(made, agents=tuple(self.agent(name, made.openai) for name in self.agents))

    def agent(self, name: str, openai: OpenAISettings) -> Agent:
        """An agent: what its table gives, for the rest what [openai] has; but which calls it takes is its own."""
        own = {"match": (), "match_from": ()} | self.given(fields_of(OpenAISettings, agent_section(name)))
        return Agent(name=name, openai=attrs.evolve(openai, **own))

    def given(self, settings: tuple[Setting, ...]) -> dict[str, Any]:
        return {setting.name: self.values[setting.path] for setting in settings if setting.path in self.values}


def agent_section(name: str) -> str:
    """How paths begin that belong to an agent."""
    return f"agents.{name}"


def load(path: str | None, environ: Mapping[str, str], *, simulator: bool = False) -> Loaded:
    """The settings that the file and the environment give.

    Args:
        path: a TOML file; None = the one that CONFIG_FILE names, else none.
        environ: the environment's variables.
        simulator: whether a local Realtime server stands in for OpenAI, which needs no key.

    Raises:
        ConfigError: with everything that is wrong.
    """
    draft = Draft(environ)
    file = path or environ.get(CONFIG_FILE) or None
    if file is not None:
        take_file(draft, read_file(Path(file)))
    for setting, text in given(environ):
        take_variable(draft, setting, text)
    find_files(draft, Path(file).parent if file is not None else Path())
    settings = draft.settings()
    for finding in contradictions(settings, draft.sources, simulator=simulator):
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
        hint = f"; is it a file of the AI Voice Connector CE? `aivc migrate {path}`" if path.suffix == ".ini" else ""
        raise ConfigError((f"{path}:{error.lineno}:{error.colno}: {error.msg}{hint}",)) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets nested as deep
        raise ConfigError((f"{path}: {error}",)) from None


def take_file(draft: Draft, tables: Mapping[str, Any]) -> None:
    """Note what the file says."""
    for name, table in tables.items():
        if name not in SECTIONS and name not in SPECIAL:
            draft.errors.append(f"{as_key(name)}: {unknown_section(name)}")
        elif not isinstance(table, dict):
            draft.errors.append(f"{name}: {wrong_type(f'a table, [{name}]', table)}")
        elif name == "agents":
            take_agents(draft, table)
        else:
            take_table(draft, settings_of(name), table, name)


def take_agents(draft: Draft, tables: Mapping[str, Any]) -> None:
    """Note what the file says about each agent."""
    for name, table in tables.items():
        section = agent_section(as_key(name))
        try:
            plain_name(name)
        except ValueError as error:
            draft.errors.append(f"{section}: {error}")
            continue
        if not isinstance(table, dict):
            hint = "; give the agent a name, [agents.NAME]" if name in openai_spellings() else ""
            draft.errors.append(f"{section}: {wrong_type(f'a table, [{section}]', table)}{hint}")
            continue
        draft.agents.append(name)
        take_table(draft, fields_of(OpenAISettings, section), table, section)


def take_table(draft: Draft, settings: tuple[Setting, ...], table: Mapping[str, Any], section: str) -> None:
    spellings = {spelling: setting for setting in settings for spelling in spellings_of(setting)}
    taken: dict[str, str] = {}
    for key, raw in table.items():
        setting = spellings.get(key)
        if setting is None:
            draft.errors.append(f"{section}.{as_key(key)}: {unknown_key(key, list(spellings))}")
        elif setting.path in taken:
            draft.refuse(setting, f"given twice, also as {taken[setting.path]}")
        else:
            taken[setting.path] = key
            draft.take(setting, raw, "file")


def openai_spellings() -> set[str]:
    return {spelling for setting in settings_of("openai") for spelling in spellings_of(setting)}


def unknown_section(name: str) -> str:
    known = [*SECTIONS, *SPECIAL]
    hint = elsewhere(name) or did_you_mean(name, known)
    return "unknown section" + (hint or f"; known are {', '.join(known)}")


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


def find_files(draft: Draft, folder: Path) -> None:
    """Replace each path of a file that a setting names by the one it was found at."""
    for path, setting in draft.taken.items():
        value = draft.values.get(path)
        if not setting.about.file or value is None:
            continue
        named = value if isinstance(value, tuple) else (value,)
        found = [file for name in named if (file := found_file(draft, setting, str(name), folder)) is not None]
        if len(found) == len(named):
            draft.values[path] = tuple(found) if isinstance(value, tuple) else found[0]


def found_file(draft: Draft, setting: Setting, name: str, folder: Path) -> str | None:
    """Where a file is: beside the configuration file, or in the working directory."""
    file = next((path for path in (folder / name, Path(name)) if is_file(path)), None)
    if file is None:
        draft.refuse(setting, f"there is no file {shortened(name)}")
    return None if file is None else str(file)


def is_file(path: Path) -> bool:
    """As `Path.is_file`, which raises for a name that is too long or a folder that may not be read."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # ValueError: a name with a null character
        return False
