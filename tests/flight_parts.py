"""Recordings made in memory of calls on a virtual network, entry by entry as things happen there."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Final, NoReturn

import attrs
import trio
import trio.testing
from scenarios.world import NO_FAULTS, NOON, NUMBER, PHONE, RTP_PORT, SERVICE, SETTINGS, behind_opensips

from aivc import CallEvent, OpenAISettings, Secret, Settings, open_service
from aivc.config.settings import Address
from aivc.flight.audio import digest_of, without_audio
from aivc.flight.entries import (
    Entry,
    Flight,
    Header,
    MiMessage,
    RealtimeEvent,
    RealtimeLine,
    RtpPacket,
    SipMessage,
    ToolEntry,
)
from aivc.media.clock import LARGEST_DATAGRAM_OCTETS
from aivc.media.g711 import is_voiced
from aivc.media.punctuality import Punctuality
from aivc.media.rtp import BadPacket, parse_untrusted
from aivc.media.stream import RtpStream
from aivc.nursery.record import Ended, ToolFinished, ToolStarted
from aivc.nursery.recordjson import to_json
from aivc.realtime.connection import RealtimeClosed, RealtimeRefused, RealtimeSocket
from aivc.realtime.tap import Message
from aivc.realtime.tools import Tool, load_registry
from aivc.replaying.comparing import ROUTINE
from aivc.testing import FakeModel, FakeOpenSips, Faults, Phone, Script, VirtualNetwork, connect_to, open_phone
from aivc.testing.opensips import open_fake_opensips

MI_PORT: Final = 8080


@attrs.define(eq=False)
class Recording:
    """What is being recorded."""

    is_kept: bool
    entries: list[Entry] = attrs.field(factory=list)
    began_at: float | None = None
    record: dict[str, Any] | None = None
    sessions: int = 0
    session_key: str | None = None

    @property
    def now(self) -> float:
        if self.began_at is None:
            self.began_at = trio.current_time()
        return trio.current_time() - self.began_at

    def note(self, entry: Entry) -> None:
        self.entries.append(entry)

    # RTP

    def rtp(self, way: Any, datagram: bytes, peer: Address, stream: RtpStream) -> None:
        try:
            packet = parse_untrusted(datagram)
        except BadPacket:
            return
        voiced = is_voiced(packet.payload, stream.codec)
        is_audio = packet.payload_type in (0, 8)
        kept = packet.payload if self.is_kept or not is_audio else None
        self.note(
            RtpPacket(
                self.now,
                way,
                peer,
                packet.payload_type,
                packet.marker,
                packet.sequence,
                packet.rtp_timestamp,
                packet.ssrc,
                len(packet.payload),
                digest_of(packet.payload),
                voiced and is_audio,
                kept,
            )
        )

    # the model

    def event(self, way: Any, session: int, text: str) -> None:
        self.note(RealtimeEvent(self.now, way, session, text if self.is_kept else without_audio(text)))

    def line(self, session: int, what: Any, detail: str = "") -> None:
        self.note(RealtimeLine(self.now, session, what, detail))

    # the network

    def packet(self, source: Address, to: Address, data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        if 5060 in (source[1], to[1]) and PHONE in (source[0], to[0]) and SERVICE in (source[0], to[0]):
            way: Any = "out" if source[0] == SERVICE else "in"
            local, peer = (source, to) if way == "out" else (to, source)
            self.note(SipMessage(self.now, way, "UDP", local, peer, text))

    def management(self, source: Address, to: Address, data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        found = json.loads(text) if text.startswith("{") else {}
        if to[1] == MI_PORT and found.get("method") not in ROUTINE:
            self.note(MiMessage(self.now, "out", "command", text))
            self._asked.add(found["id"])
        elif source[1] == MI_PORT and found.get("id") in self._asked:
            self.note(MiMessage(self.now, "in", "command", text))
        elif found.get("method") == "E_UA_SESSION":
            self.note(MiMessage(self.now, "in", "event", text))

    _asked: set[str] = attrs.field(factory=set, init=False)

    # the observer

    def send_nowait(self, value: CallEvent) -> None:
        match value.what:
            case ToolStarted() as began:
                self.note(ToolEntry(self.now, began.call_id, began.name, "called", began.arguments))
            case ToolFinished() as done:
                run = done.run
                self.note(ToolEntry(self.now, run.call_id, run.name, "returned", run.output, run.outcome))
            case Ended() as ended:
                self.record = to_json(ended.record, transcripts=True, unix_offset=NOON)
            case _:
                pass


@attrs.define
class RecordingClock:
    """As `TaskClock`, and noted."""

    recording: Recording
    punctuality: Punctuality = attrs.field(factory=Punctuality, eq=False)

    async def receive(self, stream: RtpStream) -> None:
        while True:
            datagram, source = await stream.socket.recvfrom(LARGEST_DATAGRAM_OCTETS)
            self.recording.rtp("in", datagram, source[:2], stream)
            stream.received(datagram, source[:2], trio.current_time())

    async def send(self, stream: RtpStream) -> None:
        while True:
            await trio.sleep_until(stream.due)
            packet, remote = stream.outgoing(trio.current_time()), stream.remote
            if packet is not None:
                self.recording.rtp("out", packet, remote, stream)
                await stream.socket.sendto(packet, remote)


@attrs.define(eq=False)
class RecordingSocket(RealtimeSocket):
    """As the real one, and noted."""

    recording: Recording = attrs.field(kw_only=True)
    number: int = attrs.field(kw_only=True)

    async def receive(self) -> str:
        try:
            text = await super().receive()
        except RealtimeClosed as error:
            self.recording.line(self.number, "closed", f"{error.code} {error.reason}")
            raise
        self.recording.event("in", self.number, text)
        return text

    async def receive_each(self, take: Callable[[Message], None]) -> NoReturn:
        def noted(message: Message) -> None:
            self.recording.event("in", self.number, str(message))
            take(message)

        try:
            await super().receive_each(noted)
        except RealtimeClosed as error:
            what = "lost" if error.code == 1006 else "closed"
            self.recording.line(self.number, what, f"{error.code} {error.reason}")
            raise

    async def send(self, text: str) -> None:
        self.recording.event("out", self.number, text)
        await super().send(text)

    def append_nowait(self, audio: bytes) -> bool:
        text = json.dumps({"type": "input_audio_buffer.append", "audio": base64_of(audio)}, separators=(",", ":"))
        self.recording.event("out", self.number, text)
        return super().append_nowait(audio)

    async def close(self, seconds: float) -> bool:
        self.recording.line(self.number, "closing")
        return await super().close(seconds)


def base64_of(audio: bytes) -> str:
    return base64.b64encode(audio).decode()


Connect = Callable[[trio.Nursery, OpenAISettings], Awaitable[RealtimeSocket]]


def recording_connect(model: FakeModel, recording: Recording) -> Connect:
    async def connect(nursery: trio.Nursery, settings: OpenAISettings) -> RealtimeSocket:
        recording.sessions += 1
        number = recording.sessions
        recording.line(number, "opening")
        try:
            made = await connect_to(model)(nursery, settings)
        except RealtimeRefused as error:
            kind = "retryable" if error.retryable else "final"
            recording.line(number, "refused", f"{error.code} {kind}: {error.message}")
            raise
        recording.line(number, "open")
        return RecordingSocket(
            made.websocket, made.tap, made.messages, made.connect_deadline, recording=recording, number=number
        )

    return connect


@asynccontextmanager
async def recorded_world(
    recording: Recording,
    script: Script,
    settings: Settings = SETTINGS,
    *,
    faults: Faults = NO_FAULTS,
    tools: tuple[Tool, ...] = (),
    opensips: bool = False,
    **model: Any,
) -> AsyncIterator[tuple[Phone, FakeModel]]:
    """A phone, a service and a model; leaving the block waits for the end of the call."""
    network = VirtualNetwork(host=SERVICE).enable()
    if opensips:
        settings = behind_opensips(settings)
    network.on_packet = recording.management if opensips else recording.packet
    registry = load_registry(settings.openai)
    for tool in tools:
        registry.add(tool)
    between: AbstractAsyncContextManager[FakeOpenSips | None] = nullcontext()
    if opensips:
        between = open_fake_opensips(SERVICE)
    model_of = FakeModel(script, faults=faults, wall_clock=lambda: NOON, **model)
    async with model_of as fake, between as pbx, open_phone(PHONE) as phone:
        service = open_service(
            settings,
            connect=recording_connect(fake, recording),
            tools=registry,
            clock=RecordingClock(recording),
            observer=recording,
            wall_clock=lambda: NOON,
        )
        async with service as served:
            if pbx is not None:
                await pbx.wait_subscribed()
            yield phone, fake
            while served.calls:  # noqa: ASYNC110 - a fake clock makes polling cheap
                await trio.sleep(0.02)
            await trio.sleep(1.0)
            network.on_packet = None


def flight_of(recording: Recording, settings: Settings, *, opensips: bool = False) -> Flight:
    return Flight(
        Header(
            version="0",
            python="3",
            call_id="call",
            began_at=NOON,
            front_end="opensips" if opensips else "sip",
            session_key=None,
            agent=None,
            settings=plain_settings(behind_opensips(settings) if opensips else settings),
            rtp_port=RTP_PORT,
            audio="keep" if recording.is_kept else "hash",
            masked=(),
        ),
        tuple(sorted(recording.entries, key=lambda entry: entry.at)),
        recording.record,
    )


def plain_settings(settings: Settings) -> dict[str, Any]:
    """By section and key, as JSON has them."""
    found = attrs.asdict(settings, filter=lambda field, value: not isinstance(value, Secret) and field.name != "agents")
    return dict(json.loads(json.dumps(found, default=str)))


Live = Callable[[Phone, FakeModel], Awaitable[None]]


async def recorded(
    script: Script,
    live: Live,
    settings: Settings = SETTINGS,
    *,
    is_kept: bool = False,
    opensips: bool = False,
    **more: Any,
) -> Flight:
    """Live through a call; its recording."""
    recording = Recording(is_kept)
    with trio.fail_after(300):
        async with recorded_world(recording, script, settings, opensips=opensips, **more) as (phone, model):
            await live(phone, model)
    return flight_of(recording, settings, opensips=opensips)


def flight_in_virtual_time(script: Script, live: Live, settings: Settings = SETTINGS, **more: Any) -> Flight:
    """The same in a trio run of its own."""

    async def run() -> Flight:
        return await recorded(script, live, settings, **more)

    return trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


async def talk(phone: Phone, _model: FakeModel) -> None:
    """The caller listens for a second and hangs up."""
    async with phone.dial(NUMBER) as call:
        await call.handset.wait_speech(0.5)
        await trio.sleep(1.0)
