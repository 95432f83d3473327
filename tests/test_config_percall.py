"""The settings of one call: what an answer of `engine.api_url` may change, and what it may not."""

from __future__ import annotations

import json
from typing import Any, Final

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.config.loading import ConfigError
from aivc.config.percall import LONGEST_EXTRA, Wishes, parse_extra_params, read_wishes, with_wishes
from aivc.config.settings import Agent, McpServer, OpenAISettings, Secret, Settings, ToolsSettings

OURS = Settings(openai=OpenAISettings(key=Secret("sk-ours"), voice="cedar", speed=1.2))


def with_answer(settings: Settings, answer: object) -> Settings:
    """The settings of [openai] with those of an answer over them."""
    return with_wishes(settings, None, read_wishes("api_url", answer, settings)).settings


def errors_of(answer: object, settings: Settings = OURS) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        with_answer(settings, answer)
    return refused.value.errors


@pytest.mark.parametrize("flavor", [{}, {"flavor": "openai"}, {"flavor": None}])
def test_the_answer_wins_over_the_settings(flavor: dict[str, Any]) -> None:
    table = {
        "voice": "marin",
        "instructions": "You speak with Alice.",
        "max_tokens": 300,
        "speed": 1,
        "transfer_targets": {"desk": "tel:1"},
        "transfer_allow": "[0-9]+",
        "extra_session": {"audio": {"input": {"turn_detection": None}}},
        "temperature": None,
        "disable": True,
        "openai_key": "sk-theirs",
    }
    merged = with_answer(OURS, flavor | {"openai": table})
    assert merged == attrs.evolve(
        OURS,
        openai=attrs.evolve(
            OURS.openai,
            voice="marin",
            instructions="You speak with Alice.",
            max_tokens=300,
            speed=1.0,
            transfer_targets={"desk": "tel:1"},
            transfer_allow=("[0-9]+",),
            extra_session={"audio": {"input": {"turn_detection": None}}},
            disable=True,
            key=Secret("sk-theirs"),
        ),
    )


@pytest.mark.parametrize("answer", [{}, {"openai": None}, {"openai": {}}, {"openai": {"voice": None}}])
def test_an_answer_that_gives_nothing_changes_nothing(answer: dict[str, Any]) -> None:
    assert with_answer(OURS, answer) == OURS


def test_what_the_answer_holds_is_copied() -> None:
    inner: dict[str, object] = {"a": [1]}
    merged = with_answer(OURS, {"openai": {"extra_session": inner}})
    inner["b"] = 2
    assert merged.openai.extra_session == {"a": [1]}


def test_everything_wrong_with_an_answer_is_said_at_once() -> None:
    answer = {
        "flavor": "deepgram",
        "openai": {
            "voice": 1,
            "max_tokens": "many",
            "transfer_targets": {"desk": 5},
            "key": "sk-1",
            "openai_key": "sk-2",
            "idle_timeout_ms": 3,
        },
    }
    assert set(errors_of(answer)) == {
        'api_url: flavor: "deepgram" cannot be served; known are "openai"',
        "api_url: openai.voice: expected text, got an integer 1",
        'api_url: openai.max_tokens: expected an integer or "inf", got text "many"',
        "api_url: openai.transfer_targets.desk: expected text, got an integer 5",
        "api_url: openai.key: given twice",
        "api_url: openai.idle_timeout_ms: 3 is neither 0 nor 5000 to 30000",
    }


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, "api_url: expected a table, got null"),
        ([], "api_url: expected a table, got an array"),
        ("x", 'api_url: expected a table, got text "x"'),
        ({"openai": []}, "api_url: openai: expected a table, got an array"),
        ({"flavor": 5}, "api_url: flavor: expected text, got an integer 5"),
        ({"openai": dict.fromkeys(map(str, range(201)))}, "api_url: openai: has more than 200 keys"),
        (dict.fromkeys(map(str, range(201))), "api_url: has more than 200 keys"),
        ({"openai": {"extra_session": {"model": "x"}}}, "api_url: openai.extra_session: model: cannot be set here;"),
        ({"openai": {"filler": "sound"}}, "api_url: openai.filler: there is no sound: set sounds.hold"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused(answer: object, error: str) -> None:
    (found,) = errors_of(answer)
    assert found.startswith(error)


def test_an_answer_in_the_beta_dialect_is_refused_beside_mcp_servers() -> None:
    mcp = ToolsSettings(mcp=(McpServer(server_label="a", server_url="https://b/"),))
    (error,) = errors_of({"openai": {"dialect": "beta"}}, attrs.evolve(OURS, tools=mcp))
    assert error.startswith("api_url: openai.dialect: the beta dialect has no MCP")


def test_our_key_is_not_shown_to_a_server_that_the_answer_names() -> None:
    elsewhere = {"url": "wss://models.example.com/v1/realtime"}
    assert with_answer(OURS, {"openai": elsewhere}).openai.key is None
    assert with_answer(OURS, {"openai": elsewhere | {"key": "sk-1"}}).openai.key == Secret("sk-1")
    same = {"url": "wss://api.openai.com/v1/realtime?x=y"}
    assert with_answer(OURS, {"openai": same}).openai.key == Secret("sk-ours")
    readable = {"url": "ws://api.openai.com/v1/realtime"}
    (error,) = errors_of({"openai": readable})
    assert error.startswith("api_url: openai.key: missing")


def test_what_was_wrong_before_is_not_the_answers_fault() -> None:
    assert with_answer(Settings(), {"openai": {"voice": "ash"}}).openai.voice == "ash"  # Settings() has no key


@pytest.mark.parametrize("name", ["key", "openai_key"])
def test_no_message_shows_a_key(name: str) -> None:
    for value in ("sk hidden", ["sk-hidden"], {"a": "hidden"}):
        (error,) = errors_of({"openai": {name: value}})
        assert "hidden" not in error


def test_keys_that_do_not_count_are_passed_over_and_named_for_the_log() -> None:
    answer = {
        "deepgram": {"speech_model": "nova-2"},
        "customer": 7,
        "azure": None,
        "instance": "aivc-1",
        "openai": {
            "voice": "ash",
            "voise": "cedar",
            "tools": ["evil.py"],
            "openai_tools": None,
            "match": [".*"],
            "match_from": 1,
            "\x1b[2J": [[]],
        },
    }
    wishes = read_wishes("api_url", answer, OURS)
    assert wishes.values == {"voice": "ash"}
    top, inner = ("deepgram", "customer", "instance"), ("voise", "tools", "match", "match_from", '"\\u001b[2J"')
    assert wishes.passed_over == (*top, *(f"openai.{key}" for key in inner))


# extra_params, and who wins

SALES: Final = attrs.evolve(OURS.openai, voice="ash", welcome_message="Sales, hello.")
AGENTS: Final = attrs.evolve(OURS, agents=(Agent(name="sales", openai=SALES), Agent(name="azure", openai=OURS.openai)))


def extra(given: object, settings: Settings = AGENTS) -> Wishes:
    return parse_extra_params(json.dumps(given), settings)


def extra_errors_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        parse_extra_params(text, AGENTS)
    return refused.value.errors


def test_extra_params_may_name_the_agent_and_change_its_settings() -> None:
    wishes = extra({"flavor": "sales", "openai": {"welcome_message": "Hello Alice."}, "instance": "aivc-1"})
    chosen = with_wishes(AGENTS, None, wishes)
    assert chosen.name == "sales"
    assert chosen.settings.openai == attrs.evolve(SALES, welcome_message="Hello Alice.")


@pytest.mark.parametrize("flavor", [{}, {"flavor": None}, {"flavor": "openai"}])
def test_without_the_name_of_an_agent_the_one_that_was_chosen_stays(flavor: dict[str, Any]) -> None:
    wishes = extra(flavor | {"openai": {"speed": 1.5}})
    assert with_wishes(AGENTS, "sales", wishes).settings.openai == attrs.evolve(SALES, speed=1.5)
    assert wishes.any_number is (flavor.get("flavor") == "openai")


def test_an_agent_may_have_the_name_of_another_programs_flavor() -> None:
    assert with_wishes(AGENTS, None, extra({"flavor": "azure"})).name == "azure"


def test_the_strongest_wishes_come_last() -> None:
    answer = read_wishes("api_url", {"flavor": "azure", "openai": {"voice": "sage", "speed": 0.9}}, AGENTS)
    chosen = with_wishes(AGENTS, None, answer, extra({"flavor": "sales", "openai": {"voice": "verse"}}))
    assert chosen.name == "sales"
    assert chosen.settings.openai == attrs.evolve(SALES, voice="verse", speed=0.9)
    assert with_wishes(AGENTS, "sales", answer, extra({})).name == "azure"


def test_a_key_of_the_answer_is_not_shown_to_a_server_that_extra_params_name() -> None:
    answer = read_wishes("api_url", {"openai": {"key": "sk-theirs"}}, AGENTS)
    elsewhere = extra({"openai": {"url": "wss://models.example.com/v1/realtime"}})
    assert with_wishes(AGENTS, None, answer, elsewhere).settings.openai.key is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("flavor=openai", "no JSON"),
        ('{"openai": {"speed": NaN}}', "no JSON"),
        ("[" * 60_000, "no JSON"),
        ("9" * 5000, "no JSON"),
        (" " * (LONGEST_EXTRA + 1), "longer than 65536 octets"),
        ("[]", "expected a table, got an array"),
        ('"openai"', 'expected a table, got text "openai"'),
        ('{"flavor": {"a": 1}}', "flavor: expected text, got a table"),
        ('{"flavor": ' + "[" * 300 + "]" * 300 + "}", "flavor: expected text, got an array"),
        ('{"flavor": "deepgram"}', 'flavor: "deepgram" cannot be served; known are "openai", "sales", "azure"'),
        ('{"flavor": "desk"}', 'flavor: "desk" is no agent; known are "openai", "sales", "azure"'),
        ('{"openai": {"voice": 1}}', "openai.voice: expected text, got an integer 1"),
        ('{"openai": {"extra_session": ' + '{"a":' * 300 + "1" + "}" * 301 + "}", "openai.extra_session: is more than"),
    ],
)
def test_extra_params_that_cannot_be_used_are_refused(text: str, error: str) -> None:
    (found,) = extra_errors_of(text)
    assert found.startswith(f"extra_params: {error}")


def test_a_contradiction_is_told_of_whose_wish_it_is() -> None:
    with pytest.raises(ConfigError) as refused:
        with_wishes(AGENTS, "sales", read_wishes("api_url", {}, AGENTS), extra({"openai": {"filler": "sound"}}))
    assert refused.value.errors == ("extra_params: openai.filler: there is no sound: set sounds.hold",)


@given(st.text(max_size=200) | st.builds(json.dumps, st.recursive(st.none() | st.text(), st.lists)))
def test_whatever_extra_params_are_only_config_error_is_raised(text: str) -> None:
    try:
        parse_extra_params(text, AGENTS)
    except ConfigError as error:
        assert all(each.startswith("extra_params: ") for each in error.errors)  # noqa: PT017 - most of what is tried is no error


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([field.name for field in attrs.fields(OpenAISettings)])


@given(JSON | st.fixed_dictionaries({"openai": JSON | st.dictionaries(KEYS | st.text(max_size=8), JSON, max_size=5)}))
def test_whatever_the_answer_is_only_config_error_is_raised(answer: object) -> None:
    try:
        with_answer(OURS, answer)
    except ConfigError as error:
        assert error.errors  # noqa: PT017 - most of what is tried is no error
        assert all(each.startswith("api_url: ") for each in error.errors)  # noqa: PT017 - most of what is tried is no error


def test_numbers_may_come_as_text_as_scripts_of_opensips_write_them() -> None:
    openai = {
        "turn_detection_silence_ms": "500",
        "turn_detection_threshold": "0.6",
        "max_tokens": "4096",
        "speed": "1.2",
        "disable": "no",
        "voice": "cedar",
    }
    found = parse_extra_params(json.dumps({"openai": openai}), OURS).values
    assert found == {
        "turn_detection_silence_ms": 500,
        "turn_detection_threshold": 0.6,
        "max_tokens": 4096,
        "speed": 1.2,
        "disable": False,
        "voice": "cedar",
    }
    assert parse_extra_params('{"openai": {"max_tokens": "inf"}}', OURS).values == {"max_tokens": "inf"}


def test_a_port_that_goes_without_saying_makes_no_other_server() -> None:
    same = {"url": "wss://api.openai.com:443/v1/realtime"}
    assert with_answer(OURS, {"openai": same}).openai.key == Secret("sk-ours")


@pytest.mark.parametrize("name", ["model", "voice", "instructions", "key", "transfer_by"])
def test_half_a_character_is_refused_before_anything_is_sent(name: str) -> None:
    (error,) = errors_of({"openai": {name: "sip:a@b\ud800"}})
    assert error == f"api_url: openai.{name}: has half of a character (a lone surrogate), which cannot be sent"


@pytest.mark.parametrize("inner", [{"a": [{"b": "\ud800"}]}, {"a": {"\udcff": 1}}])
def test_half_a_character_is_found_wherever_it_is(inner: object) -> None:
    (error,) = errors_of({"openai": {"extra_session": inner}})
    assert error.startswith("api_url: openai.extra_session: has half of a character")


def test_tokens_of_mcp_servers_are_not_shown_to_a_server_that_the_answer_names() -> None:
    wiki = McpServer(server_label="wiki", server_url="https://wiki.example/")
    crm = McpServer(server_label="crm", server_url="https://crm.example/", authorization=Secret("token"))
    ours = attrs.evolve(OURS, tools=ToolsSettings(mcp=(wiki, crm)))
    elsewhere = {"url": "wss://models.example.com/v1/realtime", "key": "sk-1"}
    assert with_answer(ours, {"openai": elsewhere}).tools.mcp == (wiki,)
    assert with_answer(ours, {"openai": {"key": "sk-1"}}).tools.mcp == (wiki, crm)
