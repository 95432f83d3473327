"""The settings of one call beside those of its agent: from the server of `engine.api_url`, or from OpenSIPS.

    {"flavor": "sales", "openai": {"voice": "cedar", "welcome_message": "Hello Alice."}}

The server answers so, and a script of OpenSIPS gives it to ua_session_server_init as third argument, `extra_params`.
Every key of `[openai]` counts, by its aliases, too, but `tools` (files with code do not come from the network), `match`
and `match_from` (they choose among calls); null counts as not given, and numbers may be text: "500". `flavor` is the
NAME of an agent, who then answers instead of the one whose patterns fit; or "openai", as the AI Voice Connector CE has
it, which says no more than that the model is a Realtime model. All other keys are passed over, as that program does, so
a script may send what is meant for its other flavors, or for somebody else. A wrong value of a key that counts makes
all of it unusable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import attrs

from aivc.config.agent_checks import AgentView, contradictions_of
from aivc.config.agents import Chosen, agent_named
from aivc.config.catalogue import Setting, settings_of, spellings_of
from aivc.config.loading import ConfigError
from aivc.config.records import read_value
from aivc.config.rules import octets, shortened
from aivc.config.settings import Settings
from aivc.config.spelling import as_toml, wrong_type
from aivc.config.tables import no_constant
from aivc.config.values import Wrong, number_from_text

Source = Literal["api_url", "extra_params"]

ENGINE: Final = "openai"  # the only one there is
OTHER_FLAVORS: Final = ("azure", "chatgpt", "deepgram", "deepgram_native")  # sections of the CE beside [openai]
INSTANCE: Final = "instance"  # in extra_params: which connector takes the call, see opensips.instance
MOST_KEYS: Final = 200  # of a table: more than there are settings
LONGEST_EXTRA: Final = 65_536  # octets of extra_params: an event of OpenSIPS is one datagram
NOT_HERE: Final = frozenset({"tools", "match", "match_from"})
PORTS: Final = {"ws": 80, "wss": 443}


@attrs.frozen(kw_only=True)
class Wishes:
    """What one source wants for one call, each value by itself checked."""

    source: Source
    agent: str | None = None  # the NAME of `[agents.NAME]` that is to answer; None: no wish
    any_number: bool = False  # whether `flavor` says that the call is to be answered, whatever the patterns say
    values: Mapping[str, Any] = attrs.field(factory=dict)  # of `[openai]`, by the settings' names
    passed_over: tuple[str, ...] = ()  # keys that do not count, such as `deepgram` or `openai.tools`


def with_wishes(settings: Settings, name: str | None, *wishes: Wishes) -> Chosen:
    """Who answers, and with which settings, when the wishes are fulfilled.

    Args:
        settings: the service's.
        name: the agent whose patterns fit; None: `[openai]` itself.
        wishes: the strongest last.

    A secret of ours is not shown to another server: wishes that change the host of `url` must bring their own `key`,
    and MCP servers that want a token are left out then.

    Raises:
        ConfigError: with every contradiction, such as `api_url: openai.filler: there is no sound: set sounds.hold`.
    """
    named = [each.agent for each in wishes if each.agent is not None]
    chosen = agent_named(settings, named[-1] if named else name)
    for each in wishes:
        chosen = attrs.evolve(chosen, settings=merged(chosen.settings, each))
    return chosen


def merged(settings: Settings, wishes: Wishes) -> Settings:
    """The settings of an agent with the values over them."""
    values = wishes.values
    openai = attrs.evolve(settings.openai, **values)
    found = attrs.evolve(settings, openai=openai)
    if "url" in values and place_of(openai.url) != place_of(settings.openai.url):
        found = without_secrets(found, values)
    if errors := contradicting(found, wishes):
        raise ConfigError(tuple(f"{wishes.source}: {error}" for error in errors))
    return found


def without_secrets(settings: Settings, given: Mapping[str, Any]) -> Settings:
    """The settings as another server may have them: without a key that was not given for it, and without the MCP
    servers whose token it would be told."""
    openai = settings.openai if "key" in given else attrs.evolve(settings.openai, key=None)
    open_to_all = tuple(server for server in settings.tools.mcp if server.authorization is None)
    return attrs.evolve(settings, openai=openai, tools=attrs.evolve(settings.tools, mcp=open_to_all))


def contradicting(settings: Settings, wishes: Wishes) -> list[str]:
    """Contradictions that the wishes' own values are part of."""
    given = {f"{ENGINE}.{name}" for name in wishes.values}
    view = AgentView(section=ENGINE, openai=settings.openai, sources=dict.fromkeys(given, wishes.source))
    found = contradictions_of(view, attrs.evolve(settings, agents=()), simulator=False)
    return [f"{finding.paths[0]}: {finding.text}" for finding in found if not given.isdisjoint(finding.paths)]


def place_of(url: str) -> tuple[str, str | None, int | None]:
    """Which server a checked URL leads to."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or PORTS.get(parts.scheme)


# Reading


def parse_extra_params(text: str, settings: Settings) -> Wishes:
    """What `extra_params` of a session want.

    Args:
        text: untrusted; the script may have put there what callers wrote.
        settings: the service's, for the names of its agents.

    Raises:
        ConfigError: with everything that is wrong, such as `extra_params: openai.voice: expected text, got null`.
    """
    try:
        if octets(text) > LONGEST_EXTRA:
            raise ConfigError((f"extra_params: longer than {LONGEST_EXTRA} octets",))
        given = json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError):
        raise ConfigError(("extra_params: no JSON",)) from None
    return read_wishes("extra_params", given, settings)


def read_wishes(source: Source, given: object, settings: Settings) -> Wishes:
    """What is wanted, from a JSON value; `settings` as in `parse_extra_params`.

    Raises:
        ConfigError: with everything that is wrong, such as `api_url: openai.voice: expected text, got an integer 1`.
    """
    errors: list[str] = []
    names = [agent.name for agent in settings.agents]
    top = as_table(given, errors)
    known = {"flavor", ENGINE, *([INSTANCE] if source == "extra_params" else ())}
    passed_over = [shown(key) for key, value in top.items() if key not in known and value is not None]
    flavor = top.get("flavor")
    errors += flavor_faults(flavor, names)
    table = top.get(ENGINE)
    values = read_table({} if table is None else as_table(table, errors, f"{ENGINE}: "), passed_over, errors)
    if errors:
        raise ConfigError(tuple(f"{source}: {error}" for error in errors))
    return Wishes(
        source=source,
        agent=flavor if flavor in names else None,
        any_number=flavor is not None,
        values=values,
        passed_over=tuple(passed_over),
    )


def as_table(value: object, errors: list[str], label: str = "") -> Mapping[str, object]:
    """The value if it is a table of a reasonable size; otherwise an empty one, and an error."""
    if not isinstance(value, dict):
        errors.append(f"{label}{wrong_type('a table', value)}")
    elif len(value) > MOST_KEYS:
        errors.append(f"{label}has more than {MOST_KEYS} keys")
    else:
        return value
    return {}


def shown(key: str) -> str:
    """A key in a message: nothing long, nothing that a terminal would obey."""
    return key if len(key) <= 64 and key.isprintable() else shortened(key)


def flavor_faults(flavor: object, agents: list[str]) -> Iterator[str]:
    """Why nobody here is of that flavor."""
    if flavor is None or flavor == ENGINE or flavor in agents:
        return
    if not isinstance(flavor, str):
        yield f"flavor: {wrong_type('text', flavor)}"
        return
    known = f"known are {', '.join(map(as_toml, [ENGINE, *agents]))}"
    why = "cannot be served" if flavor in OTHER_FLAVORS else "is no agent"
    yield f"flavor: {shortened(flavor)} {why}; {known}"


def read_table(table: Mapping[str, object], passed_over: list[str], errors: list[str]) -> dict[str, Any]:
    """The values of the table by the settings' names."""
    spellings = {spelling: setting for setting in settings_of(ENGINE) for spelling in spellings_of(setting)}
    values: dict[str, Any] = {}
    for key, raw in table.items():
        setting = spellings.get(key)
        if raw is None:
            continue
        if setting is None or setting.name in NOT_HERE:
            passed_over.append(f"{ENGINE}.{shown(key)}")
        elif setting.name in values:
            errors.append(f"{setting.path}: given twice")
        else:
            read_one(setting, raw, values, errors)
    return values


def read_one(setting: Setting, raw: object, values: dict[str, Any], errors: list[str]) -> None:
    try:
        values[setting.name] = read_value(setting, number_from_text(setting.kind, raw), {})
    except Wrong as wrong:
        errors += [f"{setting.path}{where}: {text}" for where, text in wrong.found]
