"""The fake model's rules about connecting, the shape of events and the session."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aivc.testing.client import ConnectionOver, RawClient, raw_client
from aivc.testing.model import FakeModel
from aivc.testing.script import Say, scripted
from aivc.testing.session import Observed, SessionEnded

Json = dict[str, Any]


async def error_for(client: RawClient, event_type: str, **fields: object) -> Json:
    """The inner object of the next error, which this event earns."""
    before = len(client.received("error"))
    await client.send(event_type, **fields)
    error: Json = (await client.wait_for("error", count=before + 1))["error"]
    return error


async def test_the_first_event_is_session_created_with_all_the_defaults(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        model = FakeModel(wall_clock=lambda: 1_000_000.5)
        async with model, raw_client(model.open_stream()) as client:
            session = (await client.wait_for("session.created"))["session"]
            assert client.types == ["session.created"]
            assert session["type"] == "realtime"
            assert session["model"] == "gpt-realtime-2.1"
            assert session["expires_at"] == 1_003_600
            assert session["max_output_tokens"] == "inf"
            assert session["truncation"] == "auto"
            assert session["tools"] == []
            pcm = {"type": "audio/pcm", "rate": 24000}
            assert session["audio"]["output"] == {"format": pcm, "voice": "alloy", "speed": 1.0}
            assert session["audio"]["input"]["format"] == pcm
            assert session["audio"]["input"]["turn_detection"] == {
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 300,
                "silence_duration_ms": 200,
                "idle_timeout_ms": None,
                "create_response": True,
                "interrupt_response": True,
            }


@pytest.mark.parametrize(
    ("key", "resource", "headers", "code", "close"),
    [
        (None, "?model=gpt-realtime", [], None, (3000, "invalid_request_error")),
        ("wrong", "?model=gpt-realtime", [], "invalid_api_key", (3000, "invalid_request_error.invalid_api_key")),
        ("right", "", [], "missing_model", (4000, "invalid_request_error.missing_model")),
        ("right", "?model=gpt-live-1", [], "invalid_model", (4000, "invalid_request_error.invalid_model")),
        (
            "right",
            "?model=gpt-realtime",
            [("OpenAI-Beta", "realtime=v1")],
            "beta_api_shape_disabled",
            (4000, "invalid_request_error.beta_api_shape_disabled"),
        ),
    ],
)
async def test_a_client_is_refused_after_the_upgrade_with_an_error_and_a_close(
    key: str | None,
    resource: str,
    headers: list[tuple[str, str]],
    code: str | None,
    close: tuple[int, str],
    autojump_clock: MockClock,
) -> None:
    with trio.fail_after(5):
        async with (
            FakeModel(keys=["right"]) as model,
            raw_client(model.open_stream(), key=key, resource=f"/v1/realtime{resource}", headers=headers) as client,
        ):
            assert await client.wait_closed() == close
            assert client.types == ["error"]
            assert client.events[0][1]["error"]["code"] == code
            session = await model.wait_session()
            assert session.closed == close[0]
            assert [error["code"] for error in session.errors] == [code]


@pytest.mark.parametrize(
    ("headers", "subprotocols"),
    [
        ([("Authorization", "Bearer right")], []),
        ([("api-key", "right")], []),
        ([], ["realtime", "openai-insecure-api-key.right"]),
    ],
)
async def test_a_key_may_come_in_three_ways(
    headers: list[tuple[str, str]], subprotocols: list[str], autojump_clock: MockClock
) -> None:
    with trio.fail_after(5):
        async with (
            FakeModel(keys=["right"]) as model,
            raw_client(model.open_stream(), key=None, headers=headers, subprotocols=subprotocols) as client,
        ):
            await client.wait_for("session.created")
            assert client.websocket.subprotocol == ("realtime" if subprotocols else None)


async def test_without_require_key_a_client_needs_none(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel(require_key=False) as model, raw_client(model.open_stream(), key=None) as client:
            await client.wait_for("session.created")


@pytest.mark.parametrize(
    ("message", "code"), [(b"{}", "invalid_event"), ("{", "invalid_json"), ("[1]", "invalid_event")]
)
async def test_what_is_no_json_object_in_text_is_an_error_and_no_end(
    message: str | bytes, code: str, autojump_clock: MockClock
) -> None:
    with trio.fail_after(5):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await client.websocket.send_message(message)
            assert (await client.wait_for("error"))["error"]["code"] == code
            await client.configure()


async def test_an_error_names_the_clients_event_or_null(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            assert (await error_for(client, "response.cancel", event_id="mine"))["event_id"] == "mine"
            assert (await error_for(client, "response.cancel"))["event_id"] is None
            too_long = await error_for(client, "response.cancel", event_id="x" * 513)
            assert (too_long["code"], too_long["param"]) == ("string_above_max_length", "event_id")
            assert too_long["event_id"] is None


SERVER_VAD: Json = {"type": "server_vad"}
TOOL: Json = {"type": "function", "name": "hours"}


def with_input(**fields: object) -> Json:
    return {"type": "realtime", "audio": {"input": fields}}


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({}, "missing_required_parameter", "session.type"),
        ({"type": "realtime", "bogus": 1}, "unknown_parameter", "session.bogus"),
        ({"type": "realtime", "temperature": 0.8}, "unknown_parameter", "session.temperature"),
        ({"type": "realtime", "instructions": 5}, "invalid_type", "session.instructions"),
        ({"type": "realtime", "max_output_tokens": "4096"}, "invalid_value", "session.max_output_tokens"),
        ({"type": "realtime", "max_output_tokens": 0}, "integer_below_min_value", "session.max_output_tokens"),
        ({"type": "realtime", "max_output_tokens": 4097}, "integer_above_max_value", "session.max_output_tokens"),
        ({"type": "realtime", "output_modalities": ["audio", "text"]}, "invalid_value", "session.output_modalities"),
        ({"type": "realtime", "model": "gpt-realtime"}, "invalid_value", "session.model"),
        ({"type": "realtime", "audio": {"output": {"voice": "fable"}}}, "invalid_value", "session.audio.output.voice"),
        (
            {"type": "realtime", "audio": {"output": {"speed": 2}}},
            "decimal_above_max_value",
            "session.audio.output.speed",
        ),
        (with_input(format={"type": "g711_ulaw"}), "invalid_value", "session.audio.input.format.type"),
        (with_input(format="g711_ulaw"), "invalid_type", "session.audio.input.format"),
        (
            with_input(format={"type": "audio/pcmu", "rate": 8000}),
            "unknown_parameter",
            "session.audio.input.format.rate",
        ),
        (
            with_input(format={"type": "audio/pcm", "rate": 16000}),
            "integer_below_min_value",
            "session.audio.input.format.rate",
        ),
        (with_input(turn_detection={}), "missing_required_parameter", "session.audio.input.turn_detection.type"),
        (
            with_input(turn_detection={**SERVER_VAD, "eagerness": "low"}),
            "unknown_parameter",
            "session.audio.input.turn_detection.eagerness",
        ),
        (
            with_input(turn_detection={"type": "semantic_vad", "idle_timeout_ms": 6000}),
            "unknown_parameter",
            "session.audio.input.turn_detection.idle_timeout_ms",
        ),
        (
            with_input(turn_detection={**SERVER_VAD, "idle_timeout_ms": 4999}),
            "integer_below_min_value",
            "session.audio.input.turn_detection.idle_timeout_ms",
        ),
        (
            with_input(turn_detection={**SERVER_VAD, "threshold": "0.5"}),
            "invalid_type",
            "session.audio.input.turn_detection.threshold",
        ),
        (
            with_input(turn_detection={**SERVER_VAD, "silence_duration_ms": 200.0}),
            "invalid_type",
            "session.audio.input.turn_detection.silence_duration_ms",
        ),
        ({"type": "realtime", "tools": [{"name": "hours"}]}, "missing_required_parameter", "session.tools[0].type"),
        (
            {"type": "realtime", "tools": [TOOL, {"type": "function", "function": TOOL}]},
            "unknown_parameter",
            "session.tools[1].function",
        ),
        ({"type": "realtime", "tools": [{**TOOL, "name": "opening hours"}]}, "invalid_value", "session.tools[0].name"),
        ({"type": "realtime", "tool_choice": "maybe"}, "invalid_value", "session.tool_choice"),
    ],
)
async def test_a_session_update_with_one_bad_field_is_refused_whole(
    session: Json, code: str, param: str, autojump_clock: MockClock
) -> None:
    with trio.fail_after(5):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            before = (await client.wait_for("session.created"))["session"]
            good: Json = {"instructions": "Be brief."} if "instructions" not in session else {}
            error = await error_for(client, "session.update", session={**good, **session})
            assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
            assert (await model.wait_session()).session == before
            assert client.received("session.updated") == []


async def test_unknown_and_missing_event_types_are_named(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            unknown = await error_for(client, "output_audio_buffer.clear")
            assert (unknown["code"], unknown["param"]) == ("invalid_value", "type")
            assert "'response.create'" in unknown["message"]
            await client.websocket.send_message(json.dumps({"event_id": "x"}))
            missing = (await client.wait_for("error", count=2))["error"]
            assert (missing["code"], missing["param"]) == ("missing_required_parameter", "type")
            bogus = await error_for(client, "response.create", bogus=True)
            assert bogus["message"] == "Unknown parameter: 'bogus'."


async def test_an_update_changes_what_it_names_and_echoes_everything(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await client.configure("PCMA", instructions="Be brief.", tools=[TOOL])
            update = with_input(turn_detection={**SERVER_VAD, "threshold": 0.7})
            await client.send("session.update", session=update)
            session = (await client.wait_for("session.updated", count=2))["session"]
            assert session["audio"]["input"]["format"] == {"type": "audio/pcma"}
            assert session["audio"]["input"]["turn_detection"]["threshold"] == 0.7
            assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 200
            assert session["instructions"] == "Be brief."
            assert session["tools"] == [TOOL]
            assert (await model.wait_session()).errors == []


async def test_null_switches_turn_detection_off_and_tools_are_replaced(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await client.configure(tools=[TOOL])
            session = (await client.configure(input={"turn_detection": None}, tools=[]))["session"]
            assert session["audio"]["input"]["turn_detection"] is None
            assert session["tools"] == []


async def test_only_reasoning_models_take_reasoning(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel() as model:
            for name, accepted in (
                ("gpt-realtime-2", True),
                ("gpt-realtime-1.5", False),
                ("gpt-realtime-2025-08-28", False),
            ):
                async with raw_client(model.open_stream(), resource=f"/v1/realtime?model={name}") as client:
                    for field, value in (("reasoning", {"effort": "low"}), ("parallel_tool_calls", False)):
                        await client.send("session.update", session={"type": "realtime", field: value})
                    await trio.sleep(1)
                    assert len(client.received("session.updated")) == (2 if accepted else 0)
                    assert len(client.received("error")) == (0 if accepted else 2)


async def test_the_voice_is_fixed_once_the_model_has_spoken(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel(scripted([[Say("Hello.")]])) as model, raw_client(model.open_stream()) as client:
            voice: Json = {"type": "realtime", "audio": {"output": {"voice": "marin"}}}
            await client.send("session.update", session=voice)
            await client.wait_for("session.updated")
            await client.send("response.create")
            await client.wait_for("response.done")
            await client.send("session.update", session=voice)  # the same again
            await client.wait_for("session.updated", count=2)
            other: Json = {"type": "realtime", "audio": {"output": {"voice": "cedar"}}, "instructions": "Be brief."}
            error = await error_for(client, "session.update", session=other)
            assert (error["code"], error["param"]) == ("cannot_update_voice", None)
            assert (await model.wait_session()).session["instructions"] != "Be brief."


async def test_the_server_pings_every_20_seconds(autojump_clock: MockClock) -> None:
    with trio.fail_after(200):
        async with FakeModel() as model, raw_client(stream := model.open_stream()):
            session = await model.wait_session()
            await trio.sleep(70)
            assert session.pongs_missed == 0
            stream.stall()
            await trio.sleep(70)
            assert session.pongs_missed > 0


async def test_a_session_ends_after_an_hour(autojump_clock: MockClock) -> None:
    with trio.fail_after(4000):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            start = trio.current_time()
            assert await client.wait_closed() == (1001, "")
            assert trio.current_time() - start == pytest.approx(3600)
            error = client.received("error")[0]["error"]
            assert error["code"] == "session_expired"
            assert error["message"] == "Your session hit the maximum duration of 60 minutes."
            assert model.sessions[0].errors == []  # nobody's fault


async def test_the_same_seed_gives_the_same_events_at_the_same_times(
    any_schedule: int, autojump_clock: MockClock
) -> None:
    async def run(seed: int) -> list[tuple[float, Json]]:
        script = scripted([[Say("Hello to you.", seconds=2.0)]])
        async with FakeModel(script, seed=seed, wall_clock=lambda: 0.0) as model:
            start = trio.current_time()
            async with raw_client(model.open_stream()) as client:
                await client.configure()
                await client.send("response.create")
                await client.wait_for("rate_limits.updated")
                return [(round(at - start, 6), event) for at, event in client.events]

    with trio.fail_after(60):
        first = await run(1)
        assert first == await run(1)
        assert [event["event_id"] for _, event in first] != [event["event_id"] for _, event in await run(2)]


async def test_waiting_for_what_never_comes_ends_with_the_session(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            session = await model.wait_session()
            session.close(1000, "bye")
            with pytest.raises(SessionEnded):
                await session.wait_sent("response.done")
            with pytest.raises(ConnectionOver):
                await client.wait_for("response.done")
            assert client.closed == (1000, "bye")


async def test_a_test_can_inject_events_and_see_what_came(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            session = await model.wait_session()
            session.send({"type": "x", "y": 1})
            assert (await client.wait_for("x"))["y"] == 1
            await client.append(b"\xff" * 160)
            await client.configure()
            assert (await session.wait_received("session.update"))["session"]["type"] == "realtime"
            assert session.received_audio == b"\xff" * 160
            assert len(session.sent("x")) == 1
            session.drop()
            assert (await client.wait_closed())[0] == 1006
            assert session.closed == 1006


async def test_a_watcher_sees_both_directions_and_never_blocks(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        send, receive = trio.open_memory_channel[Observed](3)
        async with FakeModel(watch=send, record=False) as model, raw_client(model.open_stream()) as client:
            for _ in range(3):
                await client.configure()
            session = model.sessions[0]
            seen = [receive.receive_nowait() for _ in range(3)]
            assert [(one.direction, one.event["type"]) for one in seen] == [
                ("sent", "session.created"),
                ("received", "session.update"),
                ("sent", "session.updated"),
            ]
            assert session.unwatched == 4
            assert session.events_sent == []
        assert model.sessions == []


async def test_an_error_in_the_body_is_not_wrapped_in_a_group(autojump_clock: MockClock) -> None:
    with pytest.raises(ZeroDivisionError), trio.fail_after(5):
        async with FakeModel():
            raise ZeroDivisionError


async def test_an_error_in_the_script_reaches_the_one_who_entered_the_model(autojump_clock: MockClock) -> None:
    class Broken:
        def respond(self, context: object) -> list[Say]:
            raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True), trio.fail_after(5):
        async with FakeModel(Broken()) as model, raw_client(model.open_stream()) as client:
            await client.send("response.create")
            await trio.sleep(3)
