"""What the settings of `sip` that have to do with passwords and registrars change."""

from __future__ import annotations

import random
from typing import Literal

import attrs
import pytest
import trio
from registration_parts import HOST, PASSWORDS, PBX, REGISTRAR, open_client
from settings_shown import shows
from trio.testing import MockClock

from aivc.config.secret import Secret
from aivc.config.settings import SipRegister, SipSettings, SipUser
from aivc.sip.authentication import Authentication
from aivc.sip.digest import Challenge, answer_challenge, parse_challenge
from aivc.sip.inspection import Refusal
from aivc.sip.message import Request, parse_untrusted
from aivc.testing.network import VirtualNetwork
from aivc.testing.registrar import open_registrar

SETTINGS = SipSettings(users=(SipUser(name="trunk", password=Secret("s3cret")),))
TARGET = f"sip:100@{HOST}"


def call(
    server: Authentication, challenge: Challenge | None = None, user: str = "trunk", now: float = 0.0
) -> Refusal | None:
    """An INVITE, with the answer to a challenge."""
    fields = (
        f"Call-ID: 1\r\nCSeq: 1 INVITE\r\nFrom: <sip:a@b>;tag=1\r\nTo: <{TARGET}>\r\nVia: SIP/2.0/UDP b;branch=z9hG4bK1"
    )
    if challenge is not None:
        asked = {"username": user, "password": "s3cret", "method": "INVITE", "uri": TARGET, "cnonce": "c"}
        fields += f"\r\nAuthorization: {answer_challenge(challenge, **asked, body=b'', nc=1)}"
    request = parse_untrusted(f"INVITE {TARGET} SIP/2.0\r\n{fields}\r\n\r\n".encode())
    assert isinstance(request, Request)
    return server.challenge(request, "192.0.2.10", now)


def challenged(refusal: Refusal | None) -> Challenge:
    assert refusal is not None
    challenge = parse_challenge(refusal.headers[0][1])
    assert challenge is not None
    return challenge


@shows("sip.users")
def test_with_users_a_caller_must_be_one_of_them() -> None:
    assert call(Authentication(SipSettings(), random.Random(1))) is None
    server = Authentication(SETTINGS, random.Random(1))
    challenge = challenged(call(server))
    assert challenged(call(server, challenge, "nobody")).realm == "aivc"
    assert call(server, challenge) is None


@shows("sip.realm")
def test_the_realm_is_what_callers_are_asked_for() -> None:
    server = Authentication(attrs.evolve(SETTINGS, realm="pbx.example.com"), random.Random(1))
    challenge = challenged(call(server))
    assert challenge.realm == "pbx.example.com"
    assert call(server, attrs.evolve(challenge, realm="aivc")) is not None
    assert call(server, challenge) is None


@shows("sip.digest")
@pytest.mark.parametrize(
    ("digest", "asked"),
    [("both", ["SHA-256", "MD5"]), ("SHA-256", ["SHA-256"]), ("MD5", ["MD5"])],
)
def test_callers_are_asked_for_the_digests_that_are_set_and_no_other_is_taken(
    digest: Literal["both", "SHA-256", "MD5"], asked: list[str]
) -> None:
    server = Authentication(attrs.evolve(SETTINGS, digest=digest), random.Random(1))
    refusal = call(server)
    assert refusal is not None
    challenges = [parse_challenge(value) for _, value in refusal.headers]
    assert [challenge and challenge.algorithm for challenge in challenges] == asked
    every = Authentication(SETTINGS, random.Random(1))  # the same key and the same nonces
    for challenge in (parse_challenge(value) for _, value in (call(every) or refusal).headers):
        assert challenge is not None
        assert (call(server, challenge) is None) is (challenge.algorithm in asked)


@shows("sip.nonce_seconds")
@pytest.mark.parametrize("seconds", [5.0, 500.0])
def test_an_answer_to_a_challenge_is_good_for_a_while(seconds: float) -> None:
    server = Authentication(attrs.evolve(SETTINGS, nonce_seconds=seconds), random.Random(1))
    challenge = challenged(call(server))
    assert challenged(call(server, challenge, now=seconds + 0.1)).stale
    assert call(server, challenge, now=seconds - 0.1) is None


async def registered(register: SipRegister) -> list[Request]:
    """The REGISTERs of the first minute."""
    network = VirtualNetwork()
    network.names["pbx.example.com"] = REGISTRAR
    network.enable()
    with trio.fail_after(100):
        async with open_registrar(REGISTRAR, PASSWORDS) as registrar, open_client(register):
            await trio.sleep(60)
            return list(registrar.requests)


@shows("sip.register")
async def test_a_registrar_is_told_where_its_user_is(autojump_clock: MockClock) -> None:
    _, request = await registered(PBX)
    assert str(request.to) == f"<sip:200@{REGISTRAR}>"
    assert request.header("Contact").startswith(f"<sip:200@{HOST}:5060>")
    assert request.header("Expires") == "600"
    assert 'username="200"' in request.header("Authorization")


async def test_each_setting_of_a_registrar_is_used(autojump_clock: MockClock) -> None:
    register = attrs.evolve(PBX, server="pbx.example.com", domain="example.com", auth_user="u", expires_seconds=900)
    _, request = await registered(register)
    assert (request.target, str(request.to)) == ("sip:example.com", "<sip:200@example.com>")
    assert 'username="u"' in request.header("Authorization")
    assert request.header("Expires") == "900"


async def test_without_a_time_nothing_is_registered_but_the_password_is_known_there(
    autojump_clock: MockClock,
) -> None:
    network = VirtualNetwork()
    network.names["pbx.example.com"] = REGISTRAR
    network.enable()
    register = attrs.evolve(PBX, server="pbx.example.com", expires_seconds=0)
    with trio.fail_after(2000):
        async with open_registrar(REGISTRAR) as registrar, open_client(register) as client:
            await trio.sleep(1)
            assert client.accounts.is_server(REGISTRAR)
            assert client.sources.is_expected(REGISTRAR)
            network.names["pbx.example.com"] = "192.0.2.51"
            await trio.sleep(300)
            assert client.accounts.is_server("192.0.2.51")
            assert not client.sources.is_expected(REGISTRAR)
            assert (registrar.requests, client.state) == ([], "off")
