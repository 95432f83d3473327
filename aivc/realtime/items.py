"""The model's spoken items: whose audio is wanted, and how the server learns how much of each was heard.

The server's copy of the conversation holds what it generated. After an interruption each item is shortened to what the
caller was sent (`conversation.item.truncate`), or deleted if that is nothing, so that the model knows what was heard.
Each item is corrected at most once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from aivc.realtime.events import AudioDelta, CancelResponse, DeleteItem, TruncateItem
from aivc.realtime.recent import Recent


class CutItem(Protocol):
    """What the playout knows about one item when it is cut."""

    @property
    def item_id(self) -> str: ...

    @property
    def heard_ms(self) -> int:
        """Handed to the caller, rounded down."""

    @property
    def received_ms(self) -> int: ...

    @property
    def complete(self) -> bool:
        """Everything received was heard, and no more was to come."""


@attrs.define
class SpokenItems:
    """The items of one session that had audio, and what was told the server about them."""

    new_event_id: Callable[[], str]
    _muted: Recent[bool] = attrs.field(factory=Recent, init=False)  # interrupted responses, by id
    _responses: Recent[str] = attrs.field(factory=Recent, init=False)  # item id -> response id, of items with audio
    _unfinished: Recent[str] = attrs.field(factory=Recent, init=False)  # those without response.output_audio.done
    _corrected: Recent[bool] = attrs.field(factory=Recent, init=False)  # items, by id
    _corrections: Recent[bool] = attrs.field(factory=Recent, init=False)  # our events about them, by event id

    def mute(self, response_id: str) -> None:
        """Play nothing more of this response."""
        self._muted.add(response_id, True)

    def is_muted(self, response_id: str) -> bool:
        return response_id in self._muted

    def audio_came(self, event: AudioDelta) -> None:
        """Note audio that is played."""
        if event.item_id not in self._responses:
            self._responses.add(event.item_id, event.response_id)
            self._unfinished.add(event.item_id, event.response_id)

    def audio_done(self, item_id: str) -> None:
        self._unfinished.take(item_id)

    def take_unfinished(self, response_id: str) -> list[str]:
        """Return, once, the items of a response whose end was not told; none of a muted one."""
        items = self._unfinished.keys_of(response_id)
        for item_id in items:
            self._unfinished.take(item_id)
        return [] if response_id in self._muted else items

    def take_all_unfinished(self) -> list[str]:
        """Return every item, of a response that is not muted, whose end was not told."""
        return [item_id for item_id, response_id in self._unfinished.items() if response_id not in self._muted]

    def is_whole(self, response_id: str) -> bool:
        """Whether a response had audio and all of it has come."""
        return bool(self._responses.keys_of(response_id)) and not self._unfinished.keys_of(response_id)

    def cut(self, item: CutItem) -> TruncateItem | DeleteItem | None:
        """Return how to tell the server what was heard; None if nothing need be, or may be, told."""
        if (response_id := self._responses.get(item.item_id)) is None:
            return None  # of a session that was replaced
        self._muted.add(response_id, True)
        if item.complete or item.item_id in self._corrected:
            return None
        heard_ms = min(item.heard_ms, item.received_ms)  # more than the item has is an error
        if heard_ms <= 0:  # some servers refuse a truncation to nothing, others keep an empty item
            return self.delete(item.item_id)
        self._corrected.add(item.item_id, True)
        return TruncateItem(self._correction(), item.item_id, heard_ms)

    def unheard(self, item_id: str) -> DeleteItem | None:
        """Return, once, the deletion of an item of a muted response of which nothing was ever played."""
        return None if item_id in self._responses or item_id in self._corrected else self.delete(item_id)

    def delete(self, item_id: str) -> DeleteItem:
        self._corrected.add(item_id, True)
        return DeleteItem(self._correction(), item_id)

    def cancel(self, response_id: str) -> CancelResponse:
        """Return the cancellation of a response, which is muted too."""
        self.mute(response_id)
        return CancelResponse(self._correction(), response_id)

    def take_correction(self, event_id: str | None) -> bool:
        """Say whether an error is about an event of this kind, which may always cross another on its way."""
        return self._corrections.take(event_id) is not None

    def _correction(self) -> str:
        event_id = self.new_event_id()
        self._corrections.add(event_id, True)
        return event_id
