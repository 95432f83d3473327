"""A user agent that does nothing but register: the parts below it are the real ones."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, Final

import attrs
import pytest
import trio

from aivc.config.secret import Secret
from aivc.config.settings import SipRegister, SipSettings
from aivc.sip.accounts import Accounts
from aivc.sip.counters import Counters
from aivc.sip.flow import Arrival
from aivc.sip.message import Request, Response
from aivc.sip.registrant import Registrant
from aivc.sip.sources import Sources
from aivc.sip.timers import Timers
from aivc.sip.transaction_layer import TransactionLayer
from aivc.sip.transport import open_transports

HOST: Final = "192.0.2.1"
REGISTRAR: Final = "192.0.2.50"
PASSWORDS: Final = {"200": "s3cret"}
PBX: Final = SipRegister(user="200", server=REGISTRAR, password=Secret("s3cret"), expires_seconds=600)


@attrs.define
class Client:
    """What a test looks at."""

    registrant: Registrant
    accounts: Accounts
    sources: Sources
    requests: list[Request]  # that came

    @property
    def state(self) -> str:
        return self.registrant.status.state


@asynccontextmanager
async def open_client(
    register: SipRegister = PBX, listen: str = f"udp:{HOST}:5060", **sip: Any
) -> AsyncIterator[Client]:
    """Registers until the block ends, which takes the registration back."""
    settings = SipSettings(listen=(listen,), register=(register,), **sip)
    randomness = random.Random(7)
    arrivals, read = trio.open_memory_channel[Arrival](64)
    sources, accounts, requests = Sources(settings), Accounts(settings, randomness), list[Request]()
    async with open_transports(settings, Counters(), lambda _: True, arrivals) as transports:
        timers = Timers()
        layer = TransactionLayer(timers, lambda: f"{randomness.getrandbits(64):016x}", transports)

        async def receive() -> None:
            async for arrival in read:
                if isinstance(arrival.message, Response):
                    layer.receive_response(arrival.message)
                else:
                    requests.append(arrival.message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(timers.run)
            nursery.start_soon(receive)
            registrant = Registrant(register, settings, accounts, layer, transports, randomness, sources)
            nursery.start_soon(registrant.run)
            yield Client(registrant, accounts, sources, requests)
            await registrant.leave()
            nursery.cancel_scope.cancel()


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, object]]:
    """The fields of the log lines with that name."""
    return [vars(record)["fields"] for record in caplog.records if vars(record).get("event") == name]


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]
