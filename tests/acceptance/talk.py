"""A call of the whole service whose model talks without an end, and what is asked of it."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from scenarios.world import DELAY, RTP_PORT, SERVICE, SETTINGS, World, open_world

from aivc import Settings
from aivc.config.settings import Address
from aivc.testing import Handset, PhoneCall, Say, VirtualNetwork, scripted, speech
from aivc.testing.handset import RtpHeard

MEDIA: Final[Address] = (SERVICE, RTP_PORT)
LONG: Final = 60.0  # seconds of talk, more than any test needs
FOREIGN: Final[Address] = ("198.51.100.66", 40_100)
PACKET: Final = 0.02  # seconds
HEADER: Final = struct.Struct("!BBHII")


@asynccontextmanager
async def open_talk(
    *, settings: Settings = SETTINGS, network: VirtualNetwork | None = None, seconds: float = LONG, **dial: Any
) -> AsyncIterator[tuple[World, PhoneCall]]:
    """The model is heard when the block begins; `dial` as in `Phone.dial`."""
    net = network or VirtualNetwork(delay=DELAY)
    script = scripted([[Say("Hello.", audio=speech(seconds))]])
    async with open_world(script, settings=settings, network=net) as world, world.dial(**dial) as call:
        await call.handset.wait_speech(0.2)
        yield world, call


def rtp(sequence: int, *, ssrc: int = 0xBAD, payload_type: int = 0, payload: bytes = b"\x55" * 160) -> bytes:
    """A packet of a stranger, or of the caller."""
    return HEADER.pack(0x80, payload_type, sequence % 2**16, sequence * 160 % 2**32, ssrc) + payload


async def is_heard(handset: Handset, seconds: float = 0.2) -> bool:
    """Whether packets of the service come all the time, none more than a few later than it should."""
    before = len(handset.heard)
    await trio.sleep(seconds)
    return len(handset.heard) - before >= seconds / PACKET - 3


def audio(handset: Handset) -> list[RtpHeard]:
    return [packet for packet in handset.heard if packet.payload_type in (0, 8)]


@asynccontextmanager
async def socket_at(address: Address) -> AsyncIterator[trio.socket.SocketType]:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(address)
        yield socket


async def count_arrivals(socket: trio.socket.SocketType, seconds: float) -> int:
    count = 0
    with trio.move_on_after(seconds):
        while True:
            await socket.recvfrom(2048)
            count += 1
    return count
