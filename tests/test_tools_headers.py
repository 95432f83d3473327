"""Header fields that a tool puts on our REFER and BYE: neither a tool nor the model behind it can inject others."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from paper_control import PaperControl

from aivc.config.rules import LONGEST_FIELD_NAME, LONGEST_FIELD_OCTETS, MOST_FIELD_OCTETS, MOST_FIELDS
from aivc.realtime.headers import HeaderRefused, header_fields
from aivc.realtime.toolcontext import ToolContext
from aivc.realtime.toolerrors import ToolError

GOOD = {"X-Reason": 'angry, and "loud"', "User-to-User": "00c9;encoding=hex"}


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"X-A": "a\r\nVia: evil"}, "X-A"),
        ({"X-A": "a\nb"}, "X-A"),
        ({"X-A": "a\x00"}, "X-A"),
        ({"X-A": " a"}, "X-A"),
        ({"X-A\r\nVia": "a"}, "is not the name of a header field"),
        ({"": "a"}, "is not the name of a header field"),
        ({"X A": "a"}, "is not the name of a header field"),
        ({"Grüße": "a"}, "is not the name of a header field"),
        ({"Refer-To": "sip:evil@example.com"}, "belongs to the protocol"),
        ({"R": "sip:evil@example.com"}, "belongs to the protocol"),
        ({"content-LENGTH": "0"}, "belongs to the protocol"),
        ({"X-A": 1}, "texts"),
        ({1: "a"}, "texts"),
        ({"X-A": "x" * (LONGEST_FIELD_OCTETS + 1)}, f"longer than {LONGEST_FIELD_OCTETS} octets"),
        ({"X-A": "ü" * (LONGEST_FIELD_OCTETS // 2 + 1)}, f"longer than {LONGEST_FIELD_OCTETS} octets"),
        ({"X" * (LONGEST_FIELD_NAME + 1): "a"}, "is not the name of a header field"),
        ({"X" * 70_000: "a"}, "is not the name of a header field"),
        ({f"X-{number}": "x" * 900 for number in range(5)}, f"more than {MOST_FIELD_OCTETS} octets together"),
        ({f"X-{number}": "" for number in range(MOST_FIELDS + 1)}, f"more than {MOST_FIELDS}"),
    ],
)
def test_a_field_that_could_be_taken_for_something_else_is_refused(headers: Any, why: str) -> None:
    with pytest.raises(HeaderRefused) as refused:
        header_fields(headers)
    assert why in str(refused.value)
    assert str(refused.value).isprintable()  # it goes to the model and into the log


def test_others_are_kept_in_their_order() -> None:
    assert header_fields(GOOD) == tuple(GOOD.items())
    assert header_fields(None) == header_fields({}) == ()


async def test_a_tool_puts_them_on_refer_and_bye() -> None:
    control = PaperControl()
    context = ToolContext("call-1", "sip:alice@example.com", "100", control).of_tool_call("1")
    context.hang_up(headers=GOOD)
    with trio.move_on_after(0.01):
        await context.transfer("sales", attended=True, headers=GOOD)
    assert control.done == [("hang_up", *GOOD.items()), ("transfer", "sales", True, *GOOD.items())]


async def test_what_cannot_be_sent_stops_the_whole_act() -> None:
    control = PaperControl()
    context = ToolContext("call-1", "sip:alice@example.com", "100", control).of_tool_call("1")
    with pytest.raises(ToolError):
        context.hang_up({"Via": "x"})
    with trio.fail_after(1), pytest.raises(ToolError):
        await context.transfer(headers={"Via": "x"})
    assert control.done == []
    assert not context.lifetime.hung_up
    assert not context.lifetime.transferring
