"""The first and the last words: a greeting that may not be interrupted, and a goodbye that ends the call."""

from __future__ import annotations

import math
from typing import Literal

import attrs

from aivc.config.settings import OpenAISettings

GREETING_SECONDS = 30.0  # the longest that a caller is not listened to, whatever the server does

Cause = Literal["idle", "expired"]


@attrs.define
class Greeting:
    """Whether the caller is held back: from the start until the welcome was played, if it is not interruptible.

    OFF -> AWAITED (asked for) -> GENERATED (response.done) -> OFF (played). Failure and the limit lead to OFF too.
    """

    settings: OpenAISettings
    deadline: float = attrs.field(default=math.inf, init=False)
    _state: Literal["off", "awaited", "generated"] = attrs.field(default="off", init=False)

    @property
    def holds(self) -> bool:
        return self._state != "off"

    def begin(self, now: float) -> None:
        if self.settings.welcome_message and not self.settings.welcome_interruptible:
            self._state, self.deadline = "awaited", now + GREETING_SECONDS

    def generated(self, playing: bool) -> None:
        """Its response is done; `playing`: some of it is still to be heard."""
        if self._state == "awaited":
            self._state = "generated"
        if not playing:
            self.drained()

    def drained(self) -> None:
        if self._state == "generated":
            self.over()

    def over(self) -> None:
        self._state, self.deadline = "off", math.inf

    def expire(self, now: float) -> None:
        if now >= self.deadline:
            self.over()


@attrs.define
class Farewell:
    """A goodbye of ours, from the request for it until the call is hung up or the caller speaks."""

    cause: Cause | None = attrs.field(default=None, init=False)
    deadline: float = attrs.field(default=math.inf, init=False)  # of the goodbye; infinity when it is said

    def begin(self, cause: Cause, deadline: float) -> None:
        self.cause, self.deadline = cause, deadline

    def take(self) -> Cause | None:
        """Return, once, why to hang up now that the words were said or came to nothing."""
        if self.deadline == math.inf:
            return None
        self.deadline = math.inf
        return self.cause

    def take_due(self, now: float) -> Cause | None:
        """Return, once, why to hang up if the words take too long."""
        return self.take() if now >= self.deadline else None

    def withdraw(self) -> bool:
        """The caller is there after all: say whether a goodbye was called off. An expired session ends all the same."""
        if self.cause != "idle":
            return False
        self.cause, self.deadline = None, math.inf
        return True
