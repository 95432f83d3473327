"""What each entry of a recording is called in the ladder: a label for the arrow, and what was said below it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import attrs

from aivc.flight.entries import MiMessage, RealtimeEvent, RealtimeLine, SipMessage, StateChange, ToolEntry
from aivc.media.g711 import OCTETS_PER_MS
from aivc.replaying.alike import loaded, split_message
from aivc.replaying.folding import TYPES, WORTH_TELLING, ControlRun, EventGroup, EventRun, PacketRun

STATUS_LINE: Final = "SIP/2.0 "
NO_TEXT: Final = ("session.update", "session.created", "session.updated")  # they repeat the settings
LONGEST_ID: Final = 12  # characters
ID_END: Final = 6


@attrs.frozen
class Words:
    """A label, and lines of text that belong to it."""

    label: str
    below: tuple[str, ...] = ()


# SIP


def sip_words(message: SipMessage) -> Words:
    """The start line without the version, the number in CSeq, and of a response the method."""
    start, fields, body = split_message(message.text)
    by_name = {name.lower(): value for name, value in fields}
    number, _, method = by_name.get("cseq", "").partition(" ")
    if start.startswith(STATUS_LINE):
        return Words(f"{start.removeprefix(STATUS_LINE)} ({number} {method.strip()})", tuple(media_lines(body)))
    method, _, rest = start.partition(" ")
    target = rest.rpartition(" SIP/")[0]
    told = [f"{name}: {by_name[name.lower()]}" for name in ("Refer-To", "Reason") if name.lower() in by_name]
    return Words(f"{method} {number} {target}", (*told, *media_lines(body)))


def media_lines(body: list[str]) -> Iterator[str]:
    """What an SDP says of the audio, or the start line in a NOTIFY (RFC 3515)."""
    host = next((line.split()[-1] for line in body if line.startswith("c=")), "")
    for line in body:
        if line.startswith("m=audio"):
            parts = line.split()
            port = parts[1] if len(parts) > 1 else ""
            direction = next((text[2:] for text in body if text in DIRECTIONS), "")
            names = ", ".join(dict.fromkeys(codec_names(body, parts[3:])))
            yield f"SDP {host}:{port} {names} {direction}".rstrip()
        elif line.startswith(STATUS_LINE):
            yield line.removeprefix(STATUS_LINE)


DIRECTIONS: Final = ("a=sendonly", "a=recvonly", "a=inactive")


def codec_names(body: list[str], types: list[str]) -> Iterator[str]:
    mapped = {}
    for line in body:
        if line.startswith("a=rtpmap:"):
            number, _, name = line.removeprefix("a=rtpmap:").partition(" ")
            mapped[number] = name.partition("/")[0]
    for payload_type in types:
        fixed = TYPES.get(int(payload_type), payload_type) if payload_type.isdigit() else payload_type
        yield mapped.get(payload_type, fixed)


# OpenSIPS


def mi_words(message: MiMessage) -> Words:
    """The command and what it is about, its answer, or what an event tells."""
    found = loaded(message.text)
    params = found.get("params", {})
    params = params if isinstance(params, dict) else {}
    if message.channel == "event":
        told = [str(params[name]) for name in ("event_type", "method") if params.get(name)]
        status = params.get("status")
        told += [str(status)] if status not in (None, 0, "") else []
        return Words(" ".join([str(found.get("method", "event")), *told]), tuple(body_lines(params)))
    if message.way == "in":
        answer = found.get("error", found.get("result"))
        return Words(f"= {answer if isinstance(answer, str) else json.dumps(answer)}")
    told = [str(params[name]) for name in ("method", "code") if name in params]
    return Words(" ".join([str(found.get("method")), *told]), tuple(body_lines(params)))


def body_lines(params: dict[str, Any]) -> Iterator[str]:
    yield from media_lines(str(params.get("body", "")).split("\r\n"))


# The model


def event_words(entry: RealtimeEvent) -> Words:
    """The type, what it is about, and what was said."""
    event = loaded(entry.text)
    kind = str(event.get("type", "no event"))
    about = " ".join(about_event(event))
    below = [] if kind in NO_TEXT else list(said_in(event))
    return Words(f"{kind} {about}".strip(), tuple(below))


def about_event(event: dict[str, Any]) -> Iterator[str]:
    response, item, error = (member(event, name) for name in ("response", "item", "error"))
    yield from (str(value) for value in (response.get("status"), item.get("type")) if value)
    yield from (short(str(event[name])) for name in ("item_id", "name") if event.get(name))
    for name in ("audio_start_ms", "audio_end_ms"):
        if name in event:
            yield f"{event[name]} ms"
    if error:
        yield str(error.get("code") or error.get("type"))


def short(identity: str) -> str:
    """The end of an id, by which it can be found."""
    return identity if len(identity) <= LONGEST_ID else f"..{identity[-ID_END:]}"


def said_in(event: dict[str, Any]) -> Iterator[str]:
    """Words, arguments, outputs and errors, as they are."""
    for inside in (event, member(event, "response"), member(event, "item")):
        for name in ("transcript", "text", "instructions", "arguments", "output"):
            if isinstance(inside.get(name), str) and inside[name]:
                yield inside[name] if name == "arguments" else quoted(inside[name])
        parts = inside.get("content")
        for part in parts if isinstance(parts, list) else ():
            words = part.get("text") or part.get("transcript") if isinstance(part, dict) else None
            if isinstance(words, str):
                yield quoted(words)
    message = member(event, "error").get("message")
    if isinstance(message, str):
        yield message


def member(event: dict[str, Any], name: str) -> dict[str, Any]:
    found = event.get(name)
    return found if isinstance(found, dict) else {}


def quoted(text: str) -> str:
    return f'"{text}"'


def line_words(line: RealtimeLine) -> Words:
    """What became of a connection."""
    label = {"opening": "connects", "open": "connected", "closing": "closes"}.get(line.what, line.what)
    number = "" if line.session == 1 else f" (connection {line.session})"
    return Words(f"WebSocket {label}{number}", (line.detail,) if line.detail else ())


# Runs


def packet_words(run: PacketRun) -> Words:
    """How long, how many, and what was missing."""
    name = TYPES.get(run.payload_type, f"type {run.payload_type}")
    what = {"speech": "speech", "silence": "silence", "keys": "keys", "other": name}[run.what]
    troubles = [f"{count} {word}" for count, word in ((run.lost, "lost"), (run.out_of_order, "out of order")) if count]
    if run.longest_gap > WORTH_TELLING:
        troubles.append(f"a gap of {1000 * run.longest_gap:.0f} ms")
    return Words(f"{what} {run.seconds:.2f} s, {run.packets} RTP", (", ".join(troubles),) if troubles else ())


def run_words(run: EventRun) -> Words:
    """How many events, and how much audio or which words they had."""
    seconds = f", {run.octets / (1000 * OCTETS_PER_MS):.2f} s" if run.octets else ""
    item = f" {short(run.item_id)}" if run.item_id else ""
    text = run.text if run.type.endswith("arguments.delta") else quoted(run.text)
    return Words(f"{run.type}{item} x {run.events}{seconds}", (text,) if run.text else ())


def group_words(group: EventGroup) -> Words:
    """Their types, the first one in full."""
    kept = dict.fromkeys(group.types)
    first, *others = kept
    return Words(", ".join([first, *(".".join(name.rsplit(".", 2)[-2:]) for name in others)]))


def control_words(run: ControlRun) -> Words:
    return Words(f"RTCP x {run.datagrams} in all" if run.is_control else f"no RTP x {run.datagrams} in all")


# Our own side


def tool_words(entry: ToolEntry) -> Words:
    if entry.what == "called":
        return Words(f"{entry.name} begins", (entry.text,) if entry.text else ())
    outcome = "" if entry.outcome in ("", "ok") else f": {entry.outcome}"
    return Words(f"{entry.name} is done{outcome}", (entry.text,) if entry.text else ())


def state_words(entry: StateChange) -> Words:
    return Words(entry.what, (entry.detail,) if entry.detail else ())
