"""Calls that end because of a bug of ours, in each of their tasks in turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import trio
from trio.testing import wait_all_tasks_blocked

from aivc import Ending
from aivc.testing import PhoneCall
from scenarios.arena import Arena
from scenarios.leftovers import tasks_below
from scenarios.ways import Way

A_BUG: Final = "LookupError('a bug')"
# Of the WebSocket, where the exceptions of the libraries below end: all that the call knows is that it is lost.
READER: Final = ".hold_open"


def raise_in(task: trio.lowlevel.Task) -> None:
    """Let what a task waits for raise an exception, as trio does with Ctrl-C."""

    def raise_bug() -> NoReturn:
        raise LookupError("a bug")

    task._attempt_abort(raise_bug)


async def tasks_of_a_call(arena: Arena) -> list[str]:
    """Hold a call, and return the names of the tasks that it has; several may have one name."""
    before = set(tasks_below(arena.task))
    async with arena.dial() as call:
        await call.handset.wait_speech()
        await wait_all_tasks_blocked()
        return sorted(task.name for task in tasks_below(arena.task) if task not in before)


def with_a_bug_in(name: str, number: int) -> Callable[[Arena], Awaitable[PhoneCall]]:
    """A call in whose `number`-th task of this name an exception is raised."""

    async def live(arena: Arena) -> PhoneCall:
        before = set(tasks_below(arena.task))
        async with arena.dial() as call:
            await call.handset.wait_speech()
            await wait_all_tasks_blocked()
            victims = [task for task in tasks_below(arena.task) if task not in before and task.name == name]
            raise_in(victims[number])
            del victims, before
            await call.wait_hung_up()
        return call

    return live


def a_bug_in(name: str, number: int = 0) -> Way:
    """An exception in the `number`-th task of this name."""
    is_reader = name.endswith(READER)
    where = "the task that reads the WebSocket" if is_reader else "any other task"
    return Way(
        name=f"a bug in {name} {number}",
        happens=f"A bug raises an exception in {where}.",
        ending=Ending.REALTIME_LOST if is_reader else Ending.INTERNAL_ERROR,
        detail="1006" if is_reader else A_BUG,
        sees="is hung up on",
        live=with_a_bug_in(name, number),
        logged=() if is_reader else ("call.bug",),
    )
