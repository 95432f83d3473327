"""What no single setting can tell: pairs that contradict each other, what is missing, and what has no effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from aivc.config.agent_checks import AgentView, Finding, contradictions_of, doubts_of
from aivc.config.agents import takes_every_call
from aivc.config.rules import is_readable_on_the_way
from aivc.config.settings import Settings


def contradictions(settings: Settings, sources: Mapping[str, str], *, simulator: bool) -> Iterator[Finding]:
    """Why these settings, each fine by itself, cannot work together."""
    yield from of_each_agent(settings, sources, lambda agent: contradictions_of(agent, settings, simulator=simulator))
    rtp, sip = settings.rtp, settings.sip
    if rtp.min_port >= rtp.max_port:
        yield Finding(("rtp.min_port", "rtp.max_port"), f"{rtp.min_port} is not below rtp.max_port, {rtp.max_port}")
    elif even_ports(rtp.min_port, rtp.max_port) == 0:
        yield Finding(("rtp.min_port", "rtp.max_port"), "no even port with an odd one after it lies in this range")
    if rtp.ip is None and sip.external_ip is not None and ":" in sip.external_ip:
        yield Finding(("rtp.ip", "sip.external_ip"), "set it: sip.external_ip is IPv6, and media are IPv4 only")
    if sip.enabled and not sip.listen:
        yield Finding(("sip.listen", "sip.enabled"), "is empty; give an address, or set sip.enabled = false")


def of_each_agent(
    settings: Settings, sources: Mapping[str, str], find: Callable[[AgentView], Iterator[Finding]]
) -> Iterator[Finding]:
    """The findings about [openai], then about each agent what is not merely what it has from there."""
    named = (("openai", settings.openai), *((f"agents.{agent.name}", agent.openai) for agent in settings.agents))
    said: set[str] = set()
    for section, openai in named:
        for finding in find(AgentView(section=section, openai=openai, sources=sources)):
            own = section != "openai" and any(
                path in sources for path in finding.paths if path.startswith(f"{section}.")
            )
            if own or finding.text not in said:
                yield finding
            if section == "openai":
                said.add(finding.text)


def even_ports(low: int, high: int) -> int:
    """How many calls the range has room for: an even port for RTP and the next for RTCP (RFC 3550 section 11)."""
    return max(0, (high - (low + low % 2) + 1) // 2)


def doubts(settings: Settings, sources: Mapping[str, str], *, simulator: bool) -> Iterator[str]:
    """What will work otherwise than its writer may think. `sources` tells what was set by hand."""
    for finding in of_each_agent(settings, sources, lambda agent: doubts_of(agent, simulator=simulator)):
        yield f"{finding.paths[0]}: {finding.text}"
    yield from service_doubts(settings)
    yield from outside_doubts(settings)
    yield from hidden_agents(settings)


def hidden_agents(settings: Settings) -> Iterator[str]:
    """About the first agent that takes every call: those behind it get none."""
    names = [f"agents.{agent.name}" for agent in settings.agents]
    for index, agent in enumerate(settings.agents):
        if takes_every_call(agent.openai):
            hidden = ", ".join([*names[index + 1 :], "[openai]"])
            yield f"{names[index]}: takes every call, for want of match and match_from: none is left for {hidden}"
            return


def service_doubts(settings: Settings) -> Iterator[str]:
    if not settings.sip.enabled:
        yield "sip.enabled: nothing answers calls: there is no other front end"
    ports, calls = even_ports(settings.rtp.min_port, settings.rtp.max_port), settings.service.max_calls
    if ports < calls:
        yield (
            f"rtp.min_port: the range has room for {ports} calls, service.max_calls allows {calls};"
            " calls beyond the range are refused"
        )


def outside_doubts(settings: Settings) -> Iterator[str]:
    """About the servers beside the model's."""
    api_url = settings.engine.api_url
    if api_url is not None and is_readable_on_the_way(api_url):
        yield "engine.api_url: not encrypted: settings, and a key in them, can be read on their way; use https"
    for index, tool in enumerate(settings.tools.http):
        if is_readable_on_the_way(tool.url):
            yield f"tools.http[{index}].url: not encrypted: what {tool.name} sends and gets can be read; use https"
