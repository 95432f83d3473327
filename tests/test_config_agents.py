"""Several agents: their tables, which of them answers a call, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from aivc.config.agents import LONGEST_MATCHED, Chosen, choose, user_of
from aivc.config.effective import effective_table
from aivc.config.loading import ConfigError, Loaded, load
from aivc.config.settings import Agent, OpenAISettings, Secret, Settings

KEY = {"OPENAI_API_KEY": "sk-test", "OPENAI_API_MODEL": "gpt-realtime-2.1"}


def loaded_from(tmp_path: Path, text: str, environ: dict[str, str] = KEY) -> Loaded:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return load(str(file), environ)


def errors_from(tmp_path: Path, text: str, environ: dict[str, str] = KEY) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        loaded_from(tmp_path, text, environ)
    return refused.value.errors


# Tables


def test_an_agent_has_the_settings_of_openai_with_its_own_over_them(tmp_path: Path) -> None:
    text = """
    [openai]
    voice = "cedar"
    speed = 1.1
    match = ["1.*"]
    transfer_targets = { desk = "tel:1" }
    [agents.sales]
    match = "2.*"
    openai_key = "sk-sales"
    transfer_targets = { boss = "tel:2" }
    [agents.Back-Office_2]
    voice = "marin"
    """
    settings = loaded_from(tmp_path, text, KEY | {"OPENAI_VOICE": "ash"}).settings
    sales, office = settings.agents
    assert (sales.name, office.name) == ("sales", "Back-Office_2")
    assert (settings.openai.voice, sales.openai.voice, office.openai.voice) == ("ash", "ash", "marin")
    assert (sales.openai.key, office.openai.key) == (Secret("sk-sales"), Secret("sk-test"))
    assert (sales.openai.transfer_targets, sales.openai.speed) == ({"boss": "tel:2"}, 1.1)
    assert (sales.openai.match, office.openai.match) == (("2.*",), ())  # which calls it takes is its own affair


def test_everything_wrong_with_agents_is_said_at_once_with_its_path(tmp_path: Path) -> None:
    text = """
    [agents]
    voice = "cedar"
    [agents."a b"]
    [agents.sales]
    voise = "cedar"
    temperature = 3
    match = ["("]
    key = "sk-1"
    openai_key = "sk-2"
    tools = "none.py"
    extra_session = { model = "x" }
    filler = "sound"
    [agents.desk]
    idle_timeout_ms = 10
    """
    errors = errors_from(tmp_path, text)
    assert {error for error in errors if not error.startswith("agents.sales.match: ")} == {
        'agents.voice: expected a table, [agents.voice], got text "cedar"; give the agent a name, [agents.NAME]',
        'agents."a b": "a b" is not a name of 1 to 64 letters, digits, _ and -',
        "agents.sales.voise: unknown key; did you mean voice?",
        "agents.sales.temperature: 3.0 is outside 0.6 to 1.2",
        "agents.sales.key: given twice, also as key",
        'agents.sales.tools: there is no file "none.py"',
        "agents.sales.extra_session: model: cannot be set here; set openai.model",
        "agents.sales.filler: there is no sound: set sounds.hold",
        "agents.desk.idle_timeout_ms: 10 is neither 0 nor 5000 to 30000",
    }
    assert len(errors) == 10


def test_a_fault_of_openai_is_not_told_again_for_each_agent(tmp_path: Path) -> None:
    (error,) = errors_from(tmp_path, "[agents.a]\nmatch = '1'\n[agents.b]\nmatch = '2'\n", {})
    assert error.startswith("openai.key: missing")
    (error,) = errors_from(tmp_path, "[openai]\nurl = 3\n[agents.a]\nmatch = '1'\n", {})
    assert error.startswith("openai.url: ")


def test_an_agent_of_its_own_server_needs_its_own_key_or_none(tmp_path: Path) -> None:
    here = 'url = "ws://127.0.0.1:1/"\n'
    there = 'url = "wss://api.openai.com/v1/realtime"\n'
    (error,) = errors_from(tmp_path, f"[openai]\n{here}[agents.a]\nmatch = '1'\n{there}", {})
    assert error.startswith("agents.a.key: missing")
    text = f"[openai]\n{there}[agents.a]\n{here}"  # [openai] itself gets no call
    assert loaded_from(tmp_path, text, {}).settings.agents[0].openai.key is None


def test_an_agent_may_be_disabled(tmp_path: Path) -> None:
    settings = loaded_from(tmp_path, "[agents.a]\nmatch = '1'\ndisable = true\n").settings
    assert (settings.openai.disable, settings.agents[0].openai.disable) == (False, True)


def test_the_tools_of_an_agent_are_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "desk.py").touch()
    settings = loaded_from(tmp_path, "[agents.a]\nmatch = '1'\ntools = 'desk.py'\n").settings
    assert settings.agents[0].openai.tools == (str(tmp_path / "desk.py"),)


# Warnings


def test_agents_that_never_get_a_call_are_warned_of(tmp_path: Path) -> None:
    text = "[agents.a]\nmatch = '1'\n[agents.b]\n[agents.c]\n[agents.d]\nmatch = '2'\n"
    (warning,) = loaded_from(tmp_path, text).warnings
    assert warning == (
        "agents.b: takes every call, for want of match and match_from: none is left for agents.c, agents.d, [openai]"
    )
    assert loaded_from(tmp_path, "[agents.a]\nmatch_from = '1'\n").warnings == ()


def test_an_agent_is_warned_about_by_its_own_path_and_once(tmp_path: Path) -> None:
    text = "[openai]\ntemperature = 0.9\n[agents.a]\nmatch = '1'\nvoice = 'nova'\n[agents.b]\nmatch = '2'\n"
    first, second = loaded_from(tmp_path, text).warnings
    assert first.startswith("openai.temperature: has no effect")
    assert second.startswith("agents.a.voice: nova is a text-to-speech voice")


def test_an_agent_is_not_warned_of_what_only_openai_was_given(tmp_path: Path) -> None:
    text = "[openai]\nturn_detection_silence_ms = 500\n[agents.a]\nmatch = '1'\nturn_detection_type = 'semantic_vad'\n"
    assert loaded_from(tmp_path, text).warnings == ()


def test_an_agent_says_again_what_it_was_given_again(tmp_path: Path) -> None:
    text = "[openai]\ntemperature = 0.9\n[agents.a]\nmatch = '1'\ntemperature = 0.9\n"
    warnings = loaded_from(tmp_path, text).warnings
    assert [warning.partition(":")[0] for warning in warnings] == ["openai.temperature", "agents.a.temperature"]


# The table of `aivc check`


def test_the_table_shows_of_an_agent_what_it_was_given_and_no_key(tmp_path: Path) -> None:
    text = "[agents.a]\nmatch = '1'\nvoice = 'cedar'\nkey = 'sk-hidden'\n[agents.b]\n"
    table = effective_table(loaded_from(tmp_path, text))
    block = table.partition("[agents.a]\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split() for line in block] == [
        ["key", "***", "file"],
        ["voice", '"cedar"', "file"],
        ["match", '["1"]', "file"],
    ]
    assert "[agents.b]\n  (as [openai])" in table
    assert "hidden" not in table


# Choosing


def agent(name: str, *match: str, match_from: tuple[str, ...] = ()) -> Agent:
    return Agent(name=name, openai=OpenAISettings(voice=name, match=match, match_from=match_from))


def chosen(settings: Settings, dialled: str, caller: str = "sip:alice@example.com") -> str | None:
    """The name of the one that answers, "[openai]" or None."""
    found = choose(settings, dialled, caller)
    if found is None:
        return None
    assert found.settings.openai.voice == (found.name or settings.openai.voice)
    return found.name or "[openai]"


def test_the_first_agent_that_matches_answers_then_openai_itself() -> None:
    settings = Settings(agents=(agent("a", "1..", "7"), agent("b", "1.*")))
    answered = {dialled: chosen(settings, dialled) for dialled in ("123", "7", "1234", "71", "", "5")}
    assert answered == {"123": "a", "7": "a", "1234": "b", "71": "[openai]", "": "[openai]", "5": "[openai]"}
    assert choose(settings, "5", "sip:a@b") == Chosen(None, settings)


def test_a_call_that_nobody_takes_is_left_to_nobody() -> None:
    settings = Settings(openai=OpenAISettings(match=("2.*",)), agents=(agent("a", "1.*"),))
    assert [chosen(settings, dialled) for dialled in ("1", "2", "3")] == ["a", "[openai]", None]


def test_the_caller_must_match_too() -> None:
    german = agent("german", "1.*", match_from=("[+]49.*", "0.*"))
    settings = Settings(openai=OpenAISettings(match_from=("alice",)), agents=(german,))
    assert chosen(settings, "100", "sip:+4930123@example.com") == "german"
    assert chosen(settings, "100", "tel:030123") == "german"
    assert chosen(settings, "200", "tel:030123") is None
    assert chosen(settings, "100", "sip:alice@example.com") == "[openai]"


def test_a_pattern_must_match_all_of_the_number() -> None:
    settings = Settings(openai=OpenAISettings(match=("none",)), agents=(agent("a", "1", "2$|3"),))
    assert [chosen(settings, dialled) for dialled in ("1", "11", "2", "2\n", "33")] == ["a", None, "a", None, None]


def test_a_number_longer_than_any_matches_no_pattern() -> None:
    settings = Settings(openai=OpenAISettings(match=("none",)), agents=(agent("a", "1*"),))
    assert chosen(settings, "1" * LONGEST_MATCHED) == "a"
    assert chosen(settings, "1" * (LONGEST_MATCHED + 1)) is None
    assert chosen(Settings(), "1" * 1000) == "[openai]"


@pytest.mark.parametrize(
    ("uri", "user"),
    [
        ("sip:alice@example.com;x=y", "alice"),
        ("SIPS:alice:secret@example.com", "alice"),
        ("sip:%2B4930@example.com", "+4930"),
        ("sip:+4930;phone-context=x@example.com;user=phone", "+4930"),
        ("tel:+49-30-123;ext=5", "+49-30-123"),
        ("sip:example.com", ""),
        ("sip:[::1]:5060;x=a", ""),
        ("sip:example.com;x=a:b", ""),
        ("anonymous", ""),
        ("", ""),
    ],
)
def test_the_user_of_a_uri_is_found(uri: str, user: str) -> None:
    assert user_of(uri) == user
