from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import attrs
import pytest
import trio
from trio.testing import MockClock

import aivc
from aivc.testing import (
    CallTool,
    FakeModel,
    Part,
    Say,
    VirtualNetwork,
    connect_to,
    open_phone,
    scripted,
    serve_port,
    speech,
)

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_embedding_example_takes_a_call_and_answers_with_its_own_tool(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    embed = load("embed")
    VirtualNetwork(host="192.0.2.1").enable()
    config = attrs.evolve(
        embed.settings(),
        sip=aivc.SipSettings(listen=("udp:192.0.2.1:5060",)),
        rtp=aivc.RtpSettings(bind_ip="192.0.2.1"),
    )
    answers: list[list[Part]] = [
        [Say("Hello.")],
        [CallTool("opening_hours", {"day": "Sunday"})],
        [Say("We are closed on Sundays.")],
    ]
    with trio.fail_after(60):
        async with (
            FakeModel(scripted(answers)) as model,
            aivc.open_user_agent(config.sip) as agent,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(serve, embed, agent, config, model)
            async with open_phone("192.0.2.9") as phone, phone.dial("sip:shop@192.0.2.1:5060") as call:
                await call.handset.wait_speech()
                await call.handset.wait_silence(1.0)
                call.handset.say(speech(1.0))
                await call.handset.wait_speech()
            await (await model.wait_session()).wait_closed()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    (session,) = model.sessions
    assert session.errors == []
    outputs = session.received(lambda event: event.get("item", {}).get("type") == "function_call_output")
    assert [output["item"]["output"] for output in outputs] == ["closed"]
    assert "sip:alice@192.0.2.9 talked for" in capsys.readouterr().out


async def serve(embed: ModuleType, agent: aivc.UserAgent, config: aivc.Settings, model: FakeModel) -> None:
    serve_one = partial(aivc.serve_call, settings=config, tools=embed.tools(), connect=connect_to(model))
    await embed.answer_phone(agent, serve_one)


async def test_the_embedding_example_runs_as_a_program_against_a_server_without_a_key() -> None:
    model = FakeModel(scripted([[Say("Hello.", seconds=1.0)]]), require_key=False)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            port: int = await nursery.start(serve_port, model)
            url = f"ws://127.0.0.1:{port}/v1/realtime"
            environment = {k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}
            environment |= {"OPENAI_URL": url, "AIVC_SIP_LISTEN": "udp:127.0.0.1:0"}
            start = partial(
                trio.run_process,
                [sys.executable, str(EXAMPLES / "embed.py")],
                env=environment,
                stdout=subprocess.PIPE,
                check=False,
            )
            process: trio.Process = await nursery.start(start)
            assert process.stdout is not None
            shown = b""
            while b"\n" not in shown:
                shown += await process.stdout.receive_some()
            address = shown.decode().split()[-1]
            async with open_phone() as phone, phone.dial(f"sip:shop@{address}") as call:
                await call.handset.wait_speech(0.2)
            while b"caller_hung_up" not in shown:
                shown += await process.stdout.receive_some()
            process.terminate()
            await process.wait()
            nursery.cancel_scope.cancel()
    assert model.sessions[0].errors == []


async def test_the_embedding_example_asks_for_a_key_in_one_line() -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("OPENAI_API_KEY", "OPENAI_URL")}
    with trio.fail_after(30):
        done = await trio.run_process(
            [sys.executable, str(EXAMPLES / "embed.py")], env=environment, capture_stderr=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == ["Set OPENAI_API_KEY, or OPENAI_URL to a server that needs no key."]
