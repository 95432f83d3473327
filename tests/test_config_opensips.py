"""What `[opensips]`, `[engine]` and `[sip]` may say beside each other: what contradicts, what is odd."""

from __future__ import annotations

from pathlib import Path

import pytest

from aivc.config.loading import ConfigError, Loaded, load

ENVIRON = {"OPENAI_API_KEY": "sk-test-1234567890", "OPENAI_API_MODEL": "gpt-realtime-2.1"}
ON = "[opensips]\nenabled = true\n"


def loaded(folder: Path, lines: str, **environ: str) -> Loaded:
    file = folder / "aivc.toml"
    file.write_text(lines)
    return load(str(file), ENVIRON | environ)


def errors_of(folder: Path, lines: str, **environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, lines, **environ)
    return caught.value.errors


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("[opensips]\nport = 0", "opensips.port: 0 is outside 1 to 65535"),
        ('[opensips]\nip = "::1"', 'opensips.ip: "::1" is no IPv4 address and no host name'),
        ('[opensips]\nip = "192.0.2.256"', "opensips.ip: "),
        ('[opensips]\nsocket = "mi.sock"', 'opensips.socket: "mi.sock" is no absolute path of at most 107 octets'),
        ('[opensips]\ninstance = "a b"', "opensips.instance: "),
        ('[opensips]\nevent_sources = ["opensips.example.com"]', "opensips.event_sources: "),
        ('[engine]\nevent_ip = "::"', "engine.event_ip: "),
        ("[engine]\nevent_port = 65536", "engine.event_port: 65536 is outside 0 to 65535"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(tmp_path: Path, lines: str, error: str) -> None:
    (found,) = errors_of(tmp_path, lines)
    assert found.startswith(error)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (
            "[sip]\nenabled = false",
            "sip.enabled: false, and opensips.enabled, too: nothing would take calls; set one of them to true",
        ),
        (
            f"{ON}session_seconds = 3659",
            "service.max_call_seconds: 3600 must be at least 60 less than opensips.session_seconds, 3659: OpenSIPS ends"
            " calls then, and tells nobody",
        ),
        (
            f'{ON}[engine]\nevent_port = 5060\n[sip]\nlisten = ["tcp:0.0.0.0:5060", "udp:0.0.0.0:5060"]',
            "engine.event_port: 5060 and udp:0.0.0.0:5060 of sip.listen would be the same address",
        ),
        (
            f"{ON}[engine]\nevent_port = 8080",
            "engine.event_port: 8080 is taken by OpenSIPS itself, see opensips.port",
        ),
        (
            f'{ON}[engine]\nevent_ip = "0.0.0.0"\nevent_port = 8080',
            "engine.event_port: 8080 is taken by OpenSIPS itself, see opensips.port",
        ),
        (
            f'{ON}ip = "192.0.2.1"\n[engine]\nevent_ip = "192.0.2.1"\nevent_port = 8080',
            "engine.event_port: 8080 is taken by OpenSIPS itself, see opensips.port",
        ),
    ],
)
def test_settings_that_cannot_work_together_are_refused(tmp_path: Path, lines: str, error: str) -> None:
    assert errors_of(tmp_path, lines) == (error,)


@pytest.mark.parametrize(
    "lines",
    [
        f"{ON}session_seconds = 3660",
        "[opensips]\nsession_seconds = 61",  # nobody asks OpenSIPS
        f"{ON}[sip]\nenabled = false\nlisten = []",
        f'{ON}[engine]\nevent_port = 5060\n[sip]\nlisten = ["tcp:0.0.0.0:5060", "udp:192.0.2.1:5060"]',
        f"{ON}[engine]\nevent_port = 5060\n[sip]\nenabled = false",
        f"{ON}[engine]\nevent_port = 8081",
        f'{ON}socket = "/run/mi.sock"\n[engine]\nevent_port = 8080',
        f'{ON}ip = "192.0.2.1"\n[engine]\nevent_ip = "0.0.0.0"\nevent_port = 8080',  # another host's
        f'{ON}ip = "opensips"\n[engine]\nevent_ip = "0.0.0.0"\nevent_port = 8080',
    ],
)
def test_these_can(tmp_path: Path, lines: str) -> None:
    loaded(tmp_path, lines)


def test_a_contradiction_names_the_variable_that_its_value_is_from(tmp_path: Path) -> None:
    (error,) = errors_of(tmp_path, ON, EVENT_PORT="8080")
    assert error.startswith("engine.event_port (EVENT_PORT): 8080 is taken")


@pytest.mark.parametrize(
    ("lines", "doubt"),
    [
        ('[opensips]\nip = "192.0.2.1"', "opensips.ip: has no effect without opensips.enabled = true"),
        ("[engine]\nevent_port = 40000", "engine.event_port: has no effect without opensips.enabled = true"),
        (f'{ON}socket = "/run/mi.sock"\nport = 8888', "opensips.port: has no effect with opensips.socket"),
        (f'{ON}socket = "/run/mi.sock"\nip = "127.0.0.1"', "opensips.ip: has no effect with opensips.socket"),
        (
            f'{ON}instance = "a"\nend_orphans = true',
            "opensips.end_orphans: has no effect with opensips.instance: a session that nobody knows may be"
            " somebody else's",
        ),
        (
            f"{ON}check_seconds = 0\nend_orphans = true",
            "opensips.end_orphans: has no effect with opensips.check_seconds = 0: nobody looks for them",
        ),
        (
            f'{ON}ip = "192.0.2.1"',
            "engine.event_ip: 127.0.0.1: OpenSIPS at 192.0.2.1 sends its events to itself, unless it runs on this host;"
            " give an address that it can reach, or 0.0.0.0",
        ),
        (
            f'{ON}ip = "192.0.2.1"\nevent_sources = ["192.0.2.0/24", "::1"]',
            "engine.event_ip: 127.0.0.1: OpenSIPS at 192.0.2.1 sends its events to itself, unless it runs on this host;"
            " give an address that it can reach, or 0.0.0.0",
        ),
        (
            f'{ON}ip = "192.0.2.1"\n[engine]\nevent_ip = "0.0.0.0"\n[rtp]\nsrtp = "required"\n[sip]\nenabled = false',
            "rtp.srtp: the keys can be read on their way: they come in events of OpenSIPS, which are not encrypted",
        ),
        (
            f"{ON}[sip]\nenabled = false\n[rtp]\nmin_port = 40000\nmax_port = 40009",
            "rtp.min_port: the range has room for 5 calls, service.max_calls allows 100; calls beyond the range are"
            " refused",
        ),
    ],
)
def test_what_is_odd_is_a_warning(tmp_path: Path, lines: str, doubt: str) -> None:
    assert loaded(tmp_path, lines).warnings == (doubt,)


@pytest.mark.parametrize(
    "lines",
    [
        ON,
        f"{ON}[sip]\nenabled = false",
        f'{ON}ip = "opensips.example.com"',
        f'{ON}ip = "192.0.2.1"\n[engine]\nevent_ip = "0.0.0.0"',
        f'{ON}ip = "192.0.2.1"\n[engine]\nevent_ip = "192.0.2.9"',
        f'{ON}ip = "192.0.2.1"\nevent_sources = ["127.0.0.1"]',  # it is this host's
        f'{ON}socket = "/run/mi.sock"\n[rtp]\nsrtp = "optional"\n[sip]\nenabled = false',
        f'{ON}instance = "a"\nend_orphans = false',
        # What only the user agent needs is no matter while there is none
        f'{ON}[sip]\nenabled = false\nrealm = "example.com"\ntrusted = ["0.0.0.0/0"]',
    ],
)
def test_these_are_not(tmp_path: Path, lines: str) -> None:
    assert loaded(tmp_path, lines).warnings == ()


def test_variables_of_the_test_suite_are_no_settings_and_settings_are_known() -> None:
    suite = {"AIVC_OPENSIPS": "/usr/sbin/opensips", "AIVC_OPENSIPS_MODULES": "/usr/lib/opensips/modules"}
    found = load(None, ENVIRON | suite | {"AIVC_OPENSIPS_ENABLED": "true", "AIVC_OPENSIPS_INSTANCE": "aivc-1"})
    assert (found.settings.opensips.enabled, found.settings.opensips.instance) == (True, "aivc-1")
    assert found.warnings == ()
    (warning,) = load(None, ENVIRON | {"AIVC_OPENSIPS_ENABLE": "true"}).warnings
    assert warning.endswith("ignored; did you mean AIVC_OPENSIPS_ENABLED?")
    (warning,) = load(None, ENVIRON | {"AIVC_OPENSIPS_IP": "192.0.2.1"}).warnings
    assert warning.endswith("ignored; did you mean MI_IP?")


def test_limits_that_only_the_user_agent_heeds_are_doubted(tmp_path: Path) -> None:
    for limit in ('numbers = ["100"]', 'allow = ["192.0.2.0/24"]'):
        (doubt,) = loaded(tmp_path, f"{ON}[sip]\nenabled = false\n{limit}\n").warnings
        assert doubt.startswith(f"sip.{limit.split()[0]}: has no effect without sip.enabled = true: OpenSIPS decides")
    (doubt,) = loaded(tmp_path, f'{ON}[sip]\nnumbers = ["100"]\n').warnings
    assert doubt == "sip.numbers: has no effect on calls from OpenSIPS: for them there is openai.match"
