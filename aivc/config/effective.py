"""The settings in effect as a table for people: each with its value and where that comes from; secrets masked."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import attrs

from aivc.config.catalogue import SECTIONS, Setting, fields_of, record_class, settings_of
from aivc.config.loading import Loaded, agent_section
from aivc.config.models import resolve_model
from aivc.config.settings import Agent, OpenAISettings, Secret
from aivc.config.spelling import as_toml

LONGEST_VALUE = 60  # characters; a longer one, such as instructions, is cut


def effective_table(loaded: Loaded) -> str:
    """One line a setting, in columns, grouped by section; of an agent what it has been given; then the warnings."""
    rows = [row for section in SECTIONS for row in section_rows(loaded, section)]
    rows += [row for agent in loaded.settings.agents for row in agent_rows(loaded, agent)]
    name_width = max(len(name) for _, name, _, _ in rows)
    value_width = max(len(value) for _, _, value, _ in rows)
    lines: list[str] = []
    for section, name, value, source in rows:
        heading = f"[{section}]"
        if heading not in lines:
            lines += ["", heading] if lines else [heading]
        lines.append(f"  {name:<{name_width}}  {value:<{value_width}}  {source}".rstrip())
    lines += ["", *(f"warning: {warning}" for warning in loaded.warnings)] if loaded.warnings else []
    return "\n".join(lines)


def section_rows(loaded: Loaded, section: str) -> Iterator[tuple[str, str, str, str]]:
    for setting in settings_of(section):
        value = getattr(getattr(loaded.settings, section), setting.name)
        yield section, setting.name, shown(setting, value, loaded.settings.openai), loaded.sources[setting.path]


def agent_rows(loaded: Loaded, agent: Agent) -> Iterator[tuple[str, str, str, str]]:
    """What the agent's table gives; one line that says so if it gives nothing."""
    section = agent_section(agent.name)
    given = [setting for setting in fields_of(OpenAISettings, section) if setting.path in loaded.sources]
    for setting in given:
        value = shown(setting, getattr(agent.openai, setting.name), agent.openai)
        yield section, setting.name, value, loaded.sources[setting.path]
    if not given:
        yield section, "(as [openai])", "", ""


def shown(setting: Setting, value: object, openai: OpenAISettings) -> str:
    """The value on one line."""
    if isinstance(value, Secret) or (setting.secret and value is not None):
        return "***"
    if setting.name == "model":
        resolved = resolve_model(openai.model, openai.url)
        if resolved.retired is not None:
            return f"{as_toml(resolved.name)} in place of {as_toml(resolved.retired)}"
    if setting.name in ("url", "api_url") and isinstance(value, str):
        value = without_secrets(value)
    cls = record_class(setting.kind)
    if cls is not None and isinstance(value, tuple):  # their names are enough; there may be tokens in their URLs
        value = [getattr(item, attrs.fields(cls)[0].name) for item in value]
    text = "not set" if value is None else as_toml(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def without_secrets(url: str) -> str:
    """A URL may have a token in its query, and a password before its host."""
    parts = urlsplit(url)
    _, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"***@{host}" if at else host, query="***" if parts.query else "").geturl()
