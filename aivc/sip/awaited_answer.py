"""A 2xx of ours until its ACK comes: RFC 3261 section 13.3.1.4."""

from __future__ import annotations

import attrs
import trio

from aivc.sip.dialog import Acknowledgement, AwaitedAck
from aivc.sip.message import Request, Response
from aivc.sip.transaction_layer import ServerTransaction


@attrs.define(eq=False, repr=False)
class AwaitedAnswer:
    """One 2xx to an INVITE.

    Args:
      response: already sent once.
      sent: when, on trio's clock.
      offered: our SDP in it was an offer: the ACK brings the answer.

    Attributes:
      acknowledged: set when nothing is waited for any more, whatever the reason.
    """

    transaction: ServerTransaction
    response: Response
    sent: float
    offered: bool
    acknowledged: trio.Event = attrs.field(factory=trio.Event, init=False)
    _timer: AwaitedAck = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._timer = AwaitedAck(self.sent)

    @property
    def deadline(self) -> float:
        return self._timer.deadline

    def expire(self, now: float) -> bool:
        """Resend it when that is due; True when it is time to give up."""
        outcome = self._timer.expire(now)
        if outcome is Acknowledgement.RESEND:
            self.transaction.respond(self.response)
        return outcome is Acknowledgement.GIVE_UP

    def is_for(self, ack: Request) -> bool:
        return ack.cseq.number == self.transaction.request.cseq.number
