"""What OpenSIPS does at a command, its faults included: our stand-in for it does the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from interop.against import Against, Fake, Real, sides
from interop.ua_sessions import GONE, SDP, SDP_TYPE, Lab, field, fields, receive

LISTED: Final = 130  # sessions that fit into one answer
UNLISTED: Final = 142  # ... that do not


@pytest.fixture(params=sides())
def against(request: pytest.FixtureRequest, tmp_path: Path) -> Against:
    return Real(tmp_path) if request.param == "real" else Fake()


# JSON-RPC


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"hello", b"400 Parse_error"),
        (b'{"jsonrpc":"2.0","id":{"a":1},"method":"version"}', b"500 Internal error"),
        (b'{"jsonrpc":"2.0","method":"version"}', None),
        (b'{"jsonrpc":"2.0","method":"nothing_known"}', None),
    ],
)
def test_some_answers_are_no_json_and_some_requests_have_none(
    against: Against, request_: bytes, answer: bytes | None
) -> None:
    async def talk(lab: Lab) -> None:
        assert await lab.send_command(request_) == answer

    against(talk)


@pytest.mark.parametrize(
    ("request_", "code", "id_"),
    [
        (b'{"id":"1","method":"version"}', -32600, "1"),
        (b'[{"jsonrpc":"2.0","id":"1","method":"version"}]', -32600, None),
        (b'{"jsonrpc":"2.0","id":"1","method":"nothing_known"}', -32601, "1"),
        (b'{"jsonrpc":"2.0","id":7,"method":"nothing_known"}', -32601, 7),
    ],
)
def test_errors_have_the_codes_of_json_rpc(against: Against, request_: bytes, code: int, id_: object) -> None:
    async def talk(lab: Lab) -> None:
        answer = json.loads(await lab.send_command(request_) or b"")
        assert (answer["error"]["code"], answer["id"]) == (code, id_)

    against(talk)


def test_parameters_must_be_those_of_a_recipe(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        few = "-32602 Invalid params: Too few or too many parameters"
        foreign = "-32602 Invalid params: Named parameters do not match"
        assert await lab.mi("ua_session_reply", key="k", method="INFO", code=200) == few
        assert await lab.mi("ua_session_update", key="k") == few
        assert await lab.mi("ua_session_terminate", id="k") == foreign
        assert await lab.mi("ua_session_update", key="k", method="INFO", content_type=SDP_TYPE) == foreign
        assert "Server" in await lab.mi("version")

    against(talk)


def test_keys_that_name_nothing_are_refused(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        assert await lab.mi("ua_session_list", key="nonsense") == "400 Bad format for b2b key"
        for key in ("nonsense", "B2B.1.2.3.4"):
            assert await lab.reply(key, "INVITE", 200, "OK") == "500 Failed to send reply"
            assert await lab.mi("ua_session_terminate", key=key) == "500 Failed to terminate session"
        assert await lab.state("B2B.1.2.3.4") == GONE

    against(talk)


# Header fields and bodies


@pytest.mark.parametrize(("more", "content_type"), [({}, "application/sdp"), ({"content_type": ""}, None)])
def test_an_empty_body_has_a_stray_type_but_with_an_empty_type(
    against: Against, more: dict[str, str], content_type: str | None
) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.ring()
        await lab.reply(key, "INVITE", 180, "Ringing", body="", extra_headers="X-A: b\r\nX-C: d\r\n", **more)
        response = await caller.expect("180 INVITE")
        assert (field(response, "X-A"), field(response, "X-C")) == ("b", "d")
        assert field(response, "Content-Type") == content_type

    against(talk)


def test_header_lines_without_a_body_are_lost_in_a_reply(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await lab.hear(caller, key, "INFO", "x")
        line = "X-Line-That-Is-Lost: and what goes out instead is whatever was in memory\r\n"
        assert await lab.reply(key, "INFO", 200, "OK", extra_headers=line) == "OK"
        data = await receive(caller.socket)
        assert data is not None
        assert b"X-Line-That-Is-Lost: and" not in data

    against(talk)


def test_header_lines_without_a_body_are_lost_in_a_request(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        line = "Refer-To: <sip:bob-who-is-lost@192.0.2.77>\r\n"
        assert await lab.mi("ua_session_update", key=key, method="REFER", extra_headers=line) == "OK"
        data = await receive(caller.socket)
        assert data is not None
        assert b"Refer-To: <sip:bob" not in data
        await caller.reply(data.decode("latin-1"), "202 Accepted")
        await lab.expect("ANSWERED 202 REFER")

    against(talk)


def test_the_type_of_a_body_is_a_whole_line(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        for given, sent in (("Content-Type: text/plain\r\n", "text/plain"), ("text/plain", "application/sdp")):
            await lab.mi("ua_session_update", key=key, method="INFO", body="x", content_type=given)
            data = await receive(caller.socket)
            assert data is not None
            assert field(data.decode("latin-1"), "Content-Type") == sent
            await caller.reply(data.decode("latin-1"), "200 OK")
            await lab.expect("ANSWERED 200 INFO")

    against(talk)


def test_all_that_a_200_needs_goes_out(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.ring()
        lines = "Require: timer\r\nSession-Expires: 1800;refresher=uac\r\n"
        await lab.reply(key, "INVITE", 200, "OK", body=SDP, content_type=SDP_TYPE, extra_headers=lines)
        response = await caller.expect("200 INVITE")
        assert response.endswith(f"\r\n\r\n{SDP}")
        assert [field(response, name) for name in ("Require", "Session-Expires", "Contact")] == [
            *("timer", "1800;refresher=uac"),
            f"<sip:{lab.sip[0]}:{lab.sip[1]}>",
        ]
        assert fields(response, "Content-Type") == ["application/sdp"]
        await caller.acknowledge()
        await lab.expect("UPDATED ACK")

    against(talk)


def test_reason_phrases_may_be_empty_and_codes_be_text(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.ring()
        assert await lab.mi("ua_session_reply", key=key, method="INVITE", code="180", reason="") == "OK"
        assert (await caller.expect("180 INVITE")).startswith("SIP/2.0 180 \r\n")

    against(talk)


# Repeated and late commands


def test_a_refused_session_stays_until_it_is_freed(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.ring()
        assert await lab.mi("ua_session_terminate", key=key) == "500 Failed to terminate session"
        assert await lab.reply(key, "INVITE", 486, "Busy Here") == "OK"
        await caller.expect("486 INVITE")
        await caller.send("ACK", cseq=1, branch=caller.invite_branch)
        await lab.expect("UPDATED ACK")  # of the refusal, too
        await lab.wait_nothing()
        assert await lab.state(key) == 7
        assert await lab.mi("ua_session_terminate", key=key) == "OK"
        assert await lab.state(key) == GONE

    against(talk)


def test_every_other_response_is_ok_until_the_ack_and_does_nothing(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.ring()
        assert await lab.answer(key) == "OK"
        await caller.expect("200 INVITE")
        assert await lab.answer(key) == "OK"
        assert await lab.reply(key, "INVITE", 180, "Ringing") == "OK"  # nothing goes out, ...
        assert await lab.reply(key, "INVITE", 486, "Busy Here") == "OK"  # ... here neither
        await caller.acknowledge()
        await lab.expect("UPDATED ACK")
        assert await lab.answer(key) == "OK"
        assert await lab.reply(key, "INVITE", 486, "Busy Here") == "500 Failed to send reply"

    against(talk)


# Ending a session


def test_terminate_says_bye_and_frees_the_session_at_once(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        assert await lab.mi("ua_session_terminate", key=key) == "OK"
        await lab.wait_gone(key)
        await caller.reply(await caller.expect("BYE"), "200 OK")
        assert await lab.mi("ua_session_terminate", key=key) == "500 Failed to terminate session"

    against(talk)


@pytest.mark.parametrize(
    ("answer", "told"), [("200 OK", "ANSWERED 200 BYE"), ("481 No", "REJECTED 481 BYE"), (None, "REJECTED 408 BYE")]
)
def test_a_bye_by_update_has_header_fields_and_its_response_frees_the_session(
    against: Against, answer: str | None, told: str
) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        reason = 'Reason: SIP;cause=200;text="bye"\r\nX-A: b\r\n'
        assert await lab.mi("ua_session_update", key=key, method="BYE", body="", extra_headers=reason) == "OK"
        bye = await caller.expect("BYE")
        assert (field(bye, "Reason"), field(bye, "X-A")) == ('SIP;cause=200;text="bye"', "b")
        assert await lab.state(key) == 7
        if answer is None:
            lab.parties.remove(caller)  # which gets it again and again
        else:
            await caller.reply(bye, answer)
        await lab.expect(told, 4.0)
        await lab.wait_gone(key)
        caller.socket.close()
        lab.parties.clear()

    against(talk)


def test_terminate_after_a_bye_by_update_frees_the_session_and_sends_nothing(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await lab.mi("ua_session_update", key=key, method="BYE", body="", extra_headers="Reason: x\r\n")
        bye = await caller.expect("BYE")
        assert await lab.mi("ua_session_terminate", key=key) == "OK"
        await lab.wait_gone(key)
        await caller.reply(bye, "200 OK")

    against(talk)


def test_the_callers_bye_crosses_ours(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await lab.mi("ua_session_update", key=key, method="BYE", body="", extra_headers="Reason: x\r\n")
        bye = await caller.expect("BYE")
        await caller.send("BYE")
        await caller.expect("200 BYE")
        await lab.expect("TERMINATED BYE")
        await lab.wait_gone(key)
        await caller.reply(bye, "200 OK")

    against(talk)


def test_nothing_but_responses_can_be_sent_before_the_answer(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        _, key = await lab.ring()
        for method in ("BYE", "INFO"):
            refused = await lab.mi("ua_session_update", key=key, method=method, body="", extra_headers="Reason: x\r\n")
            assert refused == "500 Failed to send sequential request"

    against(talk)


# The list


def test_a_list_that_fits_no_datagram_is_an_error(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller = await lab.party()
        for number in range(UNLISTED):
            caller.number = number  # another Call-ID each
            caller.remote_tag = None
            await caller.send("INVITE", SDP)
            await caller.expect("100 INVITE")
            key = (await lab.expect("NEW INVITE"))["key"]
            if number + 1 == LISTED:
                assert len(await lab.mi("ua_session_list")) == LISTED
        assert await lab.mi("ua_session_list") == "500 Internal error"
        assert await lab.state(key) == 1

    against(talk)
