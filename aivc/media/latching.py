"""Where the caller's audio really comes from: symmetric RTP (RFC 4961) that strangers cannot steal.

Ours goes to the address in the caller's SDP until that address, or one that may stand in for it behind a NAT, proves
itself: the same SSRC with `PROOF_PACKETS` consecutive sequence numbers. Then the source is locked until a re-INVITE
moves the media or the source has been silent for `relatch_seconds`. Everybody else is foreign: counted, not heard.
The SDP's own address needs no proof, as ours goes there anyway: it is heard from its first packet. The SSRC is locked
with the source; another one from there is heard when two of its packets follow each other (RFC 3550 appendix A.1), so
that a spray of forged packets costs no more than a spray from elsewhere.

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
LOWEST_PORT: Final = 1024  # below are services that an SDP might aim our audio at, and no media

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
UNSPECIFIED: Final = ("0.0.0.0", "::")
BROADCAST: Final = ipaddress.ip_address("255.255.255.255")

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
      signalling_ip: where the INVITE came from; later, where the signalling of the present peer does.
      nat: the `rtp.nat` setting.
      relatch_seconds: silence after which the locked source may be replaced.
    """

    remote: Address
    signalling_ip: str
    nat: Nat
    relatch_seconds: float
    foreign: int = 0  # packets from strangers
    pinned: Address | None = None  # the source that is locked
    ssrc: int = -1  # of the pinned source
    last_heard: float = 0.0  # when the pinned source was last heard, seconds
    described: Address = attrs.field(init=False)
    nowhere: bool = attrs.field(init=False)  # nothing is to be sent, as the SDP says
    may_be_aimed_at: bool = attrs.field(init=False)  # whether anybody would have media at `described`
    _candidates: dict[Address, Candidate] = attrs.field(init=False, factory=dict)
    _newcomer: Packet | None = attrs.field(init=False, default=None)  # of another SSRC from the pinned source
    _left: Address | None = attrs.field(init=False, default=None)
    _left_until: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self.nowhere = is_nowhere(self.remote)
        self._describe(self.remote)

    @property
    def locked(self) -> bool:
        return self.pinned is not None

    def move(self, remote: Address, now: float, signalling_ip: str | None = None) -> bool:
        """A re-INVITE named this address: if it is another, start again from there; whether it is.

        Nowhere is none: who holds us by it (RFC 3264 section 8.4) goes on to be known by where the audio came from.
        `signalling_ip` is that of a new peer, if there is one: behind another NAT the same address is another.
        """
        is_another = signalling_ip not in (None, self.signalling_ip)
        self.signalling_ip = signalling_ip or self.signalling_ip
        self.nowhere = is_nowhere(remote)
        if self.nowhere or (canonical(remote) == self.described and not is_another):
            return False
        self._left, self._left_until = self.remote, now + LEAVING_SECONDS
        self._describe(remote)
        self.pinned, self.ssrc = None, -1
        self._dismiss_candidates()
        return True

    def shuts_out(self, now: float) -> bool:
        """Whether nobody but the pinned source is listened to now."""
        return self.pinned is not None and now - self.last_heard < self.relatch_seconds

    def accept(self, packet: Packet, source: Address, now: float) -> tuple[Packet, ...]:
        """The packets to hear now: none from a stranger, all that waited when a source has proved itself."""
        if source == self.pinned:
            self.last_heard = now
            return (packet,) if packet.ssrc == self.ssrc else self._renew(packet)
        if self.shuts_out(now):
            self.foreign += 1
            return ()
        if source == self.described:
            self._lock(packet, source, now)
            return (packet,)
        if not self.may_stand_in(source[0]) or (source == self._left and now < self._left_until):
            self.foreign += 1
            return ()
        return self._prove(packet, source, now)

    def may_stand_in(self, ip: str) -> bool:
        """Whether somebody there may be the caller, with another address than the SDP's."""
        if bare(ip) == bare(self.described[0]) or self.nat == "on":
            return True
        return self.nat == "auto" and is_private(self.described[0]) and not is_private(self.signalling_ip)

    def _describe(self, remote: Address) -> None:
        self.remote = self.described = canonical(remote)
        self.may_be_aimed_at = takes_media(self.described)

    def _renew(self, packet: Packet) -> tuple[Packet, ...]:
        """The pinned source has another SSRC, or somebody forges it."""
        before, self._newcomer = self._newcomer, packet
        if before is None:
            return ()
        if not follows(packet, before):
            self.foreign += 1
            return ()
        self.ssrc, self._newcomer = packet.ssrc, None
        return (before, packet)

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
        self._lock(packet, source, now)
        return tuple(candidate.packets)

    def _lock(self, packet: Packet, source: Address, now: float) -> None:
        self.remote = self.pinned = source
        self.ssrc, self.last_heard = packet.ssrc, now
        self._candidates.pop(source, None)
        self._dismiss_candidates()

    def _dismiss_candidates(self) -> None:
        self.foreign += sum(len(candidate.packets) for candidate in self._candidates.values())
        self._candidates.clear()
        self._newcomer = None


def follows(packet: Packet, previous: Packet) -> bool:
    return packet.ssrc == previous.ssrc and packet.sequence == (previous.sequence + 1) & 0xFFFF


def is_private(ip: str) -> bool:
    """Whether `ip` cannot be reached from the Internet; False for what is no IP address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    return any(address in network for network in PRIVATE)


def canonical(address: Address) -> Address:
    """An address as a socket tells it: IPv6 compressed, and IPv4 for an IPv6 address that stands for it."""
    try:
        ip = ipaddress.ip_address(address[0])
    except ValueError:
        return address
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip), address[1]


def bare(ip: str) -> str:
    """Without the zone of a link-local address, which an SDP cannot tell."""
    return ip.partition("%")[0]


def is_nowhere(address: Address) -> bool:
    """Whether an SDP says by this address that nothing is to be sent."""
    return address[0] in UNSPECIFIED or address[1] == 0


def takes_media(address: Address) -> bool:
    """Whether media may be sent there unasked: to one host, and to no port where other services are."""
    try:
        ip = ipaddress.ip_address(address[0])
    except ValueError:
        return False
    everybody = ip.is_multicast or ip.is_unspecified or ip == BROADCAST
    return not everybody and LOWEST_PORT <= address[1] <= 0xFFFF
