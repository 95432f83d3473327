"""Attended transfer behind OpenSIPS: it calls the target for us, and the caller is told to take our place."""

from __future__ import annotations

import attrs
import pytest
import trio
from session_consultation_parts import (
    DESK,
    OURS,
    PaperStarts,
    answered,
    begun,
    open_scene,
    refused,
    ringing,
    said,
)
from session_leg_parts import KEY, LOCAL, invite, sdp, settle
from trio.testing import MockClock

from aivc.sip.message import Headers
from aivc.sip.uasession import ListedSession, SessionEvent

LISTED = ListedSession(OURS, 3, OURS, is_outgoing=True)


# The call


async def test_the_target_is_called_by_the_socket_that_the_caller_has_called(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        await scene.consult()
        params = scene.paper.params("client_start")
        uri, _, mark = params["to"].partition(";aivc=")
        assert (params["ruri"], uri, params["from"]) == (DESK, DESK, "sip:openai@192.0.2.5")
        assert len(mark) == 16
        assert params["socket"] == "udp:192.0.2.5:5060"
        assert params["flags"] == "abht3620"
        assert "proxy" not in params
        assert scene.paper.fields("client_start") == ["Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, NOTIFY, UPDATE"]
        assert "m=audio 35000 RTP/AVP 0 101\r\n" in params["body"]


@pytest.mark.parametrize(
    ("contact", "socket"),
    [
        ("sip:192.0.2.5:5080", "udp:192.0.2.5:5080"),
        ("sip:192.0.2.5:5060;transport=tcp", "tcp:192.0.2.5:5060"),
        ("sip:192.0.2.5;transport=tls", "tls:192.0.2.5:5061"),
        ("sip:[2001:db8::5]:5060", "udp:[2001:db8::5]:5060"),
        ("", None),
        ("tel:1", None),
    ],
)
async def test_the_socket_is_what_opensips_says_of_the_callers_session(
    autojump_clock: MockClock, contact: str, socket: str | None
) -> None:
    async with open_scene(PaperStarts(contact=contact)) as scene:
        await scene.consult()
        assert scene.paper.params("client_start").get("socket") == socket


async def test_an_opensips_with_another_contact_is_asked_without_a_socket(autojump_clock: MockClock) -> None:
    async with open_scene(PaperStarts(non_local=True)) as scene:
        await begun(scene)
        starts = [command for command in scene.paper.commands if command.method == "ua_session_client_start"]
        assert ["socket" in command.params for command in starts] == [True, False]
        assert starts[0].params["body"] == starts[1].params["body"]


async def test_an_opensips_that_does_not_say_its_socket_is_asked_all_the_same(autojump_clock: MockClock) -> None:
    async with open_scene(PaperStarts(unanswered={"list"})) as scene:
        await scene.consult()
        await trio.sleep(4.0)
        assert "socket" not in scene.paper.params("client_start")


async def test_a_telephone_number_is_for_the_script_of_opensips_to_route(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        await scene.consult("tel:+15551234567")
        params = scene.paper.params("client_start")
        assert (params["ruri"], params["proxy"]) == ("tel:+15551234567", "sip:192.0.2.5:5060")


async def test_who_was_called_by_something_that_is_no_number_calls_without_a_name(autojump_clock: MockClock) -> None:
    async with open_scene(new=invite(("To", "<mailto:ai@example.com>"))) as scene:
        await scene.consult()
        assert scene.paper.params("client_start")["from"] == "sip:anonymous@anonymous.invalid"


@pytest.mark.parametrize("uri", ["bob", "http://example.com", "sip:bob@example.com?Subject=x", "sip:b@x\r\nX: y"])
async def test_what_cannot_be_called_is_not_tried(autojump_clock: MockClock, uri: str) -> None:
    async with open_scene() as scene:
        with pytest.raises(ValueError, match="URI"):
            await scene.leg.consult(uri, LOCAL, 5.0)
        assert "client_start" not in scene.paper.told


async def test_who_answers_is_talked_to_as_agreed(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        consultation = await begun(scene)
        assert consultation.agreement.remote == ("192.0.2.9", 7000)
        assert consultation.agreement.codec == "PCMU"
        assert list(scene.served) == [KEY, OURS]


async def test_events_that_come_before_the_key_are_not_lost(autojump_clock: MockClock) -> None:
    async with open_scene(PaperStarts(start_seconds=2.0)) as scene:
        await scene.consult()
        for told in (ringing(), answered(), said("UPDATED", "OPTIONS")):
            await scene.say(told)
        await trio.sleep(2.5)
        assert scene.consultation.agreement.remote == ("192.0.2.9", 7000)
        assert scene.commands_of(OURS) == ["reply OPTIONS 200"]


async def test_a_request_that_overtakes_the_answer_is_answered_after_it(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        await scene.consult()
        held = sdp(7000, "a=sendonly\r\n", version=2)
        await scene.say(said("UPDATED", "INVITE", ("CSeq", "3 INVITE"), body=held))
        assert scene.commands_of(OURS) == []
        await scene.say(answered())
        assert scene.commands_of(OURS) == ["reply INVITE 200"]
        assert not scene.consultation.agreement.may_send


# No call


@pytest.mark.parametrize(
    ("told", "failure"),
    [
        (refused(486, "Busy Here"), (486, "Busy Here")),
        (refused(603, ""), (603, "Decline")),
        (refused(302, "Moved"), (302, "Moved (redirections are not followed)")),
        (refused(408, "Request Timeout"), (408, "Request Timeout")),
    ],
)
async def test_a_refusal_says_why(autojump_clock: MockClock, told: SessionEvent, failure: tuple[int, str]) -> None:
    async with open_scene() as scene:
        await scene.consult()
        await scene.say(told)
        assert scene.failure == failure
        assert (scene.commands_of(OURS), scene.paper.forgotten) == ([], [OURS])  # OpenSIPS frees it by itself
        assert not scene.board.own.is_ours(LISTED, 0.0)  # or never, without uac_auth: then it must be left alone


async def test_silence_is_no_answer_of_the_targets(autojump_clock: MockClock) -> None:
    headers = Headers((("From", "<sip:openai@192.0.2.5>;tag=ours"),))  # all that OpenSIPS makes up
    async with open_scene() as scene:
        await scene.consult()
        await scene.say(attrs.evolve(refused(408, "Timeout"), headers=headers, body=None))
        assert scene.failure == (None, "no answer")


async def test_a_target_that_does_not_answer_in_time_is_given_up(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        began = trio.current_time()
        await scene.consult(seconds=7.0)
        await scene.say(ringing())
        while scene.outcome is None:  # noqa: ASYNC110 - no event tells of it
            await trio.sleep(0.01)
        assert trio.current_time() - began == pytest.approx(7.0, abs=0.1)
        assert scene.failure == (None, "not answered in 7 s")
        await settle()
        assert scene.commands_of(OURS) == ["update BYE"]
        assert not scene.board.own.is_ours(LISTED, 0.0)


async def test_an_end_that_opensips_does_not_take_is_left_to_the_census(autojump_clock: MockClock) -> None:
    async with open_scene(PaperStarts(unanswered={"update BYE"})) as scene:
        await scene.consult(seconds=1.0)
        await trio.sleep(10.0)
        assert scene.commands_of(OURS) == ["update BYE"]
        assert scene.board.own.is_ours(LISTED, 0.0)


async def test_who_stops_waiting_gives_the_call_up(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        await scene.consult()
        scene.scope.cancel()
        await settle()
        assert scene.commands_of(OURS) == ["update BYE"]
        assert OURS not in scene.served


async def test_who_stops_waiting_before_the_key_is_told_gives_the_call_up_then(autojump_clock: MockClock) -> None:
    async with open_scene(PaperStarts(start_seconds=2.0)) as scene:
        await scene.consult()
        scene.scope.cancel()
        await scene.say(ringing())
        await trio.sleep(2.5)
        assert scene.commands_of(OURS) == ["update BYE"]
        assert OURS not in scene.served


async def test_who_stops_waiting_before_anything_is_asked_asks_nothing(autojump_clock: MockClock) -> None:
    async with open_scene(PaperStarts(seconds=2.0)) as scene:
        scene.paper.told.clear()
        await scene.consult()
        scene.scope.cancel()
        await trio.sleep(5)
        assert scene.paper.told == ["list"]


async def test_an_answer_that_nobody_waits_for_any_more_is_hung_up_on(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        await scene.consult()
        session = scene.served[OURS]
        scene.scope.cancel()
        session.take(answered())  # in the same moment
        await settle()
        assert scene.commands_of(OURS) == ["update BYE"]
        assert scene.paper.fields("update BYE")[0].startswith("Reason: ")
        session.take(said("ANSWERED", "BYE", status=200, reason="OK"))
        await settle()
        assert OURS not in scene.served


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        (answered(body=b""), "no SDP came"),
        (answered(body=sdp(7000).replace(b"RTP/AVP 0 8 101", b"RTP/AVP 8 101")), ""),
        (answered(("To", f"<{DESK}>")), "an answer without tags"),
        (answered(("CSeq", "2 FOO BAR")), "Bad CSeq"),
        (answered(body=b"v=1\r\n"), ""),
    ],
    ids=["no SDP", "another codec", "no tag", "bad header", "bad SDP"],
)
async def test_an_answer_that_is_of_no_use_is_hung_up_on(
    autojump_clock: MockClock, told: SessionEvent, cause: str
) -> None:
    async with open_scene() as scene:
        await scene.consult()
        await scene.say(told)
        status, text = scene.failure
        assert (status, text[:17]) == (488, "unusable answer: ")
        assert cause in text
        assert scene.commands_of(OURS) == ["update BYE"]
        await scene.say(said("ANSWERED", "BYE", status=200, reason="OK"))
        assert OURS not in scene.served


async def test_what_opensips_refuses_is_not_called(autojump_clock: MockClock) -> None:
    async with open_scene(PaperStarts(refused={"client_start"})) as scene:
        await scene.consult()
        assert scene.failure == (None, "OpenSIPS cannot call it: Failed")
        assert not scene.board.own.keep(ringing())


async def test_a_bug_of_ours_costs_one_call(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    async with open_scene(PaperStarts(broken={"client_start"})) as scene:
        await scene.consult()
        assert scene.failure == (None, "a bug")
        assert not scene.board.own.keep(ringing())
    assert "sip.bug" in caplog.text


async def test_a_key_that_is_none_is_a_bug(autojump_clock: MockClock) -> None:
    async with open_scene(PaperStarts(key=["OK"])) as scene:
        await scene.consult()
        assert scene.failure == (None, "a bug")


async def test_a_ringing_call_that_opensips_loses_has_failed(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        await scene.consult()
        session = scene.served[OURS]
        assert (session.is_over, session.is_unanswered) == (False, False)
        session.lose("it is gone")
        await settle()
        assert (scene.failure, session.is_over) == ((None, "it is gone"), True)
        assert (scene.commands_of(OURS), OURS in scene.served) == ([], False)


async def test_a_ringing_call_ends_with_the_front_end_without_a_word(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        await scene.consult()
        scene.served[OURS].close()
        await settle()
        assert scene.failure == (None, "the front end ends")
        assert scene.commands_of(OURS) == []
