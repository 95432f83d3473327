"""Audio waiting to be spoken, and the ledger of what the caller was really sent of each item.

Plain synchronous state: barge-in cuts and measures it in one step, between two checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from aivc.media.g711 import FRAME_OCTETS, OCTETS_PER_MS

# Models speak faster than real time: this is the longest answer that may wait here. It also bounds a hostile server.
CAPACITY_SECONDS: Final = 120
MOST_ITEMS: Final = 32  # unfinished ones; a barge-in sends the model one event for each
CAPACITY_OCTETS: Final = CAPACITY_SECONDS * 1000 * OCTETS_PER_MS
ALMOST: Final = 0.001  # seconds; frames are asked for at even times, which are never quite the same apart


@attrs.define
class ItemPlayout:
    """The ledger line of one conversation item."""

    item_id: str
    response_id: str
    received_octets: int = 0
    heard_octets: int = 0  # handed to the socket
    ended: bool = False  # no more audio will come
    began_at: float | None = None  # when its first frame left, seconds

    @property
    def received_ms(self) -> int:
        return self.received_octets // OCTETS_PER_MS

    @property
    def heard_ms(self) -> int:
        """Milliseconds that the caller was sent, floored: what `audio_end_ms` of a truncation says."""
        return self.heard_octets // OCTETS_PER_MS

    @property
    def complete(self) -> bool:
        """Whether there is nothing of it left to say."""
        return self.ended and self.heard_octets == self.received_octets


@attrs.define
class Chunk:
    """A run of octets of one item; `start` moves on as frames are cut from it."""

    item: ItemPlayout
    octets: bytes
    start: int = 0


def unheeded(_: object) -> None:
    """For who does not care what is told."""


def unawaited() -> None:
    """For who does not wait for the end."""


@attrs.define
class Playout:
    """The queue between the model's bursts and the pacer's even frames.

    Args:
      silence: the octet that fills the end of the last frame, 0xFF (PCMU) or 0xD5 (PCMA).
      began: told of each item when its first frame leaves.
      emptied: told when the frame with the last octet leaves; not after a cut.
      frame_octets: of the packets that leave; it may change at any time.
      cushion_ms: audio that must wait beyond the first frame before it is played, when there was nothing to say before
        and the item is not complete; playing begins so much later at most. Deltas that come just in time, one a
        frame, would otherwise be late every now and then, each time with a gap.
    """

    silence: int
    began: Callable[[ItemPlayout], None] = unheeded
    emptied: Callable[[], None] = unawaited
    paused: bool = attrs.field(init=False, default=False)
    frame_octets: int = FRAME_OCTETS
    cushion_ms: int = 0
    refused_octets: int = 0  # beyond the capacity
    _chunks: list[Chunk] = attrs.field(factory=list)
    _chunk_octets: int = 0  # of all of them, whole
    _items: dict[str, ItemPlayout] = attrs.field(factory=dict)  # those that are not complete, in order
    _flows: bool = False  # the frame before was speech, too
    _held_since: float | None = None  # when there was a frame to play at first, and too little behind it, seconds

    def push(self, response_id: str, item_id: str, audio: bytes) -> bool:
        """Queue audio of an item; False when it does not fit in, and nothing of it is queued."""
        item = self._items.get(item_id)
        too_many = item is None and len(self._items) >= MOST_ITEMS
        if too_many or self.waiting_octets + len(audio) > CAPACITY_OCTETS:
            self.refused_octets += len(audio)
            return False
        if item is None:
            item = self._items[item_id] = ItemPlayout(item_id, response_id)
        item.received_octets += len(audio)
        self._chunk_octets += len(audio)
        if audio:
            self._chunks.append(Chunk(item, audio))
        return True

    def end_item(self, item_id: str) -> None:
        """The model has sent all audio of this item."""
        item = self._items.get(item_id)
        if item is not None:
            item.ended = True
            self._forget_if_complete(item)

    def pop_frame(self, now: float) -> bytes | None:
        """The next frame to send, or None when there is nothing to say, or while it is paused.

        A frame that is not full waits for the rest of its item, or for the next item; the last one of all is filled
        up with silence.
        """
        chunks = self._chunks
        if not chunks or self.paused:
            self._flows = False
            return None
        chunk, octets = chunks[0], self.frame_octets
        start, audio = chunk.start, chunk.octets
        end = start + octets
        if start and end < len(audio):  # by far the most frequent case
            frame = audio[start:end]
            chunk.start = end
            chunk.item.heard_octets += octets
            return frame
        return self._gather(now)

    def pause(self) -> None:
        """Keep everything from now on, until `resume` or `cut`."""
        self.paused = True

    def resume(self) -> None:
        """Go on where `pause` stopped."""
        self.paused = False

    def cut(self) -> list[ItemPlayout]:
        """Drop everything that was not sent; return the ledger of every item that is not complete, oldest first.

        A pause is over then.
        """
        cut = list(self._items.values())
        self._chunks.clear()
        self._items.clear()
        self._chunk_octets = 0
        self.paused, self._held_since = False, None
        return cut

    @property
    def waiting_octets(self) -> int:
        """What is still to be sent."""
        return self._chunk_octets - self._chunks[0].start if self._chunks else 0

    @property
    def drained(self) -> bool:
        """Whether everything received so far was sent."""
        return not self._chunks

    def _gather(self, now: float) -> bytes | None:
        if not (self._chunks[-1].item.ended or self._is_enough(now)):
            return None
        self._flows, self._held_since = True, None
        frame = b""
        while self._chunks and len(frame) < self.frame_octets:
            frame += self._take(self._chunks[0], self.frame_octets - len(frame), now)
        if not self._chunks:
            self.emptied()
        return frame.ljust(self.frame_octets, bytes([self.silence]))

    def _is_enough(self, now: float) -> bool:
        beyond = self.waiting_octets - self.frame_octets
        if beyond < 0:
            self._flows = False
            return False
        if self._flows or beyond >= self.cushion_ms * OCTETS_PER_MS:
            return True
        if self._held_since is None:
            self._held_since = now
        return now - self._held_since >= self.cushion_ms / 1000 - ALMOST

    def _take(self, chunk: Chunk, wanted: int, now: float) -> bytes:
        octets = chunk.octets[chunk.start : chunk.start + wanted]
        item = chunk.item
        if not item.heard_octets:
            item.began_at = now
            self.began(item)
        chunk.start += len(octets)
        item.heard_octets += len(octets)
        if chunk.start == len(chunk.octets):
            del self._chunks[0]
            self._chunk_octets -= len(chunk.octets)
            self._forget_if_complete(item)
        return octets

    def _forget_if_complete(self, item: ItemPlayout) -> None:
        if item.complete:
            self._items.pop(item.item_id, None)
