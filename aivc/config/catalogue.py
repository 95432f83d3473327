"""Every setting as a value, read off the attrs classes: what loading, the reference and the tests walk over."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

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
    def secret(self) -> bool:
        """Whether its value must never be shown."""
        return self.kind is Secret or Secret in get_args(self.kind)


SECTIONS: dict[str, type[Any]] = get_type_hints(Settings)


def settings_of(section: str) -> tuple[Setting, ...]:
    """The settings of one section, in the order they are written."""
    cls = SECTIONS[section]
    hints = get_type_hints(cls)
    return tuple(
        Setting(
            section=section,
            name=field.name,
            kind=hints[field.name],
            default=field.default,
            about=field.metadata[KEY],
        )
        for field in attrs.fields(cls)
    )


CATALOGUE: tuple[Setting, ...] = tuple(setting for section in SECTIONS for setting in settings_of(section))
