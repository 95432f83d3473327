"""An AI agent on a phone number, inside your own trio program.

    OPENAI_API_KEY=sk-... python examples/embed.py

`serve_call()` is one call from INVITE to record; the loop, the nursery and everything around the call are yours.
"""

from __future__ import annotations

import os

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


async def answer_phone(agent: aivc.UserAgent, config: aivc.Settings, **means: object) -> None:
    """Answer whoever calls; `means` are further arguments of `serve_call()`, such as a test's own model."""
    tools = aivc.load_tools([])
    tools.add(opening_hours)

    async def one_call(leg: aivc.Leg) -> None:
        record = await aivc.serve_call(leg, config, tools=tools, **means)
        print(f"{record.caller} talked for {record.duration_seconds:.1f} s: {record.ending.value}")

    async with trio.open_nursery() as nursery:
        async for leg in agent.legs:
            nursery.start_soon(one_call, leg)


async def main() -> None:
    config = settings()
    async with aivc.open_user_agent(config.sip) as agent, aivc.open_heartbeat() as clock:
        await answer_phone(agent, config, clock=clock, ports=aivc.PortPool(config.rtp))


if __name__ == "__main__":
    trio.run(main)
