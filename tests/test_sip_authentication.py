from __future__ import annotations

import random

import attrs
import pytest

from aivc.config.secret import Secret
from aivc.config.settings import SipSettings, SipUser
from aivc.sip.authentication import (
    MAX_NONCES,
    MAX_SOURCES,
    MAX_WRONG,
    SILENCE_SECONDS,
    WRONG_SECONDS,
    Authentication,
)
from aivc.sip.digest import Challenge, Credentials, answer_challenge, parse_challenge
from aivc.sip.inspection import Refusal
from aivc.sip.message import Request, parse_untrusted

HERE = "192.0.2.10"
USERS = (SipUser(name="trunk", password=Secret("s3cret")), SipUser(name="other", password=Secret("else")))
SETTINGS = SipSettings(users=USERS, realm="aivc", nonce_seconds=300.0)


def invite(*fields: str, target: str = "sip:100@192.0.2.1", method: str = "INVITE") -> Request:
    lines = [
        f"{method} {target} SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1",
        "From: <sip:trunk@192.0.2.10>;tag=1",
        "To: <sip:100@192.0.2.1>",
        "Call-ID: 1",
        f"CSeq: 1 {method}",
        *fields,
    ]
    message = parse_untrusted("\r\n".join([*lines, "", ""]).encode("latin-1"))
    assert isinstance(message, Request)
    return message


def cause_of(refusal: Refusal | None) -> str:
    return "" if refusal is None else refusal.cause


def status_of(refusal: Refusal | None) -> int | None:
    return None if refusal is None else refusal.status


def challenges(refusal: Refusal | None) -> list[Challenge]:
    """Those of a 401."""
    assert refusal is not None
    assert refusal.status == 401, refusal
    assert {name for name, _ in refusal.headers} == {"WWW-Authenticate"}
    return [challenge for _, value in refusal.headers if (challenge := parse_challenge(value)) is not None]


@attrs.define
class Caller:
    """A phone with a password, and the nonce that it holds."""

    server: Authentication = attrs.field(factory=lambda: Authentication(SETTINGS, random.Random(1)))
    ip: str = HERE
    user: str = "trunk"
    password: str = "s3cret"
    nc: int = 0
    challenge: Challenge | None = None

    def ask(self, now: float, algorithm: str = "SHA-256") -> Challenge:
        found = challenges(self.server.challenge(invite(), self.ip, now))
        self.challenge = next(each for each in found if each.algorithm == algorithm)
        self.nc = 0
        return self.challenge

    def credentials(self, uri: str = "sip:100@192.0.2.1", nc: int | None = None, method: str = "INVITE") -> Credentials:
        assert self.challenge is not None
        self.nc = self.nc + 1 if nc is None else nc
        answer = answer_challenge(
            self.challenge,
            username=self.user,
            password=self.password,
            method=method,
            uri=uri,
            body=b"",
            cnonce="c",
            nc=self.nc,
        )
        assert answer is not None
        return answer

    def call(self, now: float, credentials: Credentials | str | None = None, *before: str) -> Refusal | None:
        given = self.credentials() if credentials is None else credentials
        return self.server.challenge(invite(*before, f"Authorization: {given}"), self.ip, now)


@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
def test_a_user_with_the_right_password_may_call(algorithm: str) -> None:
    caller = Caller()
    caller.ask(0.0, algorithm)
    assert caller.call(0.0) is None
    assert caller.call(299.0) is None, "and again with the next nonce count"


def test_without_users_nobody_is_asked() -> None:
    assert Authentication(SipSettings(), random.Random(1)).challenge(invite(), HERE, 0.0) is None


def test_both_algorithms_are_offered_the_stronger_first() -> None:
    first, second = challenges(Caller().server.challenge(invite(), HERE, 5.0))
    assert (first.algorithm, second.algorithm) == ("SHA-256", "MD5")
    assert first.nonce != second.nonce
    assert {(each.realm, each.qop, each.stale) for each in (first, second)} == {("aivc", ("auth",), False)}


def test_a_challenge_is_short_enough_to_be_sent_to_anybody() -> None:
    refusal = Caller().server.challenge(invite(), HERE, 5.0)
    assert refusal is not None
    assert sum(len(f"{name}: {value}\r\n") for name, value in refusal.headers) < 250


def test_credentials_among_those_for_others_are_found() -> None:
    caller = Caller()
    caller.ask(0.0)
    others = 'Authorization: Digest username="a", realm="b", nonce="c", uri="sip:d", response="e"'
    assert caller.call(0.0, None, "Authorization: Basic Zm9vOmJhcg==", others) is None


def test_credentials_for_another_realm_are_none() -> None:
    caller = Caller()
    caller.challenge = attrs.evolve(caller.ask(0.0), realm="elsewhere")
    refusal = caller.call(0.0)
    assert cause_of(refusal) == "no credentials"


@pytest.mark.parametrize(
    ("user", "password", "cause"),
    [
        ("trunk", "wrong", "wrong password"),
        ("trunk", "else", "wrong password"),
        ("trunk", "", "wrong password"),
        ("nobody", "s3cret", "unknown user"),
        ("", "", "unknown user"),
    ],
)
def test_known_and_unknown_users_get_the_same_answer(user: str, password: str, cause: str) -> None:
    caller = Caller(user=user, password=password)
    caller.ask(0.0)
    refusal = caller.call(1.0)
    assert cause_of(refusal) == cause
    assert [attrs.evolve(each, nonce="") for each in challenges(refusal)] == [
        Challenge(realm="aivc", nonce="", algorithm=algorithm, qop=("auth",)) for algorithm in ("SHA-256", "MD5")
    ]


def test_an_empty_response_is_wrong() -> None:
    caller = Caller()
    caller.ask(0.0)
    refusal = caller.call(0.0, attrs.evolve(caller.credentials(), response=""))
    assert cause_of(refusal) == "wrong password"


def test_a_nonce_that_is_too_old_is_stale_for_who_knows_the_password() -> None:
    caller = Caller()
    caller.ask(0.0)
    assert all(each.stale for each in challenges(caller.call(300.1)))
    guesser = Caller(caller.server, password="guess")
    guesser.ask(0.0)
    assert not any(each.stale for each in challenges(guesser.call(300.1)))


def test_a_nonce_count_is_good_once() -> None:
    caller = Caller()
    caller.ask(0.0)
    first = caller.credentials()
    assert caller.call(0.0, first) is None
    assert all(each.stale for each in challenges(caller.call(0.0, first)))
    assert all(each.stale for each in challenges(caller.call(0.0, caller.credentials(nc=0))))


def test_requests_may_overtake_each_other_a_little() -> None:
    caller = Caller()
    caller.ask(0.0)
    served = [caller.call(0.0, caller.credentials(nc=nc)) is None for nc in (5, 3, 4, 3, 5, 69, 5, 6, 2**32 - 1, 70)]
    assert served == [True, True, True, False, False, True, False, True, True, False]


def test_a_nonce_is_bound_to_the_source_that_got_it() -> None:
    caller = Caller()
    caller.ask(0.0)
    refusal = caller.server.challenge(invite(f"Authorization: {caller.credentials()}"), "192.0.2.11", 0.0)
    assert not challenges(refusal)[0].stale


@pytest.mark.parametrize("nonce", ["", "f" * 32, "!" * 32, "f" * 31, "é" * 32, "A" * 4000])
def test_a_nonce_that_we_did_not_make_is_refused(nonce: str) -> None:
    caller = Caller()
    caller.challenge = attrs.evolve(caller.ask(0.0), nonce=nonce)
    refusal = caller.call(0.0)
    assert cause_of(refusal).startswith("nonce of somebody else")


def test_a_nonce_of_another_process_is_refused() -> None:
    caller = Caller()
    caller.ask(0.0)
    caller.server = Authentication(SETTINGS, random.Random(2))
    assert challenges(caller.call(0.0))


def test_a_nonce_of_a_worker_beside_us_is_stale_for_who_knows_the_password_and_used_nowhere_twice() -> None:
    key = bytes(32)
    one, other = (Authentication(SETTINGS, random.Random(seed), key) for seed in (1, 2))
    caller = Caller(one)
    caller.ask(1000.0)
    captured = caller.credentials()
    assert caller.call(1000.0, captured) is None
    caller.server = other
    assert {each.stale for each in challenges(caller.call(3.0, captured))} == {True}  # clocks differ, too
    caller.password = "wrong"
    assert {each.stale for each in challenges(caller.call(3.0))} == {False}


def test_a_worker_in_the_place_of_another_does_not_take_its_nonces() -> None:
    caller = Caller(Authentication(SETTINGS, random.Random(1), bytes(32)))
    caller.ask(0.0)
    captured = caller.credentials()
    assert caller.call(0.0, captured) is None
    caller.server = Authentication(SETTINGS, random.Random(2), bytes(32))
    assert {each.stale for each in challenges(caller.call(0.0, captured))} == {True}


def test_the_algorithm_cannot_be_swapped() -> None:
    caller = Caller()
    caller.challenge = attrs.evolve(caller.ask(0.0, "SHA-256"), algorithm="MD5")
    assert challenges(caller.call(0.0))
    caller.challenge = attrs.evolve(caller.ask(0.0, "SHA-256"), algorithm="SHA-256-sess")
    assert challenges(caller.call(0.0))
    swapped = attrs.evolve(caller.credentials(), algorithm="SHA-512-256")
    assert challenges(caller.call(0.0, swapped))


def test_an_answer_without_qop_is_refused_even_if_it_is_right() -> None:
    caller = Caller()
    caller.challenge = attrs.evolve(caller.ask(0.0), qop=())
    refusal = caller.call(0.0)
    assert cause_of(refusal) == "digest without qop"
    integrity = attrs.evolve(caller.ask(0.0), qop=("auth-int",))
    caller.challenge = integrity
    assert challenges(caller.call(0.0))


def test_an_answer_to_another_method_is_wrong() -> None:
    caller = Caller()
    caller.ask(0.0)
    assert challenges(caller.call(0.0, caller.credentials(method="BYE")))


@pytest.mark.parametrize(
    "uri",
    [
        "sip:100@192.0.2.1",
        "sip:100@pbx.example.com:5080;transport=tcp",
        "sips:100@192.0.2.1;user=phone",
        "sip:%3100@x",
        "sip:192.0.2.1",
    ],
)
def test_the_uri_of_a_digest_may_name_the_server_in_another_way(uri: str) -> None:
    caller = Caller()
    caller.ask(0.0)
    assert caller.call(0.0, caller.credentials(uri)) is None


@pytest.mark.parametrize("uri", ["sip:101@192.0.2.1", "tel:100", "*", ""])
def test_the_uri_of_a_digest_may_not_be_for_another_number(uri: str) -> None:
    caller = Caller()
    caller.ask(0.0)
    refusal = caller.call(0.0, caller.credentials(uri))
    assert status_of(refusal) == 400


@pytest.mark.parametrize("text", ["Digest", 'Digest realm="aivc"', 'Digest username="', "Digest =", ""])
def test_credentials_that_cannot_be_read_are_a_bad_request(text: str) -> None:
    refusal = Caller().call(0.0, text)
    assert status_of(refusal) == 400


def test_who_guesses_passwords_is_refused_for_a_while() -> None:
    caller = Caller(password="guess")
    caller.ask(0.0)
    for _ in range(MAX_WRONG):
        assert challenges(caller.call(1.0))
    right = Caller(caller.server)
    refused = right.server.challenge(invite(), HERE, 2.0)
    assert status_of(refused) == 403
    Caller(caller.server, ip="192.0.2.11").ask(2.0)  # others are served
    right.ask(1.1 + SILENCE_SECONDS)
    assert right.call(1.1 + SILENCE_SECONDS) is None


def test_mistyping_now_and_then_is_forgiven() -> None:
    caller = Caller(password="guess")
    for number in range(3 * MAX_WRONG):
        now = number * WRONG_SECONDS / (MAX_WRONG - 2)
        caller.ask(now)
        assert challenges(caller.call(now))


def test_nobody_can_have_another_source_refused() -> None:
    """A forged source address never sees the nonce that it would need."""
    server = Authentication(SETTINGS, random.Random(1))
    mine = Caller(server, ip="192.0.2.66", password="guess")
    mine.ask(0.0)
    for _ in range(5 * MAX_WRONG):
        assert challenges(server.challenge(invite(f"Authorization: {mine.credentials()}"), HERE, 0.0))


def test_the_books_are_bounded_and_a_forgotten_nonce_does_not_come_back() -> None:
    caller = Caller()
    caller.ask(1.0)
    first = caller.credentials()
    assert caller.call(1.0, first) is None
    for number in range(MAX_NONCES):
        caller.ask(2.0 + number / 1000)
        assert caller.call(2.0 + number / 1000) is None
    assert len(caller.server._usages) == MAX_NONCES
    assert challenges(caller.call(10.0, first))[0].stale
    for number in range(MAX_SOURCES + 10):
        guesser = Caller(caller.server, ip=f"10.0.{number // 250}.{number % 250}", password="x")
        guesser.ask(20.0)
        guesser.call(20.0)
    assert len(caller.server._wrong) == MAX_SOURCES


def test_nothing_is_kept_of_those_who_only_ask() -> None:
    caller = Caller()
    for _ in range(100):
        caller.ask(0.0)
    assert (caller.server._usages, caller.server._wrong) == ({}, {})


def test_names_and_passwords_are_not_only_ascii() -> None:
    settings = SipSettings(users=(SipUser(name="a", password=Secret("geheimniß")),), realm='Büro "1"')
    server = Authentication(settings, random.Random(1))
    refusal = server.challenge(invite(), HERE, 0.0)
    assert refusal is not None
    value = refusal.headers[0][1].encode("latin-1").decode("utf-8")
    assert r'realm="Büro \"1\""' in value
    caller = Caller(server, user="a", password="geheimniß")
    caller.ask(0.0)
    assert caller.call(0.0) is None


def test_the_password_of_a_user_is_not_shown() -> None:
    caller = Caller()
    assert "s3cret" not in repr(caller.server)
