"""What the lines of our log say, as `caplog` keeps them."""

from __future__ import annotations

import logging
from typing import Any

import pytest


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What `aivc.logs.event` was given beside the event's name."""
    fields: dict[str, Any] = record.__dict__["fields"]
    return fields


def lines_of(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """The fields of each line of this event."""
    return [fields_of(record) for record in caplog.records if record.getMessage() == event]


def names_of(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    """The events that were logged."""
    return [record.getMessage() for record in caplog.records if record.levelno >= level]
