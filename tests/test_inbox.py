"""Messages on their way from the task that reads them to the one that receives them."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing

from aivc.realtime.inbox import Inbox, Message


class Clumsy:
    """Takes messages, but for one that it stumbles over."""

    def __init__(self, over: Message) -> None:
        self.over = over
        self.taken: list[Message] = []

    def take(self, message: Message) -> None:
        if message == self.over:
            raise LookupError(message)
        self.taken.append(message)


async def put_all(inbox: Inbox, *messages: Message) -> None:
    for message in messages:
        await inbox.put(message)


async def begin(nursery: trio.Nursery, task: Callable[[], Awaitable[object]]) -> None:
    nursery.start_soon(task)
    await trio.testing.wait_all_tasks_blocked()


async def test_messages_are_received_in_their_order_and_at_once() -> None:
    inbox = Inbox(3)
    with trio.testing.assert_no_checkpoints():
        await put_all(inbox, "a", b"b", "")
        assert [await inbox.receive() for _ in range(3)] == ["a", b"b", ""]


async def test_who_receives_waits_for_a_message() -> None:
    inbox, received = Inbox(3), []

    async def receive() -> None:
        received.append(await inbox.receive())

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await begin(nursery, receive)
            assert inbox.put_nowait("a")
    assert received == ["a"]


async def test_who_puts_waits_while_there_is_no_room() -> None:
    inbox = Inbox(2)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await begin(nursery, partial(put_all, inbox, "a", "b", "c", "d"))
            assert not inbox.put_nowait("e")
            assert [await inbox.receive() for _ in range(4)] == ["a", "b", "c", "d"]
            assert inbox.put_nowait("e")


async def test_a_wait_that_is_cancelled_loses_no_message() -> None:
    inbox = Inbox(2)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await begin(nursery, inbox.receive)
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            await begin(nursery, partial(put_all, inbox, "a", "b", "c"))
            assert [await inbox.receive() for _ in range(3)] == ["a", "b", "c"]


async def test_the_end_comes_after_what_waits() -> None:
    inbox = Inbox(2)
    await put_all(inbox, "a", "b")
    inbox.end()
    with trio.fail_after(5):
        assert [await inbox.receive() for _ in range(4)] == ["a", "b", None, None]


@pytest.mark.parametrize("each", [False, True])
async def test_the_end_wakes_who_waits_for_messages(each: bool) -> None:
    inbox = Inbox(2)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await begin(nursery, partial(inbox.receive_each, Clumsy("").take) if each else inbox.receive)
            inbox.end()


async def test_after_closing_messages_are_thrown_away_and_nobody_waits_for_room() -> None:
    inbox = Inbox(1)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await begin(nursery, partial(put_all, inbox, "a", "b", "c"))
            inbox.close()
        assert await inbox.receive() is None
        assert inbox.put_nowait("d")
        assert await inbox.receive() is None


async def test_each_message_is_taken_where_it_is_put_and_first_what_waited() -> None:
    inbox, clumsy = Inbox(2), Clumsy("never")
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await begin(nursery, partial(put_all, inbox, "a", "b", "c"))
            await begin(nursery, partial(inbox.receive_each, clumsy.take))
            assert clumsy.taken == ["a", "b", "c"]
            assert inbox.put_nowait("d")
            assert clumsy.taken == ["a", "b", "c", "d"]
            inbox.end()


async def test_a_message_that_cannot_be_taken_fails_who_receives_and_the_rest_waits() -> None:
    inbox, clumsy = Inbox(2), Clumsy("b")

    async def receive() -> None:
        with pytest.raises(LookupError):
            await inbox.receive_each(clumsy.take)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await begin(nursery, receive)
            for message in ("a", "b", "c"):
                assert inbox.put_nowait(message)
            assert clumsy.taken == ["a"]
        assert await inbox.receive() == "c"


async def test_what_waited_and_cannot_be_taken_fails_at_once() -> None:
    inbox, clumsy = Inbox(3), Clumsy("b")
    await put_all(inbox, "a", "b", "c")
    with pytest.raises(LookupError):
        await inbox.receive_each(clumsy.take)
    assert (clumsy.taken, await inbox.receive()) == (["a"], "c")


async def test_a_failure_leaves_nothing_for_the_collector() -> None:
    async def receive(inbox: Inbox, clumsy: Clumsy) -> None:
        try:
            await inbox.receive_each(clumsy.take)
        except LookupError:
            return

    async def fail(cancelled: bool) -> None:
        inbox = Inbox(3)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                await begin(nursery, partial(receive, inbox, Clumsy("b")))
                if cancelled:
                    nursery.cancel_scope.cancel()
                assert inbox.put_nowait("b")

    gc.collect()
    gc.disable()
    try:
        for cancelled in (False, True):
            await fail(cancelled)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert [found for found in gc.garbage if isinstance(found, (Inbox, LookupError))] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
