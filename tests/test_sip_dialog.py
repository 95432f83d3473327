from __future__ import annotations

import attrs
import pytest

from aivc.sip.address import SipUri, Via, parse_uri, parse_via
from aivc.sip.dialog import (
    MAX_ROUTES,
    Acknowledgement,
    AwaitedAck,
    Dialog,
    asked_transport,
    dialog_id,
    reachable_address,
)
from aivc.sip.flow import Transport
from aivc.sip.message import Request, Response, answer_to, parse_untrusted
from aivc.sip.scanner import AddressError

VIA = Via("192.0.2.1", 5060, "UDP", (("branch", "z9hG4bKours"),))


def invite(
    *extra: str, contact: str = "<sip:alice@192.0.2.10:5070;x=y?Route=%3Csip:evil%3E>", cseq: int = 7
) -> Request:
    lines = [
        "INVITE sip:100@192.0.2.1 SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1",
        'From: "Alice \\" A" <sip:alice@example.com>;tag=theirs;x',
        "To: sip:100@192.0.2.1",
        "Call-ID: one",
        f"CSeq: {cseq} INVITE",
        *([f"Contact: {contact}"] if contact else []),
        *extra,
        "",
        "",
    ]
    message = parse_untrusted("\r\n".join(lines).encode())
    assert isinstance(message, Request)
    return message


def test_a_request_of_ours_swaps_from_and_to_and_leaves_them_unchanged() -> None:
    bye = Dialog.from_invite(invite(), "ours").request("BYE", VIA, [("Reason", "x")])
    assert bye.header("From") == "sip:100@192.0.2.1;tag=ours"
    assert bye.header("To") == 'From: "Alice \\" A" <sip:alice@example.com>;tag=theirs;x'.removeprefix("From: ")
    assert bye.target == "sip:alice@192.0.2.10:5070;x=y"
    assert bye.headers.lines("Route") == []
    assert bye.header("Reason") == "x"
    assert parse_untrusted(bytes(bye)) == bye


def test_our_cseq_counts_apart_from_theirs() -> None:
    dialog = Dialog.from_invite(invite(cseq=70), "ours")
    assert [str(dialog.request("BYE", VIA).cseq) for _ in range(2)] == ["1 BYE", "2 BYE"]


def test_loose_routers_are_kept_in_order_and_the_target_is_the_contact() -> None:
    routes = (
        "Record-Route: <sip:192.0.2.20;lr>, <sip:p2.example.com;lr;x=1>",
        "Record-Route: <sip:p3@192.0.2.22:5062;lr>",
    )
    dialog = Dialog.from_invite(invite(*routes), "ours")
    bye = dialog.request("BYE", VIA)
    assert bye.headers.lines("Route") == [
        "<sip:192.0.2.20;lr>",
        "<sip:p2.example.com;lr;x=1>",
        "<sip:p3@192.0.2.22:5062;lr>",
    ]
    assert bye.target == "sip:alice@192.0.2.10:5070;x=y"
    assert dialog.next_hop.address == ("192.0.2.20", 5060)


def test_a_strict_router_becomes_the_target_and_the_contact_the_last_route() -> None:
    dialog = Dialog.from_invite(invite("Record-Route: <sip:192.0.2.20>, <sip:192.0.2.21;lr>"), "ours")
    bye = dialog.request("BYE", VIA)
    assert bye.target == "sip:192.0.2.20"
    assert bye.headers.lines("Route") == ["<sip:192.0.2.21;lr>", "<sip:alice@192.0.2.10:5070;x=y>"]
    assert dialog.next_hop.address == ("192.0.2.20", 5060)


def test_only_a_lower_cseq_is_out_of_order() -> None:
    dialog = Dialog.from_invite(invite(cseq=7), "ours")
    assert not dialog.takes_in_order(invite(cseq=6))
    assert dialog.takes_in_order(invite(cseq=9))
    assert not dialog.takes_in_order(invite(cseq=8))


def test_a_peer_s_request_names_the_dialog_from_our_side() -> None:
    dialog = Dialog.from_invite(invite(), "ours")
    text = bytes(invite()).replace(b"To: sip:100@192.0.2.1", b"To: sip:100@192.0.2.1;tag=ours")
    request = parse_untrusted(text)
    assert isinstance(request, Request)
    assert dialog_id(request) == dialog.id == ("one", "ours", "theirs")


@pytest.mark.parametrize("contact", ["", "*", "<tel:+1>", "<sip:a@b>;;", "<sip:a@b>, <sip:c@d>", "<sip:a b@c>"])
def test_an_invite_without_one_usable_contact_makes_no_dialog(contact: str) -> None:
    with pytest.raises(AddressError, match="Contact"):
        Dialog.from_invite(invite(contact=contact), "ours")


@pytest.mark.parametrize("route", ["<tel:+1>", "nonsense", ",".join(["<sip:a;lr>"] * (MAX_ROUTES + 1))])
def test_a_broken_or_endless_record_route_makes_no_dialog(route: str) -> None:
    with pytest.raises(AddressError, match="Record-Route"):
        Dialog.from_invite(invite(f"Record-Route: {route}"), "ours")


def test_a_host_name_is_reached_where_the_invite_came_from() -> None:
    source = ("192.0.2.99", 5099)
    assert reachable_address(SipUri("phone.example.com", 5070), source) == source
    assert reachable_address(SipUri("192.0.2.10", 5070), source) == ("192.0.2.10", 5070)
    assert reachable_address(SipUri("2001:db8::1"), source) == ("2001:db8::1", 5060)


@pytest.mark.parametrize(
    ("text", "transport", "port"),
    [
        ("sip:192.0.2.10", None, 5060),
        ("sip:192.0.2.10;transport=UDP", "UDP", 5060),
        ("sip:192.0.2.10;transport=tcp", "TCP", 5060),
        ("sip:192.0.2.10;transport=tls", "TLS", 5061),
        ("sips:192.0.2.10", "TLS", 5061),
        ("sips:192.0.2.10;transport=tcp", "TLS", 5061),
        ("sips:192.0.2.10:5070", "TLS", 5070),
        ("sip:192.0.2.10;transport=ws", None, 5060),
        ("sip:192.0.2.10;maddr=203.0.113.1;transport", None, 5060),
    ],
)
def test_a_uri_says_by_what_and_where_it_is_reached(text: str, transport: Transport | None, port: int) -> None:
    uri = parse_uri(text)
    assert isinstance(uri, SipUri)
    assert asked_transport(uri) == transport
    assert reachable_address(uri, ("203.0.113.9", 1), transport or "UDP") == ("192.0.2.10", port)


# Dialogs that we make


def ours() -> Request:
    lines = [
        "INVITE sip:200@192.0.2.10 SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKi",
        "From: <sip:100@192.0.2.1>;tag=ours",
        "To: <sip:200@192.0.2.10>",
        "Call-ID: two",
        "CSeq: 3 INVITE",
        "Contact: <sip:192.0.2.1>",
        "",
        "",
    ]
    message = parse_untrusted("\r\n".join(lines).encode())
    assert isinstance(message, Request)
    return message


def answer(*fields: tuple[str, str], contact: str = "<sip:bob@192.0.2.30>", tag: str | None = "bob") -> Response:
    extra = [("Contact", contact), *fields] if contact else fields
    message = parse_untrusted(bytes(answer_to(ours().headers, 200, tag=tag, extra=extra)))
    assert isinstance(message, Response)
    return message


def test_a_dialog_of_ours_goes_on_with_the_next_cseq_by_the_record_route_turned_round() -> None:
    """RFC 3261 section 12.1.2."""
    dialog = Dialog.from_response(ours(), answer(("Record-Route", "<sip:192.0.2.21;lr>, <sip:192.0.2.20;lr>")))
    assert dialog.id == ("two", "ours", "bob")
    bye = dialog.request("BYE", VIA)
    assert (bye.target, str(bye.cseq)) == ("sip:bob@192.0.2.30", "4 BYE")
    assert bye.headers.lines("Route") == ["<sip:192.0.2.20;lr>", "<sip:192.0.2.21;lr>"]
    assert bye.header("From") == "<sip:100@192.0.2.1>;tag=ours"
    assert bye.header("To") == "<sip:200@192.0.2.10>;tag=bob"
    assert dialog.next_hop.address == ("192.0.2.20", 5060)


def test_the_first_request_of_the_peer_in_a_dialog_of_ours_may_have_any_cseq() -> None:
    dialog = Dialog.from_response(ours(), answer())
    assert dialog.takes_in_order(invite(cseq=0))
    assert dialog.takes_in_order(invite(cseq=5))
    assert not dialog.takes_in_order(invite(cseq=4))


def test_the_ack_of_a_2xx_has_the_cseq_of_its_invite_and_leaves_the_count_alone() -> None:
    dialog = Dialog.from_response(ours(), answer())
    ack = dialog.acknowledgement(3, VIA, body=b"v=0")
    assert (ack.method, str(ack.cseq), ack.target, ack.body) == ("ACK", "3 ACK", "sip:bob@192.0.2.30", b"v=0")
    assert str(dialog.request("BYE", VIA).cseq) == "4 BYE"


def test_the_2xx_of_an_early_dialog_teaches_the_way_anew() -> None:
    """RFC 3261 section 13.2.2.4."""
    dialog = Dialog.from_response(ours(), answer(("Record-Route", "<sip:192.0.2.20;lr>")))
    dialog.request("PRACK", VIA)
    dialog.confirm(answer(contact="<sip:bob@192.0.2.31>"))
    bye = dialog.request("BYE", VIA)
    assert (bye.target, str(bye.cseq), bye.headers.lines("Route")) == ("sip:bob@192.0.2.31", "5 BYE", [])


def test_a_2xx_without_a_tag_makes_a_dialog_with_an_old_peer() -> None:
    assert Dialog.from_response(ours(), answer(tag=None)).id == ("two", "ours", "")


@pytest.mark.parametrize("contact", ["", "*", "<tel:+1>", "<sip:a@b>, <sip:c@d>"])
def test_a_2xx_without_one_usable_contact_makes_no_dialog(contact: str) -> None:
    with pytest.raises(AddressError, match="Contact"):
        Dialog.from_response(ours(), answer(contact=contact))


def test_the_target_moves_with_a_contact_and_stays_without_one() -> None:
    dialog = Dialog.from_invite(invite(), "ours")
    dialog.refresh_target(answer(contact="<sip:alice@192.0.2.77?Route=%3Csip:x%3E>"))
    assert str(dialog.remote_target) == "sip:alice@192.0.2.77"
    dialog.refresh_target(answer(contact=""))
    assert str(dialog.remote_target) == "sip:alice@192.0.2.77"
    with pytest.raises(AddressError):
        dialog.refresh_target(answer(contact="<tel:+1>"))


@pytest.mark.parametrize(
    ("target", "contact", "routes", "secure"),
    [
        ("sips:100@192.0.2.1", "<sip:a@192.0.2.10>", (), True),
        ("sip:100@192.0.2.1", "<sips:a@192.0.2.10>", (), True),
        ("sip:100@192.0.2.1", "<sips:a@192.0.2.10>", ("Record-Route: <sip:192.0.2.20;lr>",), False),
        ("sip:100@192.0.2.1", "<sip:a@192.0.2.10>", ("Record-Route: <sips:192.0.2.20;lr>",), True),
        ("sip:100@192.0.2.1", "<sip:a@192.0.2.10;transport=tls>", (), False),
    ],
)
def test_a_dialog_is_secure_when_the_peer_says_sips_where_the_standard_looks(
    target: str, contact: str, routes: tuple[str, ...], secure: bool
) -> None:
    """RFC 3261 section 12.1.1."""
    request = attrs.evolve(invite(*routes, contact=contact), target=target)
    assert Dialog.from_invite(request, "ours").secure is secure


def test_a_2xx_is_resent_at_t1_doubling_to_t2_and_given_up_after_64_t1() -> None:
    awaited = AwaitedAck(100.0)
    log = []
    while awaited.deadline < 1000:
        now = awaited.deadline
        assert awaited.expire(now - 0.001) is None
        log.append((now - 100, awaited.expire(now)))
        if log[-1][1] is Acknowledgement.GIVE_UP:
            break
    resent = [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert log == [*((at, Acknowledgement.RESEND) for at in resent), (32.0, Acknowledgement.GIVE_UP)]


def test_our_via_is_readable() -> None:
    assert parse_via(str(VIA)) == VIA
