"""A connector for one call, by hand: a UDP socket to the bench's caller, a WebSocket to its model's server."""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest

from bench.generator import HOST, Generator, Load, Report, open_generator

FRAME = 160
SECONDS = 10.0  # for anything that is awaited here
SETTLED = 1.1  # after it nothing can come that is not lost
FRAMES = 10
SILENCE = b"\xff" * FRAME
QUIET = 3_600_000  # a period in which nobody speaks
ONE = Load(calls=1, tls=False, period_ms=QUIET, speech_ms=200, delta_ms=200, speed=100.0)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@cache
def why_not() -> str:
    """What keeps the program from being built here; empty when nothing does."""
    if shutil.which("cc") is None:
        return "no C compiler"
    probe = ["cc", "-E", "-x", "c", "-", "-o", os.devnull]
    done = subprocess.run(probe, input=b"#include <openssl/ssl.h>\n", capture_output=True)
    return "no OpenSSL headers" if done.returncode else ""


NEEDS_COMPILER = pytest.mark.skipif(bool(why_not()), reason=f"the generator needs a compiler: {why_not()}")


def frame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = True) -> bytes:
    """RFC 6455 section 5.2."""
    head, size = bytes([opcode | (0x80 if final else 0)]), len(payload)
    mask_bit = 0x80 if masked else 0
    head += bytes([mask_bit | size]) if size < 126 else bytes([mask_bit | 126]) + size.to_bytes(2, "big")
    key = b"\x1b\x2c\x3d\x4e"
    return head + (key + bytes(octet ^ key[place % 4] for place, octet in enumerate(payload)) if masked else payload)


def append(audio: bytes) -> bytes:
    return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(audio).decode()}).encode()


def rtp(number: int, payload: bytes, *, timestamp: int | None = None, ssrc: int = 7, payload_type: int = 0) -> bytes:
    """RFC 3550 section 5.1; the timestamp follows from the number unless it is told."""
    at = number * FRAME if timestamp is None else timestamp
    return (
        bytes([0x80, payload_type])
        + number.to_bytes(2, "big")
        + at.to_bytes(4, "big")
        + ssrc.to_bytes(4, "big")
        + payload
    )


def frames_of(delta: str) -> list[bytes]:
    audio = binascii.a2b_base64(delta)
    return [audio[place : place + FRAME] for place in range(0, len(audio), FRAME)]


@attrs.define
class Peer:
    """A connector for one call."""

    generator: Generator
    number: int
    rtp: socket.socket
    tcp: socket.socket
    sequence: int = 0
    _received: bytes = b""

    def hear(self, count: int) -> list[bytes]:
        """The payloads of so many packets of the caller."""
        return [self.rtp.recv(2048)[12:] for _ in range(count)]

    def append(self, *audio: bytes) -> None:
        for each in audio:
            self.send(append(each))

    def send(self, message: bytes) -> None:
        self.tcp.sendall(frame(TEXT, message))

    def tell(self, event_type: str, **fields: Any) -> None:
        self.send(json.dumps({"type": event_type, **fields}).encode())

    def receive(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame; the server sends none in pieces."""
        head = self._take(2)
        assert head[0] & 0x80
        assert head[1] < 128, "a server does not mask"
        size = head[1]
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        return head[0] & 15, self._take(size)

    def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            piece = self.tcp.recv(65536)
            assert piece, "the server hung up"
            self._received += piece
        taken, self._received = self._received[:count], self._received[count:]
        return taken

    def wait_for(self, *event_types: str) -> dict[str, Any]:
        """The next event of one of these types."""
        while True:
            opcode, payload = self.receive()
            event: dict[str, Any] = json.loads(payload) if opcode == TEXT else {}
            if event.get("type") in event_types:
                return event

    def answer(self) -> list[bytes]:
        """Ask for a response; its audio in frames."""
        self.tell("response.create")
        frames: list[bytes] = []
        while (event := self.wait_for("response.output_audio.delta", "response.done"))["type"] != "response.done":
            frames += frames_of(event["delta"])
        return frames

    def say(self, *payloads: bytes, seconds: float = 0.0) -> None:
        """RTP to the caller, `seconds` apart."""
        for payload in payloads:
            self.say_packets(rtp(self.sequence, payload))
            self.sequence += 1
            time.sleep(seconds)

    def say_packets(self, *packets: bytes) -> None:
        for packet in packets:
            self.rtp.sendto(packet, (HOST, self.generator.rtp_ports[self.number]))

    def report(self) -> Report:
        """After the server has taken what was sent: it answers a ping in order; and a tick later RTP was read, too."""
        self.tcp.sendall(frame(PING, b"done"))
        while self.receive() != (PONG, b"done"):
            pass
        time.sleep(0.01)
        return self.generator.report()

    def hang_up(self) -> None:
        self.tcp.sendall(frame(CLOSE, (1000).to_bytes(2, "big")))
        while self.receive()[0] != CLOSE:
            pass
        self.tcp.close()


def upgraded(
    generator: Generator, context: ssl.SSLContext | None, session: ssl.SSLSession | None, **headers: str
) -> socket.socket:
    """A WebSocket to the generator's server."""
    url = urlsplit(generator.ws_url)
    tcp = socket.create_connection((HOST, url.port or 0), SECONDS)
    if context is not None:
        tcp = context.wrap_socket(tcp, server_hostname=HOST, session=session)
    fields = {
        "Host": url.netloc,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"GET {url.path}?model=m HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value)]
    tcp.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    return tcp


def read_head(tcp: socket.socket) -> str:
    """Of an HTTP answer, octet by octet: what follows is the WebSocket's."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        octet = tcp.recv(1)
        assert octet, "the server hung up"
        head += octet
    return head.decode()


PCMU = {"format": {"type": "audio/pcmu"}}
VOICE = {"type": "realtime", "audio": {"input": PCMU, "output": PCMU}}
# The model does nothing by itself.
SILENT: dict[str, Any] = {"type": "realtime", "audio": {"input": {**PCMU, "turn_detection": None}, "output": PCMU}}


def dialled(generator: Generator, number: int = 0, settings: dict[str, Any] = SILENT, beta: str = "") -> Peer:
    """A connector whose session is configured."""
    context = ssl.create_default_context(cafile=str(generator.cafile)) if generator.ws_url.startswith("wss") else None
    tcp = upgraded(generator, context, None, OpenAI_Beta=beta)
    assert "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in read_head(tcp), "RFC 6455 section 1.3"
    phone = socket.socket(type=socket.SOCK_DGRAM)
    phone.bind((HOST, 0))
    phone.settimeout(SECONDS)
    peer = Peer(generator, number, phone, tcp)
    peer.wait_for("session.created")
    peer.tell("session.update", session=settings)
    assert peer.wait_for("session.updated")["session"].items() >= settings.items()
    return peer


@contextmanager
def calling(load: Load = ONE, count: int = 1) -> Iterator[list[Peer]]:
    """So many callers in a call each."""
    with ExitStack() as stack:
        generator = stack.enter_context(open_generator(load, core=None))
        peers = [dialled(generator, number) for number in range(count)]
        for peer in peers:
            stack.enter_context(peer.rtp)
            stack.enter_context(peer.tcp)
            generator.talk(peer.number, peer.rtp.getsockname())
        yield peers


TRAFFIC = {"seconds", "calls", "up", "down", "pacing", "sender_lag", "appends", "deltas", "responses", "sent_rtp"} | {
    "received_rtp",
    "sessions_open",
    "sessions_opened",
    "sessions_resumed",
    "cpu_ms",
    "first_violation",
}


def faults(report: Report) -> dict[str, int]:
    """All tallies that are not zero, but for the ordinary traffic."""
    return {name: value for name, value in attrs.asdict(report).items() if name not in TRAFFIC and value}


def damaged(audio: bytes, place: int) -> bytes:
    return audio[:place] + bytes([audio[place] ^ 0x55]) + audio[place + 1 :]
