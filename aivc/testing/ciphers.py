"""SRTP of the test phone's handset with keys from the SDP (RFC 3711, RFC 4568), by pylibsrtp: the extra `srtp`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from aivc.testing.wording import Suite

if TYPE_CHECKING:
    from pylibsrtp import Session

KEY_OCTETS: Final = 30  # the master key and then the salt


@attrs.define(eq=False)
class Cipher:
    """Both directions of one call."""

    _outbound: Session
    _inbound: Session

    def protect(self, packet: bytes) -> bytes:
        return self._outbound.protect(packet)

    def protect_rtcp(self, packet: bytes) -> bytes:
        return self._outbound.protect_rtcp(packet)

    def unprotect(self, packet: bytes) -> bytes:
        """The RTP packet; b"" if it is none of this call's."""
        return tried(self._inbound.unprotect, packet)

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """The RTCP packet; b"" if it is none of this call's."""
        return tried(self._inbound.unprotect_rtcp, packet)


def tried(unprotect: Callable[[bytes], bytes], packet: bytes) -> bytes:
    from pylibsrtp import Error

    try:
        return unprotect(packet)
    except Error:
        return b""


def open_cipher(suite: Suite, local: bytes, remote: bytes) -> Cipher:
    """Args:
    local: the key of what is sent.
    remote: the key of what comes.
    """
    from pylibsrtp import Policy, Session

    profile = Policy.SRTP_PROFILE_AES128_CM_SHA1_80 if suite.endswith("80") else Policy.SRTP_PROFILE_AES128_CM_SHA1_32
    return Cipher(
        Session(Policy(key=local, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile)),
        Session(Policy(key=remote, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=profile)),
    )
