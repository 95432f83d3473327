"""What scenarios of interruption have in common: voices, exact moments, and what the model and the caller noticed."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from aivc.testing import PhoneCall, Session, speech
from aivc.testing.schema import Json
from scenarios.world import DELAY

TRUNCATE: Final = "conversation.item.truncate"
DELETE: Final = "conversation.item.delete"
ALL_AT_ONCE: Final = 100.0  # speed of a model that has generated an answer long before it is heard
OCTETS_PER_MS: Final = 8

LONG: Final = speech(3.0, pitch_hz=210.0, seed=1)
SHORT: Final = speech(0.5, pitch_hz=210.0, seed=2)
EXCUSE_ME: Final = speech(0.3, seed=3)


def corrections(session: Session) -> list[Json]:
    """What the model was told about interrupted items."""
    return session.received(lambda event: event["type"] in (TRUNCATE, DELETE))


async def interrupt_when_heard(call: PhoneCall, heard_ms: int, words: bytes = EXCUSE_ME) -> None:
    """Speak up so that the service learns of it when exactly `heard_ms`, whole frames, have left.

        service  |--frame 0 -- frame 1 -- ... -- frame n-1 --|* 10 ms later: speech_started
        caller       |-- heard, 5 ms later        |-----|-----| two packets of the caller's words, 5 ms under way
        model                                           turn detection needs 30 ms, which is in the second of them

    The phone sends 5 ms after the service, for it began when the 200 came; its packets take 5 ms. So they always come
    in the middle between two frames, and no order of tasks can put a frame on the other side of the interruption.
    """
    handset = call.handset
    await handset.wait_speech((heard_ms - 50) / 1000)  # the next packet leaves 10 ms later
    handset.say(words)


def requests(session: Session) -> list[str | None]:
    """The instructions of every `response.create`."""
    return [event.get("response", {}).get("instructions") for event in session.received("response.create")]


def times_sent(session: Session, name: str) -> list[float]:
    """When the model sent events of this type."""
    return [seen.at for seen in session.events_sent if seen.event["type"] == name]


def times_received(session: Session, name: str) -> list[float]:
    """When the model got events of this type."""
    return [seen.at for seen in session.events_received if seen.event["type"] == name]


def left_at(call: PhoneCall) -> list[float]:
    """When each packet with a sound left the service."""
    return [packet.at - DELAY for packet in call.handset.heard if call.handset.is_speech(packet)]


def pauses(call: PhoneCall) -> list[tuple[float, float]]:
    """From when to when the model was not heard between two of its frames: the last that left, the next."""
    return [(last, following) for last, following in pairwise(left_at(call)) if following - last > 0.021]
