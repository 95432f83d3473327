"""The tasks of a call that only wait for a reason to end it, or for the moment to act."""

from __future__ import annotations

import logging
from typing import Final

import trio

from aivc import logs
from aivc.config.settings import Settings
from aivc.media.stream import RtpStream
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.ground import Progress
from aivc.nursery.keys import Keypad
from aivc.sip.leg import AckMissing, AudioAgreement, Cancelled, DigitPressed, HungUp, LegEvent, MediaChanged

log = logging.getLogger("aivc.call")

SETTLED: Final = 3.0  # seconds after the answer by which the caller's audio has found its way, if it ever does


async def watch_leg(events: trio.MemoryReceiveChannel[LegEvent], progress: Progress, keypad: Keypad) -> None:
    """What the peer does with its dialog."""
    async for event in events:
        match event:
            case HungUp() if progress.leaving.referring:
                raise CallOver(Ending.TRANSFERRED, "the caller left while the transfer was under way")
            case HungUp():
                raise CallOver(Ending.CALLER_HUNG_UP)
            case DigitPressed(digit=digit):
                take_info_digit(progress.stream, digit, keypad)
            case Cancelled():
                raise CallOver(Ending.CALLER_CANCELLED)
            case AckMissing(contact=contact):
                raise CallOver(Ending.ACK_MISSING, f"our Contact {contact} was unreachable for the caller")
            case MediaChanged(agreement=agreement):
                change_media(progress.stream, agreement)
                if progress.performer is not None:
                    progress.performer.caller_holds(not (agreement.may_send and agreement.may_receive))
    raise CallOver(Ending.INTERNAL_ERROR, "the front end closed the leg's events")


def change_media(stream: RtpStream | None, agreement: AudioAgreement) -> None:
    """Follow a re-INVITE: another address or payload type, hold, or resume. The codec of a call never changes."""
    if stream is not None:
        now = trio.current_time()
        if agreement.remote != stream.latch.described:
            stream.latch.move(agreement.remote, now)
            stream.started_at = now
        stream.last_received = now
        stream.expects_audio = agreement.may_send and agreement.may_receive
        stream.payload_type = stream.pacer.payload_type = agreement.payload_type
        stream.may_send = agreement.may_send
        stream.telephone_event = agreement.telephone_event


def take_info_digit(stream: RtpStream | None, digit: str, keypad: Keypad) -> None:
    """Some telephones tell of a key by RTP and by INFO as well: who has once used RTP is heard there."""
    if stream is not None and not stream.counters.digits:
        keypad.press(digit, "info")


async def watch_drain(draining: trio.Event) -> None:
    await draining.wait()
    raise CallOver(Ending.DRAINED)


async def warn_unheard(stream: RtpStream) -> None:
    """Say what to do when audio comes, but from where it must not come: a caller in silence has no other clue."""
    await trio.sleep(SETTLED)
    counters = stream.statistics()
    if counters.foreign and not counters.received:
        hint = 'the audio comes from another address than the SDP says; rtp.nat = "on" would take it'
        logs.event(log, "rtp.unheard", level=logging.WARNING, sdp=stream.remote[0], packets=counters.foreign, hint=hint)


async def watch_limits(stream: RtpStream, settings: Settings) -> None:
    """Maximum duration, and a caller whose RTP has stopped coming (0 seconds: never)."""
    last_moment = trio.current_time() + settings.service.max_call_seconds
    patience = settings.rtp.timeout_seconds or float("inf")
    while True:
        heard_at = stream.last_received if stream.expects_audio else trio.current_time()
        await trio.sleep_until(min(last_moment, heard_at + patience))
        now = trio.current_time()
        if now >= last_moment:
            raise CallOver(Ending.MAX_DURATION, f"service.max_call_seconds = {settings.service.max_call_seconds:g}")
        if stream.expects_audio and now >= stream.last_received + patience:
            raise CallOver(Ending.MEDIA_TIMEOUT, f"nothing came for {patience:g} s (rtp.timeout_seconds)")
