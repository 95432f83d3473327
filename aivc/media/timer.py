"""Wake-ups at even intervals: by Linux's timerfd, or by trio's own timeouts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import attrs
import trio


class Timer(Protocol):
    async def wait(self) -> int:
        """Wait for the next tick; the number of ticks since the last wait, at least 1."""


OpenTimer = Callable[[float], AbstractContextManager[Timer]]  # ticks every so many seconds from now on


@attrs.define
class SleepTimer:
    """Ticks by trio's own timeouts, which are rounded up to a whole millisecond."""

    interval: float  # seconds
    next_tick: float  # seconds

    async def wait(self) -> int:
        await trio.sleep_until(self.next_tick)
        ticks = 1 + int((trio.current_time() - self.next_tick) / self.interval)
        self.next_tick += ticks * self.interval
        return ticks


@attrs.define
class TimerFd:
    """Ticks by Linux's timerfd, to the microsecond; epoll's own timeout knows whole milliseconds only."""

    descriptor: int

    async def wait(self) -> int:
        while True:
            await trio.lowlevel.wait_readable(self.descriptor)
            with contextlib.suppress(BlockingIOError):
                return int(struct.unpack("Q", os.read(self.descriptor, 8))[0])


@contextlib.contextmanager
def open_sleep_timer(interval: float) -> Iterator[Timer]:
    """A timer that ticks every `interval` seconds from now on, by trio's clock."""
    yield SleepTimer(interval, trio.current_time() + interval)


@contextlib.contextmanager
def open_system_timer(interval: float) -> Iterator[Timer]:
    """The same by timerfd, where the system has it."""
    try:
        descriptor = open_timerfd(interval)
    except (OSError, AttributeError):
        with open_sleep_timer(interval) as timer:
            yield timer
        return
    try:
        yield TimerFd(descriptor)
    finally:
        os.close(descriptor)


def open_timerfd(interval: float) -> int:
    """timerfd_create(2) through the C library; Python has it from 3.13 on. Raises OSError or AttributeError."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    nanoseconds = round(interval * 1e9)
    its = struct.pack("llll", 0, nanoseconds, 0, nanoseconds)  # struct itimerspec: interval, first expiry
    if libc.timerfd_settime(descriptor, 0, its, None) < 0:
        os.close(descriptor)
        raise OSError(ctypes.get_errno(), "timerfd_settime")
    return descriptor
