"""One TCP or TLS connection <-> messages: RFC 3261 section 18 for streams, and whoever wastes our time is cut.

Two tasks a connection: one reads, one sends what is queued. A fault costs that connection and no other.
"""

from __future__ import annotations

import logging
from typing import Final, Literal

import attrs
import trio

from aivc import logs
from aivc.config.settings import Address
from aivc.sip.address import Via, default_port, format_host_port
from aivc.sip.datagrams import Intake
from aivc.sip.flow import Arrival, Transport
from aivc.sip.framing import Broken, Ping, StreamFramer
from aivc.sip.ip import plain_ip
from aivc.sip.message import ParseError, Request
from aivc.sip.outbox import Outbox
from aivc.sip.stateless import stateless_answer

log = logging.getLogger("aivc.sip")

OUTBOX: Final = 256  # messages queued for one connection; calls of a whole trunk may share it
SEND_SECONDS: Final = 10.0  # for one message to be taken by the peer's system; timer B gives up at 32 s
ANSWER_SECONDS: Final = 0.1  # for what came before a fault to be answered
GOODBYE: Final = 0.5  # seconds to send the rest, and to be read, when we close a connection
FULL_PAUSE: Final = 0.05  # seconds before the user agent is asked again whether it has room
FULL_TRIES: Final = 20  # so often: TCP resends nothing that we have read
MAX_NAMES: Final = 8  # under which the peer of a connection is known: a proxy has a few, an attacker no more
PONG: Final = b"\r\n"  # RFC 5626 section 4.4.1


@attrs.frozen
class Patience:
    """How long a peer may take, seconds: `sip.message_seconds` and `sip.idle_seconds`."""

    message: float
    idle: float


@attrs.define(eq=False, repr=False)
class Connection:
    """A flow over one TCP or TLS connection, made or being made.

    Args:
      peer: the other end of the connection.
      local: what Via and Contact say: our address, and the port that we listen on.
      server_name: whom we have connected to, whose certificate must say so; None when the peer has connected to us.
    """

    transport: Transport
    peer: Address
    local: Address
    intake: Intake
    patience: Patience
    server_name: str | None = None
    outbox: Outbox[bytes] = attrs.field(factory=lambda: Outbox[bytes](OUTBOX), init=False)
    _names: set[Address] = attrs.field(factory=set, init=False)
    _is_pong_queued: bool = attrs.field(default=False, init=False)

    @property
    def is_open(self) -> bool:
        return self.outbox.is_open

    def send_nowait(self, data: bytes) -> None:
        self.note_sent(data)
        self.intake.counters.unsent += not self.outbox.put_nowait(data)

    def note_sent(self, data: bytes) -> None:
        """Show a message that leaves to who watches."""
        if self.intake.watcher is not None:
            self.intake.watcher.note_message("out", data, self)

    def leads_to(self, peer: Address) -> bool:
        """Whether this is the way to an address that its peer has named: its own, or the sent-by of a request.

        A client behind a NAT, or one that connects from any port, can be reached over its own connection only. Nobody
        else's messages go there on its word: this is asked for the flow of a dialog only (RFC 5923 section 9).
        """
        return peer == self.peer or (plain_ip(peer[0]), peer[1]) in self._names

    def close(self) -> None:
        """Nothing more can be sent; what waits is lost and counted."""
        self.intake.counters.unsent += self.outbox.close()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Read and send until either side has had enough; then both the stream and this are closed."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._transmit, stream, nursery.cancel_scope)
                await self._receive(stream)
                self.outbox.seal()
                with trio.move_on_after(GOODBYE):
                    await self.outbox.wait_empty()
                nursery.cancel_scope.cancel()
        finally:
            self.close()
            with trio.move_on_after(GOODBYE):  # TLS says goodbye; closes in any case
                await stream.aclose()

    async def _transmit(self, stream: trio.abc.Stream, reading: trio.CancelScope) -> None:
        async def send(data: bytes) -> None:
            with trio.fail_after(SEND_SECONDS):
                await stream.send_all(data)
            self._is_pong_queued &= data is not PONG
            self.intake.counters.sent += data is not PONG

        try:
            await self.outbox.deliver(send)
        except trio.TooSlowError:
            self._note_end("stuck")
            reading.cancel()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            reading.cancel()

    async def _receive(self, stream: trio.abc.Stream) -> None:
        framer = StreamFramer()
        begun = heard = trio.current_time()
        while True:
            deadline = begun + self.patience.message if framer.is_inside else heard + self.patience.idle
            with trio.move_on_at(deadline) as waiting:
                try:
                    data = await stream.receive_some()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
            if waiting.cancelled_caught and not framer.is_inside and self.intake.is_used(self):
                heard = trio.current_time()  # the way back to a phone behind a NAT: RFC 5626 section 1
                continue
            if waiting.cancelled_caught:
                self._note_end("slow" if framer.is_inside else "idle")
                return
            if not data or not self._is_wanted():
                return
            was_inside = framer.is_inside
            for frame in framer.feed(bytes(data)):
                was_inside = False
                if isinstance(frame, Broken):
                    await trio.sleep(ANSWER_SECONDS)
                    self._refuse(frame)
                    self.outbox.seal()
                    await linger(stream, self.outbox)
                    return
                await self.take(frame)
            heard = trio.current_time()
            begun = begun if was_inside else heard

    def _is_wanted(self) -> bool:
        """Asked again each time: what has come in may have made the peer unwanted."""
        return self.server_name is not None or self.intake.accepts(self.peer[0])

    async def take(self, frame: bytes | Ping) -> None:
        """Pass on a message, or answer that it is broken; answer a keep-alive."""
        if isinstance(frame, Ping):
            self.intake.counters.keep_alives += 1
            if not self._is_pong_queued:  # one answers all that came before it
                self._is_pong_queued = self.outbox.put_nowait(PONG)
            return
        if self.intake.relay is not None:
            self.intake.relay.take_nowait(frame, self)
            await trio.lowlevel.checkpoint()
            return
        message = self.intake.read_untrusted(frame, self.peer)
        if isinstance(message, ParseError):
            self._answer(message)
            return
        if isinstance(message, Request):
            self._learn(message.via)
        self.intake.note(frame, self)
        arrival = Arrival(message, self, len(frame))
        for _ in range(FULL_TRIES):
            if self.intake.put_nowait(arrival):
                await trio.lowlevel.checkpoint()  # a peer that sends many at once takes turns with the others
                return
            await trio.sleep(FULL_PAUSE)
        self.intake.counters.overflow += 1

    def _learn(self, via: Via) -> None:
        if len(self._names) < MAX_NAMES:
            port = sent_by_port(via, self.transport)
            self._names |= {(plain_ip(via.host), port), (plain_ip(self.peer[0]), port)}

    def _refuse(self, broken: Broken) -> None:
        """The stream cannot be followed any further: say so if that is possible."""
        if not broken.is_sip:
            self.intake.counters.garbage += 1
            return
        self.intake.counters.unframed += 1
        self._answer(ParseError(broken.status, broken.reason, broken.headers))

    def _answer(self, error: ParseError) -> None:
        answer = stateless_answer(error.status, error.reason, error.headers, self.peer)
        if answer is None:
            self.intake.counters.unanswerable += 1
            return
        self.intake.note_malformed(error, self.peer)
        self.send_nowait(answer[0])

    def _note_end(self, cause: Literal["slow", "idle", "stuck"]) -> None:
        setattr(self.intake.counters, cause, getattr(self.intake.counters, cause) + 1)
        where = format_host_port(*self.peer)
        logs.event(log, f"sip.{cause}", level=logging.DEBUG, transport=self.transport, peer=where)


async def linger(stream: trio.abc.Stream, outbox: Outbox[bytes]) -> None:
    """Let the peer read our last answer: closing with octets unread would reset the connection and lose it."""
    with trio.move_on_after(GOODBYE):
        await outbox.wait_empty()
        try:
            while await stream.receive_some():
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


def sent_by_port(via: Via, transport: str) -> int:
    """Where the sender of a request listens, RFC 3261 section 18.2.2."""
    return via.port or default_port(transport)
