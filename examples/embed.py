"""An AI agent on a phone number, inside your own trio program.

    OPENAI_API_KEY=sk-... python examples/embed.py

`serve_call()` is one call from INVITE to record; the loop, the nursery and everything around the call are yours.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial

import trio

import aivc


@aivc.tool
async def opening_hours(day: str) -> str:
    """When the shop is open.

    Args:
        day: the day of the week, in English.
    """
    return "closed" if day.lower() == "sunday" else "from nine until six"


def settings() -> aivc.Settings:
    return aivc.Settings(
        openai=aivc.OpenAISettings(
            key=aivc.Secret(os.environ["OPENAI_API_KEY"]),
            model="gpt-realtime-2.1",
            instructions="You answer the phone of a small bookshop. Be brief.",
            welcome_message="Hello, this is the bookshop. How can I help you?",
        ),
        sip=aivc.SipSettings(listen=("udp:0.0.0.0:5060",)),
    )


def tools() -> aivc.ToolRegistry:
    registry = aivc.load_tools([])  # only the built-in terminate_call
    registry.add(opening_hours)
    return registry


async def answer_phone(agent: aivc.UserAgent, serve: Callable[[aivc.Leg], Awaitable[aivc.CallRecord]]) -> None:
    """Answer whoever calls, each in a task of this nursery."""

    async def one_call(leg: aivc.Leg) -> None:
        record = await serve(leg)
        print(f"{record.caller} talked for {record.duration_seconds:.1f} s: {record.ending.value}")

    async with trio.open_nursery() as nursery:
        async for leg in agent.legs:
            nursery.start_soon(one_call, leg)


async def main() -> None:
    config = settings()
    async with aivc.open_user_agent(config.sip) as agent, aivc.open_heartbeat() as clock:
        ports = aivc.PortPool(config.rtp)
        await answer_phone(agent, partial(aivc.serve_call, settings=config, tools=tools(), clock=clock, ports=ports))


if __name__ == "__main__":
    trio.run(main)
