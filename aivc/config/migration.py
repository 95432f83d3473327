"""`aivc migrate`: the INI file of an OpenSIPS AI Voice Connector CE as a configuration of ours, and what it changes.

What was read are its documentation (docs/config.md, docs/ai/openai.md) and how its configuration is looked up
(src/config.py): the file first, then the environment, then a default. Ours has the environment before the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from aivc.config.environment import CONFIG_FILE
from aivc.config.migration_flavors import OTHERS_KEYS, is_alone, is_secret, left_out, match_key
from aivc.config.migration_ini import Ini, read_ini
from aivc.config.migration_keys import OPTIONS, Option, truth, url_of
from aivc.config.migration_page import Key, Page
from aivc.config.rules import is_openai_host, shortened

HEADING = """\
Made by `aivc migrate` of the INI file of an OpenSIPS AI Voice Connector CE.
An environment variable wins over this file; in the CE the file won.
`aivc check --config FILE` shows what is in effect, docs/configuration.md what else can be set.
"""
PURPOSES = {
    "opensips": "opensips.cfg stays as it is. The flag a of ua_session_server_init lets aivc notice a lost ACK.",
    "sip": "Only OpenSIPS hands over calls, as before. With true, telephones and trunks can call aivc itself as well:"
    ' then give sip.listen a port that OpenSIPS does not have, such as ["udp:0.0.0.0:5070"].',
}
NAT = (
    "the CE sent audio to wherever it came from; this does, too: telephones behind a NAT need it, for OpenSIPS does not"
    ' tell their public address. "auto" is safer where all of them have an address of their own'
)
SECTIONS = ("opensips", "engine", "rtp", "sip", "openai")


@attrs.frozen
class Migration:
    """The new configuration."""

    toml: str
    notes: tuple[str, ...]  # what has another meaning now, one line each; no secrets


def migrated(data: bytes, source: str, environ: Mapping[str, str]) -> Migration:
    """The configuration that an INI file of the CE becomes.

    Args:
        data: the file's octets.
        source: what messages call it.
        environ: the variables of the service, as far as they are known; they change the notes, and which flavors are
            disabled.

    Raises:
        IniError: it cannot be read.
    """
    ini = attrs.evolve(read_ini(data, source), variables=environ)
    page = Page(HEADING, {section: [] for section in SECTIONS}, PURPOSES)
    page.add("opensips", Key(name="enabled", value=True))
    page.add("sip", Key(name="enabled", value=False))
    for option in OPTIONS:
        if (key := option.key(ini)) is not None:
            page.add(option.section, key)
    page.add("rtp", Key(name="nat", value="on", remark=NAT))
    for key in [dialect_key(ini), match_key(ini)]:
        if key is not None:
            page.add("openai", key)
    for section, key in unread(ini):
        page.add(section, key)
    page.settle()
    everybody = "match" not in page.tables()["openai"]
    for other in left_out(ini, known=SECTIONS, everybody=everybody):
        page.said.append(other.note)
        page.ending.append(other.comment)
    page.said += [*choices(ini, everybody=everybody), *differences(page), *environment(ini, page, environ)]
    page.sections = {section: keys for section, keys in page.sections.items() if keys}
    return Migration(page.toml(), tuple(page.notes()))


def dialect_key(ini: Ini) -> Key | None:
    """For a server of somebody else's: it has understood the CE, so it speaks the beta dialect."""
    if is_openai_host(url_of(ini)):
        return None
    return Key(name="dialect", value="beta", remark='what the CE spoke; "ga" if this server has today\'s interface')


def unread(ini: Ini) -> Iterator[tuple[str, Key]]:
    """Keys of our sections that the CE does not read."""
    for section in SECTIONS:
        for name, text in ini.own.get(section, {}).items():
            if not is_read(ini, section, name):
                old = None if is_secret(name) else text
                yield section, Key(name=name, old=old, remark=f"left out: {why_unread(section, name)}")


def is_read(ini: Ini, section: str, name: str) -> bool:
    """Whether it is the spelling of an option that counts."""
    if (section, name) == ("openai", "match"):
        return True
    for option in OPTIONS:
        if option.section == section and name in option.spellings:
            value = ini.get(section, *option.spellings)
            return value is not None and value.key == name
    return False


def why_unread(section: str, name: str) -> str:
    for option in OPTIONS:
        if option.section == section and name in option.spellings:
            return f"the CE read {option.spellings[0]} instead"
    if (section, name) == ("openai", "disable"):
        return "the CE read only `disabled`, so this did nothing; here `disable = true` refuses every call"
    return "the CE did not read it"


def choices(ini: Ini, *, everybody: bool) -> Iterator[str]:
    """About calls that no pattern was for, and about [DEFAULT]."""
    if not is_alone(ini):
        now = "[openai] answers them all" if everybody else "they get 404"
        yield (
            "openai.match: the CE gave calls that matched nothing to any flavor that was not disabled, by a hash that"
            f" changed with every start; now {now}"
        )
    known = OTHERS_KEYS.union(*(option.spellings for option in OPTIONS))
    for name in ini.defaults:
        if name not in known:
            yield f"[DEFAULT] {shortened(name)[1:-1]}: left out: the CE did not read it"


def differences(page: Page) -> Iterator[str]:
    """About what no key of the old file says."""
    openai, rtp = page.tables()["openai"], page.tables()["rtp"]
    yield (
        "openai.transcription_model: not set, what callers say is not written down; the CE always had whisper-1 do it,"
        ' at extra cost, for its log: "gpt-transcribe" does it for the record of the call'
    )
    if "transfer_to" not in openai:
        yield "openai.transfer_to: not set, so the model is not offered transfer_call; the CE offered it, to nowhere"
    if "ip" not in rtp:
        yield "rtp.ip: not set: the SDP has the local address that leads to the caller, not that of the host's name"
    yield "rtp.min_port: each call takes two ports, an even one for RTP and the next for RTCP; in the CE it was one"
    yield (
        "service: new limits, of 100 calls (max_calls) and of an hour for each (max_call_seconds); a call without audio"
        " from the caller ends after 60 s (rtp.timeout_seconds)"
    )


def environment(ini: Ini, page: Page, environ: Mapping[str, str]) -> Iterator[str]:
    """About variables, which win over the file now."""
    found = False
    for option in OPTIONS:
        if differs(option, ini, environ):
            found = True
            path = f"{option.section}.{option.name}"
            yield f"{option.setting.variable}: is set here, and wins over {path}; in the CE the file's other value won"
    if not found:
        yield "environment: variables win over the file, in the CE the file won; of those set here none says otherwise"
    if environ.get(CONFIG_FILE) and not environ[CONFIG_FILE].endswith(".toml"):
        yield f"{CONFIG_FILE}: names {shortened(environ[CONFIG_FILE])}, let it name the new file"
    if "key" not in page.tables()["openai"] and not environ.get("OPENAI_API_KEY") and is_openai_host(url_of(ini)):
        yield "openai.key: there is none: set OPENAI_API_KEY"


def differs(option: Option, ini: Ini, environ: Mapping[str, str]) -> bool:
    """Whether a variable and the old file say different things of a setting."""
    new, old = environ.get(option.setting.variable, ""), ini.get(option.section, *option.spellings)
    if not new or old is None:
        return False
    return truth(new) != truth(old.text) if option.name == "disable" else new != old.text
