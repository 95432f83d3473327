"""A `CallControl` that only takes notes: what a tool does to its call, without a call."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import trio

from aivc.realtime.headers import HeaderFields


@attrs.define(eq=False)
class PaperControl:
    """`done` has what was asked for, in order.

    Args:
        refuses: what `transfer` and `send_digits` raise; None: a transfer succeeds, and so never returns.
    """

    refuses: Exception | None = None
    done: list[tuple[object, ...]] = attrs.field(factory=list)

    def say(self, instructions: str) -> None:
        self.done.append(("say", instructions))

    def interrupt(self) -> None:
        self.done.append(("interrupt",))

    def hang_up(self, fields: HeaderFields = ()) -> None:
        self.done.append(("hang_up", *fields))

    def send_event(self, event: Mapping[str, object]) -> None:
        self.done.append(("send_event", dict(event)))

    def start_hold_sound(self) -> None:
        self.done.append(("start_hold_sound", trio.current_time()))

    def stop_hold_sound(self) -> None:
        self.done.append(("stop_hold_sound", trio.current_time()))

    async def transfer(self, target: str | None = None, attended: bool | None = None, fields: HeaderFields = ()) -> str:
        self.done.append(("transfer", target, *([] if attended is None else [attended]), *fields))
        await self._refuse()
        await trio.sleep_forever()

    async def send_digits(self, digits: str) -> None:
        self.done.append(("send_digits", digits))
        await self._refuse()

    async def _refuse(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.refuses is not None:
            raise self.refuses
