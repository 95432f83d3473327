"""What the replay sends, held against what was sent when the call was recorded: stream by stream, in order.

The streams are SIP, the commands to OpenSIPS, RTP, connections to the model, the caller's audio to it, and our other
events. The first difference of all ends the comparison.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import attrs

from aivc.config.settings import Codec
from aivc.flight.entries import Entry, MiMessage, RealtimeEvent, RealtimeLine, RtpPacket, SipMessage
from aivc.media.g711 import FRAME_MS
from aivc.replaying.alike import Unlike, loaded, unified_command, unified_event, unified_sip
from aivc.replaying.appends import AppendComparison, is_append
from aivc.replaying.names import Names
from aivc.replaying.packets import PacketComparison
from aivc.replaying.sound import StandIns

SHOWN_BEFORE: Final = 6  # entries that a difference is told with
CROSSED: Final = 0.005  # seconds: what two tasks say in one moment may come in either order
# What OpenSIPS is asked for at times that have nothing to do with a call: who subscribes, and which sessions it has.
ROUTINE: Final = frozenset({"event_subscribe", "subscribers_list", "ua_session_list"})


@attrs.frozen
class Difference:
    """The first thing that the replay does differently.

    Attributes:
      at: seconds since the call began, on the recording's clock.
      why: in a few words.
      recorded: what was there; None: nothing more.
      came: what came in its place; None: nothing, in time.
      before: what was recorded shortly before, the oldest first.
    """

    at: float
    why: str
    recorded: Entry | None
    came: Entry | None
    before: tuple[Entry, ...] = ()


def stream_of(entry: Entry) -> str | None:
    """Which stream of output an entry belongs to; None: it is no output that is compared."""
    match entry:
        case SipMessage(way="out"):
            return "SIP"
        case RtpPacket(way="out"):
            return "RTP"
        case MiMessage(way="out", channel="command"):
            return None if loaded(entry.text).get("method") in ROUTINE else "commands"
        case RealtimeEvent(way="out"):
            return f"events {entry.session}"
        case RealtimeLine(what="opening"):
            return "connections"
        case _:
            return None


@attrs.define(eq=False)
class Comparison:
    """The comparison of one replay.

    Args:
      entries: the recording's, or the part of it that is compared.
      tolerance: seconds that something may be early or late.
      until: where the call's recording ends: later RTP is no difference, later silence of ours neither.
    """

    entries: Sequence[Entry]
    names: Names
    sounds: StandIns
    tolerance: float
    audio_is_kept: bool
    until: float
    append_ms: int = FRAME_MS
    difference: Difference | None = None
    compared: int = 0  # outputs that were as recorded
    _waiting: dict[str, deque[RtpPacket | SipMessage | MiMessage | RealtimeEvent | RealtimeLine]] = attrs.field(
        init=False, factory=dict
    )
    _packets: PacketComparison = attrs.field(init=False)
    _is_finished: bool = attrs.field(init=False, default=False)
    _media_over_at: float | None = attrs.field(init=False, default=None)
    _appends: dict[int, AppendComparison] = attrs.field(init=False, factory=dict)  # by session

    def __attrs_post_init__(self) -> None:
        for entry in self.entries:
            if isinstance(entry, RealtimeEvent) and entry.way == "out" and is_append(entry.text):
                self._appends_of(entry.session).waiting.append(entry)
            elif (stream := stream_of(entry)) is not None:
                self._waiting.setdefault(stream, deque()).append(entry)  # type: ignore[arg-type]  # of these five
        self._packets = PacketComparison(self.sounds.codec, self.audio_is_kept)

    @property
    def codec(self) -> Codec:
        return self.sounds.codec

    @property
    def is_complete(self) -> bool:
        """Whether all that was recorded has come."""
        return not any((*self._waiting.values(), *(appends.waiting for appends in self._appends.values())))

    def came(self, entry: Entry) -> None:
        """Take the next output of the replay."""
        stream = stream_of(entry)
        if stream is None or self.difference is not None or self._is_finished:
            return
        if isinstance(entry, RealtimeEvent) and is_append(entry.text):
            self._take_append(entry)
            return
        waiting = self._waiting.get(stream, deque())
        if not waiting:
            self._take_unexpected(entry)
            return
        reasons: list[str] = []
        for place, recorded in enumerate(waiting):
            if place and recorded.at - waiting[0].at > CROSSED:
                break
            unlike = self._unlike(recorded, entry)
            if unlike is None:
                del waiting[place]
                self._check_time(recorded, entry)
                return
            reasons.append(unlike)
            if stream == "RTP":
                break
        self._differ(entry.at, reasons[0], waiting[0], entry)

    def overdue(self, now: float) -> None:
        """It is so late by now: what should have come long ago is missing."""
        if self.difference is not None:
            return
        self._forgive()
        late = [waiting[0] for waiting in self._waiting.values() if waiting]
        first = min(late, key=lambda entry: entry.at, default=None)
        if first is not None and first.at + self.tolerance < now:
            self._differ(first.at, "this did not come", first, None)
            return
        for appends in self._appends.values():
            if (unlike := appends.overdue(now)) is not None:
                at = min(now, self.until) if unlike.recorded is None else unlike.recorded.at
                self._differ(at, unlike.why, unlike.recorded, None)
                return

    def media_over(self, now: float) -> None:
        """No more audio will come: the call is over. What the recording has of the next moments is no difference: a
        busy machine takes that long to end."""
        self._media_over_at = now

    def _forgive(self) -> None:
        if self._media_over_at is None:
            return
        first, last = self._media_over_at, self._media_over_at + self.tolerance
        for waiting in (self._waiting.get("RTP"), *(appends.waiting for appends in self._appends.values())):
            while waiting and first <= waiting[0].at <= last:
                waiting.popleft()

    def other_end(self, now: float, recorded: str, came: str) -> None:
        """The call has ended in another way."""
        if self.difference is None:
            self._differ(now, f"the call ended as {came}, not as {recorded}", None, None)

    def finish(self) -> None:
        """Nothing more will come, or count: the replay is over."""
        self.overdue(float("inf"))
        self._is_finished = True

    def _appends_of(self, session: int) -> AppendComparison:
        is_whole = self.append_ms <= FRAME_MS
        made = AppendComparison(self.sounds, self.audio_is_kept, is_whole, self.tolerance)
        return self._appends.setdefault(session, made)

    def _take_append(self, entry: RealtimeEvent) -> None:
        unlike = self._appends_of(entry.session).came(entry)
        if unlike is None:
            self.compared += 1
        elif unlike.recorded is not None or entry.at <= self.until:
            self._differ(entry.at, unlike.why, unlike.recorded, entry)

    def _take_unexpected(self, entry: Entry) -> None:
        if entry.at > self.until + self.tolerance or (isinstance(entry, RtpPacket) and entry.at > self.until):
            return
        self._differ(entry.at, "nothing more of this kind was recorded", None, entry)

    def _check_time(self, recorded: Entry, came: Entry) -> None:
        early = recorded.at - came.at
        if abs(early) > self.tolerance:
            word = "early" if early > 0 else "late"
            self._differ(min(recorded.at, came.at), f"{1000 * abs(early):.0f} ms {word}", recorded, came)
        else:
            self.compared += 1

    def _unlike(self, recorded: Entry, came: Entry) -> str | None:
        """Why they differ; learns the names of what does not."""
        match recorded, came:
            case RtpPacket(), RtpPacket():
                return self._packets.unlike(recorded, came)
            case RealtimeLine(), RealtimeLine():
                return None
            case RealtimeEvent(), RealtimeEvent():
                packet_ms = self._packets.packet_ms
                found = unified_event(loaded(self._known(recorded)), loaded(came.text), packet_ms)
            case MiMessage(), MiMessage():
                found = unified_command(self._known(recorded), came.text)
            case SipMessage(), SipMessage():
                found = unified_sip(self._known(recorded), came.text)
            case _:
                raise AssertionError("two entries of one stream are of one kind")
        if isinstance(found, Unlike):
            return found.why
        self.names.learn(found)
        return None

    def _known(self, recorded: SipMessage | MiMessage | RealtimeEvent) -> str:
        return self.names.translated(recorded.text)

    def _differ(self, at: float, why: str, recorded: Entry | None, came: Entry | None) -> None:
        until = at if recorded is None else recorded.at
        before = [entry for entry in self.entries if entry.at <= until and entry is not recorded]
        self.difference = Difference(at, why, recorded, came, tuple(notable(before)[-SHOWN_BEFORE:]))


def notable(entries: Sequence[Entry]) -> list[Entry]:
    """Without what comes fifty times a second, but for the first of each run."""
    kept = list(entries[:1])
    for before, entry in pairwise(entries):
        if not (is_routine(entry) and is_routine(before)):
            kept.append(entry)
    return kept


def is_routine(entry: Entry) -> bool:
    return isinstance(entry, RtpPacket) or (isinstance(entry, RealtimeEvent) and is_append(entry.text))
