"""A program of somebody else that takes calls from an OpenSIPS: docs/embedding.md."""

from __future__ import annotations

import logging

import pytest
import trio
from log_lines import lines_of
from scenarios.world import NUMBER, PHONE, SERVICE, SETTINGS, behind_opensips
from trio.testing import MockClock

import aivc
from aivc.testing import FakeModel, Say, VirtualNetwork, connect_to, open_fake_opensips, open_phone, scripted


async def test_a_call_has_what_came_with_it_and_its_key(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.INFO)
    VirtualNetwork(delay=0.005).enable().host = SERVICE
    settings = behind_opensips(SETTINGS)
    model = FakeModel(scripted([[Say("Hello.", seconds=0.3)]]))
    routes, records, keys = aivc.load_routes(settings), list[aivc.CallRecord](), list[str | None]()

    async def one_call(leg: aivc.Leg) -> None:
        found = routes.route(leg)
        assert isinstance(found, aivc.Route)
        assert found.settings.openai.voice == "cedar"
        keys.append(leg.session_key)
        connect, clock = connect_to(model), aivc.TaskClock()
        records.append(await aivc.serve_call(leg, found.settings, connect=connect, clock=clock, tools=found.tools))

    async def answer(opensips: aivc.OpenSips) -> None:
        async with trio.open_nursery() as calls:
            async for leg in opensips.legs:
                calls.start_soon(one_call, leg)

    with trio.fail_after(60):
        async with model, open_fake_opensips(SERVICE, extra_params='{"openai": {"voice": "cedar"}}') as fake:
            front_end = aivc.open_opensips(settings.opensips, settings.engine, settings.sip)
            async with front_end as opensips, open_phone(PHONE) as phone, trio.open_nursery() as nursery:
                nursery.start_soon(answer, opensips)
                await fake.wait_subscribed()
                async with phone.dial(NUMBER) as call:
                    await call.handset.wait_speech(0.3)
                    session = await fake.wait_session()
                await fake.wait_empty()
                await trio.sleep(1.0)
                nursery.cancel_scope.cancel()
            assert fake.violations == []
    assert [record.ending for record in records] == [aivc.Ending.CALLER_HUNG_UP]
    assert keys == [session.key]
    (line,) = lines_of(caplog, "sip.invited")
    assert line["key"] == session.key
