"""Calls that are recorded, for the tests of the flight recorder."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
import trio
from scenarios.world import SETTINGS, World, open_world

from aivc.config.recorder import RecorderSettings
from aivc.config.settings import Settings
from aivc.flight.entries import Entry, Flight, RealtimeEvent
from aivc.flight.flightfile import read_untrusted
from aivc.nursery import recorder
from aivc.testing import Script

Kind = TypeVar("Kind")


def recording(folder: Path, settings: Settings = SETTINGS, **more: Any) -> Settings:
    """The same settings with a recorder."""
    given = {"mode": "always", "directory": str(folder)} | more
    return attrs.evolve(settings, recorder=RecorderSettings(**given))


@asynccontextmanager
async def open_recorded(settings: Settings, script: Script, **world: Any) -> AsyncIterator[World]:
    """A world whose calls are written when the block is left: not in a thread, which is idleness to a clock that jumps
    while the file is being written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder, "in_thread", at_once)
        async with open_world(script, settings=settings, **world) as opened:
            yield opened


async def at_once(work: Callable[[], Kind]) -> Kind:
    await trio.lowlevel.checkpoint()
    return work()


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
