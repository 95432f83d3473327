"""Every fault that the fake model can be told to have."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from trio_websocket import ConnectionRejected

from aivc.testing.client import RawClient, raw_client
from aivc.testing.faults import Faults
from aivc.testing.model import FakeModel
from aivc.testing.script import CallTool, Say, scripted
from aivc.testing.voice import silence, speech, to_pcm_24k
from aivc.testing.websocket import Latency

Json = dict[str, Any]
LONG = scripted([[Say("A long answer.", seconds=10.0)]])


async def ask(client: RawClient) -> None:
    await client.configure()
    await client.send("response.create")


async def test_the_upgrade_is_refused_with_an_http_status(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel(faults=Faults(refuse_upgrade=429)) as model:
            with pytest.RaisesGroup(ConnectionRejected, flatten_subgroups=True) as caught:
                async with raw_client(model.open_stream()):
                    pytest.fail("let in")
            assert isinstance(caught.value.exceptions[0], ConnectionRejected)
            assert caught.value.exceptions[0].status_code == 429
            assert model.sessions == []


async def test_the_upgrade_is_never_answered(autojump_clock: MockClock) -> None:
    with trio.fail_after(100):
        async with FakeModel(faults=Faults(silent_upgrade=True)) as model:
            with trio.move_on_after(60) as waiting:
                async with raw_client(model.open_stream()):
                    pytest.fail("let in")
            assert waiting.cancelled_caught


async def test_session_created_never_comes(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with (
            FakeModel(faults=Faults(no_session_created=True)) as model,
            raw_client(model.open_stream()) as client,
        ):
            await client.configure()
            assert client.types == ["session.updated"]


async def test_session_updated_is_slow(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        faults = Faults(session_updated_seconds=4.0)
        async with FakeModel(faults=faults) as model, raw_client(model.open_stream()) as client:
            start = trio.current_time()
            await client.configure()
            assert trio.current_time() - start == pytest.approx(4.0)


async def test_session_updated_never_comes(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        faults = Faults(session_updated_seconds=math.inf)
        async with FakeModel(faults=faults) as model, raw_client(model.open_stream()) as client:
            with trio.move_on_after(20) as waiting:
                await client.configure()
            assert waiting.cancelled_caught


async def test_session_updated_has_formats_that_nobody_asked_for(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with (
            FakeModel(faults=Faults(echo_format="audio/pcma")) as model,
            raw_client(model.open_stream()) as client,
        ):
            session = (await client.configure("PCMU"))["session"]
            assert session["audio"]["input"]["format"] == session["audio"]["output"]["format"] == {"type": "audio/pcma"}


async def test_the_format_is_echoed_but_another_is_spoken(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        script = scripted([[Say("x", audio=speech(1.0))]])
        faults = Faults(speak_format="audio/pcm")
        async with FakeModel(script, faults=faults) as model, raw_client(model.open_stream()) as client:
            session = (await client.configure("PCMU"))["session"]
            assert session["audio"]["output"]["format"] == {"type": "audio/pcmu"}
            await client.send("response.create")
            await client.wait_for("response.done")
            assert client.audio() == to_pcm_24k(speech(1.0), "PCMU")


async def test_the_session_expires_early(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        faults = Faults(expires_after_seconds=30)
        model = FakeModel(faults=faults, wall_clock=lambda: 1000.0)
        async with model, raw_client(model.open_stream()) as client:
            assert (await client.wait_for("session.created"))["session"]["expires_at"] == 1030
            start = trio.current_time()
            assert (await client.wait_closed())[0] == 1001
            assert trio.current_time() - start == pytest.approx(30)
            assert client.received("error")[0]["error"]["code"] == "session_expired"


async def test_errors_come_in_a_storm_that_is_not_the_clients_fault(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel(LONG, faults=Faults(error_storm=50)) as model, raw_client(model.open_stream()) as client:
            await ask(client)
            await client.wait_for("response.done")
            assert len(client.received("error")) == 50
            assert model.sessions[0].errors == []


async def test_errors_lack_their_code_and_the_clients_event_id(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        faults = Faults(code_null=True, no_error_event_id=True)
        async with FakeModel(faults=faults) as model, raw_client(model.open_stream()) as client:
            await client.send("response.cancel", event_id="mine")
            error = (await client.wait_for("error"))["error"]
            assert (error["type"], error["code"], error["event_id"]) == ("response_cancel_not_active", None, None)


async def test_a_cancellation_is_never_answered(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with (
            FakeModel(LONG, faults=Faults(ignore_cancel=True)) as model,
            raw_client(model.open_stream()) as client,
        ):
            await ask(client)
            await client.wait_for("response.output_audio.delta")
            await client.send("response.cancel")
            done = (await client.wait_for("response.done"))["response"]
            assert done["status"] == "completed"
            await client.send("response.cancel")
            await trio.sleep(3)
            assert client.received("error") == []


async def test_the_model_stays_silent(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        faults = Faults(no_response_to_create=True)
        async with FakeModel(LONG, faults=faults) as model, raw_client(model.open_stream()) as client:
            await ask(client)
            await client.append(speech(1.0) + silence(0.5))
            await client.wait_for("input_audio_buffer.committed")
            await trio.sleep(10)
            assert client.received("response.created") == []


async def test_every_response_fails_for_want_of_quota(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        faults = Faults(fail_responses="insufficient_quota")
        async with FakeModel(LONG, faults=faults) as model, raw_client(model.open_stream()) as client:
            await ask(client)
            done = (await client.wait_for("response.done"))["response"]
            assert done["status_details"]["error"]["code"] == "insufficient_quota"
            assert (done["output"], client.audio()) == ([], b"")
            assert client.received("error") == []


@pytest.mark.parametrize(("mode", "times"), [("lost", 0), ("doubled", 2)])
async def test_response_done_is_lost_or_doubled(
    mode: Any,  # a Literal of Faults
    times: int,
    autojump_clock: MockClock,
) -> None:
    with trio.fail_after(20):
        async with (
            FakeModel(LONG, faults=Faults(response_done=mode)) as model,
            raw_client(model.open_stream()) as client,
        ):
            await ask(client)
            await client.wait_for("rate_limits.updated")
            assert len(client.received("response.done")) == times


async def test_arguments_are_not_json(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        script = scripted([[CallTool("hours", {"day": "monday"})]])
        faults = Faults(broken_arguments=True)
        async with FakeModel(script, faults=faults) as model, raw_client(model.open_stream()) as client:
            await ask(client)
            done = await client.wait_for("response.function_call_arguments.done")
            with pytest.raises(ValueError, match="delimiter"):
                json.loads(done["arguments"])


@pytest.mark.parametrize(("size", "seconds", "count"), [(1, 0.2, 1600), (200 * 1024, 10.0, 1)])
async def test_deltas_are_tiny_or_huge(size: int, seconds: float, count: int, autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        script = scripted([[Say("x", seconds=seconds)]])
        faults = Faults(delta_octets=size)
        async with FakeModel(script, faults=faults) as model, raw_client(model.open_stream()) as client:
            await ask(client)
            await client.wait_for("response.done")
            assert len(client.received("response.output_audio.delta")) == count
            assert len(client.audio()) == seconds * 8000


async def test_a_delta_follows_response_done(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        script = scripted([[Say("x")]])
        faults = Faults(delta_after_done=True)
        async with FakeModel(script, faults=faults) as model, raw_client(model.open_stream()) as client:
            await ask(client)
            await client.wait_for("rate_limits.updated")
            assert client.types[-3:] == ["response.done", "response.output_audio.delta", "rate_limits.updated"]


@pytest.mark.parametrize("late", [0, 7])
async def test_so_many_deltas_follow_a_cancellation(late: int, autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel(LONG, faults=Faults(late_deltas=late)) as model, raw_client(model.open_stream()) as client:
            await ask(client)
            await client.wait_for("response.output_audio.delta", count=3)
            await client.send("response.cancel")
            await client.wait_for("response.done")
            assert len(client.received("response.output_audio.delta")) == 3 + late


async def test_the_server_closes_in_the_middle_of_an_answer(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        faults = Faults(close_after_deltas=4, close_code=1012)
        async with FakeModel(LONG, faults=faults) as model, raw_client(model.open_stream()) as client:
            await ask(client)
            assert (await client.wait_closed())[0] == 1012
            assert len(client.received("response.output_audio.delta")) == 4
            assert await model.sessions[0].wait_closed() == 1012


async def test_the_connection_breaks_in_the_middle_of_an_answer(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        faults = Faults(drop_after_deltas=4)
        async with FakeModel(LONG, faults=faults) as model, raw_client(model.open_stream()) as client:
            await ask(client)
            assert (await client.wait_closed())[0] == 1006
            assert model.sessions[0].closed == 1006


async def test_the_connection_goes_half_open_in_the_middle_of_an_answer(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        faults = Faults(stall_after_deltas=4)
        model = FakeModel(LONG, faults=faults, window_octets=5000)
        async with model, raw_client(stream := model.open_stream()) as client:
            await ask(client)
            await client.wait_for("response.output_audio.delta", count=4)
            with trio.move_on_after(20) as waiting:
                await client.websocket.ping()
            assert waiting.cancelled_caught
            assert len(client.received("response.output_audio.delta")) == 4
            with trio.move_on_after(1):
                await client.append(bytes(6000))
            assert stream.backlog_octets > 0
            assert client.closed is None


async def test_a_slow_line_delays_both_directions(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        latency = (Latency(seconds=0.1), Latency(seconds=0.3))
        async with FakeModel(latency=latency) as model, raw_client(model.open_stream()) as client:
            start = trio.current_time()
            await client.configure()
            assert trio.current_time() - start == pytest.approx(0.4, abs=0.001)


async def test_faults_may_change_between_sessions(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel(faults=Faults(no_session_created=True)) as model:
            async with raw_client(model.open_stream()) as client:
                await client.configure()
            model.faults = Faults()
            async with raw_client(model.open_stream()) as client:
                await client.wait_for("session.created")


async def test_each_connection_may_have_its_own_faults(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        later = [Faults(refuse_upgrade=503), Faults(refuse_session="insufficient_quota"), Faults()]
        async with FakeModel(LONG, faults=Faults(drop_after_deltas=2), later_faults=later) as model:
            async with raw_client(model.open_stream()) as client:
                await ask(client)
                assert (await client.wait_closed())[0] == 1006
            with pytest.RaisesGroup(ConnectionRejected, flatten_subgroups=True):
                async with raw_client(model.open_stream()):
                    pytest.fail("let in")
            async with raw_client(model.open_stream()) as client:
                assert await client.wait_closed() == (4000, "invalid_request_error.insufficient_quota")
                assert client.received("error")[0]["error"]["code"] == "insufficient_quota"
            for _ in range(2):
                async with raw_client(model.open_stream()) as client:
                    await ask(client)
                    await client.wait_for("response.done")
            assert model.asked == 5
            assert [session.errors for session in model.sessions] == [[]] * 4


async def test_a_response_of_the_servers_own_crosses_the_clients(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        faults = Faults(crossing=1)
        async with FakeModel(LONG, faults=faults) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await client.send("response.create", event_id="mine", response={"metadata": {"n": "1"}})
            error = (await client.wait_for("error"))["error"]
            assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "mine")
            assert client.received("response.created")[0]["response"]["metadata"] is None
            await client.wait_for("response.done")
            await client.send("response.create", response={"metadata": {"n": "2"}})
            await client.wait_for("response.done", count=2)
            assert client.received("response.created")[1]["response"]["metadata"] == {"n": "2"}
            assert model.sessions[0].errors == []


async def test_requests_are_answered_after_a_while_of_silence(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel(LONG, faults=Faults(unanswered=2)) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            for _ in range(3):
                assert client.received("response.created") == []
                await client.send("response.create")
                await trio.sleep(1)
            assert len(client.received("response.created")) == 1


async def test_a_turn_is_an_item_but_nobody_says_that_it_is_committed(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        faults = Faults(lose_committed=True)
        async with FakeModel(LONG, faults=faults) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await client.append(silence(0.5) + speech(1.0) + silence(0.5))
            await client.wait_for("response.done")
            assert client.received("input_audio_buffer.committed") == []
            assert client.received("conversation.item.added")[0]["item"]["role"] == "user"


async def test_what_the_caller_said_cannot_be_written_down(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        faults = Faults(transcription_fails=True)
        async with FakeModel(LONG, faults=faults) as model, raw_client(model.open_stream()) as client:
            await client.configure(input={"transcription": {"model": "gpt-transcribe"}})
            await client.append(silence(0.5) + speech(1.0) + silence(0.5))
            failed = await client.wait_for("conversation.item.input_audio_transcription.failed")
            assert failed["error"]["code"] == "audio_unintelligible"
            assert client.received("conversation.item.input_audio_transcription.completed") == []


async def test_a_client_that_stops_reading_is_given_up(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        model = FakeModel(scripted([[Say("x", seconds=3.0)]]), faults=Faults(delta_octets=1), window_octets=1000)
        async with model, raw_client(stream := model.open_stream()) as client:
            await ask(client)
            await client.wait_for("response.output_audio.delta")
            stream.stall()
            assert await model.sessions[0].wait_closed() == 1008
