"""Every setting as a value, read off the attrs classes: what loading, the reference and the tests walk over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

import attrs

from aivc.config.metadata import KEY, About
from aivc.config.settings import Secret, Settings


@attrs.frozen(kw_only=True)
class Setting:
    """One key of one section."""

    section: str
    name: str
    kind: Any  # its type, as annotated
    default: Any
    about: About

    @property
    def path(self) -> str:
        """`section.name`, as messages spell it."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return self.about.variable or self.regular_variable

    @property
    def regular_variable(self) -> str:
        """The name it has by the rule, in use only where no name of its own is given."""
        return f"AIVC_{self.section}_{self.name}".upper()

    @property
    def required(self) -> bool:
        """Whether it must be given; only keys of an array of tables can be."""
        return self.default is attrs.NOTHING

    @property
    def secret(self) -> bool:
        """Whether its value must never be shown."""
        return self.kind is Secret or Secret in get_args(self.kind)


SPECIAL = ("agents",)  # of Settings, but not a section with keys of its own

SECTIONS: dict[str, type[Any]] = {name: kind for name, kind in get_type_hints(Settings).items() if name not in SPECIAL}


def settings_of(section: str) -> tuple[Setting, ...]:
    """The settings of one section, in the order they are written."""
    return fields_of(SECTIONS[section], section)


def fields_of(cls: type[Any], section: str) -> tuple[Setting, ...]:
    """The keys of a table of this class that is called `section`, such as `agents.sales` or `tools.http[0]`."""
    hints = get_type_hints(cls)
    return tuple(
        Setting(
            section=section,
            name=field.name,
            kind=hints[field.name],
            default=default_of(field),
            about=field.metadata[KEY],
        )
        for field in attrs.fields(cls)
    )


def default_of(field: attrs.Attribute[Any]) -> Any:
    """Also of a field whose default is made anew each time, as that of a table is."""
    factory = getattr(field.default, "factory", None)
    return field.default if factory is None else factory()


def spellings_of(setting: Setting) -> Iterator[str]:
    """What the key may be called in TOML."""
    yield setting.name
    if setting.about.alias is not None:
        yield setting.about.alias


def record_class(kind: Any) -> type[Any] | None:
    """The class of an array of tables, such as `tuple[HttpTool, ...]`; None for other types."""
    members = get_args(kind)
    return members[0] if get_origin(kind) is tuple and attrs.has(members[0]) else None


CATALOGUE: tuple[Setting, ...] = tuple(setting for section in SECTIONS for setting in settings_of(section))
