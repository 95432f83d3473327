"""What the settings of `records`, `engine` and of several agents change."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio
from paper_leg import paper_leg
from scenarios.world import SETTINGS, changed, open_world
from settings_server import Answer, SettingsServer, open_settings_server
from settings_shown import shows
from trio.testing import MockClock

from aivc import Ending, RtpSettings, Service, Settings, SipSettings, open_service
from aivc.config.loading import ConfigError
from aivc.config.settings import Agent, EngineSettings, RecordsSettings
from aivc.media.clock import TaskClock
from aivc.nursery.ending import CallOver
from aivc.nursery.percall import fetch_settings, open_client
from aivc.nursery.record import Ended
from aivc.nursery.routing import Route, load_routes
from aivc.testing import CallRefused, FakeModel, Phone, Say, connect_to, open_phone, scripted

GREETING: Final = scripted([[Say("Good morning.", seconds=0.4)]])


# records


async def kept(settings: Settings) -> list[dict[str, Any]]:
    """The lines of a service that answers one call."""
    async with open_world(GREETING, settings=settings) as world, world.dial() as call:
        await call.handset.wait_speech(0.3)
    assert settings.records.directory is not None
    return lines_in(Path(settings.records.directory))


def lines_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in folder.iterdir() for line in path.read_text().splitlines()]


@shows("records.directory")
async def test_every_call_is_a_line_in_the_folder_when_the_service_has_stopped(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    settings = attrs.evolve(SETTINGS, records=RecordsSettings(directory=str(tmp_path / "records")))
    (line,) = await kept(settings)
    assert (line["ending"], line["dialled"]) == ("caller_hung_up", "1000")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:]{8}\.\d{3}Z", line["started_at"])


@shows("records.transcripts")
@pytest.mark.parametrize("transcripts", [True, False])
async def test_what_was_said_is_kept_unless_it_may_not_be(
    autojump_clock: MockClock, tmp_path: Path, transcripts: bool
) -> None:
    records = RecordsSettings(directory=str(tmp_path), transcripts=transcripts)
    (line,) = await kept(attrs.evolve(SETTINGS, records=records))
    (said,) = line["transcript"]
    assert said["speaker"] == "model"
    assert (said["text"] is not None) is transcripts
    assert ("Good" in json.dumps(line)) is transcripts


async def test_a_folder_that_cannot_be_written_is_told_before_anything_listens(tmp_path: Path) -> None:
    (tmp_path / "records").write_text("")
    settings = attrs.evolve(SETTINGS, records=RecordsSettings(directory=str(tmp_path / "records")))
    with trio.fail_after(1), pytest.raises(ConfigError, match=r"records\.directory"):
        async with open_service(settings):
            pass


@shows("openai.prices")
async def test_a_call_costs_what_its_tokens_cost(autojump_clock: MockClock) -> None:
    costs = []
    for prices in ({}, {"output_audio": 64.0}, {"output_audio": 128.0}):
        async with open_world(GREETING, settings=changed(openai={"prices": prices})) as world, world.dial() as call:
            await call.handset.wait_speech(0.3)
            await trio.sleep(1.0)
        costs.append(world.record.cost_usd)
    free, cheap, dear = costs
    assert free is None
    assert cheap
    assert dear == pytest.approx(2 * cheap)


# agents


def answered_by(settings: Settings, dialled: str, caller: str = "sip:alice@192.0.2.9") -> str | int:
    """The voice that answers, or the status of the refusal."""
    found = load_routes(settings).route(attrs.evolve(paper_leg(), dialled=dialled, caller=caller))
    return str(found.settings.openai.voice) if isinstance(found, Route) else found.status


@shows("openai.match")
def test_the_number_that_was_dialled_decides_who_answers() -> None:
    sales = attrs.evolve(SETTINGS.openai, match=("2[0-9]{3}",), voice="cedar")
    settings = attrs.evolve(
        changed(openai={"match": ("1000",), "voice": "marin"}), agents=(Agent(name="sales", openai=sales),)
    )
    assert [answered_by(settings, dialled) for dialled in ("1000", "2345", "3000")] == ["marin", "cedar", 404]


@shows("openai.match_from")
def test_the_number_of_the_caller_decides_who_answers() -> None:
    settings = changed(openai={"match_from": ("[+]49.*",), "voice": "marin"})
    assert answered_by(settings, "1000", "sip:+4930123@example.com") == "marin"
    assert answered_by(settings, "1000", "sip:+1555@example.com") == 404


async def test_a_number_without_an_agent_gets_404(autojump_clock: MockClock) -> None:
    settings = changed(openai={"match": ("2000",)})
    async with open_world(GREETING, settings=settings, calls=0) as world, world.ring() as call:
        await trio.sleep(0.5)
    assert call.responses[-1].status == 404


async def test_the_record_tells_which_agent_answered(autojump_clock: MockClock) -> None:
    sales = Agent(name="sales", openai=attrs.evolve(SETTINGS.openai, match=("1000",)))
    async with open_world(GREETING, settings=attrs.evolve(SETTINGS, agents=(sales,))) as world, world.dial() as call:
        await call.handset.wait_speech(0.3)
    assert world.record.agent == "sales"


# engine


@asynccontextmanager
async def configured(answer: Answer, **engine: Any) -> AsyncIterator[Settings]:
    """The settings of a call whose server gives this answer."""
    pytest.importorskip("httpx2", reason="the extra http is not installed")
    with trio.fail_after(10):
        async with open_settings_server(answer) as server:
            settings = attrs.evolve(SETTINGS, engine=EngineSettings(api_url=server.url, **engine))
            async with open_client(settings.engine) as client:
                assert client is not None
                route = load_routes(settings).route(paper_leg())
                assert isinstance(route, Route)
                yield (await fetch_settings(paper_leg(), settings, route, client)).settings


@shows("engine.api_url")
async def test_a_server_gives_the_settings_of_a_call() -> None:
    async with configured(Answer({"openai": {"voice": "cedar"}})) as settings:
        assert settings.openai == attrs.evolve(SETTINGS.openai, voice="cedar")


@shows("engine.api_seconds")
async def test_its_answer_is_waited_for_so_long() -> None:
    started_at = trio.current_time()
    async with configured(Answer({}, stalls=True), api_seconds=0.3):
        assert 0.3 <= trio.current_time() - started_at < 3.0


@shows("engine.api_failure")
async def test_a_call_without_its_answer_goes_on_or_is_refused() -> None:
    broken = Answer({}, status="500 Internal Server Error")
    async with configured(broken, api_failure="fallback") as settings:
        assert settings.openai == SETTINGS.openai
    with pytest.RaisesGroup(pytest.RaisesExc(CallOver, match="config_failed: 127.0.0.1: HTTP status 500")):
        async with configured(broken, api_failure="refuse"):
            pass


async def test_a_packages_absence_is_told_before_anything_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    settings = attrs.evolve(SETTINGS, engine=EngineSettings(api_url="https://example.com/bots"))
    with trio.fail_after(1), pytest.raises(ConfigError, match=r"engine\.api_url: needs the package httpx2"):
        async with open_service(settings, clock=TaskClock()):
            pass


# Whole calls over real sockets: the virtual network has no HTTP.


@asynccontextmanager
async def open_loopback(answer: Answer, **engine: Any) -> AsyncIterator[Loopback]:
    """A service that asks a server for the settings of each call."""
    pytest.importorskip("httpx2", reason="the extra http is not installed")
    model = FakeModel(scripted([[]]), require_key=False)
    with trio.fail_after(20):
        async with open_settings_server(answer) as server, model, open_phone() as phone:
            settings = attrs.evolve(
                SETTINGS,
                sip=SipSettings(listen=("udp:127.0.0.1:0",)),
                rtp=RtpSettings(bind_ip="127.0.0.1"),
                engine=EngineSettings(api_url=server.url, api_seconds=10.0, **engine),
            )
            async with open_service(settings, connect=connect_to(model)) as service:
                host, port = service.listening[0]
                yield Loopback(server, model, service, phone, f"sip:1000@{host}:{port}")


@attrs.frozen(eq=False)
class Loopback:
    server: SettingsServer
    model: FakeModel
    service: Service
    phone: Phone
    number: str


async def test_the_model_is_configured_as_the_server_says_before_the_call_is_answered() -> None:
    answer = Answer({"openai": {"voice": "cedar", "transfer_to": "sip:support@example.com"}})
    async with open_loopback(answer) as world, world.phone.dial(world.number):
        (session,) = world.model.sessions
        assert session.session["audio"]["output"]["voice"] == "cedar"
        assert "transfer_call" in {tool["name"] for tool in session.session["tools"]}


async def test_a_caller_who_gives_up_while_the_server_thinks_is_let_go_at_once() -> None:
    async with open_loopback(Answer({}, stalls=True)) as world, world.service.subscribe() as events:
        async with world.phone.ring(world.number) as call:
            await world.server.asked.wait()
            assert [response.status for response in call.responses][-1] == 180
            await call.give_up()
        event = await events.receive()
        assert isinstance(event.what, Ended)
        assert event.what.record.ending is Ending.CALLER_CANCELLED
        assert event.what.record.ended_at - event.what.record.started_at < 5.0


async def test_a_call_without_its_settings_is_refused_with_503_while_it_rings() -> None:
    answer = Answer({}, status="500 Internal Server Error")
    async with open_loopback(answer, api_failure="refuse") as world, world.service.subscribe() as events:
        with pytest.RaisesGroup(CallRefused, allow_unwrapped=True, flatten_subgroups=True) as refusal:
            async with world.phone.dial(world.number):
                pass
        event = await events.receive()
    refused = refusal.value
    assert isinstance(refused, CallRefused)
    assert (refused.response.status, refused.response.header("Retry-After")) == (503, "10")
    assert isinstance(event.what, Ended)
    assert event.what.record.ending is Ending.CONFIG_FAILED
