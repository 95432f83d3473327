"""What `[sip]` and `[rtp]` may say: addresses, certificates, networks, registrations; what contradicts, what is odd."""

from __future__ import annotations

from pathlib import Path

import pytest

from aivc.config.loading import ConfigError, Loaded, load

ENVIRON = {"OPENAI_API_KEY": "sk-test-1234567890", "OPENAI_API_MODEL": "gpt-realtime-2.1", "PASSWORD": "x"}
REGISTER = '[[sip.register]]\nuser = "200"\nserver = "pbx.example.com"\n'


def loaded(folder: Path, lines: str) -> Loaded:
    (folder / "cert.pem").write_text("")
    file = folder / "aivc.toml"
    file.write_text(lines)
    return load(str(file), ENVIRON)


def errors_of(folder: Path, lines: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, lines)
    return caught.value.errors


# Values


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ('[rtp]\nbind_ip = "::"', 'rtp.bind_ip: "::" is IPv6, and this is the place for an IPv4 address'),
        ('[rtp]\nip = "2001:db8::1"', 'rtp.ip: "2001:db8::1" is IPv6, and this is the place for an IPv4 address'),
        ('[rtp]\nipv6 = "192.0.2.1"', 'rtp.ipv6: "192.0.2.1" is IPv4, and this is the place for an IPv6 address'),
        ('[rtp]\nipv6 = "fe80::1%eth0"', 'rtp.ipv6: "fe80::1%eth0" has a zone, which means nothing to anybody else'),
        ('[rtp]\nipv6 = "::"', 'rtp.ipv6: "::" cannot be advertised: nobody can send to it'),
        ('[sip]\nallow = ["192.0.2.1/24"]', 'sip.allow: "192.0.2.1/24" is not a network like 192.0.2.0/24'),
        ('[sip]\ntrusted = ["trunk.example.com"]', 'sip.trusted: "trunk.example.com" is not a network'),
        ('[sip]\npass_headers = ["Via"]', "sip.pass_headers: Via belongs to the protocol and cannot be used here"),
        ('[sip]\nrefer_headers = { "X-A" = "a\\r\\nb" }', "sip.refer_headers.X-A: "),
        ('[sip]\nbye_headers = { "X A" = "a" }', 'sip.bye_headers: "X A" is not the name of a header field'),
        ('[sip]\nfollow_refer = ["("]', "sip.follow_refer: "),
        ('[sip]\nfollow_refer = ["(?!x)y"]', 'sip.follow_refer: "(?!x)y" is not a regular expression: '),
        ('[[sip.register]]\nuser = "2 0"\nserver = "pbx"', 'sip.register[0].user: "2 0" has a character'),
        ('[[sip.register]]\nuser = "200"\nserver = "pbx:0"', 'sip.register[0].server: "pbx:0" has port 0'),
        ('[[sip.register]]\nuser = "200"\nserver = "[::1"', "sip.register[0].server: "),
        ('[[sip.register]]\nuser = "200"', "sip.register[0].server: missing"),
        ('[[sip.users]]\nname = "a"\npassword = "NOWHERE"', "sip.users[0].password: the environment variable NOWHERE"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(tmp_path: Path, lines: str, error: str) -> None:
    (found,) = errors_of(tmp_path, lines)
    assert found.startswith(error)


def test_a_user_may_be_registered_at_two_servers_but_not_twice_at_one(tmp_path: Path) -> None:
    settings = loaded(tmp_path, REGISTER + REGISTER.replace("pbx", "trunk")).settings
    assert [register.server for register in settings.sip.register] == ["pbx.example.com", "trunk.example.com"]
    (error,) = errors_of(tmp_path, REGISTER + REGISTER)
    assert error == 'sip.register[1].user: "200 at pbx.example.com" is the name of [0], too'


def test_two_users_may_not_have_one_name(tmp_path: Path) -> None:
    user = '[[sip.users]]\nname = "trunk"\npassword = "PASSWORD"\n'
    assert errors_of(tmp_path, user + user) == ('sip.users[1].name: "trunk" is the name of [0], too',)


# Contradictions


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ('listen = ["tls:0.0.0.0:5061"]', "sip.tls_certificate: missing: tls: in sip.listen needs a certificate"),
        ('listen = ["udp:192.0.2.1:5060", "udp:192.0.2.1:5060"]', "sip.listen: udp:192.0.2.1:5060 is there twice"),
        (
            'listen = ["udp:0.0.0.0:5060", "udp:192.0.2.1:5060"]',
            "sip.listen: udp:0.0.0.0:5060 and udp:192.0.2.1:5060 would be the same address",
        ),
        (
            'listen = ["udp:[2001:db8::1]:5060", "udp:[2001:DB8:0::1]:5060"]',
            "sip.listen: udp:[2001:db8::1]:5060 and udp:[2001:DB8:0::1]:5060 would be the same address",
        ),
        (
            'listen = ["udp:[0::0]:5060", "udp:[2001:db8::1]:5060"]',
            "sip.listen: udp:[0::0]:5060 and udp:[2001:db8::1]:5060 would be the same address",
        ),
        (
            "bye_headers = { " + ", ".join(f'X-{number} = "a"' for number in range(17)) + " }",
            "sip.bye_headers: more than 16 header fields",
        ),
        (
            'tls_certificate = "cert.pem"\nlisten = ["tcp:192.0.2.1:5060", "tls:192.0.2.1:5060"]',
            "sip.listen: tcp:192.0.2.1:5060 and tls:192.0.2.1:5060 would be the same address",
        ),
        (
            "session_expires_seconds = 100\nmin_se_seconds = 120",
            "sip.session_expires_seconds: 100 is less than sip.min_se_seconds, 120",
        ),
        (
            f'listen = ["tcp:0.0.0.0:5060"]\n{REGISTER}',
            "sip.register: [0].transport: there is no udp: in sip.listen that it could be sent from",
        ),
    ],
)
def test_settings_that_cannot_work_together_are_refused(tmp_path: Path, lines: str, error: str) -> None:
    assert errors_of(tmp_path, f"[sip]\n{lines}") == (error,)


@pytest.mark.parametrize(
    "lines",
    [
        'listen = ["udp:0.0.0.0:5060", "tcp:0.0.0.0:5060", "udp:[::]:5060", "udp:192.0.2.1:5070"]',
        'listen = ["udp:127.0.0.1:0", "udp:127.0.0.1:0"]',
        'tls_certificate = "cert.pem"\nlisten = ["tls:0.0.0.0:5061"]',
        "session_expires_seconds = 0\nmin_se_seconds = 1800",
        f'listen = ["tcp:0.0.0.0:5060"]\n{REGISTER}transport = "tls"',
        'external_ip = "2001:db8::1"\nlisten = ["udp:[::]:5060"]',
        'enabled = false\nlisten = ["tls:0.0.0.0:5061"]\n[opensips]\nenabled = true\n',
    ],
)
def test_these_can(tmp_path: Path, lines: str) -> None:
    loaded(tmp_path, f"[sip]\n{lines}")


# Doubts


@pytest.mark.parametrize(
    ("lines", "doubt"),
    [
        ('[rtp]\nsrtp = "optional"', "rtp.srtp: the keys can be read on their way: there is no tls: in sip.listen"),
        ("[rtp]\nrtcp = false\nhold_timeout_seconds = 60", "rtp.hold_timeout_seconds: with rtp.rtcp = false nothing"),
        ("[rtp]\nrtcp = false\nrtcp_seconds = 9", "rtp.rtcp_seconds: has no effect with rtp.rtcp = false"),
        ('[sip]\ntrusted = ["0.0.0.0/0"]', "sip.trusted: 0.0.0.0/0: everybody is trusted"),
        (
            '[sip]\ntrusted = ["192.0.2.0/24"]\nallow = ["192.0.2.128/25", "203.0.113.7"]',
            "sip.allow: 192.0.2.128/25 lies in 192.0.2.0/24 of sip.trusted, which is served anyway",
        ),
        ("[sip]\nrequests_per_second = 0", "sip.requests_per_second: 0: whoever floods"),
        ('[sip]\nexternal_ip = "2001:db8::1"', "sip.external_ip: has no effect: no address of sip.listen is IPv6"),
        (
            '[sip]\nlisten = ["udp:[::]:5060"]\nexternal_ip = "203.0.113.1"',
            "sip.external_ip: has no effect: no address of sip.listen is IPv4",
        ),
        ('[sip]\nrealm = "example.com"', "sip.realm: has no effect without sip.users"),
        ('[sip]\ntls_certificate = "cert.pem"', "sip.tls_certificate: has no effect without tls: in sip.listen"),
        (f'[sip]\nnumbers = ["100"]\n{REGISTER}', "sip.register[0].user: calls for 200 get 404: it is not in sip.num"),
        ('[openai]\ninstructions = "Call {{caller}} {{name}}."', "openai.instructions: {{name}} stays as it is: known"),
        (
            '[openai]\nwelcome_message = "Hi {{header.X-Name}}."',
            "openai.welcome_message: {{header.X-Name}} stays as it is: sip.pass_headers has no X-Name",
        ),
        (
            '[openai]\ninstructions = "{{ header.X Name }}"',
            "openai.instructions: {{ header.X Name }} stays as it is: sip.pass_headers has no X Name",
        ),
        (
            '[openai]\ninstructions = "{{header:X-Name}}"',
            "openai.instructions: {{header:X-Name}} stays as it is: known",
        ),
        (
            '[openai]\ninstructions = "For {Caller}."',
            "openai.instructions: {Caller} stays as it is: a place has two braces, {{Caller}}",
        ),
        ("[rtp]\nhold_timeout_seconds = 8", "rtp.hold_timeout_seconds: 8: telephones report every 5 s or so"),
    ],
)
def test_what_works_otherwise_than_one_may_think_is_told(tmp_path: Path, lines: str, doubt: str) -> None:
    (warning,) = loaded(tmp_path, lines).warnings
    assert warning.startswith(doubt)


@pytest.mark.parametrize(
    "lines",
    [
        '[rtp]\nsrtp = "optional"\n[sip]\ntls_certificate = "cert.pem"\nlisten = ["tls:0.0.0.0:5061"]',
        f'[rtp]\nsrtp = "required"\n{REGISTER}transport = "tls"',
        '[sip]\nrequests_per_second = 0\nallow = ["192.0.2.0/24"]\ntrusted = ["2001:db8::/32", "192.0.2.1"]',
        f'[sip]\nnumbers = ["200"]\n{REGISTER}',
        f'[sip]\nnumbers = ["100"]\n{REGISTER}expires_seconds = 0',
        '[sip]\npass_headers = ["X-Name"]\n[openai]\ninstructions = "{{caller}} {{ dialled }} {{header.x-name}} {a}"',
        "[rtp]\nhold_timeout_seconds = 15",
        '[agents.sales]\nvoice = "cedar"\nmatch = ["2.*"]\n[openai]\ninstructions = "{{caller}}"',
    ],
)
def test_what_is_as_it_seems_is_not_doubted(tmp_path: Path, lines: str) -> None:
    assert loaded(tmp_path, lines).warnings == ()


def test_a_strange_place_that_an_agent_has_from_openai_is_told_once(tmp_path: Path) -> None:
    lines = '[openai]\ninstructions = "{{x}}"\n[agents.sales]\nmatch = ["2.*"]\nwelcome_message = "{{y}}"\n'
    warnings = loaded(tmp_path, lines).warnings
    assert [warning.partition(" stays")[0] for warning in warnings] == [
        "openai.instructions: {{x}}",
        "agents.sales.welcome_message: {{y}}",
    ]
