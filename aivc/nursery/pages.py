"""What the admin view shows at which path. Anybody who reaches it may look: it asks for no password."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from aivc.nursery import metrics
from aivc.nursery.status import Json, Status, to_json, total

ABSOLUTE: Final = "http://"
PLAIN: Final = "text/plain; charset=utf-8"


@attrs.frozen
class Page:
    """An answer.

    Attributes:
      status: of HTTP.
    """

    status: int
    content_type: str
    body: bytes


def plain(status: int, text: str) -> Page:
    return Page(status, PLAIN, f"{text}\n".encode())


def healthz(statuses: Sequence[Status]) -> Page:
    """Whether new calls are taken; if not: why."""
    found = total(statuses)
    return plain(200, "ok") if found.accepting else plain(503, found.why_not)


def status(statuses: Sequence[Status]) -> Page:
    body = json.dumps(overview(statuses), allow_nan=False)
    return Page(200, "application/json", f"{body}\n".encode())


def overview(statuses: Sequence[Status]) -> Json:
    """All processes as one, and then each of them; calls and settings stand there once."""
    found, workers = to_json(total(statuses)), [to_json(status) for status in statuses]
    for name in ("worker", "pid"):
        del found[name]
    for worker in workers:
        for name in ("settings", "in_progress"):
            del worker[name]
    return {**found, "workers": workers}


def exposition(statuses: Sequence[Status]) -> Page:
    return Page(200, metrics.CONTENT_TYPE, metrics.exposition(statuses).encode())


PAGES: Final[dict[str, Callable[[Sequence[Status]], Page]]] = {
    "/healthz": healthz,
    "/status": status,
    "/metrics": exposition,
}


def page_at(target: str, look: Callable[[], Sequence[Status]]) -> Page:
    """What stands at the target of a request; nobody looks for what does not exist."""
    make = PAGES.get(path_of(target))
    return plain(404, f"there are {', '.join(PAGES)}") if make is None else make(look())


def path_of(target: str) -> str:
    """Without the query; of the absolute form (RFC 9112 section 3.2.2) what follows the host."""
    path = target.partition("?")[0]
    if path.startswith(ABSOLUTE):
        return "/" + path.removeprefix(ABSOLUTE).partition("/")[2]
    return path
