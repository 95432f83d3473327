"""What the silence before an answer was made of: its parts, whose each of them is, and many such silences together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, get_args

import attrs

Owner = Literal["network", "vad", "model", "tool", "us"]
OWNERS: Final[tuple[Owner, ...]] = get_args(Owner)
OWNER: Final = "owner"  # in the metadata of a part


def part(owner: Owner) -> Any:
    return attrs.field(default=0.0, metadata={OWNER: owner})


@attrs.frozen(kw_only=True)
class Parts:
    """One silence by who had to act, in milliseconds; in the order in which the parts begin.

    None is negative, and they add up to the silence.
    """

    reorder_ms: float = part("us")  # the caller's last audible packet waited for one before it
    append_ms: float = part("us")  # it waited for a whole message (`realtime.append_ms`), or for a full socket
    vad_ms: float = part("vad")  # the silence that the turn detection is set to wait for
    network_ms: float = part("network")  # one round trip to the model for each answer awaited, as the pings tell
    detection_ms: float = part("model")  # the rest of the time until speech_stopped was read
    request_ms: float = part("us")  # a response.create of ours was held back, or had to be thought of
    creation_ms: float = part("model")  # until the first response.created was read
    generation_ms: float = part("model")  # from there until the first audio delta was read, tools and requests apart
    tool_ms: float = part("tool")  # at least one tool was running
    queue_ms: float = part("model")  # earlier words of the model were still playing
    playout_ms: float = part("us")  # the cushion, and the next place for a packet

    @property
    def total_ms(self) -> float:
        return float(sum(attrs.astuple(self)))

    def by_owner(self) -> dict[Owner, float]:
        """The same by whose they are, in the order of `OWNERS`."""
        shares: dict[Owner, float] = dict.fromkeys(OWNERS, 0.0)
        for name, milliseconds in attrs.asdict(self).items():
            shares[PARTS[name]] += milliseconds
        return shares


PARTS: Final[Mapping[str, Owner]] = {field.name: field.metadata[OWNER] for field in attrs.fields(Parts)}


@attrs.frozen
class TurnLatency:
    """One answer's way from the caller's last audible packet to the model's first RTP packet.

    It is told twice, and adds up to `total_ms` both times: by what was seen (the four times here) and by who had to act
    (`parts`). That is the silence that the caller hears, less the network between them and us.
    """

    item_id: str  # of the answer
    began_at: float  # when the caller's last audible packet came, seconds on trio's clock
    endpointing_ms: float  # until speech_stopped was read
    response_ms: float  # until response.created was read, the first one
    first_audio_ms: float  # until the first audio delta was read, of that response or of one after tools
    playout_ms: float  # until its first packet left
    parts: Parts = Parts()
    caller_network_ms: float | None = None  # round trip to the caller by RTCP, not in the sum; None: not known

    @property
    def total_ms(self) -> float:
        return self.endpointing_ms + self.response_ms + self.first_audio_ms + self.playout_ms


def in_tenths(values: Iterable[float]) -> list[float]:
    """The values rounded so that what is left of each goes to the next: their sum is the rounded sum."""
    rounded, passed = [], 0.0
    for value in values:
        rounded.append(round(round(passed + value, 1) - round(passed, 1), 1))
        passed += value
    return rounded


def summary(latencies: Sequence[TurnLatency]) -> dict[str, object]:
    """The silences of a call in a few words, in whole milliseconds; empty when there was none.

    `of_it` is the average silence by owner, `most` who has the largest share.
    """
    if not latencies:
        return {}
    totals = sorted(turn.total_ms for turn in latencies)
    shares = [turn.parts.by_owner() for turn in latencies]
    mean = {owner: sum(share[owner] for share in shares) / len(shares) for owner in OWNERS}
    return {
        "turns": len(totals),
        "gap_p50_ms": round(totals[len(totals) // 2]),
        "gap_max_ms": round(totals[-1]),
        "of_it": {owner: round(milliseconds) for owner, milliseconds in mean.items()},
        "most": max(mean, key=mean.__getitem__),
    }
