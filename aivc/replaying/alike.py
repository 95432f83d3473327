"""Whether a message of the replay says what the recorded one said: SIP, commands to OpenSIPS, events to the model.

Each answers with what must be renamed for that, or says why nothing helps. See `names`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import attrs

from aivc.replaying.names import unified

# What says when, or which version speaks; Content-Length follows from the rest, and nonces from the clock.
PASSED_OVER: Final = frozenset(
    {"date", "user-agent", "server", "content-length", "timestamp", "www-authenticate", "proxy-authenticate"}
)
COUNTED: Final = frozenset({"rseq", "retry-after"})  # header fields whose value is a small random number
MASK: Final = "***"  # what stands in a recording for what it may not keep
LONGEST_SHOWN: Final = 160  # characters of a text that differs

Pairs = dict[str, str]


@attrs.frozen
class Unlike:
    """Why two messages are not the same."""

    why: str


def is_masked(text: str) -> bool:
    """Whether something was taken out of it."""
    return MASK in text or (bool(text) and not text.strip("*"))


def shown(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


# SIP


def split_message(text: str) -> tuple[str, list[tuple[str, str]], list[str]]:
    """Start line, header fields, and the lines of the body, of one message of ours."""
    head, _, body = text.partition("\r\n\r\n")
    start, *lines = head.split("\r\n")
    fields = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return start, fields, [line for line in body.split("\r\n") if line]


def unified_sip(recorded: str, came: str) -> Pairs | Unlike:
    """Start line, header fields in any order, and the lines of the body in theirs."""
    start, fields, body = split_message(recorded)
    came_start, came_fields, came_body = split_message(came)
    collected = Collected()
    if not collected.take(start, came_start):
        return Unlike(f"start line {shown(start)!r}, not {shown(came_start)!r}")
    if (unlike := collected.take_fields(fields, came_fields)) is not None:
        return unlike
    return collected.lines(body, came_body) or collected.pairs


@attrs.define
class Collected:
    """The names that were found so far in one message."""

    pairs: Pairs = attrs.field(factory=dict)

    def take(self, recorded: str, came: str) -> bool:
        """Whether two texts can be made equal, together with all that was taken before."""
        if is_masked(recorded):
            return True
        found = unified(recorded, came)
        if found is None or any(self.pairs.get(name, other) != other for name, other in found.items()):
            return False
        self.pairs |= found
        return True

    def take_fields(self, recorded: list[tuple[str, str]], came: list[tuple[str, str]]) -> Unlike | None:
        left = [(name, value) for name, value in came if name.lower() not in PASSED_OVER]
        for name, value in recorded:
            if name.lower() in PASSED_OVER:
                continue
            same = [other for key, other in left if key.lower() == name.lower()]
            found = next((other for other in same if self._fits(name, value, other)), None)
            if found is None:
                instead = f", but {shown(same[0])!r}" if same else ""
                return Unlike(f"no {name}: {shown(value)}{instead}")
            left.remove(next(pair for pair in left if pair[0].lower() == name.lower() and pair[1] == found))
        return Unlike(f"a header field more, {left[0][0]}: {shown(left[0][1])}") if left else None

    def _fits(self, name: str, recorded: str, came: str) -> bool:
        if name.lower() in COUNTED and recorded.isdigit() and came.isdigit():
            return True
        return self.take(recorded, came)

    def lines(self, recorded: list[str], came: list[str]) -> Unlike | None:
        """The lines of a body, an SDP for the most part."""
        for line, other in zip(recorded, came, strict=False):
            if not self.take(line, other):
                return Unlike(f"body line {shown(line)!r}, not {shown(other)!r}")
        if len(recorded) != len(came):
            longer, word = (recorded, "less") if len(recorded) > len(came) else (came, "more")
            return Unlike(f"a body line {word}, {shown(longer[min(len(recorded), len(came))])!r}")
        return None


# JSON


def unified_command(recorded: str, came: str) -> Pairs | Unlike:
    """A command to OpenSIPS. SDP and header fields in it are texts with line ends, compared line by line."""
    before, after = loaded(recorded), loaded(came)
    if before.get("method") != after.get("method"):
        return Unlike(f"{before.get('method')}, not {after.get('method')}")
    pairs = Collected()
    pairs.pairs[str(before.get("id"))] = str(after.get("id"))  # the answer comes with it
    params, others = before.get("params", {}), after.get("params", {})
    for key in [*params, *(key for key in others if key not in params)]:
        if key not in params or key not in others:
            return Unlike(
                f"{key} {'less' if key in params else 'more'}: {shown(str(params.get(key, others.get(key))))}"
            )
        lines, other_lines = str(params[key]).split("\r\n"), str(others[key]).split("\r\n")
        if (unlike := pairs.lines(lines, other_lines)) is not None:
            return Unlike(f"{key}: {unlike.why}")
    return pairs.pairs


def loaded(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def unified_event(recorded: dict[str, Any], came: dict[str, Any], packet_ms: int) -> Pairs | Unlike:
    """An event of the Realtime API.

    Args:
      packet_ms: `audio_end_ms` may differ by so much: a packet leaves a moment before or after the caller is heard.
    """
    pairs = Collected()
    for where, before, after in leaves(recorded, came):
        if not is_alike(where, before, after, pairs, packet_ms):
            return Unlike(f"{where}: {worded(before)}, not {worded(after)}")
    return pairs.pairs


def is_alike(where: str, before: object, after: object, pairs: Collected, packet_ms: int) -> bool:
    """Whether an event's value of that place is the recorded one, but for names and masks."""
    if isinstance(before, str) and is_masked(before):
        return True
    if isinstance(before, str) and isinstance(after, str):
        return pairs.take(before, after)
    if where.endswith("audio_end_ms") and isinstance(before, int) and isinstance(after, int):
        return abs(before - after) <= packet_ms
    return type(before) is type(after) and before == after


class Missing:
    """Stands for what is not there."""


MISSING: Final = Missing()


def leaves(recorded: object, came: object, where: str = "") -> Iterator[tuple[str, object, object]]:
    """Each place of two values of JSON that holds no further ones, with what each has there."""
    match recorded, came:
        case dict(), dict():
            for key in [*recorded, *(key for key in came if key not in recorded)]:
                inside = f"{where}.{key}" if where else str(key)
                yield from leaves(recorded.get(key, MISSING), came.get(key, MISSING), inside)
        case list(), list():
            for number in range(max(len(recorded), len(came))):
                before, after = (items[number] if number < len(items) else MISSING for items in (recorded, came))
                yield from leaves(before, after, f"{where}[{number}]")
        case _:
            yield where, recorded, came


def worded(value: object) -> str:
    return "nothing" if value is MISSING else shown(json.dumps(value, ensure_ascii=False))
