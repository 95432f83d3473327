from __future__ import annotations

import pytest

from aivc.config.settings import Address
from aivc.media.latching import CANDIDATES, Latch, Nat
from aivc.media.rtp import Packet

SDP = ("192.0.2.9", 4000)
STRANGER = ("203.0.113.66", 4000)


def packet(sequence: int, ssrc: int = 7) -> Packet:
    return Packet(0, False, sequence, 0, ssrc, b"x")


def latch(remote: Address = ("198.51.100.9", 4000), signalling: str = "198.51.100.9", nat: Nat = "auto") -> Latch:
    return Latch(remote, signalling, nat, relatch_seconds=5.0)


def feed(latch: Latch, source: Address, count: int, start: int = 1, now: float = 0.0) -> list[int]:
    """Sequence numbers heard while `source` sends `count` packets."""
    return [p.sequence for n in range(count) for p in latch.accept(packet(start + n), source, now)]


def test_the_address_of_the_sdp_is_heard_from_the_first_packet() -> None:
    one = latch()
    assert feed(one, one.remote, 2) == [1, 2]
    assert one.locked


def test_another_port_of_the_same_host_is_heard_whole_once_it_has_proved_itself() -> None:
    one = latch()
    mapped = (one.remote[0], 61000)
    assert feed(one, mapped, 3) == []
    assert one.remote != mapped
    assert feed(one, mapped, 1, start=4) == [1, 2, 3, 4]
    assert one.remote == mapped


def test_a_gap_in_the_sequence_is_no_proof() -> None:
    one = latch()
    mapped = (one.remote[0], 61000)
    for sequence in (1, 2, 3, 5, 6, 7):
        assert one.accept(packet(sequence), mapped, 0.0) == ()
    assert [p.sequence for p in one.accept(packet(8), mapped, 0.0)] == [5, 6, 7, 8]


def test_a_stranger_is_never_heard_when_the_sdp_is_honest() -> None:
    one = latch()
    assert feed(one, STRANGER, 50) == []
    assert one.foreign == 50
    assert feed(one, one.remote, 1) == [1]


@pytest.mark.parametrize(
    ("remote", "signalling", "nat", "heard"),
    [
        (("10.0.0.5", 4000), "203.0.113.66", "auto", True),  # a private SDP behind a public signalling address
        (("10.0.0.5", 4000), "10.0.0.5", "auto", False),  # the peer is on our own network
        (("10.0.0.6", 4000), "10.0.0.5", "auto", False),  # and so is its proxy
        (("198.51.100.9", 4000), "203.0.113.66", "auto", False),
        (("198.51.100.9", 4000), "203.0.113.66", "on", True),
        (("10.0.0.5", 4000), "203.0.113.66", "off", False),
    ],
)
def test_any_source_may_stand_in_only_where_a_nat_is_plausible(
    remote: Address, signalling: str, nat: Nat, heard: bool
) -> None:
    one = latch(remote, signalling, nat)
    assert bool(feed(one, STRANGER, 4)) is heard


def test_a_locked_source_keeps_its_call_against_a_spraying_stranger() -> None:
    one = latch(nat="on")
    feed(one, one.remote, 1)
    assert feed(one, STRANGER, 5000) == []
    assert one.foreign == 5000
    assert one.remote != STRANGER


def test_after_a_silence_another_source_may_take_over() -> None:
    one = latch(nat="on")
    feed(one, one.remote, 1, now=0.0)
    assert feed(one, STRANGER, 4, now=4.9) == []
    assert feed(one, STRANGER, 4, now=5.1) == [1, 2, 3, 4]


def test_candidates_are_few_however_many_sources_spray() -> None:
    one = latch(nat="on")
    for n in range(1000):
        one.accept(packet(1), ("203.0.113.1", 1024 + n), 0.0)
    assert one.foreign == 1000 - CANDIDATES
    mapped = (one.remote[0], 61000)
    assert feed(one, mapped, 4) == [1, 2, 3, 4]


def test_a_reinvite_moves_the_media_and_asks_for_proof_again() -> None:
    one = latch()
    feed(one, one.remote, 1)
    old = one.remote
    one.move(("198.51.100.9", 5000), now=0.0)
    assert not one.locked
    assert one.remote == ("198.51.100.9", 5000)
    assert feed(one, old, 3, start=9) == []


def test_packets_still_under_way_from_the_port_that_was_left_do_not_take_the_media_back() -> None:
    one = latch()
    old, new = one.remote, ("198.51.100.9", 5000)
    feed(one, old, 1)
    one.move(new, now=10.0)
    assert feed(one, old, 20, start=2, now=10.05) == []
    assert one.remote == new
    assert feed(one, new, 1, start=30, now=10.1) == [30]


def test_packets_of_candidates_that_lose_are_counted_as_foreign() -> None:
    one = latch(nat="on")
    feed(one, STRANGER, 3)
    feed(one, one.remote, 1)
    assert one.foreign == 3


def test_another_ssrc_from_the_pinned_source_is_heard_whole_once_it_goes_on() -> None:
    one = latch()
    feed(one, one.remote, 3)
    assert one.accept(packet(900, ssrc=8), one.remote, 0.0) == ()
    assert [p.sequence for p in one.accept(packet(901, ssrc=8), one.remote, 0.0)] == [900, 901]
    assert one.foreign == 0


def test_forged_packets_of_random_ssrcs_from_the_pinned_source_are_not_heard() -> None:
    one = latch()
    for n in range(1000):
        feed(one, one.remote, 1, start=n)
        assert one.accept(packet(n, ssrc=1000 + n), one.remote, 0.0) == ()
    assert feed(one, one.remote, 1, start=1000) == [1000]
    assert one.foreign == 999


@pytest.mark.parametrize(
    ("described", "source"),
    [
        ("2001:0DB8:0:0::0009", "2001:db8::9"),
        ("::ffff:192.0.2.9", "192.0.2.9"),
        ("::FFFF:C000:0209", "192.0.2.9"),
    ],
)
def test_an_address_is_the_same_however_the_sdp_writes_it(described: str, source: str) -> None:
    one = latch((described, 4000), signalling="203.0.113.5", nat="off")
    assert one.remote == (source, 4000)
    assert feed(one, (source, 4000), 1) == [1]
    assert not one.move((described, 4000), 0.0)


@pytest.mark.parametrize("nowhere", [("0.0.0.0", 4000), ("::", 4000), ("198.51.100.9", 0)])
def test_who_holds_us_by_an_address_that_is_none_is_known_by_the_one_before(nowhere: Address) -> None:
    one = latch()
    described = one.remote
    feed(one, described, 1)
    assert not one.move(nowhere, 0.0)
    assert one.nowhere
    assert feed(one, described, 1, start=2) == [2]
    assert not one.move(described, 1.0)
    assert not one.nowhere


def test_a_link_local_host_is_known_without_its_zone() -> None:
    one = latch(("fe80::9", 4000), signalling="fe80::9", nat="off")
    assert feed(one, ("fe80::9%eth0", 4000), 4) == [1, 2, 3, 4]
    assert one.remote == ("fe80::9%eth0", 4000)


@pytest.mark.parametrize(
    ("ip", "port", "allowed"),
    [
        ("192.0.2.9", 4000, True),
        ("2001:db8::9", 4000, True),
        ("192.0.2.9", 1023, False),
        ("192.0.2.9", 0, False),
        ("0.0.0.0", 4000, False),
        ("::", 4000, False),
        ("224.0.0.5", 4000, False),
        ("ff02::1", 4000, False),
        ("255.255.255.255", 4000, False),
        ("host.example.com", 4000, False),
    ],
)
def test_an_sdp_may_aim_media_at_one_host_only(ip: str, port: int, allowed: bool) -> None:
    assert latch((ip, port)).may_be_aimed_at is allowed
