"""The silence after a caller's turn as it passes: at each moment it is somebody's turn to act, and their time counts.

                          ours to ask          response.create
  speech_stopped --> model ---------> us ----------------------> model --> first delta --> first packet
                       ^                                          | function call
                       +---- response.create <-- us <-- tool <----+

While a tool runs that was called since, the time is the tool's; else, while a response is awaited or being generated,
the model's; else ours. Of what is the model's, one round trip is the network's each time that an answer is awaited to
something we have sent. Events may be missing or come in any order: time never runs backwards here.
"""

from __future__ import annotations

from collections import deque

import attrs

from aivc.nursery.latency import Parts, TurnLatency

RESPONSES = 32  # of one silence: a turn of ten rounds of tools has eleven
CALLS = 512  # of tools, likewise: as many as the conversation remembers


@attrs.frozen(kw_only=True)
class TurnEnd:
    """What is known of a caller's turn when `speech_stopped` is read. Times are seconds on trio's clock.

    Attributes:
      came_at: when the last audible packet came.
      heard_at: when it was its turn among the packets.
      appended_at: when it was written to the model's socket.
      silence: seconds that the turn detection is set to wait for; None: it decides by meaning, and all of its time is
        its setting's.
      round_trip: to the model and back, seconds; None: not known, it counts as the model's.
      is_answered: whether the end of a turn makes the model answer, by itself or asked by us; else somebody may ask.
      caller_round_trip: to the caller and back, seconds; None: not known.
    """

    came_at: float
    heard_at: float
    appended_at: float
    silence: float | None = None
    round_trip: float | None = None
    is_answered: bool = True
    caller_round_trip: float | None = None


@attrs.define
class Gap:
    """One silence that has not ended."""

    end: TurnEnd
    stopped_at: float  # when speech_stopped was read
    _began_at: float = attrs.field(init=False)
    _since: float = attrs.field(init=False)  # until then everything is told
    _spent: dict[str, float] = attrs.field(factory=dict, init=False)  # seconds, by the names of `Parts`
    _awaited: bool = attrs.field(init=False)  # a response is to be created, by all that we know
    _way: float = attrs.field(default=0.0, init=False)  # of the network's time until it is, not told yet
    _active: str | None = attrs.field(default=None, init=False)  # the response that is being generated
    _responses: deque[str] = attrs.field(factory=lambda: deque(maxlen=RESPONSES), init=False)  # created since
    _calls: set[str] = attrs.field(factory=set, init=False)  # call ids of tools, called since
    _called: bool = attrs.field(default=False, init=False)  # one of them by the newest response
    _running: set[str] = attrs.field(factory=set, init=False)
    _created_at: float | None = attrs.field(default=None, init=False)
    _delta_at: float | None = attrs.field(default=None, init=False)
    _queue: float = attrs.field(default=0.0, init=False)  # of earlier words when it came, seconds

    def __attrs_post_init__(self) -> None:
        end, stopped = self.end, self.stopped_at
        self._began_at = came = min(end.came_at, stopped)
        heard = min(max(end.heard_at, came), stopped)
        appended = min(max(end.appended_at, heard), stopped)
        waited, way = stopped - appended, end.round_trip or 0.0
        vad = max(0.0, waited - way) if end.silence is None else min(end.silence, waited)
        network = min(way, waited - vad)
        self._spent |= {"reorder_ms": heard - came, "append_ms": appended - heard, "vad_ms": vad}
        self._spent |= {"network_ms": network, "detection_ms": waited - vad - network}
        self._since, self._awaited = stopped, end.is_answered

    def requested(self, wanted_at: float, now: float, *, again: bool = False) -> None:
        """A response.create of ours leaves.

        Args:
          wanted_at: since when somebody wants that response.
          again: it was asked for before, which came to nothing.
        """
        self._pass(min(max(wanted_at, self._since), now))
        self._awaited = self._awaited and again
        self._pass(now)
        self._awaited, self._way = True, self.end.round_trip or 0.0

    def created(self, response_id: str, now: float) -> None:
        """response.created was read, of ours or of the server's own."""
        self._pass(now)
        self._responses.append(response_id)
        self._active, self._awaited, self._called, self._way = response_id, False, False, 0.0
        if self._created_at is None:
            self._created_at = self._since

    def finished(self, response_id: str, status: str, now: float) -> bool:
        """response.done was read; returns whether nobody will answer: it came to nothing, and calls no tool."""
        if response_id not in self._responses:
            return False
        self._pass(now)
        if response_id != self._active:
            return False
        self._active = None
        return status in ("completed", "incomplete") and not (self._called or self._awaited) and self._delta_at is None

    def lost(self, now: float) -> None:
        """The session broke, and its responses with it: until we ask the next one, it is the model's time."""
        self._pass(now)
        self._active, self._awaited, self._way = None, True, 0.0

    def tool_called(self, call_id: str) -> None:
        """The model has called a tool."""
        self._called = True
        if len(self._calls) < CALLS:
            self._calls.add(call_id)

    def tool_started(self, call_id: str, now: float) -> None:
        if call_id in self._calls:
            self._pass(now)
            self._running.add(call_id)

    def tool_ended(self, call_id: str, now: float) -> None:
        if call_id in self._running:
            self._pass(now)
            self._running.discard(call_id)

    def audio_came(self, response_id: str, queue: float, now: float) -> None:
        """An audio delta was read, and goes into the playout behind so many seconds of earlier words."""
        if self._delta_at is None and response_id in self._responses:
            self._pass(now)
            self._delta_at, self._queue = self._since, queue

    def cut(self, now: float) -> None:
        """What waited in the playout is never heard: the silence goes on until something else comes."""
        if self._delta_at is not None:
            self._play(now)
            self._delta_at = None

    def ended_by(self, item_id: str, response_id: str, began_at: float) -> TurnLatency | None:
        """The first packet of an item has left; None when it is no answer to this turn."""
        if self._delta_at is None or self._created_at is None or response_id not in self._responses:
            return None
        delta_at = self._delta_at
        self._play(began_at)
        caller = self.end.caller_round_trip
        return TurnLatency(
            item_id,
            self._began_at,
            endpointing_ms=1000 * (self.stopped_at - self._began_at),
            response_ms=1000 * (self._created_at - self.stopped_at),
            first_audio_ms=1000 * (delta_at - self._created_at),
            playout_ms=1000 * (self._since - delta_at),
            parts=Parts(**{name: 1000 * seconds for name, seconds in self._spent.items()}),
            caller_network_ms=None if caller is None else 1000 * caller,
        )

    @property
    def _acts(self) -> str:
        """The part that time passes for."""
        if self._running:
            return "tool_ms"
        if self._active is None and not self._awaited:
            return "request_ms"
        return "creation_ms" if self._created_at is None else "generation_ms"

    def _pass(self, now: float) -> None:
        if self._delta_at is not None:
            return
        seconds, acts = max(0.0, now - self._since), self._acts
        if acts in ("creation_ms", "generation_ms"):
            way = min(self._way, seconds)
            self._way -= way
            self._spend("network_ms", way)
            seconds -= way
        self._spend(acts, seconds)
        self._since = max(self._since, now)

    def _play(self, now: float) -> None:
        seconds = max(0.0, now - self._since)
        queue = min(self._queue, seconds)
        self._spend("queue_ms", queue)
        self._spend("playout_ms", seconds - queue)
        self._since = max(self._since, now)

    def _spend(self, name: str, seconds: float) -> None:
        self._spent[name] = self._spent.get(name, 0.0) + seconds
