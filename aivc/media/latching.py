"""Where the caller's audio really comes from: symmetric RTP (RFC 4961) that strangers cannot steal.

Ours goes to the address in the caller's SDP until that address, or one that may stand in for it behind a NAT, proves
itself: the same SSRC with `PROOF_PACKETS` consecutive sequence numbers. Then the source is locked until a re-INVITE
moves the media or the source has been silent for `relatch_seconds`. Everybody else is foreign: counted, not heard.

Who may stand in: a source with the SDP's IP address and another port; any source when `nat` is "on", or "auto" with
an SDP address that is private (RFC 1918, RFC 6598, loopback, link-local) while the signalling came from one that is
not. A private phone behind a private proxy needs "on".
"""

from __future__ import annotations

import ipaddress
from typing import Final, Literal

import attrs

from aivc.config.settings import Address
from aivc.media.rtp import Packet

PROOF_PACKETS: Final = 4  # as Asterisk's strictrtp and rtpengine ask
LEAVING_SECONDS: Final = 1.0  # a source that a re-INVITE left may still have packets on their way
CANDIDATES: Final = 8  # sources on probation at once; a spraying attacker replaces only the oldest

PRIVATE: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
        "100.64.0.0/10",  # RFC 6598, carrier-grade NAT
        *("127.0.0.0/8", "::1/128"),
        *("169.254.0.0/16", "fe80::/10"),  # link-local
        "fc00::/7",  # RFC 4193
    )
)

Nat = Literal["auto", "on", "off"]


@attrs.define
class Candidate:
    """A source on probation."""

    packets: list[Packet]


@attrs.define
class Latch:
    """Decides, packet by packet, whom we hear and where we send.

    Args:
      remote: the media address of the caller's SDP.
      signalling_ip: where the INVITE came from.
      nat: the `rtp.nat` setting.
      relatch_seconds: silence after which the locked source may be replaced.
    """

    remote: Address
    signalling_ip: str
    nat: Nat
    relatch_seconds: float
    foreign: int = 0  # packets from strangers
    locked: bool = False
    last_heard: float = 0.0  # when the locked source was last heard, seconds
    described: Address = attrs.field(init=False)
    _candidates: dict[Address, Candidate] = attrs.field(init=False, factory=dict)
    _left: Address | None = attrs.field(init=False, default=None)
    _left_until: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self.described = self.remote

    def move(self, remote: Address, now: float) -> None:
        """A re-INVITE named another address: start again from there."""
        if remote != self.described:
            self._left, self._left_until = self.remote, now + LEAVING_SECONDS
            self.remote = self.described = remote
            self.locked = False
            self._dismiss_candidates()

    def accept(self, packet: Packet, source: Address, now: float) -> tuple[Packet, ...]:
        """The packets to hear now: none from a stranger, all that waited when a source has proved itself."""
        if self.locked and source == self.remote:
            self.last_heard = now
            return (packet,)
        if self.locked and now - self.last_heard < self.relatch_seconds:
            self.foreign += 1
            return ()
        if source == self.described:
            self._lock(source, now)
            return (packet,)
        if not self._may_stand_in(source) or (source == self._left and now < self._left_until):
            self.foreign += 1
            return ()
        return self._prove(packet, source, now)

    def _prove(self, packet: Packet, source: Address, now: float) -> tuple[Packet, ...]:
        candidate = self._candidates.get(source)
        if candidate is None or not follows(packet, candidate.packets[-1]):
            self.foreign += len(candidate.packets) if candidate else 0
            self._candidates.pop(source, None)
            if len(self._candidates) >= CANDIDATES:
                self.foreign += len(self._candidates.pop(next(iter(self._candidates))).packets)
            candidate = self._candidates[source] = Candidate([])
        candidate.packets.append(packet)
        if len(candidate.packets) < PROOF_PACKETS:
            return ()
        self._lock(source, now)
        return tuple(candidate.packets)

    def _lock(self, source: Address, now: float) -> None:
        self.remote, self.locked, self.last_heard = source, True, now
        self._candidates.pop(source, None)
        self._dismiss_candidates()

    def _dismiss_candidates(self) -> None:
        self.foreign += sum(len(candidate.packets) for candidate in self._candidates.values())
        self._candidates.clear()

    def _may_stand_in(self, source: Address) -> bool:
        if source[0] == self.described[0] or self.nat == "on":
            return True
        return self.nat == "auto" and is_private(self.described[0]) and not is_private(self.signalling_ip)


def follows(packet: Packet, previous: Packet) -> bool:
    return packet.ssrc == previous.ssrc and packet.sequence == (previous.sequence + 1) & 0xFFFF


def is_private(ip: str) -> bool:
    """Whether `ip` cannot be reached from the Internet; False for what is no IP address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    return any(address in network for network in PRIVATE)
