"""The test OpenSIPS: what OpenSIPS 3.6.8 gets wrong, which a connector must live with."""

from __future__ import annotations

import pytest
from fake_opensips_parts import SDP, open_world
from trio.testing import MockClock

from aivc.sip.message import Request, Response


async def test_a_cancelled_call_waits_for_the_connectors_487_and_terminate(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.ring()
        await world.caller.ask("CANCEL", 1)
        event = await world.connector.hear_one()
        assert (event["event_type"], event["method"]) == ("TERMINATED", "CANCEL")
        assert ";tag=" not in event["headers"].split("To:")[1].split("\r\n")[0]
        assert await world.caller.read_lines(30.0) == ["200 canceling 1 CANCEL"]
        assert await world.connector.state(key) == 7
        assert await world.connector.reply(key, "INVITE", 487, "Request Terminated") == "OK"
        assert await world.caller.read_lines() == ["487 Request Terminated 1 INVITE"]
        await world.caller.acknowledge(1, failure=True)
        await world.connector.hear()
        assert await world.connector.tell("ua_session_terminate", key=key) == "OK"
        assert world.opensips.sessions == {}
        assert world.opensips.violations == []


async def test_a_cancelled_call_that_is_only_terminated_ends_in_408(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.ring()
        await world.caller.ask("CANCEL", 1)
        await world.connector.hear()
        await world.caller.read()
        assert await world.connector.tell("ua_session_terminate", key=key) == "OK"
        assert await world.caller.read_lines() == ["408 Request Timeout 1 INVITE"]
        assert world.opensips.violations == [f"{key}: INVITE was never answered"]


@pytest.mark.parametrize("is_acknowledged", [True, False])
async def test_a_cancel_that_crosses_the_200_deletes_the_call(is_acknowledged: bool, autojump_clock: MockClock) -> None:
    async with open_world() as world:
        if is_acknowledged:
            key = await world.talk()
        else:
            key = await world.ring()
            await world.connector.reply(key, "INVITE", 200, body=SDP)
            await world.caller.read()
        await world.caller.ask("CANCEL", 1)
        assert (await world.connector.hear_one())["method"] == "CANCEL"
        assert await world.connector.state(key) == (404 if is_acknowledged else 7)
        if not is_acknowledged:
            await world.caller.acknowledge(1)
            assert (await world.connector.hear_one())["method"] == "ACK"
            assert await world.connector.state(key) == 404
        await world.caller.read()
        await world.caller.ask("BYE", 2)
        assert await world.caller.read_lines() == ["200 OK 2 BYE"]
        assert await world.connector.hear() == []


async def test_a_second_request_is_overlapping_until_the_first_is_answered(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.talk()
        await world.caller.ask("INFO", 2, body="Signal=5\r\n")
        assert (await world.connector.hear_one())["body"] == "Signal=5\r\n"
        await world.caller.ask("OPTIONS", 3)
        (refusal,) = await world.caller.read()
        assert isinstance(refusal, Response)
        assert (refusal.status, refusal.reason) == (500, "Overlapping Requests")
        assert 0 <= int(refusal.header("Retry-After")) <= 9
        assert await world.connector.hear() == []
        await world.caller.ask("UPDATE", 4)  # is kept apart
        assert (await world.connector.hear_one())["method"] == "UPDATE"
        assert await world.connector.reply(key, "INFO", 200) == "OK"
        assert await world.connector.reply(key, "UPDATE", 200) == "OK"
        assert await world.caller.read_lines() == ["200 Said 2 INFO", "200 Said 4 UPDATE"]
        await world.caller.ask("OPTIONS", 5)
        assert (await world.connector.hear_one())["method"] == "OPTIONS"


async def test_there_is_no_answer_by_default_and_that_is_noted(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.talk()
        await world.caller.ask("MESSAGE", 2, body="hello")
        assert await world.caller.read_lines(60.0) == []
        assert world.opensips.violations == [f"{key}: MESSAGE is not answered"]
        await world.caller.ask("BYE", 3)
        assert await world.caller.read_lines() == ["200 OK 3 BYE", "487 Request Terminated 2 MESSAGE"]
        await world.connector.hear()
        assert await world.connector.state(key) == 404
        assert world.opensips.violations == [f"{key}: MESSAGE was never answered"]


async def test_a_bye_in_an_unanswered_request_leaves_the_entity_when_the_last_reply_was_no_200(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        key = await world.talk()
        await world.caller.ask("INFO", 2)
        await world.connector.reply(key, "INFO", 415)
        await world.caller.ask("OPTIONS", 3)
        await world.caller.ask("BYE", 4)
        assert [event["event_type"] for event in await world.connector.hear()] == ["UPDATED", "UPDATED", "TERMINATED"]
        assert await world.connector.state(key) == 7


async def test_requests_before_the_final_answer_are_dropped_but_for_update(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.ring()
        await world.caller.ask("INFO", 2)
        await world.caller.ask("BYE", 3)
        assert await world.caller.read_lines() == []
        await world.caller.ask("UPDATE", 4)
        assert [event["method"] for event in await world.connector.hear()] == ["UPDATE"]
        refusal = await world.connector.tell("ua_session_terminate", key=key)
        assert (refusal["code"], refusal["message"]) == (500, "Failed to terminate session")
        assert world.opensips.violations == [f"ua_session_terminate {key}: 500 Failed to terminate session"]


async def test_a_refused_reinvite_leaves_state_6_and_the_call(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.talk()
        await world.caller.ask("INVITE", 2, body=SDP)
        await world.connector.hear()
        assert await world.connector.reply(key, "INVITE", 488) == "OK"
        assert await world.caller.read_lines() == ["100 Giving it a try 2 INVITE", "488 Said 2 INVITE"]
        await world.caller.acknowledge(2, failure=True)
        await world.connector.hear()
        assert await world.connector.state(key) == 6


async def test_a_request_between_the_200_and_its_ack_is_overlapping(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.ring()
        await world.connector.reply(key, "INVITE", 200, body=SDP)
        await world.caller.ask("INFO", 2)
        assert await world.caller.read_lines() == ["200 Said 1 INVITE", "500 Overlapping Requests 2 INFO"]


async def test_our_reinvite_has_requests_and_even_bye_refused_with_491(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.talk()
        assert await world.connector.tell("ua_session_update", key=key, method="INVITE", body=SDP) == "OK"
        (invite,) = await world.caller.read()
        assert isinstance(invite, Request)
        assert await world.connector.state(key) == 6
        await world.caller.ask("BYE", 2)
        assert await world.caller.read_lines() == ["491 Request Pending 2 BYE"]
        assert await world.connector.hear() == []
        await world.caller.answer(invite, "200 OK", "Contact: <sip:alice@192.0.2.9:5060>")
        event = await world.connector.hear_one()
        assert (event["event_type"], event["status"], event["method"]) == ("ANSWERED", 200, "INVITE")
        assert await world.caller.read_lines() == ["ACK"]
        await world.caller.ask("BYE", 3)
        assert (await world.connector.hear_one())["event_type"] == "TERMINATED"


async def test_with_the_flag_d_the_connector_sends_the_ack(autojump_clock: MockClock) -> None:
    async with open_world(flags="abhd") as world:
        key = await world.talk()
        await world.connector.tell("ua_session_update", key=key, method="INVITE", body=SDP)
        (invite,) = await world.caller.read()
        assert isinstance(invite, Request)
        await world.caller.answer(invite, "200 OK", "Contact: <sip:alice@192.0.2.9:5060>")
        assert (await world.connector.hear_one())["event_type"] == "ANSWERED"
        assert await world.caller.read_lines() == []
        await world.connector.tell("ua_session_update", key=key, method="ACK")
        assert await world.caller.read_lines() == ["ACK"]


async def test_answers_to_our_requests_are_told_by_their_class_and_without_100(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.talk()
        for status, event_type in (("202 Accepted", "ANSWERED"), ("603 Decline", "REJECTED")):
            refer_to = "Refer-To: <sip:bob@192.0.2.2>\r\n"
            await world.connector.tell("ua_session_update", key=key, method="REFER", body="", extra_headers=refer_to)
            (refer,) = await world.caller.read()
            assert isinstance(refer, Request)
            assert refer.header("Refer-To") == "<sip:bob@192.0.2.2>"
            for line in ("100 Trying", "180 Ringing", status):
                await world.caller.answer(refer, line)
            events = await world.connector.hear()
            assert [event["event_type"] for event in events] == ["EARLY", event_type]
            told = (events[1]["method"], events[1]["status"], events[1]["reason"])
            assert told == ("REFER", int(status[:3]), status[4:])
        assert world.opensips.violations == []


async def test_silence_of_the_other_side_is_told_as_a_408_with_nothing_but_from(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.talk()
        await world.connector.tell("ua_session_update", key=key, method="OPTIONS")
        (event,) = await world.connector.hear(10.0)
        assert event["headers"] == f"From: <sip:1000@192.0.2.5>;tag={key}\r\n"
        members = ("event_type", "status", "reason", "method", "body")
        assert [event[name] for name in members] == ["REJECTED", 408, "Timeout", "OPTIONS", None]
        assert set(await world.caller.read_lines()) == {"OPTIONS"}


async def test_a_bye_by_update_can_have_headers_and_frees_the_session(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.talk()
        reason = "Reason: SIP;cause=200\r\n"
        await world.connector.tell("ua_session_update", key=key, method="BYE", body="", extra_headers=reason)
        (bye,) = await world.caller.read()
        assert isinstance(bye, Request)
        assert bye.header("Reason") == "SIP;cause=200"
        assert await world.connector.state(key) == 7
        await world.caller.answer(bye, "200 OK")
        assert (await world.connector.hear_one())["event_type"] == "ANSWERED"
        assert await world.connector.state(key) == 404


async def test_extra_headers_without_a_body_are_garbage(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.ring()
        header = "Contact: <sip:elsewhere@192.0.2.7>\r\n"
        await world.connector.reply(key, "INVITE", 302, extra_headers=header)
        raw = await world.caller.read_raw()
        assert b"elsewhere" not in raw
        assert b"garbage" in raw
        assert len(raw.partition(b"Contact: <sip:192.0.2.5")[0].partition(b"CSeq: 1 INVITE\r\n")[2]) == len(header)
        (violation,) = world.opensips.violations
        assert "extra_headers without body" in violation


async def test_extra_headers_of_terminate_are_garbage(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.talk()
        await world.connector.tell("ua_session_terminate", key=key, extra_headers="Reason: Q.850;cause=16\r\n")
        assert b"garbage" in await world.caller.read_raw()
        assert len(world.opensips.violations) == 1


async def test_a_content_type_that_is_no_whole_line_corrupts_the_message(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.talk()
        await world.connector.tell(
            "ua_session_update", key=key, method="INFO", body="x", content_type="application/dtmf-relay"
        )
        assert b"application/dtmf-relayContact: " in await world.caller.read_raw()
        (violation,) = world.opensips.violations
        assert "content_type is no whole line" in violation


async def test_an_empty_body_is_of_type_sdp_unless_a_reply_says_it_has_no_type(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.ring()
        header = "Warning: 399 x y\r\n"
        await world.connector.reply(key, "INVITE", 180, body="", extra_headers=header)
        await world.connector.reply(key, "INVITE", 183, body="", extra_headers=header, content_type="")
        stray, clean = await world.caller.read()
        assert (stray.headers.get("Content-Type"), clean.headers.get("Content-Type")) == ("application/sdp", None)
        assert clean.header("Warning") == "399 x y"
        assert len(world.opensips.violations) == 1
        await world.connector.reply(key, "INVITE", 200, body=SDP)
        await world.caller.acknowledge(1)
        await world.caller.read()
        await world.connector.tell("ua_session_update", key=key, method="INFO", body="", content_type="")
        (info,) = await world.caller.read()
        assert info.headers.get("Content-Type") == "application/sdp"  # a request cannot do without


async def test_an_ok_is_no_proof_that_this_reply_was_sent(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.ring()
        reply = world.connector.reply
        assert await reply(key, "INVITE", 200, body=SDP) == "OK"
        assert await reply(key, "INVITE", 486) == "OK"
        await world.caller.acknowledge(1)
        assert await reply(key, "INVITE", 200) == "OK"
        assert (await reply(key, "INVITE", 486))["message"] == "Failed to send reply"
        assert (await reply(key, "INFO", 415))["code"] == 500
        assert await world.caller.read_lines() == ["200 Said 1 INVITE"]


async def test_a_late_200_fails_and_yet_moves_the_entity_from_7_to_4(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.ring()
        await world.connector.reply(key, "INVITE", 486)
        assert (await world.connector.reply(key, "INVITE", 200))["code"] == 500
        assert await world.connector.state(key) == 4


@pytest.mark.parametrize(
    ("method", "code", "reason", "fault"),
    [
        ("INVITE", 486, "Busy\r\nX-Other: 1", "the reason goes out as it is"),
        ("INVITE", 99, "Odd", "no status of SIP"),
        ("INVITE", 700, "Odd", "no status of SIP"),
        ("BYE", 200, "OK", "OpenSIPS has answered that itself"),
    ],
)
async def test_answers_that_opensips_should_not_be_given_are_violations(
    method: str, code: int, reason: str, fault: str, autojump_clock: MockClock
) -> None:
    async with open_world() as world:
        key = await world.ring()
        await world.connector.reply(key, method, code, reason)
        assert world.opensips.violations[0].startswith(f"ua_session_reply {key} {method} {code}: {fault}")


async def test_a_refer_without_a_target_is_a_violation(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.talk()
        await world.connector.tell("ua_session_update", key=key, method="REFER", body="", extra_headers="X-A: b\r\n")
        assert world.opensips.violations == [f"ua_session_update {key} REFER: a REFER without Refer-To"]
