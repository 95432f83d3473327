"""From typed Python functions to what the model sees, and from what the model writes back to typed calls."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

import attrs
import pytest
from paper_control import PaperControl

from aivc.realtime.tools import (
    MAX_TOOLS,
    Tool,
    ToolArgumentsError,
    ToolContext,
    ToolRegistry,
    terminate_call,
    tool,
)


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@attrs.frozen
class Guest:
    name: str
    age: int = 18


@tool
def book(
    date: str,
    guests: int,
    *,
    rate: float = 1.5,
    window: bool = False,
    meal: Literal["lunch", "dinner"] = "dinner",
    size: Size = Size.SMALL,
    names: list[str] | None = None,
    party: list[Guest] | None = None,
    extras: dict[str, int] | None = None,
    note: Annotated[str | None, "anything else"] = None,
) -> dict[str, Any]:
    """Book a table,
    or as many as needed.

    Only after the caller confirmed.

    Args:
        date: day of the visit,
            as YYYY-MM-DD
        guests (int): how many

    Returns:
        nothing that the model needs to know of
    """
    return dict(locals())


def context() -> ToolContext:
    return ToolContext("call-1", "sip:alice@example.com", "100", PaperControl())


def registry(*definitions: Tool) -> ToolRegistry:
    tools = ToolRegistry()
    for definition in definitions:
        tools.add(definition)
    return tools


# The schema


def test_a_tool_is_named_and_described_by_its_function() -> None:
    assert book.name == "book"
    assert book.description == "Book a table, or as many as needed.\n\nOnly after the caller confirmed."


def test_each_type_has_its_schema() -> None:
    text = {"type": "string"}
    guest = {
        "type": "object",
        "properties": {"name": text, "age": {"type": "integer"}},
        "required": ["name"],
        "additionalProperties": False,
    }
    assert book.parameters == {
        "type": "object",
        "properties": {
            "date": text | {"description": "day of the visit, as YYYY-MM-DD"},
            "guests": {"type": "integer", "description": "how many"},
            "rate": {"type": "number"},
            "window": {"type": "boolean"},
            "meal": {"type": "string", "enum": ["lunch", "dinner"]},
            "size": {"type": "string", "enum": ["small", "large"]},
            "names": {"type": "array", "items": text},
            "party": {"type": "array", "items": guest},
            "extras": {"type": "object", "additionalProperties": {"type": "integer"}},
            "note": text | {"description": "anything else"},
        },
        "required": ["date", "guests"],
        "additionalProperties": False,
    }


@attrs.frozen
class Party:
    host: Guest
    sizes: list[Size] = attrs.field(factory=list)
    level: Literal[1, 2] | None = None


def test_types_nest() -> None:
    @tool
    def invite(parties: list[Party], by_day: dict[str, list[Guest]] | None = None) -> list[Party]:
        return parties

    (schema,) = [invite.parameters["properties"]]
    assert isinstance(schema, dict)
    members = schema["parties"]["items"]["properties"]
    assert members["host"]["properties"]["age"] == {"type": "integer"}
    assert members["sizes"] == {"type": "array", "items": {"type": "string", "enum": ["small", "large"]}}
    assert members["level"] == {"type": "integer", "enum": [1, 2]}
    assert schema["by_day"]["additionalProperties"]["items"]["required"] == ["name"]
    given = '{"parties": [{"host": {"name": "Ann"}, "sizes": ["large"], "level": 2}]}'
    assert registry(invite).prepare("invite", given, context())() == [Party(Guest("Ann"), [Size.LARGE], 2)]
    with pytest.raises(ToolArgumentsError, match=r"parties\[0\].host"):
        registry(invite).prepare("invite", '{"parties": [{"host": {"age": 3}}]}', context())


def test_a_required_value_that_may_be_null_says_so() -> None:
    @tool
    def cancel(reason: str | None) -> None: ...

    assert cancel.parameters["properties"] == {"reason": {"anyOf": [{"type": "string"}, {"type": "null"}]}}


def test_sphinx_parameters_are_read_too() -> None:
    @tool
    def cancel(number: int, why: str = "") -> None:
        """Cancel a booking.

        :param number: of the booking
        :param str why: in words
        :returns: nothing
        """

    assert cancel.description == "Cancel a booking."
    assert cancel.parameters["properties"] == {
        "number": {"type": "integer", "description": "of the booking"},
        "why": {"type": "string", "description": "in words"},
    }


def test_the_model_never_sees_the_context() -> None:
    @tool
    def who(context: ToolContext, loud: bool = False) -> str:
        return context.caller.upper() if loud else context.caller

    assert who.parameters["properties"] == {"loud": {"type": "boolean"}}
    assert registry(who).prepare("who", '{"loud": true}', context())() == "SIP:ALICE@EXAMPLE.COM"


def test_name_and_description_may_be_given() -> None:
    @tool(name="other", description="Does it.")
    def anything() -> None: ...

    assert (anything.name, anything.description) == ("other", "Does it.")


def test_a_deadline_of_its_own_and_going_on_after_the_call_may_be_given() -> None:
    @tool(seconds=30, finish=True)
    async def save() -> None: ...

    assert (save.seconds, save.finish) == (30, True)
    assert (book.seconds, book.finish) == (None, False)
    with pytest.raises(ValueError, match="seconds must be more than 0"):
        tool(seconds=0)(book.function)


def test_a_tool_is_still_the_function() -> None:
    @tool
    def double(n: int) -> int:
        return 2 * n

    assert double(4) == 8


def untyped(x) -> None: ...  # type: ignore[no-untyped-def]  # the point of the test


def positional(x: int, /) -> None: ...


def variable(*xs: int) -> None: ...


def complex_union(x: int | str) -> None: ...


def odd_type(x: bytes) -> None: ...


def mixed_choice(x: Literal["a", 1]) -> None: ...


def bare_list(x: list) -> None: ...  # type: ignore[type-arg]  # the point of the test


@pytest.mark.parametrize(
    "function",
    [untyped, positional, variable, complex_union, odd_type, mixed_choice, bare_list],
    ids=lambda f: f.__name__,
)
def test_what_a_model_cannot_be_told_simply_is_refused_at_once(function: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match=function.__name__):
        tool(function)


@pytest.mark.parametrize("name", ["", "two words", "é", "a" * 65, "a\r\nb"])
def test_a_name_that_the_api_refuses_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="tool name"):
        Tool(name, "", {}, print)


# The call


def test_arguments_arrive_with_the_functions_own_types() -> None:
    arguments = """{"date": "2030-01-02", "guests": 3.0, "rate": 2, "size": "large", "names": ["Ann"],
                    "party": [{"name": "Bo"}], "extras": {"chair": 1}, "note": null}"""
    called = registry(book).prepare("book", arguments, context())()
    assert called == {
        "date": "2030-01-02",
        "guests": 3,
        "rate": 2.0,
        "window": False,
        "meal": "dinner",
        "size": Size.LARGE,
        "names": ["Ann"],
        "party": [Guest("Bo")],
        "extras": {"chair": 1},
        "note": None,
    }
    assert isinstance(called, dict)
    assert isinstance(called["guests"], int)


@pytest.mark.parametrize(
    ("arguments", "explained"),
    [
        ('{"guests": 2}', "missing argument 'date'"),
        ('{"date": "x", "guests": 2, "when": 1}', "unknown argument 'when'"),
        ('{"date": 5, "guests": 2}', "expected string, got 5"),
        ('{"date": "x", "guests": "two"}', "expected integer, got 'two'"),
        ('{"date": "x", "guests": 2.5}', "expected integer, got 2.5"),
        ('{"date": "x", "guests": true}', "expected integer, got True"),
        ('{"date": "x", "guests": Infinity}', "expected integer"),
        ('{"date": "x", "guests": 2, "window": "no"}', "expected boolean"),
        ('{"date": "x", "guests": 2, "rate": "high"}', "expected number"),
        ('{"date": "x", "guests": 2, "meal": "tea"}', "meal"),
        ('{"date": "x", "guests": 2, "size": "huge"}', "size"),
        ('{"date": "x", "guests": 2, "names": "Ann"}', "names"),
        ('{"date": "x", "guests": 2, "party": [{"age": 3}]}', "party"),
        ('{"date": "x", "guests": 2, "party": [{"name": "B", "x": 1}]}', "party"),
        ('{"date": "x", "guests": 2, "party": 7}', "party"),
        ("[1]", "not a JSON object"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('"x"', "not a JSON object"),
    ],
    ids=range(19),
)
def test_wrong_arguments_are_explained_to_the_model(arguments: str, explained: str) -> None:
    with pytest.raises(ToolArgumentsError) as caught:
        registry(book).prepare("book", arguments, context())
    assert explained in str(caught.value)
    assert str(caught.value).startswith("book: ")


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ToolArgumentsError, match=r"unknown argument 'x'.*missing argument 'date'.*expected integer"):
        registry(book).prepare("book", '{"x": 1, "guests": "two"}', context())


def test_an_unknown_tool_is_answered_with_those_there_are() -> None:
    with pytest.raises(ToolArgumentsError, match="there is no tool 'bok'; the tools are book, terminate_call"):
        registry(book, terminate_call).prepare("bok", "{}", context())


@pytest.mark.parametrize("arguments", ["", " ", "{}"])
def test_no_arguments_may_be_written_as_nothing(arguments: str) -> None:
    @tool
    def now() -> str:
        return "noon"

    assert registry(now).prepare("now", arguments, context())() == "noon"


async def test_an_async_function_is_recognised_as_such() -> None:
    @tool
    async def double(n: int) -> int:
        return 2 * n

    call = registry(double).prepare("double", '{"n": 4}', context())
    assert inspect.iscoroutinefunction(call)
    assert await call() == 8


def test_a_schema_by_hand_passes_the_arguments_as_they_are() -> None:
    by_hand = Tool("raw", "", {"type": "object", "properties": {"x": {}}}, lambda **given: given)
    assert registry(by_hand).prepare("raw", '{"x": [1, null]}', context())() == {"x": [1, None]}


# The registry


def test_the_last_definition_of_a_name_wins_and_keeps_its_place() -> None:
    first, second = Tool("a", "first", {}, print), Tool("a", "second", {}, print)
    tools = registry(first, Tool("b", "", {}, print), second)
    assert [(schema.name, schema.description) for schema in tools.schemas] == [("a", "second"), ("b", "")]
    assert len(tools) == 2
    assert "a" in tools
    assert tools.get("a") is second
    assert tools.get("c") is None


def test_there_are_no_more_tools_than_the_api_takes() -> None:
    tools = registry(*(Tool(f"t{n}", "", {}, print) for n in range(MAX_TOOLS)))
    tools.add(Tool("t0", "replaced", {}, print))
    with pytest.raises(ValueError, match="more than 128"):
        tools.add(Tool("one_more", "", {}, print))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_json_does_not_know_as_a_number_is_none(number: str) -> None:
    """A NaN would pass every limit that a tool checks."""

    def pay(amount: float) -> str:
        return "refused" if amount > 100 else f"paid {amount}"

    with pytest.raises(ToolArgumentsError, match="expected number"):
        tool(pay).bind(f'{{"amount": {number}}}', context())
