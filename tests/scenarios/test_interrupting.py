"""The caller speaks while the model is being heard: silence at once, and the model knows what was heard."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.realtime.effects import Interrupted
from aivc.testing import Faults, Say, scripted
from scenarios.barge_in import (
    ALL_AT_ONCE,
    DELETE,
    EXCUSE_ME,
    LONG,
    OCTETS_PER_MS,
    SHORT,
    TRUNCATE,
    corrections,
    interrupt_when_heard,
)
from scenarios.conftest import Dialect
from scenarios.world import changed, open_world


async def test_the_caller_interrupts_after_1240_ms(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(scripted([[Say("Hello.", audio=LONG)]]), dialect=dialect) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 1240)
            truncation = await world.session.wait_received(TRUNCATE)
            assert truncation["audio_end_ms"] == 1240
            await call.handset.wait_silence(1.0)
        assert call.handset.speech_heard() == LONG[: 1240 * OCTETS_PER_MS]
        assert corrections(world.session) == [truncation]
        assert bytes(world.session.items[0].audio) == call.handset.speech_heard()  # what the model believes was heard
    (cut,) = world.record.cuts
    assert (cut.item_id, cut.heard_ms) == (truncation["item_id"], 1240)
    assert cut.received_ms > cut.heard_ms


async def test_an_answer_that_is_generated_but_not_yet_heard_is_cut_too(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[Say("Hello.", audio=LONG)], [Say("Yes?", audio=SHORT)]])
    async with open_world(script, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 600)
            (done,) = world.session.sent("response.done")
            assert done["response"]["status"] == "completed"
            await call.handset.wait_silence(1.0)
        assert [event["audio_end_ms"] for event in corrections(world.session)] == [600]
        assert call.handset.speech_heard() == LONG[: 600 * OCTETS_PER_MS] + SHORT
        assert world.session.received("response.cancel") == []


async def test_an_answer_of_which_nothing_was_heard_is_deleted(autojump_clock: MockClock, dialect: Dialect) -> None:
    # The model takes a second for a frame's worth of audio, so that there is something to cut and nothing to hear.
    script = scripted([[Say("Hello.", audio=SHORT)], [Say("Yes?", audio=SHORT)]])
    async with open_world(script, dialect=dialect, speed=0.02, delta_ms=(4.0, 4.0)) as world:
        async with world.dial() as call:
            await world.session.wait_sent(lambda event: event["type"].endswith("audio.delta"))
            call.handset.say(EXCUSE_ME)
            await world.session.wait_received(DELETE)
            await call.handset.wait_said()
        (deletion,) = corrections(world.session)
        assert deletion["type"] == DELETE
        assert deletion["item_id"] not in [item.id for item in world.session.items]
        assert call.handset.speech_heard() == b""
    assert [cut.heard_ms for cut in world.record.cuts] == [0]


async def test_each_of_two_items_in_one_answer_is_cut_where_it_was_heard(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[Say("Hello.", audio=LONG), Say("Are you there?", audio=SHORT)]])
    async with open_world(script, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 400)
            await world.session.wait_received(DELETE)
            await call.handset.wait_silence(0.3)
        first, second = (event["item"]["id"] for event in world.session.sent("response.output_item.added"))
        truncation, deletion = corrections(world.session)
        assert (truncation["type"], truncation["item_id"], truncation["audio_end_ms"]) == (TRUNCATE, first, 400)
        assert (deletion["type"], deletion["item_id"]) == (DELETE, second)
    assert [(cut.item_id, cut.heard_ms, cut.received_ms) for cut in world.record.cuts] == [
        (first, 400, 3000),
        (second, 0, 500),
    ]


async def test_an_item_that_was_heard_to_its_end_is_left_alone_when_the_next_one_is_cut(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[Say("Hello.", audio=SHORT), Say("We are open from nine until six.", audio=LONG)]])
    async with open_world(script, dialect=dialect) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 1100)  # 500 of the first, 600 of the second
            truncation = await world.session.wait_received(TRUNCATE)
            await call.handset.wait_silence(0.3)
        _, second = (event["item"]["id"] for event in world.session.sent("response.output_item.added"))
        assert corrections(world.session) == [truncation]
        assert (truncation["item_id"], truncation["audio_end_ms"]) == (second, 600)
        assert call.handset.speech_heard() == SHORT + LONG[: 600 * OCTETS_PER_MS]


async def test_what_still_comes_of_an_interrupted_answer_is_not_heard(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    faults = Faults(late_deltas=5, delta_after_done=True)
    script = scripted([[Say("Hello.", audio=LONG)], [Say("Yes?", audio=SHORT)]])
    async with open_world(script, dialect=dialect, faults=faults, speed=1.5, delta_ms=(40.0, 80.0)) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 800)
            await world.session.wait_sent("response.done", count=1)
            late = [event for event in world.session.events_sent if event.event["type"].endswith("audio.delta")]
            noticed = next(seen.at for seen in world.session.events_received if seen.event["type"] == TRUNCATE)
            assert len([event for event in late if event.at > noticed]) == 6
            await call.handset.wait_silence(1.0)
        heard = call.handset.speech_heard()
        assert heard.startswith(LONG[: 800 * OCTETS_PER_MS])
        assert heard.removeprefix(LONG[: 800 * OCTETS_PER_MS]).startswith(SHORT)


async def test_an_answer_that_is_interrupted_before_its_first_audio_is_never_heard(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    # Half a second from the beginning of the item to its first audio, and some of that is on its way already.
    faults, script = Faults(late_deltas=5), scripted([[Say("Hello.", audio=LONG)], []])
    async with open_world(script, dialect=dialect, faults=faults, speed=0.1, delta_ms=(50.0, 50.0)) as world:
        async with world.dial() as call:
            await world.session.wait_sent("response.output_item.added")
            call.handset.say(EXCUSE_ME)
            await call.handset.wait_silence(1.0)
        assert len(world.session.sent(lambda event: event["type"].endswith("audio.delta"))) == 5
        assert call.handset.speech_heard() == b""
    assert world.record.late_deltas == 5


async def test_a_caller_who_interrupts_twice_is_answered_at_last(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = scripted([[Say("Hello.", audio=LONG)], [Say("Well,", audio=LONG)], [Say("Yes?", audio=SHORT)]])
    async with open_world(script, dialect=dialect) as world:
        async with world.dial() as call:
            for _ in range(2):
                await interrupt_when_heard(call, 300)
                await call.handset.wait_silence(0.1)
            await call.handset.wait_silence(1.0)
        once = LONG[: 300 * OCTETS_PER_MS]
        assert call.handset.speech_heard() == once + once + SHORT
        assert [event["audio_end_ms"] for event in corrections(world.session)] == [300, 300]
    heard = [event.what for event in world.events if isinstance(event.what, Interrupted)]
    assert [interruption.heard_ms for interruption in heard] == [300, 300]
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_caller_who_waits_interrupts_nothing(autojump_clock: MockClock) -> None:
    script = scripted([[Say("Hello.", audio=SHORT)], [Say("Yes?", audio=SHORT)]])
    async with open_world(script, settings=changed(openai={"turn_detection_silence_ms": 400})) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.1)
            call.handset.say(EXCUSE_ME)
            await call.handset.wait_said()
            await call.handset.wait_speech(0.5)
            await trio.sleep(0.1)
        assert corrections(world.session) == []
        assert call.handset.speech_heard() == SHORT + SHORT
    assert len(world.record.latencies) == 1
    (latency,) = world.record.latencies
    assert 400 < latency.endpointing_ms < 460  # the silence setting, and packets under way
    assert latency.response_ms == 0.0
    assert latency.first_audio_ms >= 240
    assert latency.playout_ms <= 20.0
