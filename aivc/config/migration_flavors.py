"""The flavors of an OpenSIPS AI Voice Connector CE, its services: which calls each took, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from aivc.config.catalogue import CATALOGUE
from aivc.config.migration_ini import Ini
from aivc.config.migration_keys import has_userinfo, joined, said_of, truth
from aivc.config.migration_match import has_capitals, looks_like_a_list, whole
from aivc.config.migration_page import Key
from aivc.config.patterns import matches_any
from aivc.config.records import read_value
from aivc.config.rules import shortened
from aivc.config.spelling import as_key, as_toml

OTHERS: Final = {
    "deepgram": "speech recognition and synthesis by Deepgram, with ChatGPT between them",
    "deepgram_native": "Deepgram's Voice Agent",
    "azure": "speech recognition and synthesis by Azure, with ChatGPT between them",
}
OTHERS_KEYS: Final = frozenset(  # what they read, for [DEFAULT] gives keys to all
    {"key", "chatgpt_key", "openai_key", "chatgpt_model", "speech_model", "language", "voice", "welcome_message"}
    | {"instructions", "region", "llm_url", "llm_auth", "llm_key", "llm_model", "disabled", "disable", "match"}
)
SECRET_WORDS: Final = ("key", "auth", "secret", "token", "password")
BY_NAME: Final = "(?i)openai"  # a call to the name of a flavor was for it


def is_disabled(ini: Ini, flavor: str) -> bool:
    """As its section says, or else a variable such as DEEPGRAM_DISABLE."""
    return truth(ini.text(flavor, "disabled") or ini.variables.get(f"{flavor.upper()}_DISABLE", "")) is True


def is_alone(ini: Ini) -> bool:
    """Whether openai was the only flavor, sections or not: then it took every call, whatever its `match` said."""
    return all(is_disabled(ini, other) for other in OTHERS)


def match_key(ini: Ini) -> Key | None:
    """Our `openai.match`; None: every call is answered."""
    old = ini.get("openai", "match")
    lines = [] if old is None else [line for line in old.text.splitlines() if line.strip()]
    if old is None or not lines:
        return None
    if is_alone(ini):
        remark = "left out: with all other flavors disabled the CE answered every call, whatever this said"
        return Key(name="match", old=old.text, remark=remark)
    patterns, remarks = converted(lines)
    if not patterns or not matches_any(tuple(patterns), "openai"):
        patterns.append(BY_NAME)
    try:
        read_value(next(one for one in CATALOGUE if one.path == "openai.match"), patterns, {})
    except ValueError as error:
        patterns, remarks = [BY_NAME], [f"left out: {error}"]
    said = "the CE compared the beginning of the user, in lower case, and took calls to `openai`: so do these patterns"
    return Key(name="match", value=patterns, remark=joined([said_of(old, prose=False), said, *remarks]))


def converted(lines: list[str]) -> tuple[list[str], list[str]]:
    """Our patterns, and what is to be said about them."""
    patterns: list[str] = []
    several = len(lines) > 1
    remarks = ["each line is a pattern now: the CE took them for one, that nothing matched"] if several else []
    for line in lines:
        try:
            patterns.append(whole(line))
        except ValueError as error:
            remarks.append(f"{shortened(line)} is left out, its calls get 404: {error}")
            continue
        if has_capitals(line):
            remarks.append(f"{shortened(line)} has capital letters, which matched nothing in the CE and do now")
        if looks_like_a_list(line):
            remarks.append(f"{shortened(line)} is one expression, in the CE as well: its commas separate nothing")
    return patterns, remarks


@attrs.frozen
class LeftOut:
    """A section that the new file has only as a comment."""

    note: str
    comment: str


def left_out(ini: Ini, *, known: tuple[str, ...], everybody: bool) -> Iterator[LeftOut]:
    """The sections that are none of ours.

    Args:
        known: those that are.
        everybody: whether [openai] takes every call.
    """
    for section, keys in ini.own.items():
        if section in known:
            continue
        if section in OTHERS:
            why = f"this is {OTHERS[section]}, and here is OpenAI's Realtime API only"
            note = f"[{shortened(section)[1:-1]}]: left out: {why}{whose_calls(ini, section, everybody=everybody)}"
        else:
            note = f"[{shortened(section)[1:-1]}]: left out: the CE did not read it either"
        lines = [f"{as_key(key)} = {shown(key, text)}" for key, text in keys.items()]
        yield LeftOut(note, "\n".join([note, f"[{as_key(section)}]", *lines]))


def whose_calls(ini: Ini, flavor: str, *, everybody: bool) -> str:
    """What becomes of the calls that it took."""
    if is_disabled(ini, flavor):
        return "; it was disabled"
    match = ini.text(flavor, "match")
    whose = f"calls to {flavor}" + (f", and to users that begin with {shortened(match)}," if match else "")
    return f"; {whose} " + ("are answered by [openai] now" if everybody else "get 404, unless openai.match takes them")


def shown(key: str, text: str) -> str:
    """The value of a key that is not read, unless it may be a secret."""
    return "(not shown)" if is_secret(key) or has_userinfo(text) else as_toml(text)


def is_secret(key: str) -> bool:
    return any(word in key for word in SECRET_WORDS)
