"""Places in what the model is told, filled from the INVITE: what strangers write in it stays data."""

from __future__ import annotations

import time

import pytest

from aivc.config.settings import OpenAISettings
from aivc.config.template import LONGEST_VALUE, cleaned, filled, in_call, passed_headers, strange_places

VALUES = {"caller": "sip:alice@example.com", "dialled": "100", "header.x-customer": "Müller"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Plain.", "Plain."),
        ("{{caller}} calls {{dialled}}.", "sip:alice@example.com calls 100."),
        ("{{ Caller }}", "sip:alice@example.com"),
        ("{{  caller\t}}", "sip:alice@example.com"),
        ("{{ header.X-Customer}}", "Müller"),
        ("{{header.X-Customer}}{{HEADER.x-customer}}", "MüllerMüller"),
        (
            "{{header.X-Other}} {{other}} {{}} {caller} {{caller}",
            "{{header.X-Other}} {{other}} {{}} {caller} {{caller}",
        ),
        ("{{{caller}}}", "{sip:alice@example.com}"),
    ],
)
def test_known_places_are_filled_and_others_stay(text: str, expected: str) -> None:
    assert filled(text, VALUES) == expected


def test_a_value_is_not_looked_into() -> None:
    assert filled("{{caller}}", {"caller": "{{dialled}}", "dialled": "100"}) == "{{dialled}}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("  a\r\n b\x00c\x1b[31m\x85\u2028d ", "a bc[31md"),
        ("x" * 1000, "x" * LONGEST_VALUE),
        ("\n" * 100_000 + "x", ""),
        ("Größe 😀", "Größe 😀"),
    ],
)
def test_a_value_is_one_short_line(value: str, expected: str) -> None:
    assert cleaned(value) == expected


def test_only_chosen_header_fields_are_passed_by_the_name_that_was_chosen() -> None:
    headers = {"x-customer": "4711\x07", "x-secret": "1", "subject": "Hello"}
    assert passed_headers(("X-Customer", "Subject", "X-None"), headers) == {"X-Customer": "4711", "Subject": "Hello"}


def test_the_templates_of_a_call_are_filled_and_a_missing_field_is_nothing() -> None:
    openai = OpenAISettings(instructions="{{header.X-A}}? <{{header.X-B}}> {{header.X-C}}", idle_message="{{caller}}")
    given = in_call(openai, "sip:a@b", "100", ("X-A", "X-B"), {"x-a": "yes", "x-c": "no"})
    assert (given.instructions, given.welcome_message) == ("yes? <> {{header.X-C}}", None)
    assert given.idle_message == "{{caller}}"


def test_strange_places_are_found_once_each() -> None:
    text = "{{caller}} {{dialed}} {{header.X-A}} {{header.X-B}} {{dialed}}"
    assert strange_places(text, ("x-a",)) == ["{{dialed}}", "{{header.X-B}}"]


def test_a_long_text_full_of_braces_takes_no_time() -> None:
    began = time.perf_counter()
    for text in ("{" * 200_000, "{{a" * 60_000, "{{ " * 60_000, "{{" + "a" * 200_000 + "}}"):
        assert filled(text, VALUES) == text
    assert time.perf_counter() - began < 2.0
