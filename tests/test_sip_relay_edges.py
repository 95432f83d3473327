"""Sockets of one process, user agents in others: broken messages, and two who say something at the same time."""

from __future__ import annotations

import pytest
import trio
from test_sip_relay import call, pair, phone, world

from aivc.config.settings import SipSettings
from aivc.sip.relay import PACKET_OCTETS, Beat, Link


@pytest.mark.parametrize(
    ("right", "wrong"),
    [(b"CSeq: ", b"Max-Forwards: 999\r\nCSeq: "), (b"To: ", b"To: <"), (b"To: ", b"X: "), (b"Call-ID: ", b"X: ")],
)
async def test_broken_requests_are_answered_as_without_workers(right: bytes, wrong: bytes) -> None:
    async with world() as at, phone() as alice:
        await alice.sendto(call("a").replace(right, wrong), at.address("UDP"))
        with trio.fail_after(5):
            assert (await alice.recv(65_535)).startswith(b"SIP/2.0 400")
        assert at.workers[0].counters.malformed == 1


async def test_a_connection_that_a_worker_knows_by_two_numbers_is_not_closed_while_a_call_needs_it() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, world(workers=2, settings=SipSettings(idle_seconds=1.0)) as at:
        one, other = at.workers
        await one.transports.towards("TCP", *listener.socket.getsockname())
        with trio.fail_after(5):
            async with await listener.accept() as stream:
                flow = await other.transports.towards("TCP", *listener.socket.getsockname())
                (connection,) = at.exchange.transports.pool.connections
                # Meanwhile a message came over it for the other worker: the two crossed.
                at.exchange.relaying.lines[1].number_of(connection)
                other.used.add(flow)
                with trio.move_on_after(1.7) as waiting:
                    await stream.receive_some()
                assert waiting.cancelled_caught


async def test_what_is_longer_than_a_packet_is_not_sent_for_its_rest_would_be_cut_off() -> None:
    ours, theirs = pair()
    with ours, theirs:
        assert not Link(ours).put_nowait(Beat(0, accepting=True, status={"x": "x" * PACKET_OCTETS}))
