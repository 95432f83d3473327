"""What goes wrong between the test OpenSIPS and a connector: single datagrams that are lost, late or doubled."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Literal

import attrs

from aivc.testing.schema import Json

Kind = Literal["command", "answer", "event"]


@attrs.frozen
class Fate:
    """What becomes of one datagram.

    Attributes:
      copies: how often it arrives; 0: it is lost.
      delay: seconds, longer than which others overtake it.
    """

    copies: int = 1
    delay: float = 0.0


WELL: Fate = Fate()


@attrs.define(eq=False)
class Trouble:
    """A fate for some datagrams.

    Attributes:
      kind: commands on their way to OpenSIPS, answers to them, or events.
      concerns: called with the command (JSON-RPC request), also for an answer, or with the params of the event.
      times: how many of them it befalls yet.
    """

    kind: Kind
    concerns: Callable[[Json], bool]
    fate: Fate
    times: float = inf

    def takes(self, kind: Kind, told: Json) -> bool:
        if kind != self.kind or self.times <= 0 or not self.concerns(told):
            return False
        self.times -= 1
        return True


def anything(told: Json) -> bool:
    return True
