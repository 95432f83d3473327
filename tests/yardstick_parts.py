"""A model's server, a caller and a yardstick as a process, on real sockets; the server's WebSocket is wsproto's."""

from __future__ import annotations

import base64
import importlib.util
import json
import random
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Pong,
    Request,
    TextMessage,
)

from bench.compiling import CompileError, compiled
from bench.yardsticks import FLOOR, FLOOR_LIBRARIES

HOST = "127.0.0.1"
ROOT = Path(__file__).parents[1]
RTP = struct.Struct("!BBHII")
FRAME_OCTETS = 160
SILENT = b"\xff" * FRAME_OCTETS
PCMU = {"type": "audio/pcmu"}
YARDSTICKS = ("floor-heartbeat", "floor-events", "plain_trio", "uvloop_bridge", "asyncio")


def command_of(name: str) -> Sequence[str]:
    """What starts a yardstick; skips the test when something that it needs is not installed."""
    if name.startswith("floor-"):
        try:
            program = compiled(FLOOR, libraries=FLOOR_LIBRARIES)
        except CompileError as error:
            pytest.skip(str(error))
        return str(program), "--mode", name.removeprefix("floor-")
    needs = {"uvloop_bridge": ("websockets", "uvloop"), "asyncio": ("websockets",)}.get(name, ())
    for package in needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    module = "uvloop_bridge" if name == "asyncio" else name
    options = ("--no-uvloop",) if name == "asyncio" else ()
    return sys.executable, "-m", f"bench.yardsticks.{module}", *options


def speech(seed: str, octets: int) -> bytes:
    """Audio that is not silence anywhere."""
    return bytes(random.Random(seed).choices(range(255), k=octets))


@attrs.define(eq=False)
class Session:
    """The server's side of one WebSocket."""

    _stream: trio.SSLStream[trio.SocketStream]
    audio_format: dict[str, str]
    heard: bytearray = attrs.field(factory=bytearray)
    updates: list[Any] = attrs.field(factory=list)
    pongs: list[bytes] = attrs.field(factory=list)
    close_code: int | None = None
    _websocket: WSConnection = attrs.field(factory=lambda: WSConnection(ConnectionType.SERVER))
    _sending: trio.Lock = attrs.field(factory=trio.Lock)
    _changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    async def run(self) -> None:
        """Take what the client sends until it closes."""
        while self.close_code is None:
            self._websocket.receive_data(bytes(await self._stream.receive_some()) or None)
            for event in self._websocket.events():
                await self._take(event)
            self._changed.unpark_all()

    async def _take(self, event: Event) -> None:
        match event:
            case Request():
                await self.send_frame(AcceptConnection())
                await self.send({"type": "session.created", "session": {"type": "realtime"}})
            case TextMessage(data=data):
                await self._message(json.loads(data))
            case Pong(payload=payload):
                self.pongs.append(bytes(payload))
            case CloseConnection(code=code):
                self.close_code = code
                if code != 1006:
                    await self.send_frame(event.response())
            case BytesMessage():
                raise AssertionError("the API speaks text")
            case _:
                pass

    async def _message(self, message: Any) -> None:
        if message["type"] == "session.update":
            self.updates.append(message["session"])
            one_way = {"format": self.audio_format}
            session = {"type": "realtime", "audio": {"input": one_way, "output": one_way}}
            await self.send({"type": "session.updated", "session": session})
        else:
            assert set(message) == {"type", "audio"}
            assert message["type"] == "input_audio_buffer.append"
            self.heard += base64.b64decode(message["audio"], validate=True)

    async def send(self, event: dict[str, Any], pieces: int = 1) -> None:
        """Send an event as one message, in so many fragments; what is nested in it is not its own."""
        text = json.dumps({**event, "item": {"type": "input_audio_buffer.speech_started", "delta": "AAAA"}})
        size = -(-len(text) // pieces)
        parts = [text[at : at + size] for at in range(0, len(text), size)]
        for number, part in enumerate(parts, 1):
            await self.send_frame(TextMessage(part, message_finished=number == len(parts)))

    async def send_delta(self, audio: bytes, pieces: int = 1) -> None:
        delta = base64.b64encode(audio).decode()
        places = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
        await self.send({"type": "response.output_audio.delta", **places, "delta": delta}, pieces)

    async def send_frame(self, event: Event) -> None:
        async with self._sending:
            await self._stream.send_all(self._websocket.send(event))

    async def until(self, condition: Callable[[Session], object]) -> None:
        while not condition(self):
            await self._changed.park()


@attrs.define(eq=False)
class Model:
    """A server of the Realtime API; its sessions in the order in which they came."""

    url: str
    cafile: Path
    sessions: list[Session]


@asynccontextmanager
async def open_model(folder: Path, audio_format: dict[str, str] = PCMU) -> AsyncIterator[Model]:
    authority, cafile = trustme.CA(), folder / "authority.pem"
    authority.cert_pem.write_to_path(str(cafile))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    sessions: list[Session] = []

    async def serve(socket: trio.SocketStream) -> None:
        async with trio.SSLStream(socket, context, server_side=True, https_compatible=True) as stream:
            sessions.append(Session(stream, audio_format))
            with suppress(trio.BrokenResourceError):  # a yardstick that ends takes its connections with it
                await sessions[-1].run()

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host=HOST))
        port = listeners[0].socket.getsockname()[1]
        yield Model(f"wss://{HOST}:{port}/v1/realtime", cafile, sessions)
        nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class Yardstick:
    """A yardstick as a process."""

    process: trio.Process
    _unread: bytes = b""

    async def ask(self, line: str) -> list[str]:
        """Say a line; return the words of the next answer, none when it has ended instead."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(f"{line}\n".encode())
        return await self.answer()

    async def answer(self) -> list[str]:
        assert self.process.stdout is not None
        while b"\n" not in self._unread:
            more = await self.process.stdout.receive_some()
            if not more:
                return []
            self._unread += more
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode().split()

    async def end(self) -> int:
        """End its input; return its exit code."""
        assert self.process.stdin is not None
        await self.process.stdin.aclose()
        return await self.process.wait()


@asynccontextmanager
async def open_yardstick(name: str, model: Model, stderr: int | None = None) -> AsyncIterator[Yardstick]:
    command = [*command_of(name), "--url", model.url, "--cafile", str(model.cafile)]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with process.stdin, process.stdout:
        try:
            yield Yardstick(process)
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


@attrs.define(eq=False)
class Caller:
    """A telephone's RTP socket."""

    socket: trio.socket.SocketType
    sequence: int = 0xFFF0  # wraps soon
    packets: list[bytes] = attrs.field(factory=list)

    @property
    def port(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port

    async def speak(self, audio: bytes, port: int) -> None:
        """Send frames of 20 ms, a few milliseconds apart; some with a contributing source, and an event in between."""
        for at in range(0, len(audio), FRAME_OCTETS):
            sources = self.sequence % 2
            head = RTP.pack(0x80 | sources, 0, self.sequence & 0xFFFF, at, 1) + bytes(4 * sources)
            await self.socket.sendto(head + audio[at : at + FRAME_OCTETS], (HOST, port))
            self.sequence += 1
            await trio.sleep(0.002)
        await self.socket.sendto(RTP.pack(0x80, 101, self.sequence & 0xFFFF, 0, 1) + b"\1\0\0\xa0", (HOST, port))

    async def hear(self, condition: Callable[[bytes], object]) -> bytes:
        """Listen until the audio heard so far meets the condition; return it without the silent packets."""
        while not condition(self.voice):
            self.packets.append(await self.socket.recv(2048))
        return self.voice

    @property
    def voice(self) -> bytes:
        return b"".join(packet[RTP.size :] for packet in self.packets if packet[RTP.size :] != SILENT)


async def until_free(port: int) -> None:
    """Wait until nobody has this UDP port of ours any more."""
    while True:
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
            try:
                await socket.bind((HOST, port))
            except OSError:
                await trio.sleep(0.01)
            else:
                return


@asynccontextmanager
async def open_caller() -> AsyncIterator[Caller]:
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind((HOST, 0))
        yield Caller(socket)
