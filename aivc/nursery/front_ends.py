"""Where the calls of a service come from: the built-in user agent, an OpenSIPS, or both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

import attrs

from aivc.config.settings import OpenSipsSettings, Settings, SipSettings
from aivc.sip.address import format_host_port
from aivc.sip.leg import FrontEnd
from aivc.sip.opensips import OpenSips, open_opensips
from aivc.sip.useragent import Place, UserAgent, open_user_agent
from aivc.sip.watching import MessageWatcher, SessionWatcher


class Watcher(MessageWatcher, SessionWatcher, Protocol):
    """Looks at both."""


@attrs.frozen(eq=False)
class FrontEnds:
    """What `open_front_ends` yields."""

    agent: UserAgent
    opensips: OpenSips | None = None

    @property
    def all(self) -> tuple[FrontEnd, ...]:
        return (self.agent,) if self.opensips is None else (self.agent, self.opensips)

    def watch(self, watcher: Watcher) -> None:
        """Show it all that comes and goes."""
        self.agent.watch(watcher)
        if self.opensips is not None:
            self.opensips.watch(watcher)


@asynccontextmanager
async def open_front_ends(
    settings: Settings, wall_clock: Callable[[], float], place: Place | None = None
) -> AsyncIterator[FrontEnds]:
    """Take calls while the block runs. Raises what `open_user_agent` and `open_opensips` do.

    Args:
      wall_clock: seconds since 1970.
      place: of the user agent among those of other processes.
    """
    sip, rtp = settings.sip, settings.rtp
    async with open_user_agent(user_agent(sip), srtp=rtp.srtp, rtcp=rtp.rtcp, place=place) as agent:
        if not settings.opensips.enabled:
            yield FrontEnds(agent)
            return
        opened = partial(open_opensips, srtp=rtp.srtp, rtcp=rtp.rtcp, wall_clock=wall_clock)
        async with opened(settings.opensips, settings.engine, sip) as opensips:
            yield FrontEnds(agent, opensips)


def user_agent(settings: SipSettings) -> SipSettings:
    """A user agent that is not enabled listens nowhere, and tells nobody that it does."""
    return settings if settings.enabled else attrs.evolve(settings, listen=(), register=())


def addresses(front_ends: FrontEnds, settings: OpenSipsSettings) -> dict[str, Any]:
    """Where calls and events come to and commands go, with the real ports, for the log."""
    told: dict[str, Any] = {"listening": listening(front_ends.agent)}
    if front_ends.opensips is not None:
        told["opensips"] = management_address(settings)
        told["events"] = f"udp:{format_host_port(*front_ends.opensips.event_address)}"
    return told


def listening(agent: UserAgent) -> list[str]:
    """The addresses as `sip.listen` writes them."""
    return [f"{transport.lower()}:{format_host_port(*address)}" for transport, address in agent.transports]


def management_address(settings: OpenSipsSettings) -> str:
    """The management interface as OpenSIPS's mi_datagram writes it."""
    return f"udp:{settings.ip}:{settings.port}" if settings.socket is None else f"unix:{settings.socket}"
