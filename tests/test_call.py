"""One call as a function: any front end, what it is told and asked, and what its record says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import attrs
import pytest
import trio
from call_parts import parts
from paper_leg import PaperLeg, paper_leg
from trio.testing import MockClock

from aivc import CallEvent, CallRecord, Chosen, OpenAISettings, RtpSettings, Settings, SipSettings, serve_call
from aivc.config.loading import ConfigError
from aivc.config.settings import SoundsSettings
from aivc.media.clock import TaskClock
from aivc.media.sounds import parse_sound
from aivc.nursery.call import event_ids
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.ground import Progress
from aivc.nursery.leaving import JITTER_BUFFER
from aivc.nursery.media import media_address
from aivc.nursery.prompts import Prompts
from aivc.nursery.record import Answered, Ended
from aivc.nursery.summary import make_record
from aivc.realtime.events import AudioDelta, ResponseCreated, ResponseDone
from aivc.realtime.tools import ToolFileError
from aivc.sip.leg import Cancelled, HungUp, Rejection
from aivc.testing import FakeModel, Faults, Say, VirtualNetwork, connect_to, scripted

SETTINGS: Final = Settings(
    openai=OpenAISettings(url="ws://model.test/v1/realtime", model="gpt-realtime-2.1", welcome_message="Hello."),
    rtp=RtpSettings(bind_ip="192.0.2.1"),
)
NO_FAULTS: Final = Faults()
REFUSED: Final = Rejection(503, "the model is not available", 10, "realtime_refused")


async def serve(
    leg: PaperLeg,
    observer: trio.MemorySendChannel[CallEvent] | None = None,
    during: Callable[[], None] | None = None,
    *,
    settings: Settings = SETTINGS,
    faults: Faults = NO_FAULTS,
    **more: Any,
) -> CallRecord:
    """One call with a model that talks; `during` happens after half a second; `more` as in `serve_call`."""
    VirtualNetwork().enable()

    async def happen() -> None:
        await trio.sleep(0.5)
        if during is not None:
            during()

    model = FakeModel(scripted([[Say("Hello.", seconds=2.0)]]), require_key=False, faults=faults)
    given = {"connect": connect_to(model), "clock": TaskClock(), "observer": observer, **more}
    with trio.fail_after(30):
        async with model, trio.open_nursery() as nursery:
            nursery.start_soon(happen)
            record = await serve_call(leg, settings, **given)
    return record


async def test_any_front_end_can_bring_a_call(autojump_clock: MockClock) -> None:
    leg = paper_leg()
    record = await serve(leg, during=partial(leg.events.tell, HungUp()))
    assert record.ending is Ending.CALLER_HUNG_UP
    assert (record.call_id, record.caller, record.dialled, record.codec) == (leg.call_id, leg.caller, "1000", "PCMU")
    assert leg.did[:2] == ["ring", ("answer", "192.0.2.1")]
    assert leg.did[-1] == ("hang_up", "caller_hung_up: the caller hung up")
    assert record.duration_seconds == pytest.approx(0.5)


async def test_a_bug_ends_its_call_with_500_and_a_record(autojump_clock: MockClock) -> None:
    leg = paper_leg()
    leg.broken = True
    record = await serve(leg)
    assert record.ending is Ending.INTERNAL_ERROR
    assert record.detail == "LookupError('no more paper')"
    assert leg.did == [
        "ring",
        Rejection(500, "internal error", None, "internal_error"),
        ("hang_up", "internal_error: internal error"),
    ]


async def test_a_front_end_that_cannot_hang_up_costs_neither_the_record_nor_the_models_goodbye(
    autojump_clock: MockClock,
) -> None:
    leg = paper_leg()
    leg.speechless = True
    record = await serve(leg, during=partial(leg.events.tell, HungUp()))
    assert record.ending is Ending.CALLER_HUNG_UP


async def test_a_front_end_that_goes_away_ends_the_call(autojump_clock: MockClock) -> None:
    leg = paper_leg()
    record = await serve(leg, during=partial(leg.events.close, None))
    assert record.ending is Ending.INTERNAL_ERROR
    assert record.detail == "the front end closed the leg's events"


async def test_an_observer_that_does_not_keep_up_misses_events_and_delays_nobody(autojump_clock: MockClock) -> None:
    observer, observed = trio.open_memory_channel[CallEvent](1)
    leg = paper_leg()
    record = await serve(leg, observer, partial(leg.events.tell, HungUp()))
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
    assert (await serve(leg, observer, partial(leg.events.tell, HungUp()))).ending is Ending.CALLER_HUNG_UP


async def test_the_observer_hears_of_the_end_last(autojump_clock: MockClock) -> None:
    observer, observed = trio.open_memory_channel[CallEvent](100)
    leg = paper_leg()
    record = await serve(leg, observer, partial(leg.events.tell, HungUp()))
    events = [observed.receive_nowait() for _ in range(observed.statistics().current_buffer_used)]
    assert events[-1].what == Ended(record)
    assert {event.call_id for event in events} == {leg.call_id}
    assert [event.at for event in events] == sorted(event.at for event in events)


async def test_tool_files_that_cannot_be_loaded_are_the_callers_error() -> None:
    settings = attrs.evolve(SETTINGS, openai=attrs.evolve(SETTINGS.openai, tools=("/nowhere/tools.py",)))
    leg = paper_leg()
    with trio.fail_after(1), pytest.raises(ToolFileError, match="no such file"):
        await serve_call(leg, settings)
    assert leg.did == [Rejection(500, "internal error", None, "internal_error")]


async def test_sounds_that_cannot_be_loaded_are_the_callers_error_too() -> None:
    settings = attrs.evolve(SETTINGS, sounds=SoundsSettings(failure="/nowhere/sorry.wav"))
    leg = paper_leg()
    with trio.fail_after(1), pytest.raises(ConfigError, match=r"sounds\.failure"):
        await serve_call(leg, settings)
    assert leg.did == [Rejection(500, "internal error", None, "internal_error")]


# What the call is prepared with


async def test_the_settings_of_a_call_may_come_while_it_rings(autojump_clock: MockClock) -> None:
    leg = paper_leg()

    async def prepare() -> Chosen:
        assert leg.did == ["ring"]
        await trio.sleep(0.1)
        openai = attrs.evolve(SETTINGS.openai, prices={"output_audio": 64.0})
        return Chosen("night", attrs.evolve(SETTINGS, openai=openai))

    record = await serve(leg, during=partial(leg.events.tell, HungUp()), prepare=prepare, agent="desk")
    assert (record.ending, record.agent) == (Ending.CALLER_HUNG_UP, "night")
    assert record.cost_usd is not None


async def test_a_call_that_cannot_be_prepared_is_refused_with_the_cause(autojump_clock: MockClock) -> None:
    async def prepare() -> Chosen:
        raise CallOver(Ending.CONFIG_FAILED, "no answer")

    leg = paper_leg()
    record = await serve(leg, prepare=prepare)
    assert (record.ending, record.detail, record.sessions) == (Ending.CONFIG_FAILED, "no answer", 0)
    assert leg.did[:2] == ["ring", Rejection(503, "the settings of this call cannot be had", 10, "config_failed")]


async def test_a_caller_who_gives_up_while_the_settings_are_asked_for_waits_for_nothing(
    autojump_clock: MockClock,
) -> None:
    leg = paper_leg()
    record = await serve(leg, during=partial(leg.events.tell, Cancelled()), prepare=sleep_for_settings)
    assert record.ending is Ending.CALLER_CANCELLED
    assert record.ended_at - record.started_at == pytest.approx(0.5)


async def sleep_for_settings() -> Chosen:
    await trio.sleep_forever()
    raise AssertionError("nobody wakes it")


async def test_a_caller_whose_model_cannot_be_had_hears_the_busy_sound_in_an_answered_call(
    autojump_clock: MockClock,
) -> None:
    leg, busy = paper_leg(), parse_sound(b"\x10" * 8000, "PCMU")
    record = await serve(leg, faults=Faults(refuse_upgrade=503), prompts=Prompts(busy=busy))
    assert record.ending is Ending.REALTIME_REFUSED
    assert leg.did == [
        "ring",
        ("answer", "192.0.2.1"),
        REFUSED,
        ("hang_up", "realtime_refused: the model is not available"),
    ]
    assert record.duration_seconds == pytest.approx(1.0 + JITTER_BUFFER, abs=0.021)
    assert record.sessions == 0


async def test_a_session_that_cannot_be_configured_is_closed_before_the_call_is_refused(
    autojump_clock: MockClock,
) -> None:
    leg = paper_leg()
    record = await serve(leg, faults=Faults(echo_format="audio/pcm"))
    assert record.ending is Ending.REALTIME_REFUSED
    assert record.detail.startswith("wrong_format: ")
    assert leg.did[:2] == ["ring", REFUSED]


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
    assert leg.did[:2] == ["ring", REFUSED]


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
    given.performer.handle(ResponseCreated("r1"))
    given.performer.handle(ResponseDone("r1", "completed"))
    for _ in range(2):
        given.performer.handle(AudioDelta("r1", "i1", b"x"))  # too late
    given.performer.conversation.responses.refused_requests = 3
    given.performer.conversation.tools.forgotten = 4
    given.performer.announcer.missed = 5
    progress = Progress(0.0, performer=given.performer)
    progress.over, progress.turns.dropped_keys = CallOver(Ending.CALLER_HUNG_UP), 6
    record = make_record(paper_leg(), progress, given.performer.announcer)
    dropped = (record.refused_octets, record.late_deltas, record.refused_requests, record.forgotten_tools)
    assert (*dropped, record.observer_missed, record.dropped_keys) == (1, 2, 3, 4, 5, 6)


def test_event_ids_are_never_repeated() -> None:
    new_id = event_ids()
    assert len({new_id() for _ in range(100)}) == 100
