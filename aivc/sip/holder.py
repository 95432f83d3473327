"""What a dialog of a call knows of those that use it, and how far it has come."""

from __future__ import annotations

import enum
from typing import Protocol, TypeVar

from aivc.sip.inspection import Refusal
from aivc.sip.leg import LegEvent
from aivc.sip.message import Request
from aivc.sip.referred import Order

Live = TypeVar("Live", contravariant=True)  # a dialog


class Phase(enum.Enum):
    EARLY = enum.auto()  # a peer's INVITE without its final response
    CONFIRMED = enum.auto()
    LEAVING = enum.auto()  # our BYE is on its way, or waits for an ACK
    OVER = enum.auto()


class Holder(Protocol[Live]):
    """Whose dialog it is: `aivc.sip.party.Party`."""

    def has_room(self, dialog: Live) -> bool:
        """Whether an event that is not the last can be told."""

    def tell(self, dialog: Live, event: LegEvent) -> None: ...

    def finish(self, dialog: Live, event: LegEvent | None) -> None:
        """It is over; `event` is the last one."""

    def follow(self, dialog: Live, order: Order) -> Refusal | None:
        """A REFER of the peer is to be followed; None: it will be."""


class Nobody:
    """Holds a dialog that is over and forgotten. Else the two would keep each other until the garbage collector comes,
    and it comes seldom: it would stop the media of all calls."""

    def has_room(self, dialog: object) -> bool:
        return True

    def tell(self, dialog: object, event: LegEvent) -> None: ...

    def finish(self, dialog: object, event: LegEvent | None) -> None: ...

    def follow(self, dialog: object, order: Order) -> Refusal | None:
        return Refusal(481, "the call is over")


class Early(Protocol):
    """The call as long as it is not answered: `aivc.sip.incoming.IncomingLeg`."""

    def take_prack(self, request: Request) -> Refusal | None: ...

    def cancel(self) -> None: ...
