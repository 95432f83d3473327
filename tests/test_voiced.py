"""When the caller's last audible packet came, was heard, and was taken by the model's socket."""

from __future__ import annotations

from math import inf

import pytest
import trio
import trio.testing
from call_parts import REMOTE, rtp_stream
from test_uplink import Socket, write_to
from trio.testing import MockClock

from aivc.media.g711 import FRAME_OCTETS
from aivc.media.rtp import Packet, build
from aivc.media.stream import RtpStream
from aivc.nursery.uplink import Uplink

VOICED = b"\x80" * FRAME_OCTETS  # the loudest
QUIET = b"\xff" * FRAME_OCTETS


def hear(stream: RtpStream, sequence: int, payload: bytes, now: float) -> None:
    stream.received(build(Packet(0, False, sequence, sequence * FRAME_OCTETS, 9, payload)), REMOTE, now)


def voiced_came(stream: RtpStream) -> float:
    heard, came = stream.held_voiced
    return came if heard == stream.last_voiced else stream.last_voiced


async def test_a_packet_that_is_held_back_came_before_it_is_heard() -> None:
    stream = rtp_stream()
    for sequence, payload, now in ((0, QUIET, 0.00), (1, QUIET, 0.02), (3, VOICED, 0.06), (4, QUIET, 0.08)):
        hear(stream, sequence, payload, now)
    assert stream.last_voiced == 0.0  # it waits for the one before it
    hear(stream, 2, QUIET, 0.09)
    assert (stream.last_voiced, voiced_came(stream)) == (0.09, 0.06)
    hear(stream, 5, VOICED, 0.10)
    assert (stream.last_voiced, voiced_came(stream)) == (0.10, 0.10)


async def test_a_packet_that_waited_in_vain_is_heard_when_the_wait_is_over() -> None:
    stream = rtp_stream()
    hear(stream, 0, QUIET, 0.0)
    hear(stream, 2, VOICED, 0.04)
    stream.outgoing(0.1)
    assert (stream.last_voiced, voiced_came(stream)) == (0.1, 0.04)


async def test_what_leaves_at_once_is_appended_when_it_is_heard(autojump_clock: MockClock) -> None:
    uplink, socket = Uplink(), Socket()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_to, uplink, socket)
        await trio.testing.wait_all_tasks_blocked()
        with uplink.timed_by(lambda: 0.0):
            uplink.send_nowait(VOICED)
            await trio.sleep(1.0)
            uplink.send_nowait(QUIET)
            assert uplink.appended_at(0.0) == 0.0
        nursery.cancel_scope.cancel()


async def test_what_waits_for_a_whole_message_is_appended_with_it(autojump_clock: MockClock) -> None:
    uplink, socket, begin = Uplink(3 * FRAME_OCTETS), Socket(), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_to, uplink, socket)
        await trio.testing.wait_all_tasks_blocked()
        with uplink.timed_by(lambda: begin):
            uplink.send_nowait(VOICED)
            assert uplink.appended_at(begin) == inf
            for _ in range(5):
                await trio.sleep(0.02)
                uplink.send_nowait(QUIET)
            assert uplink.appended_at(begin) - begin == pytest.approx(0.04)  # the second message has nothing audible
        nursery.cancel_scope.cancel()
    assert [len(message) for message in socket.taken] == [3 * FRAME_OCTETS] * 2


@pytest.mark.parametrize("frames", [1, 2])
async def test_what_a_full_socket_keeps_waiting_is_appended_when_it_is_taken(
    autojump_clock: MockClock, frames: int
) -> None:
    uplink, socket, voiced = Uplink(frames * FRAME_OCTETS), Socket(full=True), trio.current_time()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_to, uplink, socket)
            await trio.testing.wait_all_tasks_blocked()
            with uplink.timed_by(lambda: voiced):
                for payload in (QUIET, VOICED, QUIET, QUIET):
                    uplink.send_nowait(payload)
                assert uplink.appended_at(voiced) == inf
                await trio.sleep(0.5)
                socket.empty()
                await trio.sleep(0.5)
                assert uplink.appended_at(voiced) - voiced == pytest.approx(0.5)
            nursery.cancel_scope.cancel()


async def test_what_waits_for_a_session_is_appended_when_there_is_one(autojump_clock: MockClock) -> None:
    uplink, socket, voiced = Uplink(), Socket(), trio.current_time()
    with uplink.timed_by(lambda: voiced):
        uplink.send_nowait(VOICED)
        assert uplink.appended_at(voiced) == inf
        await trio.sleep(0.3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_to, uplink, socket)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert uplink.appended_at(voiced) - voiced == pytest.approx(0.3)
