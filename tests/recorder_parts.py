"""Calls that are recorded, for the tests of the flight recorder."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
from scenarios.world import SETTINGS, at_once

from aivc.config.recorder import RecorderSettings
from aivc.config.settings import Settings
from aivc.flight.entries import Entry, Flight, RealtimeEvent
from aivc.flight.flightfile import read_untrusted
from aivc.nursery.recorder import open_recorder

Kind = TypeVar("Kind")
open_inline: Final = partial(open_recorder, in_thread=at_once)


def recording(folder: Path, settings: Settings = SETTINGS, **more: Any) -> Settings:
    """The same settings with a recorder."""
    given = {"mode": "always", "directory": str(folder)} | more
    return attrs.evolve(settings, recorder=RecorderSettings(**given))


@contextmanager
def descriptors_taken() -> Iterator[None]:
    """This process can open nothing more."""
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def flights(folder: Path) -> list[Flight]:
    """All recordings, by time."""
    return [read_untrusted(path.read_bytes()) for path in files(folder)]


def of_kind(flight: Flight, kind: type[Kind]) -> list[Kind]:
    return [entry for entry in flight.entries if isinstance(entry, kind)]


def kinds(flight: Flight) -> set[type[Entry]]:
    return {type(entry) for entry in flight.entries}


def event_types(flight: Flight, way: str) -> list[str]:
    """Of the Realtime events."""
    return [json.loads(entry.text)["type"] for entry in of_kind(flight, RealtimeEvent) if entry.way == way]
