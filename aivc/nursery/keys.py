"""The keys that a caller presses, collected to entries for the model."""

from __future__ import annotations

from typing import Final, Literal

import attrs
import trio

from aivc.config.settings import DtmfSettings
from aivc.nursery.performer import Performer
from aivc.nursery.record import DigitEntry
from aivc.nursery.turns import Turns

KEYS: Final = 64  # at once, as from a telephone's memory; also those that wait to be collected
LONGEST_ENTRY: Final = 64  # keys; a card number has 19
ECHO: Final = 0.5  # seconds by which the RTP packets of a key may follow its INFO, from telephones that send both
KEYS_PER_SECOND: Final = 5.0  # in the long run: each may be an entry, and each entry's answer costs money

Source = Literal["rtp", "info"]
Pressed = tuple[str, Source]


@attrs.define(eq=False)
class Keypad:
    """Takes the keys of one call, and drops those that nobody can press so fast.

    Args:
      pressed: to whoever collects them; never waited for.
      turns: counts what was dropped.
    """

    pressed: trio.MemorySendChannel[Pressed]
    turns: Turns
    _allowed: float = float(KEYS)  # keys, at `_since`
    _since: float = 0.0
    _told: str = ""  # the last key that INFO told, at `_told_at`
    _told_at: float = 0.0

    def press(self, digit: str, source: Source) -> None:
        """Note a key."""
        now = trio.current_time()
        if self._is_echo(digit, source, now):
            return
        self._allowed = min(KEYS, self._allowed + (now - self._since) * KEYS_PER_SECOND)
        self._since = now
        try:
            if self._allowed < 1:
                raise trio.WouldBlock
            self.pressed.send_nowait((digit, source))
        except trio.WouldBlock:
            self.turns.dropped_keys += 1
        else:
            self._allowed -= 1

    def _is_echo(self, digit: str, source: Source, now: float) -> bool:
        """Whether this is the key that INFO told of a moment ago. The other order is seen by who takes INFO."""
        if source == "info":
            self._told, self._told_at = digit, now
            return False
        echo = digit == self._told and now - self._told_at < ECHO
        self._told = ""
        return echo


async def collect_digits(pressed: trio.MemoryReceiveChannel[Pressed], dtmf: DtmfSettings, performer: Performer) -> None:
    """Task: the first key silences the model; an entry ends with a key of `dtmf.finish` or with a pause."""
    async for digit, source in pressed:
        if not dtmf.enabled:
            continue
        began_at = trio.current_time()
        performer.key_pressed()
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
