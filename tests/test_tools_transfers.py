"""Built-in functions: what the model is offered, what they do, and where it may send a call."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import trio
from paper_control import PaperControl

from aivc.config.settings import OpenAISettings
from aivc.realtime.toolcontext import DigitsFailed, ToolContext, TransferFailed
from aivc.realtime.tools import ToolArgumentsError, load_registry
from aivc.realtime.transfers import LONGEST_TARGET, TransferRefused, transfer_uri

DESK = "sip:desk@pbx.example:5070;transport=udp"
TARGETS = {"sales": "sip:sales@example.com", "Night Shift": "tel:+4930123"}


def settings(**given: Any) -> OpenAISettings:
    return OpenAISettings(**given)


def target_schema(**given: Any) -> dict[str, Any]:
    definition = load_registry(settings(**given)).get("transfer_call")
    assert definition is not None
    return dict(definition.parameters)


async def call(control: PaperControl, name: str, arguments: str, **given: Any) -> object:
    """Call a built-in function as the model does."""
    context = ToolContext("call-1", "sip:alice@example.com", "100", control)
    function = load_registry(settings(**given)).prepare(name, arguments, context)
    assert inspect.iscoroutinefunction(function)
    with trio.fail_after(5):
        return await function()


# What is offered


@pytest.mark.parametrize(
    "given",
    [{"transfer_to": DESK}, {"transfer_targets": TARGETS}, {"transfer_allow": ("[0-9]+",)}],
    ids=["to", "targets", "allow"],
)
def test_a_transfer_is_offered_only_where_there_is_a_place_to_go(given: dict[str, Any]) -> None:
    assert "transfer_call" not in load_registry(settings())
    assert "transfer_call" in load_registry(settings(**given))
    assert "transfer_call" not in load_registry(settings(**given, disabled_tools=("transfer_call",)))


def test_with_one_place_only_the_model_need_not_name_it() -> None:
    assert target_schema(transfer_to=DESK)["properties"] == {}


def test_the_names_that_are_configured_are_the_only_choice() -> None:
    schema = target_schema(transfer_targets=TARGETS)
    assert schema["properties"]["target"]["enum"] == ["sales", "Night Shift"]
    assert schema["required"] == ["target"]


def test_a_name_may_be_left_out_where_there_is_a_usual_place() -> None:
    schema = target_schema(transfer_targets=TARGETS, transfer_to=DESK)
    assert schema["required"] == []
    assert "Leave it out" in schema["properties"]["target"]["description"]


def test_free_text_is_offered_only_where_something_is_allowed() -> None:
    target = target_schema(transfer_targets=TARGETS, transfer_allow=("[0-9]+",))["properties"]["target"]
    assert "enum" not in target
    assert "One of sales, Night Shift, or a telephone number" in target["description"]
    assert target_schema(transfer_allow=("[0-9]+",))["required"] == ["target"]


def test_the_model_is_told_to_speak_first_and_not_to_send_keys_to_people() -> None:
    tools = load_registry(settings(transfer_to=DESK))
    described = {schema.name: schema.description for schema in tools.schemas}
    assert list(described) == ["terminate_call", "transfer_call", "send_digits"]
    assert "goodbye aloud first" in described["terminate_call"]
    assert "tell the caller first" in described["transfer_call"]
    assert "say numbers aloud" in described["send_digits"]


# What they do


async def test_terminate_call_hangs_up() -> None:
    control = PaperControl()
    assert await call(control, "terminate_call", "") == "The call is ending."
    assert control.done == [("hang_up",)]


@pytest.mark.parametrize(("arguments", "target"), [('{"target": "sales"}', "sales"), ("{}", None)])
async def test_transfer_call_tells_the_model_why_it_failed(arguments: str, target: str | None) -> None:
    control = PaperControl(TransferFailed("486 Busy Here"))
    with pytest.raises(TransferFailed, match="486 Busy Here"):
        await call(control, "transfer_call", arguments, transfer_to=DESK, transfer_targets=TARGETS)
    assert control.done == [("transfer", target)]


async def test_send_digits_sends_them() -> None:
    control = PaperControl()
    assert await call(control, "send_digits", '{"digits": "47#"}') == "The keys 47# were sent."
    assert control.done == [("send_digits", "47#")]
    with pytest.raises(DigitsFailed, match="no telephone-event"):
        await call(PaperControl(DigitsFailed("no telephone-event")), "send_digits", '{"digits": "1"}')
    with pytest.raises(ToolArgumentsError, match="expected string, got 47"):
        await call(control, "send_digits", '{"digits": 47}')


# Where to


@pytest.mark.parametrize("target", [None, "", "  "])
def test_without_a_target_it_is_the_usual_place(target: str | None) -> None:
    assert transfer_uri(settings(transfer_to=DESK), target) == DESK
    with pytest.raises(TransferRefused, match="say where to: sales, Night Shift"):
        transfer_uri(settings(transfer_targets=TARGETS), target)


@pytest.mark.parametrize("name", ["sales", "SALES", " Sales "])
def test_a_configured_name_is_its_uri(name: str) -> None:
    assert transfer_uri(settings(transfer_targets=TARGETS), name) == "sip:sales@example.com"


@pytest.mark.parametrize("target", ["support", "+49301234", "sip:me@evil.example", "sip:sales@example.com"])
def test_what_is_not_configured_is_refused(target: str) -> None:
    with pytest.raises(TransferRefused, match="there is sales, Night Shift, the usual place, if you name none"):
        transfer_uri(settings(transfer_targets=TARGETS, transfer_to=DESK), target)


@pytest.mark.parametrize(
    ("patterns", "target", "uri"),
    [
        (("[0-9]{3}",), "123", "sip:123@pbx.example:5070"),
        ((r"\+49[0-9]+",), "+49 (30) 123-45", "sip:+493012345@pbx.example:5070"),
        ((r"[0-9*#]+",), "*21#", "sip:*21%23@pbx.example:5070"),
        (("sip:[a-z]+@example[.]com",), "sip:bob@example.com", "sip:bob@example.com"),
        (("x", "tel:.*"), "tel:+1555", "tel:+1555"),
    ],
)
def test_what_a_pattern_allows_is_called(patterns: tuple[str, ...], target: str, uri: str) -> None:
    assert transfer_uri(settings(transfer_allow=patterns, transfer_to=DESK), target) == uri


@pytest.mark.parametrize(
    ("transfer_to", "uri"),
    [
        (None, "tel:123"),
        ("tel:+4930", "tel:123"),
        ("sips:pbx.example", "sips:123@pbx.example"),
        ("sip:a@[2001:db8::1]:5060;lr?x=y", "sip:123@[2001:db8::1]:5060"),
    ],
)
def test_a_number_is_called_where_the_usual_place_is(transfer_to: str | None, uri: str) -> None:
    assert transfer_uri(settings(transfer_allow=(".*",), transfer_to=transfer_to), "123") == uri


@pytest.mark.parametrize(
    "target",
    [
        "sip:bob@example.com\r\nX: y",
        "sip:bob@example.com?Replaces=1",
        "<sip:bob@example.com>",
        'sip:"b"@example.com',
        "sip:b ob@example.com",
        "sip:bøb@example.com",
        "mailto:bob@example.com",
        "bob",
        "sip:",
        "1" * (LONGEST_TARGET + 1),
        "sip:" + "a" * LONGEST_TARGET,
    ],
)
def test_what_is_no_clean_number_or_uri_is_refused_whatever_the_patterns(target: str) -> None:
    with pytest.raises(TransferRefused):
        transfer_uri(settings(transfer_allow=("(?s).*",)), target)


@pytest.mark.parametrize("target", ["1234", "12", "sip:123@example.com", "123#"])
def test_a_pattern_must_match_the_whole(target: str) -> None:
    with pytest.raises(TransferRefused, match="may not be called; there is some telephone numbers or SIP URIs"):
        transfer_uri(settings(transfer_allow=("[0-9]{3}",)), target)
