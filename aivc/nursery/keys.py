"""The keys that a caller presses, collected to entries for the model."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, Literal

import trio

from aivc.config.settings import DtmfSettings
from aivc.nursery.performer import Performer
from aivc.nursery.record import DigitEntry

KEYS: Final = 32  # pressed and not yet collected: nobody presses so fast
LONGEST_ENTRY: Final = 64  # keys; a card number has 19

Source = Literal["rtp", "info"]
Pressed = tuple[str, Source]


def press(digit: str, source: Source, pressed: trio.MemorySendChannel[Pressed]) -> None:
    """Note a key; nobody waits for whoever collects them."""
    with suppress(trio.WouldBlock):
        pressed.send_nowait((digit, source))


async def collect_digits(pressed: trio.MemoryReceiveChannel[Pressed], dtmf: DtmfSettings, performer: Performer) -> None:
    """Task: the first key interrupts the model; an entry ends with a key of `dtmf.finish` or with a pause."""
    async for digit, source in pressed:
        if not dtmf.enabled:
            continue
        began_at = trio.current_time()
        performer.interrupt()
        entry = await rest_of_entry(digit, pressed, dtmf)
        performer.digits_entered(DigitEntry(entry, began_at, source))


async def rest_of_entry(digit: str, pressed: trio.MemoryReceiveChannel[Pressed], dtmf: DtmfSettings) -> str:
    """The whole entry without its finishing key; that key alone is an entry too."""
    entry = ""
    while digit not in dtmf.finish:
        entry += digit
        if len(entry) == LONGEST_ENTRY:
            return entry
        with trio.move_on_after(dtmf.pause_seconds) as pause:
            digit, _ = await pressed.receive()
        if pause.cancelled_caught:
            return entry
    return entry or digit
