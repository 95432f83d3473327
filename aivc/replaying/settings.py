"""The settings that a recorded call had, made fit for its replay: nothing of the outside world is used."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from aivc.config.catalogue import SECTIONS, settings_of
from aivc.config.records import read_value
from aivc.config.settings import Secret, Settings
from aivc.config.values import Wrong
from aivc.flight.entries import Address, Flight, SipMessage

NO_KEY: Final = Secret("replayed")
LISTEN: Final = "0.0.0.0"
OPENSIPS: Final = "127.0.0.1"  # where it is taken to be when it had a host name, or a socket of the UNIX domain
MANAGEMENT_PORT: Final = 8080
EVENT_PORT: Final = 50060
SOUNDS: Final = ("failure", "busy", "hold")


class NotReplayable(Exception):
    """This recording cannot be replayed; the text says why."""


def replay_settings(flight: Flight) -> Settings:
    """The settings of a service that the call is replayed against. Raises NotReplayable."""
    made = read_settings(flight.header.settings)
    check_sounds(made)
    is_sip = flight.header.front_end == "sip"
    port = flight.header.rtp_port or made.rtp.min_port
    opensips = attrs.evolve(
        made.opensips,
        enabled=not is_sip,
        socket=None,
        ip=made.opensips.ip if made.opensips.socket is None and is_ip(made.opensips.ip) else OPENSIPS,
        port=made.opensips.port if made.opensips.socket is None else MANAGEMENT_PORT,
    )
    return attrs.evolve(
        made,
        openai=attrs.evolve(made.openai, key=NO_KEY, match=(), match_from=(), tools=(), disable=False),
        tools=attrs.evolve(made.tools, http=()),
        sip=attrs.evolve(
            made.sip,
            enabled=is_sip,
            listen=listening(made.sip.listen, used(flight)) if is_sip else made.sip.listen,
            users=(),  # their passwords are not recorded; what was challenged is left out of the replay
            register=(),
            tls_certificate=None,
            tls_key=None,
            tls_client_ca=None,
            tls_ca=None,
        ),
        rtp=attrs.evolve(made.rtp, min_port=port, max_port=port + 1),
        opensips=opensips,
        engine=attrs.evolve(made.engine, api_url=None, event_port=made.engine.event_port or EVENT_PORT),
        service=attrs.evolve(made.service, workers=1, drain_seconds=0.0),
        admin=attrs.evolve(made.admin, listen=None),
        records=attrs.evolve(made.records, directory=None),
        realtime=attrs.evolve(made.realtime, prewarm=0),
        agents=(),
        **without_recorder(made),
    )


def without_recorder(settings: Settings) -> dict[str, Any]:
    """The replay of a call is not recorded."""
    recorder: Any = getattr(settings, "recorder", None)
    return {} if recorder is None else {"recorder": attrs.evolve(recorder, mode="off")}


def read_settings(recorded: Mapping[str, Any]) -> Settings:
    """Settings as a recording has them. What this version does not know, or has no value there, is left as it is."""
    sections = {}
    for name, kind in SECTIONS.items():
        given = recorded.get(name)
        sections[name] = kind(**read_section(name, given)) if isinstance(given, dict) else kind()
    return Settings(**sections)


def read_section(name: str, given: Mapping[str, Any]) -> dict[str, object]:
    found: dict[str, object] = {}
    for setting in settings_of(name):
        raw = given.get(setting.name)
        if raw is None and (setting.name not in given or setting.default is not None):
            continue
        try:
            found[setting.name] = None if raw is None else read_value(setting, raw, {})
        except Wrong:  # a secret that was left out, or a value of another version
            continue
    return found


def check_sounds(settings: Settings) -> None:
    """Raises NotReplayable for a sound that is not here."""
    for name in SOUNDS:
        path = getattr(settings.sounds, name)
        if path is not None and not Path(path).is_file():
            raise NotReplayable(f"sounds.{name}: there is no file {path} here")


def used(flight: Flight) -> Iterable[tuple[str, Address]]:
    """The sockets that the call's SIP came to or went from. Raises NotReplayable."""
    found = dict.fromkeys(
        (entry.transport.lower(), entry.local) for entry in flight.entries if isinstance(entry, SipMessage)
    )
    if any(transport not in ("udp", "tcp") for transport, _ in found):
        raise NotReplayable("the call came over TLS, which has no replay")
    return found


def listening(listen: tuple[str, ...], sockets: Iterable[tuple[str, Address]]) -> tuple[str, ...]:
    """Of the addresses of `sip.listen` those that the call has used, with their real ports; or just where it was."""
    made: dict[str, None] = {}
    for transport, (host, port) in sockets:
        wildcard = "[::]" if ":" in host else LISTEN
        own = f"[{host}]" if ":" in host else host
        has_wildcard = any(text.lower().startswith(f"{transport}:{wildcard}:") for text in listen)
        made[f"{transport}:{wildcard if has_wildcard else own}:{port}"] = None
    return tuple(made) or listen


def is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
