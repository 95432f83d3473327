"""Calls that end because of what the model's side does, or does not do."""

from __future__ import annotations

from typing import Any, Final

import trio

from aivc import Ending, ToolContext, tool
from aivc.testing import CallTool, Faults, PhoneCall, Say, Transfers, decided, scripted
from aivc.testing.script import Context, Part
from scenarios.arena import Arena
from scenarios.ways import AT_ONCE, GOODBYE, HELLO, RINGS, SHORT, Way, be_hung_up_on, be_refused
from scenarios.world import changed

IMPATIENT: Final = changed(SHORT, openai={"connect_seconds": 0.3, "configure_seconds": 0.4, "answer_seconds": 0.5})
ALIVE: Final = changed(SHORT, openai={"ping_seconds": 0.3, "pong_seconds": 0.2})
AGAIN: Final = changed(SHORT, openai={"reconnect": True, "ping_seconds": 0.3, "pong_seconds": 0.2})
ELSEWHERE: Final = changed(SHORT, openai={"transfer_to": "sip:support@example.com"})
FAREWELL: Final = changed(SHORT, openai={"expiry_seconds": 9.0})
RENEWED: Final = changed(SHORT, openai={"expiry_seconds": 9.0, "reconnect": True})


def says_farewell(context: Context) -> list[Part]:
    return [Say("Goodbye.", audio=HELLO)] if context.instructions else []


@tool
async def chatter(context: ToolContext) -> str:
    """Send more than a connection that nobody reads takes."""
    for _ in range(400):
        context.send_event({"type": "input_audio_buffer.clear"})
    return "sent"


async def hear_nothing_more(arena: Arena) -> PhoneCall:
    async with arena.dial() as call:
        (await arena.model.wait_session()).stall()
        await call.wait_hung_up()
    return call


async def lose_two(arena: Arena) -> PhoneCall:
    """The session, and the one that has taken its place."""
    async with arena.dial() as call:
        await call.handset.wait_speech()
        for number in (1, 2):
            (await arena.model.wait_session(number)).drop()
            await trio.sleep(0.5)
        await call.wait_hung_up()
    return call


async def outlive_a_session(arena: Arena) -> PhoneCall:
    """The first session is left for another one before it expires, and closed."""
    async with arena.dial() as call:
        await arena.model.wait_session(2)
        await trio.sleep(1.0)
    return call


async def go_elsewhere(arena: Arena) -> PhoneCall:
    return await be_hung_up_on(arena, transfers=Transfers(delay=0.05))


def refused(name: str, happens: str, detail: str, **more: Any) -> Way:
    """A way in which the model cannot be had."""
    return Way(
        name=name,
        happens=happens,
        ending=Ending.REALTIME_REFUSED,
        detail=detail,
        sees="is refused",
        live=be_refused,
        **more,
    )


MODELS: Final = (
    Way(
        name="the model hangs up",
        happens="The model says goodbye and calls `terminate_call`.",
        ending=Ending.MODEL_HUNG_UP,
        sees="is hung up on",
        live=be_hung_up_on,
        script=scripted([GOODBYE]),
        model={"speed": AT_ONCE},
    ),
    Way(
        name="the model hangs up without a word",
        happens="The model calls `terminate_call` and says nothing.",
        ending=Ending.MODEL_HUNG_UP,
        sees="is hung up on",
        live=be_hung_up_on,
        script=scripted([[CallTool("terminate_call")]]),
    ),
    refused(
        "the upgrade is refused",
        "The server answers the upgrade with 503.",
        "http_503",
        faults=Faults(refuse_upgrade=503),
    ),
    refused(
        "too many sessions", "The server answers the upgrade with 429.", "http_429", faults=Faults(refuse_upgrade=429)
    ),
    refused("a wrong key", "The key is wrong.", "invalid_api_key", model={"keys": {"sk-another"}}, blunders=True),
    refused(
        "an unknown model",
        "There is no such model.",
        "invalid_model",
        model={"models": {"gpt-realtime"}},
        blunders=True,
    ),
    refused(
        "another audio format",
        "`session.updated` has another audio format than the one asked for.",
        "wrong_format",
        faults=Faults(echo_format="audio/pcm"),
    ),
    refused(
        "no upgrade",
        "The server does not answer the upgrade within `openai.connect_seconds`.",
        "timeout: no WebSocket upgrade",
        faults=Faults(silent_upgrade=True),
        settings=IMPATIENT,
    ),
    refused(
        "no session.created",
        "`session.created` does not come within `openai.connect_seconds`.",
        "timeout: no session.created",
        faults=Faults(no_session_created=True),
        settings=IMPATIENT,
    ),
    refused(
        "no session.updated",
        "`session.updated` does not come within `openai.configure_seconds`.",
        "timeout: no session.updated",
        faults=RINGS,
        settings=IMPATIENT,
    ),
    Way(
        name="an exhausted account",
        happens="The model reports an error that no retry mends, such as `insufficient_quota`.",
        ending=Ending.REALTIME_FATAL,
        detail="insufficient_quota",
        sees="is hung up on",
        live=be_hung_up_on,
        faults=Faults(fail_responses="insufficient_quota"),
    ),
    Way(
        name="an error storm",
        happens="The model reports one error after the other.",
        ending=Ending.REALTIME_FATAL,
        detail="server_error",
        sees="is hung up on",
        live=be_hung_up_on,
        faults=Faults(error_storm=30),
    ),
    Way(
        name="the WebSocket is closed",
        happens="The model closes the WebSocket, and `openai.reconnect` is off.",
        ending=Ending.REALTIME_LOST,
        detail="1011",
        sees="is hung up on",
        live=be_hung_up_on,
        faults=Faults(close_after_deltas=1),
    ),
    Way(
        name="the WebSocket is reset",
        happens="The connection to the model breaks, and `openai.reconnect` is off.",
        ending=Ending.REALTIME_LOST,
        detail="1006",
        sees="is hung up on",
        live=be_hung_up_on,
        faults=Faults(drop_after_deltas=1),
    ),
    Way(
        name="the WebSocket is half-open",
        happens="No pong comes from the model within `openai.pong_seconds`, and `openai.reconnect` is off.",
        ending=Ending.REALTIME_LOST,
        detail="1006 no pong within 0.2 s",
        sees="is hung up on",
        live=hear_nothing_more,
        settings=ALIVE,
    ),
    Way(
        name="two sessions are lost",
        happens="The connection breaks, another session takes over, and is lost too.",
        ending=Ending.REALTIME_LOST,
        detail="1006",
        sees="is hung up on",
        live=lose_two,
        settings=AGAIN,
    ),
    Way(
        name="no other session can be had",
        happens="The connection breaks, and the next one is refused.",
        ending=Ending.REALTIME_LOST,
        detail="http_401",
        sees="is hung up on",
        live=be_hung_up_on,
        settings=AGAIN,
        faults=Faults(drop_after_deltas=1),
        model={"later_faults": (Faults(refuse_upgrade=401),)},
    ),
    Way(
        name="the model is silent",
        happens="The model does not answer in its turn, is asked once more, and does not answer.",
        ending=Ending.REALTIME_SILENT,
        detail="model_silent: no answer in 1 s",
        sees="is hung up on",
        live=be_hung_up_on,
        faults=Faults(unanswered=9),
        settings=IMPATIENT,
    ),
    Way(
        name="the session expires",
        happens="The model's session expires before its time.",
        ending=Ending.REALTIME_EXPIRED,
        detail="session_expired",
        sees="is hung up on",
        live=be_hung_up_on,
        faults=Faults(expires_after_seconds=0.5),
    ),
    Way(
        name="a farewell before the session expires",
        happens="The model's session is about to expire, and `openai.reconnect` is off: a farewell is spoken before.",
        ending=Ending.REALTIME_EXPIRED,
        sees="is hung up on",
        live=be_hung_up_on,
        faults=Faults(expires_after_seconds=10.5),
        settings=FAREWELL,
        script=decided(says_farewell),
    ),
    Way(
        name="the session is renewed",
        happens="The session is about to expire, another one goes on with the conversation, and the caller hangs up.",
        ending=Ending.CALLER_HUNG_UP,
        sees="hangs up",
        live=outlive_a_session,
        faults=Faults(expires_after_seconds=10.5),
        settings=RENEWED,
    ),
    Way(
        name="the model reads nothing",
        happens="The model's side reads nothing any more, and too many events wait to be sent.",
        ending=Ending.REALTIME_STUCK,
        detail="too many events wait to be sent",
        sees="is hung up on",
        live=be_hung_up_on,
        script=scripted([[CallTool("chatter")]]),
        tools=(chatter,),
        faults=Faults(stall_after_deltas=0),
        model={"window_octets": 1000},
    ),
    Way(
        name="the model is lost and the caller transferred",
        happens="The model is lost, and the caller is sent to `openai.transfer_to`.",
        ending=Ending.TRANSFERRED,
        detail="after realtime_lost",
        sees="is hung up on",
        live=go_elsewhere,
        faults=Faults(drop_after_deltas=1),
        settings=ELSEWHERE,
    ),
)
