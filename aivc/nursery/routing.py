"""Which agent answers a call, and what it works with: all of it loaded at the start, looked up for each call."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from aivc.config.agents import choose
from aivc.config.settings import Settings
from aivc.realtime.tools import ToolRegistry, load_registry
from aivc.sip.leg import Leg, Rejection


@attrs.frozen(eq=False)
class Route:
    """The agent of one call."""

    agent: str | None  # the NAME of `[agents.NAME]`; None: `[openai]` itself
    settings: Settings  # with the agent's own `openai`
    tools: ToolRegistry


@attrs.frozen(eq=False)
class Routes:
    """The agents of a service. Built by `load_routes`."""

    settings: Settings
    tools: Mapping[str | None, ToolRegistry]  # by agent

    def route(self, leg: Leg) -> Route | Rejection:
        """Who answers this leg: the first agent that wants it, or `[openai]`; or why nobody does."""
        chosen = choose(self.settings, leg.dialled, leg.caller)
        if chosen is None:
            return Rejection(404, "no agent for this number")
        if chosen.settings.openai.disable:
            section = "openai" if chosen.name is None else f"agents.{chosen.name}"
            return Rejection(503, f"{section}.disable is set", self.settings.service.retry_after_seconds)
        return Route(chosen.name, chosen.settings, self.tools[chosen.name])


def load_routes(settings: Settings, tools: ToolRegistry | None = None) -> Routes:
    """Load the tools of every agent, or give all of them `tools`.

    Raises ToolFileError when a tool file of any of them cannot be used.
    """
    agents = agents_of(settings).items()
    return Routes(settings, {name: registry_for(given) if tools is None else tools for name, given in agents})


def registry_for(settings: Settings) -> ToolRegistry:
    """The tools that an agent's settings name. Raises ToolFileError."""
    return load_registry(settings.openai, settings.tools.http)


def agents_of(settings: Settings) -> dict[str | None, Settings]:
    """The settings of `[openai]`, under None, and of each agent."""
    found: dict[str | None, Settings] = {None: settings}
    for agent in settings.agents:
        found[agent.name] = attrs.evolve(settings, openai=agent.openai)
    return found


def is_disabled(settings: Settings) -> bool:
    """Whether no agent may answer any call."""
    return settings.openai.disable and all(agent.openai.disable for agent in settings.agents)
