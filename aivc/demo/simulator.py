"""The local stand-in for OpenAI on a port of its own, and the service that talks to it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from aivc import logs
from aivc.config.settings import Settings
from aivc.nursery.record import Observer
from aivc.nursery.service import run_service
from aivc.testing.model import FakeModel, serve_port
from aivc.testing.script import stand_in

log = logging.getLogger("aivc.simulator")

MODEL = "gpt-realtime-2.1"


async def run_simulator(host: str, port: int) -> None:
    """`aivc simulator`: serve the Realtime API until cancelled. Raises OSError when the port cannot be had."""
    async with trio.open_nursery() as nursery:
        bound: int = await nursery.start(serve_port, local_model(), host, port)
        logs.event(log, "simulator.ready", url=f"ws://{host}:{bound}/v1/realtime")


async def run_service_with_simulator(settings: Settings, *, observer: Observer | None = None) -> None:
    """`aivc serve --simulator`."""
    async with open_simulator(local_model()) as url:
        await run_service(towards(settings, url), observer=observer)


@asynccontextmanager
async def open_simulator(model: FakeModel) -> AsyncIterator[str]:
    """The URL of a model that is served on a free loopback port while the block runs."""
    async with trio.open_nursery() as nursery:
        port: int = await nursery.start(serve_port, model)
        yield f"ws://127.0.0.1:{port}/v1/realtime"
        nursery.cancel_scope.cancel()


def local_model() -> FakeModel:
    """A stand-in that serves any number of calls: any dialect, any key, and nothing kept of past calls."""
    return FakeModel(stand_in(), dialect="both", require_key=False, record=False)


def towards(settings: Settings, url: str) -> Settings:
    """The same settings with another Realtime server."""
    openai = attrs.evolve(settings.openai, url=url, model=MODEL, disable=False)
    return attrs.evolve(settings, openai=openai)
