"""Networks that lose, delay and reorder; a whole minute; and that a seed decides all of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.config.settings import Address
from aivc.testing import CallTool, PhoneCall, Say, VirtualNetwork, decided, scripted, speech
from aivc.testing.script import Context, Part
from scenarios.conftest import Dialect
from scenarios.world import DELAY, PHONE, SERVICE, World, open_world

HELLO = speech(0.5, pitch_hz=210.0, seed=1)
ANSWER = speech(1.0, pitch_hz=210.0, seed=2)


async def test_a_network_that_loses_every_fifth_message_delays_a_call_and_breaks_none(
    autojump_clock: MockClock, schedule: int, dialect: Dialect
) -> None:
    network = VirtualNetwork(seed=schedule, delay=DELAY, loss=0.2)  # other messages are lost under each schedule
    async with open_world(scripted([[Say("Hello.", audio=HELLO)]]), dialect=dialect, network=network) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
            await trio.sleep(0.2)
        assert call.answered is not None
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.rtp.lost > 0


def lose_first(network: VirtualNetwork, sender: str, start: bytes) -> list[bytes]:
    """Lose the sender's first datagram that begins so; returns where all of them are noted."""
    seen: list[bytes] = []

    def watch(source: Address, to: Address, data: bytes) -> None:
        matches = source[0] == sender and data.startswith(start)
        network.loss = 1.0 if matches and not seen else 0.0
        if matches:
            seen.append(data)

    network.on_packet = watch
    return seen


@pytest.mark.parametrize(
    ("sender", "start"),
    [
        (PHONE, b"INVITE "),
        (SERVICE, b"SIP/2.0 200"),
        (PHONE, b"ACK "),
        (PHONE, b"BYE "),
    ],
    ids=["INVITE", "200", "ACK", "BYE"],
)
async def test_a_lost_message_of_a_call_changes_nothing_but_its_times(
    autojump_clock: MockClock, sender: str, start: bytes
) -> None:
    async with open_world(scripted([[Say("Hello.", audio=HELLO)]])) as world:
        seen = lose_first(world.network, sender, start)
        async with world.dial() as call:
            await trio.sleep(1.2)
        assert call.handset.speech_heard() == HELLO
        assert len(seen) >= 2
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.parametrize(("sender", "start"), [(SERVICE, b"BYE "), (PHONE, b"SIP/2.0 200")], ids=["BYE", "200"])
async def test_our_own_bye_is_repeated_until_it_is_answered(
    autojump_clock: MockClock, sender: str, start: bytes
) -> None:
    script = scripted([[Say("Goodbye.", audio=HELLO), CallTool("terminate_call")]])
    async with open_world(script) as world:
        seen = lose_first(world.network, sender, start)
        async with world.dial() as call:
            await call.wait_hung_up()
            await world.session.wait_closed()
        assert len(seen) == 2
    assert world.record.ending is Ending.MODEL_HUNG_UP


async def test_the_same_seed_makes_the_same_call_whatever_the_order_of_tasks(
    autojump_clock: MockClock, dialect: Dialect, schedule: int
) -> None:
    """The second call of each test meets tasks in another order than the first."""

    def story(world: World, call: PhoneCall, began: float) -> list[object]:
        session = world.session
        seen = [session.events_received, session.events_sent]
        timed = [[(round(each.at - began, 6), each.event) for each in events] for events in seen]
        heard = [(round(packet.at - began, 6), packet.payload) for packet in call.handset.heard]
        return [*timed, heard, session.received_audio]

    async def live() -> list[object]:
        began = trio.current_time()
        network = VirtualNetwork(seed=7, delay=DELAY, jitter=0.004, loss=0.02)
        script = scripted([[Say("Hello.", audio=ANSWER)], [Say("Yes?", audio=HELLO)], [CallTool("no_such_tool")]])
        async with open_world(script, dialect=dialect, network=network) as world:
            async with world.dial() as call:
                await call.handset.wait_speech(0.4)
                call.handset.say(speech(0.3))
                await call.handset.wait_silence(1.0)
                call.handset.say(speech(0.3))
                await trio.sleep(1.0)
            return story(world, call, began)

    assert await live() == await live()


@pytest.mark.parametrize("any_schedule", [0, 9, 17], indirect=True)  # it takes long
async def test_a_minute_of_talk(autojump_clock: MockClock, dialect: Dialect) -> None:
    def respond(context: Context) -> list[Part]:
        return [Say("Well.", audio=speech(1.0 + context.turns % 3, pitch_hz=210.0, seed=context.turns))]

    async with open_world(decided(respond), dialect=dialect) as world:
        async with world.dial() as call:
            end = trio.current_time() + 60.0
            turns = 0
            while trio.current_time() < end:
                await call.handset.wait_speech()
                await call.handset.wait_silence(0.3)
                turns += 1
                call.handset.say(speech(0.5, seed=turns))
                await call.handset.wait_said()
        expected = b"".join(speech(1.0 + turn % 3, pitch_hz=210.0, seed=turn) for turn in range(turns))
        assert call.handset.speech_heard() == expected
        assert {(other.sequence - one.sequence) % 2**16 for one, other in pairwise(call.handset.heard)} == {1}
        assert max(other.at - one.at for one, other in pairwise(call.handset.heard)) == pytest.approx(0.020)
    assert turns > 12
    assert len(world.record.latencies) == turns - 1
    assert world.record.cuts == ()
