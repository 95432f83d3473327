"""Requests of ours in a dialog: by which flow, with which Contact and Via, and how challenges are answered."""

from __future__ import annotations

import attrs
import pytest
from paper_flow import OURS, PBX, PaperFlow, PaperTransports, read_request, reply, tokens

from aivc.config.settings import Address
from aivc.sip.address import parse_name_addr
from aivc.sip.dialog import Dialog
from aivc.sip.dialog_client import Credentials, DialogClient, contact_of
from aivc.sip.flow import Arrival, Transport
from aivc.sip.message import Request, Response
from aivc.sip.timers import Timers
from aivc.sip.transaction_layer import TransactionLayer

CHALLENGE = ("WWW-Authenticate", 'Digest realm="pbx", nonce="n", qop="auth"')


@attrs.define
class PaperCredentials:
    """Has a password for one host."""

    host: str = PBX[0]
    asked: list[tuple[str, Address]] = attrs.field(factory=list)

    def answer(self, request: Request, response: Response, peer: Address) -> tuple[str, str] | None:
        self.asked.append((request.method, peer))
        return ("Authorization", f"Digest {request.cseq.number}") if peer[0] == self.host else None


def client(
    near: PaperFlow,
    *fields: str,
    contact: str = "<sip:alice@192.0.2.10:5060>",
    via: str = "192.0.2.10",
    credentials: Credentials | None = None,
    transports: PaperTransports | None = None,
) -> DialogClient:
    """For the dialog of an INVITE that came over `near`."""
    lines = (
        "INVITE sip:100@192.0.2.1 SIP/2.0",
        f"Via: SIP/2.0/{near.transport} {via};branch=z9hG4bKi",
        "From: <sip:alice@example.com>;tag=theirs",
        "To: <sip:100@192.0.2.1>",
        "Call-ID: one",
        "CSeq: 7 INVITE",
        f"Contact: {contact}",
        *fields,
    )
    invite = read_request("\n".join(lines))
    layer = TransactionLayer(Timers(), tokens(), transports or PaperTransports())
    transaction = layer.begin(invite, Arrival(invite, near, len(bytes(invite))))
    return DialogClient.of_invite(Dialog.from_invite(invite, transaction.tag), transaction, credentials)


def made(asking: DialogClient) -> list[PaperFlow]:
    transports = asking.layer.transports
    assert isinstance(transports, PaperTransports)
    return transports.made


async def test_a_request_names_us_as_its_flow_says_and_what_we_are() -> None:
    near = PaperFlow(local=("203.0.113.5", 5080))
    client(near).send("BYE", (("Reason", "x"),))
    (bye,) = near.requests
    assert (bye.via.host, bye.via.port, bye.via.transport) == ("203.0.113.5", 5080, "UDP")
    assert str(bye.via).endswith(";rport")
    assert bye.header("Max-Forwards") == "70"
    assert bye.header("User-Agent").startswith("aivc")
    assert bye.header("Reason") == "x"


@pytest.mark.parametrize(
    ("contact", "source", "goes_to"),
    [
        ("<sip:a@192.0.2.10:5070>", PBX, ("192.0.2.10", 5070)),  # RFC 3261: to the Contact
        ("<sip:a@192.0.2.99>", PBX, ("192.0.2.99", 5060)),
        ("<sip:a@phone.example.com>", PBX, PBX),  # no DNS by order of a peer
        ("<sip:a@192.0.2.10:5070>", ("198.51.100.7", 40000), ("198.51.100.7", 40000)),  # Via and Contact behind a NAT
        ("<sip:a@192.0.2.99>", ("198.51.100.7", 40000), ("192.0.2.99", 5060)),  # Contact of another host
    ],
)
async def test_over_udp_the_contact_is_asked_or_the_nat_before_it(
    contact: str, source: Address, goes_to: Address
) -> None:
    assert client(PaperFlow(peer=source), contact=contact).flow.peer == goes_to


async def test_a_route_is_followed_even_behind_a_nat() -> None:
    near = PaperFlow(peer=("198.51.100.7", 40000))
    asking = client(near, "Record-Route: <sip:192.0.2.20:5062;lr>", contact="<sip:a@192.0.2.10>")
    assert asking.flow.peer == ("192.0.2.20", 5062)


@pytest.mark.parametrize("transport", ["TCP", "TLS"])
@pytest.mark.parametrize(
    ("contact", "route"),
    [
        ("<sip:a@192.0.2.10:5060;transport={}>", ()),
        ("<sip:a@192.0.2.10:5060>", ()),  # says nothing: by what it came
        ("<sip:a@phone.example.com;transport={}>", ()),
        ("<sip:a@192.0.2.77>", ("Record-Route: <sip:192.0.2.10;transport={};lr>",)),  # the proxy that called us
    ],
)
async def test_an_open_connection_to_the_next_hop_is_used(
    transport: Transport, contact: str, route: tuple[str, ...]
) -> None:
    near = PaperFlow(transport, peer=("192.0.2.10", 41234))
    fields = [field.format(transport.lower()) for field in route]
    asking = client(near, *fields, contact=contact.format(transport.lower()))
    assert asking.flow is near
    asking.send("OPTIONS")
    assert near.requests[0].via.transport == transport


@pytest.mark.parametrize(("transport", "port"), [("TCP", 5060), ("TLS", 5061)])
async def test_after_the_loss_of_the_connection_another_is_made_to_where_they_listen(
    transport: Transport, port: int
) -> None:
    near = PaperFlow(transport, peer=("192.0.2.10", 41234), is_open=False)
    for contact in ("<sip:a@192.0.2.10>", "<sip:a@phone.example.com>"):
        asking = client(near, contact=contact)
        asking.send("BYE")
        (flow,) = made(asking)
        assert (flow.transport, flow.peer, flow.methods) == (transport, ("192.0.2.10", port), ["BYE"])


async def test_another_proxy_gets_a_connection_of_its_own() -> None:
    near = PaperFlow("TCP", peer=("192.0.2.10", 41234))
    asking = client(near, "Record-Route: <sip:192.0.2.20;transport=tcp;lr>")
    asking.send("BYE")
    assert [flow.peer for flow in made(asking)] == [("192.0.2.20", 5060)]
    assert near.sent == []


@pytest.mark.parametrize(
    ("route", "transport", "port"),
    [("sip:192.0.2.20;transport=tcp;lr", "TCP", 5060), ("sips:192.0.2.20;lr", "TLS", 5061)],
)
async def test_the_next_hop_says_by_what_it_is_reached(route: str, transport: Transport, port: int) -> None:
    flow = client(PaperFlow(), f"Record-Route: <{route}>").flow
    assert (flow.transport, flow.peer) == (transport, ("192.0.2.20", port))


async def test_without_a_socket_of_the_kind_that_is_asked_for_the_way_they_came_is_taken() -> None:
    near = PaperFlow()
    transports = PaperTransports(missing=frozenset({"TCP"}))
    assert client(near, contact="<sip:a@192.0.2.10;transport=tcp>", transports=transports).flow is near


@pytest.mark.parametrize(
    ("transport", "secure", "contact"),
    [
        ("UDP", False, "sip:192.0.2.1:5060"),
        ("TCP", False, "sip:192.0.2.1:5060;transport=tcp"),
        ("TLS", False, "sip:192.0.2.1:5060;transport=tls"),
        ("TLS", True, "sips:192.0.2.1:5060"),
    ],
)
def test_our_contact_says_by_what_we_are_reached(transport: Transport, secure: bool, contact: str) -> None:
    assert contact_of(PaperFlow(transport), secure=secure) == contact
    asking = client(PaperFlow(transport), contact=f"<sip{'s' * secure}:a@192.0.2.10>")
    assert asking.contact_field == ("Contact", f"<{contact}>")
    assert str(parse_name_addr(asking.contact_field[1]).uri) == contact


def test_our_contact_may_be_ipv6() -> None:
    assert contact_of(PaperFlow("TCP", local=("2001:db8::1", 5060))) == "sip:[2001:db8::1]:5060;transport=tcp"
    assert client(PaperFlow()).address == OURS


async def test_two_challenges_of_our_own_server_are_answered_each_with_a_new_branch_and_cseq() -> None:
    near, credentials = PaperFlow(), PaperCredentials()
    asking = client(near, credentials=credentials)
    asked = asking.send("BYE", (("Reason", "x"),), b"")
    repeated: list[Request] = []
    told: list[Response | None] = []
    asked.repeated, asked.report = repeated.append, told.append
    first = asked.request
    asking.layer.receive_response(reply(first, 401, CHALLENGE))
    assert told == []
    assert not asked.done.is_set()
    _, second = near.requests
    assert repeated == [asked.request]
    assert second == asked.request
    assert (second.header("Authorization"), second.header("Reason")) == ("Digest 1", "x")
    assert [request.cseq.number for request in (first, second)] == [1, 2]
    assert first.via.branch != second.via.branch
    asking.layer.receive_response(reply(second, 401, CHALLENGE))
    third = near.requests[-1]
    assert third.cseq.number == 3
    asking.layer.receive_response(reply(third, 401, CHALLENGE))
    assert asked.done.is_set()
    assert [response.status for response in told if response] == [401]
    assert near.methods == ["BYE"] * 3
    assert credentials.asked == [("BYE", PBX)] * 2


@pytest.mark.parametrize("credentials", [None, PaperCredentials("203.0.113.200")])
async def test_a_challenge_of_anybody_else_is_final(credentials: Credentials | None) -> None:
    """Who could have us answer challenges could guess the password at leisure (CVE-2021-41158)."""
    near = PaperFlow()
    asking = client(near, credentials=credentials)
    asked = asking.send("BYE")
    asking.layer.receive_response(reply(asked.request, 407, CHALLENGE))
    assert asked.response is not None
    assert asked.response.status == 407
    assert near.methods == ["BYE"]
    assert b"uthorization" not in b"".join(near.sent)


async def test_a_new_invite_of_ours_is_acknowledged_with_its_credentials_as_often_as_its_2xx_comes() -> None:
    near = PaperFlow()
    asking = client(near, credentials=PaperCredentials())
    asked = asking.send("INVITE", (asking.contact_field,), b"v=0")
    rung: list[Response] = []
    asked.provisional = rung.append
    asking.layer.receive_response(reply(asked.request, 401, CHALLENGE))
    asking.layer.receive_response(reply(asked.request, 180))
    answer = reply(asked.request, 200)
    asking.layer.receive_response(answer)
    assert asked.response == answer
    assert [response.status for response in rung] == [180]
    asking.acknowledge(asked.request.cseq.number, b"answer", (("Content-Type", "application/sdp"),))
    asking.layer.receive_response(answer)
    acks = [request for request in near.requests if request.method == "ACK"][1:]  # the first was for the 401
    assert len(acks) == 2
    assert acks[0] == acks[1]
    assert (str(acks[0].cseq), acks[0].body, acks[0].header("Authorization")) == ("2 ACK", b"answer", "Digest 1")
    assert acks[0].via.branch != asked.request.via.branch
    assert str(asking.send("BYE").request.cseq) == "3 BYE"


async def test_a_cancelled_invite_answers_no_challenge() -> None:
    near = PaperFlow()
    asking = client(near, credentials=PaperCredentials())
    asked = asking.send("INVITE", (), b"v=0")
    asked.cancel()
    asking.layer.receive_response(reply(asked.request, 100))
    asking.layer.receive_response(reply(asked.request, 401, CHALLENGE))
    assert near.methods == ["INVITE", "CANCEL", "ACK"]
    assert asked.response is not None


async def test_an_ack_for_an_invite_that_was_never_sent_is_none() -> None:
    near = PaperFlow()
    client(near).acknowledge(4)
    assert near.sent == []
