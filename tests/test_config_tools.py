"""Tables and arrays of tables, of TOML and of the environment: read exactly, with the path of all that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.config.effective import effective_table
from aivc.config.loading import ConfigError, load
from aivc.config.settings import HttpTool, McpServer, Secret, Settings

KEY = {"OPENAI_API_KEY": "sk-test"}
SECRETS = KEY | {"HOURS_AUTH": "Bearer abc", "HOURS_KEY": "k-1", "WIKI_TOKEN": "t-1"}

HTTP = """
[[tools.http]]
name = "opening_hours"
description = "Tell when the shop is open."
url = "https://example.com/hours"
method = "GET"
headers = { Authorization = "HOURS_AUTH" }
secret = "HOURS_KEY"
seconds = 2
retries = 1

[tools.http.schema]
type = "object"
required = ["day"]

[tools.http.schema.properties.day]
type = "string"

[[tools.http]]
name = "weather"
description = "Tell the weather."
url = "http://127.0.0.1:8000/"
"""

HOURS = HttpTool(
    name="opening_hours",
    description="Tell when the shop is open.",
    url="https://example.com/hours",
    method="GET",
    schema={"type": "object", "required": ["day"], "properties": {"day": {"type": "string"}}},
    headers={"Authorization": Secret("Bearer abc")},
    secret=Secret("k-1"),
    seconds=2.0,
    retries=1,
)
WEATHER = HttpTool(name="weather", description="Tell the weather.", url="http://127.0.0.1:8000/")


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return str(file)


def settings_from(tmp_path: Path, text: str) -> Settings:
    return load(written(tmp_path, text), SECRETS).settings


def errors_from(tmp_path: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path, text), SECRETS)
    return refused.value.errors


# Arrays of tables


def test_http_tools_are_read_in_order_with_their_secrets_from_the_environment(tmp_path: Path) -> None:
    assert settings_from(tmp_path, HTTP).tools.http == (HOURS, WEATHER)


def test_mcp_servers_are_read(tmp_path: Path) -> None:
    text = """
    [[tools.mcp]]
    server_label = "wiki"
    server_url = "https://example.com/mcp"
    authorization = "WIKI_TOKEN"
    allowed_tools = "search"
    server_description = "Our handbook"
    """
    assert settings_from(tmp_path, text).tools.mcp == (
        McpServer(
            server_label="wiki",
            server_url="https://example.com/mcp",
            authorization=Secret("t-1"),
            allowed_tools=("search",),
            server_description="Our handbook",
        ),
    )


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "weather", "description": "Tell the weather.", "url": "http://127.0.0.1:8000/"}]',
        '[{name = "weather", description = "Tell the weather.", url = "http://127.0.0.1:8000/"}]',
    ],
)
def test_a_variable_gives_tools_as_json_or_as_a_toml_array(text: str) -> None:
    assert load(None, KEY | {"AIVC_TOOLS_HTTP": text}).settings.tools.http == (WEATHER,)


def test_everything_wrong_with_tools_is_said_at_once_with_its_path(tmp_path: Path) -> None:
    text = """
    [[tools.http]]
    name = "no spaces"
    descripton = "x"
    url = "ftp://example.com/"
    method = "HEAD"
    retries = 9
    seconds = "2"
    headers = { "X Y" = "HOURS_AUTH", Authorization = "NOT_SET", Host = "HOURS_AUTH", X-Z = 5 }
    [[tools.http]]
    name = "weather"
    description = " "
    url = "https://example.com/"
    schema = { type = "string" }
    secret = "NOT_SET"
    [[tools.http]]
    name = "weather"
    description = "again"
    url = "https://example.com/"
    [[tools.mcp]]
    server_label = "wiki"
    authorization = "sk-pasted-by-mistake"
    [[tools.mcp]]
    server_label = "wiki"
    server_url = "https://example.com/"
    """
    assert set(errors_from(tmp_path, text)) == {
        'tools.http[0].name: "no spaces" is not a name of 1 to 64 letters, digits, _ and -',
        "tools.http[0].descripton: unknown key; did you mean description?",
        "tools.http[0].description: missing",
        'tools.http[0].url: "ftp://example.com/" is not a URL like https://example.com/bots',
        'tools.http[0].method: "HEAD" is none of "POST", "GET", "PUT", "PATCH", "DELETE"',
        "tools.http[0].retries: 9 is outside 0 to 5",
        'tools.http[0].seconds: expected a number, got text "2"',
        "tools.http[0].headers.X-Z: expected text, got an integer",
        "tools.http[1].description: is empty; leave it out instead",
        'tools.http[1].schema: is not the schema of an object: needs type = "object"',
        "tools.http[1].secret: the environment variable NOT_SET is not set",
        'tools.http[2].name: "weather" is the name of [1], too',
        "tools.mcp[0].server_url: missing",
        "tools.mcp[0].authorization: the environment variable named here (not shown: is it the value?) is not set",
        'tools.mcp[1].server_label: "wiki" is the name of [0], too',
    }


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ('{ "X Y" = "HOURS_AUTH" }', 'headers: "X Y" is not the name of a header field'),
        ('{ Host = "HOURS_AUTH" }', "headers: Host belongs to the connection and cannot be set"),
        ('{ A = "NOT_SET" }', "headers.A: the environment variable NOT_SET is not set"),
        ('{ A = "LINES" }', "headers.A: has a line end, a space at an end"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(tmp_path: Path, headers: str, error: str) -> None:
    text = f'[[tools.http]]\nname = "a"\ndescription = "b"\nurl = "https://c/"\nheaders = {headers}\n'
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path, text), SECRETS | {"LINES": "hidden\r\nEvil: 1"})
    (found,) = refused.value.errors
    assert found.startswith(f"tools.http[0].{error}")
    assert "hidden" not in found


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "object", "properties": []}, "properties: is not a table of tables"),
        ({"type": "object", "properties": {"a": 1}}, "properties: is not a table of tables"),
        ({"type": "object", "required": "a"}, "required: is not a list of names"),
        ({"type": "object", "required": ["a"]}, "required: is not a list of names"),
        ({"properties": {}}, 'needs type = "object"'),
    ],
)
def test_a_schema_that_describes_no_object_is_refused(schema: dict[str, object], says: str) -> None:
    tool = {"name": "a", "description": "b", "url": "https://c/", "schema": schema}
    with pytest.raises(ConfigError, match=r"tools.http\[0\].schema \(AIVC_TOOLS_HTTP\): ") as refused:
        load(None, KEY | {"AIVC_TOOLS_HTTP": json.dumps([tool])})
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[tools.http]\nname = 'a'\n", "tools.http: expected an array of tables, [[tools.http]], got a table"),
        ("[tools]\nhttp = [1]\n", "tools.http[0]: expected a table, got an integer 1"),
        ("[tools]\nhttp = true\n", "tools.http: expected an array of tables, [[tools.http]], got a boolean true"),
        ("[tools]\nweather = 'a'\n", "tools.weather: unknown key"),
        ("[tools]\nhttp = [" + "{}, " * 129 + "]\n", "tools.http: has more than 128 tables"),
    ],
)
def test_what_is_no_array_of_tables_is_refused(tmp_path: Path, text: str, error: str) -> None:
    assert errors_from(tmp_path, text) == (error,)


# Tables


def test_a_table_is_written_as_a_table_or_inline(tmp_path: Path) -> None:
    inline = '[openai]\nextra_session = { a = { b = [1, { c = 2.5 }] } }\ntransfer_targets = { sales = "tel:1" }\n'
    spread = '[openai.extra_session.a]\nb = [1, { c = 2.5 }]\n[openai.transfer_targets]\nsales = "tel:1"\n'
    for text in (inline, spread):
        openai = settings_from(tmp_path, text).openai
        assert openai.extra_session == {"a": {"b": [1, {"c": 2.5}]}}
        assert openai.transfer_targets == {"sales": "tel:1"}


@pytest.mark.parametrize("text", ['{"a": {"b": null}, "c": [true]}', '{a = {b = "x"}, c = [true]}'])
def test_a_variable_gives_a_table_as_json_or_as_an_inline_table(text: str) -> None:
    extra = load(None, KEY | {"AIVC_OPENAI_EXTRA_SESSION": text}).settings.openai.extra_session
    assert extra["c"] == [True]


@pytest.mark.parametrize(
    "text", ["x", "{", '{"a": 1, "a": 2}', '{"a": NaN}', "{} {}", "{}\nb = 1", "[1]", "{a = 1979-05-27}"]
)
def test_a_variable_that_is_no_table_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(None, KEY | {"AIVC_OPENAI_EXTRA_SESSION": text})
    (error,) = refused.value.errors
    assert error.startswith("openai.extra_session (AIVC_OPENAI_EXTRA_SESSION): ")


@pytest.mark.parametrize(
    ("line", "errors"),
    [
        (
            'transfer_targets = { sales = 1, "a b" = "tel:1", desk = "x" }',
            {"openai.transfer_targets.sales: expected text, got an integer 1"},
        ),
        (
            'transfer_targets = { "a b" = "tel:1", desk = "x" }',
            {
                'openai.transfer_targets: "a b" is not a name of 1 to 64 letters, digits, _ and -',
                'openai.transfer_targets.desk: "x" is not a URI like sip:support@example.com or tel:+15551234567',
            },
        ),
        ("transfer_targets = []", {"openai.transfer_targets: expected a table, got an array"}),
        ("prices = { input_audio = -1 }", {"openai.prices.input_audio: -1.0 is less than 0"}),
        ("prices = { input_audio = nan }", {"openai.prices.input_audio: nan is less than 0"}),
        (
            "prices = { audio = 1 }",
            {
                'openai.prices: "audio" is none of input_audio, input_text, input_cached, output_audio, output_text',
            },
        ),
        ("extra_session = { a = inf }", {"openai.extra_session: has the number inf, which JSON lacks"}),
        (
            "extra_session = { a = 1979-05-27 }",
            {"openai.extra_session: expected what JSON can say, got date 1979-05-27"},
        ),
        (
            "disabled_tools = ['hang_up']",
            {'openai.disabled_tools: "hang_up" is none of terminate_call, transfer_call, send_digits'},
        ),
        ("tool_choice = 'a b'", {'openai.tool_choice: "a b" is not a name of 1 to 64 letters, digits, _ and -'}),
        ("idle_timeout_ms = 4999", {"openai.idle_timeout_ms: 4999 is neither 0 nor 5000 to 30000"}),
        ("idle_timeout_ms = 1", {"openai.idle_timeout_ms: 1 is neither 0 nor 5000 to 30000"}),
        ("idle_timeout_ms = 30001", {"openai.idle_timeout_ms: 30001 is outside 0 to 30000"}),
        ("match = ['(']", {"openai.match: "}),
    ],
)
def test_each_fault_in_a_table_is_told_where_it_is(tmp_path: Path, line: str, errors: set[str]) -> None:
    found = errors_from(tmp_path, f"[openai]\n{line}\n")
    assert len(found) == len(errors)
    assert all(any(error.startswith(says) for says in errors) for error in found)


@pytest.mark.parametrize("milliseconds", [0, 5000, 30000])
def test_the_idle_times_that_openai_has_are_allowed(milliseconds: int) -> None:
    settings = load(None, KEY | {"AIVC_OPENAI_IDLE_TIMEOUT_MS": str(milliseconds)}).settings
    assert settings.openai.idle_timeout_ms == milliseconds


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": [0] * 10_001}, "has more than 10000 entries"),
        ({str(index): 0 for index in range(10_001)}, "has more than 10000 entries"),
        (json.loads('{"a":' * 40 + "1" + "}" * 40), "is more than 32 levels deep"),
    ],
)
def test_a_table_that_is_too_large_is_refused(value: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(None, KEY | {"AIVC_OPENAI_EXTRA_SESSION": json.dumps(value)})


def test_a_text_of_brackets_alone_is_an_error_like_any_other() -> None:
    with pytest.raises(ConfigError, match=r"openai\.extra_session"):
        load(None, KEY | {"AIVC_OPENAI_EXTRA_SESSION": '{"a":' * 100_000})


@given(st.text(max_size=60))
def test_whatever_the_text_of_a_table_is_only_config_error_is_raised(text: str) -> None:
    for variable in ("AIVC_OPENAI_EXTRA_SESSION", "AIVC_TOOLS_HTTP", "AIVC_OPENAI_PRICES"):
        try:
            load(None, KEY | {variable: text})
        except ConfigError as error:
            assert error.errors  # noqa: PT017 - most of what is tried is no error


def test_no_finishing_key_is_an_empty_text_in_the_file(tmp_path: Path) -> None:
    assert settings_from(tmp_path, '[dtmf]\nfinish = ""\n').dtmf.finish == ""
    assert errors_from(tmp_path, '[dtmf]\nfinish = " "\n') == ("dtmf.finish: is empty; leave it out instead",)


# Files


def test_sounds_are_found_beside_the_file_then_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = tmp_path / "working"
    working.mkdir()
    (tmp_path / "beside.wav").touch()
    (working / "here.wav").touch()
    monkeypatch.chdir(working)
    sounds = settings_from(tmp_path, '[sounds]\nhold = "beside.wav"\nbusy = "here.wav"\n').sounds
    assert (sounds.hold, sounds.busy) == (str(tmp_path / "beside.wav"), "here.wav")
    errors = errors_from(tmp_path, '[sounds]\nhold = "none.wav"\nfailure = "a\\u0000b"\n')
    assert errors == ('sounds.hold: there is no file "none.wav"', 'sounds.failure: there is no file "a\\u0000b"')


# The table of `aivc check`


def test_the_table_shows_tools_by_name_and_no_secret_of_theirs(tmp_path: Path) -> None:
    table = effective_table(load(written(tmp_path, HTTP), SECRETS))
    assert "http  " in table
    assert '["opening_hours", "weather"]' in table
    assert "Bearer" not in table
    assert "example.com" not in table
