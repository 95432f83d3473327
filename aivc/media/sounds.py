"""Sound files for a call: read once, kept in both laws of G.711, so that nothing is converted while anybody listens."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from struct import Struct
from typing import Final, get_args

import attrs

from aivc.config.settings import Codec
from aivc.media.g711 import FRAME_OCTETS, OCTETS_PER_MS, convert, encode

LONGEST_SECONDS: Final = 600  # hold music; it is kept in memory in both laws, 10 MB
LONGEST_OCTETS: Final = LONGEST_SECONDS * 1000 * OCTETS_PER_MS
HEADERS_OCTETS: Final = 1 << 20  # chunks beside the audio: titles, pictures
LARGEST_FILE_OCTETS: Final = 2 * LONGEST_OCTETS + HEADERS_OCTETS
MOST_CHUNKS: Final = 100  # of a RIFF file; honest ones have a few

CHUNK: Final = Struct("<4sI")  # id | octets
FORMAT: Final = Struct("<HHIIHH")  # format tag | channels | sample rate | octets a second | block | bits a sample
PCM, ALAW, ULAW, EXTENSIBLE = 1, 6, 7, 0xFFFE  # format tags, RFC 2361
TAGS: Final[Mapping[int, str]] = {PCM: "PCM", ALAW: "A-law", ULAW: "mu-law", 3: "floating point", 0x55: "MP3"}
# What follows the format tag in the SubFormat of a WAVE_FORMAT_EXTENSIBLE: {xxxxxxxx-0000-0010-8000-00aa00389b71}
SUBFORMAT_TAIL: Final = bytes.fromhex("000000001000800000aa00389b71")
RAW: Final[Mapping[str, Codec]] = {
    **dict.fromkeys((".ulaw", ".ul", ".pcmu"), "PCMU"),
    **dict.fromkeys((".alaw", ".al", ".pcma"), "PCMA"),
}


class SoundError(ValueError):
    """The file cannot be played; the text says what it is, what is expected and how to convert it."""


@attrs.frozen
class Sound:
    """A sound in both laws of G.711."""

    by_codec: Mapping[Codec, bytes] = attrs.field(repr=False)

    def octets(self, codec: Codec) -> bytes:
        """8000 octets a second."""
        return self.by_codec[codec]

    @property
    def seconds(self) -> float:
        return len(self.by_codec["PCMU"]) / OCTETS_PER_MS / 1000


@attrs.define
class SoundPlayout:
    """A sound that is being played.

    Args:
      octets: of the call's law, at least one.
      repeat: whether it begins again at its end.
      silence: the octet that fills up the last frame.
      over: to be told when it is over.
    """

    octets: bytes
    repeat: bool
    silence: int
    over: Callable[[], None]
    _position: int = 0

    def frame(self, octets: int = FRAME_OCTETS) -> bytes:
        """The next so many octets."""
        if self._position >= len(self.octets):
            self._position = 0
        frame = self.octets[self._position : self._position + octets]
        self._position += octets
        return frame if len(frame) == octets else frame.ljust(octets, bytes([self.silence]))

    @property
    def ended(self) -> bool:
        """Whether the last frame was taken; never of a sound that repeats itself."""
        return not self.repeat and self._position >= len(self.octets)


def load_sound(path: str) -> Sound:
    """Read a file: WAV (8 kHz, mono, 16-bit or G.711), or raw G.711 by the ending of its name; at most 10 minutes.

    Raises SoundError, also when there is no such file.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_FILE_OCTETS + 1)
    except OSError as error:
        raise SoundError(f"{path}: {error.strerror}") from None
    try:
        sound = parse_sound(content, RAW.get(Path(path).suffix.lower()))
    except SoundError as error:
        raise SoundError(f"{path}: {error}") from None
    return sound


def parse_sound(content: bytes, raw: Codec | None) -> Sound:
    """A file's content: raw G.711 of the law `raw`, or WAV when that is None. Raises SoundError."""
    if raw is None:
        return parse_wav(content)
    if content[:4] == b"RIFF":
        raise SoundError("this is a WAV file; its name should end in .wav")
    return in_both_laws(content, raw)


def parse_wav(content: bytes) -> Sound:
    """A RIFF file of the form WAVE, chunk by chunk. Raises SoundError."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise SoundError(
            f"it begins with {content[:12]!r} and is no WAV file; raw G.711 is known by the endings {', '.join(RAW)}"
        )
    form = b""
    for name, body in chunks(content):
        if name == b"fmt ":
            form = body
        elif name == b"data":
            return decode_wav(form, body)
    raise SoundError("it has no data chunk")


def chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a RIFF file; one that claims more than there is ends with the file, as of a recorder cut off."""
    at = 12
    for _ in range(MOST_CHUNKS):
        if at + CHUNK.size > len(content):
            return
        name, octets = CHUNK.unpack_from(content, at)
        at += CHUNK.size
        yield name, content[at : at + octets]
        at += octets + octets % 2  # chunks begin at even places


def decode_wav(form: bytes, data: bytes) -> Sound:
    """A WAV file's `fmt ` and `data` chunks. Raises SoundError."""
    if len(form) < FORMAT.size:
        raise SoundError("it has no format chunk before its data")
    tag, channels, rate, _, _, bits = FORMAT.unpack_from(form)
    if tag == EXTENSIBLE and len(form) >= 40 and form[26:40] == SUBFORMAT_TAIL:
        tag = int.from_bytes(form[24:26], "little")
    match tag, channels, rate, bits:
        case (1, 1, 8000, 16):
            return from_linear(data)
        case (6, 1, 8000, 8):
            return in_both_laws(data, "PCMA")
        case (7, 1, 8000, 8):
            return in_both_laws(data, "PCMU")
        case _:
            raise SoundError(
                f"it is {TAGS.get(tag, f'format {tag}')} of {bits} bits, {rate} Hz, {channels} channels; expected is"
                " PCM of 16 bits or G.711, 8000 Hz, 1 channel: sox in.wav -r 8000 -c 1 -b 16 out.wav"
            )


def from_linear(data: bytes) -> Sound:
    """16-bit little-endian samples in both laws."""
    check_length(len(data) // 2)
    samples = array("H", data[: len(data) // 2 * 2])
    if sys.byteorder == "big":
        samples.byteswap()
    return Sound({codec: encode(samples, codec) for codec in get_args(Codec)})


def in_both_laws(octets: bytes, law: Codec) -> Sound:
    check_length(len(octets))
    return Sound({codec: convert(octets, law, codec) for codec in get_args(Codec)})


def check_length(samples: int) -> None:
    if not samples:
        raise SoundError("there is no sound in it")
    if samples > LONGEST_OCTETS:
        raise SoundError(f"it lasts longer than {LONGEST_SECONDS // 60} minutes")
