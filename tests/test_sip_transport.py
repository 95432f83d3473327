"""UDP in a virtual network: RFC 3261 section 18 and RFC 3581, keep-alives, stateless answers, our own address."""

from __future__ import annotations

import errno

import pytest
import trio
from transport_world import (
    PHONE,
    PHONE6,
    SERVER,
    SERVER6,
    World,
    hear,
    hears_nothing,
    request,
    udp_phone,
    world,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from aivc.config.settings import Address, SipSettings
from aivc.sip.counters import Counters
from aivc.sip.flow import Arrival, NoFlow
from aivc.sip.message import Request, Response
from aivc.sip.transport import open_transports
from aivc.testing.network import VirtualNetwork

BROKEN = b"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKx\r\nCall-ID: broken\r\n\r\n"


async def answered(at: World, phone: trio.socket.SocketType, data: bytes, to: Address = SERVER) -> Response:
    await phone.sendto(data, to)
    at.answer(await at.arrival())
    response = await hear(phone)
    assert isinstance(response, Response)
    return response


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "udp",
        "udp:5060",
        "sctp:0.0.0.0:5060",
        "udp:host:5060",
        "tcp:0.0.0.0:x",
        "tls:0.0.0.0:65536",
        "udp:::1:5060",
        "udp:[192.0.2.1]:5060",
    ],
)
async def test_a_bad_listen_address_is_named_in_the_error(entry: str) -> None:
    arrived, _ = trio.open_memory_channel[Arrival](1)
    settings = SipSettings(listen=(entry,), tls_certificate=None)
    with pytest.raises((ValueError, OSError), match=r"HOST:PORT|IP address|port|brackets|tls_certificate"):
        async with open_transports(settings, Counters(), lambda host: True, arrived):
            raise AssertionError("opened")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_taken_port_is_named_in_the_error_and_the_other_sockets_are_closed(
    autojump_clock: MockClock, transport: str
) -> None:
    network = VirtualNetwork()
    taken = f"{transport}:192.0.2.1:5060"
    with trio.fail_after(1), pytest.raises(OSError, match=rf"cannot listen on {taken}: Address") as caught:
        async with world("udp:192.0.2.1:5070", "tcp:192.0.2.1:5070", taken, taken, network=network):
            raise AssertionError("opened")
    assert caught.value.errno == errno.EADDRINUSE
    assert not network.bound
    assert not network.streams


async def test_every_entry_listens_and_its_real_port_is_told(autojump_clock: MockClock) -> None:
    listen = ("tcp:192.0.2.1:5060", "udp:192.0.2.1:0", "udp:[::]:5060", "tcp:[2001:db8::1]:5060", "udp:0.0.0.0:5060")
    async with world(*listen) as at:
        assert [(transport, host) for transport, (host, _) in at.transports.listening] == [
            ("TCP", "192.0.2.1"),
            ("UDP", "192.0.2.1"),
            ("UDP", "::"),
            ("TCP", "2001:db8::1"),
            ("UDP", "0.0.0.0"),
        ]
        assert all(port > 0 for _, (_, port) in at.transports.listening)


async def test_keep_alives_and_empty_datagrams_are_ignored_and_counted(autojump_clock: MockClock) -> None:
    async with world() as at, udp_phone() as phone:
        for data in (b"", b"\0", b"\r\n\r\n", b"\r\n"):
            await phone.sendto(data, SERVER)
        assert await hears_nothing(phone)
        assert at.counters == Counters(keep_alives=4)


async def test_what_is_no_sip_is_dropped_and_counted(autojump_clock: MockClock) -> None:
    async with world() as at, udp_phone() as phone:
        stun = bytes.fromhex("000100002112a442") + bytes(12)
        rtp = b"\x80\0" + bytes(170)
        for data in (stun, rtp, b"\x16\x03\x01\x02\0\x01", b"GET / HTTP/1.1\r\n\r\n", b"x" * 60_000, b"\xff" * 50):
            await phone.sendto(data, SERVER)
        assert await hears_nothing(phone)
        assert at.counters == Counters(garbage=6)


async def test_a_broken_request_is_answered_400_with_what_could_be_read(autojump_clock: MockClock) -> None:
    async with world() as at, udp_phone() as phone:
        await phone.sendto(BROKEN, SERVER)
        data, _ = await phone.recvfrom(65_535)
        assert data == (
            b"SIP/2.0 400 Missing From\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKx\r\n"
            b"Call-ID: broken\r\nContent-Length: 0\r\n\r\n"
        )
        await wait_all_tasks_blocked()  # what is sent is counted then
        assert at.counters == Counters(malformed=1, sent=1)


async def test_a_broken_via_is_echoed_as_far_as_it_can_be_read(autojump_clock: MockClock) -> None:
    async with world(), udp_phone() as phone:
        await phone.sendto(request(via="SIP/2.0/UDP 192.0.2.10:5060;;,;"), SERVER)
        answer = (await phone.recvfrom(65_535))[0]
        assert answer.startswith(b"SIP/2.0 400 Bad Via: token expected\r\nVia: SIP/2.0/UDP 192.0.2.10:5060")


async def test_a_length_beyond_the_datagram_is_answered_400_and_another_version_505(autojump_clock: MockClock) -> None:
    async with world(), udp_phone() as phone:
        for old, new, status in ((b"Length: 0", b"Length: 9", 400), (b"1 SIP/2.0", b"1 SIP/7.0", 505)):
            await phone.sendto(request().replace(old, new, 1), SERVER)
            response = await hear(phone)
            assert isinstance(response, Response)
            assert response.status == status


async def test_a_broken_ack_or_response_is_never_answered(autojump_clock: MockClock) -> None:
    async with world() as at, udp_phone() as phone:
        await phone.sendto(BROKEN.replace(b"OPTIONS", b"ACK"), SERVER)
        await phone.sendto(BROKEN.replace(b"OPTIONS sip:x SIP/2.0", b"SIP/2.0 200 OK"), SERVER)
        await phone.sendto(BROKEN.replace(b"Via", b"V-a"), SERVER)
        assert await hears_nothing(phone)
        assert at.counters == Counters(unanswerable=3)


async def test_a_stateless_answer_that_would_amplify_is_not_sent(autojump_clock: MockClock) -> None:
    async with world() as at, udp_phone() as phone:
        await phone.sendto(b"X sip:x SIP/2.0\r\nv:SIP/2.0/UDP h;rport\r\n\r\n", SERVER)
        assert await hears_nothing(phone)
        assert at.counters == Counters(unanswerable=1)


async def test_rport_brings_the_answer_to_the_source_port_whatever_the_sent_by_says(autojump_clock: MockClock) -> None:
    async with world() as at, udp_phone() as phone:
        answer = await answered(at, phone, request(via="SIP/2.0/UDP 10.0.0.1:9;branch=z9hG4bK1;rport"))
        assert answer.header("Via") == "SIP/2.0/UDP 10.0.0.1:9;branch=z9hG4bK1;rport=5060;received=192.0.2.10"


async def test_without_rport_the_answer_goes_to_the_sent_by_port_of_the_source_address(
    autojump_clock: MockClock,
) -> None:
    async with world() as at, udp_phone() as phone, udp_phone((PHONE[0], 31_000)) as other:
        await other.sendto(request(via="SIP/2.0/UDP phone.example.com;branch=z9hG4bK1"), SERVER)
        flow = at.answer(await at.arrival())
        assert flow.peer == PHONE
        assert (await hear(phone)).via.received == "192.0.2.10"


async def test_a_via_that_names_another_transport_changes_nothing(autojump_clock: MockClock) -> None:
    async with world() as at, udp_phone() as phone:
        answer = await answered(at, phone, request(via="SIP/2.0/TLS 192.0.2.10;branch=z9hG4bK1"))
        assert answer.header("Via") == "SIP/2.0/TLS 192.0.2.10;branch=z9hG4bK1"


async def test_all_vias_are_kept_in_order_and_only_the_top_one_is_stamped(autojump_clock: MockClock) -> None:
    async with world() as at, udp_phone() as phone:
        vias = "SIP/2.0/UDP 192.0.2.10:5060, SIP/2.0/TCP p2;branch=2;rport\r\nVia: SIP/2.0/UDP p3, SIP/2.0/UDP p4"
        answer = await answered(at, phone, request(via=vias))
        assert answer.headers.items("Via") == [
            "SIP/2.0/UDP 192.0.2.10:5060",
            "SIP/2.0/TCP p2;branch=2;rport",
            "SIP/2.0/UDP p3",
            "SIP/2.0/UDP p4",
        ]


async def test_ipv6_is_answered_like_ipv4(autojump_clock: MockClock) -> None:
    async with world("udp:[::]:5060", "udp:0.0.0.0:5060") as at, udp_phone(PHONE6) as phone:
        via = "SIP/2.0/UDP [2001:db8::9]:9;branch=z9hG4bK1;rport"
        answer = await answered(at, phone, request(via=via), SERVER6)
        assert str(answer.via) == f"{via}=5060;received=[2001:db8::10]"
        await wait_all_tasks_blocked()  # what is sent is counted then
        assert at.counters == Counters(received=1, sent=1)


@pytest.mark.parametrize(
    ("listen", "external_ip", "peer", "local"),
    [
        ("udp:0.0.0.0:5060", None, PHONE, SERVER),
        ("udp:192.0.2.1:5060", None, PHONE, SERVER),
        ("udp:0.0.0.0:5060", "198.51.100.7", PHONE, ("198.51.100.7", 5060)),
        ("udp:192.0.2.1:5060", "2001:db8::7", PHONE, SERVER),
        ("udp:[::]:5060", None, PHONE6, SERVER6),
        ("udp:[::]:5060", "2001:db8::7", PHONE6, ("2001:db8::7", 5060)),
        ("udp:[::]:5060", "198.51.100.7", PHONE6, SERVER6),
    ],
)
async def test_our_address_is_what_reaches_the_peer_or_the_external_one_of_its_family(
    autojump_clock: MockClock, listen: str, external_ip: str | None, peer: Address, local: Address
) -> None:
    settings = SipSettings(external_ip=external_ip)
    async with world(listen, settings=settings) as at, udp_phone(peer) as phone:
        await phone.sendto(request(), SERVER6 if ":" in peer[0] else SERVER)
        flow = (await at.arrival()).flow
        assert (flow.transport, flow.peer, flow.local, flow.is_open) == ("UDP", peer, local, True)
        assert (await at.transports.towards("UDP", *peer)).local == local


async def test_datagrams_of_whom_we_do_not_serve_are_dropped_unread(autojump_clock: MockClock) -> None:
    async with world(admits=lambda host: host != PHONE[0]) as at, udp_phone() as phone:
        await phone.sendto(request(), SERVER)
        await phone.sendto(b"\r\n\r\n", SERVER)
        await phone.sendto(BROKEN, SERVER)
        assert await hears_nothing(phone)
        assert at.counters == Counters(unwanted=3)


async def test_a_user_agent_that_is_too_slow_loses_datagrams_and_counts_them(autojump_clock: MockClock) -> None:
    async with world() as at, udp_phone() as phone:
        for _ in range(300):
            await phone.sendto(request(), SERVER)
        await trio.sleep(1)
        assert (at.counters.received, at.counters.overflow) == (256, 44)


async def test_a_request_of_ours_leaves_by_the_socket_that_the_message_came_by(autojump_clock: MockClock) -> None:
    async with world("udp:192.0.2.1:5060", "udp:192.0.2.1:5070") as at, udp_phone() as phone:
        await phone.sendto(request(), ("192.0.2.1", 5070))
        near = (await at.arrival()).flow
        assert at.transports.onward("UDP", PHONE, near) is near
        flow = at.transports.onward("UDP", ("192.0.2.99", 5080), near)
        assert (flow.peer, flow.local) == (("192.0.2.99", 5080), ("192.0.2.1", 5070))
        flow = at.transports.onward("UDP", PHONE6, near)
        assert not flow.is_open  # we have no socket for IPv6
        flow.send_nowait(b"x")
        assert at.counters.unsent == 1
        assert not at.transports.onward("UDP", ("phone.example.com", 5060), near).is_open


async def test_the_socket_towards_a_peer_is_the_one_of_the_address_that_reaches_it(autojump_clock: MockClock) -> None:
    async with world("udp:127.0.0.1:5060", "udp:192.0.2.1:5070", "udp:[::1]:5060") as at:
        flow = await at.transports.towards("UDP", "192.0.2.10", None)
        assert (flow.peer, flow.local) == (("192.0.2.10", 5060), ("192.0.2.1", 5070))
        assert (await at.transports.towards("UDP", "::5", None)).local == ("::1", 5060)


async def test_there_is_no_way_to_a_peer_of_a_family_that_we_have_no_socket_of(autojump_clock: MockClock) -> None:
    async with world("udp:192.0.2.1:5060", "tcp:[::]:5060") as at:
        with pytest.raises(NoFlow, match="no udp socket of its family"):
            await at.transports.towards("UDP", PHONE6[0], None)


async def test_names_are_looked_up_for_a_family_that_we_have(autojump_clock: MockClock) -> None:
    async with world() as at:
        at.network.names |= {"pbx.test": ("2001:db8::5", "192.0.2.5"), "nobody.test": ()}
        assert (await at.transports.towards("UDP", "pbx.test", 5070)).peer == ("192.0.2.5", 5070)
        for name in ("unknown.test", "nobody.test", "a..b", "x" * 70 + ".test", ""):
            with pytest.raises(NoFlow):
                await at.transports.towards("UDP", name, None)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_what_is_queued_at_the_end_still_leaves_even_after_a_cancellation(
    autojump_clock: MockClock, is_cancelled: bool
) -> None:
    network = VirtualNetwork(host=SERVER[0])
    network.enable()
    async with udp_phone() as phone:
        with trio.CancelScope() as scope:
            async with world("udp:192.0.2.1:5060", network=network) as at:
                flow = await at.transports.towards("UDP", *PHONE)
                if is_cancelled:
                    scope.cancel()
                for _ in range(100):
                    flow.send_nowait(request("BYE"))
        for _ in range(100):
            message = await hear(phone)
            assert isinstance(message, Request)
        assert at.counters.sent == 100
        flow.send_nowait(b"x")
