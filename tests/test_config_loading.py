"""Layers, errors all at once, warnings: what `aivc.config.loading.load` gives and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.config.effective import effective_table
from aivc.config.loading import ConfigError, Loaded, load
from aivc.config.settings import Secret, Settings

KEY = {"OPENAI_API_KEY": "sk-test-1234567890"}


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return str(file)


def errors_of(path: str | None, environ: dict[str, str], *, simulator: bool = False) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        load(path, environ, simulator=simulator)
    return refused.value.errors


# Layers


def test_without_file_and_environment_only_the_key_is_missing() -> None:
    (error,) = errors_of(None, {})
    assert error.startswith("openai.key: missing")
    assert "OPENAI_API_KEY" in error


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, '[openai]\nvoice = "cedar"\n[service]\nmax_calls = 3\n')
    loaded = load(file, KEY | {"AIVC_SERVICE_MAX_CALLS": "4"})
    assert (loaded.settings.openai.voice, loaded.settings.service.max_calls) == ("cedar", 4)
    assert loaded.settings.rtp == Settings().rtp
    assert loaded.sources["openai.voice"] == "file"
    assert loaded.sources["service.max_calls"] == "environment AIVC_SERVICE_MAX_CALLS"
    assert loaded.sources["rtp.min_port"] == "default"


def test_config_file_names_the_file_unless_the_caller_does(tmp_path: Path) -> None:
    named = written(tmp_path, "[service]\nmax_calls = 5\n")
    other = tmp_path / "other.toml"
    other.write_text("[service]\nmax_calls = 6\n")
    assert load(None, KEY | {"CONFIG_FILE": named}).settings.service.max_calls == 5
    assert load(str(other), KEY | {"CONFIG_FILE": named}).settings.service.max_calls == 6


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    loaded = load(None, KEY | {"CONFIG_FILE": "", "OPENAI_VOICE": "", "OPENAI_DISABLE": ""})
    assert loaded.settings.openai.voice == "alloy"
    assert loaded.sources["openai.voice"] == "default"


def test_a_file_that_is_overridden_must_still_be_right(tmp_path: Path) -> None:
    file = written(tmp_path, "[service]\nmax_calls = 0\n")
    assert len(errors_of(file, KEY | {"AIVC_SERVICE_MAX_CALLS": "4"})) == 1


# The environment's text


@pytest.mark.parametrize(
    ("text", "value"),
    [(word, True) for word in ("true", "YES", "on", "1")] + [(word, False) for word in ("false", "No", "off", "0")],
)
def test_a_boolean_variable_is_read_in_the_usual_words(text: str, value: bool) -> None:
    assert load(None, KEY | {"OPENAI_DISABLE": text}).settings.openai.disable is value


def test_a_boolean_variable_in_other_words_is_refused() -> None:
    assert errors_of(None, KEY | {"AIVC_SIP_ENABLED": "maybe"}) == (
        'sip.enabled (AIVC_SIP_ENABLED): expected true or false, got text "maybe"',
    )


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("100", ("100",)), ("100, 101", ("100", "101")), ('["100", "1,2"]', ("100", "1,2")), ("[ ]", ())],
)
def test_a_list_variable_is_separated_by_commas_or_a_toml_array(text: str, numbers: tuple[str, ...]) -> None:
    assert load(None, KEY | {"AIVC_SIP_NUMBERS": text}).settings.sip.numbers == numbers


@pytest.mark.parametrize("text", ["[", '["a"', "[1]", '["a"] x', "a,,b", "[[]]", '["a"]\nother = 1'])
def test_a_list_variable_that_is_no_list_is_refused_by_its_name(text: str) -> None:
    (error,) = errors_of(None, KEY | {"AIVC_SIP_NUMBERS": text})
    assert error.startswith("sip.numbers (AIVC_SIP_NUMBERS): ")


def test_max_tokens_is_a_number_or_inf_in_both_spellings(tmp_path: Path) -> None:
    assert load(None, KEY | {"OPENAI_MAX_TOKENS": "17"}).settings.openai.max_tokens == 17
    assert load(None, KEY | {"OPENAI_MAX_TOKENS": "inf"}).settings.openai.max_tokens == "inf"
    assert load(written(tmp_path, '[openai]\nmax_tokens = "inf"\n'), KEY).settings.openai.max_tokens == "inf"
    for raw, got in (("inf", "a number inf"), ('"17"', 'text "17"'), ("1.5", "a number 1.5")):
        file = written(tmp_path, f"[openai]\nmax_tokens = {raw}\n")
        assert errors_of(file, KEY) == (f'openai.max_tokens: expected an integer or "inf", got {got}',)


# Unknown names


def test_an_unknown_variable_of_ours_is_warned_about_with_the_nearest_known_one() -> None:
    environ = {
        "AIVC_SIP_LISTN": "x",
        "AIVC_OPENAI_KEY": "x",
        "AIVC_XYZZY": "x",
        "SIP_LISTEN": "x",
        "AIVC_TEST_DATA": "x",
    }
    assert load(None, KEY | {"OPENAI_API_MODEL": "gpt-realtime-2.1"} | environ).warnings == (
        "AIVC_OPENAI_KEY: unknown environment variable, ignored; did you mean OPENAI_API_KEY?",
        "AIVC_SIP_LISTN: unknown environment variable, ignored; did you mean AIVC_SIP_LISTEN?",
        "AIVC_XYZZY: unknown environment variable, ignored",
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[openai]\nvoise = 1\n", "openai.voise: unknown key; did you mean voice?"),
        ("[openai]\nmin_port = 1\n", "openai.min_port: unknown key; min_port belongs in [rtp]"),
        ("[openai]\nxyzzy = 1\n", "openai.xyzzy: unknown key"),
        ("[opnai]\nvoice = 'a'\n", "opnai: unknown section; did you mean openai?"),
        ("voice = 'a'\n", "voice: unknown section; voice belongs in [openai]"),
        (
            "[xyzzy]\n",
            "xyzzy: unknown section; known are openai, realtime, sip, opensips, rtp, service, admin, log, dtmf, sounds,"
            " tools, engine,"
            " records, recorder, agents",
        ),
        ("[agnets.sales]\n", "agnets: unknown section; did you mean agents?"),
        (
            '["a b"]\nvoice = 1\n',
            '"a b": unknown section; known are openai, realtime, sip, opensips, rtp, service, admin, log, dtmf, sounds,'
            " tools, engine, records, recorder, agents",
        ),
        ("sip = 5060\n", "sip: expected a table, [sip], got an integer 5060"),
        ("[[sip]]\n", "sip: expected a table, [sip], got an array"),
    ],
)
def test_an_unknown_name_in_the_file_is_an_error_with_a_hint(tmp_path: Path, text: str, error: str) -> None:
    assert errors_of(written(tmp_path, text), KEY) == (error,)


# Files


def test_a_file_that_is_missing_is_said_plainly(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.toml")
    assert errors_of(missing, KEY) == (f"{missing}: cannot be read: No such file or directory",)
    assert errors_of(None, KEY | {"CONFIG_FILE": missing}) == (f"{missing}: cannot be read: No such file or directory",)
    assert errors_of(str(tmp_path), KEY) == (f"{tmp_path}: cannot be read: Is a directory",)


def test_an_ini_file_is_shown_the_way(tmp_path: Path) -> None:
    file = tmp_path / "simple.ini"
    file.write_text("[openai]\nvoice = alloy\n")
    (error,) = errors_of(str(file), KEY)
    assert error.endswith(f"Invalid value; is it a file of the AI Voice Connector CE? `aivc migrate {file}`")


def test_a_syntax_error_comes_with_file_line_and_column(tmp_path: Path) -> None:
    file = written(tmp_path, "[openai]\n\nvoice = alloy\n")
    (error,) = errors_of(file, KEY)
    assert error.startswith(f"{file}:3:9: ")


@pytest.mark.parametrize("octets", [b"[openai]\nvoice = '\xff'\n", b"a = " + b"9" * 5000, b"a = " + b"[" * 100_000])
def test_a_file_of_rubbish_is_an_error_like_any_other(tmp_path: Path, octets: bytes) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(octets)
    (error,) = errors_of(str(file), KEY)
    assert error.startswith(str(file))


@given(st.binary(max_size=200))
def test_whatever_the_file_holds_only_config_error_is_raised(
    tmp_path_factory: pytest.TempPathFactory, octets: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(octets)
    try:
        load(str(file), KEY)
    except ConfigError as error:
        assert error.errors  # noqa: PT017 - most of what is tried is no error


# All errors at once


def test_all_errors_come_at_once_each_with_its_path(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        [openai]
        temperature = 1.7
        voise = "alloy"
        turn_detection_type = "server"
        [sip]
        listen = ["udp:0.0.0.0:5060", "udp:localhost:5060", "sctp:0.0.0.0:5060"]
        [rtp]
        min_port = 40000
        max_port = 30000
        ip = "0.0.0.0"
        [service]
        max_calls = "5070"
        """,
    )
    assert set(errors_of(file, {"OPENAI_MAX_TOKENS": "5000", "RTP_BIND_IP": "eth0"})) == {
        "openai.temperature: 1.7 is outside 0.6 to 1.2",
        "openai.voise: unknown key; did you mean voice?",
        "openai.turn_detection_type: "
        '"server" is none of "server_vad", "semantic_vad", "none"; did you mean server_vad?',
        'sip.listen: "localhost" is not an IP address; "sctp:0.0.0.0:5060" is not of the form '
        "udp:HOST:PORT, tcp:HOST:PORT or tls:HOST:PORT",
        'rtp.ip: "0.0.0.0" cannot be advertised: nobody can send to it',
        "rtp.min_port: 40000 is not below rtp.max_port, 30000",
        'service.max_calls: expected an integer, got text "5070"',
        "openai.max_tokens (OPENAI_MAX_TOKENS): 5000 is outside 1 to 4096",
        'rtp.bind_ip (RTP_BIND_IP): "eth0" is not an IP address',
        "openai.key: missing: OpenAI asks for an API key; set OPENAI_API_KEY, or try `--simulator`, which needs none",
    }


def test_a_pair_is_not_complained_about_when_one_of_it_is_wrong_by_itself() -> None:
    assert errors_of(None, KEY | {"RTP_MIN_PORT": "70000"}) == (
        "rtp.min_port (RTP_MIN_PORT): 70000 is outside 1024 to 65535",
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('url = "api.openai.com/v1/realtime"', "is not a URL like wss://"),
        ('url = "wss:///v1/realtime"', "is not a URL like wss://"),
        ('url = "wss://host:0/"', "is not a URL like wss://"),
        ('url = "wss://host:99999/"', "is not a URL like wss://"),
        ('url = "wss://[::1/"', "is not a URL like wss://"),
        ('url = "wss://host/a b"', "is not a URL like wss://"),
        ('url = "wss://me:pass@host/"', "has no place in this URL"),
        ('url = ""', "is empty; leave it out instead"),
        ('transfer_to = "support"', "is not a URI like sip:"),
        ('transfer_to = "sip:a@b>\\r\\nEvil: 1"', "has a space, quote, angle bracket or control character"),
        ('transfer_by = "http://example.com"', "is not a URI like sip:"),
        ('voice = "  "', "is empty; leave it out instead"),
        ("tools = [1]", "expected a list of texts, got an integer 1"),
        ('tools = "none.py"', 'there is no file "none.py"'),
        ("max_tokens = true", 'expected an integer or "inf", got a boolean true'),
        ("connect_seconds = 1979-05-27", "expected a number, got date 1979-05-27"),
    ],
)
def test_a_value_against_its_rule_is_refused_with_the_reason(tmp_path: Path, line: str, says: str) -> None:
    (error,) = errors_of(written(tmp_path, f"[openai]\nkey = 'sk-x'\n{line}\n"), {})
    assert error.startswith(f"openai.{line.split()[0]}: ")
    assert says in error


@pytest.mark.parametrize(
    "entry",
    ["", "5060", "udp", "udp:5060", "udp:host:5060", "UDP:1.2.3.4:5", "udp:::1:5060", "sctp:0.0.0.0:5060", "tcp:5060"]
    + [f"udp:0.0.0.0:{port}" for port in ("", "65536", "-1", "5060 ", "\u0665")],
)
def test_a_listen_entry_that_is_not_transport_host_port_is_refused(tmp_path: Path, entry: str) -> None:
    (error,) = errors_of(written(tmp_path, f'[sip]\nlisten = ["{entry}"]\n'), KEY)
    assert error.startswith("sip.listen: ")


def test_a_user_agent_with_nothing_to_listen_on_is_refused(tmp_path: Path) -> None:
    (error,) = errors_of(written(tmp_path, "[sip]\nlisten = []\n"), KEY)
    assert error.startswith("sip.listen: is empty")
    load(written(tmp_path, "[sip]\nenabled = false\nlisten = []\n[opensips]\nenabled = true\n"), KEY)


def test_a_range_with_no_pair_of_ports_is_refused() -> None:
    (error,) = errors_of(None, KEY | {"RTP_MIN_PORT": "40001", "RTP_MAX_PORT": "40002"})
    assert error.startswith("rtp.min_port (RTP_MIN_PORT): no even port")


# The key


def test_both_spellings_of_the_key_are_read_but_not_at_once(tmp_path: Path) -> None:
    for name in ("key", "openai_key"):
        loaded = load(written(tmp_path, f'[openai]\n{name} = "sk-file"\n'), {})
        assert loaded.settings.openai.key == Secret("sk-file")
    (error,) = errors_of(written(tmp_path, '[openai]\nkey = "sk-file"\nopenai_key = "sk-other"\n'), {})
    assert error == "openai.key: given twice, also as key"


def test_no_key_is_needed_for_the_simulator_another_host_or_when_disabled() -> None:
    assert load(None, {}, simulator=True).settings.openai.key is None
    assert load(None, {"OPENAI_URL": "ws://127.0.0.1:9/v1/realtime"}).settings.openai.key is None
    assert load(None, {"OPENAI_URL": "wss://openai.com.example.net/v1"}).settings.openai.key is None
    assert load(None, {"OPENAI_DISABLE": "true"}).settings.openai.key is None
    for url in ("wss://eu.api.openai.com/v1/realtime", "https://API.OpenAI.com/v1"):
        assert len(errors_of(None, {"OPENAI_URL": url})) == 1


@pytest.mark.parametrize("line", ["key = 12345", 'key = "sk hidden"', 'key = "sk-hidden\\n"', 'key = ["sk-hidden"]'])
def test_no_message_shows_the_key(tmp_path: Path, line: str) -> None:
    (error,) = errors_of(written(tmp_path, f"[openai]\n{line}\n"), {})
    assert error.startswith("openai.key: ")
    assert "hidden" not in error
    assert "12345" not in error


# Tool files


def test_tool_files_are_found_beside_the_file_then_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = tmp_path / "working"
    working.mkdir()
    for file in (tmp_path / "beside.py", working / "beside.py", working / "here.py"):
        file.write_text("")
    monkeypatch.chdir(working)
    loaded = load(written(tmp_path, '[openai]\ntools = ["beside.py", "here.py"]\n'), KEY)
    assert loaded.settings.openai.tools == (str(tmp_path / "beside.py"), "here.py")
    assert load(None, KEY | {"OPENAI_TOOLS": "here.py"}).settings.openai.tools == ("here.py",)
    assert load(written(tmp_path, '[openai]\ntools = "here.py"\n'), KEY).settings.openai.tools == ("here.py",)


def test_each_tool_file_that_is_missing_is_named() -> None:
    assert errors_of(None, KEY | {"OPENAI_TOOLS": "a.py, b.py"}) == (
        'openai.tools (OPENAI_TOOLS): there is no file "a.py"',
        'openai.tools (OPENAI_TOOLS): there is no file "b.py"',
    )


# The table of `aivc check`


def line_of(loaded: Loaded, name: str) -> str:
    (line,) = [line for line in effective_table(loaded).splitlines() if line.startswith(f"  {name} ")]
    return line


def test_the_table_shows_each_value_with_its_source_in_columns(tmp_path: Path) -> None:
    file = written(tmp_path, f'[openai]\nvoice = "cedar"\ninstructions = """{"Be kind. " * 30}\nTwo lines."""\n')
    loaded = load(file, KEY | {"AIVC_SIP_NUMBERS": "100,101"})
    lines = effective_table(loaded).splitlines()
    assert lines[0] == "[openai]"
    assert {"[sip]", "[rtp]", "[service]", "[log]"} <= set(lines)
    assert line_of(loaded, "voice").split() == ["voice", '"cedar"', "file"]
    assert line_of(loaded, "numbers").split(maxsplit=3)[1:] == ['["100",', '"101"]', "environment AIVC_SIP_NUMBERS"]
    assert line_of(loaded, "welcome_message").split(maxsplit=1)[1].split("  ")[0] == "not set"
    assert "..." in line_of(loaded, "instructions")
    columns = {line.rindex("default") for line in lines if line.endswith(" default")}
    assert len(columns) == 1
    assert max(len(line) for line in lines if line.startswith("  ")) < 160


def test_the_table_shows_the_model_in_effect_and_the_warnings_and_no_secret() -> None:
    loaded = load(None, KEY)
    assert '"gpt-realtime-2.1" in place of "gpt-4o-realtime-preview-2024-10-01"' in line_of(loaded, "model")
    assert line_of(loaded, "key").split() == ["key", "***", "environment", "OPENAI_API_KEY"]
    table = effective_table(loaded)
    assert table.splitlines()[-1].startswith("warning: openai.model: ")
    assert "1234567890" not in table
