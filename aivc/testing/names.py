"""Host names in a virtual network: they are what the test says, and nobody is asked."""

from __future__ import annotations

import socket as stdlib
from collections.abc import Mapping
from typing import Any, Final

import attrs
import trio
from trio.abc import HostnameResolver

LOCALHOST: Final = ("127.0.0.1", "::1")
Found = tuple[Any, stdlib.SocketKind, int, str, Any]  # family, type, protocol, canonical name, socket address


@attrs.define(eq=False)
class Names(HostnameResolver):
    """Looks names up in `names`, at the moment of each question; see `VirtualNetwork.names`."""

    names: Mapping[str, str | tuple[str, ...]]

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Found]:
        await trio.lowlevel.checkpoint()
        name = "localhost" if host is None else bytes(host).decode("ascii").rstrip(".").lower()
        addresses = self.names.get(name, LOCALHOST if name == "localhost" else None)
        if addresses is None:
            raise stdlib.gaierror(stdlib.EAI_NONAME, "Name or service not known")
        if addresses == ():
            raise stdlib.gaierror(stdlib.EAI_AGAIN, "Temporary failure in name resolution")
        found: list[Found] = []
        for address in (addresses,) if isinstance(addresses, str) else addresses:
            if family in (0, stdlib.AF_INET6 if ":" in address else stdlib.AF_INET):
                number = stdlib.AI_NUMERICHOST  # so the library only fills in the rest, and asks nobody
                found += stdlib.getaddrinfo(address, port, family, type, proto, flags | number)
        if not found:
            raise stdlib.gaierror(stdlib.EAI_NODATA, "No address associated with hostname")
        return found

    async def getnameinfo(self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int) -> tuple[str, str]:
        await trio.lowlevel.checkpoint()
        return stdlib.getnameinfo(sockaddr, flags | stdlib.NI_NUMERICHOST | stdlib.NI_NUMERICSERV)
