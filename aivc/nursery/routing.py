"""Which agent answers a call, and what it works with: all of it loaded at the start, looked up for each call.

A call may bring settings of its own, `Leg.extra_params`: see `aivc.config.percall` for what may be in them. They are
read here, before the call rings, since they may say which agent answers. What cannot be used in them is treated as an
answer of `engine.api_url` that cannot be used: `engine.api_failure` says whether the call goes on without them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import attrs

from aivc import logs
from aivc.config.agents import Chosen, agent_named, choose
from aivc.config.loading import ConfigError
from aivc.config.percall import Wishes, parse_extra_params, with_wishes
from aivc.config.settings import Settings
from aivc.realtime.tools import ToolFileError, ToolRegistry, load_registry
from aivc.sip.leg import Leg, Rejection
from aivc.sip.refusals import Cause, turned_away

log = logging.getLogger("aivc.service")

LONGEST_CAUSE: Final = 300  # characters of a failure's text
MOST_NAMED: Final = 10  # keys in one line of the log


@attrs.frozen(eq=False)
class Route:
    """The agent of one call."""

    agent: str | None  # the NAME of `[agents.NAME]`; None: `[openai]` itself
    settings: Settings  # with the agent's own `openai`, and what the call itself wants over it
    tools: ToolRegistry
    wishes: Wishes | None = None  # of the call itself

    @property
    def chosen(self) -> Chosen:
        return Chosen(self.agent, self.settings)


@attrs.frozen(eq=False)
class Routes:
    """The agents of a service. Built by `load_routes`."""

    settings: Settings
    tools: Mapping[str | None, ToolRegistry]  # by agent
    given: ToolRegistry | None = None  # the tools of all calls, if they are not those of the settings

    def route(self, leg: Leg) -> Route | Rejection:
        """Who answers this leg: whom its own settings name, or the first agent that wants it, or `[openai]`; or why
        nobody does."""
        try:
            wishes = wishes_of(leg, self.settings)
            return self._route(leg, wishes)
        except ConfigError as error:
            action, retry = self.settings.engine.api_failure, self.settings.service.retry_after_seconds
            note_unusable(leg, error, action)
            if action == "refuse":
                return turned_away(Cause.CONFIG_FAILED, "the settings of this call cannot be used", retry)
            return self._route(leg, None)

    def _route(self, leg: Leg, wishes: Wishes | None) -> Route | Rejection:
        """Raises ConfigError if the wishes cannot be fulfilled."""
        chosen = choose(self.settings, leg.dialled, leg.caller)
        if chosen is None and wishes is not None and wishes.any_number:
            chosen = agent_named(self.settings, None)
        if chosen is None:
            return turned_away(Cause.NO_AGENT, "no agent for this number")
        if wishes is not None:
            chosen = with_wishes(self.settings, chosen.name, wishes)
        if chosen.settings.openai.disable:
            return turned_away(Cause.DISABLED, disabled(chosen, wishes), self.settings.service.retry_after_seconds)
        return Route(chosen.name, chosen.settings, self._tools(chosen, wishes), wishes)

    def _tools(self, chosen: Chosen, wishes: Wishes | None) -> ToolRegistry:
        """Those of the agent, as the wishes have them offered."""
        if self.given is not None:
            return self.given
        if wishes is None or not wishes.values:
            return self.tools[chosen.name]
        try:
            return registry_for(chosen.settings)
        except ToolFileError as error:
            raise ConfigError(tuple(f"{wishes.source}: {text}" for text in error.errors)) from None


def wishes_of(leg: Leg, settings: Settings) -> Wishes | None:
    """What the call itself wants, if it brought anything. Raises ConfigError."""
    text = leg.extra_params
    if text is None or not text.strip():
        return None
    wishes = parse_extra_params(text, settings)
    note_passed_over(leg, wishes)
    return wishes


def note_passed_over(leg: Leg, wishes: Wishes) -> None:
    """Name the keys that do not count, if there are any."""
    keys = list(wishes.passed_over)
    if len(keys) > MOST_NAMED:
        keys = [*keys[:MOST_NAMED], f"and {len(keys) - MOST_NAMED} more"]
    if keys:
        call, source = leg.call_id, wishes.source
        logs.event(log, "call.keys_ignored", level=logging.WARNING, call_id=call, source=source, keys=keys)


def note_unusable(leg: Leg, error: ConfigError, action: str) -> None:
    cause = str(error)[:LONGEST_CAUSE]
    logs.event(log, "call.not_configured", level=logging.WARNING, call_id=leg.call_id, error=cause, action=action)


def disabled(chosen: Chosen, wishes: Wishes | None) -> str:
    """Where it is said that this agent answers nobody."""
    if wishes is not None and "disable" in wishes.values:
        return f"{wishes.source}: openai.disable is set"
    return "openai.disable is set" if chosen.name is None else f"agents.{chosen.name}.disable is set"


def load_routes(settings: Settings, tools: ToolRegistry | None = None) -> Routes:
    """Load the tools of every agent, or give all of them `tools`.

    Raises ToolFileError when a tool file of any of them cannot be used.
    """
    agents = agents_of(settings).items()
    loaded = {name: registry_for(given) if tools is None else tools for name, given in agents}
    return Routes(settings, loaded, tools)


def registry_for(settings: Settings) -> ToolRegistry:
    """The tools that an agent's settings name. Raises ToolFileError."""
    return load_registry(settings.openai, settings.tools.http)


def agents_of(settings: Settings) -> dict[str | None, Settings]:
    """The settings of `[openai]`, under None, and of each agent."""
    names = (None, *(agent.name for agent in settings.agents))
    return {name: agent_named(settings, name).settings for name in names}


def is_disabled(settings: Settings) -> bool:
    """Whether no agent may answer any call."""
    return settings.openai.disable and all(agent.openai.disable for agent in settings.agents)
