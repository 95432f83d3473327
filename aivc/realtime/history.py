"""What was said in a call, in the order of the conversation's items: for its record, and for a session that goes on.

Of the model's words only those count that were heard. The server sends words and audio side by side, so the part of an
item's words that was heard is taken to be that of its audio, cut back to a whole word.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Literal

import attrs

from aivc.realtime.events import AudioDelta, FunctionCall
from aivc.realtime.items import CutItem

MOST_ENTRIES = 1000  # more turns than an hour of talk has; older ones are forgotten
LONGEST_TEXT = 16_000  # characters of one item: the longest answer, 4096 tokens
OCTETS_PER_MS = 8  # G.711


@attrs.frozen
class Utterance:
    """One item of the conversation, as far as it was heard."""

    item_id: str
    speaker: Literal["caller", "model", "keys"]
    text: str
    heard_ms: int | None = None  # of the model's audio; None while it is playing
    received_ms: int | None = None
    interrupted: bool = False


@attrs.define
class Caller:
    """A place for the caller's words, which come when they are written down."""

    item_id: str
    speaker: Literal["caller", "keys"] = "caller"
    text: str = ""

    def utterance(self) -> Utterance | None:
        return Utterance(self.item_id, self.speaker, self.text) if self.text else None


@attrs.define
class Model:
    """An item that the model speaks."""

    item_id: str
    text: str = ""
    received_octets: int = 0
    heard_ms: int | None = None
    interrupted: bool = False
    audio_done: bool = False
    written: bool = False  # in place of any audio
    _frozen: bool = False  # the words are those of the audio that was there when it was cut

    @property
    def received_ms(self) -> int:
        return self.received_octets // OCTETS_PER_MS

    def add(self, delta: str) -> None:
        if not self._frozen:
            self.text = (self.text + delta)[:LONGEST_TEXT]

    def complete(self, text: str) -> None:
        """The whole text, which belongs to the whole audio."""
        if not self._frozen or self.audio_done or not self.text:
            self.text = text[:LONGEST_TEXT]

    def cut(self, heard_ms: int) -> None:
        self.heard_ms, self.interrupted, self._frozen = min(heard_ms, self.received_ms), True, True

    def utterance(self) -> Utterance | None:
        """What was heard, or will be if nobody interrupts, or was only written; None if nothing."""
        heard_ms = self.received_ms if self.heard_ms is None else self.heard_ms
        if self.written and not self.received_octets:
            return Utterance(self.item_id, "model", self.text, 0, 0)
        if heard_ms <= 0:
            return None
        text = heard_part(self.text, heard_ms, self.received_ms) if self.interrupted else self.text
        return Utterance(self.item_id, "model", text, self.heard_ms, self.received_ms, self.interrupted)


@attrs.define
class ToolUse:
    """A function call and its output, once that was sent. No utterance, but the model must know of it."""

    call: FunctionCall
    output: str | None = None

    def utterance(self) -> Utterance | None:
        return None


Entry = Caller | Model | ToolUse


@attrs.define
class History:
    """All items by id, in the order in which they were first announced."""

    forgotten: int = attrs.field(default=0, init=False)  # entries dropped to stay within bounds
    _entries: OrderedDict[str, Entry] = attrs.field(factory=OrderedDict, init=False)
    _playing: dict[str, Model] = attrs.field(factory=dict, init=False)
    _keys: int = attrs.field(default=0, init=False)
    _sessions: int = attrs.field(default=0, init=False)  # that are gone

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries.values())

    @property
    def utterances(self) -> tuple[Utterance, ...]:
        """Everything that was said and heard so far, as text where there is one."""
        said = (entry.utterance() for entry in self._entries.values())
        return tuple(utterance for utterance in said if utterance is not None)

    @property
    def empty(self) -> bool:
        """Whether nothing was said or done yet."""
        return not self.utterances and not any(isinstance(entry, ToolUse) for entry in self._entries.values())

    def caller_speaks(self, item_id: str) -> None:
        """Keep a place for the caller's words; they may be written down after the answer to them."""
        if item_id and item_id not in self._entries:
            self._add(item_id, Caller(item_id))

    def caller_said(self, item_id: str, text: str) -> None:
        self.caller_speaks(item_id)
        entry = self._entries.get(item_id)
        if isinstance(entry, Caller):
            entry.text = text.strip()[:LONGEST_TEXT]

    def keys_pressed(self, keys: str) -> None:
        self._keys += 1
        item_id = f"keys-{self._keys}"
        self._add(item_id, Caller(item_id, "keys", keys))

    def forget(self, item_id: str) -> None:
        self._entries.pop(item_id, None)

    def audio(self, event: AudioDelta) -> None:
        """Note audio that will be played."""
        if (item := self._model(event.item_id)) is not None:
            item.received_octets += len(event.audio)
            item.heard_ms = None
            self._playing[event.item_id] = item

    def audio_done(self, item_id: str) -> None:
        if isinstance(item := self._entries.get(item_id), Model):
            item.audio_done = True

    def transcript_delta(self, item_id: str, delta: str) -> None:
        if (item := self._model(item_id)) is not None:
            item.add(delta)

    def transcript_done(self, item_id: str, text: str) -> None:
        if (item := self._model(item_id)) is not None:
            item.complete(text)

    def written(self, item_id: str, text: str) -> bool:
        """Keep an answer in writing; False if there is none, or the item is spoken."""
        if not text or (item := self._model(item_id)) is None or item.received_octets:
            return False
        item.complete(text)
        item.written = True
        return True

    def drained(self) -> None:
        """All that was received is heard."""
        for item in self._playing.values():
            item.heard_ms = item.received_ms
        self._playing.clear()

    def cut(self, items: Iterable[CutItem]) -> None:
        """Note how much was heard of each item that the playout still held; all others were heard."""
        self.drained()
        for cut in items:
            item = self._entries.get(cut.item_id)
            if isinstance(item, Model) and not cut.complete:
                item.cut(cut.heard_ms)

    def new_session(self) -> None:
        """Ids may come again in a new session: of the old one's only those are kept that still play or run."""
        self._sessions += 1
        old, self._entries = self._entries, OrderedDict()
        for key, entry in old.items():
            unfinished = key in self._playing or (isinstance(entry, ToolUse) and entry.output is None)
            self._entries[key if unfinished else f"{self._sessions}:{key}"] = entry

    def tool_called(self, call: FunctionCall) -> None:
        self._add(tool_key(call.call_id), ToolUse(call))

    def tool_answered(self, call_id: str, output: str) -> None:
        if isinstance(use := self._entries.get(tool_key(call_id)), ToolUse):
            use.output = output

    def _model(self, item_id: str) -> Model | None:
        """Return the model's item; None if the id is somebody else's."""
        if item_id not in self._entries:
            self._add(item_id, Model(item_id))
        return entry if isinstance(entry := self._entries[item_id], Model) else None

    def _add(self, key: str, entry: Entry) -> None:
        self._entries[key] = entry
        if len(self._entries) > MOST_ENTRIES:
            oldest, _ = self._entries.popitem(last=False)
            self._playing.pop(oldest, None)
            self.forgotten += 1


def tool_key(call_id: str) -> str:
    return f"call:{call_id}"  # the server's item ids are no business of ours, so they may be alike


def heard_part(text: str, heard_ms: int, received_ms: int) -> str:
    """Return the words of `text` that fit into the part that was heard; characters where a script has no spaces."""
    if heard_ms >= received_ms:
        return text
    end = len(text) * heard_ms // received_ms
    if end < len(text) and not text[end].isspace() and any(letter.isspace() for letter in text.strip()):
        while end and not text[end - 1].isspace():
            end -= 1
    return text[:end].rstrip()
