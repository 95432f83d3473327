"""`aivc migrate`: what becomes of a configuration of the AI Voice Connector CE."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import tomli
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aivc.cli import main
from aivc.config.agents import choose
from aivc.config.catalogue import CATALOGUE
from aivc.config.loading import ConfigError, Loaded, load
from aivc.config.migration import Migration, migrated
from aivc.config.migration_keys import OPTIONS

KEY = {"OPENAI_API_KEY": "sk-test"}
OURS: dict[str, str | None] = dict.fromkeys([*(setting.variable for setting in CATALOGUE), "CONFIG_FILE"])

# section, key, variable and an example value, of the CE's documentation; and what we make of the value
DOCUMENTED: tuple[tuple[str, str, str, str, object], ...] = (
    ("engine", "event_ip", "EVENT_IP", "192.0.2.7", "192.0.2.7"),
    ("engine", "event_port", "EVENT_PORT", "6000", 6000),
    ("engine", "api_url", "API_URL", "https://example.com/bots", "https://example.com/bots"),
    ("opensips", "ip", "MI_IP", "192.0.2.8", "192.0.2.8"),
    ("opensips", "port", "MI_PORT", "9080", 9080),
    ("rtp", "min_port", "RTP_MIN_PORT", "40000", 40000),
    ("rtp", "max_port", "RTP_MAX_PORT", "50000", 50000),
    ("rtp", "bind_ip", "RTP_BIND_IP", "192.0.2.9", "192.0.2.9"),
    ("rtp", "ip", "RTP_IP", "203.0.113.9", "203.0.113.9"),
    ("openai", "key", "OPENAI_API_KEY", "sk-1", "sk-1"),
    ("openai", "openai_key", "OPENAI_API_KEY", "sk-2", "sk-2"),
    ("openai", "model", "OPENAI_API_MODEL", "gpt-realtime-mini", "gpt-realtime-mini"),
    ("openai", "disabled", "OPENAI_DISABLE", "Yes", True),
    ("openai", "voice", "OPENAI_VOICE", "echo", "echo"),
    ("openai", "openai_voice", "OPENAI_VOICE", "echo", "echo"),
    (
        "openai",
        "instructions",
        "OPENAI_INSTRUCTIONS",
        "Say \"hm'''\".\n  Be \\ brief: 100%%",
        "Say \"hm'''\".\nBe \\ brief: 100%",
    ),
    ("openai", "welcome_message", "OPENAI_WELCOME_MSG", "Hello", "Hello"),
    ("openai", "max_tokens", "OPENAI_MAX_TOKENS", "300", 300),
    ("openai", "turn_detection_type", "OPENAI_TURN_DETECT_TYPE", "semantic_vad", "semantic_vad"),
    ("openai", "turn_detection_silence_ms", "OPENAI_TURN_DETECT_SILENCE_MS", "500", 500),
    ("openai", "turn_detection_threshold", "OPENAI_TURN_DETECT_THRESHOLD", "0.7", 0.7),
    ("openai", "turn_detection_prefix_ms", "OPENAI_TURN_DETECT_PREFIX_MS", "250", 250),
    ("openai", "transfer_to", "OPENAI_TRANSFER_TO", "sip:desk@example.com", "sip:desk@example.com"),
    ("openai", "transfer_by", "OPENAI_TRANSFER_BY", '"Desk" <sip:d@example.com>', "sip:d@example.com"),
    ("openai", "tools", "OPENAI_TOOLS", "a.py,b.py", ["a.py", "b.py"]),
    ("openai", "url", "OPENAI_URL", "ws://192.0.2.1/v1/realtime", "ws://192.0.2.1/v1/realtime"),
)
OUR_NAMES = {"openai_key": "key", "disabled": "disable", "openai_voice": "voice"}


def of(*lines: str, **environ: str) -> Migration:
    return migrated("\n".join(lines).encode(), "old.ini", environ)


def tables(*lines: str) -> dict[str, Any]:
    return tomli.loads(of(*lines).toml)


def loaded(migration: Migration) -> Loaded:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.toml"
        file.write_text(migration.toml, encoding="utf-8")
        return load(str(file), KEY)


def note_of(migration: Migration, begin: str) -> str:
    """The notes that begin so, of which there is one at least."""
    found = [note for note in migration.notes if note.startswith(begin)]
    assert found, migration.notes
    return "\n".join(found)


# Every key


@pytest.mark.parametrize(("section", "key", "variable", "text", "expected"), DOCUMENTED)
def test_each_key_is_carried_over(section: str, key: str, variable: str, text: str, expected: object) -> None:
    name = OUR_NAMES.get(key, key)
    assert tables(f"[{section}]", f"{key} = {text}")[section][name] == expected
    assert variable in [setting.variable for setting in CATALOGUE if setting.path == f"{section}.{name}"]


def test_keys_that_no_documentation_names_are_not_made_up() -> None:
    documented = {(section, key) for section, key, *_ in DOCUMENTED} | {("openai", "temperature")}
    assert {(option.section, key) for option in OPTIONS for key in option.spellings} == documented


def test_an_empty_file_is_the_ce_with_its_defaults() -> None:
    migration = of("")
    new = loaded(migration).settings
    assert (new.opensips.enabled, new.opensips.ip, new.opensips.port) == (True, "127.0.0.1", 8080)
    assert (new.sip.enabled, new.rtp.nat, new.openai.match) == (False, "on", ())
    assert (new.openai.model, new.openai.turn_detection_prefix_ms) == ("gpt-realtime-2.1", 200)
    assert "openai.key: there is none: set OPENAI_API_KEY" in migration.notes


def test_defaults_of_all_sections_reach_those_that_know_them() -> None:
    new = tables("[DEFAULT]", "ip = 192.0.2.1", "voice = echo", "colour = red", "[rtp]", "ip = 192.0.2.2")
    assert (new["opensips"]["ip"], new["rtp"]["ip"], new["openai"]["voice"]) == ("192.0.2.1", "192.0.2.2", "echo")
    assert "[DEFAULT] colour: left out: the CE did not read it" in of("[DEFAULT]", "colour = red").notes


def test_the_same_file_gives_the_same_text() -> None:
    lines = ("[openai]", "match = 1", "tools = a.py", "[azure]", "key = k", "[deepgram]", "voice = v")
    assert of(*lines) == of(*lines)


# What has another meaning


@pytest.mark.parametrize(
    ("line", "name", "value", "said"),
    [
        ("model = gpt-4o-mini-realtime-preview", "model", "gpt-realtime-2.1-mini", "which OpenAI has shut down"),
        ("model = gpt-realtime", "model", "gpt-realtime", "2027-01-20"),
        ("url = wss://api.openai.com/v1/realtime?model=gpt-4o-realtime-preview", "model", "gpt-realtime-2.1", "shut"),
        ("temperature = 0.8", "temperature", None, "left out: today's interface (GA) has no temperature"),
        ("max_tokens = 300", "max_tokens", 300, "as text"),
        ("max_tokens = 9000", "max_tokens", None, "left out: 9000 is outside 1 to 4096"),
        ("disable = true", "disable", None, "the CE read only `disabled`"),
        ("disabled = maybe", "disable", None, "the CE took it for false"),
        ("disabled = 2", "disable", True, "every call is refused"),
        ("voice = 'echo'", "voice", "'echo'", "quotes"),
        ("voice = echo # nice", "voice", "echo # nice", "no comments behind a value"),
        ("instructions = Be 100% kind", "instructions", "Be 100% kind", "a % stands alone"),
        ("welcome_message = Hi {{caller}}", "welcome_message", "Hi {{caller}}", "{{caller}} is filled in"),
        ("tools = a.py, b.py", "tools", ["a.py", "b.py"], "docs/tools.md"),
        ("transfer_to = desk", "transfer_to", None, "is not a URI"),
        ("turn_detection_silence_ms = 2.5", "turn_detection_silence_ms", None, "not a whole number"),
        ("turn_detection_type = vad", "turn_detection_type", None, "none of"),
        ("volume = 11", "volume", None, "the CE did not read it"),
        ("key = sk-1", "key", "sk-1", "better leave it out"),
        ("url = ws://192.0.2.1/api", "url", "ws://192.0.2.1/api", "/realtime is added"),
        ("url = ws://192.0.2.1/api", "dialect", "beta", "what the CE spoke"),
    ],
)
def test_a_change_is_said_and_stands_above_its_key(line: str, name: str, value: object, said: str) -> None:
    migration = of("[openai]", line)
    assert said in note_of(migration, f"openai.{name}: ")
    assert tomli.loads(migration.toml)["openai"].get(name) == value
    lines = migration.toml.splitlines()
    [place] = [number for number, text in enumerate(lines) if text.startswith((f"{name} = ", f"#{name} = "))]
    assert lines[place - 1].startswith("# ")
    loaded_or_without_files(migration)


def loaded_or_without_files(migration: Migration) -> None:
    assert all(line.startswith("openai.tools: there is no file") for line in errors_of(migration))


def errors_of(migration: Migration) -> tuple[str, ...]:
    try:
        loaded(migration)
    except ConfigError as error:
        return error.errors
    return ()


def test_the_url_of_openai_leaves_the_model_to_its_key() -> None:
    new = tables("[openai]", "url = wss://api.openai.com/v1/realtime?model=gpt-4o-realtime-preview&x=1")
    assert new["openai"]["url"] == "wss://api.openai.com/v1/realtime?x=1"


def test_without_a_url_that_can_be_used_it_is_a_configuration_for_openai() -> None:
    migration = of("[openai]", "key = sk-abc", "url = wss://name:geheim@host/realtime", "temperature = 0.8")
    assert note_of(migration, "openai.url: left out: a name, password").endswith("calls go to OpenAI, with the key")
    openai = loaded(migration).settings.openai
    assert (openai.dialect, openai.model, openai.temperature) == ("ga", "gpt-realtime-2.1", None)
    assert loaded(migration).warnings == ()
    assert "geheim" not in migration.toml + of("[azure]", "llm_url = https://name:geheim@host/").toml


def test_another_server_keeps_its_temperature_and_gets_no_model_of_ours() -> None:
    new = tables("[openai]", "url = ws://192.0.2.1/v1/realtime", "temperature = 0.9")["openai"]
    assert (new["temperature"], new["dialect"], "model" in new) == (0.9, "beta", False)


def test_numbers_of_server_vad_are_left_out_with_another_turn_detection() -> None:
    migration = of("[openai]", "turn_detection_type = semantic_vad", "turn_detection_threshold = 0.4")
    assert [key for key in tomli.loads(migration.toml)["openai"] if key.startswith("turn_")] == ["turn_detection_type"]
    assert "has no effect" in note_of(migration, "openai.turn_detection_threshold: ")


def test_a_placeholder_is_the_key_as_it_was_and_a_text_with_spaces_is_none() -> None:
    assert tables("[openai]", "key = #TODO")["openai"]["key"] == "#TODO"
    migration = of("[openai]", "key = #TODO: your key")
    assert "key" not in tomli.loads(migration.toml)["openai"]
    assert "left out: has a space" in note_of(migration, "openai.key: ")


def test_no_note_and_no_comment_shows_a_secret() -> None:
    lines = ("key = sk xx1", "openai_key = sk-xx2", "api_token = t-xx3", "[azure]", "key = az-xx4")
    migration = of("[openai]", *lines, OPENAI_API_KEY="sk-xx5")
    for secret in ("xx1", "xx2", "xx3", "xx4", "xx5"):
        assert secret not in "\n".join(migration.notes)
        assert secret not in migration.toml


def test_the_second_spelling_of_a_key_is_told_of() -> None:
    assert "the CE read key instead" in note_of(of("[openai]", "openai_key = b", "key = a"), "openai.openai_key: ")


def test_ports_that_contradict_each_other_are_left_out() -> None:
    migration = of("[rtp]", "min_port = 50000", "max_port = 40000")
    assert set(tomli.loads(migration.toml)["rtp"]) == {"nat"}
    assert "50000 is not below rtp.max_port, 40000" in note_of(migration, "rtp.min_port: left out")
    assert loaded(migration).settings.rtp.max_port == 65000


# Which calls


def takes(migration: Migration, dialled: str) -> bool:
    return choose(loaded(migration).settings, dialled, "sip:a@example.com") is not None


def test_calls_find_openai_by_pattern_in_any_case_and_by_its_name() -> None:
    migration = of("[openai]", "match = store")
    assert [user for user in ("store", "STORE-2", "OpenAI", "restore", "openai2") if takes(migration, user)] == [
        "store",
        "STORE-2",
        "OpenAI",
    ]
    assert "they get 404" in note_of(migration, "openai.match: the CE gave calls that matched nothing")


def test_without_a_pattern_every_call_is_for_openai() -> None:
    migration = of("[openai]", "voice = echo", "[azure]", "match = 2")
    assert takes(migration, "2")
    assert "[openai] answers them all" in note_of(migration, "openai.match: ")
    assert 'users that begin with "2", are answered by [openai] now' in note_of(migration, "[azure]: ")


def test_alone_openai_had_every_call_whatever_its_pattern() -> None:
    others = ("[deepgram]", "disabled = 1", "[deepgram_native]", "disabled = on", "[azure]", "disabled = true")
    migration = of("[openai]", "match = store", *others)
    assert takes(migration, "100")
    assert "left out: with all other flavors disabled" in note_of(migration, "openai.match: ")


def test_a_flavor_may_be_disabled_by_a_variable() -> None:
    others = {"DEEPGRAM_DISABLE": "yes", "DEEPGRAM_NATIVE_DISABLE": "1", "AZURE_DISABLE": "true"}
    assert takes(of("[openai]", "key = sk-abc", "match = 1000", **others), "2000")
    assert not takes(of("[openai]", "key = sk-abc", "match = 1000", "[azure]", "disabled = no", **others), "2000")


def test_a_pattern_that_cannot_be_had_opens_nothing() -> None:
    migration = of("[openai]", "match = (?!9)[0-9]")
    assert [user for user in ("100", "openai") if takes(migration, user)] == ["openai"]
    assert "cannot be matched in linear time" in note_of(migration, "openai.match: ")


def test_lines_are_patterns() -> None:
    migration = of("[openai]", "match = 10", "  20$", "  Sales")
    assert [user for user in ("101", "20", "201", "sales") if takes(migration, user)] == ["101", "20", "sales"]
    said = note_of(migration, "openai.match: ")
    assert "each line is a pattern now" in said
    assert '"Sales" has capital letters' in said


def test_other_flavors_become_comments_that_say_why() -> None:
    migration = of("[deepgram]", "key = k", "language = en-US", "match = ^2", "[elsewhere]", "a b = c")
    assert set(tomli.loads(migration.toml)) == {"opensips", "rtp", "sip", "openai"}
    assert '\n# [deepgram]\n# key = (not shown)\n# language = "en-US"\n# match = "^2"\n' in migration.toml
    assert "OpenAI's Realtime API only" in note_of(migration, "[deepgram]: left out")
    assert "the CE did not read it either" in note_of(migration, "[elsewhere]: left out")


# The environment


def test_variables_that_win_over_another_value_of_the_file_are_named() -> None:
    lines = ("[openai]", "voice = echo", "disabled = no", "key = sk-1", "[opensips]", "port = 8080")
    migration = of(*lines, OPENAI_VOICE="cedar", OPENAI_DISABLE="0", MI_PORT="8080", OPENAI_MAX_TOKENS="5")
    assert [note.split(":")[0] for note in migration.notes if "is set here" in note] == ["OPENAI_VOICE"]
    assert not any(note.startswith("environment: ") for note in migration.notes)
    assert note_of(of(*lines, OPENAI_DISABLE="1"), "OPENAI_DISABLE: is set here, and wins over openai.disable")


def test_it_is_said_when_no_variable_differs_and_when_the_file_is_still_the_old_one() -> None:
    assert note_of(of(""), "environment: variables win over the file")
    assert note_of(of("", CONFIG_FILE="/etc/old.ini"), 'CONFIG_FILE: names "/etc/old.ini"')
    assert not any(note.startswith("CONFIG_FILE") for note in of("", CONFIG_FILE="new.toml").notes)


# Whatever comes

SPELLINGS = [(section, key) for section, key, *_ in DOCUMENTED] + [("openai", "temperature"), ("openai", "match")]
GOOD = {(section, key): text for section, key, _, text, _ in DOCUMENTED}
LINES = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=40)
ANY_TEXT = (
    LINES | st.lists(LINES, max_size=4).map("\n ".join) | st.sampled_from(("0", "70000", "1e99", "nan", "%", "''"))
)
FILES = st.dictionaries(st.sampled_from(SPELLINGS), st.none() | ANY_TEXT, max_size=8)


def written_as_ini(chosen: dict[tuple[str, str], str | None], flavor: str) -> str:
    sections: dict[str, list[str]] = {flavor: ["match = 1"]}
    for (section, key), text in chosen.items():
        text = GOOD.get((section, key), "1") if text is None else text
        sections.setdefault(section, []).append(f"{key} = {text}")
    return "\n".join(line for section, keys in sections.items() for line in (f"[{section}]", *keys))


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(FILES, st.sampled_from(("deepgram", "azure", "a]b", "\x01\u2028")))
@example({("openai", "instructions"): "a\n ''' \"\"\"\\\n 'b'"}, "azure")
@example({("openai", "key"): "\x7f", ("openai", "tools"): "\x00"}, "azure")
@example({("rtp", "min_port"): "64999", ("rtp", "max_port"): "65000"}, "azure")
@pytest.mark.filterwarnings("ignore:Possible:FutureWarning")
def test_any_file_of_known_keys_becomes_one_that_loads(chosen: dict[tuple[str, str], str | None], flavor: str) -> None:
    migration = of(written_as_ini(chosen, flavor))
    assert all(note.isprintable() for note in migration.notes)
    loaded_or_without_files(migration)
    new = tomli.loads(migration.toml)
    for section, key in chosen:
        name = OUR_NAMES.get(key, key)
        told = any(note.startswith((f"{section}.{name}: ", f"{section}.{key}: ")) for note in migration.notes)
        assert name in new.get(section, {}) or told


# The command


def invoke(*arguments: str, text: bytes = b"", **environ: str) -> Result:
    return CliRunner().invoke(main, ["migrate", *arguments], input=text, env={**OURS, **environ})


def test_the_command_writes_what_check_accepts(tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text("FUNCTIONS = []\n")
    old, new = tmp_path / "old.ini", tmp_path / "new.toml"
    old.write_text(
        "[openai]\nkey = #TODO: put yours here\nwelcome_message = Grüß Gott\ntools = functions.py\n", "utf-8"
    )
    result = invoke(str(old))
    assert result.exit_code == 0
    new.write_bytes(result.stdout_bytes)
    assert all(": " in line for line in result.stderr.splitlines())
    checked = CliRunner().invoke(main, ["check", "--config", str(new)], env={**OURS, **KEY})
    assert (checked.exit_code, checked.stderr) == (0, "")
    assert "Grüß Gott" in checked.stdout


def test_a_dash_is_standard_input() -> None:
    result = invoke("-", text=b"[openai]\nvoice = echo\n", OPENAI_VOICE="cedar")
    assert (result.exit_code, tomli.loads(result.stdout)["openai"]["voice"]) == (0, "echo")
    assert "OPENAI_VOICE: is set here" in result.stderr


def test_what_cannot_be_read_is_one_line_and_status_2(tmp_path: Path) -> None:
    missing = invoke(str(tmp_path / "none.ini"))
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert missing.stderr == f"{tmp_path}/none.ini: cannot be read: No such file or directory\n"
    assert "Is a directory" in invoke(str(tmp_path)).stderr
    wrong = invoke("-", text=b"[a]\nnothing\n")
    assert (wrong.exit_code, wrong.stderr) == (2, "standard input:2: is neither `key = value` nor a [section]\n")
