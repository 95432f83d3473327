"""OpenSSL's own server begins TLS 1.2 anew while a model's socket is read: what is written meanwhile still arrives."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
import trustme
from byte_stream_pairs import HOST, Watching, as_trio, by_heartbeat, by_task, plain

from aivc.realtime.stream import SocketByteStream

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]

LONGEST_SECONDS = 20.0


@attrs.define
class Server:
    """`openssl s_server`, which does what is typed."""

    process: trio.Process

    async def type(self, line: bytes) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(line + b"\n")

    async def printed(self, pattern: bytes) -> re.Match[bytes]:
        """Wait for a line with this; what came with it is gone then."""
        assert self.process.stdout is not None
        heard = b""
        while (found := re.search(pattern + rb"\n", heard)) is None:
            piece = await self.process.stdout.receive_some()
            assert piece, heard
            heard += piece
        return found


@asynccontextmanager
async def openssl_server(folder: Path) -> AsyncIterator[tuple[Server, trio.SocketStream, ssl.SSLContext]]:
    """A server of TLS 1.2; a connection to it, without TLS as yet; and who trusts it."""
    authority, trusting, identity = trustme.CA(), ssl.create_default_context(), folder / "identity.pem"
    authority.configure_trust(trusting)
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(identity))
    certified = ["-cert", str(identity), "-key", str(identity)]
    command = ["openssl", "s_server", "-tls1_2", "-accept", "127.0.0.1:0", *certified]
    start = partial(trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    async with trio.open_nursery() as nursery:
        server = Server(await nursery.start(partial(start, check=False)))
        port = (await server.printed(rb"ACCEPT 127\.0\.0\.1:(\d+)")).group(1)
        async with await trio.open_tcp_stream("127.0.0.1", int(port)) as connection:
            yield server, connection, trusting
        nursery.cancel_scope.cancel()


async def carry(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
    async for data in source:
        await sink.send_all(data)


async def read(stream: SocketByteStream, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    """Until it is cancelled."""
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await stream.receive_each(bool)


@pytest.mark.parametrize("anew", [False, True], ids=["read all the while", "reading begins anew"])
@pytest.mark.parametrize("watching", [by_task, by_heartbeat])
async def test_what_is_written_while_the_server_renegotiates_arrives(
    watching: Watching, anew: bool, tmp_path: Path
) -> None:
    answers: list[bytes | bytearray] = []
    ours, between = socket.socketpair()
    ours.setblocking(False)
    inside = trio.SocketStream(as_trio(between))

    def hand_over(ring: bytes) -> bool:  # while another socket is read: a beat reads ours straight after it
        while answers:
            between.send(answers.pop(0))
        return bool(ring)

    async def ring_for_each() -> None:
        async for data in outside:
            answers.append(data)
            await bell.send_all(b"!")

    with trio.fail_after(LONGEST_SECONDS):
        async with (
            openssl_server(tmp_path) as (server, outside, trusting),
            watching() as watch,
            plain(watch) as (other, bell),
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(carry, inside, outside)
            nursery.start_soon(other.receive_each, hand_over)
            wrapped = trusting.wrap_socket(ours, server_hostname=HOST, do_handshake_on_connect=False)
            stream = SocketByteStream(wrapped, watch)
            async with trio.open_nursery() as shaking:
                shaking.start_soon(carry, outside, inside)
                await stream.handshake()
                shaking.cancel_scope.cancel()
            reading = await nursery.start(read, stream)
            await server.type(b"r")
            await inside.send_all(await outside.receive_some())  # HelloRequest, which ClientHello answers
            answers.append(await outside.receive_some())  # ServerHello to ServerHelloDone are kept back
            if anew:
                reading.cancel()
                await trio.testing.wait_all_tasks_blocked()
            assert not stream.write_nowait(b"audio\n")
            nursery.start_soon(stream.wait_flushed)
            await trio.testing.wait_all_tasks_blocked()
            if anew:
                await nursery.start(read, stream)
                await trio.testing.wait_all_tasks_blocked()
            await bell.send_all(b"!")
            nursery.start_soon(ring_for_each)
            await server.printed(b"audio")
            nursery.cancel_scope.cancel()
        await stream.aclose()
        await inside.aclose()
