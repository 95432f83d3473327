"""The items of one conversation, their order, and what a client may do to them."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import attrs

from aivc.testing.schema import Json, Refusal


@attrs.define
class Item:
    """A message, a function call or its output."""

    id: str
    body: Json  # GA form without id, object and status
    status: str = "completed"
    audio: bytearray = attrs.field(factory=bytearray)  # what was heard, or what was generated so far
    octets_per_ms: int = 8
    from_model: bool = False
    truncated: bool = False  # deltas that were in flight no longer count
    settled: bool = True  # False: a function call whose response is not done; its call_id is not known yet

    @property
    def audio_ms(self) -> float:
        return len(self.audio) / self.octets_per_ms

    @property
    def speaker(self) -> str:
        """The role of a message, the type of any other item."""
        return str(self.body.get("role") or self.body["type"])

    @property
    def text(self) -> str:
        """The texts and transcripts of a message, the arguments of a call, the output of its answer."""
        parts = self.body.get("content", [self.body])
        found = (part.get(name) for part in parts for name in ("text", "transcript", "arguments", "output"))
        return " ".join(text for text in found if isinstance(text, str) and text)

    @property
    def wire(self) -> Json:
        return {"id": self.id, "object": "realtime.item", "status": self.status, **copy.deepcopy(self.body)}

    @property
    def opening(self) -> Json:
        """The item as it is announced: in progress, nothing said yet."""
        empty: Json = {"content": []} if "content" in self.body else {}
        if "arguments" in self.body:
            empty["arguments"] = ""
        return {**self.wire, "status": "in_progress", **empty}


@attrs.define
class Conversation:
    """Items in order. A refused operation changes nothing."""

    id: str
    items: list[Item] = attrs.field(factory=list)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    @property
    def history(self) -> list[tuple[str, str]]:
        """Who said what, in order: `speaker` and `text` of every item."""
        return [(item.speaker, item.text) for item in self.items]

    def find(self, item_id: str) -> Item | None:
        return next((item for item in self.items if item.id == item_id), None)

    def get(self, item_id: str, code: str, doing: str) -> Item:
        item = self.find(item_id)
        if item is None:
            message = f"Error {doing} item: the item with id '{item_id}' does not exist."
            raise Refusal(code, message, "item_id")
        return item

    def previous_id(self, item: Item) -> str | None:
        """The item before, so that deleting one in between repairs the chain."""
        at = self.items.index(item)
        return self.items[at - 1].id if at else None

    def add(self, item: Item, previous_item_id: str | None = None) -> None:
        """Insert after `previous_item_id`: "root" = first, None = last.

        Raises:
            Refusal: the id is taken, the previous item does not exist, or the output answers no known call.
        """
        if self.find(item.id):
            message = f"Error adding item: an item with ID '{item.id}' already exists in the conversation."
            raise Refusal("item_create_duplicate_item_id", message, "item.id")
        at = len(self.items)
        if previous_item_id == "root":
            at = 0
        elif previous_item_id is not None:
            previous = self.find(previous_item_id)
            if previous is None:
                message = f"Error adding item: the previous item with id '{previous_item_id}' does not exist."
                raise Refusal("item_create_invalid_previous_item_id", message, "previous_item_id")
            at = self.items.index(previous) + 1
        if item.body["type"] == "function_call_output" and self.call(item.body["call_id"]) is None:
            message = f"Tool call ID '{item.body['call_id']}' not found in conversation."
            raise Refusal("invalid_tool_call_id", message, "item.call_id")
        self.items.insert(at, item)

    def call(self, call_id: str) -> Item | None:
        """The function call with this id, once its response is done."""
        calls = (item for item in self.items if item.body["type"] == "function_call" and item.settled)
        return next((item for item in calls if item.body["call_id"] == call_id), None)

    def delete(self, item_id: str) -> None:
        """Raises Refusal if there is no such item."""
        self.items.remove(self.get(item_id, "item_delete_invalid_item_id", "deleting"))

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """Cut generated audio to what was heard, and drop the transcript, which would tell more than that.

        Raises:
            Refusal: no such item, not audio of the model, or less of it was generated so far.
        """
        item = self.find(item_id)
        if item is None:
            raise Refusal("item_truncate_invalid_item_id", f"Item with item_id not found: {item_id}", "item_id")
        content = item.body.get("content", [])
        if not item.from_model or not content or content[0]["type"] != "output_audio":
            raise Refusal(None, "Only model output audio messages can be truncated", "item_id")
        if content_index != 0:
            raise Refusal("invalid_value", f"Invalid content_index: {content_index}. Expected 0.", "content_index")
        if audio_end_ms == 0:
            raise Refusal("invalid_value", "Invalid 'audio_end_ms': delete the item instead.", "audio_end_ms")
        if audio_end_ms > item.audio_ms:
            message = f"Audio content of {int(item.audio_ms)}ms is already shorter than {audio_end_ms}ms"
            raise Refusal("invalid_value", message, "audio_end_ms")
        item.truncated = True
        del item.audio[audio_end_ms * item.octets_per_ms :]
        content[0].pop("transcript", None)
