"""The programs that aivc is measured against do the whole work of a call's media, octet for octet."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import pytest
import trio
from wsproto.events import Ping
from yardstick_parts import (
    FRAME_OCTETS,
    PCMU,
    RTP,
    YARDSTICKS,
    Caller,
    open_caller,
    open_model,
    open_yardstick,
    speech,
    until_free,
)

from bench.yardsticks import lines, talking

SECONDS = 30  # for a test, on a busy machine

each_yardstick = pytest.mark.parametrize("name", YARDSTICKS)


def assert_one_stream(caller: Caller) -> None:
    """Nothing lost or out of order, one frame of PCMU in each packet, the marker on the first only: RFC 3550, 3551."""
    heads = [RTP.unpack(packet[: RTP.size]) for packet in caller.packets]
    _, _, sequence, rtp_timestamp, ssrc = heads[0]
    for number, (packet, head) in enumerate(zip(caller.packets, heads, strict=True)):
        assert len(packet) == RTP.size + FRAME_OCTETS
        assert head == (
            0x80,
            0x80 if number == 0 else 0,
            (sequence + number) & 0xFFFF,
            (rtp_timestamp + number * FRAME_OCTETS) & 0xFFFFFFFF,
            ssrc,
        )


@each_yardstick
async def test_every_octet_passes_both_ways_for_two_calls_at_once(name: str, tmp_path: Path) -> None:
    said = [speech(f"said {number}", 40 * FRAME_OCTETS) for number in range(2)]
    answers = [speech(f"answer {number}", 25 * FRAME_OCTETS - 37) for number in range(2)]
    with trio.fail_after(SECONDS):
        async with (
            open_model(tmp_path) as model,
            open_yardstick(name, model) as yardstick,
            open_caller() as first,
            open_caller() as second,
        ):
            for number, caller in enumerate((first, second)):
                word, its_number, port = await yardstick.ask(f"call {number} 127.0.0.1 {caller.port}")
                assert (word, its_number) == ("ready", str(number))
                session = model.sessions[number]
                for way in ("input", "output"):
                    assert session.updates[0]["audio"][way]["format"] == PCMU
                await caller.speak(said[number], int(port))
                await session.send_delta(answers[number][:1])
                await session.send_delta(answers[number][1:400], pieces=3)
                await session.send_delta(answers[number][400:], pieces=2)
                await session.send({"type": "response.output_audio.done"})
            for session, caller, audio, answer in zip(model.sessions, (first, second), said, answers, strict=True):
                await session.until(lambda session: len(session.heard) >= 40 * FRAME_OCTETS)
                assert session.heard == audio
                heard = await caller.hear(lambda voice: len(voice) >= 25 * FRAME_OCTETS)
                assert heard == answer + b"\xff" * 37
                assert_one_stream(caller)
            assert await yardstick.end() == 0


@each_yardstick
async def test_the_caller_who_speaks_cuts_the_answer(name: str, tmp_path: Path) -> None:
    long, short = speech("long", 500 * FRAME_OCTETS), speech("short", 5 * FRAME_OCTETS)
    with trio.fail_after(SECONDS):
        async with open_model(tmp_path) as model, open_yardstick(name, model) as yardstick, open_caller() as caller:
            await yardstick.ask(f"call 0 127.0.0.1 {caller.port}")
            await model.sessions[0].send_delta(long)
            await caller.hear(lambda voice: len(voice) >= 3 * FRAME_OCTETS)
            await model.sessions[0].send({"type": "input_audio_buffer.speech_started"})
            await model.sessions[0].send_delta(short)
            heard = await caller.hear(lambda voice: voice.endswith(short))
            cut = len(heard) - len(short)
            assert heard[:cut] == long[:cut]
            assert cut < len(long) / 2
            assert_one_stream(caller)


@each_yardstick
async def test_a_call_that_ends_closes_its_websocket_and_its_number_can_be_called_again(
    name: str, tmp_path: Path
) -> None:
    with trio.fail_after(SECONDS):
        async with open_model(tmp_path) as model, open_yardstick(name, model) as yardstick, open_caller() as caller:
            _, _, port = await yardstick.ask(f"call 0 127.0.0.1 {caller.port}")
            await yardstick.ask(f"call 7 127.0.0.1 {caller.port}")
            assert await yardstick.ask("end 0") == ["ended", "0"]
            await model.sessions[0].until(lambda session: session.close_code)
            assert [session.close_code for session in model.sessions] == [1000, None]
            await until_free(int(port))
            assert (await yardstick.ask(f"call 0 127.0.0.1 {caller.port}"))[:2] == ["ready", "0"]


@each_yardstick
async def test_the_servers_ping_is_answered(name: str, tmp_path: Path) -> None:
    with trio.fail_after(SECONDS):
        async with open_model(tmp_path) as model, open_yardstick(name, model) as yardstick, open_caller() as caller:
            await yardstick.ask(f"call 0 127.0.0.1 {caller.port}")
            await model.sessions[0].send_frame(Ping(b"1234"))
            await model.sessions[0].until(lambda session: session.pongs)
            assert model.sessions[0].pongs == [b"1234"]


@each_yardstick
async def test_a_session_with_another_format_ends_the_program(name: str, tmp_path: Path) -> None:
    pcm = {"type": "audio/pcm", "rate": "24000"}
    with trio.fail_after(SECONDS):
        async with (
            open_model(tmp_path, audio_format=pcm) as model,
            open_yardstick(name, model, subprocess.DEVNULL) as yardstick,
            open_caller() as caller,
        ):
            assert await yardstick.ask(f"call 0 127.0.0.1 {caller.port}") == []
            assert await yardstick.process.wait() == 1


def test_a_line_is_a_call_or_its_end() -> None:
    assert lines.parse_line("call 3 127.0.0.1 40000\n") == lines.Begin(3, "127.0.0.1", 40000)
    assert lines.parse_line("end 3") == lines.End(3)


@pytest.mark.parametrize("line", ["", "call 3", "call three 127.0.0.1 4", "hang 3"])
def test_another_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"not a line|invalid literal"):
        lines.parse_line(line)


def test_a_server_that_refuses_the_session_is_an_error() -> None:
    with pytest.raises(talking.SessionError, match=r"invalid_model"):
        talking.parse_event('{"type":"error","error":{"code":"invalid_model"}}', "session.created")


def test_half_a_frame_waits_for_its_other_half() -> None:
    answer = talking.Answer()
    answer.take({"type": "response.output_audio.delta", "delta": "AAAA"})
    assert set(answer.next_packet()[RTP.size :]) == {0xFF}
    answer.take({"type": "response.output_audio.delta", "delta": "AAAA" * math.ceil(157 / 3)})
    assert set(answer.next_packet()[RTP.size :]) == {0}


def test_what_is_not_pcmu_is_not_passed_on() -> None:
    assert talking.payload_of(b"\x80\x00" + bytes(10) + b"audio") == b"audio"
    assert talking.payload_of(b"\x81\x80" + bytes(14) + b"audio") == b"audio"
    assert talking.payload_of(b"\x80\x65" + bytes(10) + b"event") == b""
    assert talking.payload_of(b"\x80") == b""
