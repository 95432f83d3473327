"""A real service that runs out of descriptors, disk or log: calls are refused or told of less, and it goes on."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from interop.program import open_program
from interop.service_process import KEY, ROOT, command, environment
from real_faults_world import SHORT, Plant, limited, open_model, plant, until

from aivc.demo.simulator import MODEL
from aivc.sip.message import Response
from aivc.testing.caller import CallRefused, PhoneCall, open_phone

FILES = 64


async def test_with_64_descriptors_calls_beyond_are_refused_and_the_running_ones_go_on(tmp_path: Path) -> None:
    async with plant(tmp_path, before=limited(f"-n {FILES}")) as at:
        async with AsyncExitStack() as stack:
            calls, response = await fill(stack, at)
            assert len(calls) >= 8
            line = await at.service.wait_log("call.ended", call_id=response.header("Call-ID"))
            assert line["ending"] in ("no_rtp_port", "realtime_refused")
            assert "raise the limit of open files (ulimit -n)" in line["detail"]
            assert f'text="{line["ending"]}: ' in response.header("Reason")
            for _ in range(20):  # one refusal after the other leaves nothing behind
                with pytest.raises(CallRefused, match="503"):
                    async with at.phone.dial(at.service.uri()):
                        pass
            before = [len(call.handset.heard) for call in calls]
            await trio.sleep(0.3)
            assert all(len(call.handset.heard) > heard + 10 for call, heard in zip(calls, before, strict=True))
        for call in calls:
            await at.ended(call, "caller_hung_up")
        assert not at.service.log("call.bug")
        assert not at.service.log("sip.bug")
        await trio.sleep(1.1)  # the quarantine of the ports
        await at.check_next_call()
        await until(lambda: len(at.endings()) == len(calls) + 23, "each call has its record, also the refused ones")


async def fill(stack: AsyncExitStack, at: Plant) -> tuple[list[PhoneCall], Response]:
    """As many calls as are taken, and how the next one is refused."""
    calls: list[PhoneCall] = []
    while len(calls) < FILES:
        try:
            calls.append(await stack.enter_async_context(at.phone.dial(at.service.uri())))
        except CallRefused as refused:
            return calls, refused.response
    raise AssertionError("there is no limit")


@pytest.mark.parametrize("door", ["sip", "admin"])
async def test_without_descriptors_connections_wait_and_nothing_spins(tmp_path: Path, door: str) -> None:
    async with plant(
        tmp_path,
        before=limited(f"-n {FILES}"),
        AIVC_SIP_LISTEN="udp:127.0.0.1:0,tcp:127.0.0.1:0",
        AIVC_ADMIN_LISTEN="127.0.0.1:0",
        AIVC_SIP_MAX_CONNECTIONS="1000",
    ) as at:
        ready = at.service.log("admin.ready")[0]
        address = at.service.listening["tcp"] if door == "sip" else parse(ready["url"])
        async with at.calls(1) as (call,), AsyncExitStack() as stack:
            for _ in range(2 * FILES):
                stream = await trio.open_tcp_stream(*address)
                stack.push_async_callback(trio.aclose_forcefully, stream)
            began = at.cpu_seconds()
            heard = len(call.handset.heard)
            await trio.sleep(1.0)
            assert at.cpu_seconds() - began < 0.5
            assert len(call.handset.heard) > heard + 40
        await at.ended(call, "caller_hung_up")
        await at.check_next_call()


def file_in(folder: Path) -> Path:
    (file,) = folder.glob("*.jsonl")
    return file


def parse(url: str) -> tuple[str, int]:
    host, _, port = url.partition("://")[2].strip("/").rpartition(":")
    return host, int(port)


async def test_a_full_disk_costs_records_and_no_calls(tmp_path: Path) -> None:
    async with plant(tmp_path) as at:
        file = file_in(tmp_path)
        _, hard = resource.prlimit(at.pid, resource.RLIMIT_FSIZE)
        room = file.stat().st_size + 100  # of a disk that is full in the middle of a line
        resource.prlimit(at.pid, resource.RLIMIT_FSIZE, (room, hard))
        for _ in range(2):
            async with at.calls(1) as (call,):
                pass
            await at.ended(call, "caller_hung_up")
            await at.service.wait_log("record.lost", call_id=call.call_id)
        resource.prlimit(at.pid, resource.RLIMIT_FSIZE, (hard, hard))
        await at.check_next_call()
        ended = [line["call_id"] for line in at.service.log("call.ended")]
        assert [*at.endings()] == [ended[0], ended[-1]]


@pytest.mark.parametrize("where", ["full", "closed"])
async def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path, where: str) -> None:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as probe:
        await probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shell = {"full": 'exec "$@" 2>/dev/full', "closed": '"$@" 2>&1 | true'}[where]
    wrapped = ["sh", "-c", shell, "sh", *command("serve")]
    with trio.fail_after(30):
        async with open_model() as model, open_phone() as phone:
            variables = {"OPENAI_API_KEY": KEY, "OPENAI_API_MODEL": MODEL, "OPENAI_URL": model.url}
            variables |= {"AIVC_SIP_LISTEN": f"udp:127.0.0.1:{port}", "RTP_BIND_IP": "127.0.0.1"}
            variables |= {"AIVC_RECORDS_DIRECTORY": str(tmp_path), "AIVC_LOG_LEVEL": "debug"}
            async with open_program(wrapped, folder=ROOT, environ=environment(**SHORT, **variables)) as program:
                for _ in range(3):
                    async with phone.dial(f"sip:1000@127.0.0.1:{port}") as call:
                        await call.handset.wait_speech(0.1)
                await until(lambda: file_in(tmp_path).read_text().count('"caller_hung_up"') == 3, "three records")
                if where == "full":
                    program.process.send_signal(signal.SIGTERM)
                    assert await program.wait_exit() == 0
                else:
                    for pid in children(program.process.pid):
                        os.kill(pid, signal.SIGTERM)
                    await program.wait_exit()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
