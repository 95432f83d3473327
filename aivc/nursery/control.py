"""What a tool may do to its call: the hands behind a `ToolContext`."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import DtmfSettings, OpenAISettings
from aivc.media.dtmf import key_seconds
from aivc.media.stream import NoTelephoneEvent, RtpStream
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.leaving import Leaving, wait_said
from aivc.nursery.performer import Announcer, Performer
from aivc.nursery.record import TransferBegan, TransferOver, TransferRun
from aivc.nursery.turns import Turns
from aivc.realtime.toolcontext import DigitsFailed, TransferFailed
from aivc.realtime.transfers import TransferRefused, transfer_uri
from aivc.sip.address import OtherUri, SipUri, parse_name_addr
from aivc.sip.leg import Consultation, Fields, Leg, ReferOutcome
from aivc.sip.scanner import AddressError

log = logging.getLogger("aivc.call")

SPARE: Final = 0.1  # seconds by which keys may be late, and be sent in time all the same
BYE_BEHIND: Final = 0.2  # seconds by which a BYE may follow the end of the subscription that it explains


Attempt = Callable[..., Awaitable[ReferOutcome]]
Consult = Callable[[str, Attempt], Awaitable[ReferOutcome]]


@attrs.frozen(eq=False)
class Control:
    """Implements `aivc.realtime.toolcontext.CallControl`; all of it in the call's own tasks.

    Args:
      hold: the hold sound in the call's codec, empty for none.
      consult: makes an attended transfer: it is given the target and what sends the REFER.
    """

    leg: Leg
    openai: OpenAISettings
    dtmf: DtmfSettings
    stream: RtpStream
    performer: Performer
    leaving: Leaving
    hold: bytes
    consult: Consult

    def say(self, instructions: str) -> None:
        self.performer.say(instructions)

    def interrupt(self) -> None:
        self.performer.interrupt()

    def hang_up(self, fields: Fields = ()) -> None:
        self.performer.hang_up(Ending.MODEL_HUNG_UP)
        if self.leaving.ending is Ending.MODEL_HUNG_UP:
            self.leaving.fields = fields

    def send_event(self, event: Mapping[str, object]) -> None:
        self.performer.send_raw(event)

    def start_hold_sound(self) -> None:
        if self.hold and not self.stream.plays_sound:
            self.stream.play(self.hold, repeat=True)

    def stop_hold_sound(self) -> None:
        self.stream.stop_sound()

    async def send_digits(self, digits: str) -> None:
        """Raises DigitsFailed when the caller's side takes none, or there is no time for them.

        Keys do not outlive the tool call that sends them: what it has begun to press when it is cancelled is finished.
        """
        if not self.stream.may_send:
            raise DigitsFailed("the call is on hold: no keys can be sent until the other side resumes it")
        if len(digits) > (fitting := self._fitting_digits()):
            raise DigitsFailed(f"{len(digits)} keys take too long: {fitting} can be sent in the time that is left")
        try:
            sent = self.stream.send_digits(digits, self.dtmf.tone_ms, self.dtmf.gap_ms)
        except (NoTelephoneEvent, ValueError) as error:
            raise DigitsFailed(str(error)) from None
        try:
            await sent.wait()
        finally:
            self.stream.drop_digits(sent)

    def _fitting_digits(self) -> int:
        """How many keys can be pressed before the tool's deadline, which a tool in a thread does not show us."""
        seconds = trio.current_effective_deadline() - trio.current_time()
        left = (seconds if math.isfinite(seconds) else self.openai.tool_seconds) - SPARE - self.stream.digit_seconds
        return max(0, int(left / key_seconds(self.dtmf.tone_ms, self.dtmf.gap_ms, self.stream.ptime_ms)))

    async def transfer(self, target: str | None = None, attended: bool | None = None, fields: Fields = ()) -> str:
        """Returns only by TransferFailed: a transfer that succeeds ends the call."""
        try:
            refer_to = transfer_uri(self.openai, target)
        except TransferRefused as error:
            raise TransferFailed(str(error)) from None
        await wait_said(self.performer, self.openai.farewell_seconds)
        if self.leaving.transferring:  # asked only now: of two that have waited for the same words one may go
            raise TransferFailed("a transfer is under way already")
        attempt: Attempt = partial(send_refer, self.leg, self.openai, self.leaving, refer_to, fields)
        attended = self.openai.transfer_attended if attended is None else attended
        if attended:
            attempt = partial(self.consult, refer_to, attempt)
        turns, announcer = self.performer.turns, self.performer.announcer
        outcome = await told(attempt, self.leaving, turns, announcer, refer_to, attended=attended)
        if not outcome.succeeded:
            raise TransferFailed(f"the transfer failed: {described(outcome)}; the caller is still on the line")
        self.leaving.end(CallOver(Ending.TRANSFERRED, refer_to))
        await trio.sleep_forever()


async def refer(
    leg: Leg, openai: OpenAISettings, leaving: Leaving, turns: Turns, announcer: Announcer, refer_to: str
) -> ReferOutcome:
    """Transfer the call by REFER, without asking anybody."""
    attempt = partial(send_refer, leg, openai, leaving, refer_to, ())
    return await told(attempt, leaving, turns, announcer, refer_to, attended=False)


async def told(
    attempt: Attempt, leaving: Leaving, turns: Turns, announcer: Announcer, refer_to: str, *, attended: bool
) -> ReferOutcome:
    """Try a transfer, and tell the log, the record and the observer how it went, also when the call ends meanwhile."""
    started_at = trio.current_time()
    announcer.tell(TransferBegan(refer_to))
    logs.event(log, "transfer.began", refer_to=refer_to, attended=attended)
    run = TransferRun(refer_to, started_at, attended=attended)
    try:
        outcome = await attempt()
        ended_at, succeeded = trio.current_time(), outcome.succeeded
        run = TransferRun(refer_to, started_at, ended_at, outcome.status, outcome.text, succeeded, attended)
        if leaving.referring and not succeeded:
            # Without a status it may be the caller's BYE, which the task that watches the leg is about to see, or the
            # last NOTIFY before it: let it find `referring`.
            await trio.sleep(BYE_BEHIND if outcome.status is None else 0)
            leaving.referring = False
    finally:
        turns.transferred(run)
        announcer.tell(TransferOver(run))
        logs.event(log, "transfer.over", refer_to=refer_to, status=run.status, text=run.text)
    return outcome


async def send_refer(
    leg: Leg,
    openai: OpenAISettings,
    leaving: Leaving,
    refer_to: str,
    fields: Fields,
    *,
    replaces: Consultation | None = None,
) -> ReferOutcome:
    """Send REFER and follow it to its end. From now on a BYE of the caller is its success."""
    leaving.referring = True
    referred_by, seconds = openai.transfer_by or own_uri(leg), openai.transfer_seconds
    try:
        return await leg.refer(refer_to, referred_by, seconds, fields=fields, replaces=replaces)
    except ValueError as error:  # a URI that the front end cannot send
        return ReferOutcome(None, str(error))


def own_uri(leg: Leg) -> str:
    """Whom the caller called: Referred-By when the settings name nobody else (RFC 3892)."""
    try:
        uri = parse_name_addr(leg.headers["to"]).uri
    except (KeyError, AddressError):
        uri = None
    match uri:
        case SipUri():
            return str(attrs.evolve(uri, headers=""))  # which a Referred-By does not have
        case OtherUri(scheme="tel"):
            return str(uri)
        case _:
            return f"sip:{leg.dialled or 'anonymous'}@anonymous.invalid"  # RFC 3323 section 4.1.1.3


def described(outcome: ReferOutcome) -> str:
    return outcome.text if outcome.status is None else f"{outcome.status} {outcome.text}"
