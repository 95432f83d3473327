"""Passwords both ways: RFC 3261 section 22, RFC 7616, RFC 8760; and registrations of ours, RFC 3261 section 10."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from sip_phone import Phone, sdp, user_agent
from trio.testing import MockClock

from aivc.config.secret import Secret
from aivc.config.settings import SipRegister, SipSettings, SipUser
from aivc.sip.message import Response
from aivc.sip.useragent import UserAgent
from aivc.testing import Credentials, VirtualNetwork
from aivc.testing.credentials import Mistake, read_challenge
from aivc.testing.registrar import Registrar, Trouble, open_registrar

USERS = (SipUser(name="trunk", password=Secret("s3cret")),)
REGISTRAR = "192.0.2.50"
TARGET = "sip:100@192.0.2.1"


def trunk(mistake: Mistake | None = None) -> Credentials:
    return Credentials("trunk", "s3cret", mistake=mistake)


async def invite(phone: Phone, credentials: Credentials | None = None) -> Response:
    """The final or first ringing answer to another INVITE, acknowledged if it is a refusal."""
    phone.cseq += 1
    field = None if credentials is None else credentials.field("INVITE", TARGET, f"cnonce{phone.cseq}")
    branch = f"z9hG4bK-auth{phone.cseq}"
    await phone.send(phone.write("INVITE", sdp(), *([] if field is None else [": ".join(field)]), branch=branch))
    answer = await phone.response()
    if answer.status >= 300:
        await phone.send(phone.write("ACK", branch=branch))
    return answer


async def challenged(phone: Phone, credentials: Credentials) -> Credentials:
    """Credentials with a challenge of the user agent."""
    answer = await invite(phone)
    assert answer.status == 401
    assert credentials.accept(answer)
    return credentials


@asynccontextmanager
async def guarded(nonce_seconds: float = 300.0) -> AsyncIterator[tuple[UserAgent, Phone]]:
    async with user_agent(SipSettings(users=USERS, nonce_seconds=nonce_seconds)) as (agent, phone):
        yield agent, phone


async def test_au_01_a_call_without_a_password_is_challenged_and_one_with_it_is_served(
    autojump_clock: MockClock,
) -> None:
    """RFC 7616 section 3.3, RFC 8760 section 2.4: a fresh nonce, qop=auth, the stronger algorithm first."""
    async with guarded() as (agent, phone):
        first, second = await invite(phone), await invite(phone)
        offered = [read_challenge(line) for line in first.headers.lines("WWW-Authenticate")]
        assert [challenge["algorithm"] for challenge in offered] == ["SHA-256", "MD5"]
        assert {challenge["qop"] for challenge in offered} == {"auth"}
        assert offered[0]["nonce"] != read_challenge(second.headers.lines("WWW-Authenticate")[0])["nonce"]
        assert (await invite(phone, await challenged(phone, trunk()))).status == 100
        assert agent.statistics().legs == 1


@pytest.mark.parametrize("mistake", ["wrong password", "forged nonce", "other uri", "without qop"])
async def test_au_02_wrong_credentials_are_refused(mistake: Mistake, autojump_clock: MockClock) -> None:
    """RFC 7616 section 3.4."""
    async with guarded() as (agent, phone):
        answer = await invite(phone, await challenged(phone, trunk(mistake)))
        assert answer.status in (400, 401, 403)
        assert agent.statistics().legs == 0


async def test_au_03_an_old_nonce_is_stale_and_the_next_answer_is_good(autojump_clock: MockClock) -> None:
    """RFC 7616 section 3.3."""
    async with guarded(nonce_seconds=5.0) as (_, phone):
        credentials = await challenged(phone, trunk())
        await trio.sleep(30)
        answer = await invite(phone, credentials)
        assert (answer.status, read_challenge(answer.header("WWW-Authenticate")).get("stale")) == (401, "true")
        assert credentials.accept(answer)
        assert (await invite(phone, credentials)).status == 100


async def test_au_04_a_nonce_count_that_was_used_is_refused(autojump_clock: MockClock) -> None:
    """RFC 7616 section 3.4: a replay."""
    async with guarded() as (agent, phone):
        credentials = await challenged(phone, trunk("repeated nc"))
        assert (await invite(phone, credentials)).status == 100
        phone.call_id = "replayed@192.0.2.10"
        assert (await invite(phone, credentials)).status == 401
        assert agent.statistics().legs == 1


async def test_au_05_who_is_unknown_gets_the_same_answer_as_who_errs(autojump_clock: MockClock) -> None:
    """Enumeration: nothing but the nonce tells one from the other."""
    answers = []
    mistakes: tuple[Mistake, ...] = ("wrong password", "unknown user")
    async with guarded() as (_, phone):
        for mistake in mistakes:
            answer = await invite(phone, await challenged(phone, trunk(mistake)))
            challenge = [read_challenge(line) for line in answer.headers.lines("WWW-Authenticate")]
            shapes = [sorted(values.items() - {("nonce", values["nonce"])}) for values in challenge]
            answers.append((answer.status, answer.reason, [name for name, _ in answer.headers], shapes))
    assert answers[0] == answers[1]


async def test_au_06_ack_and_cancel_are_never_challenged(autojump_clock: MockClock) -> None:
    """RFC 3261 sections 22.1 and 9.1."""
    async with guarded() as (agent, phone):
        await phone.send(phone.write("ACK"))
        assert await phone.hears_nothing(1)
        assert (await phone.ask(phone.write("CANCEL"))).status == 481
        credentials = await challenged(phone, trunk())
        assert (await invite(phone, credentials)).status == 100
        leg = await agent.legs.receive()
        await phone.send(phone.write("CANCEL", branch=f"z9hG4bK-auth{phone.cseq}"))
        assert {(await phone.response()).status for _ in range(2)} == {200, 487}
        assert agent.statistics().legs == 0
        assert leg.call_id == phone.call_id


@asynccontextmanager
async def registering(
    registrar_troubles: tuple[Trouble, ...] = (), shortest: int = 0, expires: int = 600
) -> AsyncIterator[tuple[Registrar, UserAgent]]:
    """Our user agent as a client of a registrar; the block ends with the unregistration done."""
    register = SipRegister(user="200", server=REGISTRAR, password=Secret("s3cret"), expires_seconds=expires)
    network = VirtualNetwork().enable()
    with trio.fail_after(1000):
        async with open_registrar(REGISTRAR, {"200": "s3cret"}) as registrar:
            registrar.troubles += registrar_troubles
            registrar.shortest = shortest
            async with user_agent(SipSettings(register=(register,)), network) as (agent, _):
                with trio.fail_after(60):
                    await registrar.wait_registered("200")
                yield registrar, agent
            assert registrar.registered("200") == []


async def test_rg_01_a_challenged_register_is_sent_again_with_the_password(autojump_clock: MockClock) -> None:
    """RFC 3261 sections 10.2 and 22: REGISTER, 401, REGISTER with a higher CSeq."""
    async with registering() as (registrar, agent):
        first, second = registrar.requests[:2]
        assert first.headers.get("Authorization") is None
        assert second.headers.get("Authorization") is not None
        assert (second.call_id, second.cseq.number) == (first.call_id, first.cseq.number + 1)
        await trio.sleep(1)
        assert [status.state for status in agent.registrations] == ["registered"]


async def test_rg_02_a_registration_is_renewed_before_its_end(autojump_clock: MockClock) -> None:
    """RFC 3261 section 10.2.4."""
    async with registering(expires=120) as (registrar, _):
        for _ in range(100):
            await trio.sleep(1.7)
            assert registrar.registered("200")
        assert len(registrar.requests) > 3


async def test_rg_03_a_423_is_answered_with_its_min_expires(autojump_clock: MockClock) -> None:
    """RFC 3261 section 10.2.8."""
    async with registering(shortest=300, expires=60) as (registrar, _):
        binding = registrar.registered("200")[-1]
        assert binding.expires_at - trio.current_time() > 290


async def test_rg_04_a_registration_is_taken_back_at_the_end(autojump_clock: MockClock) -> None:
    """RFC 3261 section 10.2.2: Expires 0; what is left of it is looked for when the block ends."""
    async with registering() as (registrar, _):
        assert len(registrar.registered("200")) == 1
    last = registrar.requests[-1]
    assert "expires=0" in last.header("Contact") or last.header("Expires") == "0"
