"""Every setting, one by one: readable from TOML and from the environment, and bounded."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_origin

import attrs
import pytest

from aivc.config.catalogue import CATALOGUE, SECTIONS, SPECIAL, Setting, fields_of, record_class
from aivc.config.loading import ConfigError, Loaded, load
from aivc.config.metadata import KEY
from aivc.config.settings import HttpTool, McpServer, Secret, Settings, SipRegister, SipUser
from aivc.config.spelling import as_toml
from aivc.config.values import from_text, read

PASSWORDS = {name: f"of {name}" for name in ("TRUNK_PASSWORD", "PBX_PASSWORD")}  # variables that hold one

each_setting = pytest.mark.parametrize("setting", CATALOGUE, ids=lambda setting: setting.path)

# A valid value of each setting that is not its default, as TOML has it. Paths of files are given by the fixture.
OTHER: dict[str, object] = {
    "openai.key": "sk-other",
    "realtime.append_ms": 40,
    "realtime.prewarm": 2,
    "service.workers": 2,
    "admin.listen": "127.0.0.1:9464",
    "rtp.cushion_ms": 40,
    "openai.model": "gpt-realtime-2.1-mini",
    "openai.disable": True,
    "openai.voice": "cedar",
    "openai.instructions": "Be brief, and kind.",
    "openai.welcome_message": "Grüß Gott!",
    "openai.temperature": 0.7,
    "openai.max_tokens": 300,
    "openai.turn_detection_type": "semantic_vad",
    "openai.turn_detection_silence_ms": 650,
    "openai.turn_detection_threshold": 0.25,
    "openai.turn_detection_prefix_ms": 0,
    "openai.transfer_to": "sip:desk@example.com",
    "openai.transfer_by": "tel:+15551234567",
    "openai.reconnect": False,
    "openai.turn_detection_eagerness": "low",
    "openai.turn_detection_create_response": False,
    "openai.turn_detection_interrupt_response": False,
    "openai.noise_reduction": "near_field",
    "openai.transcription_model": "gpt-transcribe",
    "openai.transcription_language": "de",
    "openai.transcription_prompt": "Müller",
    "openai.tool_choice": "opening_hours",
    "openai.extra_session": {"audio": {"input": {"turn_detection": {"x": [1, 2.5, "z"]}}}, "tracing": "auto"},
    "openai.welcome_interruptible": False,
    "openai.interruption": "confirm",
    "openai.confirm_ms": 400,
    "openai.idle_timeout_ms": 8000,
    "openai.idle_prompts": 3,
    "openai.idle_message": "Ask whether anybody is there.",
    "openai.farewell_message": "Say goodbye.",
    "openai.disabled_tools": ["send_digits"],
    "openai.tool_descriptions": {"terminate_call": "Hang up."},
    "openai.filler_after_ms": 1500,
    "openai.filler": "sound",
    "openai.filler_message": "Say: just a second.",
    "openai.transfer_targets": {"sales": "sip:sales@example.com", "desk-2": "tel:+4930123"},
    "openai.transfer_allow": ["[+]49[0-9]*", "sip:.*@example[.]com"],
    "openai.transfer_attended": True,
    "openai.transfer_announcement": "Say who calls.",
    "openai.prices": {"input_audio": 32.0, "output_text": 16.5},
    "openai.match": ["1[0-9]{3}", "desk"],
    "openai.match_from": ["[+]49.*"],
    "openai.url": "ws://127.0.0.1:8765/v1/realtime",
    "openai.dialect": "beta",
    "sip.enabled": False,
    "sip.listen": ["udp:127.0.0.1:5070", "udp:[::1]:5070"],
    "sip.external_ip": "203.0.113.9",
    "sip.numbers": ["100", "101"],
    "sip.max_connections": 10,
    "sip.allow": ["192.0.2.0/24", "2001:db8::/32"],
    "sip.trusted": ["198.51.100.7"],
    "sip.unwanted": "403",
    "sip.users": [{"name": "trunk", "password": "TRUNK_PASSWORD"}],
    "sip.realm": "example.com",
    "sip.digest": "MD5",
    "sip.register": [{"user": "200", "server": "pbx.example.com:5080", "transport": "tcp"}],
    "sip.session_expires_seconds": 600,
    "sip.min_se_seconds": 120,
    "sip.reliable_provisional": "required",
    "sip.follow_refer": ["sip:[0-9]{3}@example[.]com"],
    "sip.pass_headers": ["X-Customer"],
    "sip.refer_headers": {"X-Reason": "agent"},
    "sip.bye_headers": {"X-Reason": "agent"},
    "opensips.enabled": True,
    "opensips.ip": "localhost",
    "opensips.port": 8888,
    "opensips.socket": "/run/opensips/mi.sock",
    "opensips.subscription_seconds": 60,
    "opensips.event_sources": ["192.0.2.0/28", "198.51.100.7"],
    "opensips.instance": "aivc-1",
    "opensips.session_seconds": 7200,
    "opensips.end_orphans": False,
    "rtp.min_port": 30000,
    "rtp.max_port": 50001,
    "rtp.bind_ip": "127.0.0.1",
    "rtp.ip": "203.0.113.9",
    "rtp.nat": "off",
    "rtp.bind_ipv6": "::1",
    "rtp.ipv6": "2001:db8::9",
    "rtp.reorder_ms": 0,
    "rtp.hold": "nothing",
    "rtp.rtcp": False,
    "rtp.srtp": "required",
    "service.max_calls": 7,
    "service.retry_after_seconds": 3,
    "log.level": "debug",
    "log.format": "json",
    "dtmf.enabled": False,
    "dtmf.finish": "*#",
    "dtmf.tone_ms": 100,
    "dtmf.gap_ms": 50,
    "tools.http": [{"name": "hours", "description": "When?", "url": "https://example.com/hours"}],
    "tools.mcp": [{"server_label": "wiki", "server_url": "https://example.com/mcp", "allowed_tools": ["search"]}],
    "engine.event_ip": "0.0.0.0",
    "engine.event_port": 40001,
    "engine.api_url": "https://example.com/bots",
    "engine.api_failure": "refuse",
    "records.directory": "calls",
    "records.transcripts": False,
    "recorder.mode": "always",
    "recorder.directory": "flights",
    "recorder.audio": "keep",
    "recorder.mask": ["numbers"],
    "recorder.max_call_kib": 4096,
    "recorder.max_files": 10,
    "recorder.max_disk_mib": 100,
}


@pytest.fixture
def tool_files(tmp_path: Path) -> list[str]:
    files = [tmp_path / "first.file", tmp_path / "second.file"]
    for file in files:
        file.write_text("")
    return [str(file) for file in files]


def other_value(setting: Setting, tool_files: list[str]) -> object:
    if setting.about.file:
        return tool_files if get_origin(setting.kind) is tuple else tool_files[0]
    if setting.path in OTHER:
        return OTHER[setting.path]
    assert setting.kind is float, f"{setting.path} needs a line in OTHER"
    return setting.default + 0.5


def as_variable(value: object) -> str:
    return value if isinstance(value, str) else as_toml(value)


def effective(loaded: Loaded, setting: Setting) -> object:
    value = getattr(getattr(loaded.settings, setting.section), setting.name)
    if isinstance(value, Secret):
        return value.reveal()
    if record_class(setting.kind) is not None:
        records = [{name: item for name, item in plain(record).items() if item} for record in value]
        return [{name: named(item) for name, item in record.items()} for record in records]
    return list(value) if isinstance(value, tuple) else value


def named(item: object) -> object:
    """A password by the name of its variable, as it was given."""
    return item.reveal().removeprefix("of ") if isinstance(item, Secret) else item


def plain(record: HttpTool | McpServer | SipRegister | SipUser) -> dict[str, object]:
    """What was given for it: the other values are defaults."""
    usual = {key.name: key.default for key in fields_of(type(record), "")}
    given = {name: value for name, value in attrs.asdict(record).items() if value != usual[name]}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def needed(setting: Setting, tool_files: list[str]) -> dict[str, str]:
    """Variables without which its other value contradicts the rest."""
    others = {
        "openai.filler": {"AIVC_SOUNDS_HOLD": tool_files[0]},
        "sip.enabled": {"AIVC_OPENSIPS_ENABLED": "true"},
        "recorder.mode": {"AIVC_RECORDER_DIRECTORY": "flights"},
    }
    return others.get(setting.path, {})


@each_setting
def test_a_setting_is_read_from_toml(setting: Setting, tmp_path: Path, tool_files: list[str]) -> None:
    value = other_value(setting, tool_files)
    file = tmp_path / "config.toml"
    file.write_text(f"[{setting.section}]\n{setting.name} = {as_toml(value)}\n")
    others = needed(setting, tool_files)
    loaded = load(str(file), {"CONFIG_FILE": "not read"} | PASSWORDS | others, simulator=True)
    assert effective(loaded, setting) == value != setting.default
    assert loaded.sources[setting.path] == "file"
    sources = [source for path, source in loaded.sources.items() if path != setting.path]
    assert len([source for source in sources if source != "default"]) == len(others)


@each_setting
def test_a_setting_is_read_from_the_environment(setting: Setting, tool_files: list[str]) -> None:
    value = other_value(setting, tool_files)
    given = {setting.variable: as_variable(value)} | PASSWORDS | needed(setting, tool_files)
    loaded = load(None, given, simulator=True)
    assert effective(loaded, setting) == value
    assert loaded.sources[setting.path] == f"environment {setting.variable}"
    assert not any(setting.variable in warning and "unknown" in warning for warning in loaded.warnings)


bounded = [setting for setting in CATALOGUE if setting.about.low is not None and setting.path != "openai.prices"]


@pytest.mark.parametrize("setting", bounded, ids=lambda setting: setting.path)
def test_a_value_outside_the_range_is_refused_by_its_path(setting: Setting, tmp_path: Path) -> None:
    low, high = setting.about.low, setting.about.high
    assert low is not None
    file = tmp_path / "config.toml"
    for value in [low - 1] + ([high + 1] if high is not None else []):
        raw = float(value) if float in (setting.kind, *get_args(setting.kind)) else int(value)
        file.write_text(f"[{setting.section}]\n{setting.name} = {raw}\n")
        with pytest.raises(ConfigError) as refused:
            load(str(file), {}, simulator=True)
        says = f"{setting.path}: {raw} is {'outside' if high is not None else 'less than'} {low:g}"
        assert refused.value.errors[0].startswith(says)


@pytest.mark.parametrize("setting", bounded, ids=lambda setting: setting.path)
def test_the_ends_of_the_range_are_allowed(setting: Setting) -> None:
    for value in (setting.about.low, setting.about.high):
        if value is not None:
            assert read(setting, from_text(setting.kind, f"{value:g}"), {}) == value


@pytest.mark.parametrize("setting", [s for s in CATALOGUE if s.kind is float], ids=lambda setting: setting.path)
@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
def test_no_duration_is_infinite_or_not_a_number(setting: Setting, text: str) -> None:
    with pytest.raises(ConfigError, match="is outside"):
        load(None, {setting.variable: text}, simulator=True)


@each_setting
def test_a_setting_of_the_wrong_type_is_refused_not_coerced(setting: Setting, tmp_path: Path) -> None:
    wrong = '"true"' if setting.kind is bool else "true"
    file = tmp_path / "config.toml"
    file.write_text(f"[{setting.section}]\n{setting.name} = {wrong}\n")
    with pytest.raises(ConfigError) as refused:
        load(str(file), {}, simulator=True)
    assert refused.value.errors[0].startswith(f"{setting.path}: expected ")


def test_the_fixed_names_stay() -> None:
    by_path = {setting.path: setting for setting in CATALOGUE}
    named = {setting.path: setting.variable for setting in CATALOGUE if not setting.variable.startswith("AIVC_")}
    assert named == {
        "openai.key": "OPENAI_API_KEY",
        "openai.model": "OPENAI_API_MODEL",
        "openai.disable": "OPENAI_DISABLE",
        "openai.voice": "OPENAI_VOICE",
        "openai.instructions": "OPENAI_INSTRUCTIONS",
        "openai.welcome_message": "OPENAI_WELCOME_MSG",
        "openai.temperature": "OPENAI_TEMPERATURE",
        "openai.max_tokens": "OPENAI_MAX_TOKENS",
        "openai.turn_detection_type": "OPENAI_TURN_DETECT_TYPE",
        "openai.turn_detection_silence_ms": "OPENAI_TURN_DETECT_SILENCE_MS",
        "openai.turn_detection_threshold": "OPENAI_TURN_DETECT_THRESHOLD",
        "openai.turn_detection_prefix_ms": "OPENAI_TURN_DETECT_PREFIX_MS",
        "openai.transfer_to": "OPENAI_TRANSFER_TO",
        "openai.transfer_by": "OPENAI_TRANSFER_BY",
        "openai.tools": "OPENAI_TOOLS",
        "openai.url": "OPENAI_URL",
        "openai.dialect": "OPENAI_DIALECT",
        "opensips.ip": "MI_IP",
        "opensips.port": "MI_PORT",
        "engine.event_ip": "EVENT_IP",
        "engine.event_port": "EVENT_PORT",
        "engine.api_url": "API_URL",
        "rtp.min_port": "RTP_MIN_PORT",
        "rtp.max_port": "RTP_MAX_PORT",
        "rtp.bind_ip": "RTP_BIND_IP",
        "rtp.ip": "RTP_IP",
    }
    assert by_path["sip.listen"].variable == "AIVC_SIP_LISTEN"
    assert by_path["service.max_calls"].variable == "AIVC_SERVICE_MAX_CALLS"
    assert by_path["openai.key"].about.alias == "openai_key"


def test_no_two_settings_share_a_variable() -> None:
    assert len({setting.variable for setting in CATALOGUE}) == len(CATALOGUE)


def test_every_field_of_every_section_is_in_the_catalogue() -> None:
    fields = [(section, field) for section, cls in SECTIONS.items() for field in attrs.fields(cls)]
    assert [f"{section}.{field.name}" for section, field in fields] == [setting.path for setting in CATALOGUE]
    assert all(KEY in field.metadata for _, field in fields)
    assert [*SECTIONS, *SPECIAL] == [field.name for field in attrs.fields(Settings)]


def test_a_secret_does_not_print_itself() -> None:
    secret = Secret("sk-very-secret")
    assert "very" not in f"{secret} {secret!r} {[secret]} {Settings(openai=Settings().openai)}"
    assert secret.reveal() == "sk-very-secret"
    assert secret == Secret("sk-very-secret") != Secret("sk-other")
    assert len({secret, Secret("sk-very-secret")}) == 1
