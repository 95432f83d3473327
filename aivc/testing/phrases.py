"""Short recordings that come with the package: a demo call, and a stand-in model for any other call.

They are 8000 Hz mu-law files in `speech/`, synthesised with CMU Flite and free to use (see `speech/LICENSE`).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import attrs

from aivc.config.settings import Codec
from aivc.testing.voice import transcode

TEXTS: dict[str, str] = {
    "model_greeting": "Hello, this is the A I V C demo line. How can I help you?",
    "model_hours": (
        "On Monday and Tuesday we are open from nine until six. On Wednesday we close at one. On Thursday and Friday "
        "from ten until eight. On Saturday from ten until two. On Sunday we are closed."
    ),
    "model_one_moment": "One moment, let me check.",
    "model_looked_up": "I have looked it up for you. Is there anything else?",
    "model_goodbye": "Thank you for calling. Goodbye.",
    "model_hello": "Hello. This is the local stand-in model. Please speak.",
    "model_heard": "I am the local stand-in model. I heard you.",
    "model_go_on": "Please go on.",
    "model_tool_done": "I have called your tool, and it answered.",
    "caller_hours": "Hi, what are your opening hours?",
    "caller_interrupts": "Sorry, just tell me, what time is it now?",
    "caller_goodbye": "No, thank you, goodbye.",
}
PROBE_OCTETS = 160  # 20 ms: one RTP frame's worth is enough to know a recording by


@attrs.frozen
class Phrase:
    """One recording."""

    id: str  # of TEXTS
    text: str  # what is said, word for word
    octets: bytes  # PCMU, 8000 octets a second

    def encoded(self, codec: Codec) -> bytes:
        """The recording in either law."""
        return transcode(self.octets, "PCMU", codec)


@lru_cache(maxsize=len(TEXTS))
def phrase(phrase_id: str) -> Phrase:
    """The recording with this id.

    Raises:
        KeyError: there is none.
    """
    text = TEXTS[phrase_id]
    return Phrase(phrase_id, text, (files("aivc.testing") / "speech" / f"{phrase_id}.ulaw").read_bytes())


def recognised(audio: bytes, codec: Codec) -> str | None:
    """The text of the packaged recording that is in `audio`, None if there is none.

    This is a look-up, not speech recognition: G.711 comes through a call unchanged, so some stretch of 20 ms of
    the recording is in what was heard, octet by octet, even when packets were lost.
    """
    for phrase_id in TEXTS:
        recording = phrase(phrase_id).encoded(codec)
        middle = range(len(recording) // 4, 3 * len(recording) // 4, PROBE_OCTETS * 5)
        if any(recording[at : at + PROBE_OCTETS] in audio for at in middle):
            return TEXTS[phrase_id]
    return None
