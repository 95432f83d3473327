"""Connected UDP sockets in the virtual network: from one peer only, and told when nobody is there."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aivc.config.settings import Address
from aivc.testing.network import VirtualNetwork

ALICE: Address = ("192.0.2.1", 4000)
BOB: Address = ("192.0.2.2", 4000)
CAROL: Address = ("192.0.2.3", 4000)


async def opened(address: Address, peer: Address | None = None) -> trio.socket.SocketType:
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind(address)
    if peer is not None:
        await sock.connect(peer)
    return sock


async def test_what_is_sent_arrives_and_the_answer_is_received(autojump_clock: MockClock) -> None:
    VirtualNetwork(delay=0.1).enable()
    with trio.fail_after(5), await opened(ALICE, BOB) as alice, await opened(BOB) as bob:
        assert await alice.send(b"hello") == 5
        assert await bob.recvfrom(100) == (b"hello", ALICE)
        await bob.sendto(b"and back", ALICE)
        assert await alice.recv(3) == b"and"


async def test_what_others_send_does_not_arrive(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    with trio.fail_after(5), await opened(ALICE, BOB) as alice, await opened(BOB) as bob, await opened(CAROL) as carol:
        await carol.sendto(b"forged", ALICE)
        await bob.sendto(b"true", ALICE)
        assert await alice.recv(100) == b"true"


async def test_that_nobody_listens_is_told_once_to_who_receives_after_a_round_trip(autojump_clock: MockClock) -> None:
    VirtualNetwork(delay=0.1).enable()
    with trio.fail_after(5), await opened(ALICE, BOB) as alice:
        start = trio.current_time()

        async def receive() -> None:
            with pytest.raises(ConnectionRefusedError):
                await alice.recv(100)
            assert trio.current_time() - start == pytest.approx(0.2)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            await alice.send(b"anybody?")
        with await opened(BOB) as bob:
            await alice.send(b"now?")
            assert await bob.recvfrom(100) == (b"now?", ALICE)


async def test_that_nobody_listens_is_told_to_who_sends_next(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    with trio.fail_after(5), await opened(ALICE, BOB) as alice:
        await alice.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            await alice.send(b"anybody now?")


async def test_a_socket_that_is_not_connected_is_told_nothing_and_has_nobody_to_send_to() -> None:
    VirtualNetwork().enable()
    with trio.fail_after(5), await opened(ALICE) as alice:
        await alice.sendto(b"anybody?", BOB)
        await alice.sendto(b"anybody now?", BOB)
        with pytest.raises(OSError, match="Destination address required"):
            await alice.send(b"whom?")


async def test_a_datagram_too_long_for_udp_is_refused() -> None:
    VirtualNetwork().enable()
    with trio.fail_after(5), await opened(ALICE) as alice:
        with pytest.raises(OSError, match="too long"):
            await alice.sendto(b"x" * 65_508, BOB)
        assert await alice.sendto(b"x" * 65_507, BOB) == 65_507


async def test_a_lost_datagram_is_not_told_of(autojump_clock: MockClock) -> None:
    VirtualNetwork(loss=1.0).enable()
    with trio.fail_after(5), await opened(ALICE, BOB) as alice:
        await alice.send(b"anybody?")
        with trio.move_on_after(1) as scope:
            await alice.recv(100)
        assert scope.cancelled_caught


async def test_real_sockets_do_the_same() -> None:
    with trio.fail_after(5), await opened(("127.0.0.1", 0)) as gone:
        peer = gone.getsockname()
        gone.close()
        with await opened(("127.0.0.1", 0), peer) as alice:
            await alice.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                await alice.recv(100)
            with await opened(peer) as bob, await opened(("127.0.0.1", 0)) as carol:
                await carol.sendto(b"forged", alice.getsockname())
                await bob.sendto(b"true", alice.getsockname())
                assert await alice.recv(100) == b"true"
