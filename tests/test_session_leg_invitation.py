"""What the headers of an INVITE tell that others have passed on."""

from __future__ import annotations

import pytest
from session_leg_parts import Field, invite

from aivc.config.settings import Address
from aivc.sip.invitation import addressee, origin_of, read_expires
from aivc.sip.uasession import request_of

PRIVATE = ("Via", "SIP/2.0/UDP 192.168.1.7:5060;branch=z9hG4bK1")
CONTACT = ("Contact", "<sip:probe@192.168.1.7>")


def via(text: str) -> Field:
    return "Via", f"SIP/2.0/UDP {text};branch=z9hG4bK1"


@pytest.mark.parametrize(
    ("fields", "source"),
    [
        ((via("8.8.8.8:5062"), CONTACT), ("8.8.8.8", 5062)),
        ((via("10.0.0.1"), via("192.168.1.7;received=8.8.8.8;rport=40000"), CONTACT), ("8.8.8.8", 40000)),
        ((PRIVATE, ("Contact", "<sip:probe@8.8.8.8:7000;transport=tcp>")), ("8.8.8.8", 7000)),
        ((via("10.0.0.1:5070"), PRIVATE, CONTACT), ("10.0.0.1", 5070)),
        ((via("pbx.example.com"), PRIVATE, CONTACT), ("192.168.1.7", 5060)),
        ((via("pbx.example.com"), ("Contact", "*")), None),
        ((via("[2606:4700::1]:5060"), CONTACT), ("2606:4700::1", 5060)),
    ],
)
def test_the_source_is_the_first_public_address_else_the_topmost(
    fields: tuple[Field, ...], source: Address | None
) -> None:
    assert origin_of(request_of(invite(*fields))) == source


@pytest.mark.parametrize(
    ("to", "number"),
    [
        ("<sip:1000@example.com>", "1000"),
        ("<sips:a%2fb@example.com>", "a/b"),
        ("<sip:example.com>", ""),
        ("<tel:+4930123;phone-context=example.com>", "+4930123"),
        ("<urn:service:sos>", ""),
    ],
)
def test_what_was_dialled_is_the_user_of_to(to: str, number: str) -> None:
    assert addressee(request_of(invite(("To", to)))) == number


@pytest.mark.parametrize(("text", "seconds"), [("20", 20), ("0", 0), ("301", None), ("soon", None), ("-1", None)])
def test_expires_counts_up_to_the_longest_ringing(text: str, seconds: int | None) -> None:
    assert read_expires(request_of(invite(("Expires", text)))) == seconds
