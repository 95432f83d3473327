"""Transfers between test phones: REFER both ways, Replaces, and three parties in one virtual network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc.testing import CallRefused, Phone, Transfers, VirtualNetwork, open_phone, speech

BOB = "sip:bob@192.0.2.2:5060"
CAROL = "sip:carol@192.0.2.3:5060"


@attrs.define(eq=False)
class Trio:
    """Three phones."""

    alice: Phone
    bob: Phone
    carol: Phone


@asynccontextmanager
async def open_three() -> AsyncIterator[Trio]:
    network = VirtualNetwork(delay=0.005).enable()
    with trio.fail_after(300):
        async with (
            open_phone("192.0.2.9") as alice,
            open_phone("192.0.2.2", 5060, user="bob", seed=1) as bob,
            open_phone("192.0.2.3", 5060, user="carol", seed=2) as carol,
        ):
            yield Trio(alice, bob, carol)
    assert network.bound == {}


async def test_a_transfer_is_told_of_by_notify(autojump_clock: MockClock) -> None:
    pretending = Transfers(progress=(100, 180, 200), then_bye=True)
    async with open_three() as given, given.bob.answering(transfers=pretending) as calls:
        async with given.alice.dial(BOB) as call:
            assert (await call.ask_transfer(CAROL)).status == 202
            assert await call.wait_notified(3) == ["100 Trying", "180 Ringing", "200 OK"]
            await call.wait_hung_up()
        referral = await (await calls.receive()).wait_referral()
        assert (referral.refer_to, referral.replaces) == (CAROL, None)
        assert referral.referred_by == "sip:alice@192.0.2.9"
        assert [answer.status for answer in referral.answers] == [200, 200, 200]


async def test_a_phone_without_transfers_refuses_them(autojump_clock: MockClock) -> None:
    async with open_three() as given, given.bob.answering(), given.alice.dial(BOB) as call:
        assert (await call.ask_transfer(CAROL)).status == 405


async def test_a_blind_transfer_can_be_real(autojump_clock: MockClock) -> None:
    real = Transfers(calls="always", then_bye=True)
    async with open_three() as given, given.carol.answering() as calls, given.alice.dial(CAROL) as talk:
        carols = await calls.receive()
        carols.transfers = real
        async with given.bob.answering() as bobs:
            assert (await talk.ask_transfer(BOB)).status == 202
            assert await talk.wait_notified(2) == ["100 Trying", "200 OK"]
            await talk.wait_hung_up()
            theirs = await bobs.receive()
            assert theirs.invite.header("Referred-By") == "<sip:alice@192.0.2.9>"
            theirs.handset.say(speech(0.1))
            made = carols.referrals[0].call
            assert made is not None
            await trio.sleep(0.3)
            assert not made.is_over
        await made.wait_over()  # Bob has hung up


async def test_a_real_transfer_tells_of_its_failure(autojump_clock: MockClock) -> None:
    async with (
        open_three() as given,
        given.carol.answering(transfers=Transfers(calls="always")),
        given.alice.dial(CAROL) as talk,
        given.bob.answering(status=486),
    ):
        await talk.ask_transfer(BOB)
        assert await talk.wait_notified(2) == ["100 Trying", "486 Busy Here"]


async def test_an_attended_transfer_joins_the_other_two(autojump_clock: MockClock, any_schedule: int) -> None:
    """Alice talks with Bob and with Carol, and refers Bob to Carol with Replaces."""
    async with (
        open_three() as given,
        given.bob.answering(transfers=Transfers(then_bye=True)) as bobs,
        given.carol.answering() as carols,
        given.alice.dial(BOB) as first,
        given.alice.dial(CAROL) as second,
    ):
        bob, carol = await bobs.receive(), await carols.receive()
        await carol.wait_answered()
        assert (await first.ask_transfer(CAROL, replaces=second.replaces)).status == 202
        assert await first.wait_notified(2) == ["100 Trying", "200 OK"]
        await first.wait_hung_up()
        await second.wait_hung_up()  # Carol's phone has given it up for the new call
        joined = await carols.receive()
        assert carol.replaced_by is joined
        assert joined.invite.header("Replaces") == second.replaces
        joined.handset.say(speech(0.2))
        await trio.sleep(0.5)
        made = bob.referrals[0].call
        assert made is not None
        assert not made.is_over
    assert joined.is_over
    await made.wait_over()


async def test_who_is_called_may_be_replaced_without_answering_anything_else(autojump_clock: MockClock) -> None:
    async with (
        open_three() as given,
        given.bob.answering(),
        given.alice.dial(BOB) as call,
        given.carol.dial(
            f"sip:alice@192.0.2.9:{given.alice.address[1]}",
            replaces=f"{call.call_id};to-tag={call.local_tag};from-tag={call.remote_tag}",
        ) as new,
    ):
        await call.wait_over()
        assert call.replaced_by is not None
        assert call.replaced_by.remote_tag == new.local_tag
        call.replaced_by.handset.say(speech(0.1))
        await new.handset.wait_speech(0.1)


@pytest.mark.parametrize("what", ["unknown", "over"])
async def test_what_cannot_be_replaced_is_refused(autojump_clock: MockClock, what: str) -> None:
    async with open_three() as given, given.carol.answering() as carols, given.alice.dial(CAROL) as call:
        await (await carols.receive()).wait_answered()
        replaces = "nobody;to-tag=1;from-tag=2" if what == "unknown" else call.replaces
        if what == "over":
            await call.hang_up()
        with pytest.raises(CallRefused, match="481" if what == "unknown" else "603"):
            async with given.bob.dial(CAROL, replaces=replaces):
                pass
