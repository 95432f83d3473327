"""The settings of one call: what an answer of `engine.api_url` may change, and what it may not."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.config.loading import ConfigError
from aivc.config.percall import with_answer
from aivc.config.settings import McpServer, OpenAISettings, Secret, Settings, ToolsSettings

OURS = Settings(openai=OpenAISettings(key=Secret("sk-ours"), voice="cedar", speed=1.2))


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
        "opnai": {},
        "openai": {
            "voice": 1,
            "voise": "cedar",
            "max_tokens": "many",
            "transfer_targets": {"desk": 5},
            "tools": ["evil.py"],
            "match": [".*"],
            "match_from": [".*"],
            "key": "sk-1",
            "openai_key": "sk-2",
            "idle_timeout_ms": 3,
        },
    }
    assert set(errors_of(answer)) == {
        'api_url: flavor: "deepgram" is not "openai", the only one there is',
        'api_url: "opnai": unknown key; did you mean openai?',
        "api_url: openai.voice: expected text, got an integer 1",
        "api_url: openai.voise: unknown key; did you mean voice?",
        'api_url: openai.max_tokens: expected an integer or "inf", got text "many"',
        "api_url: openai.transfer_targets.desk: expected text, got an integer 5",
        "api_url: openai.tools: cannot be given for one call: files with code cannot come from the network",
        "api_url: openai.match: cannot be given for one call: which agent answers is decided before the answer comes",
        "api_url: openai.match_from: cannot be given for one call:"
        " which agent answers is decided before the answer comes",
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
        ({"flavor": 5}, 'api_url: flavor: 5 is not "openai", the only one there is'),
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
        assert error.errors  # noqa: PT017
        assert all(each.startswith("api_url: ") for each in error.errors)  # noqa: PT017
