"""The product's client, connected to the fake model in memory."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock

from aivc.config.settings import OpenAISettings, Secret
from aivc.realtime.connection import RealtimeRefused
from aivc.testing.connect import connect_to
from aivc.testing.faults import Faults
from aivc.testing.model import FakeModel
from aivc.testing.voice import silence, speech


async def test_the_product_connects_with_its_own_url_and_headers(autojump_clock: MockClock) -> None:
    settings = OpenAISettings(key=Secret("right"), model="gpt-realtime-2.1")
    with trio.fail_after(10):
        async with FakeModel(keys=["right"]) as model, trio.open_nursery() as nursery:
            socket = await connect_to(model)(nursery, settings)
            assert json.loads(await socket.receive())["session"]["model"] == "gpt-realtime-2.1"
            pcm = bytes(48) * 1000
            await socket.append_audio(pcm)
            await socket.append_audio(silence(0.1) + speech(0.1))
            await trio.sleep(0.1)
            session = await model.wait_session()
            assert session.received_audio == pcm + silence(0.1) + speech(0.1)
            assert session.headers["host"] == "api.openai.com"
            await socket.close(1.0)
            assert await session.wait_closed() == 1000
            nursery.cancel_scope.cancel()


async def test_a_refused_upgrade_is_the_products_own_error(autojump_clock: MockClock) -> None:
    settings = OpenAISettings(key=Secret("x"), model="gpt-realtime-2.1")
    with trio.fail_after(30):
        async with FakeModel(faults=Faults(refuse_upgrade=503)) as model, trio.open_nursery() as nursery:
            with pytest.raises(RealtimeRefused) as caught:
                await connect_to(model)(nursery, settings)
            assert caught.value.http_status == 503
            model.faults = Faults(silent_upgrade=True)
            start = trio.current_time()
            with pytest.raises(RealtimeRefused):
                await connect_to(model)(nursery, settings)
            assert trio.current_time() - start == pytest.approx(settings.connect_seconds)
            nursery.cancel_scope.cancel()
