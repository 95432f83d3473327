"""Speech, silence, G.711 tables, VAD and the packaged recordings of the fake model."""

from __future__ import annotations

import pytest

from aivc.config.settings import Codec
from aivc.testing.phrases import TEXTS, phrase, recognised
from aivc.testing.vad import AudioFormat, EnergyVad, SpeechStarted, SpeechStopped
from aivc.testing.voice import (
    QUIETEST,
    SAMPLES,
    SILENCE,
    level_dbfs,
    silence,
    speech,
    to_pcm_24k,
    transcode,
)

CODECS: tuple[Codec, Codec] = ("PCMU", "PCMA")
FORMAT: dict[Codec, AudioFormat] = {"PCMU": "audio/pcmu", "PCMA": "audio/pcma"}


def found(octets: bytes, audio_format: AudioFormat) -> list[SpeechStarted | SpeechStopped]:
    return EnergyVad(audio_format, threshold=0.5, silence_duration_ms=200).push(octets)


def test_the_tables_are_those_of_g711() -> None:
    # Published corner values: the loudest and the quietest octets of each sign.
    assert [SAMPLES["PCMU"][octet] for octet in (0x00, 0x80, 0x7F, 0xFF)] == [-32124, 32124, 0, 0]
    assert [SAMPLES["PCMA"][octet] for octet in (0x2A, 0xAA, 0x55, 0xD5)] == [-32256, 32256, -8, 8]


@pytest.mark.parametrize("codec", CODECS)
def test_speech_is_as_loud_as_a_talker_and_never_silent(codec: Codec) -> None:
    octets = speech(2.0, codec)
    assert len(octets) == 16000
    assert -23 < level_dbfs(octets, codec) < -18
    assert not set(octets) & set(QUIETEST[codec])
    frames = [octets[at : at + 160] for at in range(0, len(octets), 160)]
    assert len(set(frames)) == len(frames)


def test_speech_is_the_same_for_the_same_arguments_only() -> None:
    speech.cache_clear()
    first = speech(0.5, seed=1)
    speech.cache_clear()
    assert first == speech(0.5, seed=1)
    assert first != speech(0.5, seed=2)
    assert first != speech(0.5, seed=1, pitch_hz=210.0)


@pytest.mark.parametrize("codec", CODECS)
def test_vad_finds_one_turn_with_its_ends(codec: Codec) -> None:
    octets = silence(1.0, codec) + speech(2.0, codec) + silence(1.0, codec)
    assert found(octets, FORMAT[codec]) == [SpeechStarted(1000), SpeechStopped(3200)]


def test_vad_hears_24_khz_samples_too() -> None:
    octets = to_pcm_24k(silence(0.5) + speech(1.0) + silence(0.5), "PCMU")
    assert len(octets) == 2 * 8000 * 6
    assert found(octets, "audio/pcm") == [SpeechStarted(500), SpeechStopped(1700)]


@pytest.mark.parametrize(
    ("octets", "audio_format"),
    [
        (silence(2.0, "PCMA"), "audio/pcmu"),
        (silence(2.0, "PCMU"), "audio/pcma"),
        (bytes(32000), "audio/pcmu"),  # 16-bit silence
        (bytes(32000), "audio/pcma"),
        (silence(2.0, "PCMA"), "audio/pcm"),
    ],
)
def test_silence_in_the_wrong_codec_is_speech_without_an_end(octets: bytes, audio_format: AudioFormat) -> None:
    assert found(octets, audio_format) == [SpeechStarted(0)]


def test_a_click_is_not_speech() -> None:
    assert found(silence(0.5) + speech(0.02) + silence(0.5), "audio/pcmu") == []


def test_octets_may_come_in_any_portions() -> None:
    octets = silence(0.3) + speech(0.5) + silence(0.5)
    vad = EnergyVad("audio/pcmu", threshold=0.5, silence_duration_ms=200)
    portions = [octets[at : at + 37] for at in range(0, len(octets), 37)]
    assert [change for portion in portions for change in vad.push(portion)] == found(octets, "audio/pcmu")


def test_transcoding_keeps_the_level_and_the_silence() -> None:
    octets = speech(1.0, "PCMU")
    other = transcode(octets, "PCMU", "PCMA")
    assert abs(level_dbfs(other, "PCMA") - level_dbfs(octets, "PCMU")) < 0.5
    assert transcode(silence(0.1, "PCMU"), "PCMU", "PCMA") == silence(0.1, "PCMA")
    assert transcode(octets, "PCMU", "PCMU") is octets


@pytest.mark.parametrize("phrase_id", TEXTS)
def test_every_recording_is_speech_that_can_be_recognised(phrase_id: str) -> None:
    recording = phrase(phrase_id)
    assert 0.5 < len(recording.octets) / 8000 < 12
    assert -23 < level_dbfs(recording.octets, "PCMU") < -17
    for codec in CODECS:
        lost_a_frame = recording.encoded(codec)[160:]
        assert recognised(silence(0.3, codec) + lost_a_frame, codec) == recording.text


def test_the_callers_phrases_are_one_turn_each() -> None:
    for phrase_id in (name for name in TEXTS if name.startswith("caller_")):
        changes = found(phrase(phrase_id).octets + silence(0.5), "audio/pcmu")
        assert [type(change) for change in changes] == [SpeechStarted, SpeechStopped]


def test_other_speech_is_not_recognised() -> None:
    assert recognised(speech(2.0), "PCMU") is None
    assert SILENCE == {"PCMU": 0xFF, "PCMA": 0xD5}


def test_an_unknown_recording_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        phrase("model_sings")
