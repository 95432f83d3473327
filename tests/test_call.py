"""One call as a function: any front end, the causes of its end, and the tasks that only wait for one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import pytest
import trio
from call_parts import OUTBOX, Parts, parts, rtp_stream
from paper_leg import AGREEMENT, PaperLeg, paper_leg
from trio.testing import MockClock, wait_all_tasks_blocked

from aivc import CallEvent, CallRecord, OpenAISettings, RtpSettings, Settings, SipSettings, serve_call
from aivc.config.settings import ServiceSettings
from aivc.media.clock import TaskClock
from aivc.media.ports import NoPortFree
from aivc.nursery.call import Progress, as_cause, event_ids, make_record, media_address, until_over
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.record import Answered, Ended
from aivc.nursery.watch import (
    JITTER_BUFFER,
    hang_up_after_farewell,
    watch_deadlines,
    watch_drain,
    watch_leg,
    watch_limits,
)
from aivc.realtime.connection import RealtimeClosed, RealtimeRefused
from aivc.realtime.effects import CutPlayout, GiveUp, Play, RealtimeError
from aivc.realtime.effects import Send as SendEvent
from aivc.realtime.errors import ErrorKind
from aivc.realtime.events import CancelResponse, ResponseCreated, ResponseDone
from aivc.realtime.tools import ToolFileError
from aivc.sip.leg import AckMissing, Cancelled, HungUp, LegEvent, MediaChanged, Rejection
from aivc.testing import FakeModel, Say, VirtualNetwork, connect_to, scripted

SETTINGS = Settings(
    openai=OpenAISettings(url="ws://model.test/v1/realtime", model="gpt-realtime-2.1", welcome_message="Hello."),
    rtp=RtpSettings(bind_ip="192.0.2.1"),
)


async def serve(
    leg: PaperLeg, observer: trio.MemorySendChannel[CallEvent] | None = None, during: Callable[[], None] | None = None
) -> CallRecord:
    """One call with a model that talks; `during` happens after half a second."""
    VirtualNetwork().enable()

    async def happen() -> None:
        await trio.sleep(0.5)
        if during is not None:
            during()

    model = FakeModel(scripted([[Say("Hello.", seconds=2.0)]]), require_key=False)
    with trio.fail_after(30):
        async with model, trio.open_nursery() as nursery:
            nursery.start_soon(happen)
            record = await serve_call(leg, SETTINGS, connect=connect_to(model), clock=TaskClock(), observer=observer)
    return record


async def test_any_front_end_can_bring_a_call(autojump_clock: MockClock) -> None:
    leg = paper_leg()
    record = await serve(leg, during=partial(leg.tell.send_nowait, HungUp()))
    assert record.ending is Ending.CALLER_HUNG_UP
    assert (record.call_id, record.caller, record.dialled, record.codec) == (leg.call_id, leg.caller, "1000", "PCMU")
    assert leg.did[:2] == ["ring", ("answer", "192.0.2.1")]
    assert leg.did[-1] == ("hang_up", "the caller hung up")
    assert record.duration_seconds == pytest.approx(0.5)


async def test_a_bug_ends_its_call_with_500_and_a_record(autojump_clock: MockClock) -> None:
    leg = paper_leg()
    leg.broken = True
    record = await serve(leg)
    assert record.ending is Ending.INTERNAL_ERROR
    assert record.detail == "LookupError('no more paper')"
    assert leg.did == ["ring", Rejection(500, "internal error"), ("hang_up", "internal error")]


async def test_a_front_end_that_cannot_hang_up_costs_neither_the_record_nor_the_models_goodbye(
    autojump_clock: MockClock,
) -> None:
    leg = paper_leg()
    leg.speechless = True
    record = await serve(leg, during=partial(leg.tell.send_nowait, HungUp()))
    assert record.ending is Ending.CALLER_HUNG_UP


async def test_a_front_end_that_goes_away_ends_the_call(autojump_clock: MockClock) -> None:
    leg = paper_leg()
    record = await serve(leg, during=leg.tell.close)
    assert record.ending is Ending.INTERNAL_ERROR
    assert record.detail == "the front end closed the leg's events"


async def test_an_observer_that_does_not_keep_up_misses_events_and_delays_nobody(autojump_clock: MockClock) -> None:
    observer, observed = trio.open_memory_channel[CallEvent](1)
    leg = paper_leg()
    record = await serve(leg, observer, partial(leg.tell.send_nowait, HungUp()))
    assert record.ending is Ending.CALLER_HUNG_UP
    assert observed.receive_nowait().what == Answered()
    with pytest.raises(trio.WouldBlock):
        observed.receive_nowait()


@pytest.mark.parametrize("end", ["observer", "observed"])
async def test_an_observer_may_leave(autojump_clock: MockClock, end: str) -> None:
    observer, observed = trio.open_memory_channel[CallEvent](100)
    if end == "observer":
        observer.close()
    else:
        observed.close()
    leg = paper_leg()
    assert (await serve(leg, observer, partial(leg.tell.send_nowait, HungUp()))).ending is Ending.CALLER_HUNG_UP


async def test_the_observer_hears_of_the_end_last(autojump_clock: MockClock) -> None:
    observer, observed = trio.open_memory_channel[CallEvent](100)
    leg = paper_leg()
    record = await serve(leg, observer, partial(leg.tell.send_nowait, HungUp()))
    events = [observed.receive_nowait() for _ in range(observed.statistics().current_buffer_used)]
    assert events[-1].what == Ended(record)
    assert {event.call_id for event in events} == {leg.call_id}
    assert [event.at for event in events] == sorted(event.at for event in events)


async def test_tool_files_that_cannot_be_loaded_are_the_callers_error() -> None:
    settings = attrs.evolve(SETTINGS, openai=attrs.evolve(SETTINGS.openai, tools=("/nowhere/tools.py",)))
    leg = paper_leg()
    with trio.fail_after(1), pytest.raises(ToolFileError, match="no such file"):
        await serve_call(leg, settings)
    assert leg.did == [Rejection(500, "internal error")]


async def test_a_server_that_cannot_be_reached_is_a_refusal() -> None:
    """With real sockets, and the connector that is used when none is given."""
    with trio.fail_after(5):
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        await listener.aclose()
        openai = OpenAISettings(url=f"ws://127.0.0.1:{port}/v1/realtime", model="gpt-realtime-2.1")
        leg = paper_leg()
        record = await serve_call(leg, Settings(openai=openai, rtp=RtpSettings(bind_ip="127.0.0.1")))
    assert record.ending is Ending.REALTIME_REFUSED
    assert record.detail.startswith(f"unreachable: 127.0.0.1:{port}: ")
    assert leg.did[:2] == ["ring", Rejection(503, "the model is not available", 10)]


# Causes


@pytest.mark.parametrize(
    ("error", "ending", "detail"),
    [
        (RealtimeRefused("invalid_api_key", "no"), Ending.REALTIME_REFUSED, "invalid_api_key: no"),
        (RealtimeClosed(1006, ""), Ending.REALTIME_LOST, "1006"),
        (NoPortFree("none"), Ending.NO_RTP_PORT, "none"),
        (CallOver(Ending.DRAINED, "x"), Ending.DRAINED, "x"),
        (OSError("disk"), Ending.INTERNAL_ERROR, "OSError('disk')"),
    ],
)
def test_every_exception_has_its_ending(error: Exception, ending: Ending, detail: str) -> None:
    cause = as_cause(error)
    assert (cause.ending, cause.detail) == (ending, detail)


async def test_a_bye_beats_the_loss_of_the_model_in_the_same_tick(any_schedule: int) -> None:
    async def fail(error: Exception) -> None:
        raise error

    async def talk() -> None:
        async with trio.open_nursery() as outer, trio.open_nursery() as inner:
            outer.start_soon(fail, RealtimeClosed(1006, ""))
            inner.start_soon(fail, CallOver(Ending.CALLER_HUNG_UP))
            inner.start_soon(fail, RealtimeClosed(1006, ""))

    with trio.fail_after(1):
        assert (await until_over(talk)).ending is Ending.CALLER_HUNG_UP


async def test_tasks_that_end_without_a_cause_are_a_bug() -> None:
    with trio.fail_after(1):
        assert (await until_over(trio.lowlevel.checkpoint)).ending is Ending.INTERNAL_ERROR


async def test_being_cancelled_is_no_cause() -> None:
    with trio.fail_after(1), trio.CancelScope() as scope:
        scope.cancel()
        await until_over(trio.sleep_forever)
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("bind_ip", "rtp_ip", "external_ip", "told"),
    [
        ("192.0.2.1", None, None, "192.0.2.1"),
        ("0.0.0.0", None, None, "127.0.0.1"),  # the address that reaches the caller
        ("0.0.0.0", None, "203.0.113.1", "203.0.113.1"),
        ("192.0.2.1", "203.0.113.2", "203.0.113.1", "203.0.113.2"),
    ],
)
async def test_our_sdp_names_an_address_that_the_caller_can_reach(
    bind_ip: str, rtp_ip: str | None, external_ip: str | None, told: str
) -> None:
    settings = Settings(rtp=RtpSettings(ip=rtp_ip), sip=SipSettings(external_ip=external_ip))
    VirtualNetwork().enable()
    with trio.fail_after(1), trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        await sock.bind((bind_ip, 40_000))
        assert await media_address(paper_leg(), settings, sock) == (told, 40_000)


async def test_what_was_dropped_on_the_way_is_in_the_record() -> None:
    given = parts()
    given.performer.playout.refused_octets = 1
    given.performer.conversation.dropped_deltas = 2
    given.performer.conversation.responses.refused_requests = 3
    given.performer.conversation.tools.forgotten = 4
    given.performer.announcer.missed = 5
    progress = Progress(0.0, performer=given.performer)
    record = make_record(paper_leg(), progress, given.performer.announcer, CallOver(Ending.CALLER_HUNG_UP))
    dropped = (record.refused_octets, record.late_deltas, record.refused_requests, record.forgotten_tools)
    assert (*dropped, record.observer_missed) == (1, 2, 3, 4, 5)


def test_event_ids_are_never_repeated() -> None:
    new_id = event_ids()
    assert len({new_id() for _ in range(100)}) == 100


# The performer


async def test_a_model_that_takes_no_more_messages_ends_the_call() -> None:
    given = parts()
    events = [SendEvent(CancelResponse(f"e{number}")) for number in range(OUTBOX + 1)]
    with pytest.raises(CallOver, match="realtime_stuck"):
        given.performer.perform(events)
    assert len(given.sent) == OUTBOX


async def test_a_fatal_error_ends_the_call() -> None:
    with pytest.raises(CallOver, match="realtime_fatal: session_expired: over"):
        parts().performer.perform([GiveUp("session_expired", "over")])


async def test_more_audio_than_fits_is_refused_and_its_response_cancelled() -> None:
    given = parts()
    two_minutes = b"x" * 8000 * 120
    given.performer.perform([Play("r1", "i1", two_minutes), Play("r1", "i1", b"x" * 160)])
    (event,) = given.sent
    assert isinstance(event, CancelResponse)
    assert event.response_id == "r1"
    assert given.performer.playout.refused_octets == 160


async def test_an_error_is_counted_and_told() -> None:
    given = parts()
    error = RealtimeError("server_error", "text", ErrorKind.OTHER)
    given.performer.perform([error])
    assert given.performer.turns.errors == {"server_error": 1}
    assert [event.what for event in given.told] == [error]


async def test_a_cut_with_nothing_to_cut_tells_the_model_nothing() -> None:
    given = parts()
    given.performer.perform([CutPlayout()])
    assert given.sent == []


# The tasks that wait


async def ending_of(task: Callable[[], Awaitable[None]]) -> CallOver:
    with trio.fail_after(100), pytest.raises(CallOver) as caught:
        await task()
    return caught.value


@pytest.mark.parametrize(
    ("event", "ending"),
    [
        (HungUp(), Ending.CALLER_HUNG_UP),
        (Cancelled(), Ending.CALLER_CANCELLED),
        (AckMissing("sip:192.0.2.1:5060"), Ending.ACK_MISSING),
    ],
)
async def test_what_the_caller_does_with_the_dialog_ends_the_call(event: LegEvent, ending: Ending) -> None:
    leg = paper_leg()
    leg.tell.send_nowait(event)
    assert (await ending_of(partial(watch_leg, leg.events, lambda: None))).ending is ending


async def test_a_media_change_moves_and_holds_the_audio_and_ends_nothing() -> None:
    leg, stream = paper_leg(), rtp_stream()
    elsewhere = ("192.0.2.10", 5000)
    leg.tell.send_nowait(MediaChanged(attrs.evolve(AGREEMENT, remote=elsewhere, may_send=False)))
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_leg, leg.events, lambda: stream)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert (stream.remote, stream.may_send) == (elsewhere, False)


async def test_a_media_change_before_there_is_media_is_ignored() -> None:
    leg = paper_leg()
    leg.tell.send_nowait(MediaChanged(AGREEMENT))
    leg.tell.send_nowait(HungUp())
    assert (await ending_of(partial(watch_leg, leg.events, lambda: None))).ending is Ending.CALLER_HUNG_UP


async def test_draining_ends_the_call() -> None:
    draining = trio.Event()
    draining.set()
    assert (await ending_of(partial(watch_drain, draining))).ending is Ending.DRAINED


@pytest.mark.parametrize(
    ("timeout", "longest", "ending", "after"),
    [
        (5.0, 60.0, Ending.MEDIA_TIMEOUT, 5.0),
        (60.0, 8.0, Ending.MAX_DURATION, 8.0),
        (0.0, 8.0, Ending.MAX_DURATION, 8.0),
    ],
)
async def test_a_call_has_limits(
    autojump_clock: MockClock, timeout: float, longest: float, ending: Ending, after: float
) -> None:
    now = trio.current_time()
    settings = Settings(rtp=RtpSettings(timeout_seconds=timeout), service=ServiceSettings(max_call_seconds=longest))
    over = await ending_of(partial(watch_limits, rtp_stream(now, settings.rtp), settings))
    assert over.ending is ending
    assert trio.current_time() - now == pytest.approx(after)


async def test_the_conversations_timers_are_kept(autojump_clock: MockClock) -> None:
    given = parts(OpenAISettings(welcome_message="Hello."))
    given.performer.begin()
    assert len(given.sent) == 1  # response.create, which nobody answers
    deadline = given.performer.conversation.deadline
    with trio.move_on_at(deadline + 1.0):
        await watch_deadlines(given.performer)
    assert given.performer.turns.errors == {"response_timeout": 1}


async def hang_up_time(given: Parts, seconds: float) -> float:
    began, farewell = trio.current_time(), trio.Event()
    farewell.set()
    over = await ending_of(partial(hang_up_after_farewell, farewell, given.performer, seconds))
    assert over.ending is Ending.MODEL_HUNG_UP
    return trio.current_time() - began


async def test_nothing_to_say_is_said_at_once(autojump_clock: MockClock) -> None:
    assert await hang_up_time(parts(), 10.0) == pytest.approx(JITTER_BUFFER)


async def test_last_words_that_are_never_said_are_not_waited_for_longer_than_allowed(
    autojump_clock: MockClock,
) -> None:
    given = parts()
    given.performer.perform([Play("r1", "i1", b"x" * 1600)])
    assert await hang_up_time(given, 3.0) == pytest.approx(3.0)


async def test_an_answer_that_is_still_generated_is_waited_for(autojump_clock: MockClock) -> None:
    given = parts()
    given.performer.handle(ResponseCreated("r1"))

    async def finish() -> None:
        await trio.sleep(1.0)
        given.performer.handle(ResponseDone("r1", "completed"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(finish)
        assert await hang_up_time(given, 10.0) == pytest.approx(1.0 + JITTER_BUFFER, abs=0.021)
