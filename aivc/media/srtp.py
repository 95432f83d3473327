"""SRTP and SRTCP (RFC 3711) with the keys that SDES settled (RFC 4568), by libsrtp.

libsrtp comes with the package pylibsrtp, the extra `srtp`; without it everything else works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import attrs

if TYPE_CHECKING:
    from pylibsrtp import Policy, Session

Suite = Literal["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"]  # RFC 4568 section 6.2
KEY_OCTETS: Final = 30  # master key of 16 and master salt of 14, RFC 4568 section 6.1
WINDOW: Final = 1024  # packets that may be late without being taken for replays


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
class Half:
    """One direction: its key, and libsrtp's state of the streams under it."""

    suite: Suite
    key: bytes = attrs.field(repr=False)
    session: Session = attrs.field(repr=False)


@attrs.define(eq=False)
class Srtp:
    """What enciphers one call's RTP and RTCP, and deciphers the peer's. Use `open_srtp`."""

    _ours: Half
    _theirs: Half

    def protect(self, packet: bytes) -> bytes:
        """SRTP of an RTP packet."""
        return self._ours.session.protect(packet)

    def protect_rtcp(self, compound: bytes) -> bytes:
        """SRTCP of an RTCP compound."""
        return self._ours.session.protect_rtcp(compound)

    def unprotect(self, datagram: bytes) -> bytes:
        """The RTP packet in it. Raises Unauthentic or Replayed."""
        try:
            return self._theirs.session.unprotect(datagram)
        except Exception as error:  # libsrtp's own, or ValueError for what is longer than a packet may be
            raise refusal(error) from None

    def unprotect_rtcp(self, datagram: bytes) -> bytes:
        """The RTCP compound in it. Raises Unauthentic or Replayed."""
        try:
            return self._theirs.session.unprotect_rtcp(datagram)
        except Exception as error:  # as above
            raise refusal(error) from None

    def rekeyed(self, suite: Suite, local: bytes, remote: bytes) -> Srtp:
        """What follows it after another agreement; a direction whose key has not changed goes on where it is."""
        ours, theirs = self._ours, self._theirs
        same_ours = (ours.suite, ours.key) == (suite, local)
        same_theirs = (theirs.suite, theirs.key) == (suite, remote)
        return Srtp(
            ours if same_ours else open_half(suite, local, inbound=False),
            theirs if same_theirs else open_half(suite, remote, inbound=True),
        )


def refusal(error: Exception) -> Unauthentic:
    return Replayed(str(error)) if str(error).startswith("replay") else Unauthentic(str(error))


def open_srtp(suite: Suite, local: bytes, remote: bytes) -> Srtp:
    """SRTP with our key and the peer's, 30 octets each. Raises SrtpMissing, and ValueError for keys of another length.

    RTCP bears tags of 80 bits under either suite, RFC 4568 section 6.2.2.
    """
    require_srtp()
    if len(local) != KEY_OCTETS or len(remote) != KEY_OCTETS:
        raise ValueError(f"keys of {len(local)} and {len(remote)} octets: each must have {KEY_OCTETS}")
    return Srtp(open_half(suite, local, inbound=False), open_half(suite, remote, inbound=True))


def open_half(suite: Suite, key: bytes, *, inbound: bool) -> Half:
    from pylibsrtp import Policy, Session

    profiles = {
        "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
        "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    }
    of_any = Policy.SSRC_ANY_INBOUND if inbound else Policy.SSRC_ANY_OUTBOUND
    policy: Policy = Policy(key, of_any, srtp_profile=profiles[suite])
    policy.window_size = WINDOW
    return Half(suite, key, Session(policy))
