"""What a re-INVITE changes in a stream, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from paper_leg import paper_leg
from paper_stream import SILENCE, VOICE, datagram
from trio.testing import MockClock

from aivc.config.settings import Address, RtpSettings, Settings
from aivc.media.playout import Playout
from aivc.media.ports import MediaSockets, PortPool
from aivc.media.rtcp import SenderReport
from aivc.media.rtcp import parse_untrusted as parse_rtcp
from aivc.media.rtcpline import RtcpLine
from aivc.media.rtp import parse_untrusted
from aivc.media.srtp import open_srtp
from aivc.media.stream import RtpStream
from aivc.nursery.media import change_media, has_ipv6_media, make_stream, media_address
from aivc.sip.leg import AudioAgreement, MediaChanged, SrtpKeys
from aivc.testing.network import VirtualNetwork

PHONE, OTHER = ("192.0.2.9", 4000), ("192.0.2.9", 5000)
FIRST = AudioAgreement("PCMU", 0, PHONE, telephone_event=101)
KEYS = SrtpKeys("AES_CM_128_HMAC_SHA1_32", bytes(range(30)), bytes(range(30, 60)))
NEW_KEYS = SrtpKeys("AES_CM_128_HMAC_SHA1_80", bytes(range(60, 90)), bytes(range(30, 60)))


def stream_of(
    agreement: AudioAgreement, rtp: RtpSettings | None = None, signalling_ip: str = PHONE[0], **more: Any
) -> RtpStream:
    heard, _ = trio.open_memory_channel[bytes](50)
    sockets = MediaSockets(VirtualNetwork().socket(type=trio.socket.SOCK_DGRAM), None)
    playout, settings = Playout(0xFF), rtp or RtpSettings()
    return make_stream(agreement, settings, sockets, playout, heard, signalling_ip=signalling_ip, **more)


def sent(stream: RtpStream) -> bytes:
    packet = stream.outgoing(trio.current_time())
    assert packet is not None
    return packet


async def test_a_stream_has_all_that_was_agreed(autojump_clock: MockClock) -> None:
    stream = stream_of(attrs.evolve(FIRST, ptime_ms=30, remote_rtcp=("192.0.2.9", 9999), rtcp_mux=False))
    assert len(parse_untrusted(sent(stream)).payload) == 240
    outgoing = stream.control_outgoing(trio.current_time())
    assert outgoing is not None
    assert outgoing[1] == ("192.0.2.9", 9999)
    assert (stream.telephone_event, stream.may_send, stream.expects_audio) == (101, True, True)


async def test_random_beginnings_leave_room_before_the_first_wrap(autojump_clock: MockClock) -> None:
    streams = [stream_of(FIRST) for _ in range(30)]
    assert len({stream.pacer.ssrc for stream in streams}) == 30
    assert len({stream.pacer.rtp_timestamp for stream in streams}) == 30
    assert max(stream.pacer.sequence for stream in streams) < 0x8000
    lines = [line for stream in streams if isinstance(line := stream.rtcp, RtcpLine)]
    assert len({line.reports.cname for line in lines}) == 30
    assert all(len(line.reports.cname) == 16 for line in lines)


async def test_packets_of_another_length_and_reports_to_another_port(autojump_clock: MockClock) -> None:
    stream = stream_of(FIRST)
    sent(stream)
    change_media(stream, MediaChanged(attrs.evolve(FIRST, ptime_ms=60, rtcp_mux=True, telephone_event=96)))
    assert len(parse_untrusted(sent(stream)).payload) == 480
    outgoing = stream.control_outgoing(trio.current_time())
    assert outgoing is not None
    assert outgoing[1] == PHONE
    assert stream.telephone_event == 96


async def test_the_probe_budget_begins_anew_with_another_address_only(autojump_clock: MockClock) -> None:
    stream = stream_of(FIRST, RtpSettings(probe_seconds=10.0))
    await trio.sleep(11)
    assert stream.outgoing(trio.current_time()) is None
    change_media(stream, MediaChanged(FIRST))
    assert stream.outgoing(trio.current_time()) is None
    change_media(stream, MediaChanged(attrs.evolve(FIRST, remote=OTHER)))
    assert sent(stream)
    assert stream.remote == OTHER


async def test_new_keys_are_used_and_those_that_stay_go_on(autojump_clock: MockClock) -> None:
    stream = stream_of(attrs.evolve(FIRST, srtp=KEYS))
    phone = open_srtp(KEYS.suite, KEYS.remote, KEYS.local)
    assert parse_untrusted(phone.unprotect(sent(stream))).payload == SILENCE
    change_media(stream, MediaChanged(attrs.evolve(FIRST, srtp=KEYS)))
    assert phone.unprotect(sent(stream))
    change_media(stream, MediaChanged(attrs.evolve(FIRST, srtp=NEW_KEYS)))
    moved = open_srtp(NEW_KEYS.suite, NEW_KEYS.remote, NEW_KEYS.local)
    assert moved.unprotect(sent(stream))
    change_media(stream, MediaChanged(FIRST))
    assert parse_untrusted(sent(stream)).payload == SILENCE
    change_media(stream, MediaChanged(attrs.evolve(FIRST, srtp=KEYS)))
    assert SILENCE[:16] not in sent(stream)


@pytest.mark.parametrize("nowhere", [("0.0.0.0", 4000), ("192.0.2.9", 0)])
async def test_a_caller_who_holds_us_by_no_address_is_sent_nothing_and_is_still_alive(
    autojump_clock: MockClock, nowhere: Address
) -> None:
    stream = stream_of(FIRST)
    stream.received(datagram(1, VOICE), PHONE, trio.current_time())
    sent(stream)
    change_media(stream, MediaChanged(attrs.evolve(FIRST, remote=nowhere, may_send=False)))
    await trio.sleep(30)
    now = trio.current_time()
    assert stream.outgoing(now) is None
    assert stream.control_outgoing(now) is None
    stream.control_received(bytes.fromhex("80c9000100000009"), (PHONE[0], PHONE[1] + 1), now)
    assert stream.last_alive == now
    change_media(stream, MediaChanged(FIRST))
    assert sent(stream)
    assert stream.control_outgoing(now)


@pytest.mark.parametrize(
    ("remote", "source", "ipv6"),
    [
        ("192.0.2.9", "192.0.2.9", False),
        ("2001:db8::9", "192.0.2.9", True),  # dual stack: IPv6 media of an IPv4 proxy
        ("0.0.0.0", "2001:db8::9", True),  # no offer yet
        ("::", "192.0.2.9", False),
    ],
)
def test_the_family_is_that_of_the_media_or_else_of_the_invite(remote: str, source: str, ipv6: bool) -> None:
    agreement = AudioAgreement("PCMU", 0, (remote, 4000))
    assert has_ipv6_media(paper_leg(agreement=agreement, source=(source, 5060))) is ipv6


@pytest.mark.parametrize(("external", "told"), [("203.0.113.10", "2001:db8::7"), ("2001:db8::10", "2001:db8::10")])
async def test_an_external_address_of_the_other_family_is_not_told(
    autojump_clock: MockClock, external: str, told: str
) -> None:
    VirtualNetwork().enable()
    settings = Settings(rtp=RtpSettings(bind_ipv6="2001:db8::7"))
    settings = attrs.evolve(settings, sip=attrs.evolve(settings.sip, external_ip=external))
    leg = paper_leg(agreement=AudioAgreement("PCMU", 0, ("2001:db8::9", 4000)))
    async with PortPool(settings.rtp).open_sockets(ipv6=True) as sockets:
        assert (await media_address(leg, settings, sockets))[0] == told


async def test_who_takes_a_call_over_from_behind_a_nat_is_heard_as_if_they_had_called(
    autojump_clock: MockClock,
) -> None:
    """Signalling of another peer: its NAT is told by its own address, and its trust is its own."""
    inside, nat = ("10.0.0.2", 4000), ("198.51.100.9", 30_000)
    stream = stream_of(attrs.evolve(FIRST, remote=inside), signalling_ip=inside[0], is_trusted=True)
    stream.received(datagram(1), inside, trio.current_time())
    phone = attrs.evolve(FIRST, remote=("192.168.1.7", 4000))
    change_media(stream, MediaChanged(phone, source=(nat[0], 5060)))
    await trio.sleep(2)
    for sequence in range(5):
        stream.received(datagram(sequence, ssrc=77), nat, trio.current_time())
    assert (stream.remote, stream.is_trusted) == (nat, False)
    change_media(stream, MediaChanged(phone, source=("203.0.113.5", 5060), is_trusted=True))  # in another such network
    assert (stream.remote, stream.latch.pinned, stream.is_trusted) == (phone.remote, None, True)


async def test_a_re_invite_of_the_same_peer_leaves_its_trust(autojump_clock: MockClock) -> None:
    stream = stream_of(FIRST, is_trusted=True)
    change_media(stream, MediaChanged(attrs.evolve(FIRST, remote=OTHER)))
    assert (stream.is_trusted, stream.latch.signalling_ip) == (True, PHONE[0])


async def test_each_side_sends_with_the_numbers_that_the_other_has_given(autojump_clock: MockClock) -> None:
    agreement = attrs.evolve(FIRST, payload_type=97, telephone_event=96, own_payload_type=0, own_telephone_event=101)
    digits: list[str] = []
    for stream in (stream_of(agreement, pressed=digits.append), stream_of(FIRST, pressed=digits.append)):
        change_media(stream, MediaChanged(agreement))
        assert parse_untrusted(sent(stream)).payload_type == 97
        now = trio.current_time()
        stream.received(datagram(1), PHONE, now)
        stream.received(datagram(2, bytes([5, 10, 0, 160]), 101), PHONE, now)
        assert stream.counters.other_payload == 0
        stream.send_digits("7", 100, 50)
        assert parse_untrusted(sent(stream)).payload_type == 96
    assert digits == ["5", "5"]


async def test_under_a_new_key_of_ours_another_stream_begins(autojump_clock: MockClock) -> None:
    """Whether the peer keeps its rollover counter or not, that of a new SSRC is zero."""
    stream = stream_of(attrs.evolve(FIRST, srtp=KEYS))
    stream.pacer.sequence = 65_530
    before = stream.pacer.ssrc
    for _ in range(10):
        sent(stream)
    change_media(stream, MediaChanged(attrs.evolve(FIRST, srtp=NEW_KEYS)))
    phone = open_srtp(NEW_KEYS.suite, NEW_KEYS.remote, NEW_KEYS.local)
    assert stream.pacer.sequence < 0x8000
    packet = parse_untrusted(phone.unprotect(sent(stream)))
    assert packet.ssrc != before
    assert packet.marker
    outgoing = stream.control_outgoing(trio.current_time())
    assert outgoing is not None
    report = parse_rtcp(phone.unprotect_rtcp(outgoing[0]))[0]
    assert isinstance(report, SenderReport)
    assert (report.ssrc, report.packets, report.octets) == (packet.ssrc, 1, 160)
