"""TCP in a virtual network: which connection leads where, and how many there may be."""

from __future__ import annotations

import errno
from typing import NoReturn

import attrs
import pytest
import trio
from transport_world import (
    PHONE,
    PHONE6,
    SERVER,
    SERVER6,
    dial,
    hears_nothing,
    listen_at,
    read_one,
    request,
    udp_phone,
    world,
)
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip.flow import Flow, NoFlow
from aivc.sip.message import Request, Response
from aivc.sip.pool import AVOID_SECONDS, CONNECT_SECONDS
from aivc.sip.transport import LOOKUP_SECONDS
from aivc.testing.network import VirtualNetwork
from aivc.testing.streams import VirtualStream

VIA = "SIP/2.0/TCP 192.0.2.10:5070;branch=z9hG4bK1;rport"


def is_open(flow: Flow) -> bool:
    """Asked anew each time, unlike a property in the eyes of a type checker."""
    return flow.is_open


async def test_a_request_is_answered_on_its_connection_whatever_its_via_says(autojump_clock: MockClock) -> None:
    async with world("tcp:0.0.0.0:5060") as at, await dial() as phone:
        await phone.send_all(request(via="SIP/2.0/UDP 10.0.0.1:9;branch=z9hG4bK1;rport"))
        arrival = await at.arrival()
        assert (arrival.flow.transport, arrival.flow.local) == ("TCP", SERVER)
        assert arrival.source == phone.socket.getsockname()
        assert at.answer(arrival) is arrival.flow
        response = await read_one(phone)
        assert isinstance(response, Response)
        assert response.via.received == PHONE[0]
        assert at.transports.onward("TCP", arrival.source, arrival.flow) is arrival.flow


async def test_the_external_address_is_said_to_those_who_connect(autojump_clock: MockClock) -> None:
    settings = SipSettings(external_ip="198.51.100.7")
    async with (
        world("tcp:0.0.0.0:5060", "tcp:[::]:5060", settings=settings) as at,
        await dial() as phone,
        await dial(PHONE6, SERVER6) as phone6,
    ):
        await phone.send_all(request())
        assert (await at.arrival()).flow.local == ("198.51.100.7", 5060)
        await phone6.send_all(request())
        assert (await at.arrival()).flow.local == SERVER6


async def test_after_the_loss_of_a_connection_the_answer_goes_to_the_port_of_the_via(autojump_clock: MockClock) -> None:
    async with world() as at:
        with await listen_at((PHONE[0], 5070)) as listener:
            async with await dial() as phone:
                await phone.send_all(request(via=VIA))
                arrival = await at.arrival()
            await trio.sleep(0.1)
            assert not is_open(arrival.flow)
            flow = at.answer(arrival)
            assert at.answer(arrival) is flow  # a retransmission takes the same one
            assert (flow.peer, flow.local, flow.is_open) == ((PHONE[0], 5070), SERVER, True)
            socket, source = await listener.accept()
            assert source[0] == SERVER[0]
            async with trio.SocketStream(socket) as back:
                response = await read_one(back)
                assert isinstance(response, Response)
                assert response.status == 200
                await back.send_all(request())
                assert (await at.arrival()).flow is flow


async def test_what_waits_for_a_connection_that_cannot_be_made_is_lost_and_counted(autojump_clock: MockClock) -> None:
    async with world() as at:
        async with await dial() as phone:
            await phone.send_all(request(via=VIA))
            arrival = await at.arrival()
        await trio.sleep(0.1)
        flow = at.answer(arrival)
        assert is_open(flow)
        await trio.sleep(0.1)
        assert not is_open(flow)
        assert (at.counters.unreachable, at.counters.unsent, at.counters.connected) == (1, 1, 0)
        assert at.answer(arrival) is not flow


async def test_connecting_has_a_deadline(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(host=SERVER[0], delay=60)
    async with world(network=network) as at:
        flow = await at.transports.towards("TCP", *PHONE)
        flow.send_nowait(request())
        await trio.sleep(CONNECT_SECONDS - 0.1)
        assert is_open(flow)
        await trio.sleep(0.2)
        assert not is_open(flow)
        assert (at.counters.unreachable, at.counters.unsent) == (1, 1)


async def test_our_requests_go_over_the_connection_of_the_dialog_as_long_as_it_lasts(autojump_clock: MockClock) -> None:
    async with world() as at:
        with await listen_at((PHONE[0], 5070)) as listener:
            async with await dial() as phone:
                await phone.send_all(request(via=VIA))
                near = (await at.arrival()).flow
                assert at.transports.onward("TCP", (PHONE[0], 5070), near) is near  # the sent-by of the request
                elsewhere = at.transports.onward("TCP", (PHONE[0], 5071), near)
                assert elsewhere is not near
            await trio.sleep(0.1)
            again = at.transports.onward("TCP", (PHONE[0], 5070), near)
            assert again is not near
            assert again.local == SERVER
            again.send_nowait(request("BYE"))
            socket, _ = await listener.accept()
            async with trio.SocketStream(socket) as back:
                message = await read_one(back)
                assert isinstance(message, Request)
                assert message.method == "BYE"
            assert not is_open(elsewhere)


async def test_a_client_behind_a_nat_is_reached_over_its_connection_only(autojump_clock: MockClock) -> None:
    async with world() as at, await dial() as phone, await dial(("192.0.2.66", 0)) as thief:
        await phone.send_all(request(via="SIP/2.0/TCP 10.0.0.5:5070;branch=z9hG4bK1"))
        near = (await at.arrival()).flow
        assert at.transports.onward("TCP", ("10.0.0.5", 5070), near) is near
        await thief.send_all(request(via="SIP/2.0/TCP 10.0.0.5:5070;branch=z9hG4bK2"))
        other = (await at.arrival()).flow
        assert at.transports.onward("TCP", ("10.0.0.5", 5070), near) is near  # nobody takes over what is another's
        assert at.transports.onward("TCP", ("10.0.0.5", 5070), other) is other


async def test_a_dialog_may_change_the_transport(autojump_clock: MockClock) -> None:
    async with world() as at, await dial() as phone, udp_phone() as udp:
        await phone.send_all(request(via=VIA))
        near = (await at.arrival()).flow
        flow = at.transports.onward("UDP", PHONE, near)
        flow.send_nowait(request())
        assert (await udp.recvfrom(9000))[1] == SERVER
        await udp.sendto(request(), SERVER)
        with await listen_at(PHONE) as listener:
            onward = at.transports.onward("TCP", PHONE, (await at.arrival()).flow)
            await listener.accept()
            assert (onward.transport, onward.local) == ("TCP", SERVER)


async def test_connections_towards_a_peer_are_shared_and_replaced_when_they_are_lost(autojump_clock: MockClock) -> None:
    async with world() as at:
        at.network.names["pbx.test"] = PHONE[0]
        with await listen_at(PHONE) as listener:
            flow = await at.transports.towards("TCP", "pbx.test", None)
            assert (flow.peer, flow.local) == (PHONE, SERVER)
            assert await at.transports.towards("TCP", PHONE[0], 5060) is flow
            socket, _ = await listener.accept()
            socket.close()
            await trio.sleep(0.1)
            assert not is_open(flow)
            assert await at.transports.towards("TCP", "pbx.test", None) is not flow


async def test_the_next_address_of_a_name_is_taken_when_the_first_could_not_be_reached(
    autojump_clock: MockClock,
) -> None:
    async with world() as at:
        at.network.names["pbx.test"] = ("192.0.2.20", PHONE[0])
        with await listen_at(PHONE):
            first = await at.transports.towards("TCP", "pbx.test", None)
            assert first.peer[0] == "192.0.2.20"
            await trio.sleep(0.1)
            assert not first.is_open
            assert (await at.transports.towards("TCP", "pbx.test", None)).peer == PHONE
            await trio.sleep(AVOID_SECONDS)
            assert (await at.transports.towards("TCP", "pbx.test", None)).peer[0] == "192.0.2.20"


async def test_without_a_listening_socket_of_the_transport_the_connection_has_its_own_port(
    autojump_clock: MockClock,
) -> None:
    async with world("udp:192.0.2.1:5060") as at:
        with await listen_at(PHONE) as listener:
            flow = await at.transports.towards("TCP", *PHONE)
            socket, source = await listener.accept()
            assert flow.local == source
            socket.close()


class Stuck(trio.abc.HostnameResolver):
    """A resolver that does not answer."""

    async def getaddrinfo(self, *args: object) -> NoReturn:
        await trio.sleep_forever()
        raise AssertionError

    async def getnameinfo(self, *args: object) -> NoReturn:
        raise AssertionError


async def test_a_look_up_has_a_deadline(autojump_clock: MockClock) -> None:
    async with world() as at:
        trio.socket.set_custom_hostname_resolver(Stuck())
        began = trio.current_time()
        with pytest.raises(NoFlow, match="in time"):
            await at.transports.towards("TCP", "pbx.test", None)
        assert trio.current_time() - began == pytest.approx(LOOKUP_SECONDS)


async def test_a_connection_that_is_ending_is_not_used_again(autojump_clock: MockClock) -> None:
    async with world() as at:
        with await listen_at(PHONE) as listener:
            flow = await at.transports.towards("TCP", *PHONE)
            async with trio.SocketStream((await listener.accept())[0]) as pbx:
                for _ in range(100):  # more than the buffers take
                    flow.send_nowait(request("INFO", body="x" * 1000))
                await pbx.send_eof()
                await trio.sleep(0.1)
                assert at.counters.closed == 0
                assert not is_open(flow)
                assert await at.transports.towards("TCP", *PHONE) is not flow


async def is_closed(stream: trio.SocketStream) -> bool:
    """Whether the other side has closed it, or does so at once."""
    try:
        with trio.move_on_after(0.1):
            return await stream.receive_some() == b""
    except trio.BrokenResourceError:
        return True
    return False


@pytest.mark.parametrize(("limit", "hosts", "kept"), [(3, 1, 3), (8, 1, 2), (8, 3, 6), (8, 6, 8)])
async def test_connections_are_limited_in_all_and_for_one_address(
    autojump_clock: MockClock, limit: int, hosts: int, kept: int
) -> None:
    async with world(settings=SipSettings(max_connections=limit)) as at:
        phones = [await dial((f"192.0.2.{20 + number % hosts}", 0)) for number in range(4 * hosts)]
        closed = [await is_closed(phone) for phone in phones]
        assert closed.count(False) == kept
        assert at.counters.accepted == kept
        assert at.counters.full + at.counters.crowded == 4 * hosts - kept
        await phones[closed.index(False)].aclose()
        await trio.sleep(1)
        async with await dial(("192.0.2.99", 0)) as next_one:
            assert not await is_closed(next_one)


async def test_one_ipv6_network_counts_as_one_address(autojump_clock: MockClock) -> None:
    async with world("tcp:[::]:5060", settings=SipSettings(max_connections=8)) as at:
        for number in range(4):
            await dial((f"2001:db8:1:1::{number + 1}", 0), SERVER6)
        await dial(("2001:db8:1:2::1", 0), SERVER6)
        await trio.sleep(0.1)
        assert (at.counters.accepted, at.counters.crowded) == (3, 2)


async def test_our_own_connections_are_counted_and_refused_as_well(autojump_clock: MockClock) -> None:
    async with world(settings=SipSettings(max_connections=1)) as at, await dial() as phone:
        await phone.send_all(request())
        near = (await at.arrival()).flow
        with pytest.raises(NoFlow, match="max_connections"):
            await at.transports.towards("TCP", "192.0.2.20", None)
        flow = at.transports.onward("TCP", ("192.0.2.20", 5060), near)
        assert not is_open(flow)
        flow.send_nowait(b"x")
        assert (at.counters.full, at.counters.unsent) == (2, 1)


async def test_connections_of_whom_we_do_not_serve_are_closed_unread(autojump_clock: MockClock) -> None:
    async with world(admits=lambda host: host != PHONE[0]) as at, await dial() as phone:
        await phone.send_all(request())
        assert await is_closed(phone)
        assert (at.counters.unwanted, at.counters.accepted, at.counters.received) == (1, 0, 0)
        async with await dial(("192.0.2.11", 0)) as other:
            await other.send_all(request())
            assert (await at.arrival()).source[0] == "192.0.2.11"


async def test_whom_we_have_connected_to_may_speak_though_others_from_there_may_not(autojump_clock: MockClock) -> None:
    async with world(admits=lambda host: False) as at:
        with await listen_at(PHONE) as listener:
            flow = await at.transports.towards("TCP", *PHONE)
            async with trio.SocketStream((await listener.accept())[0]) as pbx:
                await pbx.send_all(request())
                assert (await at.arrival()).flow is flow


async def test_a_peer_that_reads_nothing_does_not_hold_up_the_others(autojump_clock: MockClock) -> None:
    async with world() as at, await dial() as deaf, await dial(("192.0.2.11", 0)) as phone:
        await deaf.send_all(request())
        stuck = await at.arrival()
        at.network.stall(PHONE[0])
        for _ in range(200):
            stuck.flow.send_nowait(request("INFO", body="x" * 1000))
        await phone.send_all(request())
        at.answer(await at.arrival())
        assert isinstance(await read_one(phone), Response)
        await trio.sleep(20)
        assert not is_open(stuck.flow)
        assert at.counters.stuck == 1
        assert at.counters.unsent > 100


async def test_want_of_descriptors_neither_spins_nor_ends_the_service(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, failures = VirtualStream.accept, 50

    async def scarce(self: VirtualStream) -> object:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            await trio.lowlevel.checkpoint()
            raise OSError(errno.EMFILE, "Too many open files")
        return await accept(self)

    monkeypatch.setattr(VirtualStream, "accept", scarce)
    async with world() as at, await dial() as phone:
        await phone.send_all(request())
        began = trio.current_time()
        assert (await at.arrival()).flow.transport == "TCP"
        assert trio.current_time() - began > 4
        assert at.counters.accept_errors == 50


async def test_a_flood_of_half_messages_leaves_the_others_served(autojump_clock: MockClock) -> None:
    settings = SipSettings(message_seconds=5)
    async with world(settings=settings) as at, udp_phone() as udp:
        half_open = [await dial() for _ in range(100)]
        for stream in half_open:
            await stream.send_all(request()[:50])
        async with await dial(("192.0.2.11", 0)) as phone:
            await phone.send_all(request(via=VIA))
            at.answer(await at.arrival())
            assert isinstance(await read_one(phone), Response)
        await udp.sendto(request(), SERVER)
        at.answer(await at.arrival())
        assert not await hears_nothing(udp)
        await trio.sleep(6)
        assert (at.counters.slow, at.counters.received) == (100, 2)
        assert all([await is_closed(stream) for stream in half_open])


async def test_what_is_queued_at_the_end_is_sent_before_connections_close(autojump_clock: MockClock) -> None:
    with trio.CancelScope() as scope:
        async with world() as at:
            phone = await dial()
            await phone.send_all(request())
            flow = (await at.arrival()).flow
            scope.cancel()
            for _ in range(50):
                flow.send_nowait(request("BYE"))
    heard = b""
    while data := await phone.receive_some():
        heard += data
    assert heard == request("BYE") * 50
    assert not is_open(flow)
    assert attrs.asdict(at.counters)["closed"] == 1
