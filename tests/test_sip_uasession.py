"""E_UA_SESSION as OpenSIPS 3.6 sends it, and the commands that answer it in the way that OpenSIPS needs them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aivc.sip.jsonrpc import Repeat
from aivc.sip.message import Headers
from aivc.sip.uasession import (
    NO_TARGET,
    EventError,
    ListedSession,
    SessionEvent,
    Subscriber,
    list_sessions,
    list_subscribers,
    parse_untrusted,
    read_sessions,
    read_subscribers,
    reply,
    request_of,
    start_session,
    subscribe,
    terminate,
    update,
)

KEY = "B2B.212.500.1795333284.543018876"
HEADERS = (
    "Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK1;rport\r\nMax-Forwards: 69\r\n"
    'From: "Ann" <sip:ann@192.0.2.10>;tag=1\r\nTo: <sip:ai@192.0.2.5>\r\nCall-ID: call-1\r\nCSeq: 1 INVITE\r\n'
    "Contact: <sip:ann@192.0.2.10:5060>\r\nContent-Type: application/sdp\r\nContent-Length: 7\r\n"
)
NEW = {
    "key": KEY,
    "event_type": "NEW",
    "entity_type": "UAS",
    "status": 0,
    "reason": None,
    "method": "INVITE",
    "body": "v=0\r\na=",
    "headers": HEADERS,
    "extra_params": '{"flavor": "openai"}',
}


def datagram(**changes: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": "E_UA_SESSION", "params": NEW | changes}).encode()


def event(**changes: object) -> SessionEvent:
    return parse_untrusted(datagram(**changes))


def headers_of(found: SessionEvent) -> Headers:
    assert found.headers is not None
    return found.headers


# events


def test_a_new_session_is_read_with_headers_body_and_what_the_script_added() -> None:
    found = event()
    assert (found.key, found.event_type, found.entity_type, found.status) == (KEY, "NEW", "UAS", 0)
    assert (found.method, found.reason, found.body) == ("INVITE", "", b"v=0\r\na=")
    assert found.extra_params == '{"flavor": "openai"}'
    assert headers_of(found).get("call-id") == "call-1"
    assert found.fault == ""


def test_the_reply_to_a_request_of_ours_is_read_with_its_status_and_reason() -> None:
    found = event(event_type="REJECTED", status=408, reason="Timeout", body=None, headers="From: <sip:a@b>;tag=1\r\n")
    assert (found.status, found.reason, found.body) == (408, "Timeout", None)
    assert headers_of(found).fields == (("From", "<sip:a@b>;tag=1"),)


def test_without_flags_there_are_neither_headers_nor_a_body() -> None:
    found = event(headers=None, body=None)
    assert (found.headers, found.body) == (None, None)
    with pytest.raises(EventError, match="flag h"):
        request_of(found)


def test_members_that_are_left_out_are_as_null() -> None:
    params = {name: NEW[name] for name in ("key", "event_type", "entity_type", "status", "method")}
    found = parse_untrusted(json.dumps({"method": "E_UA_SESSION", "params": params}).encode())
    assert (found.headers, found.body, found.reason, found.extra_params) == (None, None, "", None)


def test_compact_names_folded_lines_and_bare_line_feeds_are_read_as_in_a_message() -> None:
    found = headers_of(event(headers="t: <sip:a@b>\nSubject: a\r\n  b\r\n\tc\r\ni: call-1\r\n\r\n"))
    assert found.fields == (("To", "<sip:a@b>"), ("Subject", "a b c"), ("Call-ID", "call-1"))


def test_octets_that_are_no_utf_8_are_kept() -> None:
    data = datagram(headers="Subject: caf@\r\n", body="caf@").replace(b"caf@", b"caf\xe9")
    found = parse_untrusted(data)
    assert headers_of(found).get("Subject") == "caf\xe9"
    assert found.body == b"caf\xe9"
    assert parse_untrusted(datagram(body="café")).body == b"caf\xc3\xa9"


def test_an_event_as_large_as_a_datagram_is_read() -> None:
    data = datagram(body="x" * 64_000)
    assert len(data) > 64_500
    assert parse_untrusted(data).body == b"x" * 64_000


def test_bad_headers_do_not_hide_a_bye() -> None:
    found = event(event_type="TERMINATED", method="BYE", headers="no colon\r\nCall-ID: call-1\r\n")
    assert (found.event_type, found.key, found.fault) == ("TERMINATED", KEY, "Bad header line")
    assert headers_of(found).get("Call-ID") == "call-1"


@pytest.mark.parametrize(
    "changes",
    [
        {"key": None},
        {"key": ""},
        {"key": 7},
        {"key": "a b"},
        {"key": "B2B.\n"},
        {"key": "B2B.é"},
        {"key": "x" * 1000},
        {"event_type": "OLD"},
        {"event_type": None},
        {"event_type": ["NEW"]},
        {"entity_type": "B2B"},
        {"status": "200"},
        {"status": None},
        {"status": True},
        {"status": 99},
        {"status": 10**30},
        {"status": 200.0},
        {"method": ""},
        {"method": "IN VITE"},
        {"method": "X" * 100},
        {"reason": 7},
        {"headers": ["Via: x"]},
        {"headers": "Subject: \ud83d\r\n"},
        {"body": {"v": 0}},
        {"body": "\ud83d"},
        {"extra_params": {"flavor": "openai"}},
    ],
)
def test_members_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(EventError):
        event(**changes)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 60_000,
        b'{"method":"E_UA_SESSION"}',
        b'{"method":"E_UA_SESSION","params":["a"]}',
        datagram().replace(b"E_UA_SESSION", b"E_CORE_PKG_THRESHOLD"),
        datagram()[:-1],
        datagram(body="x" * 66_000),
    ],
)
def test_what_is_no_event_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(EventError):
        parse_untrusted(data)


# requests


def test_the_request_of_an_event_is_as_one_from_the_wire() -> None:
    request = request_of(event())
    assert (request.method, request.target, request.body) == ("INVITE", "sip:ai@192.0.2.5", b"v=0\r\na=")
    assert (request.call_id, request.cseq.method, request.sender.tag) == ("call-1", "INVITE", "1")
    assert request.headers.get("Content-Length") is None


def test_who_is_called_by_another_scheme_is_no_target() -> None:
    assert request_of(event(headers=HEADERS.replace("sip:ai@192.0.2.5", "tel:+4930"))).target == NO_TARGET


def test_a_body_that_was_cut_at_a_nul_is_taken_as_it_is() -> None:
    assert request_of(event(headers=HEADERS.replace("Content-Length: 7", "Content-Length: 99"))).body == b"v=0\r\na="


@pytest.mark.parametrize("missing", ["Via", "From", "To", "Call-ID", "CSeq"])
def test_a_request_without_a_mandatory_header_is_refused(missing: str) -> None:
    lines = [line for line in HEADERS.split("\r\n") if not line.startswith(missing)]
    with pytest.raises(EventError, match=missing):
        request_of(event(headers="\r\n".join(lines)))


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "UPDATE"},
        {"headers": HEADERS + "Content-Type: text/plain\r\n"},
        {"headers": HEADERS + "no colon\r\n"},
        {"headers": HEADERS + "X: " + "x" * 9000 + "\r\n"},
        {"headers": HEADERS + "X: y\r\n" * 100},
        {"headers": ""},
        {"event_type": "ANSWERED", "status": 200},
    ],
)
def test_what_would_be_answered_400_on_the_wire_is_no_request(changes: dict[str, Any]) -> None:
    with pytest.raises(EventError):
        request_of(event(**changes))


# commands


def test_a_subscription_names_event_socket_and_seconds() -> None:
    command = subscribe("udp:192.0.2.9:50060", 90)
    assert command.method == "event_subscribe"
    assert command.params == {"event": "E_UA_SESSION", "socket": "udp:192.0.2.9:50060", "expire": 90}
    assert command.repeat is Repeat.HARMLESS


def test_a_bare_reply_has_neither_body_nor_headers() -> None:
    command = reply(KEY, "INVITE", 486, "Busy Here")
    assert command.method == "ua_session_reply"
    assert command.params == {"key": KEY, "method": "INVITE", "code": 486, "reason": "Busy Here"}
    assert command.repeat is Repeat.HARMLESS


def test_headers_of_a_reply_never_go_without_a_body_and_an_empty_one_has_no_type() -> None:
    params = reply(KEY, "OPTIONS", 200, "OK", fields=(("Allow", "INVITE, BYE"), ("X-A", "caf\xe9"))).params
    assert params["extra_headers"] == "Allow: INVITE, BYE\r\nX-A: caf\udce9\r\n"
    assert (params["body"], params["content_type"]) == ("", "")


def test_the_type_of_a_body_is_a_whole_line() -> None:
    assert reply(KEY, "INVITE", 200, "OK", body=b"v=0\r\n").params == {
        "key": KEY,
        "method": "INVITE",
        "code": 200,
        "reason": "OK",
        "body": "v=0\r\n",
        "content_type": "Content-Type: application/sdp\r\n",
    }
    relay = update(KEY, "INFO", body=b"Signal=5\r\n", content_type="application/dtmf-relay")
    assert relay.params["content_type"] == "Content-Type: application/dtmf-relay\r\n"
    assert "extra_headers" not in relay.params


def test_a_request_of_ours_is_never_repeated_and_its_headers_have_a_body() -> None:
    command = update(KEY, "REFER", fields=(("Refer-To", "<sip:desk@example.com>"),))
    assert command.method == "ua_session_update"
    assert (command.repeat, command.params["body"]) == (Repeat.NEVER, "")
    assert command.params["extra_headers"] == "Refer-To: <sip:desk@example.com>\r\n"


def test_a_terminate_has_no_headers_and_may_be_repeated_once_done() -> None:
    command = terminate(KEY)
    assert (command.method, command.params) == ("ua_session_terminate", {"key": KEY})
    assert command.repeat is Repeat.DONE_IF_REFUSED


def test_a_call_of_ours_names_who_calls_whom_from_which_socket() -> None:
    command = start_session(
        "sip:desk@192.0.2.7",
        to="sip:desk@192.0.2.7;aivc=1",
        sender="AI,sip:ai@192.0.2.5",
        body=b"v=0\r\n",
        socket="udp:a:1",
        seconds=60,
    )
    assert command.method == "ua_session_client_start"
    assert command.repeat is Repeat.NEVER
    assert command.params == {
        "ruri": "sip:desk@192.0.2.7",
        "to": "sip:desk@192.0.2.7;aivc=1",
        "from": "AI,sip:ai@192.0.2.5",
        "body": "v=0\r\n",
        "content_type": "Content-Type: application/sdp\r\n",
        "extra_headers": "",
        "flags": "abht60",
        "socket": "udp:a:1",
    }


@pytest.mark.parametrize(
    "fields", [(("X-A", "b\r\nX-C: d"),), (("X-A", "b\nc"),), (("X-A", "b\0c"),), (("X A", "b"),), (("", "b"),)]
)
def test_nothing_smuggles_a_header_line(fields: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(ValueError, match=r"line break or NUL|no name"):
        update(KEY, "REFER", fields=fields)


def test_nothing_smuggles_a_line_by_a_reason_a_type_or_an_address() -> None:
    with pytest.raises(ValueError, match="line break"):
        reply(KEY, "INVITE", 486, "Busy\r\nX-A: b")
    with pytest.raises(ValueError, match="line break"):
        update(KEY, "INFO", body=b"x", content_type="a/b\r\nX-A: b")
    with pytest.raises(ValueError, match="line break"):
        start_session("sip:a@b\r\n", to="sip:a@b", sender="sip:c@d", body=b"v=0\r\n", seconds=60)
    with pytest.raises(ValueError, match="NUL"):
        update(KEY, "INFO", body=b"a\0b")


# lists


def test_a_session_that_came_in_is_listed_with_our_tag_for_its_key_and_one_of_opensips_with_its_call_id() -> None:
    came = {"dlg": 500, "state": 5, "ruri": "sip:ai@192.0.2.5", "callid": "B2B.1.2.3.4", "to_tag": KEY}
    went = {"dlg": 7, "state": 1, "callid": "B2B.1.7.3.4", "to_tag": "B2B.9.9.9.9"}
    assert list_sessions().lists
    assert read_sessions([came, went]) == (
        ListedSession(KEY, 5, "B2B.1.2.3.4"),
        ListedSession("B2B.1.7.3.4", 1, "B2B.1.7.3.4", is_outgoing=True),
    )
    assert list_sessions(KEY).params == {"key": KEY}
    assert not list_sessions(KEY).lists
    assert read_sessions(came) == (ListedSession(KEY, 5, "B2B.1.2.3.4"),)
    assert read_sessions([]) == ()


@pytest.mark.parametrize("result", ["OK", None, [None], [{}], [{"state": "5", "callid": "a"}], [{"state": 5}]])
def test_a_list_that_is_none_is_refused(result: object) -> None:
    with pytest.raises(EventError):
        read_sessions(result)


def test_subscribers_are_listed_until_their_time_is_over() -> None:
    found = [
        {"socket": "udp:192.0.2.9:50060", "expire": 90, "ttl": 60},
        {"socket": "udp:192.0.2.8:50060", "expire": 90, "ttl": "expired"},
        {"socket": "unix:/run/x", "expire": "never"},
        {"protocol": "virtual"},
    ]
    assert list_subscribers().params == {"event": "E_UA_SESSION"}
    listed = read_subscribers({"Event": {"name": "E_UA_SESSION", "Subscribers": found}})
    assert listed == (Subscriber("udp:192.0.2.9:50060", 60), Subscriber("unix:/run/x", None))
    assert read_subscribers({"Event": {}}) == ()


@pytest.mark.parametrize("result", ["OK", {}, {"Event": []}, {"Event": {"Subscribers": {}}}, {"Events": []}])
def test_a_list_of_subscribers_that_is_none_is_refused(result: object) -> None:
    with pytest.raises(EventError):
        read_subscribers(result)
