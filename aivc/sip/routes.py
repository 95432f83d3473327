"""Which of our addresses a peer sees, for Via and Contact."""

from __future__ import annotations

import logging
import socket as stdlib
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import Address
from aivc.sip.address import format_host_port

log = logging.getLogger("aivc.sip")

WILDCARDS: Final = ("0.0.0.0", "::")
KNOWN_PEERS: Final = 256  # whose route we remember
ROUTE_SECONDS: Final = 60.0  # for so long: routes change when a link goes down or an address is leased anew


def is_ipv6(host: str) -> bool:
    return ":" in host


def family_of(host: str) -> stdlib.AddressFamily:
    return stdlib.AF_INET6 if is_ipv6(host) else stdlib.AF_INET


@attrs.define(eq=False)
class Routes:
    """Answers from memory where it can.

    Args:
      external_ip: what we say our address is, to peers of its family; None = the local address that reaches the peer.
    """

    external_ip: str | None = None
    _known: dict[str, tuple[str, float]] = attrs.field(factory=dict, init=False)  # peer's host: ours, and until when

    async def local_host(self, bound: str, peer: Address) -> str | None:
        """The address to give to this peer, of a socket of ours bound to `bound`. None: no route leads there."""
        own = self.fixed_host(bound, peer[0])
        if own is not None:
            return own
        host, expires = self._known.get(peer[0], ("", 0.0))
        if not host or expires < trio.current_time():
            found = await route_to(peer)
            if found is None:
                return None
            if len(self._known) >= KNOWN_PEERS:
                self._known.clear()
            host = found
            self._known[peer[0]] = (host, trio.current_time() + ROUTE_SECONDS)
        return host

    def fixed_host(self, bound: str, peer_host: str) -> str | None:
        """The same as far as no route matters; None when it does."""
        if self.external_ip is not None and is_ipv6(self.external_ip) == is_ipv6(peer_host):
            return self.external_ip
        return None if bound in WILDCARDS else bound


async def route_to(peer: Address) -> str | None:
    """The local address from which the system would reach `peer`: a connected UDP socket knows, and sends nothing.

    None when there is no route, or no descriptor left for the socket.
    """
    try:
        with trio.socket.socket(family_of(peer[0]), stdlib.SOCK_DGRAM) as probe:
            await probe.connect(peer)
            return str(probe.getsockname()[0])
    except OSError as error:
        logs.event(log, "sip.no_route", level=logging.WARNING, to=format_host_port(*peer), error=str(error))
        return None
