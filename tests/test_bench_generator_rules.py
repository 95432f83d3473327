"""The bench's model server and callers: which rules they hold, and that each one broken is told."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable

import attrs
import pytest
from bench_peer import (
    BINARY,
    NEEDS_COMPILER,
    ONE,
    PING,
    PONG,
    SECONDS,
    SILENCE,
    TEXT,
    VOICE,
    Peer,
    append,
    calling,
    dialled,
    faults,
    frame,
    frames_of,
    read_head,
    rtp,
    upgraded,
)

from bench.generator import HOST, GeneratorError, Load, open_generator

pytestmark = NEEDS_COMPILER


RULES: dict[str, Callable[[Peer], None]] = {
    "a frame of the client is not masked": lambda peer: peer.tcp.sendall(frame(TEXT, b"{}", masked=False)),
    "a continuation of nothing": lambda peer: peer.tcp.sendall(frame(0, b"{}")),
    "a frame of an unknown kind": lambda peer: peer.tcp.sendall(frame(3, b"{}")),
    "reserved bits are set": lambda peer: peer.tcp.sendall(frame(TEXT | 0x40, b"{}")),
    "a control frame in pieces": lambda peer: peer.tcp.sendall(frame(PING, b"", final=False)),
    "a new message before the last one": lambda peer: peer.tcp.sendall(
        frame(TEXT, b"{", final=False) + frame(TEXT, b"}")
    ),
    "a binary message": lambda peer: peer.tcp.sendall(frame(BINARY, b"{}")),
    "no JSON object": lambda peer: peer.send(b'{"type":"response.create"'),
    "an event of an unknown type": lambda peer: peer.tell("nonsense"),
    "an append without audio": lambda peer: peer.tell("input_audio_buffer.append"),
    "audio that is no base64": lambda peer: peer.tell("input_audio_buffer.append", audio="****"),
    "without session.type": lambda peer: peer.tell("session.update", session={}),
    "another SSRC": lambda peer: peer.say_packets(rtp(1, SILENCE), rtp(2, SILENCE, ssrc=8)),
    "RTP sequence went from 1 to 3": lambda peer: peer.say_packets(rtp(1, SILENCE), rtp(3, SILENCE)),
    "RTP timestamp went on by 80": lambda peer: peer.say_packets(rtp(1, SILENCE), rtp(2, SILENCE, timestamp=240)),
    "payload type 8": lambda peer: peer.say_packets(rtp(1, SILENCE, payload_type=8)),
    "with 100 octets": lambda peer: peer.say_packets(rtp(1, SILENCE[:100])),
    "that are no RTP": lambda peer: peer.say_packets(b"nonsense"),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule_is_one_violation_in_words(rule: str) -> None:
    with calling() as [peer]:
        RULES[rule](peer)
        time.sleep(0.02)
        report = peer.generator.report()
    assert report.violations == 1
    assert rule in report.first_violation
    assert not report.exact


def test_a_message_in_pieces_with_a_ping_between_them_is_one_message() -> None:
    with calling() as [peer]:
        [audio] = peer.hear(1)
        message = append(audio)
        peer.tcp.sendall(
            frame(TEXT, message[:50], final=False)
            + frame(0, message[50:60], final=False)
            + frame(PING, b"between")
            + frame(0, message[60:])
        )
        assert peer.receive() == (PONG, b"between")
        report = peer.report()
    assert faults(report) == {}
    assert report.appends == 1


def test_turns_come_with_their_events_in_order_in_both_dialects() -> None:
    expected = [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
    ]
    load = attrs.evolve(ONE, period_ms=1200, speech_ms=400)
    flat = {"input_audio_format": "g711_ulaw", "output_audio_format": "g711_ulaw"}
    with open_generator(load, core=None) as generator:
        for settings, beta, audio in ((VOICE, "", "output_audio"), (flat, "realtime=v1", "audio")):
            peer = dialled(generator, settings=settings, beta=beta)
            with peer.rtp, peer.tcp:
                for event_type in (*expected, f"response.{audio}.delta", f"response.{audio}_transcript.delta"):
                    peer.wait_for(event_type)
                peer.wait_for(f"response.{audio}.done")
                assert peer.wait_for("response.done")["response"]["status"] == "completed"


def test_an_answer_that_the_caller_interrupts_need_not_be_heard() -> None:
    load = attrs.evolve(ONE, period_ms=1000, speech_ms=2000, delta_ms=160, speed=2.0)
    with open_generator(load, core=None) as generator:
        peer = dialled(generator, settings=VOICE)
        with peer.rtp, peer.tcp:
            first, _, third, *_ = frames_of(peer.wait_for("response.output_audio.delta")["delta"])
            peer.say(first, third)
            peer.wait_for("input_audio_buffer.speech_started")
            done = peer.wait_for("response.done")["response"]
            assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
            report = peer.report()
    # Of the first three frames one was passed over; what was sent after them was cut.
    assert faults(report) == {"lost_down": 1, "cut_down": 8 * report.deltas - 3}


def test_the_server_is_polite_about_what_it_does_not_do() -> None:
    with calling() as [peer]:
        peer.tell("response.cancel", event_id="mine")
        assert (
            peer.wait_for("error")["error"].items()
            >= {
                "code": "response_cancel_not_active",
                "event_id": "mine",
            }.items()
        )
        peer.tell("conversation.item.truncate", item_id="item_1", content_index=0, audio_end_ms=120)
        assert peer.wait_for("conversation.item.truncated")["audio_end_ms"] == 120
        peer.tell("conversation.item.delete", item_id="item_1")
        assert peer.wait_for("conversation.item.deleted")["item_id"] == "item_1"
        peer.tell("conversation.item.create", item={"type": "message", "role": "user", "content": []})
        assert peer.wait_for("conversation.item.added")["item"]["role"] == "user"
        peer.tell("response.create", response={"metadata": {"request": "7"}})
        assert peer.wait_for("response.created")["response"]["metadata"] == {"request": "7"}
        assert faults(peer.report()) == {}


def test_a_tls_session_is_resumed_by_its_ticket() -> None:
    with open_generator(attrs.evolve(ONE, tls=True), core=None) as generator:
        context = ssl.create_default_context(cafile=str(generator.cafile))
        session: ssl.SSLSession | None = None
        for _ in range(2):
            with upgraded(generator, context, session) as tcp:
                assert isinstance(tcp, ssl.SSLSocket)
                read_head(tcp)
                tcp.recv(65536)
                session = tcp.session
        report = generator.report()
    assert (report.sessions_opened, report.sessions_resumed) == (2, 1)


def test_an_upgrade_without_its_key_is_refused() -> None:
    with open_generator(ONE, core=None) as generator:
        with upgraded(generator, None, None, Sec_WebSocket_Key="") as tcp:
            assert read_head(tcp).startswith("HTTP/1.1 400 ")
        assert "Sec-WebSocket-Key" in generator.report().first_violation


def test_callers_have_pairs_of_ports_from_the_first_one_on_and_phases_of_their_own() -> None:
    load = attrs.evolve(ONE, calls=8, first_port=23_450)
    with open_generator(load, core=None) as generator, socket.socket(type=socket.SOCK_DGRAM) as phone:
        assert all(port % 2 == 0 and port >= 23_450 for port in generator.rtp_ports)
        assert list(generator.rtp_ports) == sorted(set(generator.rtp_ports))
        phone.bind((HOST, 0))
        phone.settimeout(SECONDS)
        for number in range(8):
            generator.talk(number, phone.getsockname())
        time.sleep(0.06)  # all have begun
        phone.setblocking(False)
        while True:
            try:
                phone.recv(2048)
            except BlockingIOError:
                break
        phone.settimeout(SECONDS)
        callers = [int.from_bytes(phone.recv(2048)[16:20], "little") for _ in range(16)]
    assert sorted(callers[:8]) == list(range(8)), "within 20 ms each sends once"
    assert callers[:8] == callers[8:], "on a grid of its own"


def test_a_load_must_be_whole_frames() -> None:
    with pytest.raises(ValueError, match="speech_ms"):
        Load(calls=1, speech_ms=1010)
    with pytest.raises(ValueError, match="packet_ms"):
        Load(calls=1, packet_ms=30)


def test_a_generator_that_died_is_told() -> None:
    with open_generator(ONE, core=None) as generator:
        os.kill(generator.pid, 9)
        with pytest.raises(GeneratorError, match="gone"):
            generator.report()
