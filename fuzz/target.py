"""What a fuzz target is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import attrs

LARGEST_DATAGRAM: Final = 65_535
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def only(
    error: type[Exception], parse: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result | None:
    """What a parser returns; None when it raises its one error, and no other."""
    try:
        return parse(*args, **kwargs)
    except error:
        return None


@attrs.frozen
class Target:
    """One parser with what must hold of it.

    Attributes:
      name: of its folder of the corpus, too.
      check: takes any octets; whatever it raises is a finding.
      max_octets: longer inputs show nothing new.
      calls_per_octet: function calls that one octet of input may cost, at most, however long the input: more would be
        a step to quadratic time.
    """

    name: str
    check: Callable[[bytes], None]
    max_octets: int = 4096
    calls_per_octet: int = 100
