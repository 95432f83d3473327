"""An OpenSIPS for tests: phones call it by SIP, and it hands their calls over as UA sessions (events and commands).

async with open_fake_opensips("192.0.2.5") as opensips, open_phone("192.0.2.9") as phone:
    async with phone.dial("sip:1000@192.0.2.5:5060") as call:
        ...
    await opensips.wait_empty()
    assert opensips.violations == []

It does what OpenSIPS 3.6.8 does with its modules b2b_entities, mi_datagram and event_datagram, faults included; see
`aivc.testing.opensips_entities`. Everything is UDP; UNIX sockets, TCP and PRACK of ours are not there.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from math import inf

import attrs
import trio

from aivc.config.settings import Address
from aivc.sip.message import Request
from aivc.testing.opensips_faults import WELL, Fate, Kind, Trouble, anything
from aivc.testing.opensips_jsonrpc import Call
from aivc.testing.opensips_judge import Judge
from aivc.testing.opensips_process import Process, run_process, seconds_since_1970
from aivc.testing.opensips_session import UaSession
from aivc.testing.opensips_subscribers import EventSubscriber
from aivc.testing.schema import Json


@attrs.frozen(eq=False)
class MiCommand:
    """One command that was carried out, or refused.

    Attributes:
      params: by name, or in their order; {} without any.
      result, error: what it was answered with; the other is None.
      at: when, trio's clock.
    """

    method: str
    params: Json
    id: object
    at: float
    result: object = None
    error: Json | None = None


@attrs.define(eq=False, repr=False)
class FakeOpenSips:
    """Built by `open_fake_opensips`. The attributes may be changed at any time; some count from the next `start` on.

    Attributes:
      sip_address, mi_address: where phones call it, and where commands go.
      flags: of ua_session_server_init, or a function of the INVITE: "a" tells of ACKs, "h" headers, "b" bodies, "n" no
        NEW, "t60" ends a session after 60 s, "d" leaves ACKs to the connector, "r" has no effect.
      extra_params: its third argument, or a function of the INVITE.
      mi_seconds: how long each command takes; the others wait.
      workers: from how many sockets events come (from the next start on).
      fr_timeout, fr_inv_timeout: seconds until tm gives up on an answer or an ACK, and on an INVITE of ours that rings
        (from the next start on).
      uac_auth, advertised_contact: a module and a modparam, which matter for sessions that we start (from the next
        start on).
      commands: all that was told to it, in order.
      events: the params of all events, in order, whoever got them.
      was_troubled: it has died, or datagrams were to be lost, late or doubled: then not all can end well.
    """

    sip_address: Address
    mi_address: Address
    tasks: trio.Nursery
    flags: str | Callable[[Request], str] = "abh"
    extra_params: str | Callable[[Request], str | None] | None = None
    mi_seconds: float = 0.0
    workers: int = 4
    fr_timeout: float = 30.0
    fr_inv_timeout: float = 120.0
    uac_auth: bool = True
    advertised_contact: str | None = None
    seed: int = 0
    commands: list[MiCommand] = attrs.field(factory=list)
    events: list[Json] = attrs.field(factory=list)
    was_troubled: bool = False
    judge: Judge = attrs.field(factory=Judge)
    _troubles: list[Trouble] = attrs.field(factory=list)
    _process: Process | None = None
    _lives: int = 0
    _ended: trio.Event = attrs.field(factory=trio.Event)
    _changed: trio.Event = attrs.field(factory=trio.Event)

    # Life

    async def start(self) -> None:
        """Listen, with no sessions and no subscribers. Raises OSError when an address is taken."""
        dice = random.Random(f"{self.seed} {self._lives}")
        self._lives += 1
        self._ended = trio.Event()
        self._process = await self.tasks.start(partial(self._live, dice))
        self.sip_address, self.mi_address = self._process.sip.address, self._process.mi.address
        self._notify()

    async def _live(self, dice: random.Random, task_status: trio.TaskStatus[Process]) -> None:
        try:
            await run_process(self, dice, task_status)
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Die: the ports are closed, sessions and subscribers are gone, and nobody is told."""
        self.was_troubled = True
        if self._process is not None:
            self._process.tasks.cancel_scope.cancel()
            self._process = None
            await self._ended.wait()
        self._notify()

    async def restart(self) -> None:
        """Stop and start again, on the same ports."""
        await self.stop()
        await self.start()

    # What there is

    @property
    def sessions(self) -> dict[str, UaSession]:
        """By key."""
        return {} if self._process is None else self._process.entities.sessions

    @property
    def listed(self) -> list[Json]:
        """What `ua_session_list` would say if its answer had no limit."""
        return [session.listed(self.sip_address) for session in self.sessions.values()]

    @property
    def subscribers(self) -> list[EventSubscriber]:
        """Who would get an event now."""
        return [] if self._process is None else list(self._process.subscribers.current(seconds_since_1970()))

    @property
    def violations(self) -> list[str]:
        """What a connector must not do, and what it has left undone for more than a second."""
        return self.judge.found + self.judge.leftovers(self.sessions.values())

    def told(self, method: str) -> list[MiCommand]:
        """The commands of that name."""
        return [command for command in self.commands if command.method == method]

    # Waiting

    async def wait_empty(self) -> None:
        """Wait until there are no sessions."""
        await self._wait(lambda: not self.sessions)

    async def wait_session(self) -> UaSession:
        """The youngest session, as soon as there is one."""
        await self._wait(lambda: bool(self.sessions))
        return list(self.sessions.values())[-1]

    async def wait_subscribed(self, count: int = 1) -> None:
        """Wait until so many sockets are subscribed."""
        await self._wait(lambda: len(self.subscribers) >= count)

    async def wait_told(self, method: str, count: int = 1) -> list[MiCommand]:
        """The commands of that name, as soon as there are so many."""
        await self._wait(lambda: len(self.told(method)) >= count)
        return self.told(method)

    async def wait_event(self, event_type: str, method: str, count: int = 1) -> Json:
        """The params of the last such event, as soon as there are so many."""

        def found() -> list[Json]:
            return [each for each in self.events if (each["event_type"], each["method"]) == (event_type, method)]

        await self._wait(lambda: len(found()) >= count)
        return found()[-1]

    async def _wait(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            await self._changed.wait()

    # What goes wrong

    def lose(self, kind: Kind, concerns: Callable[[Json], bool] = anything, times: float = inf) -> None:
        """Let datagrams of a kind vanish.

        Args:
          kind: "command", "answer" or "event". A lost command is not carried out, one whose answer is lost is.
          concerns: which ones: called with the JSON-RPC request (also for an answer), or with the params of the event.
          times: how many of them.
        """
        self.was_troubled = True
        self._troubles.append(Trouble(kind, concerns, Fate(copies=0), times))

    def delay(
        self, kind: Kind, seconds: float, concerns: Callable[[Json], bool] = anything, times: float = inf
    ) -> None:
        """Let them be late, so that others overtake them."""
        self.was_troubled = True
        self._troubles.append(Trouble(kind, concerns, Fate(delay=seconds), times))

    def duplicate(self, kind: Kind, concerns: Callable[[Json], bool] = anything, times: float = inf) -> None:
        """Let them come twice."""
        self.was_troubled = True
        self._troubles.append(Trouble(kind, concerns, Fate(copies=2), times))

    def heal(self) -> None:
        """End all of that."""
        self._troubles.clear()

    # For the process

    def flags_for(self, request: Request) -> str:
        return self.flags if isinstance(self.flags, str) else self.flags(request)

    def extra_params_for(self, request: Request) -> str | None:
        return self.extra_params(request) if callable(self.extra_params) else self.extra_params

    def fate_of(self, kind: Kind, told: Json) -> Fate:
        return next((trouble.fate for trouble in self._troubles if trouble.takes(kind, told)), WELL)

    def note_command(self, call: Call, outcome: Json) -> None:
        params = call.request.get("params") or {}
        now = trio.current_time()
        command = MiCommand(call.method, params, call.id, now, outcome.get("result"), outcome.get("error"))
        self.commands.append(command)
        self._notify()

    def note_event(self, params: Json) -> None:
        self.events.append(params)
        self._notify()

    def note_freed(self) -> None:
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@asynccontextmanager
async def open_fake_opensips(
    host: str = "192.0.2.5",
    *,
    sip_port: int = 5060,
    mi_port: int = 8080,
    flags: str | Callable[[Request], str] = "abh",
    extra_params: str | Callable[[Request], str | None] | None = None,
    mi_seconds: float = 0.0,
    workers: int = 4,
    fr_timeout: float = 30.0,
    fr_inv_timeout: float = 120.0,
    uac_auth: bool = True,
    advertised_contact: str | None = None,
    seed: int = 0,
) -> AsyncIterator[FakeOpenSips]:
    """An OpenSIPS on `host`, an IPv4 address, that has started; ports of 0 are any. See `FakeOpenSips`.

    Args:
      seed: the same one gives the same keys, tags and choices of workers.

    Raises:
      OSError: an address is taken.
    """
    async with trio.open_nursery() as tasks:
        opensips = FakeOpenSips(
            (host, sip_port),
            (host, mi_port),
            tasks,
            flags=flags,
            extra_params=extra_params,
            mi_seconds=mi_seconds,
            workers=workers,
            fr_timeout=fr_timeout,
            fr_inv_timeout=fr_inv_timeout,
            uac_auth=uac_auth,
            advertised_contact=advertised_contact,
            seed=seed,
        )
        await opensips.start()
        yield opensips
        await opensips.stop()
        tasks.cancel_scope.cancel()
