"""RTCP as octets."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.media.rtcp import (
    BadRtcp,
    Description,
    Goodbye,
    ReceiverReport,
    ReportBlock,
    Rtcp,
    SenderReport,
    build,
    parse_untrusted,
)
from aivc.media.rtp import BadPacket, is_rtcp
from aivc.media.rtp import parse_untrusted as parse_rtp

U32 = st.integers(0, 0xFFFFFFFF)
blocks = st.lists(
    st.builds(ReportBlock, U32, st.integers(0, 255), st.integers(-0x800000, 0x7FFFFF), U32, U32, U32, U32), max_size=3
).map(tuple)
reports = st.one_of(
    st.builds(SenderReport, U32, st.integers(0, 2**64 - 1), U32, U32, U32, blocks),
    st.builds(ReceiverReport, U32, blocks),
)
descriptions = st.builds(Description, U32, st.text("abc@.é", max_size=90))
goodbyes = st.builds(Goodbye, st.lists(U32, min_size=1, max_size=3).map(tuple), st.text("abc é", max_size=40))
compounds = st.builds(lambda first, *others: (first, *others), reports, reports, descriptions, goodbyes)

RR = bytes.fromhex("80c9000100000007")


@given(compounds)
def test_a_compound_survives_the_way_through_octets(compound: tuple[Rtcp, ...]) -> None:
    datagram = build(compound)
    assert len(datagram) % 4 == 0
    assert parse_untrusted(datagram) == compound
    assert is_rtcp(datagram)


@given(st.binary(max_size=120), st.booleans())
def test_any_octets_are_a_compound_or_bad_rtcp(octets: bytes, disguised: bool) -> None:
    try:
        found = parse_untrusted(RR + octets if disguised else octets)
    except BadRtcp:
        return
    assert isinstance(found[0], (SenderReport, ReceiverReport))


@given(compounds, st.data())
def test_a_compound_that_is_cut_off_anywhere_is_refused_or_shorter(
    compound: tuple[Rtcp, ...], data: st.DataObject
) -> None:
    datagram = build(compound)
    cut = data.draw(st.integers(0, len(datagram) - 1))
    try:
        found = parse_untrusted(datagram[:cut])
    except BadRtcp:
        return
    assert found == compound[: len(found)]
    assert len(found) < len(compound)


def test_a_sender_report_of_the_field_is_read() -> None:
    """One of PJSIP's fuzzing seeds."""
    octets = "81c8000c66f00c9ae796981d7bc3f8110008e72e000000930001ef45733321660000000000005"
    octets += "4d50000008098188b460004b85d"
    (report,) = parse_untrusted(bytes.fromhex(octets))
    assert isinstance(report, SenderReport)
    assert (report.ssrc, report.packets, report.octets) == (0x66F00C9A, 147, 126789)
    (block,) = report.blocks
    assert (block.ssrc, block.lost, block.highest_sequence, block.jitter) == (0x73332166, 0, 0x54D5, 0x80)
    assert (block.last_sr, block.delay_since_last_sr) == (0x98188B46, 0x0004B85D)


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        ("", "empty"),
        ("80c9", "no RTCP header"),
        ("00c9000100000007", "version 0"),
        ("80cb000100000007", "begins with a report"),
        ("80ca000100000007", "begins with a report"),
        ("80c9000200000007", "claims 12 octets of 8"),
        ("80c9ffff00000007", "claims 262144"),
        ("80c90000", "needs 4 octets"),
        ("81c9000100000007", "needs 28 octets"),
        ("80c8000100000007", "needs 24 octets"),
        ("a0c9000100000007", "only the last"),
        ("80c900010000000780", "no RTCP header"),
        ("80c900010000000781cb0000", "needs 4 octets"),
        ("80c900010000000781ca000100000007", "end of a description"),
        ("80c900010000000781ca00020000000701ff6161", "an item"),
        ("80c9000100000007a1cb000200000007000000ff", "padding"),
        ("80c9000100000007a1cb00020000000700000000", "padding"),
    ],
)
def test_each_rule_that_is_broken_is_named(octets: str, said: str) -> None:
    with pytest.raises(BadRtcp, match=said):
        parse_untrusted(bytes.fromhex(octets))


def test_padding_of_the_last_packet_is_no_content() -> None:
    padded = RR + bytes.fromhex("a1cb00020000000700000004")
    assert parse_untrusted(padded) == (ReceiverReport(7), Goodbye((7,)))


def test_packets_of_other_kinds_are_passed_over() -> None:
    feedback, extended = bytes.fromhex("81ce00020000000700000008"), bytes.fromhex("80cf000100000007")
    assert parse_untrusted(RR + feedback + extended) == (ReceiverReport(7),)


def test_what_does_not_fit_into_its_field_is_clamped() -> None:
    block = ReportBlock(1, 999, 9_000_000, 5, 2**40, 6, 2**40)
    (report,) = parse_untrusted(build((ReceiverReport(7, (block,)),)))
    assert isinstance(report, ReceiverReport)
    assert report.blocks == (ReportBlock(1, 255, 0x7FFFFF, 5, 0xFFFFFFFF, 6, 0xFFFFFFFF),)


def test_many_chunks_of_a_description_are_read_word_by_word() -> None:
    one, two = build((Description(1, "a"),))[4:], build((Description(2, "four"),))[4:]
    datagram = RR + struct.pack("!BBH", 0x82, 202, (len(one) + len(two)) // 4) + one + two
    assert parse_untrusted(datagram)[1:] == (Description(1, "a"), Description(2, "four"))


def test_rtcp_is_told_from_rtp_on_a_shared_port_as_in_the_published_vectors(test_data: Path) -> None:
    vectors = json.loads((test_data / "rtp" / "vectors.json").read_text())
    assert any(vector["want"].get("rtcp") for vector in vectors)
    for vector in vectors:
        datagram = bytes.fromhex(vector["hex"])
        if vector["want"].get("rtcp"):
            assert is_rtcp(datagram), vector["id"]
            with pytest.raises(BadPacket):
                parse_rtp(datagram)
        elif vector["want"]["ok"]:
            assert not is_rtcp(datagram), vector["id"]
