"""Session timers of the test phone, RFC 4028."""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class SessionTimer:
    """What the phone asks for, and what it does then.

    Args:
      expires: seconds; a 422 has it ask again for what that demands.
      min_se: seconds, the least that it takes; None: it says nothing of it.
      refresher: who is to refresh; None: the other side may choose.
      method: what it refreshes with.
      refreshes: False: it never does, although it should.
    """

    expires: int = 90
    min_se: int | None = None
    refresher: Literal["uac", "uas"] | None = None
    method: Literal["INVITE", "UPDATE"] = "UPDATE"
    refreshes: bool = True

    def fields(self) -> list[tuple[str, str]]:
        """What goes into a request."""
        refresher = f";refresher={self.refresher}" if self.refresher else ""
        least = [("Min-SE", str(self.min_se))] if self.min_se is not None else []
        return [("Session-Expires", f"{self.expires}{refresher}"), *least]


@attrs.frozen
class Timed:
    """A session timer that was agreed."""

    seconds: int
    ours: bool  # the phone refreshes
    since: float  # trio's clock


def read_timer(value: str, role: Literal["uac", "uas"], now: float) -> Timed:
    """What Session-Expires says in a 2xx to or of `role`."""
    seconds, *parameters = value.replace(" ", "").split(";")
    return Timed(int(seconds), f"refresher={role}" in parameters, now)
