"""What is known about a setting beside its type and default: what it means, its unit, range and names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

KEY = "about"  # of an attrs field's metadata

Rule = Callable[[str], object]  # raises ValueError with what is wrong; what it returns is not looked at


@attrs.frozen(kw_only=True)
class About:
    """The part of a setting that its type cannot say."""

    doc: str  # one sentence, without its full stop
    unit: str | None = None
    low: float | None = None  # least value allowed
    high: float | None = None  # greatest value allowed
    variable: str | None = None  # environment variable; None = AIVC_<SECTION>_<KEY>
    alias: str | None = None  # a second spelling in TOML
    example: object = None  # shown in config.toml where the default is "not set"
    rule: Rule | None = None  # asked about the text, or about each text of a list


def about(
    doc: str,
    *,
    unit: str | None = None,
    low: float | None = None,
    high: float | None = None,
    variable: str | None = None,
    alias: str | None = None,
    example: object = None,
    rule: Rule | None = None,
) -> Mapping[str, About]:
    """Metadata for `attrs.field(metadata=...)`; see `About` for the arguments."""
    return {
        KEY: About(doc=doc, unit=unit, low=low, high=high, variable=variable, alias=alias, example=example, rule=rule)
    }
