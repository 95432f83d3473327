"""How IP addresses are compared."""

from __future__ import annotations

import pytest

from aivc.sip.address import SipUri, Via
from aivc.sip.ip import plain_ip, site_of


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::10", "2001:db8::10"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("PBX.example.com", "PBX.example.com"),
        ("", ""),
    ],
)
def test_each_address_has_one_spelling(text: str, plain: str) -> None:
    assert plain_ip(text) == plain


def test_one_ipv6_site_is_one_source() -> None:
    assert site_of("2001:db8::1") == site_of("2001:db8::ffff:1") != site_of("2001:db8:0:1::1")
    assert site_of("::ffff:192.0.2.1") == site_of("192.0.2.1") != site_of("192.0.2.2")
    assert site_of("fe80::1%eth0") == site_of("fe80::2%eth1")


def test_a_host_spelled_in_another_way_is_no_nat() -> None:
    assert Via("2001:DB8:0::10").stamped(("2001:db8::10", 5060)).received is None
    assert SipUri("2001:DB8:0::10").address == ("2001:db8::10", 5060)
