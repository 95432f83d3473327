"""Requests that cross, subscriptions, restarts and calls of ours at OpenSIPS: our stand-in for it does the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import trio

from interop.against import Against, Fake, Real, sides
from interop.ua_sessions import SDP, SDP_TYPE, Lab, Party, field, open_socket, receive, summary

HELD: Final = SDP + "a=sendonly\r\n"


@pytest.fixture(params=sides())
def against(request: pytest.FixtureRequest, tmp_path: Path) -> Against:
    return Real(tmp_path) if request.param == "real" else Fake()


# One transaction at a time


def test_a_request_while_another_is_unanswered_is_refused_without_an_event(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await lab.hear(caller, key, "INFO", "x")
        await caller.send("OPTIONS")
        response = await caller.expect("500 OPTIONS")
        assert response.startswith("SIP/2.0 500 Overlapping Requests\r\n")
        assert 0 <= int(field(response, "Retry-After") or "-1") <= 9
        await lab.wait_nothing()
        await lab.hear(caller, key, "UPDATE")  # is kept apart
        assert await lab.reply(key, "UPDATE", 200, "OK") == "OK"
        await caller.expect("200 UPDATE")
        assert await lab.reply(key, "INFO", 200, "OK") == "OK"
        await caller.expect("200 INFO")
        await lab.hear(caller, key, "OPTIONS")
        await lab.reply(key, "OPTIONS", 200, "OK")
        await caller.expect("200 OPTIONS")

    against(talk)


def test_a_reinvite_that_is_refused_so_is_refused_again_after_its_ack(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await lab.hear(caller, key, "INFO", "x")
        await caller.send("INVITE", HELD)
        await caller.expect("100 INVITE")
        for _ in range(2):
            await caller.expect("500 INVITE")
            await caller.send("ACK", cseq=caller.invite_cseq, branch=caller.invite_branch)
        lab.parties.clear()  # and so on
        await lab.wait_nothing()
        caller.socket.close()

    against(talk)


@pytest.mark.parametrize("method", ["INVITE", "BYE", "INFO"])
def test_a_request_while_our_reinvite_is_pending_is_refused_even_a_bye(against: Against, method: str) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await lab.mi("ua_session_update", key=key, method="INVITE", body=SDP, content_type=SDP_TYPE)
        ours = await caller.expect("INVITE")
        await caller.reply(ours, "100 Trying")
        await caller.send(method, SDP if method == "INVITE" else "")
        if method == "INVITE":
            await caller.expect("100 INVITE")
        assert (await caller.expect(f"491 {method}")).startswith("SIP/2.0 491 Request Pending\r\n")
        if method == "INVITE":
            await caller.send("ACK", cseq=caller.invite_cseq, branch=caller.invite_branch)
            await lab.expect("UPDATED ACK")
        await lab.wait_nothing()
        await caller.reply(ours, "200 OK", SDP)
        await lab.expect("ANSWERED 200 INVITE")
        await caller.expect("ACK")

    against(talk)


def test_a_bye_while_a_request_of_the_caller_is_unanswered_ends_both(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await lab.hear(caller, key, "INFO", "x")
        await caller.send("BYE")
        answers = [summary((await receive(caller.socket) or b"").decode("latin-1")) for _ in range(2)]
        assert sorted(answers) == ["200 BYE", "487 INFO"]
        await lab.expect("TERMINATED BYE")
        await lab.wait_gone(key)

    against(talk)


@pytest.mark.parametrize("method", ["INFO", "BYE"])
def test_a_request_before_the_answer_is_dropped(against: Against, method: str) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.ring()
        await lab.reply(key, "INVITE", 180, "Ringing")
        await caller.expect("180 INVITE")
        await caller.send(method)
        await lab.wait_nothing()

    against(talk)


def test_requests_of_ours_do_not_hinder_the_callers(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        refer_to = "Refer-To: <sip:bob@192.0.2.77>\r\n"
        await lab.mi("ua_session_update", key=key, method="REFER", body="", extra_headers=refer_to)
        refer = await caller.expect("REFER")
        await lab.hear(caller, key, "NOTIFY", "SIP/2.0 100 Trying\r\n", "Content-Type: message/sipfrag\r\n")
        await lab.reply(key, "NOTIFY", 200, "OK")
        await caller.expect("200 NOTIFY")
        await caller.reply(refer, "202 Accepted")
        await lab.expect("ANSWERED 202 REFER")
        await caller.send("BYE")
        await caller.expect("200 BYE")
        await lab.expect("TERMINATED BYE")

    against(talk)


def test_terminate_answers_a_request_of_the_caller_that_is_unanswered(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await lab.hear(caller, key, "INFO", "x")
        assert await lab.mi("ua_session_terminate", key=key) == "OK"
        got = [summary((await receive(caller.socket) or b"").decode("latin-1")) for _ in range(2)]
        assert sorted(got) == ["408 INFO", "BYE"]
        lab.parties.clear()  # the BYE is repeated
        await lab.wait_gone(key)
        caller.socket.close()

    against(talk)


def test_a_bye_while_a_request_is_unanswered_after_a_refusal_leaves_the_session_to_be_freed(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await lab.hear(caller, key, "INFO", "x")
        await lab.reply(key, "INFO", 415, "Unsupported Media Type")
        await caller.expect("415 INFO")
        await lab.hear(caller, key, "OPTIONS")
        await caller.send("BYE")
        answers = [summary((await receive(caller.socket) or b"").decode("latin-1")) for _ in range(2)]
        assert sorted(answers) == ["200 BYE", "487 OPTIONS"]
        await lab.expect("TERMINATED BYE")
        await trio.sleep(0.2)
        assert await lab.state(key) == 7
        assert await lab.mi("ua_session_terminate", key=key) == "OK"
        await lab.wait_gone(key)

    against(talk)


def test_a_request_between_the_200_and_its_ack_is_refused(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await lab.hear(caller, key, "INVITE", SDP)
        await caller.expect("100 INVITE")
        await lab.answer(key)
        await caller.expect("200 INVITE")
        await caller.send("INFO", "x")
        await caller.expect("500 INFO")
        await caller.acknowledge()
        await lab.expect("UPDATED ACK")

    against(talk)


def test_a_refused_reinvite_leaves_its_mark_in_the_list(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await lab.hear(caller, key, "INVITE", SDP)
        await caller.expect("100 INVITE")
        await lab.reply(key, "INVITE", 488, "Not Acceptable Here")
        await caller.expect("488 INVITE")
        await caller.send("ACK", cseq=caller.invite_cseq, branch=caller.invite_branch)
        await lab.expect("UPDATED ACK")
        assert await lab.state(key) == 6

    against(talk)


def test_the_session_timer_leaves_an_unanswered_session_alone(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.ring()
        await lab.wait_nothing(5.0)
        assert await lab.state(key) == 1
        await lab.reply(key, "INVITE", 486, "Busy Here")
        await caller.expect("486 INVITE")

    against(talk, flags="bht2")


# Subscriptions


async def subscribers(lab: Lab) -> list[dict[str, Any]]:
    """Of E_UA_SESSION, as OpenSIPS lists them."""
    listed = await lab.mi("subscribers_list", event="E_UA_SESSION")
    found: list[dict[str, Any]] = listed["Event"].get("Subscribers", []) if listed else []
    return found


def test_nobody_subscribed_nobody_told_and_the_caller_waits(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller = await lab.party()
        await caller.send("INVITE", SDP)
        await caller.expect("100 INVITE")
        await lab.wait_nothing(5.0)
        assert [each["state"] for each in await lab.mi("ua_session_list")] == [1]
        await lab.subscribe()
        await lab.wait_nothing()  # what was told before is not told again

    against(talk, subscribed=False)


def test_every_subscriber_gets_every_event_and_a_renewal_is_no_second_subscription(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        other = await open_socket(lab.host)
        with other:
            socket = f"udp:{lab.host}:{other.getsockname()[1]}"
            for _ in range(2):
                await lab.subscribe()
                assert await lab.mi("event_subscribe", event="E_UA_SESSION", socket=socket, expire=60) == "OK"
            assert sorted(each["socket"] for each in await subscribers(lab)) == sorted([lab.event_socket, socket])
            _, key = await lab.ring()
            assert key.encode() in (await receive(other) or b"")
            assert await receive(other, 0.2) is None
            # 0 seconds: no more, a second later
            assert await lab.mi("event_subscribe", event="E_UA_SESSION", socket=socket, expire=0) == "OK"
            await trio.sleep(2.1)
            assert [each["socket"] for each in await subscribers(lab)] == [lab.event_socket]

    against(talk)


def test_what_cannot_be_subscribed_to_is_refused(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        def asking(**more: object) -> Any:
            return lab.mi("event_subscribe", **({"event": "E_UA_SESSION", "socket": lab.event_socket} | more))

        assert await asking(event="E_NOTHING") == "400 Bad parameter value"
        assert await asking(socket="nonsense") == "400 Bad parameter value"
        assert await asking(expire=-1) == "-32602 Invalid params: Negative expire value"
        assert await asking() == "OK"
        assert (await subscribers(lab))[0]["expire"] == 3600

    against(talk, subscribed=False)


# A restart


def test_a_restart_forgets_sessions_and_subscriptions(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        await lab.restart()
        assert await lab.mi("ua_session_list") == []
        assert await subscribers(lab) == []
        await lab.wait_gone(key)
        await lab.subscribe()
        await caller.send("INFO", "x")
        await caller.expect("481 INFO")
        await caller.send("BYE")
        await caller.expect("200 BYE")

    against(talk)


# Calls of ours


async def called(lab: Lab, flags: str = "abh") -> tuple[Party, str, str]:
    """Somebody who is called by OpenSIPS for us, the INVITE, and the key of the session."""
    bob = await lab.party()
    uri = f"sip:bob@{bob.host}:{bob.port}"
    key = await lab.mi(
        "ua_session_client_start",
        **{"ruri": uri, "to": uri, "from": "Agent,sip:agent@192.0.2.9", "flags": flags, "body": SDP},
        content_type=SDP_TYPE,
        socket=f"udp:{lab.sip[0]}:{lab.sip[1]}",
    )
    invite = await bob.expect("INVITE")
    bob.remote_tag = None
    return bob, invite, key


def test_a_call_of_ours_is_told_of_acknowledged_and_ended(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        bob, invite, key = await called(lab)
        assert field(invite, "Call-ID") == key
        assert (field(invite, "From") or "").startswith("Agent <sip:agent@192.0.2.9>;tag=")
        assert invite.endswith(f"\r\n\r\n{SDP}")
        await bob.reply(invite, "180 Ringing")
        assert (await lab.expect("EARLY 180 INVITE"))["entity_type"] == "UAC"
        await bob.reply(invite, "200 OK", SDP)
        event = await lab.expect("ANSWERED 200 INVITE")
        assert (event["key"], event["entity_type"], event["body"]) == (key, "UAC", SDP)
        assert field(event["headers"], "To") == f"<sip:bob@{bob.host}:{bob.port}>;tag=bob"
        await bob.expect("ACK")
        listed = await lab.mi("ua_session_list", key=key)
        assert (listed["callid"], listed["to_tag"], "ruri" in listed) == (key, "bob", False)
        assert await lab.mi("ua_session_update", key=key, method="BYE", body="", extra_headers="Reason: x\r\n") == "OK"
        await bob.reply(await bob.expect("BYE"), "200 OK")
        await lab.expect("ANSWERED 200 BYE")
        await lab.wait_gone(key)

    against(talk)


@pytest.mark.parametrize("uac_auth", [True, False])
def test_a_call_of_ours_that_is_refused_is_freed_by_itself_only_with_uac_auth(against: Against, uac_auth: bool) -> None:
    async def talk(lab: Lab) -> None:
        bob, invite, key = await called(lab)
        await bob.reply(invite, "486 Busy Here")
        await lab.expect("REJECTED 486 INVITE")
        await bob.expect("ACK")
        if not uac_auth:
            await trio.sleep(0.2)
            assert await lab.state(key) == 1
            assert await lab.mi("ua_session_terminate", key=key) == "500 Failed to terminate session"
            return  # it stays
        await lab.wait_gone(key)

    against(talk, uac_auth=uac_auth)


def test_a_call_of_ours_that_has_rung_and_is_refused_is_never_freed(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        bob, invite, key = await called(lab)
        await bob.reply(invite, "180 Ringing")
        await lab.expect("EARLY 180 INVITE")
        await bob.reply(invite, "486 Busy Here")
        await lab.expect("REJECTED 486 INVITE")
        await bob.expect("ACK")
        await trio.sleep(0.2)
        assert await lab.state(key) == 3
        assert await lab.mi("ua_session_terminate", key=key) == "500 Failed to terminate session"

    against(talk, uac_auth=True)


def test_a_call_of_ours_that_rings_is_cancelled_by_terminate(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        bob, invite, key = await called(lab)
        await bob.reply(invite, "180 Ringing")
        await lab.expect("EARLY 180 INVITE")
        assert await lab.mi("ua_session_terminate", key=key) == "OK"
        await lab.wait_gone(key)
        await bob.reply(await bob.expect("CANCEL"), "200 OK")
        await bob.reply(invite, "487 Request Terminated")
        await bob.expect("ACK")

    against(talk)


def test_a_reinvite_that_crosses_our_bye_keeps_the_session_in_memory_until_it_is_terminated(against: Against) -> None:
    async def talk(lab: Lab) -> None:
        caller, key = await lab.talk()
        assert await lab.mi("ua_session_update", key=key, method="BYE", body="", extra_headers="X-A: b\r\n") == "OK"
        bye = await caller.expect("BYE")
        await caller.send("INVITE", HELD)
        await caller.expect("100 INVITE")
        await lab.expect("UPDATED INVITE")
        assert await lab.reply(key, "INVITE", 481, "Gone") == "OK"
        await caller.expect("481 INVITE")
        await caller.send("ACK", cseq=caller.invite_cseq, branch=caller.invite_branch)
        await lab.expect("UPDATED ACK")
        await caller.reply(bye, "200 OK")
        await lab.expect("ANSWERED 200 BYE")
        assert await lab.state(key) == 6
        assert await lab.mi("ua_session_terminate", key=key) == "OK"
        await lab.wait_gone(key)
        lab.parties.clear()
        caller.socket.close()

    against(talk)
