"""Callers who must prove who they are (RFC 8760): before that they cost no leg, no port and no session."""

from __future__ import annotations

import re
from typing import Any, Final, get_args

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, Secret
from aivc.config.settings import Address
from aivc.config.telephony import SipUser
from aivc.sip.message import Response
from aivc.testing import CallRefused, Credentials, Phone, Say, open_phone, scripted, speech
from aivc.testing.credentials import Mistake
from scenarios.conftest import Dialect
from scenarios.world import NUMBER, PHONE, SERVICE, World, changed, open_world

pytestmark = pytest.mark.sip_only("digest authentication: OpenSIPS asks for it")

GREETING: Final = speech(0.5, pitch_hz=210.0)
HELLO: Final = scripted([[Say("Hello.", audio=GREETING)]])
USERS: Final = (SipUser(name="trunk", password=Secret("s3cret")), SipUser(name="desk", password=Secret("other")))
SETTINGS: Final = changed(sip={"users": USERS, "nonce_seconds": 5.0}, rtp={"quarantine_seconds": 0.0})
CALLER: Final = "192.0.2.40"
SIGNALLING: Final = (SERVICE, 5060)


def trunk(**more: Any) -> Credentials:
    return Credentials("trunk", "s3cret", **more)


async def refused(phone: Phone) -> tuple[Response, list[int]]:
    """Call; the failure, and everything that came."""
    with pytest.raises(CallRefused) as caught:
        async with phone.ring(NUMBER) as call:
            await call.wait_answer()
    return caught.value.response, [response.status for response in call.responses]


def check_nothing_was_spent(world: World) -> None:
    assert world.model.sessions == []
    assert world.media_sockets() == []
    assert (world.service.calls, world.service.refused) == (0, 0)
    assert world.service.agent.statistics().legs == 0


async def test_a_caller_without_a_password_costs_nothing(autojump_clock: MockClock) -> None:
    async with open_world(HELLO, settings=SETTINGS, calls=0) as world:
        response, statuses = await refused(world.phone)
        assert statuses == [401]
        challenges = response.headers.lines("WWW-Authenticate")
        assert [re.findall(r"algorithm=([\w-]+)", each) for each in challenges] == [["SHA-256"], ["MD5"]]
        assert all('realm="aivc"' in each and 'qop="auth"' in each for each in challenges)
        check_nothing_was_spent(world)
        assert world.service.agent.statistics().challenged == 1


@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
async def test_a_caller_with_the_password_is_served(
    autojump_clock: MockClock, dialect: Dialect, algorithm: str
) -> None:
    async with open_world(HELLO, settings=SETTINGS, dialect=dialect) as world:
        async with (
            open_phone(CALLER, credentials=trunk(algorithm=algorithm)) as phone,
            phone.dial(NUMBER) as call,
        ):
            assert [response.status for response in call.responses] == [401, 100, 180, 200]
            await call.handset.wait_speech(0.1)
            assert (await call.hold()).status == 200  # nobody is asked again in a call
            await trio.sleep(10.0)
            assert (await call.resume()).status == 200
            await call.handset.wait_silence(0.4)
        assert call.handset.speech_heard() == GREETING
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.parametrize("mistake", [each for each in get_args(Mistake) if each != "repeated nc"])
async def test_a_caller_who_proves_it_wrongly_costs_nothing(autojump_clock: MockClock, mistake: Mistake) -> None:
    async with open_world(HELLO, settings=SETTINGS, calls=0) as world:
        async with open_phone(CALLER, credentials=trunk(mistake=mistake)) as phone:
            response, statuses = await refused(phone)
            assert statuses in ([401] * 3, [401, 403], [401, 400])
            assert "stale=true" not in response.headers.joined().get("www-authenticate", "")
        check_nothing_was_spent(world)


async def test_a_nonce_serves_for_several_calls_until_it_is_old(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(HELLO, settings=SETTINGS, dialect=dialect, calls=3) as world:
        async with open_phone(CALLER, credentials=trunk()) as phone:
            seen = []
            for wait in (1.0, 10.0, 0.0):
                async with phone.dial(NUMBER) as call:
                    seen.append(call.responses)
                await trio.sleep(wait)
        assert [[each.status for each in responses] for responses in seen] == [
            [401, 100, 180, 200],
            [100, 180, 200],
            [401, 100, 180, 200],
        ]
        assert "stale=true" in seen[2][0].header("WWW-Authenticate")
    assert [record.ending for record in world.records] == [Ending.CALLER_HUNG_UP] * 3


async def test_a_caller_who_counts_wrongly_gets_another_nonce(autojump_clock: MockClock) -> None:
    async with (
        open_world(HELLO, settings=SETTINGS, calls=2) as world,
        open_phone(CALLER, credentials=trunk(mistake="repeated nc")) as phone,
    ):
        for first in ([401, 100, 180, 200], [401, 100, 180, 200]):
            async with phone.dial(NUMBER) as call:
                pass
            assert [response.status for response in call.responses] == first
            await trio.sleep(0.1)
        assert "stale=true" in call.responses[0].header("WWW-Authenticate")
    assert len(world.model.sessions) == 2


@pytest.mark.parametrize("thief", [CALLER, "192.0.2.66"], ids=["same address", "elsewhere"])
async def test_an_invite_that_somebody_sends_again_as_his_own_is_not_served(
    autojump_clock: MockClock, thief: str
) -> None:
    seen: list[bytes] = []
    answers: list[bytes] = []

    def note(source: Address, to: Address, data: bytes) -> None:
        if to == SIGNALLING and data.startswith(b"INVITE") and b"Authorization" in data:
            seen.append(data)
        elif to[0] == thief and b" 401 " in data:
            answers.append(data)

    async with open_world(HELLO, settings=SETTINGS) as world:
        world.network.on_packet = note
        async with open_phone(CALLER, credentials=trunk()) as phone, phone.dial(NUMBER):
            answers.clear()
            copy = re.sub(rb"Call-ID: call", b"Call-ID: theft", seen[0]).replace(b"branch=z9hG4bK", b"branch=z9hG4bKx")
            async with open_phone(thief) as other:
                await other.send(copy, SIGNALLING)
                await trio.sleep(0.1)
            assert len(answers) == 1
            assert len(world.model.sessions) == 1
            assert world.service.calls == 1
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_trunk_is_not_asked(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(SETTINGS, sip={"trusted": (f"{PHONE}/32",)})
    async with open_world(HELLO, settings=settings, dialect=dialect) as world:
        async with world.dial() as call:
            assert [response.status for response in call.responses] == [100, 180, 200]
        async with open_phone(CALLER, seed=1) as phone:
            assert (await refused(phone))[1] == [401]
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_flood_of_callers_without_a_password_does_not_disturb_a_call(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(HELLO, settings=SETTINGS, dialect=dialect) as world:
        async with open_phone(CALLER, credentials=trunk()) as phone, phone.dial(NUMBER) as call:
            await call.handset.wait_speech()
            for _ in range(30):
                assert (await refused(world.phone))[1] == [401]
            await call.handset.wait_silence(0.3)
            gaps = [later.at - one.at for one, later in zip(call.handset.heard, call.handset.heard[1:], strict=False)]
            assert max(gaps) == pytest.approx(0.020)
        assert call.handset.speech_heard() == GREETING
        assert len(world.model.sessions) == 1
    assert world.record.ending is Ending.CALLER_HUNG_UP
