"""Where to connect, from every spelling of the URL that is in use."""

from __future__ import annotations

import attrs
import pytest

from aivc.config.settings import OpenAISettings, Secret
from aivc.realtime.target import target

SETTINGS = OpenAISettings(key=Secret("sk-test"), model="gpt-realtime-2.1")


def at(url: str, model: str = "gpt-realtime-2.1") -> OpenAISettings:
    return attrs.evolve(SETTINGS, url=url, model=model)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("wss://api.openai.com/v1/realtime", "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"),
        ("wss://api.openai.com/v1/realtime/", "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"),
        ("https://api.openai.com/v1", "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"),
        ("http://127.0.0.1:8080/v1/", "ws://127.0.0.1:8080/v1/realtime?model=gpt-realtime-2.1"),
        ("ws://[::1]:9000", "ws://[::1]:9000/realtime?model=gpt-realtime-2.1"),
        ("wss://host.test/v1/realtime?model=other", "wss://host.test/v1/realtime?model=other"),
        ("wss://host.test/v1?zone=eu", "wss://host.test/v1/realtime?zone=eu&model=gpt-realtime-2.1"),
        (
            "wss://r.openai.azure.com/openai/realtime?api-version=2024-10-01-preview&deployment=D",
            "wss://r.openai.azure.com/openai/realtime?api-version=2024-10-01-preview&deployment=D",
        ),
        ("wss://api.openai.com/v1/realtime?call_id=rtc_1", "wss://api.openai.com/v1/realtime?call_id=rtc_1"),
        ("WSS://user:pass@Host.TEST:443/v1", "wss://host.test/v1/realtime?model=gpt-realtime-2.1"),
    ],
)
def test_each_spelling_gives_one_url(given: str, expected: str) -> None:
    assert target(at(given)).url == expected


def test_host_port_and_resource_are_what_a_connection_needs() -> None:
    place = target(at("http://[::1]:8080/v1"))
    assert (place.host, place.port, place.tls) == ("::1", 8080, False)
    assert place.resource == "/v1/realtime?model=gpt-realtime-2.1"
    assert place.authority == "[::1]:8080"
    assert (target(at("wss://h.test/v1")).port, target(at("ws://h.test/v1")).port) == (443, 80)


def test_a_model_name_is_quoted() -> None:
    assert target(at("ws://h.test/v1", "my model/2&x=1")).resource == "/v1/realtime?model=my%20model%2F2%26x%3D1"


@pytest.mark.parametrize("host", ["api.openai.com", "eu.api.openai.com"])
def test_a_retired_model_is_replaced_on_openais_own_hosts(host: str) -> None:
    retired = "gpt-4o-realtime-preview-2024-10-01"
    assert retired not in target(at(f"wss://{host}/v1/realtime", retired)).url
    assert retired in target(at("wss://compatible.test/v1/realtime", retired)).url


def test_credentials_and_dialect_become_headers() -> None:
    assert target(SETTINGS).headers == (("Authorization", "Bearer sk-test"),)
    beta = attrs.evolve(SETTINGS, dialect="beta")
    assert target(beta).headers == (("Authorization", "Bearer sk-test"), ("OpenAI-Beta", "realtime=v1"))
    assert target(attrs.evolve(SETTINGS, key=None)).headers == ()


def test_nothing_secret_is_printed() -> None:
    place = target(at("wss://host.test/v1?api-key=azure-secret"))
    assert "sk-test" not in repr(place)
    assert "azure-secret" not in repr(place)
    assert "azure-secret" in place.url


@pytest.mark.parametrize(
    "url",
    ["", "api.openai.com", "ftp://h/v1", "wss://", "wss://h:99999/v1", "wss://h:x/v1", "wss://h/v1 x", "ws://[::1"],
)
def test_a_url_that_cannot_be_used_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError, match=r"openai\.url"):
        target(at(url))


@pytest.mark.parametrize("key", ["", "sk bad", "sk-\r\nEvil: 1", "sk-\x00", "sk-é"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ValueError, match=r"openai\.key") as caught:
        target(attrs.evolve(SETTINGS, key=Secret(key)))
    assert not key or key not in str(caught.value)
