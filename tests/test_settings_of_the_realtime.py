"""Every setting of `[realtime]` changes what the program does, and batching of the caller's audio loses none of it."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing
from realtime_pair import Pair, connected
from scenarios.world import SETTINGS, open_world
from settings_shown import shows
from trio.testing import MockClock

from aivc.config.settings import RealtimeSettings
from aivc.media.g711 import silence_frame
from aivc.nursery.connections import open_connections
from aivc.nursery.uplink import Uplink
from aivc.testing import scripted

OCTETS_PER_MS = 8
APPEND = "input_audio_buffer.append"


@shows("realtime.append_ms")
@pytest.mark.parametrize("append_ms", [20, 40, 60, 100])
async def test_append_ms_is_how_much_of_the_callers_audio_makes_a_message(
    autojump_clock: MockClock, append_ms: int
) -> None:
    settings = attrs.evolve(SETTINGS, realtime=RealtimeSettings(append_ms=append_ms))
    async with open_world(scripted([[]]), settings=settings) as world:
        async with world.dial():
            await trio.sleep(2.0)
        appended = [len(base64.b64decode(event["audio"])) for event in world.session.received(APPEND)]
    assert set(appended) == {append_ms * OCTETS_PER_MS}


@shows("realtime.prewarm")
@pytest.mark.parametrize("prewarm", [0, 2])
async def test_prewarm_is_how_many_connections_are_open_before_there_is_a_call(prewarm: int) -> None:
    with trio.fail_after(5):
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        openai = attrs.evolve(SETTINGS.openai, url=f"ws://127.0.0.1:{port}/v1/realtime")
        settings = attrs.evolve(SETTINGS, openai=openai, realtime=RealtimeSettings(prewarm=prewarm))
        waiting: list[trio.SocketStream] = []
        async with listener, open_connections(settings):
            with trio.move_on_after(0.2) as patience:
                while True:
                    waiting.append(await listener.accept())
                    if len(waiting) == prewarm:
                        patience.deadline = trio.current_time() + 0.05  # and no more than so many
        for stream in waiting:
            assert await stream.receive_some() == b""  # nothing was said, and the service is over
            await stream.aclose()
    assert len(waiting) == prewarm


# Batching


@attrs.define(eq=False)
class Writing:
    """An uplink at a model's server, in virtual time."""

    pair: Pair
    uplink: Uplink
    nursery: trio.Nursery
    appends: list[tuple[float, bytes]] = attrs.field(factory=list)

    def begin(self) -> trio.CancelScope:
        """A session that lasts until it is cancelled."""
        scope = trio.CancelScope()
        self.nursery.start_soon(self._write, scope)
        return scope

    async def _write(self, scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                with self.uplink.written_to(self.pair.client, nursery):
                    await trio.sleep_forever()

    async def read(self) -> None:
        while True:
            append = json.loads(await self.pair.server.get_message())
            self.appends.append((trio.current_time(), base64.b64decode(append["audio"])))

    async def speak(self, packets: Sequence[tuple[float, bytes]]) -> None:
        """So many octets at these times, seconds from now."""
        begin = trio.current_time()
        for at, octets in packets:
            await trio.sleep_until(begin + at)
            self.uplink.send_nowait(octets)

    @property
    def sizes_ms(self) -> list[int]:
        return [len(octets) // OCTETS_PER_MS for _, octets in self.appends]


@asynccontextmanager
async def open_writing(append_ms: int) -> AsyncIterator[Writing]:
    uplink = Uplink(append_ms * OCTETS_PER_MS)
    with trio.fail_after(60):
        async with connected() as pair, trio.open_nursery() as nursery:
            writing = Writing(pair, uplink, nursery)
            nursery.start_soon(writing.read)
            yield writing
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()


def spoken(count: int, ms: int, first: int = 0) -> list[tuple[float, bytes]]:
    """Packets of so many milliseconds, each with octets of its own."""
    return [(number * ms / 1000, bytes([first + number]) * (ms * OCTETS_PER_MS)) for number in range(count)]


@pytest.mark.parametrize(
    ("append_ms", "packet_ms", "sizes_ms"),
    [
        (20, 20, [20] * 30),
        (20, 10, [20] * 15),
        (20, 30, [30] * 30),
        (20, 60, [60] * 30),
        (40, 20, [40] * 15),
        (40, 30, [60] * 15),
        (60, 20, [60] * 10),
        (60, 60, [60] * 30),
        (100, 10, [100] * 3),
        (100, 20, [100] * 6),
        (100, 60, [120] * 15),
    ],
)
async def test_packets_of_any_length_make_messages_at_least_that_long_and_none_waits_longer(
    autojump_clock: MockClock, append_ms: int, packet_ms: int, sizes_ms: list[int]
) -> None:
    packets = spoken(30, packet_ms)
    async with open_writing(append_ms) as writing:
        writing.begin()
        begin = trio.current_time()
        await writing.speak(packets)
    assert writing.sizes_ms == sizes_ms
    assert b"".join(octets for _, octets in writing.appends) == b"".join(octets for _, octets in packets)
    came = {octets[0]: begin + at for at, octets in packets}
    for sent, octets in writing.appends:
        assert sent - came[octets[0]] <= append_ms / 1000


async def test_a_message_that_waits_for_its_rest_is_completed_by_the_next_session(autojump_clock: MockClock) -> None:
    async with open_writing(60) as writing:
        first = writing.begin()
        await writing.speak(spoken(2, 20))
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        await trio.sleep(0.5)
        assert writing.appends == []
        writing.begin()
        await writing.speak(spoken(1, 20, first=2))
    assert [octets for _, octets in writing.appends] == [bytes(160) + b"\1" * 160 + b"\2" * 160]


async def test_only_what_comes_while_the_caller_is_not_to_be_heard_is_silence(autojump_clock: MockClock) -> None:
    async with open_writing(40) as writing:
        writing.begin()
        await writing.speak(spoken(1, 20, first=1))
        await trio.testing.wait_all_tasks_blocked()
        writing.uplink.withheld = True
        await writing.speak(spoken(2, 20, first=2))
        await trio.testing.wait_all_tasks_blocked()
        writing.uplink.withheld = False
        await writing.speak(spoken(1, 20, first=4))
    silence = silence_frame("PCMU")
    assert [octets for _, octets in writing.appends] == [b"\1" * 160 + silence, silence + b"\4" * 160]
