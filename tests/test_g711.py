from __future__ import annotations

import pytest

from aivc.config.settings import Codec
from aivc.media.g711 import LINEAR, SILENCE, is_voiced, peak_level, silence_frame


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
