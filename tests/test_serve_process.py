"""`aivc` as a process: signals, exit statuses, what it prints, and that it never prints the key."""

from __future__ import annotations

import re
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from interop.program import Program, open_program
from interop.service_process import KEY, ROOT, ServiceProcess, command, environment, serving

import aivc
from aivc.config.settings import Address
from aivc.demo.simulator import MODEL, open_simulator
from aivc.testing.caller import CallRefused, Phone, open_phone
from aivc.testing.client import raw_client
from aivc.testing.model import FakeModel
from aivc.testing.phrases import phrase

LONGEST_SECONDS = 30.0
AT_ONCE_SECONDS = 2.0
DRAIN_SECONDS = 1.5  # enough to be refused meanwhile, on a busy machine too


@asynccontextmanager
async def answering(model: FakeModel | None = None, **variables: str) -> AsyncIterator[tuple[ServiceProcess, Phone]]:
    """A service with a model, and a phone to call it with."""
    async with open_simulator(model or FakeModel()) as url, serving(url, **variables) as service, open_phone() as phone:
        yield service, phone


async def status_of_options(to: Address) -> int:
    """Ask whether the service takes calls, as a load balancer does."""
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))
        here = "{}:{}".format(*socket.getsockname())
        call_id = secrets.token_hex(8)
        lines = [
            f"OPTIONS sip:{to[0]}:{to[1]} SIP/2.0",
            f"Via: SIP/2.0/UDP {here};branch=z9hG4bK{call_id};rport",
            *("Max-Forwards: 70", f"From: <sip:probe@{here}>;tag={call_id}", f"To: <sip:{to[0]}>"),
            *(f"Call-ID: {call_id}", "CSeq: 1 OPTIONS", "Content-Length: 0"),
        ]
        await socket.sendto("\r\n".join([*lines, "", ""]).encode(), to)
        answer, _ = await socket.recvfrom(2048)
        return int(answer.split()[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_refuses_new_calls_and_hangs_up_the_running_one_when_its_grace_is_over(number: int) -> None:
    with trio.fail_after(LONGEST_SECONDS):
        async with answering(AIVC_SERVICE_DRAIN_SECONDS=f"{DRAIN_SECONDS}") as (service, phone):
            async with phone.dial(service.uri()) as call:
                assert await status_of_options(service.address) == 200
                told = trio.current_time()
                service.program.process.send_signal(number)
                await service.wait_log("service.draining", calls=1)

                assert await status_of_options(service.address) == 503
                with pytest.raises(CallRefused, match="503"):
                    async with phone.dial(service.uri()):
                        pass
                assert await call.wait_hung_up() - told >= DRAIN_SECONDS
                assert call.handset.heard[-1].at > told + DRAIN_SECONDS / 2  # until then the call went on
            assert await service.program.wait_exit() == 0
    assert [line["ending"] for line in service.log("call.ended")] == ["drained"]
    assert service.log("service.stopped", calls_cut=1)


async def test_a_drained_service_ends_as_soon_as_its_last_call_is_over() -> None:
    with trio.fail_after(LONGEST_SECONDS):
        async with answering() as (service, phone):
            async with phone.dial(service.uri()):
                service.program.process.terminate()
                await service.wait_log("service.draining", calls=1)
            with trio.fail_after(AT_ONCE_SECONDS):
                assert await service.program.wait_exit() == 0
    assert [line["ending"] for line in service.log("call.ended")] == ["caller_hung_up"]


async def test_a_second_signal_ends_at_once_and_still_says_goodbye() -> None:
    with trio.fail_after(LONGEST_SECONDS):
        async with answering() as (service, phone), phone.dial(service.uri()) as call:
            service.program.process.terminate()
            await service.wait_log("service.draining")
            service.program.process.terminate()
            with trio.fail_after(AT_ONCE_SECONDS):
                await call.wait_hung_up()
                assert await service.program.wait_exit() == 0
    assert [line["ending"] for line in service.log("call.ended")] == ["embedder_cancelled"]


async def test_every_log_line_is_json_and_those_of_a_call_carry_its_id() -> None:
    with trio.fail_after(LONGEST_SECONDS):
        async with answering(AIVC_LOG_LEVEL="debug", OPENAI_WELCOME_MSG="Hello.") as (service, phone):
            async with phone.dial(service.uri()) as one, phone.dial(service.uri(), codec="PCMA") as other:
                await one.handset.wait_speech()
                await other.handset.wait_speech()
            await service.wait_log("call.ended", call_id=one.call_id)
            await service.wait_log("call.ended", call_id=other.call_id)
    log = service.log()  # json.loads has read each line
    assert {line.get("call_id") for line in log if not line["event"].startswith("service.")} == {
        one.call_id,
        other.call_id,
    }
    for call in (one, other):
        events = [line["event"] for line in service.log(call_id=call.call_id)]
        assert [event for event in events if event.startswith("call.")] == [
            "call.started",
            "call.answered",
            "call.ended",
        ]


@pytest.mark.parametrize("keys", [None, {"sk-of-somebody-else"}], ids=["right key", "wrong key"])
async def test_the_key_is_never_printed(keys: set[str] | None) -> None:
    model = FakeModel(keys=keys)
    with trio.fail_after(LONGEST_SECONDS):
        async with answering(model, AIVC_LOG_LEVEL="debug") as (service, phone):
            with suppress(CallRefused):
                async with phone.dial(service.uri()):
                    pass
            await service.wait_log("call.ended")
    assert model.sessions[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in service.program.output


async def output_of(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run `aivc` to its end; its exit status and what it printed."""
    with trio.fail_after(LONGEST_SECONDS):
        async with open_program(command(*arguments), folder=folder, environ=environment(**variables)) as program:
            return await program.wait_exit(), program.output


async def test_a_configuration_that_cannot_be_used_is_status_2_with_all_its_errors(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[sip]\nlisten = ["sctp:127.0.0.1:0"]\n[rtp]\nport = 7\n')
    status, printed = await output_of(tmp_path, "serve", "--config", str(file), OPENAI_TEMPERATURE="hot")
    assert status == 2
    assert [re.split("[ :]", line)[0] for line in printed.splitlines()] == [
        "sip.listen",
        "rtp.port",
        "openai.temperature",
        "openai.key",
    ]


async def test_a_port_in_use_is_status_1_with_one_line() -> None:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))
        taken = f"udp:127.0.0.1:{socket.getsockname()[1]}"
        variables = {"AIVC_SIP_LISTEN": taken, "OPENAI_API_KEY": KEY, "OPENAI_API_MODEL": MODEL}
        status, printed = await output_of(ROOT, "serve", **variables)
    assert status == 1
    (line,) = printed.splitlines()
    assert line.startswith("aivc: ")
    assert line.endswith(f"cannot listen on {taken}: Address already in use")


async def test_the_version_is_the_packages() -> None:
    assert await output_of(ROOT, "--version") == (0, f"aivc {aivc.__version__}\n")


@asynccontextmanager
async def simulating() -> AsyncIterator[tuple[Program, Address]]:
    """`aivc simulator` on a free port."""
    async with open_program(
        command("simulator", "--listen", "127.0.0.1:0"), folder=ROOT, environ=environment()
    ) as program:
        ready = await program.wait_output(r"ws://([\d.]+):(\d+)/v1/realtime")
        yield program, (ready[1], int(ready[2]))


async def test_the_simulator_serves_any_client_of_the_realtime_api() -> None:
    with trio.fail_after(LONGEST_SECONDS):
        async with simulating() as (program, address):
            stream = await trio.open_tcp_stream(*address)
            async with raw_client(stream, key=None) as client:
                await client.wait_for("session.created")
                await client.configure("PCMA")
                await client.send("response.create")
                await client.wait_for("response.done")
                assert client.audio() == phrase("model_hello").encoded("PCMA")
            program.process.send_signal(signal.SIGINT)
            assert await program.wait_exit() == 130
