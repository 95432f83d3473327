"""Several workers behind one SIP address, as operators run them: what one does or suffers costs only its own calls."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import attrs
import pytest
import trio
from interop.program import open_program
from interop.service_process import KEY, ROOT, command, environment, log_lines
from recorder_parts import flights
from test_serve_process import status_of_options
from workers_world import workplace

from aivc import open_service, run_service
from aivc.config.loading import ConfigError
from aivc.config.settings import Agent, HttpTool, OpenAISettings, Secret, Settings
from aivc.demo.simulator import MODEL
from aivc.flight.entries import RtpPacket, SipMessage
from aivc.nursery.asking import fetch_status
from aivc.nursery.record import CallEvent
from aivc.nursery.status import NO_WORKER, CallInProgress, Status, to_json
from aivc.nursery.worker import NoStart, Start, fitting, read_start
from aivc.nursery.workers import FIRST_PAUSE, HANG_SECONDS, LONGEST_PAUSE, STEADY_SECONDS, Backoff, Crew
from aivc.sip.relay import PACKET_OCTETS, Beat, encoded
from aivc.sip.relaying import open_relaying
from aivc.testing.caller import CallRefused, open_phone

SEVERAL = attrs.evolve(Settings(), service=attrs.evolve(Settings().service, workers=2))


def recorded(folder: Path) -> list[str]:
    (file,) = folder.glob("*.jsonl")
    return [json.loads(line)["call_id"] for line in file.read_text().splitlines()]


def words(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


async def test_calls_are_spread_evenly_and_each_is_whole(tmp_path: Path) -> None:
    count = 8
    async with workplace(AIVC_RECORDS_DIRECTORY=str(tmp_path), OPENAI_WELCOME_MSG="Hello.") as at:
        async with AsyncExitStack() as stack:
            calls = [await stack.enter_async_context(at.phone.dial(at.service.uri())) for _ in range(count)]
            assert Counter([await at.owner(call) for call in calls]) == {0: count // 2, 1: count // 2}
            for call in calls:
                await call.handset.wait_speech(0.2)
        for call in calls:  # the BYE of each has found its dialog
            await at.service.wait_log("call.ended", call_id=call.call_id, ending="caller_hung_up")
    assert sorted(recorded(tmp_path)) == sorted(call.call_id for call in calls)
    assert len({line["media"] for line in at.service.log("sip.answered")}) == count  # no two have one RTP port


async def test_workers_share_a_folder_of_recordings_and_each_call_has_one_with_all_its_messages(tmp_path: Path) -> None:
    async with workplace(
        AIVC_RECORDER_MODE="always", AIVC_RECORDER_DIRECTORY=str(tmp_path), OPENAI_WELCOME_MSG="Hello."
    ) as at:
        async with at.two_calls() as calls:
            for call in calls.values():
                await call.handset.wait_speech(0.2)
        for call in calls.values():
            await at.service.wait_log("call.ended", call_id=call.call_id, ending="caller_hung_up")
    found = flights(tmp_path)
    assert len(found) == 2
    for flight in found:
        messages = [entry for entry in flight.entries if isinstance(entry, SipMessage)]
        assert {f"\r\nCall-ID: {flight.header.call_id}\r\n" in entry.text for entry in messages} == {True}
        firsts = [(entry.way, entry.text.partition(" ")[0]) for entry in messages]
        assert {("in", "INVITE"), ("in", "ACK"), ("in", "BYE"), ("out", "SIP/2.0")} == set(firsts)
        assert any(isinstance(entry, RtpPacket) and entry.is_voiced for entry in flight.entries)


async def test_one_connection_carries_the_calls_of_all_workers() -> None:
    async with workplace(AIVC_SIP_LISTEN="tcp:127.0.0.1:0") as at, open_phone(transport="tcp") as phone:
        uri = at.service.uri(transport="tcp")
        async with phone.dial(uri) as one, phone.dial(uri) as other:
            assert {await at.owner(one), await at.owner(other)} == {0, 1}
        for call in (one, other):
            await at.service.wait_log("call.ended", call_id=call.call_id, ending="caller_hung_up")


async def test_a_killed_worker_costs_only_its_calls_and_is_replaced() -> None:
    async with workplace() as at:
        async with at.two_calls() as calls:
            await trio.sleep(0.6)  # the parent has heard of the call in the worker's own words: no event tells so
            at.tell(0, signal.SIGKILL)
            ended = await at.service.wait_log("worker.ended", number=0)
            assert (ended["how"], ended["status"], ended["calls"]) == ("ended", -signal.SIGKILL, 1)
            before = len(calls[1].handset.heard)
            async with at.phone.dial(at.service.uri()) as another:  # at once, by who is left
                assert await at.owner(another) == 1
            await at.started(0, 2)
            assert len(calls[1].handset.heard) > before
            async with at.phone.dial(at.service.uri()) as another:
                assert await at.owner(another) == 0
        await at.service.wait_log("call.ended", call_id=calls[1].call_id, ending="caller_hung_up")
        await at.service.wait_log("sip.refused", call_id=calls[0].call_id, status=481)  # its BYE


async def test_a_worker_that_hangs_is_killed_and_replaced() -> None:
    async with workplace() as at, at.two_calls():
        stopped = trio.current_time()
        at.tell(1, signal.SIGSTOP)
        ended = await at.service.wait_log("worker.ended", number=1)
        assert trio.current_time() - stopped >= HANG_SECONDS - 1
        assert (ended["how"], ended["status"]) == ("hung", -signal.SIGKILL)
        await at.started(1, 2)


async def test_one_worker_can_be_drained_and_comes_back() -> None:
    async with workplace() as at:
        async with at.two_calls() as calls:
            at.tell(0, signal.SIGTERM)
            await at.service.wait_log("worker.draining", worker=0, calls=1)
            heard = calls[0].handset.heard
            before = len(heard)
            async with at.phone.dial(at.service.uri()) as another:
                assert await at.owner(another) == 1
            assert await status_of_options(at.service.address) == 200
            await at.service.wait_log("call.ended", call_id=another.call_id)
            while len(heard) == before:  # noqa: ASYNC110 - a packet comes every 20 ms
                await trio.sleep(0.01)
            assert calls[0].hung_up_at is None
        await at.started(0, 2)
        assert at.service.log("worker.ended", number=0, how="drained", status=0, calls=0)
    endings = {line["call_id"]: line["ending"] for line in at.service.log("call.ended")}
    assert endings[calls[0].call_id] == "caller_hung_up"


async def test_calls_on_their_way_to_a_worker_that_is_drained_are_still_taken() -> None:
    async with workplace() as at, at.two_calls():
        at.tell(0, signal.SIGTERM)
        for _ in range(10):
            async with at.phone.dial(at.service.uri()):
                await trio.sleep(0.01)


async def test_a_service_that_was_stopped_as_a_whole_goes_on_with_its_calls() -> None:
    async with workplace() as at:
        async with at.two_calls() as calls:
            pids = [at.service.program.process.pid, *at.pids().values()]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            await trio.sleep(HANG_SECONDS + 1)
            for pid in pids:  # the parent first
                os.kill(pid, signal.SIGCONT)
            await calls[0].handset.wait_said()
        for call in calls.values():
            await at.service.wait_log("call.ended", call_id=call.call_id, ending="caller_hung_up")
        assert not at.service.log("worker.ended")


async def test_ctrl_c_is_for_the_parent_alone() -> None:
    async with workplace() as at:
        assert [os.getpgid(pid) for pid in at.pids().values()] == list(at.pids().values())


async def test_workers_find_modules_where_their_parent_does_and_not_in_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "calendar.py").write_text("print('of the user')\n")
    variables = {"AIVC_SERVICE_WORKERS": "2", "AIVC_SIP_LISTEN": "udp:127.0.0.1:0", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-P", "-m", "aivc", "serve", "--simulator"]
    with trio.fail_after(30):
        async with open_program(words, folder=tmp_path, environ=environment(**variables)) as program:
            await program.wait_output("service.ready")
    assert "of the user" not in program.output


@pytest.mark.parametrize("character", ["x", "\x80", "\x7f"])
def test_what_is_told_of_the_calls_fits_into_a_packet_whatever_callers_write(character: str) -> None:
    call = CallInProgress(call_id=character * 8000, agent="a", caller="***" + 3 * character, state="ringing", seconds=1)
    short = attrs.evolve(call, call_id="short")
    for calls in ([call] * 1000, [short] * 1000, [short, call] * 500):
        told = tuple(fitting(calls))
        assert 0 < len(told) < 1000
        beat = Beat(len(calls), accepting=True, status=to_json(Status(in_progress=told)))
        assert len(encoded(beat)) < PACKET_OCTETS / 1.5


async def test_a_signal_drains_all_workers_and_a_second_one_ends_them_with_goodbyes() -> None:
    async with workplace() as at, at.two_calls() as calls:
        at.service.program.process.terminate()
        for number in (0, 1):
            await at.service.wait_log("worker.draining", worker=number, calls=1)
        assert await status_of_options(at.service.address) == 503
        with pytest.raises(CallRefused, match="503"):
            async with at.phone.dial(at.service.uri()):
                pass
        assert [call.hung_up_at for call in calls.values()] == [None, None]
        at.service.program.process.terminate()
        with trio.fail_after(10):
            for call in calls.values():
                await call.wait_hung_up()
            assert await at.service.program.wait_exit() == 0
    assert at.service.log()[-1]["event"] == "service.stopped"


async def test_a_drained_service_ends_with_its_last_call() -> None:
    async with workplace() as at:
        async with at.two_calls():
            at.service.program.process.send_signal(signal.SIGINT)
            await at.service.wait_log("service.draining", calls=2)
        with trio.fail_after(10):
            assert await at.service.program.wait_exit() == 0
    assert {line["how"] for line in at.service.log("worker.ended")} == {"drained"}


async def test_when_the_parent_is_killed_the_workers_hang_up_and_end() -> None:
    async with workplace() as at, at.two_calls() as calls:
        at.service.kill()
        with trio.fail_after(10):
            for call in calls.values():
                await call.wait_hung_up()
            await at.service.program.wait_exit()  # and the output that they had in common is closed: none is left


async def test_the_admin_view_shows_all_processes_as_one_and_each() -> None:
    async with workplace(AIVC_ADMIN_LISTEN="127.0.0.1:0") as at:
        url = (await at.service.wait_log("admin.ready"))["url"]
        async with at.two_calls():
            found = await fetch_status(url.removeprefix("http://"))
            while found["calls"] < 2 or len(found["workers"]) < 3:  # a worker tells once a second
                await trio.sleep(0.1)
                found = await fetch_status(url.removeprefix("http://"))
            assert (found["accepting"], found["max_calls"]) == (True, 100)
            assert {worker["worker"]: worker["calls"] for worker in found["workers"]} == {"parent": 0, "0": 1, "1": 1}
            assert found["sip"]["relayed"] >= 4


async def test_what_the_parent_counts_is_there_before_it_happens() -> None:
    sip = attrs.evolve(SEVERAL.sip, listen=("udp:127.0.0.1:0",))
    with trio.fail_after(5):
        async with open_relaying(sip) as exchange:
            status = Crew(SEVERAL, exchange).own_status()
    counts = {name: count for name, count in status.sip.items() if name.startswith("workers_")}
    assert counts == {"workers_drained": 0, "workers_ended": 0, "workers_hung": 0, "workers_failed": 0}
    assert status.why_not == NO_WORKER, "none is ready"


async def test_neither_the_command_line_nor_the_log_of_a_worker_has_secrets() -> None:
    async with workplace() as at:
        for pid in at.pids().values():
            assert words(pid)[1:] == ["-m", "aivc", "worker", ""]
    assert KEY not in at.service.program.output


async def test_what_keeps_the_workers_from_starting_ends_the_service_and_is_told_once(tmp_path: Path) -> None:
    file = tmp_path / "tools.py"
    file.write_text("import no_such_module\n")
    variables = {"OPENAI_API_KEY": KEY, "OPENAI_API_MODEL": MODEL, "AIVC_SIP_LISTEN": "udp:127.0.0.1:0"}
    environ = environment(AIVC_SERVICE_WORKERS="2", OPENAI_TOOLS=str(file), AIVC_LOG_FORMAT="json", **variables)
    with trio.fail_after(30):
        async with open_program(command("serve"), folder=ROOT, environ=environ) as program:
            assert await program.wait_exit() == 2
    lines = [line for line in program.output.splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert "no_such_module" in lines[0]
    log = "".join(f"{line}\n" for line in program.output.splitlines() if line.startswith("{"))
    assert not log_lines(log, "service.ready")


async def test_a_worker_is_not_started_by_hand() -> None:
    with trio.fail_after(30):
        async with open_program(command("worker"), folder=ROOT, environ=environment()) as program:
            assert program.process.stdin is not None
            await program.process.stdin.aclose()
            assert await program.wait_exit() == 2
    assert "service.workers" in program.output


async def test_who_embeds_a_service_runs_one_process() -> None:
    def observe(_: CallEvent) -> None:
        raise AssertionError

    class Nobody:
        def send_nowait(self, event: CallEvent, /) -> None:
            observe(event)

    with trio.fail_after(5):
        with pytest.raises(ConfigError, match=r"service\.workers"):
            async with open_service(SEVERAL):
                pass
        with pytest.raises(ExceptionGroup) as caught:
            await run_service(SEVERAL, observer=Nobody())
        assert caught.group_contains(ConfigError, match=r"service\.workers")


def test_a_worker_is_given_all_settings_as_they_are() -> None:
    tool = HttpTool(name="hours", description="", url="https://example.com", headers={"Authorization": Secret("x")})
    agent = Agent(name="sales", openai=OpenAISettings(key=Secret("sk-1"), match=("1[0-9]*",)))
    settings = attrs.evolve(SEVERAL, agents=(agent,), tools=attrs.evolve(SEVERAL.tools, http=(tool,)))
    start = Start(1, settings, (("UDP", ("192.0.2.1", 5060)),), 3, (4,), bytes(32))
    assert read_start(io.BytesIO(bytes(start))) == start


@pytest.mark.parametrize("data", [b"", b"hello\n", b"\x80\x04N.", b"\x80\x04K\x01"])
def test_nobody_else_can_start_a_worker(data: bytes) -> None:
    with pytest.raises(NoStart):
        read_start(io.BytesIO(data))


def test_what_a_worker_is_given_does_not_show_its_key() -> None:
    start = Start(0, SEVERAL, (), 3, (4,), b"0123456789abcdef" * 2)
    assert "0123456789abcdef" not in repr(start)


def test_a_worker_that_ends_soon_is_started_again_later_each_time() -> None:
    backoff = Backoff()
    pauses = [backoff.after(1.0, in_order=False) for _ in range(10)]
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert backoff.after(STEADY_SECONDS, in_order=False) == FIRST_PAUSE
    assert backoff.after(1.0, in_order=True) == 0.0
