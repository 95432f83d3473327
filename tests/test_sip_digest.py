from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.sip.digest import (
    ALGORITHMS,
    Algorithm,
    Challenge,
    Credentials,
    answer_challenge,
    digest_response,
    parse_challenge,
    parse_credentials,
)
from aivc.sip.scanner import AddressError

# RFC 7616 section 3.9.1
MUFASA = Credentials(
    username="Mufasa",
    realm="http-auth@example.org",
    nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    uri="/dir/index.html",
    qop="auth",
    cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    nc="00000001",
    opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616_come_out(algorithm: Algorithm, response: str) -> None:
    assert digest_response(MUFASA, algorithm, "Circle of Life", "GET") == response


def test_the_example_of_rfc_2617_comes_out() -> None:
    text = (
        'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",'
        ' uri="/dir/index.html", qop=auth, nc=00000001, cnonce="0a4f113b",'
        ' response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    credentials = parse_credentials(text)
    assert credentials is not None
    assert digest_response(credentials, "MD5", "Circle Of Life", "GET") == credentials.response


def test_a_challenge_without_qop_gets_the_answer_of_rfc_2069() -> None:
    # The example of RFC 2069 section 2.4 with the value that its erratum 749 corrects it to
    challenge = Challenge(realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093")
    answer = answer_challenge(
        challenge,
        username="Mufasa",
        password="CircleOfLife",
        method="GET",
        uri="/dir/index.html",
        body=b"",
        cnonce="c",
        nc=1,
    )
    assert answer is not None
    assert (answer.qop, answer.cnonce, answer.nc) == (None, None, None)
    assert answer.response == "1949323746fe6a43ef61f9606e7febea"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("qop", ["auth", "auth-int"])
def test_what_is_answered_can_be_read_and_checked(algorithm: Algorithm, qop: str) -> None:
    challenge = Challenge(realm="a", nonce="n", algorithm=algorithm, qop=(qop,), opaque="o", stale=True)
    assert parse_challenge(str(challenge)) == challenge
    answer = answer_challenge(
        challenge, username="u", password="pä", method="BYE", uri="sip:x@y", body=b"body", cnonce="c", nc=0x2A
    )
    assert answer is not None
    assert (answer.nc, answer.cnonce, answer.opaque, answer.qop) == ("0000002a", "c", "o", qop)
    again = parse_credentials(str(answer))
    assert again == answer
    right = answer.response
    assert digest_response(again, algorithm, "pä", "BYE", b"body") == right
    assert digest_response(again, algorithm, "pa", "BYE", b"body") != right
    assert digest_response(again, algorithm, "pä", "INVITE", b"body") != right
    assert (digest_response(again, algorithm, "pä", "BYE", b"other") == right) is (qop == "auth")


def test_the_session_variants_hash_the_nonces_into_the_password() -> None:
    plain, session = (digest_response(MUFASA, name, "x", "GET") for name in ("MD5", "MD5-sess"))
    assert plain != session
    other = attrs.evolve(MUFASA, cnonce="other")
    assert digest_response(other, "MD5-sess", "x", "GET") != session


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Digest realm="r",nonce="n"', Challenge(realm="r", nonce="n")),
        ('digest NONCE="n" , Realm="r", ALGORITHM=sha-256', Challenge(realm="r", nonce="n", algorithm="SHA-256")),
        ('Digest realm="r", nonce="n", algorithm="md5"', Challenge(realm="r", nonce="n")),
        ('Digest realm="r", nonce="n", algorithm=AKAv1-MD5', Challenge(realm="r", nonce="n", algorithm="AKAv1-MD5")),
        ('Digest realm=r, nonce=n, qop="auth-int, AUTH,"', Challenge(realm="r", nonce="n", qop=("auth-int", "auth"))),
        ('Digest realm="r", nonce="", stale=TRUE,', Challenge(realm="r", nonce="", stale=True)),
        (r'Digest realm="a\"b, c\\", nonce="n",, x=y', Challenge(realm=r"a\"b, c\\", nonce="n")),
        ('Basic realm="r"', None),
        ("NTLM", None),
    ],
)  # fmt: skip
def test_challenges_are_read_as_they_are_met(text: str, expected: Challenge | None) -> None:
    assert parse_challenge(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Digest",
        "Digest ,",
        'Digest realm="r"',
        'Digest realm="r", nonce="n", realm="r"',
        'Digest realm="r", nonce="n',
        'Digest realm="r", nonce="n" x',
        'Digest realm="r", nonce=',
        'Digest realm "r"',
        "Digest realm=r, nonce=n," + ",".join(f"p{number}=1" for number in range(40)),
    ],
)
def test_broken_challenges_are_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_challenge(text)


GOOD = 'Digest username="u", realm="r", nonce="n", uri="sip:x", response="0"'


@pytest.mark.parametrize("name", ["username", "realm", "nonce", "uri", "response"])
def test_credentials_need_what_every_answer_has(name: str) -> None:
    assert parse_credentials(GOOD) is not None
    with pytest.raises(AddressError, match=f"no {name} "):
        parse_credentials(GOOD.replace(name, "x"))


@pytest.mark.parametrize("nc", ["1", "0000001", "000000001", "0000000g", '""', "+0000001"])
def test_a_nonce_count_has_eight_hexadecimal_digits(nc: str) -> None:
    with pytest.raises(AddressError):
        parse_credentials(f"{GOOD}, nc={nc}")


def test_a_challenge_that_we_cannot_answer_gets_none() -> None:
    ask = {"username": "u", "password": "p", "method": "BYE", "uri": "sip:x", "cnonce": "c"}
    for challenge in (
        Challenge(realm="r", nonce="n", algorithm="SHA-512-256", qop=("auth",)),
        Challenge(realm="r", nonce="n", qop=("auth-conf",)),
    ):
        assert answer_challenge(challenge, **ask, body=b"", nc=1) is None


@given(st.text(alphabet='Digest realm="r\\,= nonce\tqop\x00\x80\xff', max_size=60))
def test_nothing_but_the_one_error_comes_out_of_the_readers(text: str) -> None:
    for parse in (parse_challenge, parse_credentials):
        for prefix in ("", "Digest ", GOOD + ","):
            try:
                parse(prefix + text)
            except AddressError:
                continue
