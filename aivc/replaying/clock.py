"""A media clock without time of its own: packets come and leave when the recording says so.

What the recording's packets were apart is what the replay's are: their phase decides what is in each of them. Where no
packet left, while the caller held us, time passes all the same: the caller's gaps are filled by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

import attrs
import trio

from aivc.config.settings import Codec
from aivc.flight.audio import digest_of
from aivc.flight.entries import Address, RtpPacket
from aivc.media.g711 import FRAME_SECONDS, OCTETS_PER_MS, is_voiced
from aivc.media.punctuality import Punctuality
from aivc.media.reporting import keep_reporting, listen
from aivc.media.rtp import parse_untrusted
from aivc.media.stream import RtpStream

MOST_EARLY: Final = 256  # datagrams that came before the stream was there
GAP: Final = 0.100  # seconds between two packets of ours: a stall of less is made up for by a burst


@attrs.define(eq=False)
class ReplayClock:
    """Both directions of the one stream of a replayed call.

    Args:
      left: told of each datagram that leaves, where to, and when.
      ended: told when none will leave any more.
    """

    left: Callable[[bytes, Address, float], None]
    ended: Callable[[], None]
    punctuality: Punctuality = attrs.field(factory=Punctuality)
    _stream: RtpStream | None = None
    _early: list[tuple[bytes, Address]] = attrs.field(factory=list)
    _began: bool = False

    async def carry(self, stream: RtpStream) -> None:
        is_recorded = self._stream is None  # else it is of a call that ours has made, whose media is not recorded
        if is_recorded:
            self._stream = stream
            for datagram, source in self._early:
                stream.received(datagram, source, trio.current_time())
            self._early.clear()
        try:
            if stream.rtcp is None:
                await trio.sleep_forever()
            else:
                await keep_reporting(stream, stream.rtcp, partial(listen, stream, stream.rtcp))
        finally:
            if is_recorded:
                self._stream = None
                self.ended()

    def arrive(self, datagram: bytes, source: Address) -> None:
        """A datagram has come to the RTP socket."""
        if self._stream is not None:
            self._stream.received(datagram, source, trio.current_time())
        elif len(self._early) < MOST_EARLY:
            self._early.append((datagram, source))

    def tick(self) -> None:
        """The moment of an outgoing packet."""
        stream = self._stream
        if stream is not None:
            now = trio.current_time()
            if not self._began:
                self._began, stream.pacer.due = True, now
            self._send(stream, now)

    def pass_over(self) -> None:
        """The moment of one that the recording lacks: time passes for who may not send. A stall of ours was no time."""
        if self._stream is not None and self._began and not self._stream.may_send:
            self._send(self._stream, trio.current_time())

    def _send(self, stream: RtpStream, now: float) -> None:
        datagram = stream.outgoing(now)
        if datagram is not None:
            self.left(datagram, stream.remote, now)


def unrecorded_ticks(sent: Sequence[RtpPacket], until: float) -> Iterator[float]:
    """When packets might have left in the gaps between those that did, and after the last one."""
    for before, after_at in zip(sent, [*(packet.at for packet in sent[1:]), until], strict=False):
        if after_at - before.at > GAP:
            ptime = ptime_of(before)
            for number in range(1, int((after_at - before.at) / ptime + 0.5)):
                yield before.at + number * ptime


def ptime_of(packet: RtpPacket) -> float:
    """How long a packet of audio is, in seconds; a key's packet says nothing of that."""
    return packet.octets / (1000 * OCTETS_PER_MS) if packet.octets >= 10 * OCTETS_PER_MS else FRAME_SECONDS


def packet_of(datagram: bytes, at: float, peer: Address, codec: Codec) -> RtpPacket:
    """A datagram of ours as a recording has it, with its payload."""
    packet = parse_untrusted(datagram)
    return RtpPacket(
        at=at,
        way="out",
        peer=peer,
        payload_type=packet.payload_type,
        marker=packet.marker,
        sequence=packet.sequence,
        rtp_timestamp=packet.rtp_timestamp,
        ssrc=packet.ssrc,
        octets=len(packet.payload),
        digest=digest_of(packet.payload),
        is_voiced=is_voiced(packet.payload, codec),
        payload=packet.payload,
    )
