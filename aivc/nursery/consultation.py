"""An attended transfer: call the target, say who comes, then have the caller take our place (RFC 5589 section 7).

    caller ------ hears sounds.hold ------+
                                          |  REFER with Replaces, once the announcement was heard
    announcement --Realtime--> RTP --> target

Meanwhile the model neither hears the caller nor is heard. Whatever goes wrong, the target is hung up on, the caller
gets the model back, and the model is told why. The target's line lives in the tool call that wants the transfer, and is
gone with it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import attrs
import trio

from aivc import logs
from aivc.media.g711 import SILENCE
from aivc.media.playout import Playout
from aivc.media.ports import MediaSockets, NoPortFree
from aivc.media.stream import RtpStream
from aivc.nursery.announcement import Announcement, announcement_of
from aivc.nursery.ending import CallOver
from aivc.nursery.ground import Ground
from aivc.nursery.media import change_media, make_stream, media_address, open_ports
from aivc.sip.leg import (
    AudioAgreement,
    Consultation,
    ConsultationFailed,
    HungUp,
    Leg,
    MediaChanged,
    ReferOutcome,
    SessionExpired,
    SignallingFailed,
)

log = logging.getLogger("aivc.call")

GOODBYE_MARGIN: Final = 0.5  # seconds beyond sip.hang_up_seconds, which the consultation itself keeps


class SendRefer(Protocol):
    """Sends the REFER of one transfer, and follows it."""

    def __call__(self, *, replaces: Consultation | None = None) -> Awaitable[ReferOutcome]: ...


@attrs.define(eq=False)
class Target:
    """Who was called, once they have answered."""

    consultation: Consultation
    stream: RtpStream
    left: bool = False
    listening: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # ends when they leave

    async def watch(self) -> None:
        """Task: what they do with their call."""
        async for event in self.consultation.events:
            match event:
                case MediaChanged():
                    change_media(self.stream, event)
                case HungUp() | SessionExpired() | SignallingFailed():
                    self.leave()
                case _:  # keys, and what only a call to us can have
                    pass
        self.leave()

    def leave(self) -> None:
        self.left = True
        self.listening.cancel()


async def consult_and_refer(ground: Ground, refer_to: str, send_refer: SendRefer) -> ReferOutcome:
    """Try the transfer. The outcome is that of what came last: the call to the target, the announcement, the REFER."""
    cause = ""
    with caller_aside(ground):
        try:
            async with open_ports(ground.means.ports, ground.leg) as sockets:
                return await consult(ground, sockets, refer_to, send_refer)
        except* NoPortFree as group:
            cause = str(group.exceptions[0])
    return ReferOutcome(None, cause)


@contextmanager
def caller_aside(ground: Ground) -> Iterator[None]:
    """The caller waits, with music if there is some; the model is kept from them, and they from the model."""
    performer, leaving = ground.progress.performer, ground.progress.leaving
    assert performer is not None  # it was the model that asked for the transfer
    hold = ground.octets(ground.means.prompts.hold)
    sounds = bool(hold) and not performer.stream.plays_sound  # that of a slow tool goes on
    leaving.consulting = True
    performer.put_aside(True)
    if sounds:
        performer.stream.play(hold, repeat=True)
    try:
        yield
    finally:
        if sounds:
            performer.stream.stop_sound()
        leaving.consulting = False
        performer.put_aside(False)


async def consult(ground: Ground, sockets: MediaSockets, refer_to: str, send_refer: SendRefer) -> ReferOutcome:
    """Call the target, with the announcement made ready meanwhile."""
    announcement = announcement_of(ground)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(announcement.prepare)
            outcome = await call_target(ground, sockets, refer_to, announcement, send_refer)
            nursery.cancel_scope.cancel()
    finally:
        announcement.close()
    return outcome


async def call_target(
    ground: Ground,
    sockets: MediaSockets,
    refer_to: str,
    announcement: Announcement,
    send_refer: SendRefer,
) -> ReferOutcome:
    """Call the target, and hand the caller over to who answers."""
    leg, ring_seconds = ground.leg, ground.settings.openai.transfer_ring_seconds
    try:
        local = await media_address(leg, ground.settings, sockets)
        consultation = await leg.consult(refer_to, local, ring_seconds)
    except ConsultationFailed as failed:
        return ReferOutcome(failed.status, failed.text)
    except CallOver as over:  # there is no way to their audio
        return ReferOutcome(None, over.detail)
    except ValueError as error:  # a URI that the front end cannot call
        return ReferOutcome(None, str(error))
    logs.event(log, "transfer.target_answered", refer_to=refer_to)
    try:
        return await hand_over(ground, sockets, consultation, announcement, send_refer)
    finally:
        ground.lines.finishing.start_soon(part, ground, consultation)


async def hand_over(
    ground: Ground,
    sockets: MediaSockets,
    consultation: Consultation,
    announcement: Announcement,
    send_refer: SendRefer,
) -> ReferOutcome:
    """Announce the caller, and have them take our place."""
    stream = second_stream(ground, sockets, consultation.agreement, announcement)
    target = Target(consultation, stream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ground.means.clock.carry, stream)
        nursery.start_soon(target.watch)
        with target.listening:
            await announcement.speak(stream)
        if target.left:
            outcome = ReferOutcome(None, "the other side hung up before the caller was connected")
        elif knows_replaces(ground.leg):
            outcome = await send_refer(replaces=consultation)
        else:  # the caller rings them anew, who know what about (RFC 5589 section 7.7)
            await part(ground, consultation)
            outcome = await send_refer()
        nursery.cancel_scope.cancel()
    return outcome


def knows_replaces(leg: Leg) -> bool:
    """Whether the caller's telephone can take somebody's place; one that does not say what it knows is tried."""
    supported = leg.headers.get("supported")
    return supported is None or "replaces" in (tag.strip().lower() for tag in supported.split(","))


def second_stream(
    ground: Ground, sockets: MediaSockets, agreement: AudioAgreement, announcement: Announcement
) -> RtpStream:
    """The RTP to the target, about to begin; nobody listens to what they say."""
    unheard, _ = trio.open_memory_channel[bytes](0)
    playout = Playout(SILENCE[agreement.codec], emptied=announcement.drained)
    caller, rtp = ground.progress.stream, ground.settings.rtp
    assert caller is not None  # the model has talked to them
    ip, trusted = caller.latch.signalling_ip, caller.is_trusted  # the target is reached by the way to the caller
    return make_stream(agreement, rtp, sockets, playout, unheard, signalling_ip=ip, is_trusted=trusted)


async def part(ground: Ground, consultation: Consultation) -> None:
    """Say BYE to the target, if they have not; at once, and with a deadline, even when cancelled."""
    with trio.move_on_after(ground.settings.sip.hang_up_seconds + GOODBYE_MARGIN, shield=True):
        try:
            await consultation.hang_up("the consultation is over")
        except Exception as error:  # a bug in a front end costs nothing but this line
            logs.event(log, "call.bug", level=logging.ERROR, error=repr(error), exc_info=error)
