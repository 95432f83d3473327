"""Audio inside Realtime events: how it is left out of a recording, and put back.

A recording that keeps no audio has an object in the place of each base64 string: `"delta":{"digest":"9f86d081884c7d65",
"octets":4000}`, of which the digest is the first 16 hexadecimal digits of the audio's SHA-256, and `octets` its length.
All else in the text stays as it was. Audio is: the "audio" of `input_audio_buffer.append` and of parts of items, and
the "delta" of `response.output_audio.delta` (`response.audio.delta` before the GA version).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable
from typing import Final

DIGEST_OCTETS: Final = 8
APPEND: Final = '{"type":"input_audio_buffer.append","audio":'

# A quote inside a JSON string is escaped, so these are found where they are members and nowhere else. Linear: what is
# repeated cannot contain what follows it.
AUDIO: Final = re.compile(r'"audio"\s*:\s*"([A-Za-z0-9+/=\\]*)"')
DELTA: Final = re.compile(r'"(?:audio|delta)"\s*:\s*"([A-Za-z0-9+/=\\]*)"')
AUDIO_DELTA: Final = re.compile(r'"type"\s*:\s*"response\.(?:output_)?audio\.delta"')
REPLACED: Final = re.compile(r'\{"digest":"([0-9a-f]{16})","octets":([0-9]{1,9})\}')


def digest_of(audio: bytes) -> str:
    """16 hexadecimal digits: tells equal pieces of audio from others."""
    return hashlib.sha256(audio).hexdigest()[: 2 * DIGEST_OCTETS]


def short_digest(audio: bytes) -> bytes:
    """The same as octets."""
    return hashlib.sha256(audio).digest()[:DIGEST_OCTETS]


def stand_in(digest: str, octets: int) -> str:
    """What stands in the place of the audio."""
    return f'{{"digest":"{digest}","octets":{octets}}}'


def append_without(digest: str, octets: int) -> str:
    """An `input_audio_buffer.append` whose audio is left out."""
    return f"{APPEND}{stand_in(digest, octets)}}}"


def append_with(audio: bytes) -> str:
    """One that has it."""
    return f'{APPEND}"{base64.b64encode(audio).decode("ascii")}"}}'


def without_audio(text: str) -> str:
    """An event's text with every piece of audio replaced; what is no base64 stays."""
    return pattern_for(text).sub(replaced, text) if "audio" in text else text


def replaced(found: re.Match[str]) -> str:
    audio = audio_of(found[1])
    if not audio:
        return found[0]
    start = found.start(1) - 1 - found.start()
    return found[0][:start] + stand_in(digest_of(audio), len(audio))


def with_audio(text: str, audio: Callable[[str, int], bytes]) -> str:
    """The text with every stand-in replaced by base64 of what `audio` gives for its digest and octets."""

    def put_back(found: re.Match[str]) -> str:
        return f'"{base64.b64encode(audio(found[1], int(found[2]))).decode("ascii")}"'

    return REPLACED.sub(put_back, text)


def pattern_for(text: str) -> re.Pattern[str]:
    """The "delta" of other events is text, which may look like base64."""
    return DELTA if AUDIO_DELTA.search(text) else AUDIO


def audio_of(literal: str) -> bytes | None:
    """What a JSON string (without its quotes) says in base64; None if it does not."""
    try:
        plain = json.loads(f'"{literal}"') if "\\" in literal else literal
        return base64.b64decode(plain, validate=True)
    except (binascii.Error, ValueError):
        return None
