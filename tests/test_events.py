"""The neutral events are values: frozen, comparable, and all members of their union."""

from __future__ import annotations

from types import ModuleType
from typing import get_args

import attrs
import pytest

from aivc.realtime import effects, events


def own_classes(module: ModuleType) -> set[type]:
    classes = {value for value in vars(module).values() if isinstance(value, type)}
    return {cls for cls in classes if attrs.has(cls) and cls.__module__ == module.__name__}


def test_every_event_is_in_exactly_one_union() -> None:
    client, server = set(get_args(events.ClientEvent)), set(get_args(events.ServerEvent))
    assert not client & server
    assert own_classes(events) - client - server == {events.ToolSchema, events.Usage}


def test_every_effect_is_in_the_union() -> None:
    assert own_classes(effects) - set(get_args(effects.Effect)) == {effects.ToolCall}


def test_an_event_cannot_be_changed() -> None:
    event = events.ResponseCreated("resp_1")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.response_id = "resp_2"  # type: ignore[misc]  # the point of the test
