"""Retired model names and what takes their place."""

from __future__ import annotations

import pytest

from aivc.config.models import DEPRECATED, FULL, MINI, RETIRED, ResolvedModel, resolve_model
from aivc.config.rules import is_openai_host
from aivc.config.settings import Settings

OPENAI = Settings().openai.url


@pytest.mark.parametrize(
    ("model", "successor"),
    [
        ("gpt-4o-realtime-preview", FULL),
        ("gpt-4o-realtime-preview-2024-10-01", FULL),
        ("gpt-4o-realtime-preview-2025-06-03", FULL),
        ("gpt-4o-mini-realtime-preview", MINI),
        ("gpt-4o-mini-realtime-preview-2024-12-17", MINI),
    ],
)
def test_a_retired_model_is_replaced_on_openais_hosts_with_one_warning(model: str, successor: str) -> None:
    resolved = resolve_model(model, OPENAI)
    assert (resolved.name, resolved.retired) == (successor, model)
    assert resolved.warning is not None
    for part in (model, successor, "openai.model", "OPENAI_API_MODEL", "shut"):
        assert part in resolved.warning
    assert "\n" not in resolved.warning


@pytest.mark.parametrize(
    "url", ["ws://127.0.0.1:8765/v1/realtime", "wss://me.openai.azure.com/openai/v1/realtime", "wss://[::1"]
)
def test_elsewhere_a_retired_name_is_sent_as_it_stands(url: str) -> None:
    assert resolve_model("gpt-4o-realtime-preview", url) == ResolvedModel("gpt-4o-realtime-preview")


def test_a_model_that_will_be_shut_down_is_kept_and_its_date_is_said() -> None:
    resolved = resolve_model("gpt-realtime-mini", OPENAI)
    assert (resolved.name, resolved.retired) == ("gpt-realtime-mini", None)
    assert resolved.warning is not None
    assert "2027-01-20" in resolved.warning


@pytest.mark.parametrize(
    "model", ["gpt-realtime-2.1", "gpt-realtime-2.1-mini", "gpt-realtime-2", "gpt-realtime-1.5", "of-tomorrow"]
)
def test_a_living_or_unknown_model_is_kept_without_a_word(model: str) -> None:
    assert resolve_model(model, OPENAI) == ResolvedModel(model)


def test_no_successor_is_itself_retired_or_about_to_be() -> None:
    for gone in (*RETIRED, *DEPRECATED):
        assert resolve_model(gone.successor, OPENAI) == ResolvedModel(gone.successor)


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("wss://api.openai.com/v1/realtime", True),
        ("wss://eu.api.openai.com/v1/realtime", True),
        ("https://API.OPENAI.COM./v1", True),
        ("wss://notopenai.com/", False),
        ("wss://api.openai.com.evil.example/", False),
        ("wss://me.openai.azure.com/", False),
        ("not a url", False),
        ("wss://[", False),
    ],
)
def test_openais_own_hosts_are_told_from_others(url: str, own: bool) -> None:
    assert is_openai_host(url) is own
