"""Functions for the model, in a file of their own.

    OPENAI_TOOLS=examples/tools.py aivc serve

or `tools = "examples/tools.py"` in `[openai]`. The model knows a function by its name, its docstring and its types;
what it sends is checked before the function runs, and what it did wrong is told to it.
"""

from __future__ import annotations

import enum

import attrs

from aivc import ToolContext, tool


class Meal(enum.Enum):
    LUNCH = "lunch"
    DINNER = "dinner"


@attrs.frozen
class Guest:
    name: str
    child: bool = False


@tool
def opening_hours(meal: Meal) -> str:
    """Tell when the kitchen is open."""  # a plain function runs in a thread, so it may block
    return "12 to 14" if meal is Meal.LUNCH else "18 to 22"


@tool(finish=True, seconds=10)
async def book_table(context: ToolContext, date: str, meal: Meal, guests: list[Guest], note: str | None = None) -> str:
    """Book a table, once the caller has confirmed the day and the names.

    Args:
        date: the day, as YYYY-MM-DD
        guests: everybody who comes
        note: what the kitchen should know
    """
    booked = context.state.setdefault("booked", [])  # one dictionary a call
    assert isinstance(booked, list)
    booked.append(date)
    children = sum(guest.child for guest in guests)
    print(f"{context.caller} booked {meal.value} for {len(guests)}, {children} of them children, on {date}: {note}")
    return f"Booked; it is number {len(booked)} of this caller."


@tool
async def speak_to_the_chef(context: ToolContext) -> str:
    """Put the caller through to the kitchen. Tell the caller first."""
    return await context.transfer("kitchen")  # a name of openai.transfer_targets; raises what the model should know
