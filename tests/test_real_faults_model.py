"""The model's server is killed or stopped under a real service: the calls concerned end, and the next one works."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio
from real_faults_world import open_model, plant

from aivc.testing.caller import CallRefused


async def test_a_killed_model_server_costs_its_calls_and_a_new_one_serves_the_next(tmp_path: Path) -> None:
    async with plant(tmp_path) as at:
        async with at.calls(2) as calls:
            at.model.tell(signal.SIGKILL)
            for call in calls:
                await call.wait_hung_up()
                await at.ended(call, "realtime_lost")
        with pytest.raises(CallRefused, match="503") as refused:
            async with at.phone.dial(at.service.uri()):
                pass
        assert 'text="realtime_refused: ' in refused.value.response.header("Reason")
        await at.model.program.wait_exit()
        async with open_model(at.model.address[1]):
            await at.check_next_call()
    endings = list(at.endings().values())
    assert sorted(endings) == sorted(["caller_hung_up"] * 2 + ["realtime_lost"] * 2 + ["realtime_refused"])


async def test_a_killed_model_server_that_is_back_at_once_is_taken_by_the_same_call(tmp_path: Path) -> None:
    async with plant(tmp_path, AIVC_OPENAI_RECONNECT="true") as at, at.calls(1) as (call,):
        at.model.tell(signal.SIGKILL)
        await at.service.wait_log("session.lost", call_id=call.call_id)
        async with open_model(at.model.address[1]):
            await at.service.wait_log("session.replaced", call_id=call.call_id)
            before = len(call.handset.heard)
            await trio.sleep(0.2)
            assert len(call.handset.heard) > before
            assert call.hung_up_at is None
            await call.hang_up()
            await at.ended(call, "caller_hung_up")


async def test_a_model_server_that_hangs_costs_its_calls_until_it_goes_on(tmp_path: Path) -> None:
    async with plant(tmp_path) as at:
        async with at.calls(1) as (call,):
            at.model.tell(signal.SIGSTOP)
            await call.wait_hung_up()  # no pong came
            await at.ended(call, "realtime_lost")
        with pytest.raises(CallRefused, match="503"):  # it connects, and nobody answers
            async with at.phone.dial(at.service.uri()):
                pass
        at.model.tell(signal.SIGCONT)
        await at.check_next_call()


async def test_a_second_signal_ends_the_service_at_once_though_the_model_hangs(tmp_path: Path) -> None:
    async with plant(tmp_path, AIVC_OPENAI_PING_SECONDS="60") as at, at.calls(1) as (call,):
        at.model.tell(signal.SIGSTOP)
        at.service.program.process.terminate()
        await at.service.wait_log("service.draining")
        at.service.program.process.terminate()
        with trio.fail_after(4):
            await call.wait_hung_up()
            assert await at.service.program.wait_exit() == 0
        assert at.endings()[call.call_id] == "embedder_cancelled"
