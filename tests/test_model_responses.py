"""The fake model's responses: order, barge-in, cancellation, several at once, failures."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aivc.config.settings import Codec
from aivc.testing.client import RawClient, raw_client
from aivc.testing.model import FakeModel
from aivc.testing.script import CallTool, Context, CutOff, Fail, Part, Say, decided, scripted
from aivc.testing.voice import SILENCE, silence, speech, to_pcm_24k

Json = dict[str, Any]
LONG = scripted([[Say("A very long answer, word for word, to be interrupted.", seconds=10.0)], [Say("Yes?")]])


async def error_for(client: RawClient, event_type: str, **fields: object) -> Json:
    before = len(client.received("error"))
    await client.send(event_type, **fields)
    error: Json = (await client.wait_for("error", count=before + 1))["error"]
    return error


def in_order(client: RawClient) -> list[str]:
    """Event types of responses and items, each row of equal ones once, without the odd and the late ones."""
    names = [name for name in client.types if name.startswith(("response.", "conversation.")) and "mood" not in name]
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


async def test_a_spoken_response_has_openais_order_of_events(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        script = scripted([[Say("Hello", seconds=0.4)]])
        async with FakeModel(script, delta_ms=(150, 450)) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await client.send("response.create")
            await client.wait_for("rate_limits.updated")
            assert in_order(client) == [
                "response.created",
                "response.output_item.added",
                "conversation.item.added",
                "response.content_part.added",
                "response.output_audio_transcript.delta",
                "response.output_audio.delta",
                "response.output_audio.done",
                "response.output_audio_transcript.done",
                "response.content_part.done",
                "conversation.item.done",
                "response.output_item.done",
                "response.done",
            ]
            created = client.received("response.created")[0]["response"]
            assert (created["status"], created["output"]) == ("in_progress", [])
            assert client.received("response.output_item.added")[0]["item"]["content"] == []
            done = client.received("response.done")[0]["response"]
            assert (done["status"], done["status_details"]) == ("completed", None)
            assert done["output"] == [client.received("response.output_item.done")[0]["item"]]
            assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": "Hello"}]
            assert client.types[-1] == "rate_limits.updated"


async def test_words_and_audio_come_interleaved_uneven_and_faster_than_real_time(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        async with FakeModel(LONG, speed=5.0) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            start = trio.current_time()
            await client.send("response.create")
            await client.wait_for("response.done")
            assert trio.current_time() - start == pytest.approx(2.3, abs=0.1)  # 10 s / 5, and 0.3 s of thinking
            sizes = [len(base64.b64decode(event["delta"])) for event in client.received("response.output_audio.delta")]
            assert sum(sizes) == 80000
            assert len(set(sizes)) > len(sizes) / 2
            assert any(size % 160 for size in sizes)
            words = "".join(event["delta"] for event in client.received("response.output_audio_transcript.delta"))
            assert words == "A very long answer, word for word, to be interrupted."
            deltas = [name for name in in_order(client) if name.endswith("delta")]
            assert len(deltas) > 10


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_g711_of_the_sessions_law_is_spoken_octet_by_octet(codec: Codec, autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        said = speech(1.0, codec, seed=9)
        script = scripted([[Say("x", audio=said, codec=codec)], [Say("y", seconds=1.0)]])
        async with FakeModel(script) as model, raw_client(model.open_stream()) as client:
            await client.configure(codec)
            await client.send("response.create")
            await client.wait_for("response.done")
            assert client.audio() == said
            await client.send("response.create")
            await client.wait_for("response.done", count=2)
            assert SILENCE[codec] not in client.audio()


async def test_a_pcm_session_gets_24_khz_samples(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        script = scripted([[Say("x", audio=speech(1.0))]])
        async with FakeModel(script) as model, raw_client(model.open_stream()) as client:
            await client.send("response.create")
            await client.wait_for("response.done")
            assert client.audio() == to_pcm_24k(speech(1.0), "PCMU")
            assert all(
                len(base64.b64decode(e["delta"])) % 2 == 0 for e in client.received("response.output_audio.delta")
            )


async def test_a_text_session_gets_text(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel(scripted([[Say("Hello to you.")]])) as model, raw_client(model.open_stream()) as client:
            await client.send("response.create", response={"output_modalities": ["text"]})
            done = await client.wait_for("response.done")
            assert done["response"]["output"][0]["content"] == [{"type": "output_text", "text": "Hello to you."}]
            assert client.received("response.output_text.done")[0]["text"] == "Hello to you."
            assert client.received("response.output_audio.delta") == []


async def test_speech_interrupts_and_what_was_in_flight_still_comes(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        async with FakeModel(LONG) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await client.send("response.create")
            await client.wait_for("response.output_audio.delta", count=3)
            await client.append(silence(0.5) + speech(1.0))
            done = await client.wait_for("response.done")
            response = done["response"]
            assert response["status"] == "cancelled"
            assert response["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
            assert response["usage"]["total_tokens"] > 0
            started = client.types.index("input_audio_buffer.speech_started")
            after = client.types[started:]
            assert after.count("response.output_audio.delta") == 2
            assert after.index("response.output_item.done") < after.index("response.done")
            item = response["output"][0]
            assert item["status"] == "incomplete"
            streamed = "".join(e["delta"] for e in client.received("response.output_audio_transcript.delta"))
            assert item["content"][0]["transcript"] == streamed != ""
            assert client.received("response.output_audio_transcript.done")[0]["transcript"] == streamed
            await client.append(speech(0.5) + silence(0.5))
            await client.wait_for("response.done", count=2)
            assert client.received("response.done")[1]["response"]["status"] == "completed"


async def test_deltas_in_flight_do_not_lengthen_a_truncated_item(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        async with FakeModel(LONG) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await client.send("response.create")
            delta = await client.wait_for("response.output_audio.delta", count=3)
            await client.append(speech(0.5))
            place = {"item_id": delta["item_id"], "content_index": 0, "audio_end_ms": 40}
            await client.send("conversation.item.truncate", **place)
            await client.wait_for("response.done")
            assert len(client.received("response.output_audio.delta")) == 5
            item = model.sessions[0].items[0]
            assert (item.audio_ms, item.body["content"][0]) == (40, {"type": "output_audio"})
            assert model.sessions[0].errors == []


async def test_an_interrupted_response_is_over_before_the_next_begins(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        async with FakeModel(LONG) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await client.send("response.create")
            await client.wait_for("response.output_audio.delta", count=3)
            await client.append(speech(1.0) + silence(0.5))  # the whole turn at once
            await client.wait_for("response.done", count=2)
            kinds = [name for name in client.types if name in ("response.created", "response.done")]
            assert kinds == ["response.created", "response.done"] * 2


async def test_with_interrupt_response_off_the_response_goes_on(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        vad = {"turn_detection": {"type": "server_vad", "interrupt_response": False}}
        async with FakeModel(LONG) as model, raw_client(model.open_stream()) as client:
            await client.configure(input=vad)
            await client.send("response.create")
            await client.wait_for("response.output_audio.delta")
            await client.append(speech(1.0) + silence(0.5))
            await client.wait_for("input_audio_buffer.committed")
            done = await client.wait_for("response.done")
            assert done["response"]["status"] == "completed"
            await trio.sleep(2)
            assert len(client.received("response.created")) == 1


async def test_the_client_cancels_and_a_few_deltas_follow(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        async with FakeModel(LONG) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await client.send("response.create")
            created = await client.wait_for("response.created")
            await client.wait_for("response.output_audio.delta", count=3)
            await client.send("response.cancel", response_id=created["response"]["id"])
            done = (await client.wait_for("response.done"))["response"]
            assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
            assert len(client.received("response.output_audio.delta")) == 5
            await trio.sleep(5)
            assert len(client.received("response.output_audio.delta")) == 5
            assert "response.cancelled" not in client.types
            assert model.sessions[0].items[0].audio_ms == len(client.audio()) / 8
            assert model.sessions[0].errors == []


async def test_cancelling_before_the_first_item_gives_an_empty_response(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        async with FakeModel(LONG) as model, raw_client(model.open_stream()) as client:
            await client.send("response.create")
            await client.send("response.cancel")
            done = (await client.wait_for("response.done"))["response"]
            assert (done["status"], done["output"]) == ("cancelled", [])


async def test_nothing_to_cancel_is_an_error(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        async with FakeModel(LONG) as model, raw_client(model.open_stream()) as client:
            idle = await error_for(client, "response.cancel")
            assert idle["code"] == "response_cancel_not_active"
            assert idle["message"] == "Cancellation failed: no active response found"
            await client.send("response.create")
            wrong = await error_for(client, "response.cancel", response_id="resp_other")
            assert (wrong["code"], wrong["param"]) == ("response_cancel_not_active", "response_id")
            done = (await client.wait_for("response.done"))["response"]
            assert done["status"] == "completed"


async def test_a_second_response_must_wait_for_the_first(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        async with FakeModel(LONG) as model, raw_client(model.open_stream()) as client:
            await client.send("response.create")
            active = (await client.wait_for("response.created"))["response"]["id"]
            error = await error_for(client, "response.create", event_id="second")
            assert error["code"] == "conversation_already_has_active_response"
            assert active in error["message"]
            assert error["event_id"] == "second"
            await client.wait_for("response.done")
            await client.send("response.create")
            await client.wait_for("response.done", count=2)


async def test_an_out_of_band_response_runs_beside_and_leaves_no_items(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        async with FakeModel(LONG) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await client.send("response.create")
            beside = {"conversation": "none", "metadata": {"topic": "x"}, "input": []}
            await client.send("response.create", response=beside)
            await client.wait_for("response.done", count=2)
            created = [event["response"] for event in client.received("response.created")]
            assert created[0]["conversation_id"] is not None
            assert created[1]["conversation_id"] is None
            done = {event["response"]["id"]: event["response"] for event in client.received("response.done")}
            assert done[created[1]["id"]]["metadata"] == {"topic": "x"}
            assert len(client.received("conversation.item.added")) == 1
            assert len(client.received("response.output_item.added")) == 2
            assert len(model.sessions[0].items) == 1
            assert model.sessions[0].errors == []


@pytest.mark.parametrize(
    ("response", "code", "param"),
    [
        ({"modalities": ["audio"]}, "unknown_parameter", "response.modalities"),
        ({"conversation": "mine"}, "invalid_value", "response.conversation"),
        ({"metadata": {"k": "v" * 513}}, "string_above_max_length", "response.metadata.k"),
        ({"metadata": {str(n): "" for n in range(17)}}, "object_above_max_properties", "response.metadata"),
        ({"input": [{"type": "item_reference", "id": "gone"}]}, "invalid_value", "item_id"),
        ({"temperature": 0.8}, "unknown_parameter", "response.temperature"),
    ],
)
async def test_a_response_with_a_bad_parameter_is_not_created(
    response: Json, code: str, param: str, autojump_clock: MockClock
) -> None:
    with trio.fail_after(30):
        async with FakeModel(LONG) as model, raw_client(model.open_stream()) as client:
            error = await error_for(client, "response.create", response=response)
            assert (error["code"], error["param"]) == (code, param)
            assert client.received("response.created") == []


async def test_several_items_and_two_calls_in_one_response(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        parts: list[Part] = [Say("One."), Say("Two."), CallTool("hours", {"day": "monday"}), CallTool("weather")]
        async with FakeModel(scripted([parts])) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await client.send("response.create")
            done = (await client.wait_for("response.done"))["response"]
            assert [item["type"] for item in done["output"]] == ["message"] * 2 + ["function_call"] * 2
            indexes = [event["output_index"] for event in client.received("response.output_item.added")]
            assert indexes == [0, 1, 2, 3]
            calls = client.received("response.function_call_arguments.done")
            assert [(call["name"], json.loads(call["arguments"])) for call in calls] == [
                ("hours", {"day": "monday"}),
                ("weather", {}),
            ]
            assert len({call["call_id"] for call in calls}) == 2
            deltas = client.received("response.function_call_arguments.delta")
            first = "".join(event["delta"] for event in deltas if event["call_id"] == calls[0]["call_id"])
            assert first == calls[0]["arguments"]
            added = client.received("response.output_item.added")[2]["item"]
            assert (added["name"], added["arguments"], added["status"]) == ("hours", "", "in_progress")


async def test_tool_choice_none_keeps_the_model_from_calling(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        script = scripted([[Say("Bye."), CallTool("hours")]])
        async with FakeModel(script) as model, raw_client(model.open_stream()) as client:
            await client.send("response.create", response={"tool_choice": "none"})
            done = (await client.wait_for("response.done"))["response"]
            assert [item["type"] for item in done["output"]] == ["message"]


async def test_a_failed_response_is_told_by_response_done_alone(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        script = scripted([[Fail("insufficient_quota", "Pay first.")], [Say("Half a"), CutOff()]])
        async with FakeModel(script) as model, raw_client(model.open_stream()) as client:
            await client.send("response.create")
            failed = (await client.wait_for("response.done"))["response"]
            assert failed["status"] == "failed"
            assert failed["status_details"]["error"]["code"] == "insufficient_quota"
            assert failed["usage"] is None
            await client.send("response.create")
            incomplete = (await client.wait_for("response.done", count=2))["response"]
            assert incomplete["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
            assert incomplete["output"][0]["status"] == "incomplete"
            assert client.received("error") == []


async def test_what_clients_must_tolerate_is_always_there_unless_switched_off(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        for decorate in (True, False):
            script = scripted([[Say("Hello.")]] * 8)
            async with FakeModel(script, decorate=decorate) as model, raw_client(model.open_stream()) as client:
                for n in range(8):
                    await client.send("response.create")
                    await client.wait_for("response.done", count=n + 1)
                deltas = client.received("response.output_audio.delta")
                assert all(("obfuscation" in event) is decorate for event in deltas)
                item = client.received("response.output_item.done")[0]["item"]
                assert ("phase" in item) is decorate
                unknown = len(client.received("response.mood.estimated"))
                assert 0 < unknown < 8 if decorate else unknown == 0


async def test_a_ga_session_never_sees_events_of_other_transports(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        async with FakeModel(LONG) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await client.append(speech(1.0) + silence(0.5))
            await client.wait_for("response.output_audio.delta")
            await client.send("response.cancel")
            await client.wait_for("response.done")
            never = ("response.cancelled", "conversation.created", "conversation.item.created")
            assert not [name for name in client.types if name in never or name.startswith("output_audio_buffer")]
            assert all(event["event_id"] for _, event in client.events)


async def test_a_script_is_told_what_happened(autojump_clock: MockClock) -> None:
    seen: list[Context] = []

    def respond(context: Context) -> list[Part]:
        seen.append(context)
        return [CallTool("hours")] if context.responses == 1 else [Say("Hello.", seconds=3.0)]

    tool = {"type": "function", "name": "hours"}
    with trio.fail_after(30):
        async with FakeModel(decided(respond)) as model, raw_client(model.open_stream()) as client:
            await client.configure(tools=[tool])
            await client.send("response.create", response={"instructions": "Greet."})
            await client.wait_for("response.output_audio.delta")
            await client.append(silence(0.5) + speech(1.0) + silence(0.3))
            call = await client.wait_for("response.function_call_arguments.done")
            await client.wait_for("response.done", count=2)
            output = {"type": "function_call_output", "call_id": call["call_id"], "output": "nine"}
            await client.send("conversation.item.create", item=output)
            await client.send("response.create")
            await client.wait_for("response.done", count=3)
    greeting, turn, result = seen
    assert (greeting.trigger, greeting.instructions, greeting.turns) == ("client", "Greet.", 0)
    assert greeting.ordinary_tool() == tool
    assert (turn.trigger, turn.turns, turn.interrupted) == ("turn", 1, True)
    assert turn.turn is not None
    assert turn.turn.seconds == pytest.approx(1.5)
    assert turn.turn.codec == "PCMU"
    assert [(one.name, one.output) for one in result.outputs] == [("hours", "nine")]
    assert (result.called, result.interrupted) == (("hours",), False)
