"""What is done in its order, by a task that is there only while something waits."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aivc.nursery.backlog import Backlog


@attrs.define(eq=False)
class Worker:
    """Takes a second for each."""

    done: list[tuple[str, float]] = attrs.field(factory=list)

    async def work(self, item: str) -> None:
        await trio.sleep(1.0)
        self.done.append((item, trio.current_time()))


async def test_one_thing_is_done_after_the_other_in_their_order(autojump_clock: MockClock) -> None:
    backlog, worker, began = Backlog[str](16), Worker(), trio.current_time()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            with backlog.done_by(worker.work, nursery):
                for item in "abc":
                    backlog.send_nowait(item)
                await trio.sleep(1.5)
                backlog.send_nowait("d")
                await trio.sleep(8.5)
                backlog.send_nowait("e")
                await trio.sleep(2.0)
    assert [(item, at - began) for item, at in worker.done] == [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 11)]


async def test_there_is_no_task_while_nothing_waits(autojump_clock: MockClock) -> None:
    backlog, worker = Backlog[str](16), Worker()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            with backlog.done_by(worker.work, nursery):
                await wait_all_tasks_blocked()
                assert len(nursery.child_tasks) == 0
                for item in "ab":
                    backlog.send_nowait(item)
                assert len(nursery.child_tasks) == 1
                await trio.sleep(2.5)
                assert len(nursery.child_tasks) == 0


async def test_what_came_before_somebody_does_it_waits_and_only_so_much_of_it(autojump_clock: MockClock) -> None:
    backlog, worker = Backlog[str](2), Worker()
    backlog.send_nowait("a")
    backlog.send_nowait("b")
    with pytest.raises(trio.WouldBlock):
        backlog.send_nowait("c")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            with backlog.done_by(worker.work, nursery):
                await trio.sleep(3.0)
    assert [item for item, _ in worker.done] == ["a", "b"]


async def test_after_the_block_what_comes_waits_for_the_next_one_who_does_it(autojump_clock: MockClock) -> None:
    backlog, first, second = Backlog[str](16), Worker(), Worker()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            with backlog.done_by(first.work, nursery):
                backlog.send_nowait("cut off")
                await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
        backlog.send_nowait("later")
        async with trio.open_nursery() as nursery:
            with backlog.done_by(second.work, nursery):
                await trio.sleep(1.5)
    assert (first.done, [item for item, _ in second.done]) == ([], ["later"])


async def test_what_the_work_raises_is_the_nurserys(autojump_clock: MockClock) -> None:
    backlog = Backlog[str](16)

    async def fail(item: str) -> None:
        raise LookupError(item)

    raised: list[object] = []
    with trio.fail_after(20):
        try:
            async with trio.open_nursery() as nursery:
                with backlog.done_by(fail, nursery):
                    backlog.send_nowait("a")
                    await trio.sleep_forever()
        except* LookupError as group:
            raised = [str(error) for error in group.exceptions]
    assert raised == ["a"]
