from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.media.rtp import BadPacket, Packet, build, parse_untrusted

packets = st.builds(
    Packet,
    payload_type=st.integers(0, 127).filter(lambda pt: not 64 <= pt < 96),
    marker=st.booleans(),
    sequence=st.integers(0, 0xFFFF),
    rtp_timestamp=st.integers(0, 0xFFFFFFFF),
    ssrc=st.integers(0, 0xFFFFFFFF),
    payload=st.binary(max_size=400),
)


@given(packets)
def test_a_packet_survives_the_way_through_octets(packet: Packet) -> None:
    assert parse_untrusted(build(packet)) == packet


@given(st.binary(max_size=80))
def test_any_octets_are_a_packet_or_a_bad_packet(datagram: bytes) -> None:
    try:
        packet = parse_untrusted(datagram)
    except BadPacket:
        return
    assert len(packet.payload) <= len(datagram) - 12


@given(packets, st.integers(0, 15), st.integers(0, 5), st.integers(0, 9))
def test_csrc_list_extension_and_padding_are_no_payload(packet: Packet, csrcs: int, words: int, padding: int) -> None:
    plain = build(packet)
    flags = 0x80 | csrcs | 0x10 | (0x20 if padding else 0)
    extension = b"\xbe\xde" + words.to_bytes(2, "big") + bytes(4 * words)
    tail = bytes(padding - 1) + bytes([padding]) if padding else b""
    dressed = bytes([flags]) + plain[1:12] + bytes(4 * csrcs) + extension + packet.payload + tail
    assert parse_untrusted(dressed) == packet


def test_published_vectors_are_read_as_expected(test_data: Path) -> None:
    for vector in json.loads((test_data / "rtp" / "vectors.json").read_text()):
        want, datagram = vector["want"], bytes.fromhex(vector["hex"])
        if not want["ok"]:
            with pytest.raises(BadPacket):
                parse_untrusted(datagram)
            continue
        packet = parse_untrusted(datagram)
        found = (packet.payload_type, packet.sequence, packet.rtp_timestamp, packet.ssrc, packet.marker)
        assert found == (want["pt"], want["seq"], want["ts"], want["ssrc"], bool(want["marker"])), vector["id"]
        assert len(packet.payload) == want["payload_len"], vector["id"]
