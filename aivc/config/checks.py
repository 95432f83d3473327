"""What no single setting can tell: pairs that contradict each other, what is missing, and what has no effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from aivc.config.agent_checks import AgentView, Finding, contradictions_of, doubts_of
from aivc.config.agents import takes_every_call
from aivc.config.opensips_checks import opensips_contradictions, opensips_doubts
from aivc.config.rules import is_readable_on_the_way
from aivc.config.settings import Settings
from aivc.config.telephony_checks import telephony_contradictions, telephony_doubts
from aivc.config.template import HEADER, strange_places, texts_of
from aivc.config.workers import worker_contradictions


def contradictions(settings: Settings, sources: Mapping[str, str], *, simulator: bool) -> Iterator[Finding]:
    """Why these settings, each fine by itself, cannot work together."""
    yield from of_each_agent(settings, sources, lambda agent: contradictions_of(agent, settings, simulator=simulator))
    yield from telephony_contradictions(settings)
    yield from opensips_contradictions(settings)
    yield from worker_contradictions(settings)
    yield from recorder_contradictions(settings)


def recorder_contradictions(settings: Settings) -> Iterator[Finding]:
    if settings.recorder.mode != "off" and settings.recorder.directory is None:
        text = f"{settings.recorder.mode} needs recorder.directory, a folder for the files"
        yield Finding(("recorder.mode", "recorder.directory"), text)


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


def doubts(settings: Settings, sources: Mapping[str, str], *, simulator: bool) -> Iterator[str]:
    """What will work otherwise than its writer may think. `sources` tells what was set by hand."""
    for finding in of_each_agent(settings, sources, lambda agent: doubts_of(agent, simulator=simulator)):
        yield f"{finding.paths[0]}: {finding.text}"
    yield from strange_templates(settings)
    yield from telephony_doubts(settings, sources)
    yield from opensips_doubts(settings, sources)
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


def strange_templates(settings: Settings) -> Iterator[str]:
    """About places in what the model is told that no call can fill."""
    named = (("openai", settings.openai), *((f"agents.{agent.name}", agent.openai) for agent in settings.agents))
    said: set[str] = set()
    for section, openai in named:
        for name, text in texts_of(openai):
            for place in strange_places(text, settings.sip.pass_headers):
                what = f"{name}: {place} stays as it is: {strangeness(place)}"
                if what not in said:  # an agent has most of its settings from [openai]
                    said.add(what)
                    yield f"{section}.{what}"


def strangeness(place: str) -> str:
    name = place.strip("{} ")
    if not place.startswith("{{"):
        return f"a place has two braces, {{{{{name}}}}}"
    if name.lower().startswith(HEADER):
        return f"sip.pass_headers has no {name[len(HEADER) :]}"
    return "known are caller, dialled and header.NAME"


def outside_doubts(settings: Settings) -> Iterator[str]:
    """About the servers beside the model's."""
    api_url = settings.engine.api_url
    if api_url is not None and is_readable_on_the_way(api_url):
        yield "engine.api_url: not encrypted: settings, and a key in them, can be read on their way; use https"
    for index, tool in enumerate(settings.tools.http):
        if is_readable_on_the_way(tool.url):
            yield f"tools.http[{index}].url: not encrypted: what {tool.name} sends and gets can be read; use https"
