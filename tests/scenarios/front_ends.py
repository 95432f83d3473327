"""Behind which front end a scenario is lived through."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, Literal

FrontEndName = Literal["sip", "opensips"]

# A fixture sets it for each run; `open_world` reads it, so that no scenario need name it.
FRONT_END: Final[ContextVar[FrontEndName]] = ContextVar("front_end", default="sip")
