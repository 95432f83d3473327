"""A recorded call as a ladder of plain text, no wider than 100 columns: who said what to whom, and when.

    s  phone                           aivc                                                    model
0.000    |---INVITE 1 sip:1000@192...--->|                                                       |
0.002    |                               |------------------WebSocket connects------------------>|
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from aivc.demo.transcript import columns, elide, printable
from aivc.flight.entries import (
    Datagram,
    Entry,
    Flight,
    MiMessage,
    RealtimeEvent,
    RealtimeLine,
    RtpPacket,
    SipMessage,
    StateChange,
    ToolEntry,
)
from aivc.replaying.folding import ControlRun, EventGroup, EventRun, PacketRun, Run, folded
from aivc.replaying.wording import (
    Words,
    control_words,
    event_words,
    group_words,
    line_words,
    mi_words,
    packet_words,
    run_words,
    sip_words,
    state_words,
    tool_words,
)

WIDTH: Final = 100
TIME: Final = 8  # columns of the time
MOST_LINES: Final = 3  # of text below an arrow
SIP_LANES: Final = {"phone": 12, "aivc": 43, "model": 98}
OPENSIPS_LANES: Final = {"phone": 12, "OpenSIPS": 22, "aivc": 50, "model": 98}


@attrs.frozen
class Rung:
    """One line of the ladder with what stands below it: an arrow, or a note at our side when it leads nowhere."""

    at: float
    source: str
    target: str
    words: Words
    line: str = "-"  # what the arrow is made of


def ladder(flight: Flight) -> str:
    """The whole call: what it was, the ladder, and how it ended. Ends with a line feed."""
    lines = [*head(flight), ""]
    lanes = OPENSIPS_LANES if flight.header.front_end == "opensips" else SIP_LANES
    lines.append(names(lanes))
    drawn = Drawing(lanes)
    missing_from = flight.missing_from if flight.missing else None
    seen: set[tuple[str, str]] = set()
    for each in folded(flight.entries):
        if missing_from is not None and each.at >= missing_from:
            lines.append(f"{'':{TIME}}  ... {flight.missing} entries are missing from here on ...")
            missing_from = None
        lines += drawn.rows(rung_of(each, seen, "OpenSIPS" if "OpenSIPS" in lanes else "phone"))
    return "\n".join(line.rstrip() for line in [*lines, "", *ending(flight)]) + "\n"


def described(entry: Entry) -> str:
    """One entry in one line, for a report of a difference."""
    rung = rung_of(lone(entry), set(), "phone" if not isinstance(entry, MiMessage) else "OpenSIPS")
    way = f"{rung.source} > {rung.target}: " if rung.source != rung.target else ""
    below = f" [{'; '.join(rung.words.below)}]" if rung.words.below else ""
    return elide(printable(f"{entry.at:{TIME}.3f}  {way}{rung.words.label}{below}"), WIDTH)


def lone(entry: Entry) -> Entry | Run:
    """An entry as a run of its own, if it is of those that are folded."""
    return folded([entry])[0]


def rung_of(each: Entry | Run, seen: set[tuple[str, str]], front: str) -> Rung:
    """What is drawn of an entry or a run.

    Args:
      seen: the SIP messages so far, to tell a copy.
      front: who gives us our calls.
    """
    match each:
        case SipMessage():
            return crossing(each.at, each.way, "phone", copy_told(sip_words(each), (each.way, each.text), seen))
        case MiMessage():
            return crossing(each.at, each.way, front, mi_words(each))
        case PacketRun():
            return crossing(each.at, each.way, "phone", packet_words(each), "=")
        case ControlRun():
            return crossing(each.at, each.way, "phone", control_words(each))
        case EventRun():
            line = "=" if each.octets else "-"
            return crossing(each.at, each.way, "model", run_words(each), line)
        case EventGroup():
            return crossing(each.at, each.way, "model", group_words(each))
        case RealtimeEvent():
            return crossing(each.at, each.way, "model", event_words(each))
        case RealtimeLine():
            way = "out" if each.what in ("opening", "closing") else "in"
            return crossing(each.at, way, "model", line_words(each))
        case ToolEntry():
            return Rung(each.at, "aivc", "aivc", tool_words(each))
        case StateChange():
            return Rung(each.at, "aivc", "aivc", state_words(each))
        case RtpPacket() | Datagram():
            raise AssertionError("these are folded")


def crossing(at: float, way: str, other: str, words: Words, line: str = "-") -> Rung:
    return Rung(at, other, "aivc", words, line) if way == "in" else Rung(at, "aivc", other, words, line)


def copy_told(words: Words, message: tuple[str, str], seen: set[tuple[str, str]]) -> Words:
    """A retransmission is the same message again; its body need not be."""
    if message in seen:
        return Words(f"{words.label} again")
    seen.add(message)
    return words


@attrs.frozen
class Drawing:
    """Draws rungs between lanes."""

    lanes: dict[str, int]

    def rows(self, rung: Rung) -> Iterator[str]:
        """The rung, and the text below it."""
        source, target = self.lanes[rung.source], self.lanes[rung.target]
        left, right = min(source, target), max(source, target)
        left = max([at for at in self.lanes.values() if left < at < right], default=left)  # the text is right of it
        room = min(at for at in (*self.lanes.values(), WIDTH + 1) if at > left) - left - 3
        if source == target:
            yield self._row(f"{rung.at:{TIME}.3f}", source + 2, elide(f"* {printable(rung.words.label)}", room))
        else:
            yield self._arrow(rung, min(source, target), left, right, is_right=target > source)
        below = [line for words in rung.words.below for line in wrapped(words, room - 2)]
        for text in below[:MOST_LINES]:
            yield self._row("", left + 4, text)

    def _arrow(self, rung: Rung, start: int, left: int, right: int, *, is_right: bool) -> str:
        """From lane to lane; with the label between `left` and `right`, where `start` is the lane before these."""
        inner = right - left - 1
        label = elide(printable(rung.words.label), inner - 4)
        fill = inner - 1 - columns(label)
        line = rung.line * (fill // 2) + label + rung.line * (fill - fill // 2)
        before = f"{rung.line * (left - start - 1)}|" if left > start else ""
        if not is_right and before:
            body = f"<{before[1:]}{rung.line}{line}"
        else:
            body = f"{before}{line}>" if is_right else f"<{line}"
        row = self._blank(f"{rung.at:{TIME}.3f}")
        row[start + 1 : right] = list(body)
        return "".join(row)

    def _blank(self, time: str) -> list[str]:
        row = list(time.ljust(WIDTH))
        for at in self.lanes.values():
            row[at] = "|"
        return row

    def _row(self, time: str, start: int, text: str) -> str:
        row = self._blank(time)
        row[start : start + columns(text)] = list(text)
        return "".join(row)


def wrapped(text: str, width: int) -> list[str]:
    """Lines no wider than that; what is beyond the last is elided."""
    lines: list[str] = []
    for word in printable(text).split(" "):
        if lines and columns(lines[-1]) + 1 + columns(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(elide(word, width))
    if len(lines) > MOST_LINES:
        lines[MOST_LINES - 1] = elide(f"{lines[MOST_LINES - 1]} ...", width)
    return lines[:MOST_LINES]


def names(lanes: dict[str, int]) -> str:
    """The heading of the lanes."""
    row = list(f"{'s':>{TIME}}".ljust(WIDTH + 2))
    for name, at in lanes.items():
        start = min(max(at - len(name) // 2, 0), WIDTH - len(name))
        row[start : start + len(name)] = list(name)
    return "".join(row)


# Before and after


def head(flight: Flight) -> Iterator[str]:
    header, record = flight.header, flight.record or {}
    began = datetime.fromtimestamp(header.began_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    way = "through OpenSIPS" if header.front_end == "opensips" else "by SIP"
    agent = f", agent {header.agent}" if header.agent else ""
    yield elide(printable(f"Call {header.call_id}"), WIDTH)
    version = header.version if header.version.startswith("aivc") else f"aivc {header.version}"
    yield elide(printable(f"{began}, {way}{agent}, recorded by {version}"), WIDTH)
    if record:
        yield elide(printable(f"{record.get('caller')} called {record.get('dialled')}, {record.get('codec')}"), WIDTH)
    hidden = [f"{what} masked" for what in header.masked]
    yield "; ".join([*hidden, "audio kept" if header.audio == "keep" else "audio as digests"])


def ending(flight: Flight) -> Iterator[str]:
    """How it ended, why, and what may help."""
    record = flight.record
    if record is None:
        yield "No ending was recorded: the file was cut off."
        return
    yield f"Ended: {record.get('ending')}, {seconds_of(record)} s after the answer"
    for name, text in (("Why", record.get("detail")), ("Advice", record.get("advice"))):
        if text:
            yield from indented(f"{name}: ", printable(str(text)))


def seconds_of(record: Any) -> str:
    seconds = record.get("duration_seconds")
    return f"{seconds:.1f}" if isinstance(seconds, (int, float)) else "?"


def indented(name: str, text: str) -> Sequence[str]:
    lines = wrapped(text, WIDTH - len(name))
    return [f"{name if not number else ' ' * len(name)}{line}" for number, line in enumerate(lines)]
