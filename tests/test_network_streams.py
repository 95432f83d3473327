"""TCP on the virtual network: trio's own streams and listeners, and the faults of connections."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest
import trio
import trustme
from trio.testing import MockClock, wait_all_tasks_blocked

from aivc.testing.network import VirtualNetwork
from aivc.testing.streams import BUFFER_OCTETS

SERVER = "192.0.2.1"
DELAY = 0.010


@attrs.define(eq=False)
class Pair:
    """One connection from the network's own host, and both of its ends."""

    network: VirtualNetwork
    client: trio.SocketStream
    server: trio.SocketStream


@asynccontextmanager
async def open_pair(network: VirtualNetwork | None = None, host: str = SERVER) -> AsyncIterator[Pair]:
    network = (network or VirtualNetwork(delay=DELAY)).enable()
    with trio.fail_after(100):
        (listener,) = await trio.open_tcp_listeners(5060, host=host)
        async with listener, await trio.open_tcp_stream(host, 5060) as client, await listener.accept() as server:
            yield Pair(network, client, server)
    assert network.streams == []


async def test_a_connection_takes_three_steps_and_has_two_names(autojump_clock: MockClock) -> None:
    begin = trio.current_time()
    async with open_pair() as pair:
        assert trio.current_time() - begin == pytest.approx(3 * DELAY)
        assert pair.client.socket.getpeername() == pair.server.socket.getsockname() == (SERVER, 5060)
        assert pair.server.socket.getpeername() == pair.client.socket.getsockname()
        assert pair.client.socket.getsockname()[0] == "127.0.0.1"
        assert len(pair.network.streams) == 3  # the listener is one


async def test_octets_arrive_in_order_after_the_delay(autojump_clock: MockClock) -> None:
    async with open_pair(VirtualNetwork(delay=DELAY, jitter=0.05, loss=0.2)) as pair:
        for number in range(200):
            await pair.client.send_all(number.to_bytes(2))
        received = b""
        while len(received) < 400:
            received += await pair.server.receive_some()
        assert received == b"".join(number.to_bytes(2) for number in range(200))
        sent_at = trio.current_time()
        pair.network.jitter = pair.network.loss = 0.0
        await pair.server.send_all(b"back")
        assert await pair.client.receive_some() == b"back"
        assert trio.current_time() - sent_at == pytest.approx(DELAY)


async def test_the_end_of_one_direction_leaves_the_other(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        await pair.client.send_all(b"all")
        await pair.client.send_eof()
        assert await pair.server.receive_some() == b"all"
        assert await pair.server.receive_some() == b""
        await pair.server.send_all(b"an answer")
        assert await pair.client.receive_some() == b"an answer"
        with pytest.raises(trio.ClosedResourceError):
            await pair.client.send_all(b"more")


async def test_what_was_sent_before_a_close_is_read_and_a_later_send_breaks(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        await pair.server.send_all(b"the last")
        await pair.server.aclose()
        assert await pair.client.receive_some() == b"the last"
        assert await pair.client.receive_some() == b""
        await pair.client.send_all(b"nobody reads this")
        await trio.sleep(3 * DELAY)
        with pytest.raises(trio.BrokenResourceError):
            await pair.client.send_all(b"nor this")


async def test_closing_with_octets_unread_is_a_reset(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        await pair.client.send_all(b"unread")
        await trio.sleep(1)
        await pair.server.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await pair.client.receive_some()


async def test_a_sender_waits_when_nobody_reads(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        sent = trio.Event()

        async def send() -> None:
            await pair.client.send_all(b"x" * (BUFFER_OCTETS + 1))
            sent.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(10)
            assert not sent.is_set()
            received = 0
            while received <= BUFFER_OCTETS:
                received += len(await pair.server.receive_some())
        assert sent.is_set()


async def test_where_nobody_listens_a_connection_is_refused(autojump_clock: MockClock) -> None:
    VirtualNetwork(delay=DELAY).enable()
    with trio.fail_after(1), pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream(SERVER, 5060)


async def test_connections_beyond_the_backlog_wait_until_one_is_accepted(autojump_clock: MockClock) -> None:
    VirtualNetwork(delay=DELAY).enable()
    with trio.fail_after(10):
        (listener,) = await trio.open_tcp_listeners(5060, host=SERVER, backlog=1)
        async with listener, await trio.open_tcp_stream(SERVER, 5060):
            with trio.move_on_after(2.5) as waiting:
                await trio.open_tcp_stream(SERVER, 5060)
            assert waiting.cancelled_caught
            async with await listener.accept(), await trio.open_tcp_stream(SERVER, 5060):
                pass


async def test_trio_serves_listeners(autojump_clock: MockClock) -> None:
    VirtualNetwork(delay=DELAY).enable()

    async def shout(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data.upper())

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, shout, 0, host=SERVER))
            port = listener.socket.getsockname()[1]
            for word in (b"one", b"two"):
                async with await trio.open_tcp_stream(SERVER, port) as stream:
                    await stream.send_all(word)
                    assert await stream.receive_some() == word.upper()
            nursery.cancel_scope.cancel()


async def test_hosts_may_have_ipv6_addresses(autojump_clock: MockClock) -> None:
    async with open_pair(VirtualNetwork(ipv6_host="2001:db8::7"), "2001:db8::1") as pair:
        assert pair.client.socket.family == trio.socket.AF_INET6
        assert pair.client.socket.getpeername() == ("2001:db8::1", 5060, 0, 0)
        assert pair.server.socket.getpeername()[0] == "2001:db8::7"
        with pytest.raises(OSError, match="family"):
            await trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_STREAM).connect(("2001:db8::1", 5060))


async def test_a_wildcard_listens_for_its_own_family_alone(autojump_clock: MockClock) -> None:
    VirtualNetwork(delay=DELAY).enable()
    with trio.fail_after(5):
        (listener,) = await trio.open_tcp_listeners(5060, host="0.0.0.0")
        async with listener, await trio.open_tcp_stream("192.0.2.77", 5060) as stream:
            assert stream.socket.getpeername() == ("192.0.2.77", 5060)
            with pytest.raises(OSError, match="connect"):
                await trio.open_tcp_stream("2001:db8::1", 5060)


async def test_tls_runs_over_it(autojump_clock: MockClock) -> None:
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(ours)
    authority.issue_cert("sip.test").configure_cert(theirs)
    async with open_pair() as pair:
        client = trio.SSLStream(pair.client, ours, server_hostname="sip.test")
        server = trio.SSLStream(pair.server, theirs, server_side=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.do_handshake)
            await client.send_all(b"secret")
            assert await server.receive_some() == b"secret"


# Faults


async def test_cutting_a_host_resets_its_connections_at_both_ends(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        await pair.client.send_all(b"lost")

        async def wait(stream: trio.SocketStream) -> None:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, pair.client)
            nursery.start_soon(wait, pair.server)
            await wait_all_tasks_blocked()
            assert pair.network.cut("192.0.2.99") == 0
            assert pair.network.cut(SERVER) == 1
        for stream in (pair.client, pair.server):
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(b"x")


async def test_a_stalled_host_accepts_and_reads_nothing_until_it_goes_on(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(delay=DELAY)
    async with open_pair(network) as pair:
        network.stall(SERVER)
        await pair.client.send_all(b"late")
        with trio.move_on_after(5) as waiting:
            await pair.server.receive_some()
        assert waiting.cancelled_caught
        await pair.server.send_all(b"it can speak")
        assert await pair.client.receive_some() == b"it can speak"
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                assert await pair.server.receive_some() == b"late"

            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            network.resume(SERVER)


async def test_a_refusing_host_refuses_until_it_goes_on(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(delay=DELAY)
    async with open_pair(network):
        network.refuse(SERVER)
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream(SERVER, 5060)
        network.resume(SERVER)
        await (await trio.open_tcp_stream(SERVER, 5060)).aclose()


async def test_closing_wakes_who_waits(autojump_clock: MockClock) -> None:
    async with open_pair() as pair, trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await pair.client.receive_some()

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        await pair.client.aclose()
        assert pair.client.socket.fileno() == -1


async def test_the_same_seed_gives_the_same_times_whatever_the_order_of_tasks(
    autojump_clock: MockClock, any_schedule: int
) -> None:
    async def times(seed: int) -> list[float]:
        found = []
        begin = trio.current_time()
        async with open_pair(VirtualNetwork(seed=seed, delay=DELAY, jitter=0.1, loss=0.1)) as pair:
            for _ in range(10):
                await pair.client.send_all(b"x")
                await pair.server.receive_some()
                found.append(round(trio.current_time() - begin, 9))
        return found

    first, second, other = [await times(seed) for seed in (1, 1, 2)]
    assert first == second != other


# Names


async def test_names_are_what_the_test_says_at_the_moment(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(
        names={"pbx.test": "192.0.2.5", "192-0-2-5.test": "192.0.2.5", "both.test": ("192.0.2.6", "2001:db8::6")}
    ).enable()

    async def hosts(name: str) -> list[str]:
        return [str(found[4][0]) for found in await trio.socket.getaddrinfo(name, 5060, type=trio.socket.SOCK_STREAM)]

    with trio.fail_after(5):
        assert await hosts("pbx.test") == ["192.0.2.5"]
        assert await hosts("both.test") == ["192.0.2.6", "2001:db8::6"]
        assert await hosts("localhost") == ["127.0.0.1", "::1"]
        network.names["pbx.test"] = "192.0.2.50"
        assert await hosts("pbx.test") == ["192.0.2.50"]
        network.names["pbx.test"] = ()
        with pytest.raises(trio.socket.gaierror, match="Temporary failure"):
            await hosts("pbx.test")
        with pytest.raises(trio.socket.gaierror, match="not known"):
            await hosts("example.com")
        with pytest.raises(trio.socket.gaierror, match="No address"):
            await trio.socket.getaddrinfo("192-0-2-5.test", 5060, family=trio.socket.AF_INET6)
