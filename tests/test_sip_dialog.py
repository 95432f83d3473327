from __future__ import annotations

import pytest

from aivc.sip.address import SipUri, Via, parse_via
from aivc.sip.dialog import MAX_ROUTES, Acknowledgement, AwaitedAck, Dialog, dialog_id, reachable_address
from aivc.sip.message import Request, parse_untrusted
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
