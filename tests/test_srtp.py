"""SRTP by libsrtp: with the key of the other side everything is heard, with another nothing, and no call ends."""

from __future__ import annotations

import sys

import attrs
import pytest
from paper_stream import PHONE, SILENCE, VOICE, Paper, datagram, paper_stream

from aivc.media.reports import Reception
from aivc.media.rtcp import ReceiverReport, SenderReport, build, parse_untrusted
from aivc.media.rtp import parse_untrusted as parse_rtp
from aivc.media.srtp import MOST_ROLLOVERS, Replayed, Srtp, SrtpMissing, Suite, Unauthentic, open_srtp, require_srtp

SUITES: tuple[Suite, ...] = ("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32")
OURS, THEIRS, NEXT = bytes(range(30)), bytes(range(100, 130)), bytes(range(200, 230))
TAG_OCTETS = {SUITES[0]: 10, SUITES[1]: 4}


def pair(suite: Suite = SUITES[0]) -> tuple[Srtp, Srtp]:
    """Ours and the phone's."""
    return open_srtp(suite, OURS, THEIRS), open_srtp(suite, THEIRS, OURS)


@pytest.mark.parametrize("suite", SUITES)
def test_the_other_side_reads_what_was_enciphered(suite: Suite) -> None:
    ours, phone = pair(suite)
    ciphered = ours.protect(datagram(1))
    assert len(ciphered) == len(datagram(1)) + TAG_OCTETS[suite]
    assert VOICE[:16] not in ciphered
    assert phone.unprotect(ciphered) == datagram(1)
    report = build((ReceiverReport(7),))
    ciphered = ours.protect_rtcp(report)
    assert len(ciphered) == len(report) + 4 + 10  # RFC 4568 section 6.2.2: 80 bits for RTCP under either suite
    assert phone.unprotect_rtcp(ciphered) == report


def test_a_published_vector_is_deciphered() -> None:
    """RFC 3711 has none for a whole packet: this is the one of libsrtp's own test driver (`srtp_validate`)."""
    key = bytes.fromhex("e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6")
    clear = bytes.fromhex("800f1234decafbadcafebabe") + b"\xab" * 16
    ciphered = bytes.fromhex("800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb")
    assert open_srtp(SUITES[0], key, THEIRS).protect(clear) == ciphered
    assert open_srtp(SUITES[0], OURS, key).unprotect(ciphered) == clear


@pytest.mark.parametrize("octets", [b"", b"\x80", datagram(1), b"\x80\x00" + bytes(60), b"\xff" * 2000])
def test_what_is_not_the_peers_is_refused(octets: bytes) -> None:
    ours, _ = pair()
    with pytest.raises(Unauthentic):
        ours.unprotect(octets)
    with pytest.raises(Unauthentic):
        ours.unprotect_rtcp(octets)


def test_what_comes_twice_is_a_replay() -> None:
    ours, phone = pair()
    ciphered, report = phone.protect(datagram(1)), phone.protect_rtcp(build((ReceiverReport(7),)))
    ours.unprotect(ciphered)
    ours.unprotect_rtcp(report)
    with pytest.raises(Replayed):
        ours.unprotect(ciphered)
    with pytest.raises(Replayed):
        ours.unprotect_rtcp(report)


@pytest.mark.parametrize("octets", [0, 16, 29, 31, 46])
def test_keys_of_another_length_are_refused(octets: int) -> None:
    with pytest.raises(ValueError, match="each must have 30"):
        open_srtp(SUITES[0], OURS, bytes(octets))


def test_a_key_that_has_not_changed_goes_on_where_it_was() -> None:
    ours, phone = pair()
    ciphered = phone.protect(datagram(1))
    ours.unprotect(ciphered)
    moved = ours.rekeyed(SUITES[0], NEXT, THEIRS, Reception())
    with pytest.raises(Replayed):
        moved.unprotect(ciphered)
    assert open_srtp(SUITES[0], THEIRS, NEXT).unprotect(moved.protect(datagram(2))) == datagram(2)


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylibsrtp", None)
    with pytest.raises(SrtpMissing, match=r"pip install aivc\[srtp\]"):
        require_srtp()
    with pytest.raises(SrtpMissing):
        open_srtp(SUITES[0], OURS, THEIRS)


# in a stream


def secure_stream() -> tuple[Paper, Srtp]:
    ours, phone = pair()
    return paper_stream(srtp=ours), phone


def test_a_stream_with_keys_speaks_and_hears_srtp() -> None:
    paper, phone = secure_stream()
    paper.come(phone.protect(datagram(1)), 0.0)
    sent = paper.stream.outgoing(0.0)
    assert sent is not None
    assert paper.heard() == VOICE
    assert SILENCE[:16] not in sent
    assert parse_rtp(phone.unprotect(sent)).payload == SILENCE


def test_what_is_forged_or_comes_twice_is_counted_and_the_call_goes_on() -> None:
    paper, phone = secure_stream()
    first = phone.protect(datagram(1))
    for packet in (first, first, datagram(2), *[datagram(3) + bytes(10)] * 200, b"\x80", phone.protect(datagram(2))):
        paper.come(packet, 0.02)
    counters = paper.stream.statistics()
    assert (counters.unauthentic, counters.replayed, counters.received) == (202, 1, 2)
    assert paper.heard() == VOICE * 2


def test_a_stranger_without_the_key_cannot_take_the_media() -> None:
    paper, phone = secure_stream()
    for n in range(10):
        paper.stream.received(datagram(n), (PHONE[0], 9999), 0.0)
    assert paper.stream.latch.pinned is None
    paper.come(phone.protect(datagram(1)), 0.02)
    assert paper.stream.latch.pinned == PHONE


def test_rtcp_is_enciphered_on_either_port() -> None:
    for mux in (False, True):
        paper, phone = secure_stream()
        line = paper.stream.rtcp
        assert line is not None
        line.mux = mux
        paper.come(phone.protect(datagram(1)), 0.0)
        report = phone.protect_rtcp(build((SenderReport(9, 1 << 32, 0, 0, 0),)))
        if mux:
            paper.come(report, 1.0)
        else:
            paper.stream.control_received(report, (PHONE[0], PHONE[1] + 1), 1.0)
            paper.stream.control_received(report, (PHONE[0], PHONE[1] + 1), 1.0)
        assert (line.reports.received, paper.stream.counters.replayed) == (1, 0 if mux else 1)
        outgoing = paper.stream.control_outgoing(2.0)
        assert outgoing is not None
        assert isinstance(parse_untrusted(phone.unprotect_rtcp(outgoing[0]))[0], ReceiverReport)


def test_new_keys_of_a_re_invite_are_used_at_once() -> None:
    paper, _ = secure_stream()
    assert paper.stream.srtp is not None
    paper.stream.srtp = paper.stream.srtp.rekeyed(SUITES[0], NEXT, NEXT, paper.stream.reception)
    phone = open_srtp(SUITES[0], NEXT, NEXT)
    paper.come(phone.protect(datagram(5)), 0.0)
    assert paper.heard() == VOICE
    sent = paper.stream.outgoing(0.0)
    assert sent is not None
    assert phone.unprotect(sent)
    paper.stream.srtp = None
    clear = paper.stream.outgoing(0.02)
    assert clear is not None
    assert parse_rtp(clear).payload == SILENCE


@pytest.mark.parametrize("keeps", [True, False])
def test_after_a_new_key_the_peers_rollover_counter_may_go_on_or_begin_anew(keeps: bool) -> None:
    """RFC 3711 section 3.3.1, or RFC 4568 section 7.1.4."""
    paper, phone = secure_stream()
    for index in range(0, 0x30000, 0x400):  # gaps, but so many packets would take long
        paper.come(phone.protect(datagram(index)), index / 50)
    assert paper.stream.reception.cycles == 0x20000
    late = phone.protect(datagram(0x30001))
    assert paper.stream.srtp is not None
    paper.stream.srtp = paper.stream.srtp.rekeyed(SUITES[0], OURS, NEXT, paper.stream.reception)
    paper.come(late, 5000.0)
    renewed = open_srtp(SUITES[0], NEXT, OURS)
    for index in range(0, 0x30010, 0x4000) if keeps else ():
        renewed.protect(datagram(index))
    heard = paper.stream.reception.received
    for number in range(10):
        paper.come(renewed.protect(datagram(0x30010 + number)), 5000.1)
    paper.come(late, 5000.2)
    counters = paper.stream.statistics()
    assert counters.received == heard + 10
    assert (counters.unauthentic, counters.replayed) == (1, 0)  # the key before is over once the new one was used


def test_the_key_before_is_read_until_the_new_one_is_used_and_twice_is_still_a_replay() -> None:
    paper, phone = secure_stream()
    first = phone.protect(datagram(1))
    paper.come(first, 0.0)
    for key in (NEXT, NEXT[::-1]):
        assert paper.stream.srtp is not None
        paper.stream.srtp = paper.stream.srtp.rekeyed(SUITES[0], OURS, key, paper.stream.reception)
        report = phone.protect_rtcp(build((ReceiverReport(9),)))
        assert paper.stream.srtp.unprotect_rtcp(report) == build((ReceiverReport(9),))
    paper.come(first, 0.02)
    paper.come(phone.protect(datagram(2)), 0.02)
    counters = paper.stream.statistics()
    assert (counters.received, counters.replayed, counters.unauthentic) == (2, 1, 0)


def test_a_peer_that_wraps_without_end_costs_no_more_at_a_new_key() -> None:
    paper, phone = secure_stream()
    paper.come(phone.protect(datagram(1)), 0.0)
    paper.stream.reception.cycles = (MOST_ROLLOVERS + 1) << 16
    assert paper.stream.srtp is not None
    assert len(paper.stream.srtp.rekeyed(SUITES[0], OURS, NEXT, paper.stream.reception)._theirs.sessions) == 1


def test_keys_are_not_shown() -> None:
    ours, _ = pair()
    assert "00010203" not in repr(ours)
    assert repr(OURS) not in repr(ours)
    assert attrs.fields_dict(type(ours._ours))["key"].repr is False
