"""Floods, theft and reflection: what strangers try on a media port, against one stream without a network."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import trio
from paper_stream import EVENTS, PHONE, VOICE, Paper, datagram, paper_stream
from trio.testing import MockClock

from aivc.config.settings import Address, RtpSettings
from aivc.media.latching import CANDIDATES
from aivc.media.stream import RtpStream
from aivc.nursery.media import change_media
from aivc.sip.leg import AudioAgreement, MediaChanged

STRANGER: Address = ("203.0.113.66", 5000)
VICTIM: Address = ("203.0.113.7", 4000)
PACKET = 0.02  # seconds
THEIRS = b"\x66" * 160
FLOOD = 5000  # datagrams

Hostile = Callable[[random.Random, int], tuple[bytes, Address]]  # the datagram of that number, and its forged source


def random_ssrc(dice: random.Random, number: int) -> tuple[bytes, Address]:
    return datagram(dice.getrandbits(16), THEIRS, ssrc=dice.getrandbits(32)), PHONE


def random_source(dice: random.Random, number: int) -> tuple[bytes, Address]:
    host = f"203.0.{dice.randrange(256)}.{dice.randrange(256)}"
    return datagram(number, THEIRS, ssrc=dice.getrandbits(32)), (host, dice.randrange(1024, 65536))


def other_port(dice: random.Random, number: int) -> tuple[bytes, Address]:
    return datagram(number, THEIRS, ssrc=666), (PHONE[0], 9000)


def wrong_payload_type(dice: random.Random, number: int) -> tuple[bytes, Address]:
    return datagram(dice.getrandbits(16), THEIRS, payload_type=dice.choice((3, 9, 18, 96, 127)), ssrc=666), PHONE


def cut_off(dice: random.Random, number: int) -> tuple[bytes, Address]:
    return datagram(number, THEIRS)[: dice.randrange(12)], PHONE


def stun(dice: random.Random, number: int) -> tuple[bytes, Address]:
    return b"\0\1\0\0\x21\x12\xa4\x42" + dice.randbytes(12), PHONE


def rtcp_goodbye(dice: random.Random, number: int) -> tuple[bytes, Address]:
    return b"\x81\xcb\0\1\0\0\0\x09", PHONE


def keys_of_a_stranger(dice: random.Random, number: int) -> tuple[bytes, Address]:
    return datagram(number, bytes([number % 12, 10, 0, 160]), EVENTS, rtp_timestamp=number * 800), STRANGER


def noise(dice: random.Random, number: int) -> tuple[bytes, Address]:
    return dice.randbytes(dice.randrange(1500)), dice.choice((PHONE, STRANGER))


@pytest.mark.parametrize(
    "hostile",
    [
        *(random_ssrc, random_source, other_port, wrong_payload_type, cut_off, stun, rtcp_goodbye),
        *(keys_of_a_stranger, noise),
    ],
)
def test_a_flood_beside_the_callers_audio_costs_the_caller_nothing(hostile: Hostile) -> None:
    dice, paper = random.Random(1), paper_stream()
    each = FLOOD // 100
    for sequence in range(100):
        now = sequence * PACKET
        paper.come(datagram(sequence), now)
        for number in range(each):
            paper.stream.received(*hostile(dice, sequence * each + number), now + number * PACKET / each)
        paper.run(now + PACKET)
    counted = paper.stream.statistics()
    assert paper.heard() == VOICE * 100
    assert paper.pressed == []
    assert paper.stream.remote == PHONE
    assert len(paper.sent) == 100
    assert counted.received + counted.foreign + counted.malformed <= 100 + FLOOD
    assert counted.restarts == counted.lost == 0


def test_who_sprays_before_the_caller_speaks_takes_nothing_when_the_sdp_is_honest() -> None:
    paper = paper_stream()
    for number in range(FLOOD):
        paper.stream.received(datagram(number, THEIRS, ssrc=666), STRANGER, number * 0.0002)
    paper.come(datagram(7), 1.01)
    assert paper.heard() == VOICE
    assert paper.stream.remote == PHONE
    assert paper.stream.statistics().foreign == FLOOD


def test_a_source_that_was_proved_keeps_the_media_until_it_falls_silent() -> None:
    """RTP bleed: whoever sends to an open port in a pause of the caller gets nothing of the call."""
    paper, settings = paper_stream(RtpSettings(nat="on", relatch_seconds=3.0)), RtpSettings(relatch_seconds=3.0)
    for sequence in range(10):
        paper.come(datagram(sequence), sequence * PACKET)
    assert paper.stream.latch.pinned == PHONE
    silent_from = 9 * PACKET
    for number in range(140):  # 2.8 s: a caller with silence suppression
        paper.stream.received(datagram(number, THEIRS, ssrc=666), STRANGER, silent_from + number * PACKET)
    assert paper.stream.remote == PHONE
    assert THEIRS not in paper.heard()
    later = silent_from + settings.relatch_seconds + 0.1
    for number in range(4):
        paper.stream.received(datagram(number, THEIRS, ssrc=666), STRANGER, later + number * PACKET)
    assert paper.stream.remote == STRANGER  # its NAT has moved, for all that we know: the setting says so


def test_random_sources_that_may_stand_in_take_no_room_and_prove_nothing() -> None:
    dice, paper = random.Random(2), paper_stream(RtpSettings(nat="on"))
    for number in range(FLOOD):
        paper.stream.received(*random_source(dice, number), number * 0.0002)
    assert paper.stream.statistics().foreign >= FLOOD - CANDIDATES
    assert paper.stream.remote == PHONE
    assert paper.heard() == b""


# Reflection


def seconds_of_audio(stream: RtpStream, start: float, end: float) -> float:
    """For how long packets leave, in that time."""
    sent = 0
    while stream.pacer.due < end - 1e-9:
        sent += stream.outgoing(stream.pacer.due) is not None and stream.pacer.due >= start - 1e-9
    return sent * PACKET


@pytest.mark.parametrize("victims", [30, 2])
async def test_re_invites_that_aim_at_one_victim_after_another_buy_no_more_time(
    victims: int, autojump_clock: MockClock
) -> None:
    stream = paper_stream(RtpSettings(probe_seconds=15.0)).stream
    aimed, began = 0.0, trio.current_time()
    for number in range(30):
        aim = AudioAgreement("PCMU", 0, (f"203.0.113.{number % victims + 1}", 4000))
        change_media(stream, MediaChanged(aim))
        await trio.sleep(2.0)
        aimed += seconds_of_audio(stream, began + number * 2.0, began + (number + 1) * 2.0)
    assert aimed == pytest.approx(15.0, abs=2 * PACKET)


def test_a_caller_that_has_spoken_cannot_turn_its_audio_on_a_victim() -> None:
    stream = paper_stream(RtpSettings(probe_seconds=15.0)).stream
    for sequence in range(1000):
        stream.received(datagram(sequence), PHONE, sequence * PACKET)
    assert seconds_of_audio(stream, 0.0, 20.0) == pytest.approx(20.0, abs=2 * PACKET)
    stream.latch.move(VICTIM, 20.0)
    assert seconds_of_audio(stream, 20.0, 80.0) == 0.0
    stream.latch.move(PHONE, 80.0)
    stream.received(datagram(2000), PHONE, 80.0)
    assert seconds_of_audio(stream, 80.0, 81.0) == pytest.approx(1.0, abs=2 * PACKET)


@pytest.mark.parametrize(("trusted", "probe", "seconds"), [(True, 15.0, 60.0), (False, 0.0, 60.0), (False, 5.0, 5.0)])
def test_only_a_trunk_or_a_setting_has_silent_addresses_sent_audio_for_ever(
    trusted: bool, probe: float, seconds: float
) -> None:
    stream = paper_stream(RtpSettings(probe_seconds=probe), is_trusted=trusted).stream
    assert seconds_of_audio(stream, 0.0, 60.0) == pytest.approx(seconds, abs=2 * PACKET)


@pytest.mark.parametrize(
    "aim", [("255.255.255.255", 4000), ("239.1.1.1", 4000), ("ff02::1", 4000), ("203.0.113.7", 53), ("h.example", 4000)]
)
def test_nothing_is_aimed_at_many_or_at_other_services_not_even_for_a_trunk(aim: Address) -> None:
    stream = paper_stream(is_trusted=True).stream
    stream.latch.move(aim, 0.0)
    assert seconds_of_audio(stream, 0.0, 5.0) == 0.0
    assert stream.control_outgoing(1.0) is None


def test_what_leaves_tells_nothing_of_what_came_from_strangers() -> None:
    def sent(paper: Paper, hostile: bool) -> list[bytes]:
        for number in range(50):
            paper.come(datagram(number), number * PACKET)
            if hostile:
                paper.stream.received(datagram(number, THEIRS, ssrc=666), STRANGER, number * PACKET)
            paper.run((number + 1) * PACKET)
        return [packet.payload for packet in paper.sent]

    assert sent(paper_stream(), hostile=True) == sent(paper_stream(), hostile=False)
