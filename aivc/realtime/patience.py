"""Two clocks for silences: one for the model's, when it is its turn, and one for that of both."""

from __future__ import annotations

import math

import attrs

from aivc.config.settings import OpenAISettings


@attrs.define
class AnswerWatch:
    """How long the model has been silent in its turn: it is asked once more, then it counts as lost."""

    seconds: float  # 0: for ever
    deadline: float = attrs.field(default=math.inf, init=False)
    waiting: bool = attrs.field(default=False, init=False)  # it is the model's turn
    _asked: bool = attrs.field(default=False, init=False)

    def model_turn(self, now: float) -> None:
        """It is the model's turn, now or since an earlier call."""
        if not self.waiting:
            self.alive(now)

    def alive(self, now: float) -> None:
        """The model gave a sign of life."""
        self.waiting = True
        self.deadline = now + self.seconds if self.seconds else math.inf

    def audible(self) -> None:
        """The caller gets to hear something."""
        self._asked = False

    def answered(self) -> None:
        """A response is finished."""
        self._asked = False
        self.rest()

    def rest(self) -> None:
        """It is not the model's turn."""
        self.waiting = False
        self.deadline = math.inf

    def is_lost(self, now: float) -> bool:
        """The time is over: say whether it was the second time; if not, it counts anew."""
        lost, self._asked = self._asked, True
        self.alive(now)
        return lost


@attrs.define
class IdleWatch:
    """How long nobody has said anything, and how often the caller was asked for a sign of life.

    With GA's server_vad the server counts, asks and answers by itself; it is told to stop after the last time, so that
    the silence after that is ours to end. Elsewhere every silence is counted here.
    """

    settings: OpenAISettings
    prompts: int = attrs.field(default=0, init=False)  # since the caller's last word
    server_counts: bool = attrs.field(init=False)
    _quiet_since: float = attrs.field(default=math.inf, init=False)

    def __attrs_post_init__(self) -> None:
        self.new_session()

    def new_session(self) -> None:
        """A session begins, with its time-out switched on where there is one."""
        by_server = self.settings.dialect == "ga" and self.settings.turn_detection_type == "server_vad"
        self.server_counts = by_server and self.settings.idle_timeout_ms > 0

    @property
    def deadline(self) -> float:
        if self.server_counts or not self.settings.idle_timeout_ms:
            return math.inf
        return self._quiet_since + self.settings.idle_timeout_ms / 1000

    @property
    def is_last(self) -> bool:
        """Whether the caller was asked often enough."""
        return self.prompts >= self.settings.idle_prompts

    def observe(self, quiet: bool, now: float) -> None:
        """Note whether nobody speaks, is about to, or waits for a tool."""
        if not quiet:
            self._quiet_since = math.inf
        elif self._quiet_since == math.inf:
            self._quiet_since = now

    def restart(self) -> None:
        """Count this silence from the beginning."""
        self._quiet_since = math.inf

    def must_stop_server(self) -> bool:
        """Say, once, that the server is to ask no more."""
        return self.is_last and self.take_from_server()

    def take_from_server(self) -> bool:
        """Count here until the caller's next word; say whether the server has to be told to stop."""
        counted, self.server_counts = self.server_counts, False
        return counted

    def caller_is_there(self) -> bool:
        """Note a word or key of the caller; say whether the server is to count again."""
        was_counting = self.server_counts
        self.prompts = 0
        self.restart()
        self.new_session()
        return self.server_counts and not was_counting
