"""What the settings of `sip` change in a dialog, as a phone sees it."""

from __future__ import annotations

from typing import Literal

import pytest
import trio
from settings_shown import shows
from sip_phone import sdp, user_agent
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip.leg import Leg

TIMER = "Supported: timer, 100rel"
TARGET, BY = "sip:200@192.0.2.77", "sip:100@192.0.2.1"
HEADERS = {"X-Reason": "agent", "X-Team": "sales"}


@shows("sip.session_expires_seconds")
@pytest.mark.parametrize(("seconds", "said"), [(0, None), (600, "600;refresher=uas"), (1800, "1800;refresher=uas")])
async def test_callers_that_know_session_timers_are_asked_for_one(
    seconds: int, said: str | None, autojump_clock: MockClock
) -> None:
    async with user_agent(SipSettings(session_expires_seconds=seconds)) as (agent, phone):
        _, answer = await phone.call(agent, None, TIMER)
        assert answer.headers.get("Session-Expires") == said


@shows("sip.min_se_seconds")
@pytest.mark.parametrize(("least", "status"), [(90, 200), (300, 422)])
async def test_a_shorter_session_timer_than_is_set_is_422(least: int, status: int, autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(min_se_seconds=least)) as (agent, phone):
        await phone.send(phone.write("INVITE", sdp(), TIMER, "Session-Expires: 120"))
        if status == 200:
            await (await agent.legs.receive()).answer(("192.0.2.1", 40_000))
            assert (await phone.response()).status == 100
        answer = await phone.response()
        assert (answer.status, answer.headers.get("Min-SE")) == (status, "300" if status == 422 else None)


@shows("sip.reliable_provisional")
@pytest.mark.parametrize(
    ("setting", "extra", "status", "reliable"),
    [
        ("off", "Require: 100rel", 420, False),
        ("off", TIMER, 180, False),
        ("on", "Require: 100rel", 180, True),
        ("on", TIMER, 180, False),
        ("required", TIMER, 180, True),
        ("required", "Supported: timer", 421, False),
    ],
)
async def test_ringing_is_reliable_for_whom_the_setting_says(
    setting: Literal["off", "on", "required"], extra: str, status: int, reliable: bool, autojump_clock: MockClock
) -> None:
    async with user_agent(SipSettings(reliable_provisional=setting)) as (agent, phone):
        await phone.send(phone.write("INVITE", sdp(), extra))
        if status == 180:
            await (await agent.legs.receive()).ring()
            assert (await phone.response()).status == 100
        answer = await phone.response()
        assert answer.status == status
        assert (answer.headers.get("RSeq") is not None) is reliable


@shows("sip.follow_refer")
@pytest.mark.parametrize(("patterns", "status"), [((), 603), (("sip:[0-9]{3}@192[.]0[.]2[.]77",), 202)])
async def test_a_refer_is_followed_where_a_pattern_allows_it(
    patterns: tuple[str, ...], status: int, autojump_clock: MockClock
) -> None:
    async with user_agent(SipSettings(follow_refer=patterns)) as (agent, phone):
        await phone.connect(agent)
        assert (await phone.ask(phone.write("REFER", b"", f"Refer-To: <{TARGET}>"))).status == status


@shows("sip.refer_headers")
@pytest.mark.parametrize("headers", [{}, HEADERS])
async def test_configured_headers_are_in_every_refer_and_those_of_the_call_win(
    headers: dict[str, str], autojump_clock: MockClock
) -> None:
    async with user_agent(SipSettings(refer_headers=headers)) as (agent, phone), trio.open_nursery() as nursery:
        leg = await phone.connect(agent)

        async def refer() -> None:
            await leg.refer(TARGET, BY, 5, fields=(("x-team", "support"),))

        nursery.start_soon(refer)
        request = await phone.request()
        assert request.headers.get("X-Reason") == headers.get("X-Reason")
        assert request.headers.lines("X-Team") == ["support"]
        await phone.reply(request, 603)


@shows("sip.bye_headers")
@pytest.mark.parametrize("headers", [{}, HEADERS])
async def test_configured_headers_are_in_every_bye_and_those_of_the_call_win(
    headers: dict[str, str], autojump_clock: MockClock
) -> None:
    async with user_agent(SipSettings(bye_headers=headers)) as (agent, phone), trio.open_nursery() as nursery:
        leg = await phone.connect(agent)
        nursery.start_soon(leg.hang_up, "over", (("x-team", "support"),))
        bye = await phone.request()
        assert bye.headers.get("X-Reason") == headers.get("X-Reason")
        assert bye.headers.lines("X-Team") == ["support"]
        assert bye.header("Reason") == 'SIP;cause=200;text="over"'
        await phone.reply(bye)


@shows("sip.trusted")
@pytest.mark.parametrize(("trusted", "caller"), [((), "sip:alice@192.0.2.10"), (("192.0.2.0/24",), "sip:+49@trunk")])
async def test_the_identity_that_a_trusted_peer_asserts_is_believed(
    trusted: tuple[str, ...], caller: str, autojump_clock: MockClock
) -> None:
    async with user_agent(SipSettings(trusted=trusted)) as (agent, phone):
        asserted = 'P-Asserted-Identity: <tel:+49>, "A" <sip:+49@trunk>'
        leg: Leg = (await phone.call(agent, None, asserted))[0]
        assert (leg.caller, leg.is_trusted) == (caller, bool(trusted))
