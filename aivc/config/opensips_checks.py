"""What is wrong or doubtful about `[opensips]` and the events: ports, addresses, durations, settings without effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Final

from aivc.config.agent_checks import Finding
from aivc.config.catalogue import settings_of
from aivc.config.rules import parse_listen
from aivc.config.settings import Settings
from aivc.config.telephony_checks import collide

LOOPBACK: Final = IPv4Network("127.0.0.0/8")
MARGIN: Final = 60  # seconds by which our calls must end earlier than those of OpenSIPS: goodbyes take time


def opensips_contradictions(settings: Settings) -> Iterator[Finding]:
    """Why these settings, each fine by itself, cannot work together."""
    opensips, engine = settings.opensips, settings.engine
    if not opensips.enabled:
        if not settings.sip.enabled:
            text = "false, and opensips.enabled, too: nothing would take calls; set one of them to true"
            yield Finding(("sip.enabled", "opensips.enabled"), text)
        return
    longest = settings.service.max_call_seconds
    if longest + MARGIN > opensips.session_seconds:
        text = (
            f"{longest:g} must be at least {MARGIN} less than opensips.session_seconds, {opensips.session_seconds}:"
            " OpenSIPS ends calls then, and tells nobody"
        )
        yield Finding(("service.max_call_seconds", "opensips.session_seconds"), text)
    events = ("udp", engine.event_ip, engine.event_port)
    for entry in settings.sip.listen if settings.sip.enabled else ():
        if collide(events, parse_listen(entry)):
            text = f"{engine.event_port} and {entry} of sip.listen would be the same address"
            yield Finding(("engine.event_port", "engine.event_ip", "sip.listen"), text)
    if engine.event_port == opensips.port and takes_from_opensips(settings):
        text = f"{engine.event_port} is taken by OpenSIPS itself, see opensips.port"
        yield Finding(("engine.event_port", "engine.event_ip", "opensips.port", "opensips.ip"), text)


def takes_from_opensips(settings: Settings) -> bool:
    """Whether our address for events and that of OpenSIPS for commands are one, or overlap, on this host."""
    opensips, event_ip = settings.opensips, IPv4Address(settings.engine.event_ip)
    management = literal(opensips.ip)
    if opensips.socket is not None or management is None:
        return False
    return management == event_ip or (management.is_loopback and event_ip.is_unspecified)


def literal(host: str) -> IPv4Address | None:
    """The address, if it is no name."""
    try:
        return IPv4Address(host)
    except ValueError:
        return None


def opensips_doubts(settings: Settings, sources: Mapping[str, str]) -> Iterator[str]:
    """What will work otherwise than its writer may think."""
    for names, works, why in EFFECTIVE_IF:
        if not works(settings):
            yield from (f"{name}: has no effect {why}" for name in names if sources.get(name, "default") != "default")
    opensips, event_ip = settings.opensips, settings.engine.event_ip
    if not opensips.enabled or opensips.socket is not None:
        return
    management = literal(opensips.ip)
    if management is None or management.is_loopback:
        return
    if IPv4Address(event_ip).is_loopback and not any(has_loopback(text) for text in opensips.event_sources):
        yield (
            f"engine.event_ip: {event_ip}: OpenSIPS at {opensips.ip} sends its events to itself, unless it runs on this"
            " host; give an address that it can reach, or 0.0.0.0"
        )
    if settings.rtp.srtp != "off":
        yield "rtp.srtp: the keys can be read on their way: they come in events of OpenSIPS, which are not encrypted"


def has_loopback(network: str) -> bool:
    """Whether events from this host are taken."""
    found = ip_network(network)
    return isinstance(found, IPv4Network) and found.overlaps(LOOPBACK)


def ends_orphans(settings: Settings) -> bool:
    return settings.opensips.enabled and settings.opensips.end_orphans


OF_OPENSIPS: Final = tuple(one.path for one in settings_of("opensips") if one.name != "enabled")

# settings; whether they have an effect; why they have none
EFFECTIVE_IF: Final[tuple[tuple[tuple[str, ...], Callable[[Settings], bool], str], ...]] = (
    (
        (*OF_OPENSIPS, "engine.event_ip", "engine.event_port"),
        lambda settings: settings.opensips.enabled,
        "without opensips.enabled = true",
    ),
    (
        ("sip.numbers", "sip.allow", "sip.users"),  # who trusts in them had better know
        lambda settings: settings.sip.enabled or not settings.opensips.enabled,
        "without sip.enabled = true: OpenSIPS decides who may call, and openai.match what is answered",
    ),
    (
        ("sip.numbers",),
        lambda settings: not (settings.sip.enabled and settings.opensips.enabled),
        "on calls from OpenSIPS: for them there is openai.match",
    ),
    (
        ("opensips.ip", "opensips.port"),
        lambda settings: not settings.opensips.enabled or settings.opensips.socket is None,
        "with opensips.socket",
    ),
    (
        ("opensips.end_orphans",),
        lambda settings: not ends_orphans(settings) or settings.opensips.instance is None,
        "with opensips.instance: a session that nobody knows may be somebody else's",
    ),
    (
        ("opensips.end_orphans",),
        lambda settings: not ends_orphans(settings) or settings.opensips.check_seconds > 0,
        "with opensips.check_seconds = 0: nobody looks for them",
    ),
)
