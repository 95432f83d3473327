"""One line an event: for people or as JSON, with the call's id, and with no secret in it.

The library logs through the standard `logging` module and configures nothing by itself; `configure` is for programs.
Never log per packet: a reader that is slow to take the lines holds up the whole process.
"""

from __future__ import annotations

import enum
import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

from aivc.config.redaction import HIDDEN as HIDDEN
from aivc.config.redaction import redacted as redacted
from aivc.config.settings import LogSettings

call_id: ContextVar[str | None] = ContextVar("aivc_call_id", default=None)  # see `call`

SECRET_KEYS = frozenset(
    {"api_key", "openai_key", "authorization", "proxy_authorization", "password", "secret", "token"}
)
LONGEST_VALUE = 4_000  # characters: a log line is no place for a whole conversation
LONGEST_EXCEPTION = 40_000  # an exception group of a whole call with its tracebacks fits
DEEPEST = 5  # levels of lists and mappings inside one field
SHORT_LEVELS = {"WARNING": "WARN", "CRITICAL": "CRIT"}

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


def event(
    logger: logging.Logger,
    name: str,
    /,
    *,
    level: int = logging.INFO,
    exc_info: BaseException | None = None,
    **fields: object,
) -> None:
    """Log that something happened.

    Args:
        logger: for example `logging.getLogger("aivc.call")`.
        name: dotted, stable, for machines to look for: `call.answered`.
        level: as in `logging`.
        exc_info: its traceback goes along.
        fields: what belongs to it; `call_id` replaces the one of the context.
    """
    if logger.isEnabledFor(level):
        identity = fields.pop("call_id", None) or call_id.get()
        extra = {"event": name, "fields": fields, "call_id": identity}
        logger.log(level, "%s", name, extra=extra, exc_info=exc_info, stacklevel=2)


@contextmanager
def call(identity: str) -> Iterator[None]:
    """Every line of this block and of the tasks started in it carries this call's id."""
    token = call_id.set(identity)
    try:
        yield
    finally:
        call_id.reset(token)


class JsonFormatter(logging.Formatter):
    """A JSON object a line, ASCII only, so that nothing in it can end the line.

    Args:
        worker: number of the process, if there are several.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self.worker = worker

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, JsonValue] = {"time": time, "level": record.levelname.lower()}
        line["event"], fields = described(record)
        if self.worker is not None:
            line["worker"] = self.worker
        if (identity := identity_of(record)) is not None:
            line["call_id"] = identity
        for key, value in fields:
            line[f"{key}_" if key in line else key] = value
        if trace := traceback_of(self, record):
            line["exception"] = trace
        return json.dumps(line)


class ConsoleFormatter(logging.Formatter):
    """`12:00:01.123 INFO  call.answered call=abc codec=PCMU`; a traceback follows in indented lines.

    Args:
        worker: as of `JsonFormatter`.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self.worker = worker

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        name, fields = described(record)
        level = SHORT_LEVELS.get(record.levelname, record.levelname)
        parts = [time, f"{level:<5}", escaped(name)]
        if self.worker is not None:
            parts.append(f"worker={self.worker}")
        if (identity := identity_of(record)) is not None:
            parts.append(f"call={bare_or_quoted(identity)}")
        parts += [f"{bare_or_quoted(key)}={bare_or_quoted(value)}" for key, value in fields]
        line = " ".join(parts)
        trace = traceback_of(self, record)
        return "\n".join([line, *(f"    {escaped(row)}" for row in trace.splitlines())])


def described(record: logging.LogRecord) -> tuple[str, Iterator[tuple[str, JsonValue]]]:
    """The event and its fields; another library's line becomes the event `log` with the message as a field."""
    name = getattr(record, "event", None)
    fields = getattr(record, "fields", None)
    if isinstance(name, str) and isinstance(fields, Mapping):
        return plain_text(name), plain_fields(fields)
    return "log", plain_fields({"logger": record.name, "message": record.getMessage()})


def identity_of(record: logging.LogRecord) -> str | None:
    identity = getattr(record, "call_id", None) or call_id.get()
    return None if identity is None else plain_text(str(identity))


def traceback_of(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    return redacted(shortened(formatter.formatException(record.exc_info), LONGEST_EXCEPTION))


def plain_fields(fields: Mapping[object, object], depth: int = 0) -> Iterator[tuple[str, JsonValue]]:
    for key, value in fields.items():
        secret = str(key).lower().replace("-", "_") in SECRET_KEYS
        yield plain_text(str(key)), HIDDEN if secret else plain(value, depth)


def plain(value: object, depth: int = 0) -> JsonValue:
    """The value as JSON can have it, without secrets."""
    match value:
        case enum.Enum():
            return plain(value.value, depth)
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping() if depth < DEEPEST:
            return dict(plain_fields(value, depth + 1))
        case list() | tuple() | set() | frozenset() if depth < DEEPEST:
            return [plain(item, depth + 1) for item in value]
        case _:
            return plain_text(str(value))


def plain_text(text: str) -> str:
    return redacted(shortened(text, LONGEST_VALUE))


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}... ({len(text)} characters)"


def bare_or_quoted(value: JsonValue) -> str:
    """A value for the console: quoted if it would otherwise be mistaken for two, or end the line."""
    if not isinstance(value, str):
        return json.dumps(value)
    if value and not any(char in ' ="' for char in value) and value.isprintable():
        return value
    return json.dumps(value, ensure_ascii=not value.isprintable())


def escaped(text: str) -> str:
    """The text with control characters written out: a terminal obeys some of them."""
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


class EventHandler(logging.StreamHandler[TextIO]):
    """Told apart from an embedder's own handlers by its class."""


def configure(settings: LogSettings, stream: TextIO, *, worker: int | None = None) -> None:
    """Send the log lines of the whole process to `stream`, in place of an earlier call's.

    For programs. Other libraries' lines are taken from `warning` on, ours from `settings.level` on.

    Args:
        worker: number of this process, which stands in every line if there are several.
    """
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, EventHandler)]:
        root.removeHandler(handler)
    level = settings.level.upper()
    handler = EventHandler(stream)
    handler.setFormatter(JsonFormatter(worker) if settings.format == "json" else ConsoleFormatter(worker))
    handler.setLevel(level)
    root.addHandler(handler)
    logging.getLogger("aivc").setLevel(level)
