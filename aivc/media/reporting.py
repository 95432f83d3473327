"""Reads and sends the RTCP of a call, in a task that sleeps nearly always."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random, SystemRandom
from typing import Final

import trio

from aivc.media.rtcpline import RtcpLine
from aivc.media.stream import RtpStream

LARGEST_DATAGRAM_OCTETS: Final = 2048
FLOOD_PAUSE: Final = 1.0  # seconds
SPREAD: Final = (0.5, 1.5)  # of the interval, RFC 3550 section 6.2: telephones shall not report in step
DICE: Final = SystemRandom()  # one for all calls: it has no state, and yet room for 2.5 KiB of it
LAST_WORDS: Final = 0.1  # seconds to hand the BYE to the system


async def keep_reporting(
    stream: RtpStream, line: RtcpLine, meanwhile: Callable[[], Awaitable[None]], dice: Random = DICE
) -> None:
    """Task: send the RTCP of a call, and say BYE when cancelled.

    Args:
      line: that of the stream.
      meanwhile: is run between the reports; does not return.
      dice: spreads them.
    """
    interval = stream.settings.rtcp_seconds
    try:
        while True:
            with trio.move_on_after(interval * dice.uniform(*SPREAD)):
                await meanwhile()
            await send_compound(stream, line, goodbye=False)
    finally:
        stream.may_send = False  # who has said BYE sends nothing more, RFC 3550 section 6.6: a heartbeat may come first
        with trio.move_on_after(LAST_WORDS, shield=True):
            await send_compound(stream, line, goodbye=True)


async def listen(stream: RtpStream, line: RtcpLine) -> None:
    """Read what comes on the odd port; does not return."""
    if line.socket is None:
        await trio.sleep_forever()
    while True:
        try:
            datagram, source = await line.socket.recvfrom(LARGEST_DATAGRAM_OCTETS)
        except OSError:  # an ICMP error for a report of ours
            line.unsent += 1
        else:
            stream.control_received(datagram, source[:2], trio.current_time())
            if line.is_flooded:  # what comes meanwhile waits, or is lost, in the system: that costs us nothing
                await trio.sleep(FLOOD_PAUSE)


async def send_compound(stream: RtpStream, line: RtcpLine, *, goodbye: bool) -> None:
    """Send one compound of ours, if one may be sent."""
    socket = stream.socket if line.mux else line.socket
    outgoing = None if socket is None else stream.control_outgoing(trio.current_time(), goodbye)
    if socket is not None and outgoing is not None:
        try:
            await socket.sendto(*outgoing)
        except OSError:
            line.unsent += 1
