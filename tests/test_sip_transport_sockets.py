"""The same over real sockets on loopback: what the virtual network stands for is true."""

from __future__ import annotations

import os
import socket as stdlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme
from transport_world import request

from aivc.config.settings import Address, SipSettings
from aivc.sip.counters import Counters
from aivc.sip.flow import Arrival
from aivc.sip.message import Request, Response, answer_to, parse_untrusted
from aivc.sip.transport import SocketTransports, open_transports

HOSTS = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])


@asynccontextmanager
async def server(
    settings: SipSettings, answered: trio.Event | None = None
) -> AsyncIterator[tuple[SocketTransports, Counters]]:
    """Answers every request with 200, and tells when it is answered. Nothing is left open when it ends."""
    before = len(os.listdir("/proc/self/fd"))
    counters = Counters()
    arrived, arrivals = trio.open_memory_channel[Arrival](256)

    async def answer(transports: SocketTransports) -> None:
        async for arrival in arrivals:
            if isinstance(arrival.message, Request):
                flow = transports.answering(arrival, arrival.message.via)
                flow.send_nowait(bytes(answer_to(arrival.message.headers, 200)))
            elif answered is not None:
                answered.set()

    with trio.fail_after(30):
        async with (
            open_transports(settings, counters, lambda host: True, arrived) as transports,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(answer, transports)
            yield transports, counters
            nursery.cancel_scope.cancel()
    assert len(os.listdir("/proc/self/fd")) == before


def entry(transport: str, host: str) -> str:
    try:
        stdlib.create_server((host, 0), family=stdlib.AF_INET6 if ":" in host else stdlib.AF_INET).close()
    except OSError:
        pytest.skip(f"no {host} on this machine")
    return f"{transport}:[{host}]:0" if ":" in host else f"{transport}:{host}:0"


async def dial(to: Address) -> trio.SocketStream:
    return await trio.open_tcp_stream(*to)


async def answered(stream: trio.abc.Stream) -> bool:
    response = parse_untrusted(bytes(await stream.receive_some()))
    return isinstance(response, Response) and response.status == 200


@HOSTS
async def test_udp(host: str) -> None:
    async with server(SipSettings(listen=(entry("udp", host),))) as (transports, _):
        ((_, address),) = transports.listening
        family = stdlib.AF_INET6 if ":" in host else stdlib.AF_INET
        with trio.socket.socket(family, stdlib.SOCK_DGRAM) as phone:
            await phone.bind((host, 0))
            await phone.sendto(request(via="SIP/2.0/UDP x;branch=z9hG4bK1;rport"), address)
            data, source = await phone.recvfrom(65_535)
            assert source[:2] == address
            response = parse_untrusted(data)
            assert isinstance(response, Response)
            assert response.via.response_address() == phone.getsockname()[:2]
            flow = await transports.towards("UDP", *phone.getsockname()[:2])
            assert flow.local == address
            flow.send_nowait(request("BYE"))
            assert (await phone.recvfrom(65_535))[0].startswith(b"BYE")


async def test_a_wildcard_of_each_family_can_have_the_same_port_and_knows_our_address() -> None:
    entry("udp", "::1")
    with stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", 0))
        port = probe.getsockname()[1]
    listen = tuple(f"{transport}:{host}:{port}" for transport in ("udp", "tcp") for host in ("0.0.0.0", "[::]"))
    async with server(SipSettings(listen=listen)) as (transports, _):
        for host in ("127.0.0.1", "::1"):
            assert (await transports.towards("UDP", host, 9)).local == (host, port)
            async with await dial((host, port)) as phone:
                await phone.send_all(request())
                assert await answered(phone)


@HOSTS
async def test_tcp_byte_by_byte_and_several_at_once(host: str) -> None:
    async with server(SipSettings(listen=(entry("tcp", host),))) as (transports, counters):
        async with await dial(transports.listening[0][1]) as phone:
            for octet in request():
                await phone.send_all(bytes([octet]))
            assert await answered(phone)
            await phone.send_all(b"\r\n\r\n")
            assert await phone.receive_some() == b"\r\n"
            await phone.send_all(request() + request())
            heard = b""
            while heard.count(b"Content-Length: 0\r\n\r\n") < 2:
                heard += await phone.receive_some()
        assert (counters.received, counters.keep_alives) == (3, 1)


async def test_the_answer_to_a_message_that_is_too_large_is_not_lost_with_the_rest_of_it() -> None:
    async with server(SipSettings(listen=("tcp:127.0.0.1:0",))) as (transports, _):
        for _ in range(10):
            async with await dial(transports.listening[0][1]) as phone:
                await phone.send_all(request().replace(b"Length: 0", b"Length: 300000") + bytes(300_000))
                response = parse_untrusted(bytes(await phone.receive_some()))
                assert isinstance(response, Response)
                assert response.status == 513
                await phone.send_eof()
                assert await phone.receive_some() == b""


async def test_a_connection_of_ours_is_made_and_found_again() -> None:
    listener, *_ = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, server(SipSettings(listen=("tcp:127.0.0.1:0",))) as (transports, counters):
        flow = await transports.towards("TCP", "localhost", listener.socket.getsockname()[1])
        assert flow.local == transports.listening[0][1]
        flow.send_nowait(request("REGISTER"))
        async with await listener.accept() as peer:
            assert bytes(await peer.receive_some()).startswith(b"REGISTER")
            assert counters.connected == 1
            await peer.send_all(request())
            assert await answered(peer)


async def test_tls_with_the_certificates_of_both_sides(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "cert.pem"))
    settings = SipSettings(
        listen=("tls:127.0.0.1:0",),
        tls_certificate=str(tmp_path / "cert.pem"),
        tls_client_ca=str(tmp_path / "ca.pem"),
        tls_ca=str(tmp_path / "ca.pem"),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    authority.issue_cert("phone.test").configure_cert(context)
    heard = trio.Event()
    async with server(settings, heard) as (transports, counters):
        host, port = transports.listening[0][1]
        async with await trio.open_ssl_over_tcp_stream(host, port, ssl_context=context) as phone:
            await phone.send_all(request())
            assert await answered(phone)
        # and ours to ourselves, which shows our certificate and believes its name
        flow = await transports.towards("TLS", host, port)
        flow.send_nowait(request())
        await heard.wait()
        assert counters.received == 3  # two requests, and the answer to the second one
        assert counters.handshakes_failed == 0


async def test_a_hundred_half_open_connections_leave_the_next_one_served() -> None:
    settings = SipSettings(listen=("tcp:127.0.0.1:0",), message_seconds=0.5)
    async with server(settings) as (transports, counters):
        address = transports.listening[0][1]
        flood = [await dial(address) for _ in range(100)]
        for stream in flood:
            await stream.send_all(request()[:60])
        async with await dial(address) as phone:
            await phone.send_all(request())
            assert await answered(phone)
        for stream in flood:
            assert await stream.receive_some() == b""
            await stream.aclose()
        assert counters.slow == 100


async def test_three_hundred_connections_opened_and_closed_at_once_leave_the_next_one_served() -> None:
    async with server(SipSettings(listen=("tcp:127.0.0.1:0",))) as (transports, counters):
        address = transports.listening[0][1]

        async def open_and_close(number: int) -> None:
            stream = await dial(address)
            if number % 3 == 1:
                await stream.send_all(request())
            if number % 3 == 2:  # a reset instead of an end
                stream.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(open_and_close, number)
        async with await dial(address) as phone:
            await phone.send_all(request())
            assert await answered(phone)
    assert counters.accepted == counters.closed
    assert counters.accepted + counters.crowded + counters.accept_errors == 301
    assert counters.broken == 0
