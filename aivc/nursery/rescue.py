"""What a caller gets whose model is lost: a word of excuse instead of dead air, then the transfer or the hang-up."""

from __future__ import annotations

import logging
from typing import Final

import trio

from aivc import logs
from aivc.media.g711 import OCTETS_PER_MS
from aivc.media.sounds import Sound
from aivc.media.stream import RtpStream
from aivc.nursery.control import refer
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.ground import Ground
from aivc.nursery.leaving import JITTER_BUFFER

log = logging.getLogger("aivc.call")

MODEL_LOST: Final = frozenset(ending for ending in Ending if ending.name.startswith("REALTIME_"))
HELD_UP: Final = 30.0  # seconds beyond a sound's length: a caller who holds us hears none of it


async def rescue(ground: Ground, over: CallOver, prompt: Sound | None, stream: RtpStream) -> CallOver:
    """Play `prompt`, then transfer the call to `openai.transfer_to`; both are optional. Returns the cause that counts.

    Another cause than the loss of the model is returned as it is, and so is one after a farewell.
    """
    if over.ending not in MODEL_LOST or ground.progress.leaving.ending is not None:
        return over
    # The caller may hang up meanwhile, which is the ending then.
    logs.event(log, "model.lost", level=logging.WARNING, ending=over.ending.value, detail=over.detail)
    await excuse(ground.octets(prompt), stream)
    openai, progress = ground.settings.openai, ground.progress
    if openai.transfer_to is None:
        return over
    outcome = await refer(ground.leg, openai, progress.leaving, progress.turns, ground.announcer, openai.transfer_to)
    return CallOver(Ending.TRANSFERRED, f"{openai.transfer_to}, after {over}") if outcome.succeeded else over


async def excuse(sound: bytes, stream: RtpStream) -> None:
    if sound:
        with trio.move_on_after(len(sound) / (1000 * OCTETS_PER_MS) + HELD_UP):
            await stream.play(sound).wait()
            await trio.sleep(JITTER_BUFFER)
