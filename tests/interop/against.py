"""The same conversations with our stand-in for OpenSIPS and, where it is installed, with OpenSIPS itself.

What both must do alike is a test that takes `against` and hands its conversation to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, Final, Protocol, TypedDict, Unpack

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc.testing import VirtualNetwork
from aivc.testing.opensips import open_fake_opensips
from interop import opensips
from interop.dispatchers import free_port
from interop.ua_sessions import HOST, Lab, open_lab

LONGEST_SECONDS: Final = 60.0
FAKE_HOST: Final = "192.0.2.5"
SIP_PORT: Final = 5060
MI_PORT: Final = 8080


class Options(TypedDict, total=False):
    """Of the script, see `interop.opensips.open_opensips`."""

    flags: str
    extra_params: str
    uac_auth: bool
    subscribed: bool


Conversation = Callable[[Lab], Awaitable[None]]


class Against(Protocol):
    """Has the conversation, to its end."""

    def __call__(self, talk: Conversation, **options: Unpack[Options]) -> None: ...


@attrs.frozen
class Real:
    """OpenSIPS."""

    folder: Path

    def __call__(self, talk: Conversation, **options: Unpack[Options]) -> None:
        trio.run(self.run, talk, options)

    async def run(self, talk: Conversation, options: Options) -> None:
        settings: dict[str, Any] = dict(options)
        subscribed = settings.pop("subscribed", True)
        ports = free_port(), free_port()
        with trio.fail_after(LONGEST_SECONDS):
            async with AsyncExitStack() as running:

                async def start() -> None:
                    await running.enter_async_context(opensips.open_opensips(self.folder, ports=ports, **settings))

                async def restart() -> None:
                    await running.aclose()
                    await start()

                await start()
                async with open_lab((HOST, ports[0]), (HOST, ports[1]), restart, subscribed=subscribed) as lab:
                    await talk(lab)


@attrs.frozen
class Fake:
    """`aivc.testing.open_fake_opensips`, on a virtual network and with a clock that does not wait."""

    def __call__(self, talk: Conversation, **options: Unpack[Options]) -> None:
        trio.run(self.run, talk, options, clock=MockClock(autojump_threshold=0))

    async def run(self, talk: Conversation, options: Options) -> None:
        settings: dict[str, Any] = dict(options)
        subscribed = settings.pop("subscribed", True)
        VirtualNetwork().enable()
        with trio.fail_after(10 * LONGEST_SECONDS):
            async with open_fake(**settings) as fake:
                sip, mi = (FAKE_HOST, SIP_PORT), (FAKE_HOST, MI_PORT)
                async with open_lab(sip, mi, fake.restart, host="192.0.2.7", subscribed=subscribed) as lab:
                    await talk(lab)


def open_fake(**settings: Any) -> AbstractAsyncContextManager[Any]:
    return open_fake_opensips(
        FAKE_HOST, sip_port=SIP_PORT, mi_port=MI_PORT, fr_timeout=2.0, fr_inv_timeout=4.0, **settings
    )


def sides() -> list[Any]:
    """Both, as parameters; the real one says why it is skipped."""
    reason = opensips.missing()
    marks = [pytest.mark.interop, pytest.mark.skipif(reason is not None, reason=str(reason))]
    return [pytest.param("fake", id="fake"), pytest.param("real", id="real", marks=marks)]
