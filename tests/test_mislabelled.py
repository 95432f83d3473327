"""A server that sends 16-bit samples where G.711 was agreed is told from one that does not."""

from __future__ import annotations

import math
from array import array
from itertools import pairwise

import pytest
from realtime_talk import conversation

from aivc.config.settings import Codec
from aivc.realtime import events
from aivc.realtime.effects import RealtimeError
from aivc.realtime.mislabelled import JUDGED_OCTETS, SampleFormat
from aivc.testing.phrases import TEXTS, phrase
from aivc.testing.voice import SAMPLES, little_endian, nearest_octet

VOLUMES = (0.7, 0.1, 0.05)


def sixteen_bit(phrase_id: str, volume: float, repeat: int) -> bytes:
    """A recording as 16-bit samples, 8000 times `repeat` a second."""
    samples = [volume * SAMPLES["PCMU"][octet] for octet in phrase(phrase_id).octets]
    between = (
        round(before + (after - before) * n / repeat) for before, after in pairwise(samples) for n in range(repeat)
    )
    return little_endian(array("h", between))


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_no_recording_in_g711_is_taken_for_samples(codec: Codec) -> None:
    for phrase_id in TEXTS:
        assert not SampleFormat().is_found_wrong(phrase(phrase_id).encoded(codec)), phrase_id


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
@pytest.mark.parametrize("hertz", [440, 1000, 2000, 3999])
def test_no_tone_in_g711_is_taken_for_samples(codec: Codec, hertz: int) -> None:
    samples = [round(8000 * math.sin(math.tau * hertz * n / 8000)) for n in range(1600)]
    octets = {sample: nearest_octet(sample, codec) for sample in set(samples)}
    assert not SampleFormat().is_found_wrong(bytes(octets[sample] for sample in samples))


@pytest.mark.parametrize("volume", VOLUMES)
@pytest.mark.parametrize("repeat", [1, 2, 3])
def test_every_recording_in_16_bit_samples_is_found_out(volume: float, repeat: int) -> None:
    for phrase_id in TEXTS:
        assert SampleFormat().is_found_wrong(sixteen_bit(phrase_id, volume, repeat)), phrase_id


def test_it_is_found_out_in_small_pieces_too_and_once() -> None:
    audio, listener = sixteen_bit("model_hours", 0.7, 2), SampleFormat()
    found = [listener.is_found_wrong(audio[at : at + 320]) for at in range(0, len(audio), 320)]
    assert found.count(True) == 1
    assert found.index(True) < 50  # a second of it


def test_silence_in_samples_says_nothing_and_after_a_while_nobody_listens() -> None:
    listener = SampleFormat()
    assert not listener.is_found_wrong(bytes(JUDGED_OCTETS))
    assert not listener.is_found_wrong(sixteen_bit("model_hours", 0.7, 2))


def test_the_warning_comes_once_and_the_audio_is_played() -> None:
    talk, audio = conversation(), sixteen_bit("model_hours", 0.7, 2)
    talk.handle(events.ResponseCreated("r1"), 0.0)
    wanted = [
        effect
        for at in range(0, len(audio), 6400)
        for effect in talk.handle(events.AudioDelta("r1", "i1", audio[at : at + 6400]), 0.0)
    ]
    assert [effect.code for effect in wanted if isinstance(effect, RealtimeError)] == ["not_g711"]
    assert len(wanted) == 1 + math.ceil(len(audio) / 6400)
