"""The script of OpenSIPS gives a call settings of its own: ua_session_server_init($var(key), "abh", '{...}')."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

import attrs
import pytest
from trio.testing import MockClock

from aivc import Ending
from aivc.config.settings import Agent
from scenarios.behind import HELLO, byes, greeter, hear_refusal, opensips_of, statuses, told
from scenarios.conftest import Dialect
from scenarios.world import SETTINGS, World, changed, open_world

pytestmark = pytest.mark.opensips_only

Failure = Literal["fallback", "refuse"]

BROKEN: Final = {
    "no JSON": '{"openai": ',
    "no table": '["openai"]',
    "wrong type": '{"openai": {"voice": 1}}',
    "unknown agent": '{"flavor": "nobody"}',
    "of the CE alone": '{"flavor": "deepgram"}',
    "too deep": "[" * 5000,
}
IGNORED: Final = {
    "nothing": None,
    "empty": "",
    "blank": "  ",
    "empty table": "{}",
    "null": '{"openai": null}',
    "unknown key": '{"openai": {"voicee": "coral"}}',
    "not for one call": '{"openai": {"tools": ["x.py"]}}',
}


def session_of(world: World) -> dict[str, Any]:
    """What the model was told about itself."""
    found: dict[str, Any] = world.session.received("session.update")[0]["session"]
    return found


def voice_of(world: World) -> Any:
    """In either dialect."""
    session = session_of(world)
    return session["voice"] if "voice" in session else session["audio"]["output"]["voice"]


async def hear_greeting(world: World) -> None:
    async with world.dial() as call:
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)
        assert call.handset.speech_heard() == HELLO
        assert byes(call) == []


async def test_a_call_may_have_its_own_voice_and_instructions(autojump_clock: MockClock, dialect: Dialect) -> None:
    wanted = json.dumps({"openai": {"voice": "coral", "instructions": "Be brief, Zoë."}})
    async with open_world(greeter(), dialect=dialect, opensips={"extra_params": wanted}) as world:
        await hear_greeting(world)
        assert voice_of(world) == "coral"
        assert session_of(world)["instructions"].startswith("Be brief, Zo")
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_settings_may_depend_on_who_calls(autojump_clock: MockClock, dialect: Dialect) -> None:
    def wanted(request: Any) -> str:
        return json.dumps({"openai": {"voice": "sage" if "alice" in str(request.sender.uri) else "ash"}})

    async with open_world(greeter(), dialect=dialect, opensips={"extra_params": wanted}) as world:
        await hear_greeting(world)
        assert voice_of(world) == "sage"


SALES: Final = Agent(
    name="sales", openai=attrs.evolve(SETTINGS.openai, voice="verse", instructions="Sell.", match=("9999",))
)


@pytest.mark.parametrize(("flavor", "voice"), [("sales", "verse"), ("openai", SETTINGS.openai.voice)])
async def test_the_script_may_choose_the_agent(
    autojump_clock: MockClock, dialect: Dialect, flavor: str, voice: str
) -> None:
    settings = attrs.evolve(SETTINGS, agents=(SALES,))
    opensips = {"extra_params": json.dumps({"flavor": flavor})}
    async with open_world(greeter(), settings=settings, dialect=dialect, opensips=opensips) as world:
        await hear_greeting(world)
        assert voice_of(world) == voice
    assert world.record.agent == ("sales" if flavor == "sales" else None)


@pytest.mark.parametrize("extra", IGNORED.values(), ids=IGNORED)
async def test_without_wishes_a_call_is_like_any_other(
    autojump_clock: MockClock, dialect: Dialect, extra: str | None
) -> None:
    async with open_world(greeter(), dialect=dialect, opensips={"extra_params": extra}) as world:
        await hear_greeting(world)
        assert voice_of(world) == SETTINGS.openai.voice
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.parametrize("any_schedule", [6, 13], indirect=True)  # there are many variants
@pytest.mark.parametrize("failure", ["fallback", "refuse"])
@pytest.mark.parametrize("extra", BROKEN.values(), ids=BROKEN)
async def test_wishes_that_cannot_be_read_are_ignored_or_refused_as_the_operator_wants(
    autojump_clock: MockClock, dialect: Dialect, extra: str, failure: Failure, caplog: pytest.LogCaptureFixture
) -> None:
    settings = changed(engine={"api_failure": failure})
    calls, opensips = (1 if failure == "fallback" else 0), {"extra_params": extra}
    async with open_world(greeter(), settings=settings, dialect=dialect, opensips=opensips, calls=calls) as world:
        if failure == "fallback":
            await hear_greeting(world)
            assert voice_of(world) == SETTINGS.openai.voice
        else:
            async with world.ring() as call:
                assert await hear_refusal(call) == [100, 503]
                await opensips_of(world).wait_empty()
            assert statuses(call)[-1] == 503
            assert call.responses[-1].header("Reason").startswith("SIP;cause=503;")
            assert told(opensips_of(world)) == ["INVITE 503", "terminate"]
            assert world.model.sessions == []
    assert "call.not_configured" in {record.message for record in caplog.records}


async def test_a_call_may_be_refused_by_its_own_settings(autojump_clock: MockClock, dialect: Dialect) -> None:
    opensips = {"extra_params": json.dumps({"openai": {"disable": True}})}
    async with open_world(greeter(), dialect=dialect, opensips=opensips, calls=0) as world:
        async with world.ring() as call:
            assert await hear_refusal(call) == [100, 503]
        assert (
            call.responses[-1].header("Reason") == 'SIP;cause=503;text="disabled: extra_params: openai.disable is set"'
        )
