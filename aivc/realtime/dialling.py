"""A connection to the model's server that is not upgraded yet: TCP, and TLS where the target asks for it."""

from __future__ import annotations

import errno
import socket as stdlib_socket
import ssl
from typing import Final

import trio

from aivc.realtime.stream import ByteStream, SocketByteStream, SocketWatch
from aivc.realtime.target import Target

MORE_FILES: Final = "raise the limit of open files (ulimit -n)"


def client_context() -> ssl.SSLContext:
    """What verifies servers by the certificates that the system trusts.

    A WebSocket has a close frame of its own (RFC 6455 section 7.1), so a server may leave out that of TLS. Else OpenSSL
    from 3.5 on would take it for a broken connection: an alert that cannot be sent, and a session that is not resumed.
    """
    context = ssl.create_default_context()
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


async def dial(
    place: Target,
    context: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
    watch: SocketWatch | None = None,
) -> SocketByteStream:
    """Connect over TCP, trying every address of the host (RFC 8305), and over TLS when the target asks for it.

    Args:
        context: None makes a `client_context` when TLS is needed.
        session: an earlier one with the same host, to be resumed if the server agrees.
        watch: of the stream.

    Raises:
        ssl.SSLError: including `ssl.SSLCertVerificationError`.
        OSError: no such host, or no connection.
        UnicodeError: no host name.
    """
    tcp = await trio.open_tcp_stream(place.host, place.port)
    sock = stdlib_socket.socket(fileno=tcp.socket.detach())
    sock.setblocking(False)
    sock.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)  # an append must not wait for an ACK
    if place.tls:
        context = context or client_context()
        sock = context.wrap_socket(sock, server_hostname=place.host, do_handshake_on_connect=False, session=session)
    stream = SocketByteStream(sock, watch)
    try:
        await stream.handshake()
    except BaseException:
        await close_now(stream)
        raise
    return stream


def why_unreachable(error: OSError) -> str:
    """For people: what the system says of the last address that was tried; trio itself only says that none would do."""
    tried = error.__cause__
    while isinstance(tried, BaseExceptionGroup):
        tried = tried.exceptions[-1]
    found = tried if isinstance(tried, OSError) else error
    cause = found.strerror or str(found)
    return f"{cause}: {MORE_FILES}" if found.errno in (errno.EMFILE, errno.ENFILE) else cause


async def close_now(stream: ByteStream) -> None:
    """Close the socket and wait for nobody, also in a cancelled task."""
    with trio.CancelScope(shield=True) as scope:
        scope.cancel()
        await stream.aclose()
