"""Two instances behind the dispatchers of deploy/: fifty calls, one instance is drained, the other is killed."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
import trio

from aivc.demo.simulator import open_simulator
from aivc.testing.model import FakeModel
from interop import dispatchers, sipp
from interop.dispatchers import Dispatcher, free_port
from interop.service_process import ServiceProcess, serving
from interop.sipp_scenario import IN_DIALOG, expect_answer, invite, offer, pause, request, scenario

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(sipp.missing() is not None, reason=str(sipp.missing())),
]

HOST: Final = "127.0.0.1"
LONGEST_SECONDS: Final = 60.0
PROBED_SECONDS: Final = 5.0  # two rounds of OPTIONS: an instance that is back is known to be
CALLS: Final = 50
CALLS_A_SECOND: Final = 3
TALK_SECONDS: Final = 4.0  # of each
DRAIN: Final = {"AIVC_SERVICE_DRAIN_SECONDS": "30"}


def in_dialog(method: str, sequence: int) -> str:
    """By the route that the dispatcher recorded."""
    repeat = method != "ACK"
    return request(method, sequence, uri=IN_DIALOG, to="[last_To:]", fields=("[routes]",), repeat=repeat)


# A BYE for a call that is lost with its instance gets the dispatcher's own 408: noted, and no failure of the scenario.
LOST = (
    '<recv response="408" optional="true" next="lost"></recv><recv response="200" next="end"></recv>\n'
    '<label id="lost"/><nop><action><log message="lost [call_id]"/></action></nop>\n<label id="end"/>\n'
)
CALL = (
    invite(offer("PCMU"))
    + '<recv response="100"></recv>'
    + '<recv response="180" optional="true"></recv>'
    + expect_answer()
)
CALL += in_dialog("ACK", 1) + pause(TALK_SECONDS) + in_dialog("BYE", 2) + LOST


async def wait_ended(service: ServiceProcess) -> None:
    """Until a service that drains is gone, in order."""
    assert await service.program.wait_exit() == 0


def calls(service: ServiceProcess, event: str) -> set[str]:
    return {line["call_id"] for line in service.log(event)}


@pytest.mark.parametrize("dispatcher", dispatchers.installed())
async def test_only_the_calls_of_a_killed_instance_are_lost_and_none_fails_to_set_up(
    dispatcher: Dispatcher, tmp_path: Path
) -> None:
    first_port, second_port = free_port(), free_port()
    with trio.fail_after(LONGEST_SECONDS):
        async with open_simulator(FakeModel()) as url, AsyncExitStack() as stack:

            async def start(port: int) -> ServiceProcess:
                return await stack.enter_async_context(serving(url, **DRAIN, AIVC_SIP_LISTEN=f"udp:{HOST}:{port}"))

            first, second = await start(first_port), await start(second_port)
            entrance = await stack.enter_async_context(dispatcher(tmp_path, first_port, second_port))
            await trio.sleep(PROBED_SECONDS)
            options = ("-m", str(CALLS), "-r", str(CALLS_A_SECOND), "-trace_logs", "-log_file", "lost.log")
            steps, folder = scenario(CALL), tmp_path / "sipp"
            calling = sipp.open_sipp(f"sip:1000@{HOST}:{entrance}", steps, folder, *options)
            caller = await stack.enter_async_context(calling)
            await first.wait_log("call.answered")
            await second.wait_log("call.answered")
            first.program.process.terminate()  # drains: its calls go on, new ones go to the second
            await wait_ended(first)
            third = await start(first_port)
            await third.wait_log("call.answered")
            second.kill()
            assert (await caller.wait_exit(), (folder / "errors.log").exists()) == (0, False), caller.output[-3000:]
    answered = [calls(each, "call.answered") for each in (first, second, third)]
    ended = [calls(each, "call.ended") for each in (first, second, third)]
    assert sum(map(len, answered)) == CALLS
    assert min(map(len, answered)) > 0
    assert (answered[0], answered[2]) == (ended[0], ended[2])  # drained, and started anew: every call to its end
    lost = {line.split()[-1] for line in (folder / "lost.log").read_text().splitlines()}
    assert lost
    assert lost <= answered[1] - ended[1]  # a call whose BYE was answered last may not be in the log any more
