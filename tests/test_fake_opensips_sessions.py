"""The test OpenSIPS: what becomes of a call, event by event, as OpenSIPS 3.6.8 was seen to do it."""

from __future__ import annotations

import re

import trio
from fake_opensips_parts import SDP, open_world
from trio.testing import MockClock

from aivc.sip.message import Request, Response


async def test_a_call_is_told_with_nine_members_and_its_header_lines_as_they_came(autojump_clock: MockClock) -> None:
    async with open_world(extra_params='{"flavor": "openai"}') as world:
        await world.caller.ask("INVITE", 1, body=SDP, extra="c:  application/sdp")
        event = await world.connector.hear_one()
    key = event.pop("key")
    assert re.fullmatch(r"B2B\.\d+\.\d+\.\d+\.\d+", key)
    assert event.pop("headers") == (
        "Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKcall1INVITE1\r\nMax-Forwards: 70\r\n"
        'f: "Alice" <sip:alice@192.0.2.9>;tag=a1\r\nTo: <sip:1000@192.0.2.5>\r\ni: call1\r\nCSeq: 1 INVITE\r\n'
        f"m: <sip:alice@192.0.2.9:5060>\r\nc:  application/sdp\r\nContent-Length: {len(SDP)}\r\n"
    )
    assert event == {
        "event_type": "NEW",
        "entity_type": "UAS",
        "status": 0,
        "reason": None,
        "method": "INVITE",
        "body": SDP,
        "extra_params": '{"flavor": "openai"}',
    }


async def test_without_flags_there_are_no_headers_no_body_and_no_acks(autojump_clock: MockClock) -> None:
    async with open_world(flags="r") as world:
        key = await world.ring()
        (_, event), *_ = world.connector.heard
        assert (event["headers"], event["body"]) == (None, None)
        await world.connector.reply(key, "INVITE", 200, body=SDP)
        await world.caller.acknowledge(1)
        assert await world.connector.hear() == []
        assert await world.connector.state(key) == 5


async def test_the_flag_n_tells_nothing_of_the_call_and_a_message_without_length_has_no_body(
    autojump_clock: MockClock,
) -> None:
    async with open_world(flags="nbh") as world:
        await world.caller.ask("INVITE", 1, body=SDP)
        assert await world.connector.hear() == []
        assert [session.state for session in world.opensips.sessions.values()] == [1]


async def test_a_call_goes_through_the_states_of_the_list(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        tell, caller = world.connector, world.caller
        key = await world.ring()
        assert await tell.reply(key, "INVITE", 180, "Ringing") == "OK"
        assert await tell.state(key) == 1  # a 180 leaves no trace
        assert await tell.reply(key, "INVITE", 200, "OK", body=SDP) == "OK"
        ringing, answered = await caller.read()
        assert isinstance(answered, Response)
        assert answered.to.tag == ringing.to.tag == key
        assert (answered.header("Contact"), answered.header("Content-Type")) == (
            "<sip:192.0.2.5:5060>",
            "application/sdp",
        )
        assert await tell.state(key) == 4
        await caller.acknowledge(1)
        assert (await tell.hear_one())["method"] == "ACK"
        assert await tell.state(key) == 5
        await caller.ask("INVITE", 2, body=SDP)
        assert (await tell.hear_one())["event_type"] == "UPDATED"
        assert await tell.state(key) == 6
        await tell.reply(key, "INVITE", 200, body=SDP)
        await caller.acknowledge(2)
        await tell.hear()
        await caller.read()
        await caller.ask("BYE", 3)
        ended = await tell.hear_one()
        assert (ended["event_type"], ended["method"], ended["body"]) == ("TERMINATED", "BYE", "")
        assert await caller.read_lines() == ["200 OK 3 BYE"]
        assert await tell.state(key) == 404
        assert world.opensips.violations == []


async def test_copies_of_an_invite_get_the_last_answer_and_no_second_event(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.ring()
        await world.caller.ask("INVITE", 1, body=SDP)
        assert await world.caller.read_lines() == ["100 Giving it a try 1 INVITE"]
        await world.connector.reply(key, "INVITE", 180, "Ringing")
        await world.caller.ask("INVITE", 1, body=SDP)
        assert await world.caller.read_lines() == ["180 Ringing 1 INVITE"] * 2
        assert await world.connector.hear() == []


async def test_an_unanswered_call_stays_for_ever(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.ring()
        assert await world.caller.read(400.0) == []
        assert await world.connector.state(key) == 1


async def test_a_200_is_repeated_only_until_fr_timeout_when_no_ack_comes(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.ring()
        await world.connector.reply(key, "INVITE", 200, body=SDP)
        assert await world.caller.read_lines(60.0) == ["200 Said 1 INVITE"] * 3  # at once, after 0.5 and 1.5 s
        assert await world.connector.state(key) == 4
        assert await world.connector.hear() == []
        assert await world.connector.tell("ua_session_terminate", key=key) == "OK"
        assert "BYE" in await world.caller.read_lines()


async def test_terminate_sends_a_bye_and_tells_nothing(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.talk()
        assert await world.connector.tell("ua_session_terminate", key=key) == "OK"
        (bye,) = await world.caller.read()
        assert isinstance(bye, Request)
        assert str(bye.cseq) == "2 BYE"
        assert bye.sender.tag == key
        await world.caller.answer(bye, "200 OK")
        assert await world.connector.hear() == []
        assert (await world.connector.tell("ua_session_terminate", key=key))["message"] == "Failed to terminate session"


async def test_a_refused_call_stays_in_state_7_until_it_is_terminated(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.ring()
        assert await world.connector.reply(key, "INVITE", 486, "Busy Here") == "OK"
        assert await world.caller.read_lines() == ["486 Busy Here 1 INVITE"]
        await world.caller.acknowledge(1, failure=True)
        assert [event["method"] for event in await world.connector.hear()] == ["ACK"]  # with flag a, even so
        assert await world.caller.read(5.0) == []
        assert await world.connector.state(key) == 7
        assert world.opensips.violations == [f"{key}: left in state 7, where it stays until its timer"]
        assert await world.connector.tell("ua_session_terminate", key=key) == "OK"
        assert await world.caller.read() == []
        assert await world.connector.state(key) == 404
        assert world.opensips.violations == []


async def test_the_session_timer_ends_a_call_with_a_bye_and_without_an_event(autojump_clock: MockClock) -> None:
    async with open_world(flags="abht5") as world:
        key = await world.talk()
        begun = world.opensips.sessions[key].opened_at
        (bye,) = await world.caller.read(4.9)
        assert isinstance(bye, Request)
        assert bye.method == "BYE"
        assert 4 <= trio.current_time() - begun <= 5.5
        assert await world.connector.hear() == []
        assert await world.connector.state(key) == 404


async def test_an_unanswered_call_outlives_its_timer_and_must_not_be_terminated_then(autojump_clock: MockClock) -> None:
    async with open_world(flags="abht5") as world:
        key = await world.ring()
        assert await world.caller.read(10.0) == []
        assert await world.connector.state(key) == 1
        await world.connector.reply(key, "INVITE", 480)
        await world.connector.tell("ua_session_terminate", key=key)
        (violation,) = world.opensips.violations
        assert "may crash" in violation


async def test_an_event_that_is_too_large_for_a_datagram_ends_in_408(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await world.caller.ask("INVITE", 1, body="\r\n" * 20_000)
        assert await world.connector.hear() == []
        lines = await world.caller.read_lines()
        assert lines == ["100 Giving it a try 1 INVITE", "408 Request Timeout 1 INVITE"]
        assert world.opensips.sessions == {}


async def test_nobody_subscribed_is_no_failure_and_no_answer(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await world.opensips.restart()
        await world.caller.ask("INVITE", 1, body=SDP)
        assert await world.caller.read_lines(60.0) == ["100 Giving it a try 1 INVITE"]
        await world.caller.ask("CANCEL", 1)
        assert await world.caller.read_lines(60.0) == ["200 canceling 1 CANCEL"]


async def test_strays_a_bye_is_swallowed_and_others_get_481(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        world.caller.key = "B2B.1.2.3.4"
        await world.caller.ask("BYE", 2)
        await world.caller.ask("INFO", 3)
        await world.caller.ask("ACK", 4)
        assert sorted(await world.caller.read_lines()) == ["200 OK 2 BYE", "481 Call/Transaction Does Not Exist 3 INFO"]
        assert await world.connector.hear() == []
