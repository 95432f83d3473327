"""What the Python yardsticks have in common: RTP packets, the model's events, no I/O.

Both programs are to differ only in what they compare, their event loops and WebSocket libraries.
"""

from __future__ import annotations

import base64
import json
import random
import struct
from typing import Any, Final

import attrs

FRAME_OCTETS: Final = 160  # 20 ms of G.711, RFC 3551 section 4.5.14
FRAME_SECONDS: Final = 0.020
SILENCE: Final = b"\xff"  # of PCMU
PCMU: Final = 0  # its payload type, RFC 3551 section 6
MARKER: Final = 0x80
HEADER: Final = struct.Struct("!BBHII")  # RFC 3550 section 5.1
VERSION: Final = 2
LARGEST_DATAGRAM_OCTETS: Final = 2048
LONGEST_MESSAGE_OCTETS: Final = 1 << 24  # the API sends audio in messages of any length
LONGEST_ANSWER_OCTETS: Final = 8000 * 600  # waiting to be played: ten minutes

Event = dict[str, Any]  # of the Realtime API, as JSON

FORMAT: Final = {"type": "audio/pcmu"}
SESSION_UPDATE: Final = json.dumps(
    {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "output_modalities": ["audio"],
            "audio": {
                "input": {"format": FORMAT, "turn_detection": {"type": "server_vad"}},
                "output": {"format": FORMAT},
            },
        },
    }
)


class SessionError(Exception):
    """The server does not do what a call needs."""


def parse_event(message: str | bytes, wanted: str | None = None) -> Event:
    """One message of the server's. Raises SessionError for an error event and for another type than `wanted`."""
    event: Event = json.loads(message)
    if event["type"] == "error" or event["type"] != (wanted or event["type"]):
        raise SessionError(f"not {wanted}: {message!r:.500}")
    return event


def check_formats(session: Event) -> None:
    """Raises SessionError unless both ways are PCMU; a server that says otherwise would speak 24 kHz PCM."""
    audio = session["audio"]
    if audio["input"]["format"] != FORMAT or audio["output"]["format"] != FORMAT:
        raise SessionError(f"the session is not audio/pcmu both ways: {audio}")


def append_of(audio: bytes) -> str:
    """The message that appends this audio to the server's input buffer."""
    return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(audio).decode()})


def payload_of(datagram: bytes) -> bytes:
    """The audio of an RTP packet; nothing for what is not PCMU."""
    if len(datagram) < HEADER.size or datagram[0] >> 6 != VERSION or datagram[1] & ~MARKER != PCMU:
        return b""
    return datagram[HEADER.size + 4 * (datagram[0] & 15) :]


@attrs.define
class Answer:
    """The model's voice on its way to the caller."""

    _audio: bytearray = attrs.field(factory=bytearray)
    _sequence: int = attrs.field(factory=lambda: random.randrange(1 << 16))
    _rtp_timestamp: int = attrs.field(factory=lambda: random.randrange(1 << 32))
    _ssrc: int = attrs.field(factory=lambda: random.randrange(1 << 32))
    _marker: int = MARKER  # of the first packet only

    def take(self, event: Event) -> None:
        """Raises SessionError when more audio waits than anyone would listen to."""
        match event["type"]:
            case "response.output_audio.delta":
                self._audio += base64.b64decode(event["delta"])
                if len(self._audio) > LONGEST_ANSWER_OCTETS:
                    raise SessionError("more than ten minutes of audio ahead")
            case "response.output_audio.done":  # the end of an answer need not fill a packet
                self._audio += SILENCE * (-len(self._audio) % FRAME_OCTETS)
            case "input_audio_buffer.speech_started":
                self._audio.clear()
            case _:
                pass

    def next_packet(self) -> bytes:
        """The next 20 ms: audio, or silence when a whole frame is not there."""
        if len(self._audio) >= FRAME_OCTETS:
            frame = bytes(self._audio[:FRAME_OCTETS])
            del self._audio[:FRAME_OCTETS]
        else:
            frame = SILENCE * FRAME_OCTETS
        head = HEADER.pack(VERSION << 6, self._marker | PCMU, self._sequence, self._rtp_timestamp, self._ssrc)
        self._marker = 0
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._rtp_timestamp = (self._rtp_timestamp + FRAME_OCTETS) & 0xFFFFFFFF
        return head + frame
