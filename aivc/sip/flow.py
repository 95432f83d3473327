"""How messages reach a peer and whence they come: what the layers above know of transports (RFC 3261 section 18)."""

from __future__ import annotations

from typing import Final, Literal, Protocol

import attrs

from aivc.config.settings import Address
from aivc.sip.address import Via
from aivc.sip.message import Request, Response

Transport = Literal["UDP", "TCP", "TLS"]  # as Via spells it
TRANSPORTS: Final[dict[str, Transport]] = {"udp": "UDP", "tcp": "TCP", "tls": "TLS"}  # by their names in URIs


class Flow(Protocol):
    """The way to one peer: a UDP socket of ours with its address, or one TCP or TLS connection (RFC 5626 section 1)."""

    @property
    def transport(self) -> Transport: ...

    @property
    def peer(self) -> Address:
        """Where what is sent goes."""

    @property
    def local(self) -> Address:
        """Our address as that peer must see it, for Via and Contact: on TCP and TLS the port that we listen on."""

    @property
    def is_open(self) -> bool:
        """False when what is sent would be lost for certain: the connection is closed. Always True of UDP."""

    def send_nowait(self, data: bytes) -> None:
        """Queue one message; what cannot be queued is dropped and counted. On a connection that is still being made it
        waits for that."""


@attrs.frozen(eq=False)
class Arrival:
    """One message from the network; the top Via of a request is stamped (received and rport)."""

    message: Request | Response
    flow: Flow  # to where it came from
    octets: int  # of the message as it came

    @property
    def source(self) -> Address:
        return self.flow.peer


class NoFlow(Exception):
    """A peer cannot be reached: no such host, no socket of that transport and family, no route, or no room."""


class Transports(Protocol):
    """All sockets of a user agent, as the layers above see them. `aivc.sip.transport` has the real one."""

    @property
    def listening(self) -> tuple[tuple[Transport, Address], ...]:
        """What is bound, in the order of `sip.listen`, with the real ports."""

    def answering(self, arrival: Arrival, via: Via) -> Flow:
        """The flow for responses to a request with this stamped top Via: RFC 3261 section 18.2.2 and RFC 3581.

        Ask anew for each response: after the loss of a connection it is another one, to the port of the Via.
        """

    def onward(self, transport: Transport, peer: Address, near: Flow) -> Flow:
        """The flow for a request of ours to an IP address that came with a message over `near`: `near` itself if it
        leads there and is open, another open connection to there, or a new one, as `near` says which socket is ours."""

    async def towards(self, transport: Transport, host: str, port: int | None) -> Flow:
        """A flow to a peer of which only the name is known: its address is looked up, connections are reused.

        A port of None is 5060, or 5061 for TLS. Raises NoFlow; a connection that cannot be made just closes the flow.
        """
