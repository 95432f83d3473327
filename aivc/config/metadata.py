"""What is known about a setting beside its type and default: what it means, its unit, range and names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

KEY = "about"  # of an attrs field's metadata

Rule = Callable[[Any], object]  # raises ValueError with what is wrong; what it returns is not looked at


@attrs.frozen(kw_only=True)
class About:
    """The part of a setting that its type cannot say."""

    doc: str  # one sentence, without its full stop
    unit: str | None = None
    low: float | None = None  # least value allowed
    high: float | None = None  # greatest value allowed
    variable: str | None = None  # environment variable; None = AIVC_<SECTION>_<KEY>
    alias: str | None = None  # a second spelling in TOML
    example: object = None  # shown in config.toml where nothing is set by default
    rule: Rule | None = None  # asked about the text or number, or about each of a list or table
    names: Rule | None = None  # asked about each key of a table
    blank: bool = False  # whether an empty text means something
    file: bool = False  # whether it is a path, or a list of them, to look for beside the configuration file
    indirect: bool = False  # whether TOML has the name of the environment variable that has the value


def about(doc: str, **others: Any) -> Mapping[str, About]:
    """Metadata for `attrs.field(metadata=...)`; see `About` for the arguments."""
    return {KEY: About(doc=doc, **others)}
