"""The parent of several workers: owns the sockets of SIP, passes messages on, and keeps the workers running.

It serves no call itself, so that nothing a call does can hold it up, and it waits for no worker.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import signal
import socket as stdlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, Literal, get_args

import attrs
import trio

from aivc import logs
from aivc.config.loading import ConfigError
from aivc.config.settings import Settings
from aivc.config.workers import share
from aivc.nursery.admin import open_admin
from aivc.nursery.footprint import open_descriptors, resident_octets
from aivc.nursery.garbage import spare_startup_objects
from aivc.nursery.lookout import registration
from aivc.nursery.status import NO_WORKER, Status, from_json
from aivc.nursery.worker import Start
from aivc.sip.address import format_host_port
from aivc.sip.inspection import SOFTWARE
from aivc.sip.relay import Beat, Drain, Failed, Frame, Link, Stop
from aivc.sip.relaying import Exchange, open_relaying

log = logging.getLogger("aivc.service")

START_SECONDS: Final = 60.0  # until a worker is ready: tool files are imported meanwhile
HANG_SECONDS: Final = 5.0  # without a sign of life, of which there are four a second: its calls are silent by then
LISTEN_SECONDS: Final = 1.0  # at a time: if we were stopped meanwhile (Ctrl-Z, a frozen container), only so much counts
EXIT_SECONDS: Final = 5.0  # for a process to end that has closed its link
LAST_WORDS: Final = 12.0  # seconds beyond the calls' own deadlines: goodbyes, records
AT_ONCE: Final = 10.0  # seconds to end at once, with goodbyes and records
FIRST_PAUSE: Final = 0.5  # seconds before a worker is started again, twice as long after each that did not
LONGEST_PAUSE: Final = 30.0  # last for
STEADY_SECONDS: Final = 60.0  # at least
BUFFER_OCTETS: Final = 1 << 20  # for packets in the socket pair; Linux gives what net.core.wmem_max allows

How = Literal["drained", "ended", "hung", "failed"]


@attrs.define
class Backoff:
    """How long to wait before a worker is started again; pure."""

    _pause: float = FIRST_PAUSE

    def after(self, lived: float, *, in_order: bool) -> float:
        """Seconds to wait, after one that lived so long and was or was not told to end."""
        if in_order or lived >= STEADY_SECONDS:
            self._pause = FIRST_PAUSE
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        return 0.0 if in_order else pause


@attrs.define(eq=False, repr=False)
class Worker:
    """A process, from its start to its end."""

    number: int
    process: trio.Process
    link: Link
    is_ready: bool = False
    draining: bool = False
    status: Status | None = None
    failure: Failed | None = None


@attrs.define(eq=False, repr=False)
class Crew:
    """All workers of a service.

    Attributes:
      running: by number.
      failed: why one could not be started at first, which ends the service.
      ended: how often workers ended, by how.
      unrelayed: messages for workers that have ended, which did not fit into their queues.
    """

    settings: Settings
    exchange: Exchange
    running: dict[int, Worker] = attrs.field(factory=dict, init=False)
    draining: trio.Event = attrs.field(factory=trio.Event, init=False)
    settled: trio.Event = attrs.field(factory=trio.Event, init=False)  # all are ready, or it comes to nothing
    failed: Exception | None = attrs.field(default=None, init=False)
    ended: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(get_args(How), 0), init=False)
    unrelayed: int = attrs.field(default=0, init=False)
    started_at: float = attrs.field(factory=trio.current_time, init=False)
    _nonce_key: bytes = attrs.field(factory=lambda: secrets.token_bytes(32), init=False)

    async def run(self) -> None:
        """Keep all of them running until told to drain and the last has ended."""
        async with trio.open_nursery() as nursery:
            for number in range(self.settings.service.workers):
                nursery.start_soon(self._keep, number)

    def drain(self) -> None:
        """Let the calls end, and with them the workers."""
        self.draining.set()
        self.settled.set()
        self._tell(Drain())

    def stop(self) -> None:
        """End all calls, and the workers, now."""
        self._tell(Stop())

    def statuses(self) -> tuple[Status, ...]:
        """The parent's, and then those of the workers."""
        told = [worker.status for worker in self.running.values() if worker.status is not None]
        return self.own_status(), *sorted(told, key=lambda status: int(status.worker))

    def own_status(self) -> Status:
        now, exchange = trio.current_time(), self.exchange
        relaying = exchange.relaying
        counts = {**attrs.asdict(exchange.counters), **attrs.asdict(relaying.counters)}
        counts |= {"unrelayed": self.unrelayed + sum(worker.link.dropped for worker in self.running.values())}
        counts |= {f"workers_{how}": count for how, count in self.ended.items()}
        return Status(
            version=SOFTWARE,
            worker="parent",
            pid=os.getpid(),
            settings={"service.workers": self.settings.service.workers, "sip.listen": listening(exchange)},
            uptime_seconds=round(now - self.started_at, 3),
            why_not="" if any(worker.is_ready for worker in self.running.values()) else NO_WORKER,
            draining=self.draining.is_set(),
            sip=counts,
            refusals=dict(relaying.refusals.counts),
            registrations=tuple(registration(one, now) for one in exchange.registrations),
            tasks=trio.lowlevel.current_statistics().tasks_living,
            rss_octets=resident_octets(),
            descriptors=open_descriptors(),
        )

    def _tell(self, frame: Frame) -> None:
        for worker in self.running.values():
            worker.link.put_nowait(frame)

    async def _keep(self, number: int) -> None:
        """One worker after the other under one number."""
        backoff = Backoff()
        while not self.draining.is_set():
            began = trio.current_time()
            how = await self._run(number)
            if self.failed is not None:
                self.drain()
            if self.draining.is_set():
                return
            pause = backoff.after(trio.current_time() - began, in_order=how == "drained")
            logs.event(log, "worker.restarting", number=number, seconds=pause)
            with trio.move_on_after(pause):
                await self.draining.wait()

    async def _run(self, number: int) -> How:
        """One process, to its end."""
        try:
            worker, start, theirs = await self._started(number)
        except OSError as error:
            return self._note_no_start(number, error)
        self.running[number] = worker
        how: How = "ended"
        try:
            with worker.link.socket:
                how = await self._attend(worker, start, theirs)
        finally:
            del self.running[number]
            self.unrelayed += worker.link.dropped
            calls = self.exchange.relaying.leave(number)
            with trio.CancelScope(shield=True):
                await buried(worker.process, patiently=how != "hung")
        if how == "drained" and worker.process.returncode != 0:
            how = "ended"
        self._note_end(worker, how, calls)
        return how

    async def _started(self, number: int) -> tuple[Worker, Start, stdlib.socket]:
        """A process that waits for its `Start`. Raises OSError."""
        ours, theirs = stdlib.socketpair(stdlib.AF_UNIX, stdlib.SOCK_SEQPACKET)
        try:
            for end in (ours, theirs):
                end.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_SNDBUF, BUFFER_OCTETS)
            udp = tuple(socket.socket.fileno() for socket in self.exchange.transports.datagrams)
            process = await trio.lowlevel.open_process(
                command(),
                stdin=subprocess.PIPE,
                pass_fds=(theirs.fileno(), *udp),
                process_group=0,  # Ctrl-C is for the parent, which tells the workers, also those that are not ready
            )
        except BaseException:
            ours.close()
            theirs.close()
            raise
        start = Start(
            number=number,
            settings=share(self.settings, number),
            listening=self.exchange.listening,
            link=theirs.fileno(),
            sockets=udp,
            nonce_key=self._nonce_key,
        )
        return Worker(number, process, Link(trio.socket.from_stdlib_socket(ours))), start, theirs

    async def _attend(self, worker: Worker, start: Start, theirs: stdlib.socket) -> How:
        theirs.close()  # it is open in the process: its end is what tells us of the process's
        with quiet_about_the_end():
            assert worker.process.stdin is not None
            with trio.move_on_after(START_SECONDS):
                async with worker.process.stdin as stdin:
                    await stdin.send_all(bytes(start))
        how: How = "ended"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transmit, worker.link)
            how = await self._listen(worker)
            nursery.cancel_scope.cancel()
        return how

    async def _listen(self, worker: Worker) -> How:
        """Hear what it says until it says no more."""
        silent = 0.0
        while silent < (HANG_SECONDS if worker.is_ready else START_SECONDS):
            silent += LISTEN_SECONDS
            with trio.move_on_after(LISTEN_SECONDS):
                try:
                    frame = await worker.link.receive()
                    if frame is None:
                        break
                    self._take(worker, frame)
                except Exception as error:  # a bug of a worker's may cost that worker, never all
                    logs.event(log, "worker.bug", level=logging.ERROR, number=worker.number, exc_info=error)
                    return "hung"
                silent = 0.0
        else:
            return "hung"
        if worker.failure is not None:
            return "failed"
        return "drained" if worker.draining else "ended"

    def _take(self, worker: Worker, frame: Frame) -> None:
        relaying = self.exchange.relaying
        match frame:
            case Beat():
                if not worker.is_ready:
                    self._note_ready(worker)
                worker.draining = frame.draining
                relaying.spreading.note(worker.number, frame.calls, frame.accepting, frame.taken)
                relaying.lines[worker.number].used = frozenset(frame.used)
                if frame.status is not None:
                    worker.status = attrs.evolve(from_json(frame.status), worker=str(worker.number))
            case Failed():
                worker.failure = frame
            case _:
                relaying.obey(worker.number, frame)

    def _note_ready(self, worker: Worker) -> None:
        worker.is_ready = True
        self.exchange.relaying.join(worker.number, worker.link, share(self.settings, worker.number).service.max_calls)
        if self.draining.is_set():
            worker.link.put_nowait(Drain())
        ready = [each for each in self.running.values() if each.is_ready]
        if len(ready) == self.settings.service.workers:
            self.settled.set()
        logs.event(log, "worker.started", number=worker.number, pid=worker.process.pid)

    def _note_end(self, worker: Worker, how: How, calls: int) -> None:
        self.ended[how] += 1
        status = worker.process.returncode
        level = logging.INFO if how == "drained" else logging.ERROR
        error = None if worker.failure is None else worker.failure.text
        logs.event(
            log, "worker.ended", level=level, number=worker.number, how=how, status=status, calls=calls, error=error
        )
        if not worker.is_ready and not self.settled.is_set():
            text = error or f"worker {worker.number} ended before it was ready, with status {status}"
            unusable = worker.failure is not None and not worker.failure.usable
            self.failed = ConfigError((text,)) if unusable else OSError(text)

    def _note_no_start(self, number: int, error: OSError) -> How:
        logs.event(log, "worker.not_started", level=logging.ERROR, number=number, error=str(error))
        if not self.settled.is_set():
            self.failed = error
        return "failed"


async def run_workers(settings: Settings) -> None:
    """Answer calls with `service.workers` processes until SIGTERM or SIGINT, then drain; a second signal ends at once.

    Raises what `open_service()` does, in an ExceptionGroup.
    """
    require_packets()
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    with trio.open_signal_receiver(*signals) as received:
        async with open_relaying(settings.sip) as exchange:
            crew = Crew(settings, exchange)
            async with open_admin(settings.admin, crew.statuses), trio.open_nursery() as nursery:
                nursery.start_soon(obey_signals, received, crew, nursery)
                nursery.start_soon(announce, crew)
                await crew.run()
                nursery.cancel_scope.cancel()
            if crew.failed is not None:
                raise crew.failed
    logs.event(log, "service.stopped")


async def announce(crew: Crew) -> None:
    """Say that calls can come, when they can, and let those know who send them."""
    await crew.settled.wait()
    if not crew.draining.is_set():
        workers = crew.settings.service.workers
        logs.event(log, "service.ready", listening=listening(crew.exchange), workers=workers)
        crew.exchange.register()
        spare_startup_objects()


async def obey_signals(signals: AsyncIterator[int], crew: Crew, nursery: trio.Nursery) -> None:
    scope = nursery.cancel_scope
    async for number in signals:
        if number == signal.SIGHUP:
            logs.event(log, "service.reloaded", certificates=crew.exchange.reload_certificates())
            continue
        calls = sum(load.busy for load in crew.exchange.relaying.spreading.loads.values())
        seconds = crew.settings.service.drain_seconds
        if crew.draining.is_set():
            logs.event(log, "service.second_signal")
            crew.stop()
            scope.deadline = trio.current_time() + AT_ONCE
            continue
        logs.event(log, "service.draining", calls=calls, seconds=seconds)
        crew.drain()
        goodbyes = crew.settings.sip.hang_up_seconds + crew.settings.openai.close_seconds + LAST_WORDS
        scope.deadline = trio.current_time() + seconds + goodbyes
        nursery.start_soon(crew.exchange.withdraw)


def command() -> list[str]:
    """Starts a worker. It finds modules where we do: not in the current folder, unless that is how we were started;
    there a user's `calendar.py` would be taken for Python's."""
    here = sys.path[:1] in ([""], [os.getcwd()])
    return [sys.executable, *(() if here else ("-P",)), "-m", "aivc", "worker"]


def listening(exchange: Exchange) -> list[str]:
    """The addresses as `sip.listen` writes them."""
    return [f"{transport.lower()}:{format_host_port(*address)}" for transport, address in exchange.listening]


def require_packets() -> None:
    """Raises ConfigError where the system has no sockets that workers can be spoken with."""
    try:
        with ExitStack() as stack:
            for end in stdlib.socketpair(stdlib.AF_UNIX, stdlib.SOCK_SEQPACKET):
                stack.enter_context(end)
    except (OSError, AttributeError, ValueError) as error:
        text = f"service.workers: this system has no UNIX sockets for packets ({error}); set it to 1"
        raise ConfigError((text,)) from None


async def transmit(link: Link) -> None:
    with quiet_about_the_end():
        await link.transmit()


@contextmanager
def quiet_about_the_end() -> Iterator[None]:
    """Whoever reads from the process says that it has ended; who writes to it need not."""
    try:
        yield
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ECONNRESET):
            raise


async def buried(process: trio.Process, *, patiently: bool) -> None:
    """Wait for the end of a process, which is killed if it does not come."""
    if patiently:
        with trio.move_on_after(EXIT_SECONDS):
            await process.wait()
    if process.poll() is None:
        process.kill()
        await process.wait()
