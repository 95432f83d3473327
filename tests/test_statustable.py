"""What `aivc status` prints of the object at /status."""

from __future__ import annotations

import attrs
import pytest
from test_metrics import full_status

from aivc.nursery.pages import overview
from aivc.nursery.status import CallInProgress, Histogram, Status
from aivc.nursery.statustable import MOST_CALLS, duration, quantiles, table

CALL = CallInProgress(call_id="a@phone", agent="night", caller="***123", state="answered", seconds=130.0)


def lines(*statuses: Status) -> list[str]:
    text = table(overview(statuses))
    assert text.endswith("\n")
    return text.splitlines()


def test_whatever_is_not_zero_has_its_line() -> None:
    shown = lines(full_status())
    assert shown == [
        "aivc/1.0, up 1 min 0 s, takes calls",
        "  calls          2 of 10, 1 answered, 0 refused",
        "  ended          caller_hung_up 1",
        "  answer time    half within 0.5 s, 95 % within 0.5 s",
        "  response time  half within 1 s, 95 % not within 10 s",
        "  made of        model 6480 ms, tool 205 ms, vad 200 ms",
        "  pacing         p99 0.4 ms",
        "  rtp            sent 3001, received 3000, lost 2, heard_dropped 1",
        "  dropped        late_deltas 4, heard 1",
        "  model errors   other 1, realtime_lost 1",
        "  cost           0.25 USD",
        "  opensips       not subscribed",
        "  registration   100 at pbx: failed (403: look)",
        "  recordings     written 3, truncated 2, lost 1",
        "  process        48 MiB, 0 tasks, 30 descriptors",
    ]


def test_why_no_calls_are_taken_stands_first() -> None:
    status = Status(version="aivc/1.0", uptime_seconds=5.0, why_not="the service is going down")
    assert lines(status)[0] == "aivc/1.0, up 5 s, takes no calls: the service is going down"


def test_several_workers_have_a_line_each() -> None:
    one = attrs.evolve(full_status(), in_progress=(CALL,))
    two = attrs.evolve(one, worker="1", pid=8, accepting=False, why_not="full", in_progress=())
    assert lines(one, two)[-6:] == [
        "  worker  pid  calls    pacing      memory",
        "  0       7    2 of 10  p99 0.4 ms  48 MiB",
        "  1       8    2 of 10  p99 0.4 ms  48 MiB  full",
        "",
        "  call     state     since       caller  agent",
        "  a@phone  answered  2 min 10 s  ***123  night",
    ]


def test_of_many_calls_the_first_are_shown_and_the_others_counted() -> None:
    shown = lines(attrs.evolve(full_status(), in_progress=(CALL,) * (MOST_CALLS + 3)))
    assert sum("a@phone" in line for line in shown) == MOST_CALLS
    assert shown[-1] == "  and 3 more"


def test_what_a_caller_wrote_cannot_drive_the_terminal() -> None:
    odd = attrs.evolve(CALL, call_id="\x1b[2J\x07\u202ea", caller="***\n\x9b")
    assert lines(attrs.evolve(full_status(), in_progress=(odd,)))[-1].startswith("  ?[2J??a  answered")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.0, "59 s"),
        (59.9, "59 s"),
        (60.0, "1 min 0 s"),
        (3599.0, "59 min 59 s"),
        (3600.0, "1 h 0 min"),
        (90_000.0, "1 d 1 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_share_is_told_by_the_bound_that_it_does_not_pass() -> None:
    found = Histogram.empty(1.0, 2.0)
    assert quantiles(found) == quantiles(None) == ""
    for value in (0.5, 0.6, 1.5):
        found = found.with_values([value])
    assert quantiles(found) == "half within 1 s, 95 % within 2 s"
    assert quantiles(found.with_values([9.0])) == "half within 1 s, 95 % not within 2 s"
