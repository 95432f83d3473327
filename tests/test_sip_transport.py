from __future__ import annotations

import errno

import pytest
import trio
from sip_phone import PHONE, SERVER, Phone, user_agent
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip.message import Response, parse_untrusted
from aivc.sip.useragent import open_user_agent
from aivc.testing.network import VirtualNetwork

BROKEN = b"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKx\r\nCall-ID: broken\r\n\r\n"


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "udp",
        "udp:5060",
        "tcp:0.0.0.0:5060",
        "udp:host:5060",
        "udp:0.0.0.0:x",
        "udp:0.0.0.0:65536",
        "udp:::1:5060",
        "udp:[192.0.2.1]:5060",
    ],
)
async def test_a_bad_listen_address_is_named_in_the_error(entry: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|IP address|port|brackets"):
        async with open_user_agent(SipSettings(listen=(entry,))):
            raise AssertionError("opened")


async def test_a_taken_port_is_named_in_the_error_and_the_other_sockets_are_closed(autojump_clock: MockClock) -> None:
    network = VirtualNetwork().enable()
    listen = ("udp:192.0.2.1:5060", "udp:192.0.2.1:5060")
    with trio.fail_after(1), pytest.raises(OSError, match=r"cannot listen on udp:192\.0\.2\.1:5060") as caught:
        async with open_user_agent(SipSettings(listen=listen)):
            raise AssertionError("opened")
    assert caught.value.errno == errno.EADDRINUSE
    assert not network.bound


async def test_keep_alives_and_empty_datagrams_are_ignored_and_counted(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        for data in (b"", b"\0", b"\r\n\r\n", b"\r\n"):
            await phone.send(data)
        assert await phone.hears_nothing(1)
        assert agent.statistics().keep_alives == 4


async def test_what_is_no_sip_is_dropped_and_counted(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        stun = bytes.fromhex("000100002112a442") + bytes(12)
        rtp = b"\x80\0" + bytes(170)
        for data in (stun, rtp, b"\x16\x03\x01\x02\0\x01", b"GET / HTTP/1.1\r\n\r\n", b"x" * 60_000, b"\xff" * 50):
            await phone.send(data)
        assert await phone.hears_nothing(1)
        assert agent.statistics().garbage == 6


async def test_a_broken_request_is_answered_400_with_what_could_be_read(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        await phone.send(BROKEN)
        data, _ = await phone.socket.recvfrom(65_535)
        assert data == (
            b"SIP/2.0 400 Missing From\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKx\r\n"
            b"Call-ID: broken\r\nContent-Length: 0\r\n\r\n"
        )
        assert agent.statistics().malformed == 1


async def test_a_broken_via_is_echoed_as_far_as_it_can_be_read(autojump_clock: MockClock) -> None:
    async with user_agent() as (_, phone):
        await phone.send(phone.write("OPTIONS").replace(b";rport", b";;,;"))
        answer = (await phone.socket.recvfrom(65_535))[0]
        assert answer.startswith(b"SIP/2.0 400 Bad Via: token expected\r\nVia: SIP/2.0/UDP 192.0.2.10:5060")


async def test_a_length_beyond_the_datagram_is_answered_400_and_another_version_505(autojump_clock: MockClock) -> None:
    async with user_agent() as (_, phone):
        assert (await phone.ask(phone.write("OPTIONS").replace(b"Length: 0", b"Length: 9"))).status == 400
        assert (await phone.ask(phone.write("OPTIONS").replace(b"1 SIP/2.0", b"1 SIP/7.0", 1))).status == 505


async def test_a_broken_ack_or_response_is_never_answered(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        await phone.send(BROKEN.replace(b"OPTIONS", b"ACK"))
        await phone.send(BROKEN.replace(b"OPTIONS sip:x SIP/2.0", b"SIP/2.0 200 OK"))
        await phone.send(BROKEN.replace(b"Via", b"V-a"))
        assert await phone.hears_nothing(1)
        assert agent.statistics().unanswerable == 3


async def test_a_stateless_answer_that_would_amplify_is_not_sent(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        await phone.send(b"X sip:x SIP/2.0\r\nv:SIP/2.0/UDP h;rport\r\n\r\n")
        assert await phone.hears_nothing(1)
        assert agent.statistics().unanswerable == 1


async def test_rport_brings_the_answer_to_the_source_port_whatever_the_sent_by_says(autojump_clock: MockClock) -> None:
    async with user_agent() as (_, phone):
        answer = await phone.ask(phone.write("OPTIONS", via="10.0.0.1:9"))
        assert answer.header("Via") == "SIP/2.0/UDP 10.0.0.1:9;branch=z9hG4bK-1;rport=5060;received=192.0.2.10"


async def test_without_rport_the_answer_goes_to_the_sent_by_port_of_the_source_address(
    autojump_clock: MockClock,
) -> None:
    async with user_agent() as (_, phone):
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as other:
            await other.bind((PHONE[0], 31_000))
            await other.sendto(phone.write("OPTIONS", via="phone.example.com", rport=""), SERVER)
            answer = await phone.response()
        assert answer.via.received == "192.0.2.10"


async def test_all_vias_are_echoed_in_order_and_only_the_top_one_is_stamped(autojump_clock: MockClock) -> None:
    async with user_agent() as (_, phone):
        vias = ", SIP/2.0/TCP p2;branch=2;rport\r\nVia: SIP/2.0/UDP p3;branch=3, SIP/2.0/UDP p4"
        answer = await phone.ask(phone.write("OPTIONS", rport=vias))
        assert answer.headers.items("Via") == [
            "SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-1",
            "SIP/2.0/TCP p2;branch=2;rport",
            "SIP/2.0/UDP p3;branch=3",
            "SIP/2.0/UDP p4",
        ]


async def test_a_wildcard_socket_says_the_address_that_reaches_the_peer(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(host="192.0.2.1")
    async with user_agent(network=network, listen="udp:0.0.0.0:5060") as (agent, phone):
        assert agent.listening == (("0.0.0.0", 5060),)
        _, answer = await phone.call(agent)
        assert answer.header("Contact") == "<sip:192.0.2.1:5060>"


async def test_the_external_address_is_said_when_it_is_set(autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(external_ip="198.51.100.7")) as (agent, phone):
        _, answer = await phone.call(agent)
        assert answer.header("Contact") == "<sip:198.51.100.7:5060>"


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", trio.socket.AF_INET), ("::1", trio.socket.AF_INET6)])
async def test_options_over_real_sockets(host: str, family: int) -> None:
    listen = f"udp:[{host}]:0" if ":" in host else f"udp:{host}:0"
    with trio.fail_after(10), trio.socket.socket(family, trio.socket.SOCK_DGRAM) as sock:
        try:
            await sock.bind((host, 0))
        except OSError:
            pytest.skip(f"no {host} on this machine")
        async with open_user_agent(SipSettings(listen=(listen,))) as agent:
            phone = Phone(sock, agent.listening[0])
            await phone.send(phone.write("OPTIONS"))
            answer = parse_untrusted((await sock.recvfrom(65_535))[0])
            assert isinstance(answer, Response)
            assert answer.status == 200
            address = agent.listening[0]
    with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as again:
        await again.bind(address)  # the port is free again
