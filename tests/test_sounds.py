from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paper_stream import SILENCE, VOICE, paper_stream

from aivc.config.settings import Codec
from aivc.media.g711 import LINEAR
from aivc.media.sounds import LONGEST_OCTETS, Sound, SoundError, load_sound, parse_sound

TAIL = bytes.fromhex("000000001000800000aa00389b71")


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def wav(data: bytes, tag: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16, extra: bytes = b"") -> bytes:
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits) + extra
    body = b"WAVE" + chunk(b"fmt ", form) + chunk(b"LIST", b"odd") + chunk(b"data", data)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def saved(folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


SINE = [round(20000 * math.sin(n / 5)) for n in range(800)]
LINEAR_WAV = wav(struct.pack("<800h", *SINE))


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_16_bit_samples_are_heard_in_either_law(tmp_path: Path, codec: Codec) -> None:
    sound = load_sound(saved(tmp_path, "a.wav", LINEAR_WAV))
    assert sound.seconds == 0.1
    for octet, sample in zip(sound.octets(codec), SINE, strict=True):
        assert LINEAR[codec][octet] == pytest.approx(sample, rel=1 / 30, abs=36)  # half a step of 1 in 16


@pytest.mark.parametrize(("tag", "codec", "other"), [(6, "PCMA", "PCMU"), (7, "PCMU", "PCMA")])
def test_g711_in_a_wav_file_passes_unchanged_in_its_own_law(
    tmp_path: Path, tag: int, codec: Codec, other: Codec
) -> None:
    octets = bytes(range(256))
    sound = load_sound(saved(tmp_path, "a.wav", wav(octets, tag, bits=8)))
    assert sound.octets(codec) == octets
    for ours, theirs in zip(sound.octets(other), octets, strict=True):
        assert LINEAR[other][ours] == pytest.approx(LINEAR[codec][theirs], rel=1 / 30, abs=16)


@pytest.mark.parametrize(("tag", "bits", "data"), [(1, 16, bytes(320)), (6, 8, b"\xd5" * 160), (7, 8, b"\xff" * 160)])
def test_the_extensible_form_of_each_is_read(tag: int, bits: int, data: bytes) -> None:
    extension = struct.pack("<HHIH", 22, bits, 4, tag) + TAIL
    sound = parse_sound(wav(data, 0xFFFE, bits=bits, extra=extension), None)
    assert sound == parse_sound(wav(data, tag, bits=bits), None)
    assert LINEAR["PCMU"][sound.octets("PCMU")[0]] == pytest.approx(0, abs=16)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.ulaw", "PCMU"),
        ("a.ul", "PCMU"),
        ("A.PCMU", "PCMU"),
        ("a.alaw", "PCMA"),
        ("a.al", "PCMA"),
        ("a.pcma", "PCMA"),
    ],
)
def test_raw_octets_are_of_the_law_that_the_name_says(tmp_path: Path, name: str, codec: Codec) -> None:
    assert load_sound(saved(tmp_path, name, b"\x12\x34")).octets(codec) == b"\x12\x34"


def test_a_recording_that_was_cut_off_is_played_as_far_as_it_goes() -> None:
    assert parse_sound(LINEAR_WAV[:-160], None).seconds == 0.09
    streamed = LINEAR_WAV.replace(struct.pack("<I", 1600), b"\xff\xff\xff\xff")
    assert parse_sound(streamed, None).seconds == 0.1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            wav(bytes(8), rate=44100, channels=2),
            "PCM of 16 bits, 44100 Hz, 2 channels; .*sox in.wav -r 8000 -c 1 -b 16",
        ),
        (wav(bytes(8), bits=8), "PCM of 8 bits, 8000 Hz, 1 channels"),
        (wav(bytes(8), tag=3, bits=32), "floating point"),
        (wav(bytes(8), tag=0x55), "MP3"),
        (wav(bytes(8), tag=0x1234), "format 4660"),
        (wav(bytes(8), tag=0xFFFE, extra=bytes(24)), "format 65534"),
        (wav(bytes(8), tag=7, bits=16), "mu-law of 16 bits"),
        (wav(b""), "no sound in it"),
        (b"", "no WAV file"),
        (b"ID3\x04\x00\x00\x00\x00\x00\x00", "begins with b'ID3"),
        (b"RIFF\0\0\0\0AVI LIST", "no WAV file"),
        (b"RIFF\0\0\0\0WAVE", "no data chunk"),
        (b"RIFF\0\0\0\0WAVE" + chunk(b"data", bytes(8)), "no format chunk"),
        (b"RIFF\0\0\0\0WAVE" + chunk(b"fmt ", bytes(4)) + chunk(b"data", bytes(8)), "no format chunk"),
        (wav(bytes(2 * LONGEST_OCTETS + 2)), "longer than 10 minutes"),
    ],
)
def test_what_cannot_be_played_is_refused_and_the_text_says_why(tmp_path: Path, content: bytes, said: str) -> None:
    path = saved(tmp_path, "a.wav", content)
    with pytest.raises(SoundError, match=said) as refused:
        load_sound(path)
    assert str(refused.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SoundError, match="No such file"):
        load_sound(str(tmp_path / "a.wav"))
    with pytest.raises(SoundError, match="Is a directory"):
        load_sound(str(tmp_path))


def test_a_wav_file_under_the_name_of_a_raw_one_is_not_played_as_noise(tmp_path: Path) -> None:
    with pytest.raises(SoundError, match="its name should end in"):
        load_sound(saved(tmp_path, "a.ulaw", LINEAR_WAV))


def test_ten_minutes_may_be_played() -> None:
    assert parse_sound(bytes(LONGEST_OCTETS), "PCMU").seconds == 600
    with pytest.raises(SoundError):
        parse_sound(bytes(LONGEST_OCTETS + 1), "PCMU")


@given(st.binary(max_size=200), st.booleans())
def test_any_file_is_a_sound_or_a_sound_error(content: bytes, riff: bool) -> None:
    try:
        sound = parse_sound((b"RIFF\0\0\0\0WAVE" if riff else b"") + content, None)
    except SoundError:
        return
    assert isinstance(sound, Sound)


# playing


def test_a_sound_is_played_in_place_of_silence_and_its_end_is_told() -> None:
    paper = paper_stream()
    over = paper.stream.play(b"\x11" * 400)
    paper.run(0.04)
    assert not over.is_set()
    paper.run(0.1)
    assert over.is_set()
    assert b"".join(p.payload for p in paper.sent) == b"\x11" * 400 + b"\xff" * 80 + SILENCE * 2


def test_a_sound_repeats_until_it_is_stopped() -> None:
    paper = paper_stream()
    over = paper.stream.play(b"\x11" * 160 + b"\x22" * 80, repeat=True)
    paper.run(0.1)
    assert not over.is_set()
    paper.stream.stop_sound()
    assert over.is_set()
    paper.run(0.14)
    first, second = b"\x11" * 160, b"\x22" * 80 + b"\xff" * 80
    assert [p.payload for p in paper.sent] == [first, second, first, second, first, SILENCE, SILENCE]


def test_the_model_speaks_before_a_sound_and_digits_before_the_model() -> None:
    paper = paper_stream()
    paper.stream.play(b"\x11" * 160 * 3)
    paper.run(0.02)
    paper.stream.playout.push("r", "a", VOICE * 2)
    paper.stream.send_digits("1", 40, 40)
    paper.run(0.02 * 9)
    kinds = [
        "key" if p.payload_type else {0x11: "sound", 0x10: "model"}.get(p.payload[0], "silence") for p in paper.sent
    ]
    assert kinds == ["sound", "key", "key", "key", "key", "model", "model", "sound", "sound"]


def test_a_new_sound_replaces_the_one_before() -> None:
    paper = paper_stream()
    first = paper.stream.play(b"\x11" * 160, repeat=True)
    paper.run(0.02)
    second = paper.stream.play(b"\x22" * 160)
    assert (first.is_set(), second.is_set()) == (True, False)
    paper.run(0.06)
    assert [p.payload[0] for p in paper.sent] == [0x11, 0x22, 0xFF]


def test_a_sound_waits_while_nothing_may_be_sent_and_an_empty_one_is_over_at_once() -> None:
    paper = paper_stream(may_send=False)
    over = paper.stream.play(b"\x11" * 160)
    paper.run(1.0)
    assert not over.is_set()
    paper.stream.may_send = True
    paper.run(1.04)
    assert over.is_set()
    assert paper.stream.play(b"").is_set()
