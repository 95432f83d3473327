"""The settings in effect as a table for people: each with its value and where that comes from; secrets masked."""

from __future__ import annotations

from collections.abc import Iterator

from aivc.config.catalogue import SECTIONS, Setting, settings_of
from aivc.config.loading import Loaded
from aivc.config.models import resolve_model
from aivc.config.settings import Secret, Settings
from aivc.config.values import as_toml

LONGEST_VALUE = 60  # characters; a longer one, such as instructions, is cut


def effective_table(loaded: Loaded) -> str:
    """One line a setting, in columns, grouped by section; then the warnings."""
    rows = [row for section in SECTIONS for row in section_rows(loaded, section)]
    name_width = max(len(name) for _, name, _, _ in rows)
    value_width = max(len(value) for _, _, value, _ in rows)
    lines: list[str] = []
    for section, name, value, source in rows:
        heading = f"[{section}]"
        if heading not in lines:
            lines += ["", heading] if lines else [heading]
        lines.append(f"  {name:<{name_width}}  {value:<{value_width}}  {source}")
    lines += ["", *(f"warning: {warning}" for warning in loaded.warnings)] if loaded.warnings else []
    return "\n".join(lines)


def section_rows(loaded: Loaded, section: str) -> Iterator[tuple[str, str, str, str]]:
    for setting in settings_of(section):
        value = getattr(getattr(loaded.settings, section), setting.name)
        yield section, setting.name, shown(setting, value, loaded.settings), loaded.sources[setting.path]


def shown(setting: Setting, value: object, settings: Settings) -> str:
    """The value on one line."""
    if isinstance(value, Secret) or (setting.secret and value is not None):
        return "***"
    if setting.path == "openai.model":
        resolved = resolve_model(settings.openai.model, settings.openai.url)
        if resolved.retired is not None:
            return f"{as_toml(resolved.name)} in place of {as_toml(resolved.retired)}"
    if setting.path == "openai.url" and isinstance(value, str) and "?" in value:  # a token may be in the query
        value = f"{value.partition('?')[0]}?***"
    text = "not set" if value is None else as_toml(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
