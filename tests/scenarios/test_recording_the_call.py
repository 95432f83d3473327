"""A call is recorded whole: what came and went on every line, in order, without what may not be told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import pytest
import trio
from recorder_parts import event_types, files, flights, of_kind, recording
from trio.testing import MockClock

from aivc import Ending, tool
from aivc.flight.audio import digest_of
from aivc.flight.entries import (
    Datagram,
    Flight,
    MiMessage,
    RealtimeEvent,
    RealtimeLine,
    RtpPacket,
    SipMessage,
    StateChange,
    ToolEntry,
)
from aivc.media.g711 import silence_frame
from aivc.media.rtcp import parse_untrusted as parse_rtcp
from aivc.testing import CallRefused, CallTool, Faults, PhoneCall, Say, Transfers, decided, open_phone, scripted, speech
from aivc.testing.script import Context, Part
from scenarios.conftest import Dialect
from scenarios.front_ends import FrontEndName
from scenarios.test_being_announced import DESK_HOST
from scenarios.test_being_announced import SETTINGS as ATTENDED
from scenarios.test_being_announced import talk as announcing
from scenarios.world import DELAY, SETTINGS, changed, open_world

HELLO: Final = speech(0.3, pitch_hz=210.0, seed=1)
QUESTION: Final = speech(0.3, seed=2)
SECRET_WORDS: Final = "the dog is called Rex"
SILENCE: Final = digest_of(silence_frame("PCMU"))


@tool
async def look_up(name: str) -> str:
    """Find somebody."""
    return f"{name} is in {SECRET_WORDS}"


def talk(context: Context) -> Sequence[Part]:
    if context.outputs:
        return [Say(SECRET_WORDS, audio=HELLO)]
    return [CallTool("look_up", {"name": "Rex"})] if context.turns else [Say("Hello.", audio=HELLO)]


async def converse(call: PhoneCall) -> None:
    await call.handset.wait_speech()
    await call.handset.wait_silence(0.3)
    call.handset.say(QUESTION)
    await call.handset.wait_speech()
    await call.handset.wait_silence(0.3)


def signalling(flight: Flight) -> list[str]:
    """What each message says, by SIP or between OpenSIPS and us."""
    said = [entry.text.partition("\r\n")[0] for entry in of_kind(flight, SipMessage)]
    for message in of_kind(flight, MiMessage):
        body = json.loads(message.text)
        params = body.get("params", {})
        said.append(
            " ".join(filter(None, (body.get("method", "answer"), params.get("event_type"), params.get("method"))))
        )
    return said


def check_order(flight: Flight) -> None:
    times = [entry.at for entry in flight.entries]
    assert times == sorted(times)
    assert times[0] == 0.0
    assert flight.missing == 0


def states(flight: Flight) -> list[str]:
    return [entry.what for entry in of_kind(flight, StateChange)]


async def test_everything_that_came_and_went_is_in_the_file(
    autojump_clock: MockClock, tmp_path: Path, dialect: Dialect, front_end: FrontEndName
) -> None:
    settings = recording(tmp_path)
    script = decided(talk)
    async with open_world(script, settings=settings, dialect=dialect, tools=(look_up,)) as world, world.dial() as call:
        await converse(call)
    (flight,) = flights(tmp_path)
    check_order(flight)
    header = flight.header
    assert (header.front_end, header.audio, header.masked) == (front_end, "hash", ("numbers", "transcripts"))
    assert header.began_at == world.record.started_at or header.began_at > 1_700_000_000
    assert header.rtp_port == 40_000
    said = signalling(flight)
    if front_end == "sip":
        assert [line.partition(" sip:")[0] for line in said] == [
            *("INVITE", "SIP/2.0 100 Trying", "SIP/2.0 180 Ringing", "SIP/2.0 200 OK", "ACK", "BYE", "SIP/2.0 200 OK")
        ]
    else:
        assert said[0] == "E_UA_SESSION NEW INVITE"
        assert {"ua_session_reply INVITE", "answer"} <= set(said)
        assert header.session_key
    assert states(flight)[:3] == ["ringing", "prepared", "answered"]
    assert states(flight)[-2:] == ["over", "ended"]
    lines = [entry.what for entry in of_kind(flight, RealtimeLine)]
    assert lines == ["opening", "open", "closing", "closed"]
    check_events(flight, [seen.event["type"] for seen in world.session.events_received])
    check_media(flight, call)
    called, returned = of_kind(flight, ToolEntry)
    assert (called.what, called.name, returned.what, returned.outcome) == ("called", "look_up", "returned", "ok")
    assert flight.record is not None
    assert flight.record["ending"] == world.record.ending.value
    assert flight.record["call_id"] == header.call_id
    text = files(tmp_path)[0].read_text()
    for hidden in ("Rex", "1000@", "sip:phone", "dog"):
        assert hidden not in text


def check_events(flight: Flight, sent: list[str]) -> None:
    """Every event, in its order, with its audio by digest."""
    assert event_types(flight, "out") == sent
    assert {"session.created", "session.updated", "response.done"} <= set(event_types(flight, "in"))
    for entry in of_kind(flight, RealtimeEvent):
        event = json.loads(entry.text)
        if event["type"] == "input_audio_buffer.append":
            assert set(event["audio"]) == {"digest", "octets"}


def check_media(flight: Flight, call: PhoneCall) -> None:
    packets = of_kind(flight, RtpPacket)
    came = [packet for packet in packets if packet.way == "in"]
    left = [packet for packet in packets if packet.way == "out"]
    first = left[0]
    drawn = {"ssrc": first.ssrc, "sequence": first.sequence, "rtp_timestamp": first.rtp_timestamp}
    assert flight.header.random == drawn
    heard = call.handset.heard
    assert [digest_of(packet.payload) for packet in heard] == [packet.digest for packet in left[: len(heard)]]
    frames = [QUESTION[at : at + 160] for at in range(0, len(QUESTION), 160)]
    assert [packet.digest for packet in came if packet.digest != SILENCE][: len(frames)] == [
        digest_of(frame) for frame in frames
    ]
    assert {packet.payload for packet in packets} == {None}
    assert any(packet.is_voiced for packet in came)
    assert any(packet.is_voiced for packet in left)
    (goodbye,) = [entry for entry in of_kind(flight, Datagram) if entry.way == "out"][-1:]
    assert goodbye.is_control
    assert parse_rtcp(goodbye.data)


async def test_the_answer_to_our_bye_comes_after_the_record_and_is_in_the_file(
    autojump_clock: MockClock, tmp_path: Path, dialect: Dialect
) -> None:
    script = scripted([[Say("Bye.", audio=HELLO), CallTool("terminate_call")]])
    async with open_world(script, settings=recording(tmp_path), dialect=dialect) as world, world.dial() as call:
        await call.wait_hung_up()
    (flight,) = flights(tmp_path)
    check_order(flight)
    if flight.header.front_end == "sip":
        *_, bye, answer = of_kind(flight, SipMessage)
        assert (bye.way, bye.text.partition(" ")[0]) == ("out", "BYE")
        assert (answer.way, answer.text.partition("\r\n")[0]) == ("in", "SIP/2.0 200 OK")
    else:
        assert "ua_session_update BYE" in signalling(flight) or "ua_session_terminate" in signalling(flight)


async def test_the_call_to_who_is_transferred_to_belongs_to_the_call(
    autojump_clock: MockClock, tmp_path: Path, dialect: Dialect
) -> None:
    settings = recording(tmp_path, ATTENDED)
    async with (
        open_world(decided(announcing), settings=settings, dialect=dialect, speed=100.0) as world,
        open_phone(DESK_HOST, 5060, user="desk", seed=1) as desk,
        desk.answering(ring_seconds=1.0) as theirs,
    ):
        async with world.dial(transfers=Transfers(then_bye=True)) as call:
            await (await theirs.receive()).wait_over()
            await call.wait_over()
        await trio.sleep(3 * DELAY)
    (flight,) = flights(tmp_path)
    check_order(flight)
    lines = [(entry.session, entry.what) for entry in of_kind(flight, RealtimeLine)]
    assert {session for session, _ in lines} == {1, 2}  # the second announces who comes
    said = signalling(flight)
    if flight.header.front_end == "sip":
        ours = [entry for entry in of_kind(flight, SipMessage) if "Replaces" not in entry.text]
        invites = [entry for entry in ours if entry.text.startswith("INVITE ")]
        assert [entry.way for entry in invites] == ["in", "out"]
        assert sum(line.startswith("BYE ") for line in said) >= 2  # both of our dialogs end, and the callers may cross
    else:
        assert "ua_session_client_start" in {line.partition(" ")[0] for line in said}
        assert any("ANSWERED" in line for line in said)
    assert "sip:desk@" not in files(tmp_path)[0].read_text()


@pytest.mark.parametrize("moment", ["the connection", "the answer"])
async def test_a_connection_that_is_refused_or_lost_is_told(
    autojump_clock: MockClock, tmp_path: Path, dialect: Dialect, moment: Literal["the connection", "the answer"]
) -> None:
    settings = recording(tmp_path, changed(openai={"reconnect": False}), mode="on_error")
    script = scripted([[Say("Hello.", audio=HELLO)]])
    is_refused = moment == "the connection"
    faults = Faults(refuse_upgrade=401) if is_refused else Faults()
    async with open_world(script, settings=settings, dialect=dialect, faults=faults) as world:
        if is_refused:
            with pytest.raises(CallRefused):
                async with world.dial():
                    pass
        else:
            async with world.dial() as call:
                await call.handset.wait_speech()
                world.session.drop()
                await call.wait_hung_up()
    (flight,) = flights(tmp_path)
    lines = [(entry.what, entry.detail) for entry in of_kind(flight, RealtimeLine)]
    if is_refused:
        assert world.record.ending is Ending.REALTIME_REFUSED
        assert [what for what, _ in lines] == ["opening", "refused"]
        assert lines[1][1].startswith("http_401 final: ")
    else:
        assert world.record.ending is Ending.REALTIME_LOST
        assert [what for what, _ in lines] == ["opening", "open", "lost"]


async def test_encrypted_audio_is_noted_as_it_was_meant(
    autojump_clock: MockClock, tmp_path: Path, dialect: Dialect
) -> None:
    pytest.importorskip("pylibsrtp", reason="the extra `srtp`")
    settings = recording(tmp_path, changed(rtp={"srtp": "required"}), audio="keep", mask=())
    async with (
        open_world(decided(talk), settings=settings, dialect=dialect, tools=(look_up,)) as world,
        world.dial(crypto="AES_CM_128_HMAC_SHA1_80", rtcp="mux") as call,
    ):
        await converse(call)
        await call.handset.send_report(jitter_ms=2.0)
        await trio.sleep(0.1)
        assert QUESTION in world.session.received_audio
    (flight,) = flights(tmp_path)
    packets = of_kind(flight, RtpPacket)
    came = b"".join(packet.payload or b"" for packet in packets if packet.way == "in")
    left = b"".join(packet.payload or b"" for packet in packets if packet.way == "out")
    assert QUESTION in came
    assert HELLO in left
    reports = [entry for entry in of_kind(flight, Datagram) if parse_rtcp(entry.data)]
    assert {entry.way for entry in reports} == {"in", "out"}
    assert {entry.is_control for entry in reports} == {False}
    text = files(tmp_path)[0].read_text()
    assert "inline:AAAAAAAA" in text
    assert SECRET_WORDS in text
    assert SETTINGS.openai.key is not None
    assert SETTINGS.openai.key.reveal() not in text


async def test_calls_side_by_side_have_a_file_each(autojump_clock: MockClock, tmp_path: Path, dialect: Dialect) -> None:
    settings = recording(tmp_path, changed(rtp={"max_port": 40_005}))
    script = scripted([[Say("Hello.", audio=HELLO)]])
    async with (
        open_world(script, settings=settings, dialect=dialect, calls=3) as world,
        world.dial(),
        world.dial(),
        world.dial() as call,
    ):
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.2)
    found = flights(tmp_path)
    assert {flight.header.call_id for flight in found} == {record.call_id for record in world.records}
    assert len({flight.header.rtp_port for flight in found}) == 3
    for flight in found:
        assert {packet.ssrc for packet in of_kind(flight, RtpPacket) if packet.way == "out"} == {
            flight.header.random["ssrc"]
        }
        identities = {
            line for entry in of_kind(flight, SipMessage) for line in entry.text.split("\r\n") if "Call-ID" in line
        }
        assert identities <= {f"Call-ID: {flight.header.call_id}"}


async def test_a_bug_is_reason_enough_to_keep_a_call(
    autojump_clock: MockClock, tmp_path: Path, dialect: Dialect
) -> None:
    @tool
    async def broken() -> str:
        """Fail."""
        raise LookupError("the shelf is empty")

    for name, part in (("good", Say("Hello.", audio=HELLO)), ("bad", CallTool("broken"))):
        settings = recording(tmp_path / name, mode="on_error")
        script = scripted([[part], [Say("Sorry.", audio=HELLO)]])
        async with (
            open_world(script, settings=settings, dialect=dialect, tools=(broken,)) as world,
            world.dial() as call,
        ):
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.2)
        assert world.record.ending is Ending.CALLER_HUNG_UP
    assert files(tmp_path / "good") == []
    (flight,) = flights(tmp_path / "bad")
    (error,) = [entry.detail for entry in of_kind(flight, StateChange) if entry.what == "error"]
    assert error == "tool.failed: LookupError: 'the shelf is empty'" or error.startswith("tool.failed: LookupError")
