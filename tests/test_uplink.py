"""The caller's audio goes straight to the session's socket, and waits in order while that takes none."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from aivc.nursery.uplink import MOST_OCTETS, Uplink
from aivc.realtime.refusals import RealtimeClosed

PACKET = 160


def packet(number: int) -> bytes:
    return bytes([number]) * PACKET


@attrs.define(eq=False)
class Socket:
    """Takes audio as long as it is not full."""

    taken: list[bytes] = attrs.field(factory=list)
    backlog: list[bytes] = attrs.field(factory=list)
    full: bool = False
    lost: bool = False
    room: trio.Event = attrs.field(factory=trio.Event)

    def append_nowait(self, audio: bytes) -> bool:
        if self.lost:
            raise RealtimeClosed(1006, "the connection is gone")
        (self.backlog if self.full else self.taken).append(audio)
        return not self.full

    async def append_audio(self, audio: bytes) -> None:
        if not self.append_nowait(audio):
            await self.wait_flushed()

    async def wait_flushed(self) -> None:
        if self.full:
            await self.room.wait()

    def empty(self) -> None:
        self.full = False
        self.taken += self.backlog
        self.backlog.clear()
        self.room.set()


async def write_to(uplink: Uplink, socket: Socket) -> None:
    """Task: this session hears the caller."""
    async with trio.open_nursery() as nursery:
        with uplink.written_to(socket, nursery):
            await trio.sleep_forever()


async def write_until_lost(uplink: Uplink, socket: Socket, task_status: trio.TaskStatus[trio.Event]) -> None:
    """Task: starts when what is heard goes straight to the socket, and sets the event when the loss is told."""
    told = trio.Event()

    async def announce() -> None:
        await trio.testing.wait_all_tasks_blocked()
        task_status.started(told)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(announce)
        with pytest.RaisesGroup(RealtimeClosed):
            await write_to(uplink, socket)
    told.set()


async def test_what_is_heard_is_written_before_the_next_task_runs(autojump_clock: MockClock) -> None:
    uplink, socket = Uplink(), Socket()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_to, uplink, socket)
        await trio.testing.wait_all_tasks_blocked()
        uplink.send_nowait(packet(1))
        assert socket.taken == [packet(1)]
        nursery.cancel_scope.cancel()


async def test_what_comes_while_the_socket_is_full_waits_and_follows_in_order(autojump_clock: MockClock) -> None:
    uplink, socket = Uplink(), Socket(full=True)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_to, uplink, socket)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(5):
                uplink.send_nowait(packet(number))
            assert len(socket.backlog) == 1  # never more than one behind
            socket.empty()
            await trio.testing.wait_all_tasks_blocked()
            uplink.send_nowait(packet(5))
            nursery.cancel_scope.cancel()
    assert socket.taken == [packet(number) for number in range(6)]


async def test_without_a_session_a_second_of_audio_waits_and_no_more(autojump_clock: MockClock) -> None:
    uplink, socket = Uplink(), Socket()
    for number in range(MOST_OCTETS // PACKET):
        uplink.send_nowait(packet(number))
    with pytest.raises(trio.WouldBlock):
        uplink.send_nowait(packet(99))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_to, uplink, socket)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert b"".join(socket.taken) == b"".join(packet(number) for number in range(50))


async def test_a_connection_that_is_lost_is_told_to_the_call_and_not_to_who_hears(autojump_clock: MockClock) -> None:
    uplink, socket = Uplink(), Socket()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            told = await nursery.start(write_until_lost, uplink, socket)
            socket.lost = True
            uplink.send_nowait(packet(1))
            uplink.send_nowait(packet(2))
            await told.wait()


async def test_what_came_after_the_loss_is_for_the_next_session(autojump_clock: MockClock) -> None:
    uplink, lost, following = Uplink(), Socket(lost=True), Socket()
    async with trio.open_nursery() as nursery:
        told = await nursery.start(write_until_lost, uplink, lost)
        uplink.send_nowait(packet(1))
        uplink.send_nowait(packet(2))
        await told.wait()
        nursery.start_soon(write_to, uplink, following)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert following.taken == [packet(2)]
