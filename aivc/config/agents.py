"""Which agent answers a call: the first whose patterns match, in the order of the file; then `[openai]` itself."""

from __future__ import annotations

from urllib.parse import unquote

import attrs

from aivc.config.patterns import matches_any
from aivc.config.settings import OpenAISettings, Settings

LONGEST_MATCHED = 128  # characters; E.164 numbers have 15 digits, and names of extensions are no novels


@attrs.frozen
class Chosen:
    """Who answers."""

    name: str | None  # of the agent; None: [openai] itself
    settings: Settings  # with `openai` replaced by the agent's


def choose(settings: Settings, dialled: str, caller: str) -> Chosen | None:
    """The agent for a call, or None when nobody takes it (404).

    Args:
        settings: the service's.
        dialled: user part of the Request-URI, unescaped.
        caller: the From URI, such as `sip:alice@example.com;x=y` or `tel:+4930123`.
    """
    for agent in settings.agents:
        if takes(agent.openai, dialled, caller):
            return agent_named(settings, agent.name)
    return Chosen(None, settings) if takes(settings.openai, dialled, caller) else None


def agent_named(settings: Settings, name: str | None) -> Chosen:
    """The agent of this name, or `[openai]` itself for None. Raises KeyError when there is none."""
    if name is None:
        return Chosen(None, settings)
    openai = {agent.name: agent.openai for agent in settings.agents}[name]
    return Chosen(name, attrs.evolve(settings, openai=openai))


def takes(openai: OpenAISettings, dialled: str, caller: str) -> bool:
    """Whether both `match` and `match_from` accept; an empty list accepts everyone."""
    return matches(openai.match, dialled) and matches(openai.match_from, user_of(caller))


def takes_every_call(openai: OpenAISettings) -> bool:
    """Whether it has no condition at all."""
    return not openai.match and not openai.match_from


def matches(patterns: tuple[str, ...], text: str) -> bool:
    """Whether there are no patterns, or one matches the whole text, which is not longer than LONGEST_MATCHED."""
    if not patterns:
        return True
    return len(text) <= LONGEST_MATCHED and matches_any(patterns, text)


def user_of(uri: str) -> str:
    """The user part of a SIP URI, or the number of a tel URI, unescaped and without parameters; "" if it has none.

    A password (RFC 3261 section 19.1.1) and the parameters that a telephone number has as user part
    (`+4930123;phone-context=x`, section 19.1.6) do not belong to it.
    """
    scheme, _, rest = uri.partition(":")
    if scheme.lower() == "tel":
        user = rest
    else:
        user, at, _ = rest.rpartition("@")
        user = user.partition(":")[0] if at else ""
    return unquote(user.partition(";")[0])
