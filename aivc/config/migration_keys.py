"""Every key that the OpenSIPS AI Voice Connector CE reads of the sections we have, and what becomes of its text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import attrs

from aivc.config.catalogue import CATALOGUE, Setting
from aivc.config.migration_ini import Ini, Value
from aivc.config.migration_page import Key
from aivc.config.models import FULL, resolve_model
from aivc.config.records import read_value
from aivc.config.rules import is_openai_host, realtime_url, shortened
from aivc.config.settings import OpenAISettings
from aivc.config.template import KNOWN, PLACE, TEMPLATES

OWN: Final = OpenAISettings()  # the defaults
TURNS: Final = "turn_detection_type"
WITHOUT_SILENCE: Final = ("semantic_vad", "none")  # kinds of turn detection that have none of the numbers


@attrs.frozen
class Taken:
    """What is made of a text."""

    value: object
    remark: str = ""


Convert = Callable[[str, Ini], Taken]  # raises ValueError with the reason why a text is left out


@attrs.frozen
class Option:
    """A key of theirs."""

    section: str
    name: str  # ours
    convert: Convert
    keys: tuple[str, ...] = ()  # theirs, if they are called otherwise; the first that is there is read
    absent: Callable[[Ini], Taken | None] = lambda _ini: None  # what is written when their file says nothing

    @property
    def spellings(self) -> tuple[str, ...]:
        return self.keys or (self.name,)

    @property
    def setting(self) -> Setting:
        return next(one for one in CATALOGUE if one.path == f"{self.section}.{self.name}")

    def key(self, ini: Ini) -> Key | None:
        """What the new file says instead of the old; None if nothing."""
        old = ini.get(self.section, *self.spellings)
        if old is not None:
            return self.key_for(old, ini)
        taken = self.absent(ini)
        return None if taken is None else Key(name=self.name, value=taken.value, remark=taken.remark)

    def key_for(self, old: Value, ini: Ini) -> Key:
        remarks = [said_of(old, prose=self.name in TEMPLATES)]
        try:
            taken = self.convert(old.text, ini)
            read_value(self.setting, taken.value, {})
        except ValueError as error:
            remarks.append(f"left out: {error}")
            shown = None if self.setting.secret or has_userinfo(old.text) else old.text
            return Key(name=self.name, old=shown, remark=joined(remarks))
        return Key(name=self.name, value=taken.value, remark=joined([*remarks, taken.remark]))


def said_of(old: Value, *, prose: bool) -> str:
    """What configparser makes of a text that its writer may not know."""
    if old.fault is not None:
        return f"{old.fault}; the CE could not read this section at all, here the text is taken as it stands"
    if len(old.text) > 1 and old.text[0] == old.text[-1] and old.text[0] in "\"'":
        return "the quotes were part of the value in the CE, and are here"
    if old.text.startswith(("#", ";")) or (not prose and (" #" in old.text or " ;" in old.text)):
        return "an INI file has no comments behind a value: this is all of it"
    return ""


def has_userinfo(old: str) -> bool:
    """Whether it is a URL with a user's name, and so perhaps a password."""
    return "://" in old and "@" in old


def joined(remarks: list[str]) -> str:
    return "; ".join(remark for remark in remarks if remark)


# What is made of a text


def text(old: str, _ini: Ini) -> Taken:
    return Taken(old)


def integer(old: str, _ini: Ini) -> Taken:
    try:
        return Taken(int(old))
    except ValueError:
        raise ValueError(f"{shortened(old)} is not a whole number") from None


def decimal(old: str, _ini: Ini) -> Taken:
    try:
        return Taken(float(old))
    except ValueError:
        raise ValueError(f"{shortened(old)} is not a number") from None


def secret(old: str, _ini: Ini) -> Taken:
    return Taken(old, "a secret: better leave it out here, and set OPENAI_API_KEY")


def truth(old: str) -> bool | None:
    """What the CE takes for a boolean; None: its default."""
    if old.isdecimal():
        return int(old[:100]) != 0
    return {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}.get(old.lower())


def disabled(old: str, _ini: Ini) -> Taken:
    value = truth(old)
    if value is None:
        raise ValueError(f"{shortened(old)} is neither true nor false; the CE took it for false")
    return Taken(value, "every call is refused: there is no other flavor" if value else "")


def url_of(ini: Ini) -> str:
    """The server that it is to talk to."""
    old = ini.text("openai", "url")
    try:
        realtime_url(old)
    except ValueError:  # then it is left out, or there was none
        return OWN.url
    return old


def url(old: str, _ini: Ini) -> Taken:
    try:
        realtime_url(old)
    except ValueError as error:
        raise ValueError(f"{error}; without it calls go to OpenAI, with the key") from None
    if is_openai_host(old):
        return Taken(without_model(old))
    remark = "the CE used it as it stands; here /realtime is added to a path that does not end in it, and the model"
    return Taken(old, f"{remark} to a query that does not name what answers")


def without_model(old: str) -> str:
    """OpenAI's URL without the model, which has a key of its own: a retired one is only replaced there."""
    parts = urlsplit(old)
    rest = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "model"]
    return parts._replace(query=urlencode(rest)).geturl()


def model_of(ini: Ini) -> str:
    """The model it asked for; in a `url` that names one, that one."""
    server = url_of(ini)
    query = parse_qsl(urlsplit(server).query) if is_openai_host(server) else []
    return next((value for name, value in query if name == "model"), ini.text("openai", "model"))


def model(_old: str, ini: Ini) -> Taken:
    old = model_of(ini)
    resolved = resolve_model(old, url_of(ini))
    if resolved.retired is not None:
        return Taken(resolved.name, f"in place of {shortened(old)}, which OpenAI has shut down")
    return Taken(old, resolved.warning or "")


def default_model(ini: Ini) -> Taken | None:
    if not is_openai_host(url_of(ini)):
        return None
    if model_of(ini):
        return model("", ini)
    return Taken(FULL, f"in place of {OWN.model}, the CE's default, which OpenAI has shut down")


def default_prefix(ini: Ini) -> Taken | None:
    """The code's own default is kept, because callers have heard it."""
    if ini.text("openai", TURNS) in WITHOUT_SILENCE:
        return None
    return Taken(200, "what the CE asked for by itself, though its documentation says 300, which is the default here")


def max_tokens(old: str, ini: Ini) -> Taken:
    if old.strip().lower() == "inf":
        return Taken("inf")
    return Taken(integer(old, ini).value, "a number now: the CE sent it as text, which OpenAI refuses")


def temperature(old: str, ini: Ini) -> Taken:
    if is_openai_host(url_of(ini)):
        raise ValueError("today's interface (GA) has no temperature, and refuses it")
    return decimal(old, ini)


def by_silence(convert: Convert) -> Convert:
    """For what only server_vad has."""

    def converted(old: str, ini: Ini) -> Taken:
        how = ini.text("openai", TURNS)
        if how in WITHOUT_SILENCE:
            raise ValueError(f'has no effect with {TURNS} = "{how}"')
        return convert(old, ini)

    return converted


def spoken(old: str, _ini: Ini) -> Taken:
    places = [found[0] for found in PLACE.finditer(old) if found[1].strip().lower() in KNOWN]
    return Taken(old, f"{places[0]} is filled in for each call now" if places else "")


def welcome(old: str, ini: Ini) -> Taken:
    remark = 'the model is told "Please greet the caller with the following: ..." together with the instructions'
    return Taken(old, joined([spoken(old, ini).remark, f'{remark}; the CE said "user", and left them out']))


def target(old: str, _ini: Ini) -> Taken:
    """A URI, also of `"Name" <URI>`, as Referred-By may have it."""
    _, bracket, rest = old.rpartition("<")
    inner, closing, _ = rest.partition(">")
    if bracket and closing:
        return Taken(inner, "the URI alone, without what stood around it")
    return Taken(old)


def files(old: str, _ini: Ini) -> Taken:
    names = [name.strip() for line in old.splitlines() for name in line.split(",") if name.strip()]
    if not names:
        raise ValueError("names no file")
    remark = (
        "such files run as they are, see docs/tools.md; a relative path is looked for beside the new file, then in the"
        " working directory"
    )
    return Taken(names, remark)


def api_url(old: str, _ini: Ini) -> Taken:
    remark = (
        "its answer may have the flavor openai, or the name of an agent here, and has engine.api_seconds; tools in it"
        " are passed over; bot is the user as it was dialled, not in lower case; the package httpx2 asks:"
        " pip install 'aivc[http]'"
    )
    return Taken(old, remark)


OPTIONS: Final = (
    Option("opensips", "ip", text),
    Option("opensips", "port", integer),
    Option("engine", "event_ip", text),
    Option("engine", "event_port", integer),
    Option("engine", "api_url", api_url),
    Option("rtp", "min_port", integer),
    Option("rtp", "max_port", integer),
    Option("rtp", "bind_ip", text),
    Option("rtp", "ip", text),
    Option("openai", "key", secret, ("key", "openai_key")),
    Option("openai", "disable", disabled, ("disabled",)),
    Option("openai", "url", url),
    Option("openai", "model", model, absent=default_model),
    Option("openai", "voice", text, ("voice", "openai_voice")),
    Option("openai", "instructions", spoken),
    Option("openai", "welcome_message", welcome),
    Option("openai", "temperature", temperature),
    Option("openai", "max_tokens", max_tokens),
    Option("openai", TURNS, text),
    Option("openai", "turn_detection_silence_ms", by_silence(integer)),
    Option("openai", "turn_detection_threshold", by_silence(decimal)),
    Option("openai", "turn_detection_prefix_ms", by_silence(integer), absent=default_prefix),
    Option("openai", "transfer_to", target),
    Option("openai", "transfer_by", target),
    Option("openai", "tools", files),
)
