"""What a call only waits for: a reason to end it, or the moment to act."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from math import inf
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import RtpSettings, Settings
from aivc.media.stream import RtpStream
from aivc.nursery.causes import raise_once
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.ground import Progress
from aivc.nursery.keys import Keypad
from aivc.nursery.media import change_media
from aivc.sip.leg import (
    AckMissing,
    Cancelled,
    DigitPressed,
    HungUp,
    Leg,
    LegEvent,
    MediaChanged,
    SessionExpired,
    SignallingFailed,
)

log = logging.getLogger("aivc.call")

LOOK: Final = 1.0  # seconds between two looks whether the caller holds us
SETTLED: Final = 3.0  # seconds after the answer by which the caller's audio has found its way, if it ever does


def heeded(leg: Leg, progress: Progress, keypad: Keypad, nursery: trio.Nursery) -> AbstractContextManager[None]:
    """While the block runs, the call follows what the peer does with its dialog; what ends it is raised in `nursery`,
    which is to end with the block.
    """
    is_over = False

    def take(event: LegEvent | None) -> None:
        nonlocal is_over
        if not is_over:
            try:
                with logs.call(leg.call_id):
                    heed(event, progress, keypad)
            except Exception as error:  # in a task of the call: the front end is that of all calls
                is_over = True
                nursery.start_soon(raise_once, error)

    return leg.events.told_to(take)


def heed(event: LegEvent | None, progress: Progress, keypad: Keypad) -> None:
    """Raises CallOver."""
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
        case SignallingFailed(cause=cause):
            raise CallOver(Ending.SIGNALLING_FAILED, cause)
        case SessionExpired(cause=cause):
            raise CallOver(Ending.SESSION_EXPIRED, cause)
        case MediaChanged(agreement=agreement):
            change_media(progress.stream, event)
            if progress.performer is not None:
                progress.performer.caller_holds(not (agreement.may_send and agreement.may_receive))
        case None:
            raise CallOver(Ending.INTERNAL_ERROR, "the front end closed the leg's events")


def take_info_digit(stream: RtpStream | None, digit: str, keypad: Keypad) -> None:
    """Some telephones tell of a key by RTP and by INFO as well: who has once used RTP is heard there."""
    if stream is not None and not stream.counters.digits:
        keypad.press(digit, "info")


def warn_unheard(stream: RtpStream) -> None:
    """Say what to do when audio comes, but from where it must not come: a caller in silence has no other clue."""
    counters = stream.statistics()
    if counters.foreign and not counters.received:
        hint = 'the audio comes from another address than the SDP says; rtp.nat = "on" would take it'
        logs.event(log, "rtp.unheard", level=logging.WARNING, sdp=stream.remote[0], packets=counters.foreign, hint=hint)


@attrs.define(eq=False)
class Limits:
    """The maximum duration, and a caller of whom nothing comes any more, in the talk or on hold (0 seconds: never).

    Says so when nothing is heard from the beginning.
    """

    stream: RtpStream
    settings: Settings
    _settled: float = attrs.field(factory=lambda: trio.current_time() + SETTLED, init=False)
    _last_moment: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._last_moment = trio.current_time() + self.settings.service.max_call_seconds

    @property
    def deadline(self) -> float:
        return min(self._settled, self._last_moment, self._next_look, quiet_until(self.stream, self.settings.rtp))

    def expire(self) -> None:
        """Raises CallOver."""
        now, rtp, longest = trio.current_time(), self.settings.rtp, self.settings.service.max_call_seconds
        if now >= self._settled:
            self._settled = inf
            warn_unheard(self.stream)
        if now >= self._last_moment:
            raise CallOver(Ending.MAX_DURATION, f"service.max_call_seconds = {longest:g}")
        if now >= quiet_until(self.stream, rtp):
            raise CallOver(Ending.MEDIA_TIMEOUT, missed(self.stream, rtp))

    @property
    def _next_look(self) -> float:
        """A hold may begin or end at any time, and changes who is waited for."""
        return trio.current_time() + LOOK if self.settings.rtp.hold_timeout_seconds else inf


def quiet_until(stream: RtpStream, rtp: RtpSettings) -> float:
    """When a caller of whom nothing comes is taken to be gone. Who holds us need not send, but for reports."""
    if stream.expects_audio:
        return stream.last_received + (rtp.timeout_seconds or inf)
    patience = rtp.hold_timeout_seconds or rtp.timeout_seconds or inf  # without a limit: look again then
    return (stream.last_alive if rtp.hold_timeout_seconds else trio.current_time()) + patience


def missed(stream: RtpStream, rtp: RtpSettings) -> str:
    if stream.expects_audio:
        return f"nothing came for {rtp.timeout_seconds:g} s (rtp.timeout_seconds)"
    return f"nothing came for {rtp.hold_timeout_seconds:g} s from a caller on hold (rtp.hold_timeout_seconds)"
