"""The settings of one call, from what the server of `engine.api_url` answers: a table `openai`, merged over ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

from aivc.config.agent_checks import AgentView, contradictions_of
from aivc.config.catalogue import Setting, settings_of, spellings_of
from aivc.config.loading import ConfigError, unknown_key
from aivc.config.records import read_value
from aivc.config.rules import shortened
from aivc.config.settings import Settings
from aivc.config.spelling import as_toml, did_you_mean, wrong_type
from aivc.config.values import Wrong

ENGINE = "openai"  # what `flavor` may say: there is no other engine
KNOWN = ["flavor", ENGINE]
MOST_KEYS = 200  # of an answer's table: more than there are settings
NOT_HERE = {
    "tools": "files with code cannot come from the network",
    "match": "which agent answers is decided before the answer comes",
    "match_from": "which agent answers is decided before the answer comes",
}


def with_answer(settings: Settings, answer: object) -> Settings:
    """The settings with those of the answer over them.

    Args:
        settings: those of the agent that was chosen.
        answer: as JSON gave it: `{"openai": {...}}`, with `"flavor": "openai"` or without. Every key of `[openai]` is
            allowed, by its aliases, too, but not `tools`, `match` and `match_from`. null counts as not given.

    A key of ours is not shown to another server: if the answer changes the host of `url`, it must bring its own `key`.

    Raises:
        ConfigError: with everything that is wrong, such as `api_url: openai.voice: expected text, got an integer 1`.
    """
    errors: list[str] = []
    table = openai_table(answer, errors)
    values = read_table(table, errors)
    openai = attrs.evolve(settings.openai, **values)
    if "url" in values and "key" not in values and place_of(openai.url) != place_of(settings.openai.url):
        openai = attrs.evolve(openai, key=None)
    merged = attrs.evolve(settings, openai=openai)
    if not errors:
        errors += contradicting(merged, values)
    if errors:
        raise ConfigError(tuple(f"api_url: {error}" for error in errors))
    return merged


def openai_table(answer: object, errors: list[str]) -> Mapping[str, object]:
    """The table `openai` of the answer; empty if there is none, or if something is wrong with it."""
    if not isinstance(answer, Mapping):
        errors.append(str(wrong_type("a table", answer)))
        return {}
    if len(answer) > MOST_KEYS:
        errors.append(f"has more than {MOST_KEYS} keys")
        return {}
    errors += [
        f"{shortened(str(key))}: unknown key{did_you_mean(str(key), KNOWN)}" for key in answer if key not in KNOWN
    ]
    flavor, table = answer.get("flavor"), answer.get(ENGINE)
    if flavor is not None and flavor != ENGINE:
        shown = shortened(flavor) if isinstance(flavor, str) else as_toml(flavor)[:60]
        errors.append(f"flavor: {shown} is not {as_toml(ENGINE)}, the only one there is")
    if table is None:
        return {}
    if not isinstance(table, Mapping):
        errors.append(f"{ENGINE}: {wrong_type('a table', table)}")
        return {}
    if len(table) > MOST_KEYS:
        errors.append(f"{ENGINE}: has more than {MOST_KEYS} keys")
        return {}
    return table


def read_table(table: Mapping[str, object], errors: list[str]) -> dict[str, Any]:
    """The values of the table by the settings' names."""
    spellings = {spelling: setting for setting in settings_of(ENGINE) for spelling in spellings_of(setting)}
    values: dict[str, Any] = {}
    for key, raw in table.items():
        setting = spellings.get(key)
        if setting is None:
            shown = key if len(key) <= 64 and key.isprintable() else shortened(key)
            errors.append(f"{ENGINE}.{shown}: {unknown_key(key, list(spellings))}")
        elif raw is None:
            continue
        elif setting.name in NOT_HERE:
            errors.append(f"{setting.path}: cannot be given for one call: {NOT_HERE[setting.name]}")
        elif setting.name in values:
            errors.append(f"{setting.path}: given twice")
        else:
            read_one(setting, raw, values, errors)
    return values


def read_one(setting: Setting, raw: object, values: dict[str, Any], errors: list[str]) -> None:
    try:
        values[setting.name] = read_value(setting, raw, {})
    except Wrong as wrong:
        errors += [f"{setting.path}{where}: {text}" for where, text in wrong.found]


def contradicting(merged: Settings, values: Mapping[str, Any]) -> list[str]:
    """Contradictions that the answer's own values are part of."""
    given = {f"{ENGINE}.{name}" for name in values}
    view = AgentView(section=ENGINE, openai=merged.openai, sources=dict.fromkeys(given, "api_url"))
    found = contradictions_of(view, attrs.evolve(merged, agents=()), simulator=False)
    return [f"{finding.paths[0]}: {finding.text}" for finding in found if not given.isdisjoint(finding.paths)]


def place_of(url: str) -> tuple[str, str | None, int | None]:
    """Which server a checked URL leads to."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
