"""Flight recordings, which may come from anybody who has a bug to report."""

from __future__ import annotations

from typing import Final

from aivc.flight.audio import with_audio, without_audio
from aivc.flight.entries import RealtimeEvent
from aivc.flight.flightfile import BadFlight, read_untrusted, write
from aivc.flight.masking import Masking
from aivc.flight.pseudonyms import Pseudonyms
from fuzz.target import Target, only

LONGEST: Final = 65_536  # octets of audio that are made up


def recording(data: bytes) -> None:
    """A file: a recording that can be written and read again, or bad; whatever is in it can be masked."""
    flight = only(BadFlight, read_untrusted, data)
    if flight is None:
        return
    again = write(flight)
    assert write(read_untrusted(again)) == again
    masking = Masking(("numbers", "transcripts"), (), Pseudonyms(b"key"))
    for entry in flight.entries:
        masking.learn(entry)
    for entry in flight.entries:
        masked = masking.entry(entry)
        assert (type(masked), masked.at) == (type(entry), entry.at)
        if isinstance(entry, RealtimeEvent):
            without_audio(with_audio(entry.text, lambda _, octets: b"x" * min(octets, LONGEST)))


TARGETS: Final = (Target("flight", recording, 8192, calls_per_octet=400),)
