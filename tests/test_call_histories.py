"""Whatever a caller, a model and a network do, in whatever order: a call ends once, and leaves nothing behind.

Hypothesis makes up histories, and finds the shortest one that goes wrong. To look for new ones:
HYPOTHESIS_PROFILE=explore pytest -n 0 tests/test_call_histories.py
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, Literal

import attrs
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from scenarios.behind import excuse
from scenarios.front_ends import FRONT_END
from scenarios.world import DELAY, World, changed, open_world
from trio.testing import MockClock

from aivc import Ending
from aivc.realtime.tools import tool
from aivc.testing import CallRefused, CallTool, Chaos, PhoneCall, Say, Transfers, VirtualNetwork, decided, speech
from aivc.testing.script import Context, Part

EXAMPLES: Final = 3000 if os.environ.get("HYPOTHESIS_PROFILE") == "explore" else 60
WORDS: Final = speech(0.3, seed=81)
LONG: Final = speech(1.5, pitch_hz=210.0, seed=82)
SHORT: Final = speech(0.2, pitch_hz=210.0, seed=83)
TIMERS: Final = 33.0  # seconds, 64*T1: an unanswered request is given up

SETTINGS: Final = changed(
    openai={"transfer_to": "sip:support@192.0.2.77"},
    rtp={"timeout_seconds": 10.0},
    service={"drain_seconds": 0.5},
)

# What a history consists of. Each act is done at once; what it starts goes on while the next ones are done.
CallerAct = Literal["speak", "press", "info", "hold", "resume", "update", "options", "mute", "bye"]
ModelAct = Literal["answer", "answer at length", "tool", "slow tool", "goodbye", "transfer", "nothing"]
ModelFault = Literal["model closes", "model cuts", "model fails", "model stalls"]
Fault = ModelFault | Literal["loss", "no loss", "drain", "new port"]


@attrs.frozen
class Wait:
    seconds: float


Act = Wait | CallerAct | Fault
CALLER_ACTS: Final[list[CallerAct]] = ["speak", "press", "info", "hold", "resume", "update", "options", "mute", "bye"]
FAULTS: Final[list[Fault]] = [
    *("model closes", "model cuts", "model fails", "model stalls", "loss", "no loss", "drain", "new port")
]
MODEL_ACTS: Final[list[ModelAct]] = [
    *("answer", "answer at length", "tool", "slow tool", "goodbye", "transfer", "nothing")
]


@attrs.frozen
class History:
    """One call."""

    acts: tuple[Act, ...]
    answers: tuple[ModelAct, ...]  # one for each response, the last again and again
    cancels_after: float | None  # seconds; the caller gives up if it rings for so long
    chaos: Chaos
    front_end: Literal["sip", "opensips"]
    dialect: Literal["ga", "beta"]
    codec: Literal["PCMU", "PCMA"]
    transfers: Literal["accepted", "refused", "silent"]


WAITS: Final = [0.01, 0.02, 0.1, 0.3, 1.0, 2.5]  # seconds
CALLS: Final = st.builds(
    History,
    acts=st.just(()),
    answers=st.lists(st.sampled_from(MODEL_ACTS), min_size=1, max_size=4).map(tuple),
    cancels_after=st.sampled_from([*[None] * 15, 0.0, 0.005, 0.01, 0.02, 0.05]),
    chaos=st.integers(0, 1000).map(lambda seed: Chaos.drawn(seed, seconds=4.0) if seed else Chaos(delay=DELAY)),
    front_end=st.sampled_from(["sip", "opensips"]),
    dialect=st.sampled_from(["ga", "beta"]),
    codec=st.sampled_from(["PCMU", "PCMA"]),
    transfers=st.sampled_from(["accepted", "refused", "silent"]),
)


@tool
async def look_up() -> str:
    """What is asked for."""
    await trio.sleep(0.05)
    return "found"


@tool
async def look_up_slowly() -> str:
    """What is asked for."""
    await trio.sleep(2.0)
    return "found"


PARTS: Final[dict[ModelAct, list[Part]]] = {
    "answer": [Say("Yes.", audio=SHORT)],
    "answer at length": [Say("Well,", audio=LONG)],
    "tool": [CallTool("look_up")],
    "slow tool": [Say("Wait.", audio=SHORT), CallTool("look_up_slowly")],
    "goodbye": [Say("Goodbye.", audio=SHORT), CallTool("terminate_call")],
    "transfer": [Say("I connect you.", audio=SHORT), CallTool("transfer_call")],
    "nothing": [],
}
TRANSFERS: Final = {
    "accepted": Transfers(progress=(100, 200), delay=0.1, then_bye=True),
    "refused": Transfers(answer=603),
    "silent": Transfers(answer=None),
}


def responder(answers: tuple[ModelAct, ...]) -> Callable[[Context], list[Part]]:
    def respond(context: Context) -> list[Part]:
        if context.outputs:
            return PARTS["answer"]  # not the same tool for ever
        return PARTS[answers[min(context.responses, len(answers) - 1)]]

    return respond


async def live(history: History) -> Ending | None:
    """Live through it; the ending, None when the call was given up before it was one. The world checks the rest."""
    token = FRONT_END.set(history.front_end)
    try:
        async with open_world(
            decided(responder(history.answers)),
            settings=SETTINGS,
            dialect=history.dialect,
            tools=(look_up, look_up_slowly),
            calls=None,
            blunders=True,
            chaos=history.chaos,
            network=VirtualNetwork(chaos=history.chaos),
        ) as world:
            await call_through(world, history)
            world.network.loss = 0.0
            await trio.sleep(TIMERS)
            excuse_everything(world)
        endings = [record.ending for record in world.records]
        return endings[0] if endings else None
    finally:
        FRONT_END.reset(token)


async def call_through(world: World, history: History) -> None:
    """The caller's side of it."""
    with suppress(CallRefused, trio.TooSlowError):
        if history.cancels_after is not None:
            async with world.ring(codec=history.codec):
                await trio.sleep(history.cancels_after)
            return
        async with world.dial(codec=history.codec, transfers=TRANSFERS[history.transfers]) as call:
            await act_out(world, history, call)


async def act_out(world: World, history: History, call: PhoneCall) -> None:
    async with trio.open_nursery() as nursery:
        for act in history.acts:
            await do(act, world, call, nursery)
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()


async def do(act: Act, world: World, call: PhoneCall, nursery: trio.Nursery) -> None:
    match act:
        case Wait(seconds=seconds):
            await trio.sleep(seconds)
        case "speak":
            call.handset.say(WORDS)
        case "press":
            call.handset.press("4#")
        case "mute":
            call.handset.muted = not call.handset.muted
        case "new port":
            await call.handset.change_port()
        case "loss" | "no loss":
            world.network.loss = 0.3 if act == "loss" else 0.0
        case "drain":
            world.service.drain()
        case "bye":
            nursery.start_soon(call.hang_up)
        case "info" | "hold" | "resume" | "update" | "options":
            if not call.is_over:
                nursery.start_soon(ask, call, act)
        case "model closes" | "model cuts" | "model fails" | "model stalls":
            trouble(world, act)


async def ask(call: PhoneCall, act: str) -> None:
    """Task: a request of the caller's, however it is answered, if it is: 500 when requests overtake each other."""
    questions: dict[str, Callable[[], Any]] = {
        "info": partial(call.info_digit, "5"),
        "hold": call.hold,
        "resume": call.resume,
        "update": call.update,
        "options": partial(call.ask, "OPTIONS"),
    }
    with suppress(trio.TooSlowError):
        await questions[act]()


def trouble(world: World, act: ModelFault) -> None:
    """Something happens to the session of the moment."""
    open_ones = [session for session in world.model.sessions if session.closed is None]
    for session in open_ones[-1:]:
        match act:
            case "model closes":
                session.close(1011)
            case "model cuts":
                session.drop()
            case "model stalls":
                session.stall()
            case "model fails":
                session.send({"type": "error", "error": {"type": "server_error", "code": None, "message": "sorry"}})


def excuse_everything(world: World) -> None:
    """What OpenSIPS was told crossed what it did, or was lost with the caller's messages."""
    if world.opensips is not None:
        excuse(world.opensips, *("BYE", "REFER", "terminate", "", "INVITE 200", "INFO 200", "UPDATE 200"))


# INTERNAL_ERROR is a bug, and nobody here cancels a call from outside.
ENDINGS: Final = frozenset(Ending) - {Ending.INTERNAL_ERROR, Ending.EMBEDDER_CANCELLED, Ending.NO_RTP_PORT}


class CallHistory(RuleBasedStateMachine):
    """A call to which things happen; it is lived through when they are all known, under a fake clock."""

    def __init__(self) -> None:
        super().__init__()
        self.call: History | None = None
        self.acts: list[Act] = []

    @initialize(call=CALLS)
    def ring(self, call: History) -> None:
        self.call = call

    @property
    def is_talking(self) -> bool:
        """Whether anything can happen: who gives up while it rings does nothing else."""
        return self.call is not None and self.call.cancels_after is None and "bye" not in self.acts

    @precondition(lambda self: self.is_talking)
    @rule(seconds=st.sampled_from(WAITS))
    def time_passes(self, seconds: float) -> None:
        self.acts.append(Wait(seconds))

    @precondition(lambda self: self.is_talking)
    @rule(act=st.sampled_from(CALLER_ACTS))
    def the_caller(self, act: CallerAct) -> None:
        self.acts.append(act)

    @precondition(lambda self: self.is_talking)
    @rule(fault=st.sampled_from(FAULTS))
    def it_happens_that(self, fault: Fault) -> None:
        self.acts.append(fault)

    @rule()
    def nothing(self) -> None:
        """So that there is always a step."""

    def teardown(self) -> None:
        if self.call is not None:
            history = attrs.evolve(self.call, acts=tuple(self.acts))
            ending = trio.run(live, history, clock=MockClock(autojump_threshold=0))
            assert ending is None or ending in ENDINGS, history


TestAnyHistoryEndsOnceAndLeavesNothing = CallHistory.TestCase
TestAnyHistoryEndsOnceAndLeavesNothing.settings = settings(max_examples=EXAMPLES, stateful_step_count=14)
