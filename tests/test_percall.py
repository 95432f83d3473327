"""`engine.api_url`: a real HTTP server on loopback gives the settings of a call, or misbehaves."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import attrs
import pytest
import trio
from log_lines import lines_of
from paper_leg import paper_leg
from settings_server import Answer, SettingsServer, open_settings_server

from aivc.config.agents import Chosen
from aivc.config.loading import ConfigError
from aivc.config.settings import Agent, EngineSettings, OpenAISettings, Settings
from aivc.nursery.ending import CallOver, Ending, leaves
from aivc.nursery.percall import LONGEST_ANSWER, check_installed, fetch_settings, open_client
from aivc.nursery.routing import Route, load_routes
from aivc.sip.leg import Leg

pytest.importorskip("httpx2", reason="the extra http is not installed")

OPENAI: Final = OpenAISettings(model="gpt-realtime-2.1", voice="marin")


def settings(url: str | None, **engine: Any) -> Settings:
    return Settings(openai=OPENAI, engine=EngineSettings(api_url=url, **engine))


async def fetched(answer: Answer, **engine: Any) -> tuple[SettingsServer, Settings]:
    """What a call gets from a server that gives this answer."""
    with trio.fail_after(10):
        async with open_settings_server(answer) as server:
            given = settings(server.url, **{"api_seconds": 5.0, **engine})
            async with open_client(given.engine) as client:
                assert client is not None
                return server, (await fetch_settings(paper_leg(), given, routed(given), client)).settings


def routed(settings: Settings, leg: Leg | None = None) -> Route:
    """What is chosen without an answer."""
    found = load_routes(settings).route(leg or paper_leg())
    assert isinstance(found, Route)
    return found


async def test_the_server_is_told_who_calls_whom_and_its_answer_wins() -> None:
    server, found = await fetched(Answer({"openai": {"voice": "cedar", "welcome_message": "Hello Alice."}}))
    assert found.openai == attrs.evolve(OPENAI, voice="cedar", welcome_message="Hello Alice.")
    (request,) = server.requests
    assert request.line == "POST /bots HTTP/1.1"
    assert json.loads(request.body) == {"bot": "1000", "caller": "sip:alice@192.0.2.9", "call_id": "paper-1"}
    assert "content-type: application/json" in request.head.lower()


async def test_an_answer_may_say_nothing() -> None:
    _, found = await fetched(Answer({}), api_failure="refuse")
    assert found.openai == OPENAI


SALES: Final = Agent(name="sales", openai=attrs.evolve(OPENAI, voice="ash", match=("2000",)))
DESK: Final = Agent(name="desk", openai=attrs.evolve(OPENAI, voice="sage"))


async def chosen(answer: object, extra: object = None) -> Chosen:
    """Who answers a call for 1000, which is the desk's, after such an answer."""
    leg = attrs.evolve(paper_leg(), extra_params=None if extra is None else json.dumps(extra))
    with trio.fail_after(10):
        async with open_settings_server(Answer(answer)) as server:
            given = attrs.evolve(settings(server.url, api_seconds=5.0, api_failure="refuse"), agents=(SALES, DESK))
            async with open_client(given.engine) as client:
                assert client is not None
                return await fetch_settings(leg, given, routed(given, leg), client)


async def test_an_answer_may_name_another_agent() -> None:
    found = await chosen({"flavor": "sales", "openai": {"welcome_message": "Hello."}})
    assert (found.name, found.settings.openai.voice, found.settings.openai.welcome_message) == (
        "sales",
        "ash",
        "Hello.",
    )
    found = await chosen({"flavor": "openai", "openai": {"welcome_message": "Hello."}})
    assert (found.name, found.settings.openai.voice, found.settings.openai.welcome_message) == (
        "desk",
        "sage",
        "Hello.",
    )


async def test_what_the_call_itself_brings_wins_over_the_answer() -> None:
    answer = {"flavor": "desk", "openai": {"voice": "cedar", "welcome_message": "Hello."}}
    found = await chosen(answer, {"flavor": "sales", "openai": {"voice": "verse"}})
    assert (found.name, found.settings.openai.voice, found.settings.openai.welcome_message) == (
        "sales",
        "verse",
        "Hello.",
    )
    assert (await chosen({"openai": {"disable": True}}, {"openai": {"disable": False, "key": "k"}})).name == "desk"


async def test_keys_that_do_not_count_are_passed_over_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    found = await chosen({"deepgram": {}, "openai": {"voice": "cedar", "tools": ["x.py"]}})
    assert found.settings.openai.voice == "cedar"
    (line,) = lines_of(caplog, "call.keys_ignored")
    assert line == {"source": "api_url", "keys": ["deepgram", "openai.tools"]}


async def test_calls_share_a_connection() -> None:
    with trio.fail_after(10):
        async with open_settings_server(Answer({})) as server:
            given = settings(server.url)
            async with open_client(given.engine) as client:
                assert client is not None
                for _ in range(3):
                    await fetch_settings(paper_leg(), given, routed(given), client)
    assert (len(server.requests), server.connections) == (3, 1)


FAILURES: Final = {
    "not found": (Answer({}, status="404 Not Found"), "HTTP status 404"),
    "a redirect": (Answer({}, status="302 Found", headers=("Location: http://127.0.0.1:1/",)), "HTTP status 302"),
    "no content": (Answer(b"", status="204 No Content"), "HTTP status 204"),
    "no JSON": (Answer(b"<html>"), "no JSON"),
    "no text": (Answer(b'{"openai": "\xff"}'), "no JSON"),
    "too deep": (Answer(b"[" * 60_000), "no JSON"),
    "no object": (Answer([]), "no JSON object"),
    "too long": (Answer(b" " * (LONGEST_ANSWER + 1)), "longer than 65536 octets"),
    "endless": (Answer(b" " * 100_000, chunked=True), "longer than 65536 octets"),
    "a wrong type": (Answer({"openai": {"voice": 1}}), "openai.voice"),
    "a tool that is not there": (Answer({"openai": {"tool_choice": "nothing"}}), "nothing"),
    "no HTTP": (Answer(raw=b"SIP/2.0 200 OK\r\n\r\n"), ""),
    "half an answer": (Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), ""),
    "nothing": (Answer(raw=b""), ""),
}


@pytest.mark.parametrize(("answer", "cause"), FAILURES.values(), ids=FAILURES)
async def test_a_call_without_an_answer_of_use_goes_on_or_is_refused(
    answer: Answer, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, found = await fetched(answer, api_failure="fallback")
    assert found.openai == OPENAI
    (line,) = lines_of(caplog, "call.not_configured")
    assert cause in line["error"]
    assert line["host"] == "127.0.0.1"
    assert await refusal(partial(fetched, answer, api_failure="refuse")) is Ending.CONFIG_FAILED


async def refusal(fetch: Callable[[], Awaitable[object]]) -> Ending:
    """The ending of a call that is refused; the server's nursery wraps it."""
    causes: list[BaseException] = []
    try:
        await fetch()
    except* CallOver as group:
        causes += leaves(group)
    (over,) = causes
    assert isinstance(over, CallOver)
    return over.ending


async def test_a_server_that_nobody_runs_is_a_failure() -> None:
    given = settings("http://127.0.0.1:1/bots", api_failure="fallback")
    with trio.fail_after(10):
        async with open_client(given.engine) as client:
            assert client is not None
            assert (await fetch_settings(paper_leg(), given, routed(given), client)).settings is given


@pytest.mark.parametrize("dribbles", [False, True])
async def test_a_slow_server_is_waited_for_no_longer_than_the_deadline(dribbles: bool) -> None:
    started_at = trio.current_time()
    _, found = await fetched(Answer({}, stalls=True, dribbles=dribbles), api_seconds=0.2)
    assert found.openai == OPENAI
    assert 0.2 <= trio.current_time() - started_at < 3.0


async def test_a_caller_who_gives_up_waits_for_nobody() -> None:
    with trio.fail_after(10):
        async with open_settings_server(Answer({}, stalls=True)) as server:
            given = settings(server.url, api_seconds=30.0)
            async with open_client(given.engine) as client, trio.open_nursery() as nursery:
                assert client is not None
                nursery.start_soon(fetch_settings, paper_leg(), given, routed(given), client)
                await server.asked.wait()
                nursery.cancel_scope.cancel()


async def test_an_answer_may_refuse_the_call() -> None:
    fetch = partial(fetched, Answer({"openai": {"disable": True}}), api_failure="fallback")
    assert await refusal(fetch) is Ending.CONFIG_FAILED


async def test_a_password_in_the_url_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with trio.fail_after(10):
        async with open_settings_server(Answer({}, status="401 Unauthorized")) as server:
            given = settings(server.url.replace("127.0.0.1", "aivc:hunter2@127.0.0.1"))
            async with open_client(given.engine) as client:
                assert client is not None
                await fetch_settings(paper_leg(), given, routed(given), client)
    assert "Authorization: Basic" in server.requests[0].head
    assert not [record for record in caplog.records if "hunter2" in repr(record.__dict__)]


async def test_without_a_url_there_is_no_client() -> None:
    with trio.fail_after(1):
        async with open_client(EngineSettings()) as client:
            assert client is None


def test_a_missing_package_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    check_installed(EngineSettings())
    with pytest.raises(ConfigError, match=r"engine\.api_url: needs the package httpx2: pip install 'aivc\[http\]'"):
        check_installed(EngineSettings(api_url="https://example.com/bots"))
