"""A leg without a telephone: for tests of what a call does with any front end."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import trio
from call_parts import REMOTE

from aivc.config.settings import Address
from aivc.sip.event_queue import EventQueue
from aivc.sip.leg import AudioAgreement, Consultation, ConsultationFailed, Fields, LegEvent, ReferOutcome, Rejection

AGREEMENT = AudioAgreement("PCMU", 0, REMOTE)
CONSULTED = AudioAgreement("PCMU", 0, ("192.0.2.20", 6000))


@attrs.define(eq=False)
class PaperConsultation:
    """Somebody whom a paper leg has called. Implements `aivc.sip.leg.Consultation`."""

    agreement: AudioAgreement = CONSULTED
    events: EventQueue[LegEvent] = attrs.field(factory=lambda: EventQueue("paper-2"))
    hung_up: list[str] = attrs.field(factory=list)  # reasons

    async def hang_up(self, reason: str, fields: Fields = (), *, status: int = 200) -> None:
        self.hung_up.append(reason)


def paper_consultation() -> PaperConsultation:
    return PaperConsultation()


@attrs.define(eq=False)
class PaperLeg:
    """A front end of the shortest kind: it notes what it is asked for. Implements `aivc.sip.leg.Leg`."""

    events: EventQueue[LegEvent] = attrs.field(factory=lambda: EventQueue("paper-1"))
    did: list[object] = attrs.field(factory=list)
    broken: bool = False  # cannot answer
    speechless: bool = False  # cannot hang up
    call_id: str = "paper-1"
    caller: str = "sip:alice@192.0.2.9"
    dialled: str = "1000"
    agreement: AudioAgreement = AGREEMENT
    headers: Mapping[str, str] = attrs.field(factory=dict)
    extra_params: str | None = None
    session_key: str | None = None
    source: Address = REMOTE
    is_trusted: bool = False
    fields: Fields = ()  # of the last REFER or BYE
    target: PaperConsultation | Exception | None = None  # of a consultation; None: nobody answers
    rings: float = 0.5  # seconds, until they answer or refuse
    refer_takes: float = 0.0  # seconds
    replaced: Consultation | None = None  # by the last REFER
    outcomes: list[ReferOutcome] = attrs.field(factory=list)  # of the transfers to come; then none ever answers

    async def ring(self) -> None:
        self.did.append("ring")

    async def answer(self, local: Address) -> None:
        if self.broken:
            raise LookupError("no more paper")
        self.did.append(("answer", local[0]))

    async def reject(self, rejection: Rejection) -> None:
        self.did.append(rejection)

    async def consult(self, uri: str, local: Address, seconds: float) -> Consultation:
        self.did.append(("consult", uri, seconds))
        if self.target is None:
            await trio.sleep(seconds)
            raise ConsultationFailed(None, "no answer")
        await trio.sleep(self.rings)
        if isinstance(self.target, Exception):
            raise self.target
        return self.target

    async def refer(
        self,
        refer_to: str,
        referred_by: str,
        seconds: float,
        *,
        fields: Fields = (),
        replaces: Consultation | None = None,
    ) -> ReferOutcome:
        self.did.append(("refer", refer_to, referred_by))
        self.fields, self.replaced = fields, replaces
        await trio.sleep(self.refer_takes)
        if not self.outcomes:
            await trio.sleep(seconds)
            return ReferOutcome(None, "no answer")
        return self.outcomes.pop(0)

    async def hang_up(self, reason: str, fields: Fields = (), *, status: int = 200) -> None:
        if self.speechless:
            raise LookupError("no more words")
        self.fields = fields
        self.did.append(("hang_up", reason))


def paper_leg(agreement: AudioAgreement = AGREEMENT, source: Address = REMOTE) -> PaperLeg:
    return PaperLeg(agreement=agreement, source=source)
