"""The second call of an attended transfer behind OpenSIPS once it is answered: like any other call, and replaced."""

from __future__ import annotations

import attrs
import pytest
import trio
from session_consultation_parts import (
    DESK,
    OURS,
    answered,
    begun,
    open_scene,
    said,
)
from session_leg_parts import KEY, event, sdp, settle
from trio.testing import MockClock

from aivc.sip.leg import Consultation, DigitPressed, HungUp, Leg, MediaChanged, SessionExpired
from aivc.sip.replacing import unescape_header
from aivc.sip.uasession import EventError, response_of

BY = "sip:openai@192.0.2.5"


async def refer(leg: Leg, consultation: Consultation, uri: str) -> None:
    await leg.refer(uri, BY, 5.0, replaces=consultation)


# The second call is a call like any other


async def test_what_the_target_asks_for_is_answered(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        consultation = await begun(scene)
        await scene.say(said("UPDATED", "OPTIONS"))
        held = sdp(7000, "a=sendonly\r\n", version=2)
        await scene.say(said("UPDATED", "INVITE", ("CSeq", "3 INVITE"), body=held))
        await scene.say(said("UPDATED", "ACK", ("CSeq", "3 ACK")))
        key = ("Content-Type", "application/dtmf")
        await scene.say(said("UPDATED", "INFO", key, ("CSeq", "4 INFO"), body=b"5"))
        await scene.say(said("UPDATED", "REFER", ("CSeq", "5 REFER"), ("Refer-To", "<sip:x@example.com>")))
        assert scene.commands_of(OURS) == [
            "reply OPTIONS 200",
            "reply INVITE 200",
            "reply INFO 200",
            "reply REFER 603",
        ]
        changed, pressed = consultation.events.receive_nowait(), consultation.events.receive_nowait()
        assert isinstance(changed, MediaChanged)
        assert not changed.agreement.may_send
        assert isinstance(pressed, DigitPressed)
        assert pressed.digit == "5"


async def test_a_target_that_hangs_up_is_told_of(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        consultation = await begun(scene)
        await scene.say(said("TERMINATED", "BYE"))
        assert [told async for told in consultation.events] == [HungUp()]
        await consultation.hang_up("too late")
        assert scene.commands_of(OURS) == []
        assert OURS not in scene.served


async def test_we_hang_up_on_the_target_with_a_reason(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        consultation = await begun(scene)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consultation.hang_up, "the consultation is over", (("X-A", "b"),))
            await settle()
            assert scene.commands_of(OURS) == ["update BYE"]
            assert scene.paper.fields("update BYE") == [
                'Reason: SIP;cause=200;text="the consultation is over"',
                "Reason: Q.850;cause=16",
                "X-A: b",
            ]
            await scene.say(said("ANSWERED", "BYE", status=200, reason="OK"))
        assert [told async for told in consultation.events] == []
        assert OURS not in scene.served


async def test_an_answered_call_that_opensips_loses_is_told_of(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        consultation = await begun(scene)
        scene.served[OURS].lose("it is gone")
        assert [told async for told in consultation.events] == [SessionExpired("it is gone")]


async def test_the_two_calls_know_nothing_of_each_other(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        consultation = await begun(scene)
        await scene.say(event("TERMINATED", "BYE", cseq=9))
        assert not consultation.is_over
        assert scene.leg.is_over


# The transfer


async def test_the_caller_is_to_call_in_our_place(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        consultation = await begun(scene)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refer, scene.leg, consultation, DESK)
            await settle()
            (told,) = [line for line in scene.paper.fields("update REFER") if line.startswith("Refer-To")]
            nursery.cancel_scope.cancel()
        uri, _, header = told.removeprefix("Refer-To: <").removesuffix(">").partition("?")
        assert uri == DESK
        assert unescape_header(header) == f"Replaces={OURS};to-tag=desks;from-tag=ours"
        assert scene.paper.params("update REFER")["key"] == KEY


async def test_who_was_called_by_a_number_is_replaced_where_they_answered(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        consultation = await begun(scene, uri="tel:+15551234567")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refer, scene.leg, consultation, "tel:+15551234567")
            await settle()
            (told,) = [line for line in scene.paper.fields("update REFER") if line.startswith("Refer-To")]
            nursery.cancel_scope.cancel()
        assert told.startswith("Refer-To: <sip:desk@192.0.2.30:5070?Replaces=")


async def test_another_front_ends_call_cannot_be_replaced(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        with pytest.raises(ValueError, match="no consultation"):
            await scene.leg.refer(DESK, BY, 5.0, replaces=scene.leg)


def test_what_is_no_answer_is_not_read_as_one() -> None:
    for told in (said("UPDATED", "INFO"), attrs.evolve(answered(), headers=None), answered(("Via", "nonsense"))):
        with pytest.raises(EventError):
            response_of(told)
    assert response_of(answered()).to.tag == "desks"
