"""A call's agreement made into a stream: where it is bound, how its RTP begins, and how a re-INVITE changes it."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

import trio

from aivc.config.settings import Address, RtpSettings, Settings
from aivc.media.filling import Heard
from aivc.media.g711 import SILENCE
from aivc.media.latching import Latch
from aivc.media.pacer import Pacer
from aivc.media.playout import ItemPlayout, Playout, unheeded
from aivc.media.ports import MediaSockets, PortPool, is_ipv6, local_ip_towards
from aivc.media.reporting import DICE
from aivc.media.reports import Reports
from aivc.media.rtcpline import RtcpLine
from aivc.media.srtp import open_srtp
from aivc.media.stream import RtpStream
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.ground import Ground
from aivc.nursery.keys import Keypad
from aivc.nursery.performer import Announcer
from aivc.nursery.record import ModelAudible
from aivc.nursery.taping import TapedStream
from aivc.nursery.turns import Turns
from aivc.sip.leg import AudioAgreement, Leg, MediaChanged, SrtpKeys

WILDCARDS: Final = {"0.0.0.0", "::"}
CNAME_BITS: Final = 96  # RFC 7022 section 4.2

Bound = MediaSockets | trio.socket.SocketType  # a socket alone: RTP without RTCP, unless both share its port


def open_ports(ports: PortPool, leg: Leg) -> AbstractAsyncContextManager[MediaSockets]:
    """The sockets of a call, of the family that its caller's media has. Raises NoPortFree."""
    return ports.open_sockets(has_ipv6_media(leg))


def has_ipv6_media(leg: Leg) -> bool:
    """Whether the caller's audio is reached by IPv6; who has not told an address yet has that of the INVITE."""
    return is_ipv6(towards(leg)[0])


def towards(leg: Leg) -> Address:
    """Where the caller's media is; who has not told an address yet is reached where the INVITE came from."""
    remote = leg.agreement.remote
    return leg.source if remote[0] in WILDCARDS else remote


def open_stream(
    ground: Ground,
    sockets: Bound,
    heard: Heard,
    keypad: Keypad,
) -> RtpStream:
    """The RTP and RTCP of a call, about to begin."""
    leg, progress = ground.leg, ground.progress
    began = partial(note_audible, progress.turns, ground.announcer)
    stream = make_stream(
        leg.agreement,
        ground.settings.rtp,
        sockets,
        Playout(SILENCE[leg.agreement.codec], began, progress.drained),
        heard,
        signalling_ip=leg.source[0],
        is_trusted=leg.is_trusted,
        pressed=lambda digit: keypad.press(digit, "rtp"),
        kind=RtpStream if progress.taping is None else partial(TapedStream, tape=progress.taping.tape),
    )
    if progress.taping is not None:
        progress.taping.drawn(stream)
    return stream


def make_stream(
    agreement: AudioAgreement,
    rtp: RtpSettings,
    sockets: Bound,
    playout: Playout,
    heard: Heard,
    *,
    signalling_ip: str,
    is_trusted: bool = False,
    pressed: Callable[[str], None] = unheeded,
    kind: Callable[..., RtpStream] = RtpStream,
) -> RtpStream:
    """A stream by an agreement with a caller, or with somebody whom we have called.

    SSRC, sequence and timestamp are random, RFC 3550 section 5.1; the sequence begins in the lower half, so that it
    does not wrap before the first packets of SRTP have come (RFC 3711 section 3.3.1).
    """
    now = trio.current_time()
    rtp_socket, rtcp_socket = sockets if isinstance(sockets, MediaSockets) else (sockets, None)
    ssrc, keys = DICE.getrandbits(32), agreement.srtp
    cname = base64.b64encode(DICE.randbytes(CNAME_BITS // 8)).decode()
    reports = Reports(ssrc, cname, time.time() - now)
    return kind(
        rtp_socket,
        agreement.codec,
        heard_payload_type(agreement),
        Latch(agreement.remote, signalling_ip, rtp.nat, rtp.relatch_seconds),
        playout,
        Pacer(
            agreement.payload_type, ssrc, DICE.getrandbits(15), DICE.getrandbits(32), now, ptime_ms=agreement.ptime_ms
        ),
        heard,
        rtp,
        now,
        agreement.may_send,
        agreement.may_send and agreement.may_receive,
        telephone_event=agreement.telephone_event,
        own_telephone_event=agreement.own_telephone_event,
        pressed=pressed,
        rtcp=RtcpLine(reports, rtcp_socket, agreement.rtcp_mux, agreement.remote_rtcp) if rtp.rtcp else None,
        srtp=None if keys is None else open_srtp(keys.suite, keys.local, keys.remote),
        is_trusted=is_trusted,
    )


async def media_address(leg: Leg, settings: Settings, sockets: Bound) -> Address:
    """What our SDP says: `rtp.ip` or `rtp.ipv6`, else `sip.external_ip`, else what reaches the caller's media.

    Raises CallOver when no packet of ours can reach it.
    """
    rtp_socket = sockets.rtp if isinstance(sockets, MediaSockets) else sockets
    host, port = rtp_socket.getsockname()[:2]
    ipv6 = is_ipv6(host)
    external = settings.sip.external_ip
    if external is not None and is_ipv6(external) != ipv6:
        external = None
    advertised = (settings.rtp.ipv6 if ipv6 else settings.rtp.ip) or external
    if advertised is not None or host not in WILDCARDS:
        return advertised or host, port
    remote = towards(leg)
    try:
        return await local_ip_towards(remote), port
    except OSError as error:
        raise CallOver(Ending.MEDIA_UNREACHABLE, f"{remote[0]}: {error.strerror}") from None


def note_audible(turns: Turns, announcer: Announcer, item: ItemPlayout) -> None:
    """The first packet of an item leaves now."""
    turns.began(item)
    announcer.tell(ModelAudible(item.item_id, item.began_at or 0.0))


def change_media(stream: RtpStream | None, changed: MediaChanged) -> None:
    """Follow a re-INVITE: another address, payload type, length of packets or keys, hold, or resume; or another peer.

    The codec of a call never changes.
    """
    if stream is None:
        return
    now, agreement, source = trio.current_time(), changed.agreement, changed.source
    earned = stream.latch.locked or not stream.pacer.sent  # else re-INVITEs without end would aim at a victim for ever
    if source is not None:
        stream.is_trusted = changed.is_trusted
    if stream.latch.move(agreement.remote, now, None if source is None else source[0]) and earned:
        stream.started_at = now
    if stream.rtcp is not None:
        stream.rtcp.describe(agreement.remote_rtcp, agreement.rtcp_mux)
    stream.last_received = now
    stream.expects_audio = agreement.may_send and agreement.may_receive
    stream.payload_type, stream.pacer.payload_type = heard_payload_type(agreement), agreement.payload_type
    stream.ptime_ms = agreement.ptime_ms
    stream.may_send = agreement.may_send
    stream.telephone_event = agreement.telephone_event
    stream.own_telephone_event = agreement.own_telephone_event
    change_keys(stream, agreement.srtp)


def change_keys(stream: RtpStream, keys: SrtpKeys | None) -> None:
    """Under another key of ours a new SSRC begins, and in the lower half of the sequence numbers, as at the start.

    RFC 3711 section 3.3.1 has a rollover counter outlast its key, and RFC 4568 section 7.1.4 and much equipment have it
    begin at zero: of a new SSRC it is zero for everybody.
    """
    before = stream.srtp
    if keys is None:
        stream.srtp = None
        return
    if before is None:
        stream.srtp = open_srtp(keys.suite, keys.local, keys.remote)
    else:
        stream.srtp = before.rekeyed(keys.suite, keys.local, keys.remote, stream.reception)
    if before is None or not before.protects_with(keys.suite, keys.local):
        stream.pacer.begin_anew(DICE.getrandbits(32), DICE.getrandbits(15))
        if stream.rtcp is not None:
            stream.rtcp.reports.ssrc = stream.pacer.ssrc


def heard_payload_type(agreement: AudioAgreement) -> int:
    own = agreement.own_payload_type
    return agreement.payload_type if own is None else own
