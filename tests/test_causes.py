"""From the exceptions of a call's tasks to the one cause of its end."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from aivc.media.ports import NoPortFree
from aivc.nursery.causes import as_cause, open_tasks, until_over
from aivc.nursery.ending import CallOver, Ending
from aivc.realtime.connection import RealtimeClosed, RealtimeRefused


@pytest.mark.parametrize(
    ("error", "ending", "detail"),
    [
        (RealtimeRefused("invalid_api_key", "no"), Ending.REALTIME_REFUSED, "invalid_api_key: no"),
        (RealtimeClosed(1006, ""), Ending.REALTIME_LOST, "1006"),
        (NoPortFree("none"), Ending.NO_RTP_PORT, "none"),
        (CallOver(Ending.DRAINED, "x"), Ending.DRAINED, "x"),
        (OSError("disk"), Ending.INTERNAL_ERROR, "OSError('disk')"),
    ],
)
def test_every_exception_has_its_ending(error: Exception, ending: Ending, detail: str) -> None:
    cause = as_cause(error)
    assert (cause.ending, cause.detail) == (ending, detail)


def test_only_an_exception_that_nobody_foresaw_is_logged_as_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    as_cause(RealtimeClosed(1006, ""))
    assert caplog.records == []
    as_cause(LookupError("nothing here"))
    assert [(record.getMessage(), record.levelno) for record in caplog.records] == [("call.bug", logging.ERROR)]


async def test_a_bye_beats_the_loss_of_the_model_in_the_same_tick(any_schedule: int) -> None:
    async def fail(error: Exception) -> None:
        raise error

    async def talk() -> None:
        async with trio.open_nursery() as outer, trio.open_nursery() as inner:
            outer.start_soon(fail, RealtimeClosed(1006, ""))
            inner.start_soon(fail, CallOver(Ending.CALLER_HUNG_UP))
            inner.start_soon(fail, RealtimeClosed(1006, ""))

    with trio.fail_after(1):
        over = await until_over(talk)
    assert over is not None
    assert over.ending is Ending.CALLER_HUNG_UP


async def test_who_just_returns_has_no_cause() -> None:
    with trio.fail_after(1):
        assert await until_over(trio.lowlevel.checkpoint) is None


async def test_being_cancelled_is_no_cause() -> None:
    with trio.fail_after(1), trio.CancelScope() as scope:
        scope.cancel()
        await until_over(trio.sleep_forever)
    assert scope.cancelled_caught


async def test_cancellation_from_outside_passes_even_beside_a_cause() -> None:
    """The embedder is rid of the call: nobody may swallow that, whatever else happens in the same tick."""

    async def end(scope: trio.CancelScope) -> None:
        scope.cancel()
        raise CallOver(Ending.CALLER_HUNG_UP)

    over = None
    with trio.fail_after(1), trio.CancelScope() as scope:

        async def talk() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(end, scope)

        over = await until_over(talk)
    assert scope.cancelled_caught
    assert over is None


class Possession:
    """What a call has."""


async def test_what_ends_a_block_of_tasks_ends_them_and_leaves_nothing_for_the_collector() -> None:
    ended: list[str] = []
    left: list[weakref.ref[Possession]] = []

    async def wait(possession: Possession) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("task")

    async def talk() -> None:
        possession = Possession()
        left.append(weakref.ref(possession))
        async with open_tasks() as nursery:
            nursery.start_soon(wait, possession)
            await wait_all_tasks_blocked()
            raise CallOver(Ending.MODEL_HUNG_UP)

    gc.collect()
    gc.disable()
    try:
        with trio.fail_after(1):
            over = await until_over(talk)
        assert over is not None
        assert (over.ending, ended) == (Ending.MODEL_HUNG_UP, ["task"])
        assert left[0]() is None
    finally:
        gc.enable()
