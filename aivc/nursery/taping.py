"""The hooks of the flight recorder in one call: what comes and goes is noted where it does, and nothing is changed."""

from __future__ import annotations

import os
import platform
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, NoReturn

import attrs
import trio

from aivc.config.settings import Address, OpenAISettings, Settings
from aivc.flight.audio import without_audio
from aivc.flight.describing import described, secrets_of
from aivc.flight.entries import Datagram, Header, RealtimeEvent, RealtimeLine, StateChange, ToolEntry, Way
from aivc.flight.masking import Masking
from aivc.flight.pseudonyms import Pseudonyms
from aivc.flight.recording import Recording
from aivc.flight.tape import Tape
from aivc.media.g711 import is_voiced
from aivc.media.latching import Latch
from aivc.media.pacer import Pacer
from aivc.media.reports import Reception
from aivc.media.rtcpline import RtcpLine
from aivc.media.rtp import BadPacket, Packet, is_rtcp, parse_untrusted
from aivc.media.srtp import Srtp, Unauthentic
from aivc.media.stream import RtpStream
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.record import Answered, CallEvent, CallRecord, Ended, Observer, ToolFinished, ToolStarted
from aivc.nursery.recordjson import to_json
from aivc.realtime.connection import RealtimeClosed, RealtimeRefused, RealtimeSocket
from aivc.realtime.inbox import Message
from aivc.sip.inspection import SOFTWARE
from aivc.sip.leg import Leg

KEY_OCTETS: Final = 32
ABNORMAL: Final = 1006  # no close frame came, RFC 6455 section 7.4.1
CAUSES: Final = {Ending.DRAINED: "draining", Ending.EMBEDDER_CANCELLED: "cancelled"}  # what has ended the call

Connect = Callable[[trio.Nursery, OpenAISettings], Awaitable[RealtimeSocket]]


@attrs.define(eq=False)
class Taping:
    """One call being recorded.

    Attributes:
      settings: those of the service, until the call has its own.
      began_at: seconds since 1970.
      record: when the call is over.
    """

    tape: Tape
    leg: Leg
    settings: Settings
    began_at: float
    agent: str | None = None
    record: CallRecord | None = None

    def state(self, what: str, detail: str = "") -> None:
        """Something happened that no message says."""
        self.tape.note(StateChange(self.tape.at(trio.current_time()), what, detail))

    def prepared(self, settings: Settings, agent: str | None) -> None:
        """The call has its settings."""
        self.settings, self.agent = settings, agent
        self.state("prepared", agent or "")

    def over(self, cause: CallOver) -> None:
        """It is known why the call ends; the goodbyes follow."""
        self.state(CAUSES.get(cause.ending, "over"), str(cause))

    def observing(self, observer: Observer | None) -> Observer:
        """An observer that notes tool calls and the answer, and tells the other one everything."""
        return TapeObserver(self, observer)

    def connecting(self, connect: Connect) -> Connect:
        """`connect`, with what its connections say."""

        async def connect_taped(nursery: trio.Nursery, openai: OpenAISettings) -> RealtimeSocket:
            session = self.tape.next_session()
            self.line(session, "opening")
            try:
                socket = await connect(nursery, openai)
            except RealtimeRefused as error:
                self.line(session, "refused", refusal_text(error))
                raise
            self.line(session, "open")
            return TapedSocket.of(socket, self, session)

        return connect_taped

    def line(
        self, session: int, what: Literal["opening", "open", "refused", "closing", "closed", "lost"], detail: str = ""
    ) -> None:
        self.tape.note(RealtimeLine(self.tape.at(trio.current_time()), session, what, detail))

    def event(self, way: Way, session: int, text: str) -> None:
        kept = text if self.tape.keeps_audio else without_audio(text)
        self.tape.note(RealtimeEvent(self.tape.at(trio.current_time()), way, session, kept))

    def drawn(self, stream: RtpStream) -> None:
        """What was drawn for the call's stream, and its port."""
        pacer = stream.pacer
        self.tape.random = {"ssrc": pacer.ssrc, "sequence": pacer.sequence, "rtp_timestamp": pacer.rtp_timestamp}
        self.tape.rtp_port = stream.socket.getsockname()[1]

    def recording(self, masked: tuple[str, ...]) -> Recording:
        """The call, when it is over; takes some milliseconds."""
        offset, tape, record = self.began_at - self.tape.origin, self.tape, self.record
        header = Header(
            version=SOFTWARE,
            python=platform.python_version(),
            call_id=self.leg.call_id,
            began_at=self.began_at,
            front_end="sip" if self.leg.session_key is None else "opensips",
            session_key=self.leg.session_key,
            agent=self.agent,
            settings=described(self.settings),
            rtp_port=tape.rtp_port,
            audio="keep" if tape.keeps_audio else "hash",
            masked=masked,
            random=tape.random,
        )
        said: dict[str, Any] | None = None
        if record is not None:
            said = to_json(record, transcripts="transcripts" not in masked, unix_offset=offset)
        pseudonyms = Pseudonyms(os.urandom(KEY_OCTETS))
        secrets = tuple(secrets_of(self.settings))
        masking = Masking(masked, secrets, pseudonyms, self.settings.openai.instructions or "")
        return Recording.of(tape, header, said, masking)


@attrs.frozen(eq=False)
class TapeObserver:
    """Hears of the call like any observer."""

    taping: Taping
    other: Observer | None

    def send_nowait(self, event: CallEvent, /) -> None:
        tape = self.taping.tape
        match event.what:
            case ToolStarted(call_id=call_id, name=name, arguments=text):
                tape.note(ToolEntry(tape.at(event.at), call_id, name, "called", text))
            case ToolFinished(run=run):
                tape.note(ToolEntry(tape.at(event.at), run.call_id, run.name, "returned", run.output, run.outcome))
            case Answered():
                self.taping.state("answered")
            case Ended(record=record):
                self.taping.record = record
            case _:
                pass
        if self.other is not None:
            self.other.send_nowait(event)


@attrs.define(eq=False)
class TapedSocket(RealtimeSocket):
    """A connection to the model of which all is noted that is read and written."""

    taping: Taping = attrs.field(kw_only=True)
    session: int = attrs.field(kw_only=True)
    _is_over: bool = attrs.field(default=False, init=False)

    @classmethod
    def of(cls, socket: RealtimeSocket, taping: Taping, session: int) -> TapedSocket:
        """In place of a connection that was just opened."""
        return cls(
            socket.websocket, socket.tap, socket.messages, socket.connect_deadline, taping=taping, session=session
        )

    async def receive(self) -> str:
        try:
            text = await super().receive()
        except RealtimeClosed as closed:
            self._over(closed)
            raise
        self.taping.event("in", self.session, text)
        return text

    async def receive_each(self, take: Callable[[Message], None]) -> NoReturn:
        def taped(message: Message) -> None:
            if isinstance(message, str):
                self.taping.event("in", self.session, message)
            take(message)

        try:
            await super().receive_each(taped)
        except RealtimeClosed as closed:
            self._over(closed)
            raise

    async def send(self, text: str) -> None:
        self.taping.event("out", self.session, text)
        try:
            await super().send(text)
        except RealtimeClosed as closed:
            self._over(closed)
            raise

    def append_nowait(self, audio: bytes) -> bool:
        taken = super().append_nowait(audio)
        self.taping.tape.note_append(trio.current_time(), self.session, audio)
        return taken

    async def close(self, seconds: float) -> bool:
        if not self._is_over:
            self.taping.line(self.session, "closing")
        answered = await super().close(seconds)
        if not self._is_over:
            self._is_over = True
            self.taping.line(self.session, "closed", "" if answered else "unanswered")
        return answered

    def _over(self, closed: RealtimeClosed) -> None:
        if not self._is_over:
            self._is_over = True
            is_lost = closed.code == ABNORMAL
            self.taping.line(self.session, "lost" if is_lost else "closed", f"{closed.code} {closed.reason}".strip())


@attrs.define(eq=False)
class TapedRtcpLine(RtcpLine):
    """One of which the compounds are noted that are read and sent, in the clear."""

    tape: Tape = attrs.field(kw_only=True)
    _towards: Address = attrs.field(default=("", 0), init=False)

    @classmethod
    def of(cls, line: RtcpLine, tape: Tape) -> TapedRtcpLine:
        """In place of one that was just made."""
        return cls(line.reports, line.socket, line.mux, line.described, tape=tape)

    def received(self, datagram: bytes, source: Address, now: float) -> None:
        self.tape.note(Datagram(self.tape.at(now), "in", source, not self.mux, datagram))
        super().received(datagram, source, now)

    def destination(self, latch: Latch, is_trusted: bool) -> Address | None:
        to = super().destination(latch, is_trusted)
        self._towards = to or self._towards
        return to

    def compound(self, pacer: Pacer, reception: Reception, now: float, goodbye: bool) -> bytes:
        compound = super().compound(pacer, reception, now, goodbye)
        self.tape.note(Datagram(self.tape.at(now), "out", self._towards, not self.mux, compound))
        return compound


@attrs.define(eq=False)
class TapedStream(RtpStream):
    """A stream of which every datagram is noted, but for what comes from strangers once the caller is known.

    SRTP is taken off here, so that the plain packet is noted, and ours is noted before it is put on.
    """

    tape: Tape = attrs.field(kw_only=True)
    _plain: bytes = attrs.field(default=b"", init=False)  # of the packet that leaves

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.rtcp is not None:
            self.rtcp = TapedRtcpLine.of(self.rtcp, self.tape)

    @property
    def srtp(self) -> Srtp | None:
        """As in `RtpStream`."""
        return self._srtp

    @srtp.setter
    def srtp(self, srtp: Srtp | None) -> None:
        self._srtp = srtp
        self.pacer.protect = None if srtp is None else self._protect

    def received(self, datagram: bytes, source: Address, now: float) -> None:
        latch, srtp = self.latch, self._srtp
        if source != latch.pinned and latch.shuts_out(now):
            super().received(datagram, source, now)
            return
        if srtp is None or is_rtcp(datagram):
            self._note_datagram("in", datagram, source, now)
            super().received(datagram, source, now)
            return
        try:
            datagram = srtp.unprotect(datagram)
        except Unauthentic as refusal:
            self.counters.refused(refusal)
            return
        self._note_datagram("in", datagram, source, now)
        self._srtp = None
        try:
            super().received(datagram, source, now)
        finally:
            self._srtp = srtp

    def outgoing(self, now: float) -> bytes | None:
        datagram = super().outgoing(now)
        if datagram is not None:
            plain = datagram if self._srtp is None else self._plain
            self._note_datagram("out", plain, self.latch.remote, now)
        return datagram

    def _protect(self, datagram: bytes) -> bytes:
        assert self._srtp is not None
        self._plain = datagram
        return self._srtp.protect(datagram)

    def _note_datagram(self, way: Way, datagram: bytes, peer: Address, now: float) -> None:
        try:
            packet = parse_untrusted(datagram)
        except BadPacket:
            if not (is_rtcp(datagram) and self.rtcp is not None and self.rtcp.mux):  # else noted where it is read
                self.tape.note(Datagram(self.tape.at(now), way, peer, False, datagram))
            return
        is_audio = packet.payload_type == (self.payload_type if way == "in" else self.pacer.payload_type)
        self._note_packet(way, packet, peer, now, is_audio and is_voiced(packet.payload, self.codec))

    def _note_packet(self, way: Way, packet: Packet, peer: Address, now: float, voiced: bool) -> None:
        payload_type, marker, sequence, rtp_timestamp, ssrc, payload = packet
        self.tape.note_packet(now, way, peer, payload_type, marker, sequence, rtp_timestamp, ssrc, payload, voiced)


def refusal_text(error: RealtimeRefused) -> str:
    """`code`, `retryable` and `message` of it."""
    return f"{error.code} {'retryable' if error.retryable else 'final'}: {error.message}"
