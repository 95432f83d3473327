"""What OpenSIPS tells of a UA session, and what it does by itself: our stand-in for it does the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from interop.against import Against, Fake, Real, sides
from interop.ua_sessions import SDP, SDP_TYPE, Lab, field

MEMBERS: Final = [
    *("key", "event_type", "entity_type", "status", "reason", "method", "body", "headers", "extra_params"),
]


@pytest.fixture(params=sides())
def against(request: pytest.FixtureRequest, tmp_path: Path) -> Against:
    return Real(tmp_path) if request.param == "real" else Fake()


# INVITE


def test_an_invite_is_a_new_session_with_all_its_headers(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller = await lab.party()
        await caller.send("INVITE", SDP, "x-short: a\r\n b\r\ns: compact\r\n")
        trying = await caller.expect("100 INVITE")
        event = await lab.expect("NEW INVITE")
        assert trying.startswith("SIP/2.0 100 Giving it a try\r\n")
        assert list(event) == MEMBERS
        assert event | {"key": "", "headers": ""} == {
            "key": "",
            "event_type": "NEW",
            "entity_type": "UAS",
            "status": 0,
            "reason": None,
            "method": "INVITE",
            "body": SDP,
            "headers": "",
            "extra_params": '{"flavor": "openai"}',
        }
        assert event["key"].startswith("B2B.")
        assert event["headers"].startswith(f"Via: SIP/2.0/UDP {lab.host}:{caller.port};branch=")
        assert "\r\nx-short: a\r\n b\r\ns: compact\r\n" in event["headers"]
        assert event["headers"].endswith(f"Content-Length: {len(SDP)}\r\n")

    against(talk, extra_params='{"flavor": "openai"}')


def test_a_repeated_invite_gets_the_last_response_again_and_is_no_event(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.ring()
        await caller.send("INVITE", SDP, cseq=1)
        await caller.expect("100 INVITE")
        assert await lab.reply(key, "INVITE", 180, "Ringing") == "OK"
        await caller.expect("180 INVITE")
        caller.remote_tag = None
        await caller.send("INVITE", SDP, cseq=1)
        await caller.expect("180 INVITE")
        await lab.wait_nothing()

    against(talk)


def test_the_tag_of_its_answers_is_the_key(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        assert caller.remote_tag == key
        assert await lab.state(key) == 5

    against(talk)


def test_without_flags_there_are_neither_headers_nor_body(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller = await lab.party()
        await caller.send("INVITE", SDP)
        await caller.expect("100 INVITE")
        event = await lab.expect("NEW INVITE")
        assert (event["headers"], event["body"], event["extra_params"]) == (None, None, None)

    against(talk, flags="t600")


def test_an_empty_body_is_an_empty_text(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller = await lab.party()
        await caller.send("INVITE")
        await caller.expect("100 INVITE")
        assert (await lab.expect("NEW INVITE"))["body"] == ""

    against(talk)


def test_every_provisional_goes_out_and_the_session_waits_for_ever(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.ring()
        for _ in range(2):
            assert await lab.reply(key, "INVITE", 180, "Ringing") == "OK"
            await caller.expect("180 INVITE")
        assert await lab.reply(key, "INVITE", 183, "Session Progress", body=SDP, content_type=SDP_TYPE) == "OK"
        assert (await caller.expect("183 INVITE")).endswith(f"\r\n\r\n{SDP}")
        await lab.wait_nothing(6.0)  # longer than its timers

    against(talk)


@pytest.mark.parametrize(("flags", "acknowledged"), [("abh", True), ("bh", False), ("drbh", False)])
def test_the_ack_is_an_event_only_with_its_flag(against: Against, flags: str, acknowledged: bool) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.ring()
        await lab.answer(key)
        await caller.expect("200 INVITE")
        assert await lab.state(key) == 4
        await caller.acknowledge()
        if acknowledged:
            event = await lab.expect("UPDATED ACK")
            assert (event["key"], event["body"]) == (key, "")
        await lab.wait_nothing()
        assert await lab.state(key) == 5

    against(talk, flags=flags)


def test_the_200_is_repeated_for_a_while_when_no_ack_comes_and_nobody_is_told(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.ring()
        await lab.answer(key)
        for _ in range(3):
            await caller.expect("200 INVITE")
        await lab.wait_nothing(3.0)
        assert await lab.state(key) == 4
        assert await lab.mi("ua_session_terminate", key=key) == "OK"
        await caller.reply(await caller.expect("BYE"), "200 OK")
        await lab.wait_gone(key)

    against(talk)


# In the call


@pytest.mark.parametrize("method", ["UPDATE", "INFO", "NOTIFY", "OPTIONS", "MESSAGE", "REFER", "SUBSCRIBE", "ODD"])
def test_a_request_in_the_call_is_only_told_of(against: Against, method: str) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        event = await lab.hear(caller, key, method, "Signal=5\r\n", "Content-Type: application/dtmf-relay\r\n")
        assert (event["status"], event["reason"], event["extra_params"]) == (0, None, None)
        assert event["body"] == "Signal=5\r\n"
        assert f";tag={key}\r\n" in event["headers"]
        await lab.wait_nothing()
        assert await lab.reply(key, method, 299, "Fine", body="", content_type="", extra_headers="X-A: b\r\n") == "OK"
        response = await caller.expect(f"299 {method}")
        assert (field(response, "X-A"), field(response, "Content-Type")) == ("b", None)

    against(talk)


def test_a_prack_is_answered_by_itself(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, _ = await lab.talk()
        await caller.send("PRACK", extra="RAck: 1 1 INVITE\r\n")
        await caller.expect("200 PRACK")

    against(talk)


def test_a_reinvite_is_told_of_and_may_be_refused(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        assert (await lab.hear(caller, key, "INVITE", SDP))["body"] == SDP
        await caller.expect("100 INVITE")
        await lab.answer(key)
        assert (await caller.expect("200 INVITE")).endswith(f"\r\n\r\n{SDP}")
        await caller.acknowledge()
        await lab.expect("UPDATED ACK")
        await lab.hear(caller, key, "INVITE", SDP)
        await caller.expect("100 INVITE")
        await lab.reply(key, "INVITE", 488, "Not Acceptable Here")
        await caller.expect("488 INVITE")
        await caller.send("ACK", cseq=caller.invite_cseq, branch=caller.invite_branch)
        await lab.expect("UPDATED ACK")  # this one, too
        await lab.hear(caller, key, "INFO", "x")
        await lab.reply(key, "INFO", 200, "OK")
        await caller.expect("200 INFO")

    against(talk)


# Its end


def test_a_bye_is_answered_and_nothing_can_be_said_of_the_session_any_more(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await caller.send("BYE")
        await caller.expect("200 BYE")
        event = await lab.expect("TERMINATED BYE")
        assert (event["key"], event["status"], event["body"]) == (key, 0, "")
        await lab.wait_gone(key)
        await caller.send("BYE", cseq=caller.cseq)
        await caller.expect("200 BYE")
        assert await lab.reply(key, "BYE", 200, "OK") == "500 Failed to send reply"
        assert await lab.mi("ua_session_terminate", key=key) == "500 Failed to terminate session"
        assert await lab.mi("ua_session_update", key=key, method="INFO") == "500 Failed to send sequential request"

    against(talk)


def test_a_cancelled_call_must_be_refused_and_freed(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.ring()
        await caller.cancel()
        assert (await caller.expect("200 CANCEL")).startswith("SIP/2.0 200 canceling\r\n")
        event = await lab.expect("TERMINATED CANCEL")
        assert (event["key"], field(event["headers"], "To")) == (key, f"<sip:1000@{lab.sip[0]}>")
        await lab.wait_nothing()
        assert await lab.state(key) == 7
        assert await lab.reply(key, "INVITE", 487, "Request Terminated") == "OK"
        await caller.expect("487 INVITE")
        await caller.send("ACK", cseq=1, branch=caller.invite_branch)
        await lab.expect("UPDATED ACK")  # of the 487, too
        assert await lab.mi("ua_session_terminate", key=key) == "OK"
        await lab.wait_gone(key)

    against(talk)


def test_a_cancel_that_crosses_the_200_ends_the_session_with_its_ack(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.ring()
        await lab.answer(key)
        await caller.expect("200 INVITE")
        await caller.cancel()
        await caller.expect("200 CANCEL")
        await lab.expect("TERMINATED CANCEL")
        assert await lab.state(key) == 7
        await caller.acknowledge()
        await lab.expect("UPDATED ACK")
        await lab.wait_gone(key)
        await caller.send("BYE")
        await caller.expect("200 BYE")

    against(talk)


def test_a_cancel_after_the_ack_ends_the_session_at_once(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await caller.cancel()
        await caller.expect("200 CANCEL")
        await lab.expect("TERMINATED CANCEL")
        await lab.wait_gone(key)

    against(talk)


def test_a_session_whose_cancel_crossed_the_200_can_be_freed_without_a_bye(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.ring()
        await lab.answer(key)
        await caller.expect("200 INVITE")
        await caller.cancel()
        await caller.expect("200 CANCEL")
        await lab.expect("TERMINATED CANCEL")
        assert await lab.mi("ua_session_terminate", key=key) == "OK"
        await lab.wait_gone(key)
        await caller.acknowledge()

    against(talk)


def test_the_session_timer_says_bye_and_tells_nobody(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await caller.reply(await caller.expect("BYE", 6.0), "200 OK")
        await lab.wait_nothing()
        await lab.wait_gone(key)

    against(talk, flags="abht3")


# Requests of ours


def test_the_responses_to_requests_of_ours_are_events(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        refer_to = "Refer-To: <sip:bob@192.0.2.77>\r\n"
        assert await lab.mi("ua_session_update", key=key, method="REFER", body="", extra_headers=refer_to) == "OK"
        request = await caller.expect("REFER")
        assert field(request, "Refer-To") == "<sip:bob@192.0.2.77>"
        await caller.reply(request, "202 Accepted")
        event = await lab.expect("ANSWERED 202 REFER")
        assert (event["key"], event["reason"], event["body"]) == (key, "Accepted", "")
        assert await lab.mi("ua_session_update", key=key, method="INFO") == "OK"
        await caller.reply(await caller.expect("INFO"), "486 Nope", extra="X-A: b\r\n")
        event = await lab.expect("REJECTED 486 INFO")
        assert (event["reason"], field(event["headers"], "X-A")) == ("Nope", "b")

    against(talk)


def test_a_request_of_ours_without_response_is_rejected_with_408(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        assert await lab.mi("ua_session_update", key=key, method="OPTIONS") == "OK"
        await caller.expect("OPTIONS")
        caller_of_old = lab.parties.pop()  # which gets it again and again
        event = await lab.expect("REJECTED 408 OPTIONS", 4.0)
        assert (event["reason"], event["body"]) == ("Timeout", None)
        assert event["headers"] == f"From: <sip:1000@{lab.sip[0]}>;tag={key}\r\n"
        caller_of_old.socket.close()

    against(talk)


@pytest.mark.parametrize("flags", ["abh", "abhd"])
def test_a_reinvite_of_ours_is_acknowledged_by_itself_but_for_one_flag(against: Against, flags: str) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await lab.mi("ua_session_update", key=key, method="INVITE", body=SDP, content_type=SDP_TYPE)
        request = await caller.expect("INVITE")
        await caller.reply(request, "180 Ringing")
        assert (await lab.expect("EARLY 180 INVITE"))["entity_type"] == "UAS"
        await caller.reply(request, "200 OK", SDP)
        assert (await lab.expect("ANSWERED 200 INVITE"))["body"] == SDP
        if "d" in flags:
            await lab.wait_nothing()
            await lab.mi("ua_session_update", key=key, method="ACK")
        await caller.expect("ACK")

    against(talk, flags=flags)


# Octets


@pytest.mark.parametrize(
    ("octets", "told"),
    [
        (b"\xffab\xc3", "\xffab\xc3"),  # no UTF-8: as they are
        (b'say "hi" \\ /x\r\n\ttab\x01\x7f', 'say "hi" \\ /x\r\n\ttab\x01\x7f'),
        (b"nul\x00after", "nul"),  # a C string
    ],
)
def test_octets_are_told_as_they_came_up_to_a_nul(against: Against, octets: bytes, told: str) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await caller.send("MESSAGE", octets, b"X-Odd: \xfe\x80\r\nContent-Type: text/plain\r\n")
        event = await lab.expect("UPDATED MESSAGE")
        assert (event["key"], event["body"]) == (key, told)
        assert field(event["headers"], "X-Odd") == "\xfe\x80"

    against(talk)


def test_a_session_list_says_what_is_there(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        listed = await lab.mi("ua_session_list")
        assert listed == [await lab.mi("ua_session_list", key=key)]
        wanted = {"mod_name": "b2b_entities", "state": 5, "last_reply_code": 200, "callid": caller.call_id}
        wanted |= {"from_tag": "ann0", "to_tag": key, "from_uri": f"sip:ann@{lab.host}"}
        assert {name: listed[0][name] for name in wanted} == wanted
        assert listed[0]["ruri"] == f"sip:1000@{lab.sip[0]}:{lab.sip[1]}"
        assert len(json.dumps(listed)) < 700

    against(talk)
