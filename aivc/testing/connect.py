"""Connect the real client to a fake model in memory: the seam between `aivc.realtime` and its tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from aivc.config.settings import OpenAISettings
from aivc.realtime.connection import RealtimeSocket, wrap_realtime
from aivc.realtime.target import target
from aivc.testing.chaos import Chaos
from aivc.testing.model import FakeModel

Connect = Callable[[trio.Nursery, OpenAISettings], Awaitable[RealtimeSocket]]


def connect_to(model: FakeModel, chaos: Chaos | None = None) -> Connect:
    """What to give instead of `open_realtime`: the same URL, headers and upgrade, without DNS, TCP and TLS.

    Args:
        chaos: how the path to the model delays and stalls; when it says nothing of that, the model's `latency` holds.

    Raises, when called:
        ValueError: the settings name no usable URL or key.
        RealtimeRefused: the fake refused the upgrade, or was too slow.
    """

    async def connect(nursery: trio.Nursery, settings: OpenAISettings) -> RealtimeSocket:
        place = target(settings)
        latency = None if chaos is None else chaos.latency()
        deadline = trio.current_time() + settings.connect_seconds
        return await wrap_realtime(
            nursery,
            model.open_stream(latency),
            place.authority,
            place.resource,
            place.headers,
            connect_deadline=deadline,
        )

    return connect
