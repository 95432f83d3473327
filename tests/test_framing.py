"""The hand-made append frame, read back by an independent WebSocket implementation."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from aivc.realtime.framing import append_frame, frame_head

KEY = 0x1234ABCD


def received(octets: bytes) -> list[TextMessage]:
    server = Connection(ConnectionType.SERVER)
    server.receive_data(octets)
    events = list(server.events())
    assert all(isinstance(event, TextMessage) for event in events), events
    return [event for event in events if isinstance(event, TextMessage)]


def audio_of(octets: bytes) -> bytes:
    messages = received(octets)
    assert messages[-1].message_finished
    event = json.loads("".join(message.data for message in messages))
    assert event == {"type": "input_audio_buffer.append", "audio": event["audio"]}
    return base64.b64decode(event["audio"], validate=True)


@pytest.mark.parametrize(
    ("octets", "head_octets"),
    [(0, 2), (1, 2), (57, 2), (60, 4), (160, 4), (48_000, 4), (49_200, 10), (300_000, 10)],
)
def test_a_server_reads_the_audio_back_whatever_the_length_class(octets: int, head_octets: int) -> None:
    audio = bytes(n * 7 % 256 for n in range(octets))
    frame = append_frame(audio, KEY)
    assert frame[head_octets : head_octets + 4] == KEY.to_bytes(4, "big")
    assert audio_of(frame) == audio


@pytest.mark.parametrize(
    ("octets", "head"),
    [
        (125, b"\x81\xfd"),
        (126, b"\x81\xfe\x00\x7e"),
        (65_535, b"\x81\xfe\xff\xff"),
        (65_536, b"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_the_length_is_written_in_the_fewest_octets(octets: int, head: bytes) -> None:
    assert frame_head(octets) == head


@given(audio=st.binary(max_size=500), key=st.integers(0, 2**32 - 1))
def test_any_audio_survives_any_mask(audio: bytes, key: int) -> None:
    assert audio_of(append_frame(audio, key)) == audio


def test_the_payload_is_masked_on_the_wire() -> None:
    assert b"append" not in append_frame(bytes(160), KEY)
