"""What each of several worker processes gets of the settings: limits are those of all together."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from aivc.config.agent_checks import Finding
from aivc.config.settings import AdminSettings, RtpSettings, Settings
from aivc.config.telephony_checks import even_ports


def worker_contradictions(settings: Settings) -> Iterator[Finding]:
    """Why these settings, each fine by itself, cannot work together."""
    workers, rtp = settings.service.workers, settings.rtp
    if workers == 1:
        return
    if settings.opensips.enabled:
        text = (
            f"{workers} cannot share one subscription to the events of OpenSIPS; set it to 1 and run several services"
            " with a dispatcher in front of them, as in deploy/opensips"
        )
        yield Finding(("service.workers", "opensips.enabled"), text)
    if settings.service.max_calls < workers:
        text = f"{workers} is more than service.max_calls, {settings.service.max_calls}: some would have no call"
        yield Finding(("service.workers", "service.max_calls"), text)
    if 0 < (ports := even_ports(rtp.min_port, rtp.max_port)) < workers:
        text = f"{workers} is more than the {ports} calls that rtp.min_port to rtp.max_port have room for"
        yield Finding(("service.workers", "rtp.min_port", "rtp.max_port"), text)


def share(settings: Settings, number: int) -> Settings:
    """The settings of the worker with that number, from 0: its part of the calls and of the ports for RTP.

    It listens nowhere by itself and registers nowhere: its `sip.register` only tells it who those servers are.
    """
    workers, service, sip = settings.service.workers, settings.service, settings.sip
    return attrs.evolve(
        settings,
        service=attrs.evolve(
            service,
            workers=1,
            max_calls=part(service.max_calls, number, workers),
            calls_per_second=service.calls_per_second / workers,
        ),
        sip=attrs.evolve(
            sip,
            requests_per_second=sip.requests_per_second / workers,
            register=tuple(attrs.evolve(each, expires_seconds=0) for each in sip.register),
        ),
        rtp=ports_of(settings.rtp, number, workers),
        realtime=attrs.evolve(settings.realtime, prewarm=part(settings.realtime.prewarm, number, workers)),
        admin=AdminSettings(),
    )


def part(whole: int, number: int, parts: int) -> int:
    """A share of a number of things that cannot be cut: the first ones get what is left over."""
    return whole // parts + (number < whole % parts)


def ports_of(rtp: RtpSettings, number: int, workers: int) -> RtpSettings:
    """A range for that worker alone; each begins with an even port, for RTP, and ends with an odd one, for RTCP."""
    pairs = even_ports(rtp.min_port, rtp.max_port)
    before = sum(part(pairs, earlier, workers) for earlier in range(number))
    first = rtp.min_port + rtp.min_port % 2 + 2 * before
    return attrs.evolve(rtp, min_port=first, max_port=first + 2 * part(pairs, number, workers) - 1)
