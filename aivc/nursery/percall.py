"""`engine.api_url`: the settings of one call, asked for by HTTP while it rings.

    POST /bots HTTP/1.1                           HTTP/1.1 200 OK
    Content-Type: application/json                Content-Type: application/json

    {"bot": "1000", "caller": "sip:alice@...",    {"openai": {"voice": "cedar",
     "call_id": "..."}                                        "welcome_message": "Hello Alice."}}

`bot` is the user that was dialled. The answer is one JSON object, at most 64 kB, with status 200; what may be in it is
told in `aivc.config.percall`, and it wins over the settings of the agent; what the call itself brought, as
`Leg.extra_params`, wins over the answer. Anything else is a failure, and so is an answer that is not there after
`engine.api_seconds`: `engine.api_failure` says whether the call then goes on without it.
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import trio

from aivc import logs
from aivc.config.agents import Chosen
from aivc.config.loading import ConfigError
from aivc.config.percall import read_wishes, with_wishes
from aivc.config.settings import EngineSettings, Settings
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.routing import LONGEST_CAUSE, Route, note_passed_over, registry_for
from aivc.realtime.tools import ToolRegistry
from aivc.sip.leg import Leg

if TYPE_CHECKING:
    import httpx2

log = logging.getLogger("aivc.call")

LONGEST_ANSWER: Final = 65_536  # octets: a prompt of many pages
# The answer's size is limited as it comes, so it may not be compressed. A redirect would send callers' numbers astray.
HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}


class AnswerError(Exception):
    """There is no answer that can be used; the message says why, for the operator."""


@asynccontextmanager
async def open_client(engine: EngineSettings) -> AsyncIterator[httpx2.AsyncClient | None]:
    """One HTTP client for all calls, which keeps its connections; None without `engine.api_url`.

    Raises ConfigError when httpx2, the extra `http`, is not installed.
    """
    if engine.api_url is None:
        yield None
        return
    check_installed(engine)
    import httpx2

    # As the connection to the model: the system's certificates, and no proxy.
    # As many connections as calls: who waited for one would use up `api_seconds`.
    context, limits = ssl.create_default_context(), httpx2.Limits(max_connections=None, max_keepalive_connections=20)
    async with httpx2.AsyncClient(timeout=None, limits=limits, verify=context, trust_env=False) as client:
        yield client


def check_installed(engine: EngineSettings) -> None:
    """Raises ConfigError when `engine.api_url` is set and the package for it is missing."""
    if engine.api_url is not None:
        try:
            import httpx2  # noqa: F401 - only whether it can be
        except ImportError:
            raise ConfigError(("engine.api_url: needs the package httpx2: pip install 'aivc[http]'",)) from None


async def fetch_settings(
    leg: Leg, settings: Settings, route: Route, client: httpx2.AsyncClient, tools: ToolRegistry | None = None
) -> Chosen:
    """Return who answers this call with which settings: its agent's, the answer of `engine.api_url`, its own wishes.

    Args:
      settings: of the service.
      route: what was chosen without an answer.
      tools: of the call; None: those that the settings name, which are looked at here, since an answer may not fit.

    Raises CallOver(CONFIG_FAILED) when there is no answer and `engine.api_failure` is "refuse", or when the answer says
    that the model is disabled.
    """
    engine, started_at = settings.engine, trio.current_time()
    try:
        with trio.fail_after(engine.api_seconds):
            answer = await ask(client, engine.api_url or "", leg)
        wishes = read_wishes("api_url", answer, settings)
        chosen = with_wishes(settings, route.agent, wishes, *filter(None, (route.wishes,)))
        if tools is None:
            registry_for(chosen.settings)
    except trio.TooSlowError:
        return fall_back(route, f"no answer within {engine.api_seconds:g} s (engine.api_seconds)")
    except (AnswerError, ConfigError) as error:
        return fall_back(route, str(error)[:LONGEST_CAUSE])
    logs.event(log, "call.configured", after_ms=round(1000 * (trio.current_time() - started_at)))
    note_passed_over(leg, wishes)
    if chosen.settings.openai.disable:
        raise CallOver(Ending.CONFIG_FAILED, "openai.disable is set, with the answer of engine.api_url")
    return chosen


def fall_back(route: Route, cause: str) -> Chosen:
    """Go on without an answer, or not."""
    engine = route.settings.engine
    action: Literal["fallback", "refuse"] = engine.api_failure
    host = urlsplit(engine.api_url or "").hostname  # the whole URL may have a password
    logs.event(log, "call.not_configured", level=logging.WARNING, host=host, error=cause, action=action)
    if action == "refuse":
        raise CallOver(Ending.CONFIG_FAILED, f"{host}: {cause}")
    return route.chosen


async def ask(client: httpx2.AsyncClient, url: str, leg: Leg) -> dict[str, object]:
    """One request. Raises AnswerError."""
    import httpx2

    question = {"bot": leg.dialled, "caller": leg.caller, "call_id": leg.call_id}
    try:
        async with client.stream("POST", url, json=question, headers=HEADERS, follow_redirects=False) as response:
            if response.status_code != 200:
                raise AnswerError(f"HTTP status {response.status_code}")
            return parse_untrusted(await read_bounded(response))
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise AnswerError(str(error) or type(error).__name__) from None


async def read_bounded(response: httpx2.Response) -> bytes:
    """The body as it is on the wire. Raises AnswerError when it is too long."""
    body = bytearray()
    with trio.CancelScope() as reading:
        async for block in response.aiter_raw():
            body += block
            if len(body) > LONGEST_ANSWER:
                reading.cancel()  # and go on: so httpx2's generators end by themselves, which a break would leave open
                body = body[: LONGEST_ANSWER + 1]
    if len(body) > LONGEST_ANSWER:
        raise AnswerError(f"the answer is longer than {LONGEST_ANSWER} octets")
    return bytes(body)


def parse_untrusted(body: bytes) -> dict[str, object]:
    """The answer as an object. Raises AnswerError."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise AnswerError("the answer is no JSON") from None
    if not isinstance(answer, dict):
        raise AnswerError("the answer is no JSON object")
    return answer
