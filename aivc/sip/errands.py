"""What OpenSIPS is told of sessions that are no call of ours: refusals, and the ends of forsaken ones."""

from __future__ import annotations

import logging
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.sip.jsonrpc import Command
from aivc.sip.mi import MiError, MiRefused
from aivc.sip.session_board import Commands, Unfreed
from aivc.sip.uasession import TERMINATE, reply, terminate

log = logging.getLogger("aivc.opensips")

RUNNERS: Final = 4  # at a time: one process of OpenSIPS reads the commands of everybody, one by one
WAITING: Final = 256  # errands; sessions whose end does not fit are ended by the census

Errand = tuple[Command, ...]  # in order; a refused one keeps no later one back


@attrs.define(eq=False, repr=False)
class Errands:
    """A queue of them, and who runs them.

    Attributes:
      unfreed: sessions whose errand has failed are noted there.
      dropped: errands that the queue had no room for.
      failed: errands that OpenSIPS did not answer.
    """

    commands: Commands
    unfreed: Unfreed = attrs.field(factory=Unfreed)
    dropped: int = attrs.field(default=0, init=False)
    failed: int = attrs.field(default=0, init=False)
    _open: int = attrs.field(default=0, init=False)
    _done: trio.Event = attrs.field(factory=trio.Event, init=False)
    _sender: trio.MemorySendChannel[Errand] = attrs.field(init=False)
    _receiver: trio.MemoryReceiveChannel[Errand] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._sender, self._receiver = trio.open_memory_channel[Errand](WAITING)

    def put_nowait(self, *errand: Command) -> None:
        """Have these commands performed one after the other; dropped and counted when there is no room."""
        try:
            self._sender.send_nowait(errand)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self.dropped += 1
            self._fail(errand)
        else:
            self._open += 1

    def refuse(self, key: str, status: int, reason: str, fields: tuple[tuple[str, str], ...] = ()) -> None:
        """Answer the INVITE of a session with a failure, and free it: OpenSIPS keeps it otherwise."""
        self.put_nowait(*refusal(key, status, reason, fields))

    async def run(self) -> None:
        """One of the RUNNERS: run errands until cancelled."""
        while True:
            errand = await self._receiver.receive()
            try:
                await perform_all(self.commands, errand)
            except MiError as error:
                self.failed += 1
                self._fail(errand)
                logs.event(log, "opensips.errand_failed", level=logging.DEBUG, cause=str(error))
            except Exception as error:  # a bug of ours may cost one errand, never all calls
                self.failed += 1
                logs.event(log, "sip.bug", level=logging.ERROR, exc_info=error)
            self._open -= 1
            self._done.set()

    def _fail(self, errand: Errand) -> None:
        if errand[-1].method == TERMINATE:
            self.unfreed.add(str(errand[-1].params["key"]), *errand)

    async def finish(self) -> None:
        """Wait until all that was put is done."""
        while self._open:
            self._done = trio.Event()
            await self._done.wait()


async def perform_all(commands: Commands, errand: Errand) -> None:
    """One after the other, refused or not. Raises MiError when OpenSIPS does not answer."""
    for command in errand:
        try:
            await commands.perform(command)
        except MiRefused as error:  # the session has gone on, or is gone
            logs.event(log, "opensips.refused_errand", level=logging.DEBUG, cause=str(error))


def refusal(key: str, status: int, reason: str, fields: tuple[tuple[str, str], ...] = ()) -> Errand:
    """What refuses the INVITE of a session, and frees the session."""
    return reply(key, "INVITE", status, reason, fields=fields), terminate(key)
