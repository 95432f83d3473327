"""The stream under the WebSocket: partial writes, TLS, cancellation and closing, on real sockets."""

from __future__ import annotations

import socket
import ssl

import pytest
import trio
import trio.testing
import trustme
from byte_stream_pairs import HOST, Pair, as_trio, plain, read_exactly, tls

from aivc.realtime.stream import MAX_BACKLOG, Direction, SocketByteStream

either = pytest.mark.parametrize("pair", [plain, tls])
BIG = bytes(range(256)) * 4000  # a million octets, far beyond every buffer


@either
async def test_what_is_sent_arrives_whole_though_every_write_is_partial(pair: Pair) -> None:
    with trio.fail_after(10):
        async with pair() as (stream, peer), trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, BIG)
            assert await read_exactly(peer, len(BIG)) == BIG
        assert stream.backlog_octets == 0


@either
async def test_big_messages_go_both_ways_at_once(pair: Pair) -> None:
    with trio.fail_after(10):
        async with pair() as (stream, peer), trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, BIG)
            nursery.start_soon(peer.send_all, BIG[::-1])
            assert await read_exactly(peer, len(BIG)) == BIG
            assert await read_exactly(stream, len(BIG)) == BIG[::-1]


@either
async def test_writes_of_two_tasks_and_those_that_do_not_wait_never_mix(pair: Pair) -> None:
    with trio.fail_after(10):
        async with pair() as (stream, peer), trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, b"a" * 100_000)
            nursery.start_soon(stream.send_all, b"b" * 100_000)
            await trio.testing.wait_all_tasks_blocked()
            assert not stream.write_nowait(b"c" * 1000)
            received = await read_exactly(peer, 201_000)
    assert received in (
        first * 100_000 + second * 100_000 + b"c" * 1000 for first, second in ((b"a", b"b"), (b"b", b"a"))
    )


@either
async def test_a_cancelled_write_is_completed_by_the_next_one(pair: Pair) -> None:
    with trio.fail_after(10):
        async with pair() as (stream, peer):
            with trio.CancelScope() as impatient:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.send_all, b"a" * 500_000)
                    await trio.testing.wait_all_tasks_blocked()
                    impatient.cancel()
            assert 0 < stream.backlog_octets <= 500_000
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, b"b" * 10)
                assert await read_exactly(peer, 500_010) == b"a" * 500_000 + b"b" * 10


@either
async def test_a_write_that_is_cancelled_before_it_begins_sends_nothing(pair: Pair) -> None:
    with trio.fail_after(10):
        async with pair() as (stream, peer):
            with trio.CancelScope() as scope:
                scope.cancel()
                await stream.send_all(b"never")
            await stream.send_all(b"only this")
            assert await read_exactly(peer, 9) == b"only this"


@either
async def test_a_write_that_fits_needs_no_waiting(pair: Pair) -> None:
    with trio.fail_after(10):
        async with pair() as (stream, peer):
            assert stream.write_nowait(b"frame")
            assert stream.backlog_octets == 0
            assert await read_exactly(peer, 5) == b"frame"


@either
async def test_a_backlog_beyond_its_limit_is_a_broken_connection(pair: Pair) -> None:
    with trio.fail_after(10):
        async with pair() as (stream, _peer):
            stream.write_nowait(bytes(MAX_BACKLOG // 2))
            with pytest.raises(trio.BrokenResourceError):
                stream.write_nowait(bytes(MAX_BACKLOG))


@either
async def test_of_a_write_beyond_the_limit_nothing_is_sent(pair: Pair) -> None:
    with trio.fail_after(10):
        async with pair() as (stream, peer):
            with pytest.raises(trio.BrokenResourceError):
                stream.write_nowait(bytes(2 * MAX_BACKLOG))
            assert stream.write_nowait(b"frame")
            assert await read_exactly(peer, 5) == b"frame"


@either
async def test_the_end_of_the_peer_is_an_empty_read(pair: Pair) -> None:
    with trio.fail_after(10):
        async with pair() as (stream, peer):
            await peer.send_all(b"last words")
            await peer.aclose()
            assert await read_exactly(stream, 10) == b"last words"
            assert await stream.receive_some() == b""


@either
async def test_our_close_is_the_end_of_the_stream_for_the_peer(pair: Pair) -> None:
    with trio.fail_after(10):
        async with pair() as (stream, peer):
            await stream.send_all(b"bye")
            await stream.aclose()
            assert await read_exactly(peer, 3) == b"bye"
            assert await peer.receive_some() == b""


@either
async def test_closing_wakes_a_reader_and_refuses_further_use(pair: Pair) -> None:
    async def read(stream: SocketByteStream) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()

    with trio.fail_after(10):
        async with pair() as (stream, _peer):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, stream)
                await trio.testing.wait_all_tasks_blocked()
                await stream.aclose()
            await stream.aclose()  # again does nothing
            with pytest.raises(trio.ClosedResourceError):
                stream.write_nowait(b"late")
            with pytest.raises(trio.ClosedResourceError):
                await stream.send_all(b"late")
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()


@either
async def test_closing_wakes_a_blocked_writer(pair: Pair) -> None:
    async def write(stream: SocketByteStream) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(BIG)

    with trio.fail_after(10):
        async with pair() as (stream, _peer), trio.open_nursery() as nursery:
            nursery.start_soon(write, stream)
            nursery.start_soon(write, stream)
            await trio.testing.wait_all_tasks_blocked()
            await stream.aclose()


@either
async def test_writing_to_a_peer_that_is_gone_is_a_broken_resource(pair: Pair) -> None:
    with trio.fail_after(10):
        async with pair() as (stream, peer):
            await trio.aclose_forcefully(peer)
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(BIG)


@either
async def test_a_cancelled_read_loses_nothing(pair: Pair) -> None:
    with trio.fail_after(10):
        async with pair() as (stream, peer):
            await peer.send_all(b"data")
            with trio.CancelScope() as scope:
                scope.cancel()
                await stream.receive_some()
            assert scope.cancelled_caught
            assert await read_exactly(stream, 4) == b"data"


async def test_one_tls_record_may_be_read_in_small_pieces() -> None:
    with trio.fail_after(10):
        async with tls() as (stream, peer):
            await peer.send_all(b"0123456789")
            assert [await stream.receive_some(4) for _ in range(3)] == [b"0123", b"4567", b"89"]


async def test_a_certificate_for_another_name_fails_the_handshake() -> None:
    authority = trustme.CA()
    server_context, client_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("another.test").configure_cert(server_context)
    authority.configure_trust(client_context)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = SocketByteStream(client_context.wrap_socket(ours, server_hostname=HOST, do_handshake_on_connect=False))
    peer = trio.SSLStream(trio.SocketStream(as_trio(theirs)), server_context, server_side=True)

    async def shake() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await peer.do_handshake()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shake)
            with pytest.raises(ssl.SSLCertVerificationError):
                await stream.handshake()
        await trio.aclose_forcefully(stream)
        await trio.aclose_forcefully(peer)


async def test_two_tasks_may_wait_for_one_direction_and_a_cancelled_one_hands_over() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    direction = Direction(trio.lowlevel.wait_readable)
    woken: list[str] = []

    async def wait(name: str, scope: trio.CancelScope) -> None:
        with scope:
            await direction.ready(ours)
            woken.append(name)

    with ours, theirs, trio.fail_after(10):
        first, second = trio.CancelScope(), trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "first", first)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(wait, "second", second)
            await trio.testing.wait_all_tasks_blocked()
            first.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert woken == ["second"]  # to try again, and wait for itself
            theirs.send(b"x")
            await direction.ready(ours)
