"""One Realtime session after the other: renewed before they expire, replaced after a loss."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from call_parts import parts
from session_parts import NOON, Sessions, open_sessions
from trio.testing import MockClock

from aivc.config.settings import OpenAISettings
from aivc.nursery.ending import Ending
from aivc.nursery.leaving import JITTER_BUFFER
from aivc.nursery.performer import PAUSE
from aivc.nursery.record import SessionLost, SessionReplaced
from aivc.nursery.sessions import (
    AGAIN,
    LONGEST_LIFE,
    RENEW_AGAIN,
    SHORTEST_LIFE,
    SILENCE_BEARABLE,
    begin_anew,
)
from aivc.realtime.effects import Play
from aivc.realtime.effects import Send as SendEvent
from aivc.realtime.events import CancelResponse, CreateResponse, SendText
from aivc.realtime.replay import keys_pressed
from aivc.testing import FakeModel, Faults, Say, scripted

FINE = Faults()
OPENAI = OpenAISettings(url="ws://model.test/v1/realtime", model="gpt-realtime-2.1", expiry_seconds=20.0)
GREETED = attrs.evolve(OPENAI, welcome_message="Hello.")
UNREADABLE = {"type": "response.output_audio.delta", "delta": 1}
SOON = 0.3  # seconds: what a connection in memory and a pause that is looked for take at most


def model(*faults: Faults, **more: Any) -> FakeModel:
    """A model that says hello; the faults are those of the first session, the second, and so on."""
    first, *later = faults or (FINE,)
    script = scripted([[Say("Hello.", seconds=1.0)]] * 5)
    more = {"require_key": False, "wall_clock": lambda: NOON, **more}
    return FakeModel(script, faults=first, later_faults=later, **more)


def lasting(seconds: float, **more: Any) -> Faults:
    return Faults(expires_after_seconds=seconds, **more)


def since(sessions: Sessions, at: float) -> float:
    """Seconds since the first session was ready."""
    return at - sessions.opened[0]


LOST = Faults(close_after_deltas=1)  # while it says hello


# Renewal


async def test_a_session_is_renewed_a_little_before_its_end(autojump_clock: MockClock) -> None:
    async with open_sessions(model(lasting(100), FINE), OPENAI) as sessions:
        await sessions.keep(150)
    assert [since(sessions, at) for at in sessions.opened] == [0.0, pytest.approx(80, abs=SOON)]
    ((retired_at, _),) = sessions.retired
    assert since(sessions, retired_at) == pytest.approx(80 + PAUSE, abs=SOON)
    assert sessions.given.performer.turns.errors_by_kind == {}  # it is no loss
    assert [event.what for event in sessions.given.told] == [SessionReplaced(2)]


async def test_a_server_that_gives_little_time_gets_half_of_it(autojump_clock: MockClock) -> None:
    async with open_sessions(model(lasting(16), FINE), OPENAI) as sessions:
        await sessions.keep(15)
    assert since(sessions, sessions.opened[1]) == pytest.approx(8, abs=SOON)


async def test_the_old_session_is_used_until_there_is_a_pause_in_the_talk(autojump_clock: MockClock) -> None:
    async with open_sessions(model(lasting(100), FINE), OPENAI) as sessions, trio.open_nursery() as nursery:
        nursery.start_soon(talk_until, sessions, 85.0)
        await sessions.keep(150)
        nursery.cancel_scope.cancel()
    ((retired_at, _),) = sessions.retired
    assert since(sessions, retired_at) == pytest.approx(85 + PAUSE, abs=SOON)


async def test_without_any_pause_it_is_used_for_half_of_the_time_that_is_left(autojump_clock: MockClock) -> None:
    async with open_sessions(model(lasting(100), FINE), OPENAI) as sessions, trio.open_nursery() as nursery:
        nursery.start_soon(talk_until, sessions, 200.0)
        await sessions.keep(150)
        nursery.cancel_scope.cancel()
    ((retired_at, _),) = sessions.retired
    assert since(sessions, retired_at) == pytest.approx(90, abs=SOON)


async def talk_until(sessions: Sessions, end: float) -> None:
    """The caller speaks without a pause."""
    while not sessions.opened or since(sessions, trio.current_time()) < end:
        sessions.given.performer.stream.last_voiced = trio.current_time()
        await trio.sleep(0.02)


async def test_a_renewal_that_is_refused_is_tried_again(autojump_clock: MockClock) -> None:
    refused = Faults(refuse_upgrade=503)
    async with open_sessions(model(lasting(100), refused, refused, FINE), OPENAI) as sessions:
        await sessions.keep(95)
    assert since(sessions, sessions.opened[1]) == pytest.approx(80 + 2 * RENEW_AGAIN, abs=SOON)


async def test_a_successor_that_is_ready_takes_over_at_once_when_its_predecessor_is_lost(
    autojump_clock: MockClock,
) -> None:
    async with open_sessions(model(lasting(100), FINE), OPENAI) as sessions, trio.open_nursery() as nursery:
        nursery.start_soon(talk_until, sessions, 200.0)
        nursery.start_soon(partial(sessions.happen, 82.0, partial(lose, sessions)))
        await sessions.keep(95)
        nursery.cancel_scope.cancel()
    assert len(sessions.opened) == 2
    ((retired_at, _),) = sessions.retired
    assert since(sessions, retired_at) == pytest.approx(82, abs=SOON)
    assert sessions.given.performer.turns.errors_by_kind == {"realtime_lost": 1}


def lose(sessions: Sessions) -> None:
    """Break the first session's connection."""
    sessions.model.sessions[0].drop()


async def test_who_does_not_reconnect_has_the_model_say_farewell(autojump_clock: MockClock) -> None:
    openai = attrs.evolve(OPENAI, reconnect=False, farewell_message="Say: farewell.")
    async with open_sessions(model(lasting(100)), openai) as sessions, trio.open_nursery() as nursery:
        nursery.start_soon(play_out, sessions)
        await sessions.keep(150)
        nursery.cancel_scope.cancel()
    (asked,) = sessions.model.sessions[0].received("response.create")
    assert "Say: farewell." in asked["response"]["instructions"]
    assert sessions.over is not None
    assert sessions.over.ending is Ending.REALTIME_EXPIRED
    assert 80 < since(sessions, sessions.over_at) < 83
    assert len(sessions.opened) == 1


async def play_out(sessions: Sessions) -> None:
    """Play what the model says, 20 ms at a time."""
    performer = sessions.given.performer
    while True:
        await trio.sleep(0.02)
        performer.playout.pop_frame(trio.current_time())


# An expires_at that cannot be true


@pytest.mark.parametrize(
    ("life", "believed"),
    [
        *((life, False) for life in (-3600, 0, SHORTEST_LIFE - 1, LONGEST_LIFE + 1, 1e12)),
        *((life, True) for life in (SHORTEST_LIFE, 3600, LONGEST_LIFE)),
    ],
)
async def test_an_expires_at_that_makes_no_sense_is_not_believed(
    autojump_clock: MockClock, life: float, believed: bool
) -> None:
    """The server's clock is wrong, or ours."""
    async with open_sessions(model(lasting(3600)), OPENAI, wall_clock=lambda: NOON + 3600 - life) as sessions:
        session = await sessions.talk.open_session()
        expected = trio.current_time() + life if believed else math.inf
    assert session.expires_at == pytest.approx(expected)


async def test_a_session_that_claims_to_be_over_is_used_as_long_as_it_works(autojump_clock: MockClock) -> None:
    async with open_sessions(model(lasting(3600)), OPENAI, wall_clock=lambda: NOON + 3601) as sessions:
        await sessions.keep(200)
    assert (len(sessions.opened), sessions.over) == (1, None)


# Replacement


async def test_a_lost_session_is_replaced_by_one_that_is_asked_again(autojump_clock: MockClock) -> None:
    async with open_sessions(model(LOST, FINE), GREETED) as sessions:
        await sessions.keep(20)
    first, second = sessions.model.sessions
    assert sessions.over is None
    assert len(sessions.opened) == 2
    assert first.closed is not None
    assert second.received("response.create")
    assert sessions.given.performer.turns.errors_by_kind == {"realtime_lost": 1}
    assert sessions.given.performer.turns.sessions == 2
    told = [event.what for event in sessions.given.told]
    assert [type(what) for what in told if isinstance(what, SessionLost | SessionReplaced)] == [
        SessionLost,
        SessionReplaced,
    ]


async def test_a_call_gets_one_replacement_only(autojump_clock: MockClock) -> None:
    async with open_sessions(model(LOST, LOST, FINE), GREETED) as sessions:
        await sessions.keep(20)
    assert sessions.over is not None
    assert sessions.over.ending is Ending.REALTIME_LOST
    assert len(sessions.opened) == len(sessions.retired) == 2


async def test_a_renewal_does_not_use_the_replacement_up(autojump_clock: MockClock) -> None:
    async with open_sessions(model(lasting(100), FINE, FINE), OPENAI) as sessions, trio.open_nursery() as nursery:
        nursery.start_soon(sessions.happen, 120.0, lambda: sessions.model.sessions[1].drop())
        await sessions.keep(150)
    assert sessions.over is None
    assert since(sessions, sessions.opened[2]) == pytest.approx(120, abs=SOON)


@pytest.mark.parametrize(
    ("faults", "ending"),
    [(LOST, Ending.REALTIME_LOST), (Faults(no_response_to_create=True), Ending.REALTIME_SILENT)],
)
async def test_who_does_not_reconnect_ends_with_the_loss(
    autojump_clock: MockClock, faults: Faults, ending: Ending
) -> None:
    async with open_sessions(model(faults, FINE), attrs.evolve(GREETED, reconnect=False)) as sessions:
        await sessions.keep(100)
    assert sessions.over is not None
    assert sessions.over.ending is ending
    assert len(sessions.opened) == len(sessions.retired) == 1


async def test_what_no_other_session_would_mend_is_not_replaced(autojump_clock: MockClock) -> None:
    async with open_sessions(model(Faults(fail_responses="insufficient_quota"), FINE), GREETED) as sessions:
        await sessions.keep(100)
    assert sessions.over is not None
    assert sessions.over.ending is Ending.REALTIME_FATAL
    assert len(sessions.opened) == 1


@pytest.mark.parametrize("waiting", [0.0, 3.0])
async def test_a_caller_bears_two_seconds_of_silence_after_what_had_come(
    autojump_clock: MockClock, waiting: float
) -> None:
    lost_at = 5.0
    async with open_sessions(model(FINE, Faults(refuse_upgrade=503)), OPENAI) as sessions:
        if waiting:
            sessions.given.performer.perform([Play("r1", "i1", b"x" * round(8000 * waiting))])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sessions.happen, lost_at, partial(lose, sessions))
            await sessions.keep(50)
    patience = SILENCE_BEARABLE + waiting
    assert since(sessions, sessions.over_at) == pytest.approx(lost_at + patience, abs=0.01)
    assert sessions.over is not None
    assert (sessions.over.ending, sessions.over.detail) == (
        Ending.REALTIME_LOST,
        f"1006; not replaced within {patience:.1f} s",
    )
    assert sessions.model.asked == 1 + patience / AGAIN


async def test_a_refusal_that_will_not_change_is_not_waited_for(autojump_clock: MockClock) -> None:
    refused = Faults(refuse_upgrade=401)
    async with open_sessions(model(FINE, refused), OPENAI) as sessions, trio.open_nursery() as nursery:
        nursery.start_soon(sessions.happen, 5.0, partial(lose, sessions))
        await sessions.keep(50)
    assert since(sessions, sessions.over_at) == pytest.approx(5.0, abs=0.01)
    assert sessions.over is not None
    assert sessions.over.detail.startswith("1006; ")
    assert sessions.model.asked == 2


async def test_with_a_hold_sound_there_is_more_patience_and_it_ends_with_the_wait(autojump_clock: MockClock) -> None:
    openai = attrs.evolve(OPENAI, connect_seconds=3.0, configure_seconds=4.0)
    server, music, during = model(FINE, Faults(refuse_upgrade=503)), b"\x10" * 160, list[bytes]()
    async with open_sessions(server, openai, hold=music) as sessions, trio.open_nursery() as nursery:
        nursery.start_soon(sessions.happen, 5.0, partial(lose, sessions))
        nursery.start_soon(sessions.happen, 11.0, lambda: during.append(next_frame(sessions)))
        await sessions.keep(50)
    assert since(sessions, sessions.over_at) == pytest.approx(5.0 + 7.0, abs=0.01)
    assert during == [music]
    assert next_frame(sessions) == b"\xff" * 160


def next_frame(sessions: Sessions) -> bytes:
    stream = sessions.given.performer.stream
    return (stream.outgoing(stream.pacer.due) or b"")[12:]


async def test_what_waited_for_the_old_session_is_void(autojump_clock: MockClock) -> None:
    async with open_sessions(model(), GREETED) as sessions:
        performer = sessions.given.performer
        performer.begin()
        performer.perform([SendEvent(CancelResponse("e0")), SendEvent(CancelResponse("e1"))])
        performer.connected = False
        begin_anew(sessions.talk)
        assert [type(event) for event in sessions.given.sent] == [CreateResponse]  # the greeting was not heard
        assert performer.connected


async def test_a_new_session_is_told_what_was_said(autojump_clock: MockClock) -> None:
    async with open_sessions(model(), OPENAI) as sessions:
        performer = sessions.given.performer
        performer.conversation.digits_entered("4711", 0.0)
        begin_anew(sessions.talk)
        told = [event for event in sessions.given.sent if isinstance(event, SendText)]
    assert len(told) == 1
    assert "4711" in told[0].text


async def test_keys_during_the_loss_are_told_to_the_new_session_once(autojump_clock: MockClock) -> None:
    async with open_sessions(model(FINE, Faults(refuse_upgrade=503), FINE), OPENAI) as sessions:
        performer = sessions.given.performer
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sessions.happen, 5.0, partial(lose, sessions))
            nursery.start_soon(sessions.happen, 5.1, lambda: performer.perform(told_keys(sessions)))
            await sessions.keep(20)
    _, second = sessions.model.sessions
    assert [text for role, text in second.history if role == "user"] == [keys_pressed("4711")]
    assert len(second.received("response.create")) == 1


def told_keys(sessions: Sessions) -> list[Any]:
    return sessions.given.performer.conversation.digits_entered("4711", trio.current_time())


# Loss while the call is being ended


async def test_a_session_that_is_lost_while_the_last_words_play_changes_nothing(autojump_clock: MockClock) -> None:
    async with open_sessions(model(FINE, FINE), OPENAI) as sessions, trio.open_nursery() as nursery:
        nursery.start_soon(sessions.happen, 1.0, lambda: leave(sessions))
        nursery.start_soon(sessions.happen, 1.5, partial(lose, sessions))
        nursery.start_soon(play_out, sessions)
        await sessions.keep(50)
        nursery.cancel_scope.cancel()
    assert sessions.over is not None
    assert sessions.over.ending is Ending.MODEL_HUNG_UP
    assert since(sessions, sessions.over_at) == pytest.approx(1.0 + 2.0 + JITTER_BUFFER, abs=0.05)
    assert len(sessions.opened) == 1


async def test_a_caller_who_presses_a_key_then_gets_a_new_session_after_all(autojump_clock: MockClock) -> None:
    async with open_sessions(model(FINE, FINE), OPENAI) as sessions, trio.open_nursery() as nursery:
        nursery.start_soon(sessions.happen, 1.0, lambda: leave(sessions))
        nursery.start_soon(sessions.happen, 1.5, partial(lose, sessions))
        nursery.start_soon(sessions.happen, 2.0, lambda: sessions.given.performer.press("1", "rtp"))
        nursery.start_soon(play_out, sessions)
        await sessions.keep(50)
        nursery.cancel_scope.cancel()
    assert sessions.over is None
    assert since(sessions, sessions.opened[1]) == pytest.approx(2.0, abs=0.05)


def leave(sessions: Sessions) -> None:
    """The model has said 2 s of goodbye and wants to hang up."""
    performer = sessions.given.performer
    performer.perform([Play("r1", "i1", b"x" * 16_000)])
    performer.playout.end_item("i1")
    performer.hang_up(Ending.MODEL_HUNG_UP)


# The tasks of one session


async def test_the_conversations_timers_are_kept(autojump_clock: MockClock) -> None:
    given = parts(OpenAISettings(welcome_message="Hello."))
    given.performer.begin()
    assert len(given.sent) == 1  # response.create, which nobody answers
    deadline = given.performer.conversation.deadline
    with trio.move_on_at(deadline + 1.0):
        async with trio.open_nursery() as nursery:
            given.performer.alarm.watch(given.performer, nursery)
            await given.performer.alarm.ring(trio.Event())
    assert given.performer.turns.errors == {"response_timeout": 1}


async def test_the_model_hears_the_caller_and_silence_while_its_welcome_is_protected(
    autojump_clock: MockClock,
) -> None:
    openai = attrs.evolve(GREETED, welcome_interruptible=False)
    async with open_sessions(model(), openai) as sessions, trio.open_nursery() as nursery:
        nursery.start_soon(sessions.happen, 0.1, lambda: sessions.heard.send_nowait(b"\x10" * 160))
        nursery.start_soon(sessions.happen, 5.0, sessions.given.performer.playout_drained)
        nursery.start_soon(sessions.happen, 6.0, lambda: sessions.heard.send_nowait(b"\x11" * 160))
        await sessions.keep(10)
    assert sessions.model.sessions[0].received_audio == b"\xff" * 160 + b"\x11" * 160


async def test_a_message_that_cannot_be_read_is_counted_and_ends_nothing(autojump_clock: MockClock) -> None:
    async with open_sessions(model(), OPENAI) as sessions, trio.open_nursery() as nursery:
        nursery.start_soon(sessions.happen, 1.0, lambda: sessions.model.sessions[0].send(UNREADABLE))
        await sessions.keep(10)
    assert sessions.over is None
    assert sessions.given.performer.turns.violations == 1
