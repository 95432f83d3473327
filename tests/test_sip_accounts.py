from __future__ import annotations

import random

import attrs
import pytest

from aivc.config.secret import Secret
from aivc.config.settings import Address, SipRegister, SipSettings
from aivc.sip.accounts import Accounts, with_credentials
from aivc.sip.digest import Algorithm, Credentials, digest_response, known_algorithm, parse_credentials
from aivc.sip.message import Headers, Request, Response, answer_to, parse_untrusted

SERVER: Address = ("192.0.2.50", 5060)
PBX = SipRegister(user="200", server="192.0.2.50", password=Secret("s3cret"))
NAMED = attrs.evolve(PBX, server="pbx.example.com:5070")


def accounts(*registers: SipRegister) -> Accounts:
    return Accounts(SipSettings(register=registers or (PBX,)), random.Random(3))


def bye(*fields: str, user: str = "200", method: str = "BYE", body: str = "") -> Request:
    lines = [
        f"{method} sip:100@192.0.2.50 SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
        f"From: <sip:{user}@192.0.2.50>;tag=1",
        "To: <sip:100@192.0.2.50>;tag=2",
        "Call-ID: 1",
        f"CSeq: 1 {method}",
        *fields,
        f"Content-Length: {len(body)}",
    ]
    message = parse_untrusted(("\r\n".join([*lines, "", ""]) + body).encode())
    assert isinstance(message, Request)
    return message


def challenge(*parameters: str, status: int = 401) -> Response:
    """A response with one challenge for each list of parameters."""
    name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
    fields = [(name, f'Digest realm="pbx", nonce="n1"{each and ", "}{each}') for each in parameters]
    return answer_to(bye().headers, status, "", extra=fields)


AUTH = 'qop="auth"'


def answered(found: tuple[str, str] | None) -> Credentials:
    assert found is not None
    credentials = parse_credentials(found[1])
    assert credentials is not None
    return credentials


def is_right(credentials: Credentials, method: str = "BYE", body: bytes = b"", password: str = "s3cret") -> bool:
    algorithm = known_algorithm(credentials.algorithm)
    assert algorithm is not None
    return digest_response(credentials, algorithm, password, method, body) == credentials.response


@pytest.mark.parametrize(("status", "name"), [(401, "Authorization"), (407, "Proxy-Authorization")])
def test_a_server_that_asks_gets_the_password_of_its_account(status: int, name: str) -> None:
    found = accounts().answer(bye(), challenge(AUTH, status=status), SERVER)
    assert found is not None
    assert found[0] == name
    credentials = answered(found)
    assert is_right(credentials)
    assert (credentials.username, credentials.uri, credentials.nc) == ("200", "sip:100@192.0.2.50", "00000001")
    assert "s3cret" not in found[1]


@pytest.mark.parametrize("peer", [("192.0.2.51", 5060), ("2001:db8::1", 5060), ("pbx.example.com", 5060)])
def test_nobody_else_gets_anything(peer: Address) -> None:
    assert accounts().answer(bye(), challenge(AUTH), peer) is None
    assert accounts(NAMED).answer(bye(), challenge(AUTH), peer) is None


def test_a_server_that_is_known_by_name_is_known_once_it_was_looked_up() -> None:
    ours = accounts(NAMED)
    assert ours.answer(bye(), challenge(AUTH), SERVER) is None
    ours.learn(NAMED, ["192.0.2.50", "2001:DB8:0::50"])
    assert is_right(answered(ours.answer(bye(), challenge(AUTH), ("::ffff:192.0.2.50", 5080))))
    assert is_right(answered(ours.answer(bye(), challenge(AUTH), ("2001:db8::50", 5060))))
    ours.learn(NAMED, ["192.0.2.51"])
    assert ours.answer(bye(), challenge(AUTH), SERVER) is None
    assert ours.is_server("192.0.2.51")
    assert not ours.is_server("192.0.2.50")


@pytest.mark.parametrize(
    ("offered", "algorithm"),
    [
        (("algorithm=MD5, " + AUTH, "algorithm=SHA-256, " + AUTH), "SHA-256"),
        (("algorithm=SHA-512-256, " + AUTH, AUTH), "MD5"),
        (("algorithm=MD5-sess, " + AUTH,), "MD5-sess"),
        (("algorithm=SHA-256, qop=auth-conf", "algorithm=MD5, " + AUTH), "MD5"),
        (('nonce="twice"', AUTH), "MD5"),
        (("stale=false",), "MD5"),
    ],
)
def test_the_strongest_algorithm_that_both_have_is_taken(offered: tuple[str, ...], algorithm: Algorithm) -> None:
    credentials = answered(accounts().answer(bye(), challenge(*offered), SERVER))
    assert credentials.algorithm == algorithm
    assert is_right(credentials)


def test_a_challenge_that_cannot_be_answered_is_not() -> None:
    assert accounts().answer(bye(), challenge("algorithm=AKAv1-MD5"), SERVER) is None
    assert accounts().answer(bye(), challenge(), SERVER) is None
    assert accounts().answer(bye(), challenge(AUTH, status=403), SERVER) is None


def test_a_body_is_protected_where_the_server_insists() -> None:
    request = bye("Content-Type: text/plain", body="hello", method="INFO")
    credentials = answered(accounts().answer(request, challenge('qop="auth-int"'), SERVER))
    assert credentials.qop == "auth-int"
    assert is_right(credentials, "INFO", b"hello")
    assert not is_right(credentials, "INFO", b"hallo")


def test_each_use_of_a_nonce_is_counted() -> None:
    ours = accounts()
    found = [answered(ours.answer(bye(), challenge(AUTH), SERVER)) for _ in range(11)]
    assert [each.nc for each in found] == [f"{number:08x}" for number in range(1, 12)]
    assert len({each.cnonce for each in found}) == 11


def test_only_so_many_nonces_are_counted() -> None:
    ours = accounts()
    for number in range(1000):
        response = answer_to(bye().headers, 401, "", extra=[("WWW-Authenticate", f'Digest realm="", nonce="{number}"')])
        assert ours.answer(bye(), response, SERVER) is not None
    assert len(ours._counts) == 64


def test_a_password_that_was_refused_is_not_sent_again() -> None:
    ours = accounts()
    first = ours.answer(bye(), challenge(AUTH), SERVER)
    assert first is not None
    again = bye(f"{first[0]}: {first[1]}")
    assert ours.answer(again, challenge(AUTH), SERVER) is None
    assert ours.answer(again, challenge('nonce2="n2", ' + AUTH), SERVER) is None


def test_a_nonce_that_is_only_too_old_is_replaced() -> None:
    ours = accounts()
    first = ours.answer(bye(), challenge(AUTH), SERVER)
    assert first is not None
    stale = answer_to(bye().headers, 401, "", extra=[("WWW-Authenticate", 'Digest realm="pbx",nonce="n2",stale=true')])
    second = answered(ours.answer(bye(f"{first[0]}: {first[1]}"), stale, SERVER))
    assert second.nonce == "n2"


def test_a_proxy_and_the_server_may_both_ask() -> None:
    ours = accounts()
    first = ours.answer(bye(), challenge(AUTH, status=407), SERVER)
    assert first is not None
    second = ours.answer(bye(f"{first[0]}: {first[1]}"), challenge(AUTH), SERVER)
    assert second is not None
    assert second[0] == "Authorization"


def test_of_two_accounts_at_one_server_that_of_the_sender_is_taken() -> None:
    other = attrs.evolve(PBX, user="201", auth_user="auth-201", password=Secret("0ther"))
    ours = accounts(PBX, other)
    assert answered(ours.answer(bye(), challenge(AUTH), SERVER)).username == "200"
    credentials = answered(ours.answer(bye(user="201"), challenge(AUTH), SERVER))
    assert credentials.username == "auth-201"
    assert is_right(credentials, password="0ther")
    assert answered(ours.answer(bye(user="elsewhere"), challenge(AUTH), SERVER)).username == "200"


def test_an_account_without_a_password_answers_nothing() -> None:
    assert accounts(attrs.evolve(PBX, password=None)).answer(bye(), challenge(AUTH), SERVER) is None


def test_what_a_challenge_says_cannot_break_out_of_the_answer() -> None:
    text = r'Digest realm="a\", nonce=\"x", nonce="n", opaque="\\", qop="auth"'
    response = attrs.evolve(challenge(), headers=Headers((*challenge().headers, ("WWW-Authenticate", text))))
    credentials = answered(accounts().answer(bye(), response, SERVER))
    assert (credentials.realm, credentials.nonce, credentials.opaque) == (r"a\", nonce=\"x", "n", "\\\\")


def test_no_nonce_is_answered_twice_however_stale_it_is_called() -> None:
    """Else a server could have us repeat a request for ever."""
    found = accounts().answer(bye(), challenge(AUTH), SERVER)
    assert found is not None
    again = challenge(f"{AUTH}, stale=true")
    assert accounts().answer(bye(": ".join(found)), again, SERVER) is None


def test_credentials_for_several_realms_stand_side_by_side() -> None:
    def field(name: str, realm: str, nonce: str) -> tuple[str, str]:
        return name, f'Digest username="u", realm="{realm}", nonce="{nonce}", uri="sip:x", response="0"'

    name = "Proxy-Authorization"
    plain, first, newer = ("Reason", "x"), field(name, "a", "1"), field(name, "a", "2")
    second, other = field(name, "b", "1"), field("Authorization", "a", "1")
    fields = (plain, first, second, other)
    assert with_credentials((plain, first), second) == (plain, first, second)
    assert with_credentials(fields, newer) == (plain, second, other, newer)
    assert with_credentials((("Authorization", "Basic x"),), other) == (("Authorization", "Basic x"), other)
