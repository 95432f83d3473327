"""SRTP and SRTCP (RFC 3711) with the keys that SDES settled (RFC 4568), by libsrtp.

libsrtp comes with the package pylibsrtp, the extra `srtp`; without it everything else works.

When the peer changes its key, nobody can tell its rollover counter: RFC 3711 section 3.3.1 keeps it, RFC 4568 section
7.1.4 begins at zero with another address, and much equipment does so always. So both are tried, and the key before,
until a packet fits a new one. Our packets under a new key have a new SSRC, whose counter is zero for everybody: that is
up to who calls `Srtp.rekeyed`. Not done: master key identifiers (MKI), key lifetimes, key derivation rates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

import attrs

from aivc.media.reports import Reception
from aivc.media.rtp import HEADER, VERSION_2

if TYPE_CHECKING:
    from pylibsrtp import Policy, Session

Suite = Literal["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"]  # RFC 4568 section 6.2
KEY_OCTETS: Final = 30  # master key of 16 and master salt of 14, RFC 4568 section 6.1
WINDOW: Final = 1024  # packets that may be late without being taken for replays
STRIDE: Final = 0x4000  # sequence numbers by which libsrtp is led on; it follows below 0x8000
MOST_ROLLOVERS: Final = 64  # that it is led past: a day of 20 ms packets; a hostile peer can have any number


class SrtpMissing(Exception):
    """pylibsrtp is not installed; the text says how to get it."""


class Unauthentic(ValueError):
    """The datagram was not made with the peer's key, or not whole."""


class Replayed(Unauthentic):
    """It came before, or is so old that nobody can tell."""


def require_srtp() -> None:
    """Check that SRTP can be had. Raises SrtpMissing."""
    try:
        import pylibsrtp  # noqa: F401 - an optional dependency
    except ImportError:
        raise SrtpMissing("SRTP needs the package pylibsrtp: pip install aivc[srtp]") from None


@attrs.define(eq=False)
class Outbound:
    """Our direction: its key, and libsrtp's state of the streams under it."""

    suite: Suite
    key: bytes = attrs.field(repr=False)
    session: Session = attrs.field(repr=False)


@attrs.define(eq=False)
class Inbound:
    """The peer's direction: its key, and the states that may fit it; one, once a packet has fitted it.

    Attributes:
      earlier: of the key before, until a packet has fitted the new one.
    """

    suite: Suite
    key: bytes = attrs.field(repr=False)
    sessions: tuple[Session, ...] = attrs.field(repr=False)
    earlier: Session | None = attrs.field(default=None, repr=False)

    @property
    def proven(self) -> Session:
        """That which fitted last."""
        return self.sessions[0] if self.earlier is None else self.earlier

    def unprotect(self, datagram: bytes) -> bytes:
        """The RTP packet in it. Raises Unauthentic or Replayed."""
        if self.earlier is None:
            return opened(self.sessions[0].unprotect, datagram)
        refused: Unauthentic | None = None
        for session in (*self.sessions, self.earlier):
            try:
                packet = opened(session.unprotect, datagram)
            except Replayed as replayed:
                refused = replayed
            except Unauthentic as unauthentic:
                refused = refused or unauthentic
            else:
                if session is not self.earlier:
                    self.sessions, self.earlier = (session,), None
                return packet
        assert refused is not None
        raise refused

    def unprotect_rtcp(self, datagram: bytes) -> bytes:
        """The RTCP compound in it, which tells nothing of the rollover counter. Raises Unauthentic or Replayed."""
        try:
            return opened(self.sessions[0].unprotect_rtcp, datagram)
        except Replayed:
            raise
        except Unauthentic:
            if self.earlier is None:
                raise
            return opened(self.earlier.unprotect_rtcp, datagram)


@attrs.define(eq=False)
class Srtp:
    """What enciphers one call's RTP and RTCP, and deciphers the peer's. Use `open_srtp`."""

    _ours: Outbound
    _theirs: Inbound

    def protect(self, packet: bytes) -> bytes:
        """SRTP of an RTP packet."""
        return self._ours.session.protect(packet)

    def protect_rtcp(self, compound: bytes) -> bytes:
        """SRTCP of an RTCP compound."""
        return self._ours.session.protect_rtcp(compound)

    def unprotect(self, datagram: bytes) -> bytes:
        """The RTP packet in it. Raises Unauthentic or Replayed."""
        return self._theirs.unprotect(datagram)

    def unprotect_rtcp(self, datagram: bytes) -> bytes:
        """The RTCP compound in it. Raises Unauthentic or Replayed."""
        return self._theirs.unprotect_rtcp(datagram)

    def protects_with(self, suite: Suite, local: bytes) -> bool:
        """Whether that is our key."""
        return (self._ours.suite, self._ours.key) == (suite, local)

    def rekeyed(self, suite: Suite, local: bytes, remote: bytes, heard: Reception) -> Srtp:
        """What follows it after another agreement; a direction whose key has not changed goes on where it is.

        Args:
          heard: the packets of the peer so far, which tell its rollover counter.
        """
        ours, theirs = self._ours, self._theirs
        if not self.protects_with(suite, local):
            ours = Outbound(suite, local, open_session(suite, local, inbound=False))
        if (theirs.suite, theirs.key) != (suite, remote):
            sessions = (open_session(suite, remote, inbound=True), *rolled_over(suite, remote, heard))
            theirs = Inbound(suite, remote, sessions, theirs.proven)
        return Srtp(ours, theirs)


def opened(unprotect: Callable[[bytes], bytes], datagram: bytes) -> bytes:
    try:
        return unprotect(datagram)
    except Exception as error:  # libsrtp's own, or ValueError for what is longer than a packet may be
        text = str(error)
        raise (Replayed(text) if text.startswith("replay") else Unauthentic(text)) from None


def rolled_over(suite: Suite, key: bytes, heard: Reception) -> tuple[Session, ...]:
    """A state under this key that goes on where the peer's packets are; none when they have not wrapped yet.

    pylibsrtp cannot set the rollover counter: packets of our own, that nobody else sees, lead it there.
    """
    if not 0 < heard.cycles >> 16 <= MOST_ROLLOVERS:
        return ()
    there, here = open_session(suite, key, inbound=False), open_session(suite, key, inbound=True)
    for index in range(0, heard.cycles + heard.highest + 1, STRIDE):
        here.unprotect(there.protect(HEADER.pack(VERSION_2, 0, index & 0xFFFF, 0, heard.ssrc)))
    return (here,)


def open_srtp(suite: Suite, local: bytes, remote: bytes) -> Srtp:
    """SRTP with our key and the peer's, 30 octets each. Raises SrtpMissing, and ValueError for keys of another length.

    RTCP bears tags of 80 bits under either suite, RFC 4568 section 6.2.2.
    """
    require_srtp()
    if len(local) != KEY_OCTETS or len(remote) != KEY_OCTETS:
        raise ValueError(f"keys of {len(local)} and {len(remote)} octets: each must have {KEY_OCTETS}")
    ours, theirs = open_session(suite, local, inbound=False), open_session(suite, remote, inbound=True)
    return Srtp(Outbound(suite, local, ours), Inbound(suite, remote, (theirs,)))


def open_session(suite: Suite, key: bytes, *, inbound: bool) -> Session:
    from pylibsrtp import Policy, Session

    profiles = {
        "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
        "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    }
    of_any = Policy.SSRC_ANY_INBOUND if inbound else Policy.SSRC_ANY_OUTBOUND
    policy: Policy = Policy(key, of_any, srtp_profile=profiles[suite])
    policy.window_size = WINDOW
    return Session(policy)
