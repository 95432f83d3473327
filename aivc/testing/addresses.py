"""Socket addresses in a virtual network: what sockets take and give, and the wildcards."""

from __future__ import annotations

import errno
import socket as stdlib
from typing import Any, Final

from aivc.config.settings import Address

WILDCARDS: Final = ("0.0.0.0", "::", "")


def is_wildcard(host: str) -> bool:
    return host in WILDCARDS


def wildcards_for(host: str) -> tuple[str, ...]:
    """The addresses that stand for all of this host's family."""
    return ("::",) if ":" in host else ("0.0.0.0", "")


def as_name(address: Address | None, family: int) -> tuple[Any, ...]:
    """A socket's address as sockets of that family give it."""
    if family == stdlib.AF_INET6:
        return (*(address or ("::", 0)), 0, 0)
    return address or ("0.0.0.0", 0)


def as_address(address: object) -> Address:
    """The (host, port) of a socket address given in any of the forms that sockets take."""
    if not isinstance(address, tuple) or len(address) < 2:
        raise OSError(errno.EINVAL, f"{address!r} is not (host, port)")
    return str(address[0]), int(str(address[1]))


def checked_family(address: Address, family: int) -> Address:
    """The same address. Raises OSError(EAFNOSUPPORT) when no socket of that family takes it."""
    if address[0] and (":" in address[0]) != (family == stdlib.AF_INET6):
        raise OSError(errno.EAFNOSUPPORT, f"{address[0]} is of another address family")
    return address
