from __future__ import annotations

from array import array

import pytest

from aivc.config.settings import Codec
from aivc.media.g711 import LINEAR, SILENCE, convert, encode, is_voiced, peak_level, silence_frame


@pytest.mark.parametrize(
    ("codec", "octet", "sample"),
    [  # ITU-T G.191's tables, in 16 bits
        ("PCMU", 0x00, -32124),
        ("PCMU", 0x80, 32124),
        ("PCMU", 0xFF, 0),
        ("PCMU", 0x7F, 0),
        ("PCMU", 0x70, -120),
        ("PCMA", 0xD5, 8),
        ("PCMA", 0x55, -8),
        ("PCMA", 0xAA, 32256),
        ("PCMA", 0x2A, -32256),
        ("PCMA", 0x80, 5504),
    ],
)
def test_octets_stand_for_the_samples_of_the_standard(codec: Codec, octet: int, sample: int) -> None:
    assert LINEAR[codec][octet] == sample


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_silence_is_silent_in_its_own_law_and_loud_in_the_other(codec: Codec) -> None:
    other = "PCMA" if codec == "PCMU" else "PCMU"
    assert not is_voiced(silence_frame(codec), codec)
    assert peak_level(silence_frame(codec), codec) <= 8
    assert SILENCE[codec] != SILENCE[other]


def test_a_few_loud_samples_are_a_click_and_many_are_speech() -> None:
    quiet, loud = b"\xff", b"\x10"
    assert not is_voiced(loud * 7 + quiet * 153, "PCMU")
    assert is_voiced(loud * 8 + quiet * 152, "PCMU")


def test_the_peak_of_nothing_is_zero() -> None:
    assert peak_level(b"", "PCMA") == 0


CODECS: tuple[Codec, ...] = ("PCMU", "PCMA")


def encode_sample(sample: int, codec: Codec) -> int:
    return encode(array("H", [sample & 0xFFFF]), codec)[0]


@pytest.mark.parametrize(
    ("codec", "sample", "octet"),
    [  # ITU-T G.191's tables, in 16 bits
        ("PCMU", 0, 0xFF),
        ("PCMU", 32767, 0x80),
        ("PCMU", -32768, 0x00),
        ("PCMU", 4, 0xFE),
        ("PCMU", -8, 0x7E),
        ("PCMA", 0, 0xD5),
        ("PCMA", -1, 0x55),
        ("PCMA", 32767, 0xAA),
        ("PCMA", -32768, 0x2A),
    ],
)
def test_samples_become_the_octets_of_the_standard(codec: Codec, sample: int, octet: int) -> None:
    assert encode_sample(sample, codec) == octet


@pytest.mark.parametrize("codec", CODECS)
def test_what_an_octet_stands_for_is_encoded_as_that_octet(codec: Codec) -> None:
    again = [encode_sample(sample, codec) for sample in LINEAR[codec]]
    assert [octet for octet in range(256) if again[octet] != octet] == ([0x7F] if codec == "PCMU" else [])  # minus zero


@pytest.mark.parametrize("codec", CODECS)
def test_encoding_is_monotonic_and_off_by_half_a_step_at_most(codec: Codec) -> None:
    samples = list(range(-32124, 32125, 3))
    decoded = [LINEAR[codec][encode_sample(sample, codec)] for sample in samples]
    assert decoded == sorted(decoded)
    assert all(abs(a - b) <= max(16, abs(b) / 30 + 8) for a, b in zip(decoded, samples, strict=True))


@pytest.mark.parametrize("source", CODECS)
@pytest.mark.parametrize("target", CODECS)
def test_one_law_becomes_the_other(source: Codec, target: Codec) -> None:
    octets = bytes(range(256))
    for converted, octet in zip(convert(octets, source, target), octets, strict=True):
        assert LINEAR[target][converted] == pytest.approx(LINEAR[source][octet], rel=1 / 30, abs=16)
