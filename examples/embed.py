"""An AI agent on a phone number, inside your own trio program.

    OPENAI_API_KEY=sk-... python examples/embed.py

or, without a key, against `aivc simulator`:

    OPENAI_URL=ws://127.0.0.1:8765/v1/realtime python examples/embed.py

`serve_call()` is one call from INVITE to record; the loop, the nursery and everything around the call are yours.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial

import trio

import aivc

OPENAI = "wss://api.openai.com/v1/realtime"


@aivc.tool
async def opening_hours(day: str) -> str:
    """When the shop is open.

    Args:
        day: the day of the week, in English.
    """
    return "closed" if day.lower() == "sunday" else "from nine until six"


def settings() -> aivc.Settings:
    key, url = os.environ.get("OPENAI_API_KEY"), os.environ.get("OPENAI_URL", OPENAI)
    if key is None and url == OPENAI:
        raise SystemExit("Set OPENAI_API_KEY, or OPENAI_URL to a server that needs no key.")
    return aivc.Settings(
        openai=aivc.OpenAISettings(
            key=None if key is None else aivc.Secret(key),
            url=url,
            model="gpt-realtime-2.1",
            instructions="You answer the phone of a small bookshop. Be brief.",
            welcome_message="Hello, this is the bookshop. How can I help you?",
        ),
        sip=aivc.SipSettings(listen=(os.environ.get("AIVC_SIP_LISTEN", "udp:0.0.0.0:5060"),)),
    )


def tools() -> aivc.ToolRegistry:
    registry = aivc.load_tools([])  # only the built-in terminate_call
    registry.add(opening_hours)
    return registry


async def answer_phone(agent: aivc.UserAgent, serve: Callable[[aivc.Leg], Awaitable[aivc.CallRecord]]) -> None:
    """Answer whoever calls, each in a task of this nursery."""

    async def one_call(leg: aivc.Leg) -> None:
        record = await serve(leg)
        print(f"{record.caller} talked for {record.duration_seconds:.1f} s: {record.ending.value}", flush=True)

    async with trio.open_nursery() as nursery:
        async for leg in agent.legs:
            nursery.start_soon(one_call, leg)


async def main() -> None:
    config = settings()
    async with (
        aivc.open_user_agent(config.sip) as agent,
        aivc.open_heartbeat() as clock,
        aivc.open_connections(config, clock) as connect,
    ):
        print("listening on", ", ".join(f"{host}:{port}" for host, port in agent.listening), flush=True)
        serve = partial(
            aivc.serve_call,
            settings=config,
            tools=tools(),
            clock=clock,
            ports=aivc.PortPool(config.rtp),
            connect=connect,
        )
        await answer_phone(agent, serve)


if __name__ == "__main__":
    trio.run(main)
