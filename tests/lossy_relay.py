"""A UDP relay that loses datagrams, both ways, by a seed: a bad network of real sockets, without a firewall's help."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import attrs
import trio

from aivc.config.settings import Address

LARGEST = 65_535


@attrs.define(eq=False)
class LossyRelay:
    """Stands at `host` in front of 127.0.0.1, with the same ports. Built by `open_lossy_relay`.

    Attributes:
      lost, passed: datagrams.
      lost_inward: of those that were lost, how many were for which port.
    """

    host: str
    loss: float
    nursery: trio.Nursery
    dice: random.Random
    lost: int = 0
    passed: int = 0
    lost_inward: Counter[int] = attrs.field(factory=Counter)

    async def stand(self, port: int) -> None:
        """Task: relay what comes to one port, for each sender from a port of its own."""
        ways: dict[Address, trio.socket.SocketType] = {}
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as front:
            await front.bind((self.host, port))
            try:
                while True:
                    data, sender = await front.recvfrom(LARGEST)
                    if sender not in ways:
                        way = ways[sender] = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
                        await way.connect(("127.0.0.1", port))
                        self.nursery.start_soon(self._back, way, front, sender)
                    if self._is_kept():
                        with suppress(ConnectionRefusedError):  # ICMP: nobody listens there just now
                            await ways[sender].send(data)
                    else:
                        self.lost_inward[port] += 1
            finally:
                for way in ways.values():
                    way.close()

    async def _back(self, way: trio.socket.SocketType, front: trio.socket.SocketType, to: Address) -> None:
        while True:
            try:
                data = await way.recv(LARGEST)
            except ConnectionRefusedError:
                continue
            except trio.ClosedResourceError:
                return
            if self._is_kept():
                await front.sendto(data, to)

    def _is_kept(self) -> bool:
        kept = self.dice.random() >= self.loss
        self.passed += kept
        self.lost += not kept
        return kept


@asynccontextmanager
async def open_lossy_relay(
    ports: Sequence[int], *, loss: float, seed: int, host: str = "127.0.0.2"
) -> AsyncIterator[LossyRelay]:
    """Lose that share of all datagrams while the block runs."""
    async with trio.open_nursery() as nursery:
        relay = LossyRelay(host, loss, nursery, random.Random(seed))
        for port in ports:
            nursery.start_soon(relay.stand, port)
        yield relay
        nursery.cancel_scope.cancel()
