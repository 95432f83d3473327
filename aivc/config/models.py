"""Which model names OpenAI has retired or will retire, and their published successors.

Source: the deprecations page of OpenAI's API documentation. Another server's models are its own affair: there a name
is sent as it stands.
"""

from __future__ import annotations

from typing import Literal

import attrs

from aivc.config.rules import is_openai_host


@attrs.frozen
class Retirement:
    """One name, or all names that begin with it, and what takes its place."""

    name: str
    match: Literal["exact", "prefix"]
    shutdown: str  # date, ISO 8601
    successor: str

    def covers(self, model: str) -> bool:
        return model.startswith(self.name) if self.match == "prefix" else model == self.name


FULL = "gpt-realtime-2.1"
MINI = "gpt-realtime-2.1-mini"

RETIRED = (
    Retirement("gpt-4o-realtime-preview", "prefix", "2026-05-07", FULL),
    Retirement("gpt-4o-mini-realtime-preview", "prefix", "2026-05-07", MINI),
)
DEPRECATED = (  # these still answer: the name is kept, and the warning gives the date
    Retirement("gpt-realtime", "exact", "2027-01-20", FULL),
    Retirement("gpt-realtime-2025-08-28", "exact", "2027-01-20", FULL),
    Retirement("gpt-realtime-mini", "exact", "2027-01-20", MINI),
    Retirement("gpt-realtime-mini-2025-10-06", "exact", "2027-01-20", MINI),
    Retirement("gpt-realtime-mini-2025-12-15", "exact", "2027-01-20", MINI),
)


@attrs.frozen
class ResolvedModel:
    """The model to ask for."""

    name: str
    retired: str | None = None  # the configured name, when another is used in its place
    warning: str | None = None  # one sentence for the log


def resolve_model(model: str, url: str) -> ResolvedModel:
    """The model to ask the server at `url` for: `model`, or on OpenAI's own hosts the successor of a retired one."""
    if not is_openai_host(url):
        return ResolvedModel(model)
    for gone in RETIRED:
        if gone.covers(model):
            warning = (
                f"OpenAI shut {model} down on or before {gone.shutdown}, so its successor {gone.successor} is used;"
                f' set the model (openai.model, OPENAI_API_MODEL) to "{gone.successor}" to silence this'
            )
            return ResolvedModel(gone.successor, retired=model, warning=warning)
    for going in DEPRECATED:
        if going.covers(model):
            warning = (
                f"OpenAI shuts {model} down on {going.shutdown};"
                f' set the model (openai.model, OPENAI_API_MODEL) to "{going.successor}" before'
            )
            return ResolvedModel(model, warning=warning)
    return ResolvedModel(model)
