"""One line an event, the call's id in each, no secret in any."""

from __future__ import annotations

import enum
import io
import json
import logging
import re
from typing import Any, Literal

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from aivc import logs
from aivc.config.settings import LogSettings, Secret

log = logging.getLogger("aivc.test")


pytestmark = pytest.mark.usefixtures("restored_logging")


def stream_of(form: str, level: str = "debug") -> io.StringIO:
    stream = io.StringIO()
    settings = LogSettings(
        format="json" if form == "json" else "console", level="debug" if level == "debug" else "warning"
    )
    logs.configure(settings, stream)
    return stream


@pytest.fixture
def console() -> io.StringIO:
    return stream_of("console")


@pytest.fixture
def lines() -> io.StringIO:
    return stream_of("json")


def parsed(stream: io.StringIO) -> dict[str, object]:
    (line,) = stream.getvalue().splitlines()
    value = json.loads(line)
    assert isinstance(value, dict)
    return value


def test_a_console_line_has_time_level_event_call_and_fields(console: io.StringIO) -> None:
    with logs.call("abc"):
        logs.event(log, "call.answered", codec="PCMU", after_ms=12, seconds=1.5, held=False, detail=None)
    time, _, rest = console.getvalue().partition(" ")
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}", time)
    assert rest == "INFO  call.answered call=abc codec=PCMU after_ms=12 seconds=1.5 held=false detail=null\n"


def test_a_json_line_has_the_same_with_types(lines: io.StringIO) -> None:
    with logs.call("abc"):
        logs.event(log, "call.answered", level=logging.WARNING, codec="PCMU", after_ms=12, ports=(35000, 35001))
    line = parsed(lines)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("time")))
    assert line == {
        "level": "warning",
        "event": "call.answered",
        "call_id": "abc",
        "codec": "PCMU",
        "after_ms": 12,
        "ports": [35000, 35001],
    }


@pytest.mark.parametrize(("form", "told"), [("json", '"worker": 3'), ("console", " worker=3 ")])
def test_every_line_of_one_of_several_processes_has_its_number(form: Literal["json", "console"], told: str) -> None:
    stream = io.StringIO()
    logs.configure(LogSettings(format=form), stream, worker=3)
    logs.event(log, "call.answered", call_id="abc", codec="PCMU")
    assert told in stream.getvalue()


def test_outside_a_call_there_is_no_call_id(lines: io.StringIO) -> None:
    with logs.call("abc"):
        pass
    logs.event(log, "service.ready")
    assert "call_id" not in parsed(lines)


def test_a_call_id_given_as_a_field_wins_over_the_context(lines: io.StringIO) -> None:
    with logs.call("abc"):
        logs.event(log, "call.refused", call_id="other")
    assert parsed(lines)["call_id"] == "other"


def test_a_call_id_given_as_extra_is_in_the_line_of_the_standard_interface(lines: io.StringIO) -> None:
    log.info("plain %s", "text", extra={"call_id": "abc"})
    assert parsed(lines)["call_id"] == "abc"


async def test_tasks_of_two_calls_keep_their_ids_apart(lines: io.StringIO) -> None:
    async def child(number: int) -> None:
        await trio.lowlevel.checkpoint()
        logs.event(log, "child", number=number)

    async def call(number: int) -> None:
        with logs.call(f"call-{number}"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child, number)
                nursery.start_soon(child, number)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(call, number)
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert len(found) == 6
    assert all(line["call_id"] == f"call-{line['number']}" for line in found)


def test_another_librarys_line_becomes_a_field_with_its_logger(lines: io.StringIO, console: io.StringIO) -> None:
    logging.getLogger("elsewhere").warning("closed %d\nand gone", 7)
    assert console.getvalue().endswith('WARN  log logger=elsewhere message="closed 7\\nand gone"\n')
    assert lines.getvalue() == ""  # the later configure() took its place


def test_other_libraries_are_heard_from_warning_on_and_ours_from_the_level_on() -> None:
    stream = stream_of("json")
    logging.getLogger("elsewhere").info("chatter")
    logs.event(log, "detail", level=logging.DEBUG)
    assert parsed(stream)["event"] == "detail"
    stream = stream_of("json", "warning")
    logs.event(log, "detail")
    assert stream.getvalue() == ""


def test_the_library_configures_nothing_by_itself() -> None:
    assert not any(isinstance(handler, logs.EventHandler) for handler in logging.getLogger().handlers)
    assert logging.getLogger("aivc").handlers == []


# One event is one line


HOSTILE = ("a\r\nb", "a\nERROR fake", "\x1b[31mred", "\x85", "\u2028", "\x00", "\u202e", "a\x7fb", "\ud800")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("form", ["json", "console"])
def test_nothing_in_a_value_a_name_or_an_id_can_end_the_line_or_steer_the_terminal(form: str, text: str) -> None:
    stream = stream_of(form)
    fields: dict[str, Any] = {f"key{text}": f"value{text}", "nested": {text: [text]}}
    logs.event(log, f"name{text}", call_id=f"id{text}", **fields)
    line = stream.getvalue()
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert len(line.splitlines()) == 1


@given(st.text(), st.text(min_size=1))
def test_any_text_survives_json_as_one_line(text: str, key: str) -> None:
    record = logging.makeLogRecord({"event": "e", "fields": {key: [text]}, "levelname": "INFO"})
    line = logs.JsonFormatter().format(record)
    assert line.isprintable()
    assert line.isascii()
    json.loads(line)


def test_a_value_with_spaces_or_an_equals_sign_is_quoted_on_the_console(console: io.StringIO) -> None:
    logs.event(log, "e", a="two words", b="k=v", c="", d='q"q', e="Grüße")
    assert console.getvalue().endswith(r'e a="two words" b="k=v" c="" d="q\"q" e=Grüße' + "\n")


def test_a_field_cannot_take_the_place_of_time_level_or_event(lines: io.StringIO) -> None:
    logs.event(log, "e", time="never", event="forged")
    line = parsed(lines)
    assert (line["event"], line["event_"], line["time_"]) == ("e", "forged", "never")
    assert line["time"] != "never"


class Colour(enum.Enum):
    RED = "red"


def test_values_of_other_types_are_made_plain(lines: io.StringIO) -> None:
    deep: list[object] = []
    for _ in range(50):
        deep = [deep]
    logs.event(
        log, "e", colour=Colour.RED, nan=float("nan"), raw=b"\x00", nested={"a": {1}}, secret_=Secret("x"), deep=deep
    )
    line = parsed(lines)
    assert (line["colour"], line["nan"], line["raw"], line["nested"]) == ("red", "nan", "b'\\x00'", {"a": [1]})
    assert line["secret_"] == "Secret('***')"


def test_a_long_value_is_cut_and_its_length_said(lines: io.StringIO) -> None:
    logs.event(log, "e", text="x" * 1_000_000)
    text = str(parsed(lines)["text"])
    assert text.endswith("... (1000000 characters)")
    assert len(text) < 5_000


# Exceptions


def failure() -> BaseException:
    try:
        try:
            raise ValueError("Incorrect API key provided: sk-proj-abcdefgh12345678\r\nsecond line")
        except ValueError as error:
            raise RuntimeError("Authorization: Bearer abc.def.ghi") from error
    except RuntimeError as error:
        return error


def test_a_traceback_is_inside_the_one_json_line(lines: io.StringIO) -> None:
    logs.event(log, "call.bug", level=logging.ERROR, exc_info=failure(), error="a field of its own")
    line = parsed(lines)
    assert "RuntimeError" in str(line["exception"])
    assert "direct cause" in str(line["exception"])
    assert line["error"] == "a field of its own"


def test_a_traceback_is_indented_below_the_console_line(console: io.StringIO) -> None:
    logs.event(log, "call.bug", level=logging.ERROR, exc_info=failure())
    first, *rest = console.getvalue().splitlines()
    assert first.endswith("ERROR call.bug")
    assert len(rest) > 4
    assert all(line.startswith("    ") for line in rest)


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_secret(form: str) -> None:
    stream = stream_of(form)
    logs.event(log, "call.bug", level=logging.ERROR, exc_info=failure())
    log.error("again", exc_info=failure())
    assert "RuntimeError" in stream.getvalue()
    assert "abcdefgh" not in stream.getvalue()
    assert "abc.def" not in stream.getvalue()


# Secrets

LEAK = "LEAKLEAK0123456789abcdef"


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "text",
    [
        f"key sk-{LEAK} used",
        f"key sk-proj-{LEAK}",
        f"'sk-{LEAK}'",
        f"client secret ek_{LEAK}",
        f"Authorization: Bearer {LEAK}",
        f"authorization: bearer   {LEAK}",
        f"{{'Authorization': 'Bearer {LEAK}'}}",
        f"(b'authorization', b'Bearer {LEAK}')",
        f"Proxy-Authorization: Digest username=\"a\", response=\"{LEAK}\"",
        f"Authorization: Basic {LEAK}",
        f'Digest username="a", uri="sip:b", response="{"0123456789abcdef" * 2}"',
        f"api_key={LEAK}",
        f"OPENAI_API_KEY={LEAK}",
        f'{{"api-key": "{LEAK}"}}',
        f"wss://me.openai.azure.com/openai/v1/realtime?api-key={LEAK}&model=x",
        f"realtime, openai-insecure-api-key.{LEAK}, openai-beta.realtime-v1",
    ],
)  # fmt: skip
def test_a_secret_in_a_text_is_hidden(form: str, text: str) -> None:
    stream = stream_of(form)
    fields: dict[str, Any] = {f"x{text}": 1}
    logs.event(log, "e", text=text, nested={"list": [text]}, **fields)
    log.warning("failed: %s", text)
    line = stream.getvalue()
    assert logs.HIDDEN in line
    assert LEAK not in line
    assert "0123456789abcdef" not in line


@pytest.mark.parametrize(
    "name", ["api_key", "API-Key", "authorization", "Proxy-Authorization", "password", "openai_key"]
)
def test_a_field_with_a_secrets_name_is_hidden_whatever_its_value(lines: io.StringIO, name: str) -> None:
    fields: dict[str, Any] = {name: [LEAK]}
    logs.event(log, "e", headers={name: LEAK}, **fields)
    assert LEAK not in lines.getvalue()


@pytest.mark.parametrize(
    "text", ["task-force-meeting", "the bearer of news"[:10], "response=200", "a sk- prefix", "desk-lamp-and-more"]
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert logs.redacted(text) == text


@pytest.mark.parametrize(
    "piece", ["sk-", "bearer ", "authorization", "authorization:", "api_key = ", 'response="', " ", "a", "-", "sk-a-"]
)
def test_redaction_of_hostile_text_takes_linear_time(piece: str) -> None:
    text = piece * (logs.LONGEST_EXCEPTION // len(piece))
    assert len(logs.redacted(text)) <= 3 * len(text)  # a quadratic pattern would need minutes: faulthandler_timeout
