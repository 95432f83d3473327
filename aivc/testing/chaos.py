"""Everything that may go wrong around a call, as one value: print it when a test fails, paste it to have it again.

    chaos = Chaos(seed=7, delay=0.02, jitter=0.01, loss=0.02, skew_ppm=200, stalls=(Stall(3.0, 1.5),))
    VirtualNetwork(chaos=chaos).enable()
    service = open_service(settings, connect=connect_to(model, chaos), tools=chaos.slow(tools), clock=TaskClock())
    async with model, service, open_phone("192.0.2.9", chaos=chaos) as phone, phone.dial(number) as call: ...

What each part takes from it: the network its first numbers, the phone its clock, its addresses and its crossings, the
connection to the model delays and stalls, and tools their slowness. Nothing else is drawn anywhere: the same value
makes the same trouble, whatever the order in which trio runs the tasks.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, Literal, Self, get_args

import attrs

from aivc.realtime.tools import Tool, ToolRegistry
from aivc.testing.ranges import SECONDS, SHARE
from aivc.testing.slowness import slowed
from aivc.testing.websocket import Latency

MOST_PPM: Final = 10_000.0  # one in a hundred: no telephone's crystal; they have 20 to 200

Sends = Literal["CANCEL", "BYE", "INVITE", "UPDATE"]
Meets = Literal["180", "200", "BYE", "INVITE", "UPDATE", "REFER", "NOTIFY"]


@attrs.frozen
class Crossing:
    """Two messages that meet on the wire, once in each call: the phone has sent the one when the other arrives.

    Args:
      sends: of the phone; INVITE and UPDATE change nothing, and who sent CANCEL hangs up if the answer is 200.
      meets: a request of the other side in the call, or the first such response to the phone's INVITE.
    """

    sends: Sends = attrs.field(validator=attrs.validators.in_(get_args(Sends)))
    meets: Meets = attrs.field(validator=attrs.validators.in_(get_args(Meets)))


@attrs.frozen
class Stall:
    """The WebSocket's path carries nothing for a while, and then all at once.

    Args:
      at: when, seconds since the connection was opened.
      seconds: for how long.
      way: which direction; what goes the other way arrives.
    """

    at: float = attrs.field(validator=attrs.validators.ge(0))
    seconds: float = attrs.field(validator=attrs.validators.ge(0))
    way: Literal["to_model", "from_model", "both"] = attrs.field(
        default="both", validator=attrs.validators.in_(("to_model", "from_model", "both"))
    )


MOMENTS: Final = attrs.validators.deep_iterable(SECONDS, attrs.validators.instance_of(tuple))


def each_is(kind: type) -> Callable[[Any, attrs.Attribute[Any], Any], Any]:
    """A tuple of them."""
    return attrs.validators.deep_iterable(attrs.validators.instance_of(kind), attrs.validators.instance_of(tuple))


def in_order(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if len(value) != 2 or value[0] > value[1]:
        raise ValueError(f"{attribute.name!r} must be the shortest and the longest: {value}")


@attrs.frozen(kw_only=True, repr=False)
class Chaos:
    """What goes wrong, and how much. The default is a world in which nothing does.

    Args:
      seed: of all that is drawn.
      delay, jitter, loss, reordering, reordering_delay, duplication: see `VirtualNetwork`.
      skew_ppm: by so many millionths the phone's clock runs faster than ours, negative: slower. An hour at 200 has 36
        packets of 20 ms too many.
      ssrc_changes: when the phone's audio goes on as another stream: other SSRC, sequence and RTP timestamp; seconds
        since it began to speak.
      port_changes: when it goes on from another port, without a word in the signalling: a NAT has forgotten the old
        one. At the same time as an SSRC change: a session border controller was restarted.
      crossings: messages of the phone's that meet ours.
      model_delay, model_jitter: of the WebSocket's path, each way, seconds.
      stalls: of the WebSocket's path.
      tool_seconds: shortest and longest of what a tool takes longer than it does; see `slow`.

    Raises ValueError for a share that is none, for seconds that are negative or no number, and TypeError for what is no
    tuple of what it should be.
    """

    seed: int = 0
    delay: float = attrs.field(default=0.0, validator=SECONDS)
    jitter: float = attrs.field(default=0.0, validator=SECONDS)
    loss: float = attrs.field(default=0.0, validator=SHARE)
    reordering: float = attrs.field(default=0.0, validator=SHARE)
    reordering_delay: float = attrs.field(default=0.030, validator=SECONDS)
    duplication: float = attrs.field(default=0.0, validator=SHARE)
    skew_ppm: float = attrs.field(
        default=0.0, validator=[attrs.validators.ge(-MOST_PPM), attrs.validators.le(MOST_PPM)]
    )
    ssrc_changes: tuple[float, ...] = attrs.field(default=(), validator=MOMENTS)
    port_changes: tuple[float, ...] = attrs.field(default=(), validator=MOMENTS)
    crossings: tuple[Crossing, ...] = attrs.field(default=(), validator=each_is(Crossing))
    model_delay: float = attrs.field(default=0.0, validator=SECONDS)
    model_jitter: float = attrs.field(default=0.0, validator=SECONDS)
    stalls: tuple[Stall, ...] = attrs.field(default=(), validator=each_is(Stall))
    tool_seconds: tuple[float, float] = attrs.field(default=(0.0, 0.0), validator=[MOMENTS, in_order])

    def __repr__(self) -> str:
        """As it is written in Python, without what is as usual."""
        told = [
            f"{field.name}={value!r}"
            for field in attrs.fields(Chaos)
            if (value := getattr(self, field.name)) != field.default
        ]
        return f"Chaos({', '.join(told)})"

    @classmethod
    def drawn(cls, seed: int, seconds: float = 10.0) -> Self:
        """Some trouble of each kind, or none of it, that a telephone call of so many seconds ought to survive.

        Crossings are not among it: they end calls, or depend on what the agent does.
        """
        dice = random.Random(f"{seed} chaos")

        def sometimes(most: float, digits: int = 3) -> float:
            return round(dice.uniform(0, most), digits) if dice.random() < 0.5 else 0.0

        def moments() -> tuple[float, ...]:
            return tuple(sorted(round(dice.uniform(0, seconds), 2) for _ in range(dice.choice((0, 0, 0, 1, 2)))))

        stalls = tuple(Stall(at, round(dice.uniform(0.05, 1.5), 2), dice.choice(WAYS)) for at in moments())
        return cls(
            seed=seed,
            delay=round(dice.uniform(0.001, 0.08), 3),
            jitter=sometimes(0.03),
            loss=sometimes(0.05),
            reordering=sometimes(0.05),
            duplication=sometimes(0.05),
            skew_ppm=round(dice.uniform(-200, 200)),
            ssrc_changes=moments(),
            port_changes=moments(),
            model_delay=sometimes(0.15),
            model_jitter=sometimes(0.05),
            stalls=stalls,
            tool_seconds=(0.0, sometimes(2.0)),
        )

    def latency(self) -> tuple[Latency, Latency] | None:
        """Of a WebSocket's path: to the model, and from it; None when nothing is said of it."""
        if not (self.model_delay or self.model_jitter or self.stalls):
            return None
        to_model, from_model = (
            Latency(
                seconds=self.model_delay,
                jitter_seconds=self.model_jitter,
                seed=2 * self.seed + number,
                stalls=tuple((stall.at, stall.seconds) for stall in self.stalls if stall.way in (way, "both")),
            )
            for number, way in enumerate(WAYS[:2])
        )
        return to_model, from_model

    def slow(self, tools: ToolRegistry) -> ToolRegistry:
        """The same tools, but that each of your own takes `tool_seconds` longer; those built in are as fast as ever."""
        dice = random.Random(f"{self.seed} tools")
        registry = ToolRegistry()
        for schema in tools.schemas:
            definition = tools.get(schema.name)
            assert isinstance(definition, Tool)
            registry.add(slowed(definition, self.tool_seconds, dice))
        return registry


WAYS: Final[tuple[Literal["to_model", "from_model", "both"], ...]] = ("to_model", "from_model", "both")
CALM: Final = Chaos()
