"""The reference of all settings, rendered: config.toml, and the tables in docs/configuration.md.

`python -m aivc.config.reference` writes both into the checkout; a test compares them with what would be written.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from aivc.config.catalogue import CATALOGUE, SECTIONS, Setting, fields_of, record_class, settings_of
from aivc.config.models import DEPRECATED, FULL, RETIRED
from aivc.config.settings import Secret
from aivc.config.spelling import as_toml

ROOT = Path(__file__).parents[2]  # of the checkout; an installed package has no such files
BEGIN = "<!-- rendered by python -m aivc.config.reference: begin -->"
END = "<!-- rendered by python -m aivc.config.reference: end -->"
KINDS = {bool: "boolean", int: "integer", float: "number", str: "text", Secret: "text, secret", type(None): ""}
LIVE = {"openai.model": FULL}  # what config.toml sets: the default model is kept for compatibility, and retired
WIDTH = 110

HEADER = f"""\
# The configuration of aivc. Every setting is here; a line that begins with "#" and no space shows a default,
# or an example where nothing is set by default. docs/configuration.md explains more.
# Some examples name files and environment variables that you must have.
# An environment variable wins over this file. Keep the key out of it: set OPENAI_API_KEY instead.
# `aivc check --config FILE` shows what is in effect and where it comes from.
# Rendered by `python -m aivc.config.reference`; copy it before you change it.
{""}"""

AGENTS = """

# Agents: each a table [agents.NAME] with any keys of [openai], which win over those above. The first in the order of
# this file whose match (the number dialled) and match_from (the caller) fit answers a call, else [openai] itself.

#[agents.sales]
#match = ["2[0-9]{2}", "sales"]
#match_from = ["[+]49.*"]
#voice = "cedar"
#instructions = "You sell what Example Ltd makes."
#transfer_targets = { manager = "sip:manager@example.com" }
"""


def config_toml() -> str:
    """The text of config.toml."""
    parts = [HEADER]
    for section in SECTIONS:
        parts.append(f"\n\n[{section}]  # {purpose(section)}\n")
        # Tables last: a key that followed one would be taken for the table's.
        parts += map(toml_entry, sorted(settings_of(section), key=lambda one: record_class(one.kind) is not None))
    return "".join(parts) + AGENTS


def toml_entry(setting: Setting) -> str:
    cls = record_class(setting.kind)
    if cls is not None:
        return toml_record(setting, cls)
    comment = commented(setting.about.doc)
    shown = sample(setting)
    note = "; ".join(part for part in (setting.variable, choices(setting.kind), limits(setting)) if part)
    entry = f"\n{comment}\n#{setting.name} = {as_toml(shown)}  # {note}\n"
    if setting.path in LIVE:
        entry += f"{setting.name} = {as_toml(LIVE[setting.path])}\n"
    return entry


def toml_record(setting: Setting, cls: type[Any]) -> str:
    """An example of an array of tables, each key explained."""
    lines = ["", commented(f"{setting.about.doc} ({setting.variable})"), f"#[[{setting.path}]]"]
    for key in fields_of(cls, setting.path):
        note = "; ".join(part for part in ("required" if key.required else "", choices(key.kind), limits(key)) if part)
        entry = f"#{key.name} = {as_toml(sample(key))}"
        lines += [commented(key.about.doc), f"{entry}  # {note}" if note else entry]
    return "\n".join(lines) + "\n"


def commented(sentence: str) -> str:
    return textwrap.fill(f"{sentence}.", WIDTH, initial_indent="# ", subsequent_indent="# ")


def sample(setting: Setting) -> object:
    """The default, or an example where nothing is set by default."""
    nothing = setting.required or setting.default in (None, (), {})
    return setting.about.example if nothing and setting.about.example is not None else setting.default


def purpose(section: str) -> str:
    """What a section is about: its class's docstring, without the section's name."""
    return purpose_of(SECTIONS[section])


def purpose_of(cls: type[Any]) -> str:
    return (cls.__doc__ or "").partition(":")[2].strip().rstrip(".")


def limits(setting: Setting) -> str:
    """The range and the unit, in words."""
    low, high, unit = setting.about.low, setting.about.high, setting.about.unit
    if low is None:
        return unit or ""
    span = f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
    return f"{span} {unit}" if unit else span


def choices(kind: Any) -> str:
    """The words to choose from, if that is what the type says."""
    return ", ".join(as_toml(choice) for choice in get_args(kind)) if get_origin(kind) is Literal else ""


def described(kind: Any) -> str:
    """A type in TOML's words."""
    if get_origin(kind) is Literal:
        return ", ".join(f"`{as_toml(choice)}`" for choice in get_args(kind))
    if record_class(kind) is not None:
        return "array of tables"
    if get_origin(kind) is tuple:
        return "list of text"
    if get_origin(kind) is Mapping:
        of = get_args(kind)[1]
        return "table" if of is object else f"table of {KINDS[of]}"
    if kind in KINDS:
        return KINDS[kind]
    return " or ".join(word for member in get_args(kind) if (word := described(member)))


def tables() -> str:
    """The rendered part of docs/configuration.md."""
    parts = []
    for section in SECTIONS:
        parts += [f"### `[{section}]`: {purpose(section)}\n\n", section_table(section), "\n"]
        for setting in settings_of(section):
            if (cls := record_class(setting.kind)) is not None:
                parts += [f"### `[[{setting.path}]]`: {purpose_of(cls)}\n\n", record_table(setting, cls), "\n"]
    return "".join(parts) + "### Retired models\n\n" + models_table()


def section_table(section: str) -> str:
    rows = ["| key | type | default | range | environment | meaning |", "| --- | --- | --- | --- | --- | --- |"]
    rows += [table_row(setting) for setting in settings_of(section)]
    return "\n".join(rows) + "\n"


def table_row(setting: Setting) -> str:
    keys = " or ".join(f"`{name}`" for name in (setting.name, setting.about.alias) if name)
    cells = (
        keys,
        described(setting.kind),
        shown_default(setting),
        limits(setting),
        f"`{setting.variable}`",
        setting.about.doc,
    )
    return "| " + " | ".join(cells) + " |"


def record_table(setting: Setting, cls: type[Any]) -> str:
    rows = ["| key | type | default | range | meaning |", "| --- | --- | --- | --- | --- |"]
    for key in fields_of(cls, setting.path):
        default = "required" if key.required else shown_default(key)
        kind = described(key.kind).replace("text, secret", "name of a variable") if key.about.indirect else None
        cells = (f"`{key.name}`", kind or described(key.kind), default, limits(key), key.about.doc)
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def shown_default(setting: Setting) -> str:
    return "not set" if setting.default is None else f"`{as_toml(setting.default)}`"


def models_table() -> str:
    rows = ["| model | shut down | successor | what happens |", "| --- | --- | --- | --- |"]
    rows += [f"| `{gone.name}*` | {gone.shutdown} | `{gone.successor}` | replaced |" for gone in RETIRED]
    rows += [f"| `{going.name}` | {going.shutdown} | `{going.successor}` | a warning |" for going in DEPRECATED]
    return "\n".join(rows) + "\n"


def with_tables(document: str) -> str:
    """The document with the part between its two marks rendered anew; ValueError if a mark is missing."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks {BEGIN if not begin else END}")
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def main() -> None:
    """Write both files."""
    document = ROOT / "docs" / "configuration.md"
    document.write_text(with_tables(document.read_text()))
    (ROOT / "config.toml").write_text(config_toml())
    print(f"{len(CATALOGUE)} settings written to {document} and {ROOT / 'config.toml'}")


if __name__ == "__main__":
    main()
