"""JSON from the server of the Realtime API, in both dialects."""

from __future__ import annotations

from typing import Final

from aivc.realtime.decoding import LARGEST_NUMBER
from aivc.realtime.dialects import BETA, GA, Dialect, ProtocolViolation
from aivc.realtime.events import AudioDelta, ServerEvent
from fuzz.target import Target, only


def server_event(data: bytes) -> None:
    """One WebSocket message, as octets and as text: an event or a violation, the same either way."""
    for dialect in (GA, BETA):
        event = decode(dialect, data)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            continue
        assert repr(decode(dialect, text)) == repr(event) or data[:3] == b"\xef\xbb\xbf" or b"\0" in data[:4]


def decode(dialect: Dialect, message: str | bytes) -> ServerEvent | None:
    event = only(ProtocolViolation, dialect.decode, message)
    if isinstance(event, AudioDelta):
        assert len(event.audio) <= len(message)
    if event is not None:
        seconds = getattr(event, "seconds", 0.0)
        assert seconds is None or 0 <= seconds <= LARGEST_NUMBER
    return event


TARGETS: Final = (Target("realtime", server_event, 8192),)
