"""Who gets the events of the test OpenSIPS: its event interface (evi) with the module event_datagram. No I/O.

Times are whole seconds, as evi has them, and an entry lives until the next look at it after its end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import attrs

from aivc.config.settings import Address
from aivc.sip.scanner import is_ip_address
from aivc.testing.schema import Json

EVENT: Final = "E_UA_SESSION"
EVENT_ID: Final = 6
LARGEST_DATAGRAM: Final = 65_507  # octets in one UDP datagram over IPv4
MEMBERS: Final = ("key", "event_type", "entity_type", "status", "reason", "method", "body", "headers", "extra_params")


@attrs.define
class EventSubscriber:
    """One subscribed socket. A subscription for 0 s ends it, at the next whole second."""

    address: Address
    expire: int  # seconds
    subscribed_at: int  # seconds since 1970

    def is_over(self, now: int) -> bool:
        return self.subscribed_at + self.expire < now

    def listed(self, now: int) -> Json:
        left = self.subscribed_at + self.expire - now
        socket = f"udp:{self.address[0]}:{self.address[1]}"
        return {"socket": socket, "expire": self.expire, "ttl": left if left > 0 else "expired"}


@attrs.define
class Subscribers:
    """All of them, the youngest first."""

    entries: list[EventSubscriber] = attrs.field(factory=list)

    def subscribe(self, socket: str, expire: int, now: int) -> bool:
        """Add or renew one; False for a socket that is none.

        An address matches one that begins with it (event_datagram.c compares as many characters as the new one has), if
        the port is the same: then that entry is renewed, and nothing is added.
        """
        address = read_socket(socket)
        if address is None:
            return False
        for entry in self.entries:
            if entry.address[1] == address[1] and entry.address[0].startswith(address[0]):
                entry.expire, entry.subscribed_at = expire, now
                return True
        self.entries.insert(0, EventSubscriber(address, expire, now))
        return True

    def current(self, now: int) -> list[EventSubscriber]:
        """Those who get an event now; the others are dropped."""
        self.entries = [entry for entry in self.entries if not entry.is_over(now)]
        return self.entries

    def listed(self, now: int) -> Json | None:
        """What subscribers_list says of the event; None without subscribers."""
        entries = self.current(now)
        if not entries:
            return None
        return {"name": EVENT, "id": EVENT_ID, "Subscribers": [entry.listed(now) for entry in entries]}


def read_socket(text: str) -> Address | None:
    """`udp:IP:PORT`. UNIX sockets and names are not for this OpenSIPS."""
    protocol, _, rest = text.partition(":")
    host, _, port = rest.partition(":")
    if protocol != "udp" or not is_ip_address(host) or not port.isdecimal():
        return None
    number = int(port) % 65_536  # it is put into 16 bits unseen
    return (host, number) if number else None


def event_octets(params: Mapping[str, object]) -> bytes:
    """The datagram of an event; texts are those octets of the SIP message, as latin-1."""
    event = {"jsonrpc": "2.0", "method": EVENT, "params": {name: params[name] for name in MEMBERS}}
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("latin-1")
