"""The UDP socket that OpenSIPS sends its events to (module event_datagram), and whose datagrams are read there."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket as stdlib
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import Address, EngineSettings, OpenSipsSettings
from aivc.sip.address import format_host_port
from aivc.sip.datagrams import DATAGRAM_OCTETS, ERROR_PAUSE
from aivc.sip.ip import plain_ip
from aivc.sip.routes import WILDCARDS, route_to
from aivc.sip.sources import Bucket, Network, contains

log = logging.getLogger("aivc.opensips")

BUFFER_OCTETS: Final = 4 * 1024 * 1024  # asked of the system: a lost event is not sent again
LOOPBACK: Final = "127.0.0.1"
MAX_STRANGERS: Final = 64  # foreign sources that are remembered as logged
STRANGER_SECONDS: Final = 60.0  # beyond the first few, foreign sources are logged so often: addresses can be forged
STRANGER_BURST: Final = 4.0


@attrs.define(eq=False, repr=False)
class EventSocket:
    """Opened by `open_event_socket`; closed by whoever opened it.

    Attributes:
      address: where OpenSIPS is to send events; with `engine.event_ip` 0.0.0.0 that is known after `locate`.
      received: datagrams that came from OpenSIPS.
      foreign: datagrams that did not; they are not read.
    """

    socket: trio.socket.SocketType
    address: Address
    _is_wildcard: bool
    _networks: tuple[Network, ...]
    received: int = attrs.field(default=0, init=False)
    foreign: int = attrs.field(default=0, init=False)
    _expected: frozenset[str] = attrs.field(default=frozenset(), init=False)  # IP addresses
    _strangers: dict[str, None] = attrs.field(factory=dict, init=False)  # logged lately, oldest first
    _is_lost: bool = attrs.field(default=False, init=False)
    _told: Bucket | None = attrs.field(default=None, init=False)

    async def locate(self, peer_ip: str | None) -> None:
        """Learn from the way to OpenSIPS what to tell it, and where its events come from.

        Args:
          peer_ip: of OpenSIPS; None: it is on this host.
        """
        near = LOOPBACK if peer_ip is None else await route_to((peer_ip, self.address[1]))
        host = near if self._is_wildcard and near is not None else self.address[0]
        self.address = (host, self.address[1])
        # Between two addresses of one host, the system sends from the one that is sent to.
        is_here = peer_ip is None or near == peer_ip or is_loopback(peer_ip)
        here = {host, LOOPBACK} if is_here else set()
        self._expected = frozenset({plain_ip(peer_ip)} if peer_ip is not None else ()) | here
        self._warn(is_lost=is_loopback(host) and not is_here)

    def _warn(self, *, is_lost: bool) -> None:
        """Once, when events cannot come."""
        if is_lost and not self._is_lost:
            hint = "OpenSIPS sends its events to itself: set engine.event_ip to an address that it can reach"
            events = format_host_port(*self.address)
            logs.event(log, "opensips.events_lost", level=logging.WARNING, events=events, hint=hint)
        self._is_lost = is_lost

    def expects(self, ip: str) -> bool:
        """Whether events may come from there."""
        if self._networks:
            return contains(self._networks, ip)
        return plain_ip(ip) in self._expected

    async def receive(self, take_untrusted: Callable[[bytes], None]) -> None:
        """Hand over datagrams of OpenSIPS until cancelled."""
        while True:
            try:
                data, source = await self.socket.recvfrom(DATAGRAM_OCTETS)
            except OSError as error:
                logs.event(log, "opensips.receive_failed", level=logging.WARNING, error=str(error))
                await trio.sleep(ERROR_PAUSE)
                continue
            if self.expects(str(source[0])):
                self.received += 1
                take_untrusted(data)
            else:
                self._turn_away((str(source[0]), int(source[1])))

    def _turn_away(self, source: Address) -> None:
        self.foreign += 1
        now = trio.current_time()
        if self._told is None:
            self._told = Bucket(STRANGER_BURST, 0, now)
        if source[0] in self._strangers or not self._told.take(1 / STRANGER_SECONDS, STRANGER_BURST, now):
            return
        self._strangers[source[0]] = None
        if len(self._strangers) > MAX_STRANGERS:
            del self._strangers[next(iter(self._strangers))]
        hint = "if that is OpenSIPS, name it in opensips.event_sources"
        logs.event(log, "opensips.foreign", level=logging.WARNING, source=format_host_port(*source), hint=hint)


def is_loopback(ip: str) -> bool:
    try:
        return ipaddress.ip_address(plain_ip(ip)).is_loopback
    except ValueError:
        return False


async def open_event_socket(settings: OpenSipsSettings, engine: EngineSettings) -> EventSocket:
    """Bind it. Raises OSError: `engine.event_port` is taken, or `engine.event_ip` is not ours."""
    socket = trio.socket.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM)
    try:
        with suppress(OSError):
            socket.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_RCVBUF, BUFFER_OCTETS)
        await socket.bind((engine.event_ip, engine.event_port))
        host, port = socket.getsockname()[:2]
    except OSError as error:
        socket.close()
        where = format_host_port(engine.event_ip, engine.event_port)
        raise OSError(error.errno, f"cannot get events of OpenSIPS at {where}: {strerror(error)}") from error
    except BaseException:
        socket.close()
        raise
    networks = tuple(ipaddress.ip_network(text) for text in settings.event_sources)
    return EventSocket(socket, (str(host), int(port)), str(host) in WILDCARDS, networks)


def strerror(error: OSError) -> str:
    return error.strerror or os.strerror(error.errno or errno.EIO)
