"""What a replay has come to, for people."""

from __future__ import annotations

from collections.abc import Iterator

from aivc.flight.entries import Entry, RealtimeEvent, RtpPacket, SipMessage
from aivc.replaying.comparing import Difference
from aivc.replaying.ladder import WIDTH, described
from aivc.replaying.replay import Outcome


def report(outcome: Outcome) -> str:
    """One line, or the first difference with what came before it. Ends with a line feed."""
    if outcome.difference is None:
        return f"Equal: {outcome.compared} messages and packets of ours in {outcome.seconds:.1f} s.\n"
    told = f"{outcome.compared} messages and packets of ours were as recorded before."
    return "\n".join([*difference_lines(outcome.difference), told]) + "\n"


def difference_lines(difference: Difference) -> Iterator[str]:
    """When, why, and both sides."""
    yield f"Different at {difference.at:.3f} s: {difference.why}"[: 4 * WIDTH]
    for name, entry in (("recorded", difference.recorded), ("came", difference.came)):
        yield f"  {name}:"
        yield from (["    nothing"] if entry is None else [f"    {line}" for line in shown(entry)])
    if difference.before:
        yield "  before that:"
        yield from (f"  {described(entry)}" for entry in difference.before)


def shown(entry: Entry) -> Iterator[str]:
    """An entry in one line; of SIP the whole message."""
    yield described(entry).strip()
    if isinstance(entry, SipMessage):
        yield from (f"  {line}" for line in entry.text.split("\r\n") if line)
    elif isinstance(entry, RealtimeEvent):
        yield f"  {entry.text}"[: 8 * WIDTH]
    elif isinstance(entry, RtpPacket):
        yield f"  sequence {entry.sequence}, RTP time {entry.rtp_timestamp}, {entry.octets} octets"
