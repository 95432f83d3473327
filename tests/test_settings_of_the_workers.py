"""What `service.workers` changes."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from settings_shown import shows
from workers_world import workplace


@shows("service.workers")
@pytest.mark.parametrize("workers", [1, 3])
async def test_so_many_processes_share_the_calls(workers: int) -> None:
    async with workplace(workers) as at, AsyncExitStack() as stack:
        for _ in range(workers):
            call = await stack.enter_async_context(at.phone.dial(at.service.uri()))
            await at.service.wait_log("call.answered", call_id=call.call_id)
        answered = at.service.log("call.answered")
    assert {line.get("worker") for line in answered} == ({None} if workers == 1 else {0, 1, 2})
    assert len(at.pids()) == (0 if workers == 1 else workers)
