"""OpenSIPS's management interface over datagrams (module mi_datagram): commands, each with a deadline and repeats.

A datagram may be lost, and OpenSIPS carries out every copy that arrives; whether a command may be repeated is its own
`Repeat`. All tries of one command have the same id, so that the answer to any of them serves. Ids are never used
again. Nothing here waits for a slow OpenSIPS but the task that gave the command.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final, assert_never

import attrs
import trio

from aivc.config.settings import OpenSipsSettings
from aivc.sip.jsonrpc import (
    MAX_COMMAND_OCTETS,
    Answer,
    Command,
    Done,
    Failed,
    JsonRpcError,
    Repeat,
    encode,
    parse_untrusted,
)
from aivc.sip.mi_socket import MiSocket, open_socket
from aivc.sip.transport import shelter
from aivc.sip.watching import SessionWatcher

MAX_OUTSTANDING: Final = 1024  # commands without an answer; OpenSIPS serves some thousands a second
PAUSES: Final = (0.5, 1.0, 2.0)  # seconds until the next try; the last one again and again
RENEWAL_PAUSE: Final = 1.0  # seconds between two looks at where `ip` leads, at least
RECEIVE_PAUSE: Final = 0.05  # seconds after an error, lest one that stays keeps us busy
SYSTEM_RANDOMNESS: Final = random.SystemRandom()


class MiError(Exception):
    """A command failed; the text names it and its session."""

    def __init__(self, command: Command, text: str) -> None:
        super().__init__(f"{command}: {text}")
        self.command = command
        self.text = text


class MiUnanswered(MiError):
    """No answer that could be read came in time; whether the command was carried out is not known."""


class MiRefused(MiError):
    """OpenSIPS says no.

    Attributes:
      code: its own, 400 to 500, or one of JSON-RPC 2.0 section 5.1, below zero.
    """

    def __init__(self, command: Command, code: int, text: str) -> None:
        super().__init__(command, f"{code} {text}")
        self.code = code
        self.text = text


@attrs.define
class MiCounters:
    """Counts since the start."""

    sent: int = 0  # datagrams
    repeated: int = 0  # of them: further tries
    undelivered: int = 0  # datagrams that the system did not take, or nobody was there to take
    answered: int = 0  # commands
    refused: int = 0  # commands that OpenSIPS did not carry out
    unanswered: int = 0  # commands
    crowded: int = 0  # of them: not sent, because so many others wait
    strays: int = 0  # answers to no command that waits: mostly the second one to a repeated command
    unreadable: int = 0  # datagrams that are no answer


@attrs.define(eq=False)
class Waiting:
    """A command without an answer.

    Attributes:
      tries: datagrams that the system has taken.
      fault: why the last try has not arrived; "" when nothing says so.
      over: set with the answer, or when waiting is of no use.
    """

    command: Command
    tries: int = 0
    fault: str = ""
    answer: Answer | None = None
    datagram: bytes = b""  # with the answer
    over: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False, repr=False)
class ManagementInterface:
    """Commands to one OpenSIPS; see `open_mi`."""

    _settings: OpenSipsSettings
    _prefix: str  # of ids, so that no answer to an earlier process on our port, nor a guess, is taken for one of ours
    _socket: MiSocket | None = None
    _fault: str = "no socket"  # why there is none
    _outstanding: dict[str, Waiting] = attrs.field(factory=dict, init=False)  # by id, the oldest first
    _counters: MiCounters = attrs.field(factory=MiCounters, init=False)
    _numbers: Iterator[int] = attrs.field(factory=itertools.count, init=False)
    _opened: trio.Event = attrs.field(factory=trio.Event, init=False)  # there is a socket, from then on always
    _silence: trio.Event = attrs.field(factory=trio.Event, init=False)  # `ip` may lead elsewhere by now
    watcher: SessionWatcher | None = attrs.field(default=None, init=False)

    @property
    def peer_ip(self) -> str | None:
        """Where `ip` leads; None while that is not known, and with a UNIX socket."""
        return None if self._socket is None else self._socket.peer_ip

    def statistics(self) -> MiCounters:
        """The counts as they are now."""
        return attrs.evolve(self._counters)

    async def perform(self, command: Command, seconds: float | None = None) -> object:
        """Have a command carried out; returns its JSON result, mostly "OK". Any number of tasks may do so at once.

        Args:
          seconds: the deadline, repeats included; None: `command_seconds`.

        Raises:
          MiUnanswered, MiRefused: and no other MiError. A command that goes on may be carried out nevertheless when
            the wait is cancelled.
        """
        identity = f"{self._prefix}.{next(self._numbers)}"
        datagram = encode(command, identity)
        if len(datagram) > MAX_COMMAND_OCTETS:
            raise MiRefused(command, 400, "longer than OpenSIPS reads")
        if len(self._outstanding) >= MAX_OUTSTANDING:
            self._counters.crowded += 1
            self._counters.unanswered += 1
            raise MiUnanswered(command, f"{MAX_OUTSTANDING} other commands wait")
        waiting = self._outstanding[identity] = Waiting(command)
        try:
            with trio.move_on_after(self._settings.command_seconds if seconds is None else seconds):
                await self._send_until_over(waiting, datagram)
        finally:
            del self._outstanding[identity]
        if self.watcher is not None and waiting.answer is not None:
            self.watcher.note_command("in", command, waiting.datagram)
        return self._result(waiting)

    async def _send_until_over(self, waiting: Waiting, datagram: bytes) -> None:
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            await self._send(waiting, datagram)
            if waiting.command.repeat is Repeat.NEVER:
                break
            with trio.move_on_after(pause):
                await waiting.over.wait()
                return
        await waiting.over.wait()

    async def _send(self, waiting: Waiting, datagram: bytes) -> None:
        if self.watcher is not None:
            self.watcher.note_command("out", waiting.command, datagram)
        try:
            await self._transmit(waiting, datagram)
        except OSError as error:
            self._counters.undelivered += 1
            lose(waiting, error)
        else:
            self._counters.sent += 1
            self._counters.repeated += waiting.tries > 1

    async def _transmit(self, waiting: Waiting, datagram: bytes) -> None:
        """Raises OSError."""
        socket = self._socket
        if socket is None:
            self._silence.set()
            raise OSError(self._fault)
        try:
            await attempt(socket, waiting, datagram)
        except ConnectionRefusedError as error:  # UDP: this is about a datagram before; this one has not been tried
            self._lose_all(error)
            await attempt(socket, waiting, datagram)
        except trio.ClosedResourceError as error:
            raise OSError("another socket takes its place") from error

    def _result(self, waiting: Waiting) -> object:
        """What the command came to. Raises MiError."""
        command, answer = waiting.command, waiting.answer
        match answer:
            case Done():
                self._counters.answered += 1
                return answer.result
            case Failed() if command.repeat is Repeat.DONE_IF_REFUSED and waiting.tries > 1 and answer.code > 0:
                self._counters.answered += 1
                return "OK"
            case Failed():
                self._counters.refused += 1
                raise MiRefused(command, answer.code, answer.text)
            case None:
                self._counters.unanswered += 1
                self._silence.set()
                raise MiUnanswered(command, waiting.fault or "no answer")
            case _:
                assert_never(answer)

    async def receive(self) -> None:
        """Serve the socket for ever."""
        await self._opened.wait()
        while True:
            assert self._socket is not None
            try:
                data = await self._socket.receive()
            except trio.ClosedResourceError:
                continue  # another one has taken its place
            except OSError as error:
                self._lose_all(error)
                await trio.sleep(RECEIVE_PAUSE)
            else:
                self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            answer = parse_untrusted(data)
        except JsonRpcError:
            self._counters.unreadable += 1
            return
        waiting = self._outstanding.get(answer.id) if answer.id is not None else self._most_likely()
        if waiting is None or waiting.over.is_set():
            self._counters.strays += 1
            return
        waiting.answer, waiting.datagram = answer, data
        waiting.over.set()

    def _most_likely(self) -> Waiting | None:
        """Whom an answer without an id is for: OpenSIPS sends those when the true one, a list, is too long for it. For
        any other command it is a stray: strangers may write to our UNIX socket, and need not know an id for it."""
        waiting = (each for each in self._outstanding.values() if each.tries and not each.over.is_set())
        return next((each for each in waiting if each.command.lists), None)

    def _lose_all(self, error: OSError) -> None:
        """The system says that something sent has not arrived, and not what: so it is all that is not answered."""
        self._counters.undelivered += 1
        for waiting in self._outstanding.values():
            if waiting.tries:
                lose(waiting, error)

    async def renew(self) -> None:
        """For ever: after silence, look where `ip` leads now, and go there."""
        while True:
            await self._silence.wait()
            self._silence = trio.Event()
            await self.open()
            await trio.sleep(RENEWAL_PAUSE)

    async def open(self) -> None:
        """Open a socket, unless it would be the same as before. Failing is no error: commands go unanswered then."""
        try:
            found = await open_socket(self._settings)
        except OSError as error:
            self._fault = str(error)
            return
        if self._socket is not None and self._socket.leads_as(found):
            found.close()
            return
        before, self._socket = self._socket, found
        self._opened.set()
        if before is not None:
            before.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


async def attempt(socket: MiSocket, waiting: Waiting, datagram: bytes) -> None:
    """Send it; raises OSError. That it was refused may be told before the sending is over."""
    waiting.tries += 1
    waiting.fault = ""
    try:
        await socket.send(datagram)
    except BaseException:
        waiting.tries -= 1
        raise


def lose(waiting: Waiting, error: OSError) -> None:
    """A try has not arrived; another one may follow at its time, or there is nothing to wait for."""
    waiting.fault = error.strerror or str(error)
    if waiting.command.repeat is Repeat.NEVER:
        waiting.over.set()


@asynccontextmanager
async def open_mi(
    settings: OpenSipsSettings, *, randomness: random.Random = SYSTEM_RANDOMNESS
) -> AsyncIterator[ManagementInterface]:
    """Commands to the OpenSIPS of these settings until the block ends, cancelled or not.

    That OpenSIPS is down, or its name not known, is no error here: commands go unanswered until that changes. Errors
    from the block arrive in an ExceptionGroup, as from any nursery.
    """
    mi = ManagementInterface(settings, f"{randomness.getrandbits(64):016x}")
    async with trio.open_nursery() as outer:
        nursery: trio.Nursery = await outer.start(shelter)
        try:
            await mi.open()
            nursery.start_soon(mi.receive)
            nursery.start_soon(mi.renew)
            yield mi
        finally:
            nursery.cancel_scope.cancel()
            mi.close()
