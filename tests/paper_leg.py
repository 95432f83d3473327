"""A leg without a telephone: for tests of what a call does with any front end."""

from __future__ import annotations

import attrs
import trio
from call_parts import REMOTE

from aivc.config.settings import Address
from aivc.sip.leg import AudioAgreement, LegEvent, Rejection

AGREEMENT = AudioAgreement("PCMU", 0, REMOTE)


@attrs.define(eq=False)
class PaperLeg:
    """A front end of the shortest kind: it notes what it is asked for. Implements `aivc.sip.leg.Leg`."""

    events: trio.MemoryReceiveChannel[LegEvent]
    tell: trio.MemorySendChannel[LegEvent]
    did: list[object] = attrs.field(factory=list)
    broken: bool = False  # cannot answer
    speechless: bool = False  # cannot hang up
    call_id: str = "paper-1"
    caller: str = "sip:alice@192.0.2.9"
    dialled: str = "1000"
    agreement: AudioAgreement = AGREEMENT
    source: Address = REMOTE

    async def ring(self) -> None:
        self.did.append("ring")

    async def answer(self, local: Address) -> None:
        if self.broken:
            raise LookupError("no more paper")
        self.did.append(("answer", local[0]))

    async def reject(self, rejection: Rejection) -> None:
        self.did.append(rejection)

    async def hang_up(self, reason: str) -> None:
        if self.speechless:
            raise LookupError("no more words")
        self.did.append(("hang_up", reason))


def paper_leg(agreement: AudioAgreement = AGREEMENT, source: Address = REMOTE) -> PaperLeg:
    tell, events = trio.open_memory_channel[LegEvent](8)
    return PaperLeg(events, tell, agreement=agreement, source=source)
