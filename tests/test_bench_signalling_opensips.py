"""The stand-in for OpenSIPS of the benchmark: its answers and events are those of OpenSIPS 3.6, as we read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import inf
from typing import Any

import pytest

from aivc.sip import uasession
from aivc.sip.jsonrpc import Command
from bench.signalling import Address, Answered, Effect, Ended, HungUp, Ready, Refused, Send, offer
from bench.signalling_opensips import PATIENCE, OpenSips

CONNECTOR = ("127.0.0.1", 50_000)  # its socket for commands
EVENTS = ("127.0.0.1", 50_060)
SDP = offer(7, 40_000, "PCMU")


def perform(opensips: OpenSips, command: Command, now: float) -> tuple[Any, list[Effect]]:
    """The answer, and what else happens."""
    request = {"jsonrpc": "2.0", "method": command.method, "params": command.params, "id": "1"}
    first, *others = opensips.receive(json.dumps(request).encode(), CONNECTOR, now)
    assert isinstance(first, Send)
    assert (first.to, first.origin) == (CONNECTOR, 0)
    answer = json.loads(first.data)
    assert answer["id"] == "1"
    return answer.get("result", answer.get("error")), others


def events(effects: Sequence[Effect], to: Address = EVENTS) -> list[uasession.SessionEvent]:
    return [uasession.parse_untrusted(each.data) for each in effects if isinstance(each, Send) and each.to == to]


@pytest.fixture
def opensips() -> OpenSips:
    """With one subscriber."""
    made = OpenSips(life=1)
    assert perform(made, uasession.subscribe("udp:127.0.0.1:50060", 90), 0.0) == ("OK", [Ready()])
    return made


def begun(opensips: OpenSips, number: int = 7, now: float = 1.0) -> str:
    (event,) = events(opensips.begin(number, 40_000, now))
    return event.key


def answered(opensips: OpenSips, number: int = 7) -> str:
    key = begun(opensips, number)
    perform(opensips, uasession.reply(key, "INVITE", 200, "OK", body=SDP.encode()), 1.25)
    return key


def test_a_new_call_is_an_event_with_the_invite(opensips: OpenSips) -> None:
    (event,) = events(opensips.begin(7, 40_000, 1.0))
    assert (event.event_type, event.entity_type, event.status) == ("NEW", "UAS", 0)
    assert event.fault == ""
    request = uasession.request_of(event)
    assert request.method == "INVITE"
    assert request.target == "sip:1000@127.0.0.1"
    assert b"m=audio 40000 RTP/AVP 0 101" in request.body


def test_events_come_from_the_sockets_of_several_processes_in_turn(opensips: OpenSips) -> None:
    effects = [each for number in range(5) for each in opensips.begin(number, 40_000, 1.0)]
    assert [each.origin for each in effects if isinstance(each, Send)] == [1, 2, 3, 4, 1]


def test_the_time_of_set_up_is_that_from_new_to_the_reply(opensips: OpenSips) -> None:
    key = begun(opensips)
    assert perform(opensips, uasession.reply(key, "INVITE", 180, "Ringing"), 1.125) == ("OK", [])
    result, effects = perform(opensips, uasession.reply(key, "INVITE", 200, "OK", body=SDP.encode()), 1.25)
    assert result == "OK"
    assert effects[-1] == Answered(7, ("127.0.0.1", 40_000), 0.25)
    (acknowledged,) = events(effects)
    assert (acknowledged.event_type, acknowledged.method, acknowledged.key) == ("UPDATED", "ACK", key)


def test_a_refusal_is_told_and_its_session_freed_by_terminate(opensips: OpenSips) -> None:
    key = begun(opensips)
    refused = uasession.reply(key, "INVITE", 503, "Service Unavailable")
    assert perform(opensips, refused, 1.25) == ("OK", [Refused(7, "503 Service Unavailable")])
    assert perform(opensips, uasession.list_sessions(key), 1.3)[0]["state"] == 7
    assert perform(opensips, uasession.terminate(key), 1.5) == ("OK", [])
    assert perform(opensips, uasession.list_sessions(key), 1.6)[0]["code"] == uasession.NO_SESSION


def test_a_call_that_a_caller_ends_is_over_at_once(opensips: OpenSips) -> None:
    key = answered(opensips)
    effects = opensips.end(7, 2.0)
    (event,) = events(effects)
    assert (event.event_type, event.method, event.key) == ("TERMINATED", "BYE", key)
    assert uasession.request_of(event).to.tag == key
    assert effects[-1] == Ended(7)
    assert perform(opensips, uasession.terminate(key), 2.1)[0] == {
        "code": 500,
        "message": "Failed to terminate session",
    }
    assert opensips.end(7, 2.2) == []


def test_a_call_that_the_connector_ends_is_told(opensips: OpenSips) -> None:
    key = answered(opensips)
    assert perform(opensips, uasession.terminate(key), 2.0) == ("OK", [HungUp(7)])


def test_a_call_that_is_not_answered_cannot_be_terminated(opensips: OpenSips) -> None:
    assert perform(opensips, uasession.terminate(begun(opensips)), 2.0)[0]["code"] == 500


def test_a_caller_who_waits_too_long_cancels(opensips: OpenSips) -> None:
    key = begun(opensips)
    assert opensips.deadline == 1.0 + PATIENCE
    effects = opensips.expire(opensips.deadline)
    assert [(event.event_type, event.method) for event in events(effects)] == [("TERMINATED", "CANCEL")]
    assert effects[-1] == Refused(7, "no final answer")
    assert opensips.deadline == inf
    assert perform(opensips, uasession.reply(key, "INVITE", 487, "Request Terminated"), 40.0) == ("OK", [])
    assert perform(opensips, uasession.terminate(key), 40.1) == ("OK", [])


def test_a_request_of_the_connector_is_granted(opensips: OpenSips) -> None:
    key = answered(opensips)
    result, effects = perform(opensips, uasession.update(key, "INFO", body=b"Signal=1"), 2.0)
    (event,) = events(effects)
    assert (result, event.event_type, event.status, event.method) == ("OK", "ANSWERED", 200, "INFO")


def test_the_list_of_sessions_is_what_the_census_reads(opensips: OpenSips) -> None:
    keys = [answered(opensips, number) for number in range(3)]
    listed = uasession.read_sessions(perform(opensips, uasession.list_sessions(), 2.0)[0])
    assert [(each.key, each.state, each.is_outgoing) for each in listed] == [(key, 5, False) for key in keys]


def test_the_list_of_many_sessions_is_too_long_for_a_datagram(opensips: OpenSips) -> None:
    for number in range(200):
        begun(opensips, number)
    request = b'{"jsonrpc": "2.0", "method": "ua_session_list", "id": 1}'
    assert opensips.receive(request, CONNECTOR, 2.0) == [Send(b"500 Internal error", CONNECTOR)]


def test_a_subscription_ends_unless_it_is_renewed(opensips: OpenSips) -> None:
    (subscriber,) = uasession.read_subscribers(perform(opensips, uasession.list_subscribers(), 30.0)[0])
    assert subscriber == uasession.Subscriber("udp:127.0.0.1:50060", 60)
    assert perform(opensips, uasession.subscribe("udp:127.0.0.1:50060", 90), 60.0) == ("OK", [])
    assert len(events(opensips.begin(7, 40_000, 100.0))) == 1
    assert events(opensips.begin(8, 40_000, 200.0)) == []


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (b"no JSON", b"400 Parse_error"),
        (b'{"jsonrpc":"2.0","method":"which","id":1}', b'"code":-32601'),
        (b'{"jsonrpc":"2.0","method":"ua_session_terminate","params":{},"id":1}', b'"code":-32602'),
        (b'{"jsonrpc":"2.0","method":"event_subscribe","params":["E_X","udp:127.0.0.1:1"],"id":1}', b'"code":400'),
        (b'{"jsonrpc":"2.0","method":"version","id":1}', b'{"Server":"OpenSIPS (3.6.8 (x86_64/linux))"}'),
    ],
)
def test_commands_are_refused_as_opensips_refuses_them(opensips: OpenSips, request_: bytes, told: bytes) -> None:
    (answer,) = opensips.receive(request_, CONNECTOR, 1.0)
    assert isinstance(answer, Send)
    assert told in answer.data


def test_a_command_without_id_gets_no_answer(opensips: OpenSips) -> None:
    assert opensips.receive(b'{"jsonrpc":"2.0","method":"version"}', CONNECTOR, 1.0) == []
