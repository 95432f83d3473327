"""What the settings of `rtp` and `dtmf` change that one stream, or its sockets, show by themselves."""

from __future__ import annotations

import random
from typing import Literal

import pytest
import trio
from paper_leg import paper_leg
from paper_stream import EVENTS, SILENCE, VOICE, datagram, paper_stream
from settings_shown import shows
from sip_phone import sdp, user_agent
from trio.testing import MockClock

from aivc.config.settings import DtmfSettings, RtpSettings, Settings
from aivc.media.playout import Playout
from aivc.media.ports import PortPool
from aivc.media.reporting import keep_reporting
from aivc.media.rtp import parse_untrusted
from aivc.media.srtp import open_srtp
from aivc.nursery.media import make_stream, media_address, open_ports
from aivc.sip.leg import AudioAgreement, SrtpKeys
from aivc.testing.network import VirtualNetwork

SIX = AudioAgreement("PCMU", 0, ("2001:db8::9", 4000))
FOUR = AudioAgreement("PCMU", 0, ("192.0.2.9", 4000))


@shows("rtp.reorder_ms")
@pytest.mark.parametrize(("reorder_ms", "order"), [(0, "1 34"), (10, "1 34"), (40, "1234")])
def test_a_packet_waits_for_the_one_before_it_as_long_as_is_set_at_most(reorder_ms: int, order: str) -> None:
    """The second packet comes 30 ms after the third."""
    paper = paper_stream(RtpSettings(reorder_ms=reorder_ms))
    for sequence, now in ((1, 0.021), (3, 0.061), (2, 0.091), (4, 0.093)):
        paper.run(now)
        paper.come(datagram(sequence, f"{sequence}".encode() * 160), now)
    assert paper.heard()[::160].replace(SILENCE[:1], b" ").decode() == order
    assert paper.stream.statistics().late == (order != "1234")


@shows("rtp.cushion_ms")
@pytest.mark.parametrize(("cushion_ms", "silent"), [(0, 0), (20, 1), (40, 2)])
def test_the_first_words_wait_for_a_cushion_behind_them(cushion_ms: int, silent: int) -> None:
    paper = paper_stream(RtpSettings(cushion_ms=cushion_ms))
    paper.stream.playout.push("r", "a", VOICE)
    frames = [paper.stream.outgoing(n * 0.02) for n in range(4)]
    assert [frame is not None and frame[12:] == VOICE for frame in frames].index(True) == silent


@shows("rtp.hold")
@pytest.mark.parametrize("hold", ["silence", "nothing"])
def test_the_model_hears_silence_or_nothing_while_the_caller_holds_the_call(
    hold: Literal["silence", "nothing"],
) -> None:
    paper = paper_stream(RtpSettings(hold=hold))
    paper.come(datagram(0), 0.0)
    paper.stream.expects_audio = False
    paper.come(datagram(1), 0.02)
    paper.run(1.01)
    assert paper.heard() == VOICE + (SILENCE * 50 if hold == "silence" else b"")
    paper.stream.expects_audio = True
    paper.come(datagram(51), 1.02)
    assert paper.heard() == VOICE


def durations(dtmf: DtmfSettings) -> tuple[int, int]:
    """Duration of the first of two digits, and of the gap after it, as the packets say; ms."""
    paper = paper_stream()
    paper.stream.send_digits("12", dtmf.tone_ms, dtmf.gap_ms)
    paper.run(10.0)
    events = [packet for packet in paper.sent if packet.payload_type == EVENTS]
    tone = int.from_bytes([packet for packet in events if packet.payload[0] == 1][-1].payload[2:], "big")
    second = next(packet.rtp_timestamp for packet in events if packet.payload[0] == 2)
    return tone // 8, (second - events[0].rtp_timestamp - tone) // 8


@shows("dtmf.tone_ms")
@pytest.mark.parametrize("milliseconds", [40, 500])
def test_a_tone_lasts_as_long_as_is_set(milliseconds: int) -> None:
    assert durations(DtmfSettings(tone_ms=milliseconds)) == (milliseconds, 80)


@shows("dtmf.gap_ms")
@pytest.mark.parametrize("milliseconds", [40, 500])
def test_the_pause_between_tones_lasts_as_long_as_is_set(milliseconds: int) -> None:
    assert durations(DtmfSettings(gap_ms=milliseconds)) == (160, milliseconds)


@shows("rtp.bind_ipv6")
@pytest.mark.parametrize("agreement", [SIX, FOUR])
async def test_a_caller_with_ipv6_has_sockets_at_that_address(
    autojump_clock: MockClock, agreement: AudioAgreement
) -> None:
    VirtualNetwork().enable()
    pool = PortPool(RtpSettings(bind_ip="192.0.2.7", bind_ipv6="2001:db8::7"))
    async with open_ports(pool, paper_leg(agreement=agreement)) as sockets:
        assert sockets.rtp.getsockname()[0] == ("2001:db8::7" if agreement is SIX else "192.0.2.7")


@shows("rtp.ipv6")
@pytest.mark.parametrize("agreement", [SIX, FOUR])
async def test_a_caller_with_ipv6_is_told_that_address(autojump_clock: MockClock, agreement: AudioAgreement) -> None:
    VirtualNetwork().enable()
    settings = Settings(rtp=RtpSettings(ip="203.0.113.10", ipv6="2001:db8::10"))
    leg = paper_leg(agreement=agreement)
    async with open_ports(PortPool(settings.rtp), leg) as sockets:
        host, _ = await media_address(leg, settings, sockets)
    assert host == ("2001:db8::10" if agreement is SIX else "203.0.113.10")


async def reports_in_a_minute(rtp: RtpSettings) -> int:
    """RTCP datagrams that reach the port above the caller's."""
    came = 0

    def count(source: object, to: tuple[str, int], octets: bytes) -> None:
        nonlocal came
        came += to == ("192.0.2.9", 4001)

    VirtualNetwork(on_packet=count).enable()
    heard, _ = trio.open_memory_channel[bytes](1)
    async with PortPool(rtp).open_sockets() as sockets:
        stream = make_stream(FOUR, rtp, sockets, Playout(0xFF), heard, signalling_ip="192.0.2.9")
        if stream.rtcp is not None:
            with trio.move_on_after(60):
                await keep_reporting(stream, stream.rtcp, trio.sleep_forever, random.Random(1))
        assert (sockets.rtcp is not None) == rtp.rtcp
        assert (stream.quality() is not None) == rtp.rtcp
    return came


@shows("rtp.rtcp")
async def test_reports_are_sent_or_not(autojump_clock: MockClock) -> None:
    assert await reports_in_a_minute(RtpSettings(rtcp=True, probe_seconds=0)) > 5
    assert await reports_in_a_minute(RtpSettings(rtcp=False, probe_seconds=0)) == 0


@shows("rtp.rtcp")
@pytest.mark.parametrize("rtcp", [True, False])
async def test_a_port_shared_with_rtcp_is_agreed_to_only_with_it(rtcp: bool, autojump_clock: MockClock) -> None:
    async with user_agent(rtcp=rtcp) as (agent, phone):
        _, answer = await phone.call(agent, sdp("m=audio 49170 RTP/AVP 0\r\na=rtcp-mux\r\n"))
        assert (b"a=rtcp-mux\r\n" in answer.body) is rtcp


@shows("rtp.rtcp_seconds")
@pytest.mark.parametrize(("seconds", "least", "most"), [(1.0, 45, 75), (20.0, 2, 5)])
async def test_reports_are_as_frequent_as_is_set(
    autojump_clock: MockClock, seconds: float, least: int, most: int
) -> None:
    assert least <= await reports_in_a_minute(RtpSettings(rtcp_seconds=seconds, probe_seconds=0)) <= most


@shows("rtp.srtp")
async def test_a_stream_with_keys_is_enciphered(autojump_clock: MockClock) -> None:
    """What `rtp.srtp` lets the negotiation agree on."""
    VirtualNetwork().enable()
    rtp, (heard, _) = RtpSettings(), trio.open_memory_channel[bytes](1)
    keys = SrtpKeys("AES_CM_128_HMAC_SHA1_80", bytes(range(30)), bytes(range(30, 60)))
    async with PortPool(rtp).open_sockets() as sockets:
        agreement = AudioAgreement("PCMU", 0, FOUR.remote, srtp=keys)
        stream = make_stream(agreement, rtp, sockets, Playout(0xFF), heard, signalling_ip="192.0.2.9")
        sent = stream.outgoing(trio.current_time())
    assert sent is not None
    assert SILENCE[:16] not in sent
    assert parse_untrusted(open_srtp(keys.suite, keys.remote, keys.local).unprotect(sent)).payload == SILENCE
