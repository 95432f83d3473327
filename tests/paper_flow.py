"""Flows and transports on paper: what is sent is written down, and answers are written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import attrs

from aivc.config.settings import Address
from aivc.sip.address import Via
from aivc.sip.flow import Arrival, Flow, NoFlow, Transport
from aivc.sip.message import Headers, Request, Response, answer_to, parse_untrusted

PBX: Address = ("192.0.2.10", 5060)
OURS: Address = ("192.0.2.1", 5060)


@attrs.define(eq=False)
class PaperFlow:
    """Keeps what is sent as octets."""

    transport: Transport = "UDP"
    peer: Address = PBX
    local: Address = OURS
    is_open: bool = True
    sent: list[bytes] = attrs.field(factory=list)

    def send_nowait(self, data: bytes) -> None:
        if self.is_open:
            self.sent.append(data)

    @property
    def messages(self) -> list[Request | Response]:
        return [parse_untrusted(data) for data in self.sent]

    @property
    def requests(self) -> list[Request]:
        return [message for message in self.messages if isinstance(message, Request)]

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.requests]

    @property
    def statuses(self) -> list[int]:
        return [message.status for message in self.messages if isinstance(message, Response)]


@attrs.define(eq=False)
class PaperTransports:
    """Answers go back where the request came from; onward flows are kept in `made`."""

    made: list[PaperFlow] = attrs.field(factory=list)
    missing: frozenset[Transport] = frozenset()  # no socket of those
    listening: tuple[tuple[Transport, Address], ...] = ()

    def answering(self, arrival: Arrival, via: Via) -> Flow:
        return arrival.flow

    def onward(self, transport: Transport, peer: Address, near: Flow) -> Flow:
        if transport in self.missing:
            raise NoFlow(transport)
        if (near.transport, near.peer) == (transport, peer) and near.is_open:
            return near
        known = [flow for flow in self.made if (flow.transport, flow.peer) == (transport, peer) and flow.is_open]
        if not known:
            known.append(PaperFlow(transport, peer))
            self.made += known
        return known[0]

    async def towards(self, transport: Transport, host: str, port: int | None) -> Flow:
        raise NoFlow(host)


def tokens() -> Callable[[], str]:
    numbers: Iterator[int] = count(1)
    return lambda: f"{next(numbers):016x}"


def read_request(text: str, body: bytes = b"") -> Request:
    """A request from its lines; Content-Length is not asked for."""
    message = parse_untrusted("\r\n".join((*text.strip().splitlines(), "", "")).encode() + body)
    assert isinstance(message, Request)
    return message


def reply(
    request: Request, status: int, *fields: tuple[str, str], tag: str | None = "theirs", body: bytes = b""
) -> Response:
    """What a peer answers, as it comes from the network."""
    extra = [*fields]
    if body:
        extra.append(("Content-Type", "application/sdp"))
    answer = answer_to(request.headers, status, tag=None if status == 100 else tag, extra=extra, body=body)
    message = parse_untrusted(bytes(answer))
    assert isinstance(message, Response)
    return message


def with_fields(request: Request, *fields: tuple[str, str]) -> Request:
    return attrs.evolve(request, headers=Headers((*request.headers, *fields)))
