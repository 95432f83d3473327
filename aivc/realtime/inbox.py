"""The server's messages between the task that reads them and the one that receives them."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

Message = str | bytes


@attrs.define(eq=False)
class Inbox:
    """Messages in their order, for one task: trio's memory channel would take 2 KiB of each call, for a few messages.

    Args:
      most: messages that wait; who has another one is to wait, too.
    """

    most: int
    _waiting: list[Message] = attrs.field(init=False, factory=list)
    _take: Callable[[Message], None] | None = attrs.field(init=False, default=None)  # is given each at once
    _failure: Exception | None = attrs.field(init=False, default=None)  # of `_take`
    _changed: trio.Event | None = attrs.field(init=False, default=None)  # somebody waits for it
    _is_over: bool = attrs.field(init=False, default=False)  # no more will be put
    _is_closed: bool = attrs.field(init=False, default=False)  # no more will be received

    @property
    def is_taken(self) -> bool:
        """Whether each message is given away where and when it is put."""
        return self._take is not None

    def put_nowait(self, message: Message) -> bool:
        """Pass on a message, or throw it away when nobody receives any more; False when there is no room for it."""
        if self._take is not None:
            try:
                self._take(message)
            except Exception as error:  # for the task that we serve, not for the one that reads
                self._take, self._failure = None, error
                self._wake()
            return True
        if len(self._waiting) >= self.most:
            return False
        if not self._is_closed:
            self._waiting.append(message)
            self._wake()
        return True

    async def put(self, message: Message) -> None:
        """The same, and wait for room."""
        while not self.put_nowait(message):
            await self._change().wait()

    def end(self) -> None:
        """Say that no message comes any more."""
        self._is_over = True
        self._wake()

    def close(self) -> None:
        """Say that nobody receives any more."""
        self._is_closed = self._is_over = True
        self._waiting.clear()
        self._wake()

    async def receive(self) -> Message | None:
        """The next message; None when no more come. Without a checkpoint if one waits."""
        while not self._waiting:
            if self._is_over:
                return None
            await self._change().wait()
        return self._next()

    async def receive_each(self, take: Callable[[Message], None]) -> None:
        """Give every message to `take` where and when it is put, until no more come.

        Raises what `take` raises; what comes after that waits to be received.
        """
        while self._waiting:
            take(self._next())
        self._take = take
        try:
            while self._failure is None and not self._is_over:
                await self._change().wait()
        finally:
            failure, self._failure, self._take = self._failure, None, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback knows this frame

    def _next(self) -> Message:
        self._wake()
        return self._waiting.pop(0)

    def _change(self) -> trio.Event:
        if self._changed is None:
            self._changed = trio.Event()
        return self._changed

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None
