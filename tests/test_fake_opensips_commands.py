"""The test OpenSIPS: its management interface, word for word as OpenSIPS 3.6.8 answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from fake_opensips_parts import SDP, Caller, open_world
from trio.testing import MockClock

from aivc.sip.message import Request

VERSION = '"result":{"Server":"OpenSIPS (3.6.8 (x86_64/linux))"}'
INVALID = '"error":{"code":-32600,"message":"Invalid Request"}'


@pytest.mark.parametrize(
    ("request_text", "answer"),
    [
        ("hello", "400 Parse_error"),
        ("5", f'{{"jsonrpc":"2.0",{INVALID},"id":null}}'),
        ('[{"jsonrpc":"2.0","method":"version","id":"1"}]', f'{{"jsonrpc":"2.0",{INVALID},"id":null}}'),
        ('{"method":"version","id":"1"}', f'{{"jsonrpc":"2.0",{INVALID},"id":"1"}}'),
        ('{"jsonrpc":"2.0","method":"version","params":5,"id":"1"}', f'{{"jsonrpc":"2.0",{INVALID},"id":"1"}}'),
        ('{"jsonrpc":"2.0","method":"version","id":[1]}', "500 Internal error"),
        ('{"jsonrpc":"2.0","method":"version","id":true}', "500 Internal error"),
        ('{"jsonrpc":"2.0","method":"version","id":4294967296}', f'{{"jsonrpc":"2.0",{VERSION},"id":2147483647}}'),
        ('{"jsonrpc":"2.0","method":"version","id":1.5}', f'{{"jsonrpc":"2.0",{VERSION},"id":1}}'),
        ('{"jsonrpc":"2.0","method":"version","id":null}', f'{{"jsonrpc":"2.0",{VERSION},"id":null}}'),
        ('{"jsonrpc":"2.0","method":"version","params":{},"id":"ä"} rest', f'{{"jsonrpc":"2.0",{VERSION},"id":"ä"}}'),
        (
            '{"jsonrpc":"2.0","method":"b2b_entities:ua_session_list","id":"1"}',
            '{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":"1"}',
        ),
    ],
)
async def test_the_answer_to_json_rpc(request_text: str, answer: str, autojump_clock: MockClock) -> None:
    async with open_world() as world:
        assert (await world.connector.tell_raw(request_text.encode())).decode() == answer


async def test_a_notification_is_carried_out_and_not_answered(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.talk()
        for method, params in (("ua_session_terminate", {"key": key}), ("nonsense", {})):
            command = json.dumps({"jsonrpc": "2.0", "method": method, "params": params})
            with trio.move_on_after(5.0) as scope:
                await world.connector.tell_raw(command.encode())
            assert scope.cancelled_caught
        assert world.opensips.sessions == {}


COUNT = "Too few or too many parameters"
NAMES = "Named parameters do not match"


@pytest.mark.parametrize(
    ("method", "params", "data"),
    [
        ("ua_session_reply", {"key": "x", "method": "INFO"}, COUNT),
        ("ua_session_reply", {"key": "x", "method": "INFO", "code": 200, "text": "OK"}, NAMES),
        ("ua_session_reply", {"key": "x", "method": "INFO", "code": 200, "reason": "OK", "content_type": ""}, NAMES),
        (
            "ua_session_reply",
            {"key": "x", "method": "INFO", "code": "two", "reason": "OK"},
            "Bad type for parameter 'code'",
        ),
        (
            "ua_session_reply",
            {"key": [], "method": "INFO", "code": "200", "reason": ""},
            "Bad type for parameter 'key'",
        ),
        ("ua_session_update", {"key": "x", "method": "INFO", "content_type": ""}, NAMES),
        ("ua_session_terminate", {}, COUNT),
        ("ua_session_terminate", {"key": "x", "body": ""}, NAMES),
        ("ua_session_client_start", {"ruri": "sip:x", "to": "sip:x"}, COUNT),
        (
            "event_subscribe",
            {"event": "E_UA_SESSION", "socket": "udp:192.0.2.1:9", "expire": -1},
            "Negative expire value",
        ),
        ("event_subscribe", {"event": "E_UA_SESSION", "socket": "udp:192.0.2.1:9", "ttl": 1}, NAMES),
    ],
)
async def test_parameters_must_be_those_of_a_recipe(
    method: str, params: dict[str, Any], data: str, autojump_clock: MockClock
) -> None:
    async with open_world() as world:
        refusal = await world.connector.tell(method, **params)
        assert refusal == {"code": -32602, "message": "Invalid params", "data": data}
        assert world.opensips.violations[-1] == f"{method}: -32602 Invalid params: {data}"


@pytest.mark.parametrize(
    ("method", "params", "code", "message"),
    [
        ("ua_session_reply", {"method": "INFO", "code": 200, "reason": "OK"}, 500, "Failed to send reply"),
        ("ua_session_update", {"method": "INFO"}, 500, "Failed to send sequential request"),
        ("ua_session_terminate", {}, 500, "Failed to terminate session"),
        ("ua_session_list", {}, 404, "Entity not found"),
    ],
)
async def test_commands_for_a_session_that_never_was(
    method: str, params: dict[str, Any], code: int, message: str, autojump_clock: MockClock
) -> None:
    async with open_world() as world:
        refusal = await world.connector.tell(method, key="B2B.1.2.3.4", **params)
        assert refusal == {"code": code, "message": message}
        assert len(world.opensips.violations) == (method != "ua_session_list")  # to ask for it is no fault
        assert (await world.connector.tell("ua_session_list", key="x"))["message"] == "Bad format for b2b key"


async def test_texts_are_octets_whether_escaped_or_not(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.ring()
        reply = '{"jsonrpc":"2.0","method":"ua_session_reply","id":"1","params":{"key":"%s","method":"INVITE",'
        texts = (
            b'"code":486,"reason":"\\u00e4\xc3\xa4\xe4","body":"\\u20ac","content_type":"Content-Type: text/x\\r\\n"}}'
        )
        assert b'"OK"' in await world.connector.tell_raw((reply % key).encode() + texts)
        raw = await world.caller.read_raw()
        assert raw.startswith(b"SIP/2.0 486 \xc3\xa4\xc3\xa4\xe4\r\n")
        assert raw.endswith(b"Content-Length: 3\r\n\r\n\xe2\x82\xac")


async def test_only_two_numbers_of_a_key_count(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.ring()
        _, place, index, *_ = key.split(".")
        assert await world.connector.state(f"B2B.{place}.{index}.1.1") == 1


async def test_the_list_has_an_entity_as_opensips_prints_it(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.talk()
        (listed,) = await world.connector.tell("ua_session_list")
        assert [listed] == world.opensips.listed
        assert listed == {
            "dlg": int(key.split(".")[2]),
            "logic_key": "",
            "mod_name": "b2b_entities",
            "state": 5,
            "last_invite_cseq": 1,
            "last_method": 0,
            "last_reply_code": 200,
            "db_flag": 2,
            "ruri": "sip:1000@192.0.2.5",
            "callid": "call1",
            "from": '"Alice"',
            "from_uri": "sip:alice@192.0.2.9",
            "from_tag": "a1",
            "to": "",
            "to_uri": "sip:1000@192.0.2.5",
            "to_tag": key,
            "cseq": {"caller": 1, "callee": 1},
            "contact": {"caller": "sip:alice@192.0.2.9:5060", "callee": "sip:192.0.2.5:5060"},
            "send_sock": "192.0.2.5",
        }


async def test_more_sessions_than_fit_a_datagram_cannot_be_listed(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        for number in range(150):
            await Caller(world.caller.socket, world.caller.to, call_id=f"call{number:03d}").ask("INVITE", 1, body=SDP)
        keys = [event["key"] for event in await world.connector.hear()]
        assert len(set(keys)) == 150
        command = b'{"jsonrpc":"2.0","method":"ua_session_list","id":"1"}'
        assert await world.connector.tell_raw(command) == b"500 Internal error"
        assert await world.connector.state(keys[100]) == 1
        for key in keys[110:]:
            await world.connector.reply(key, "INVITE", 486)
            await world.connector.tell("ua_session_terminate", key=key)
        assert len(await world.connector.tell("ua_session_list")) == 110


async def test_commands_are_read_strictly_one_after_the_other(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        world.opensips.mi_seconds = 1.0
        begun = trio.current_time()
        for number in range(3):
            command = {"jsonrpc": "2.0", "method": "version", "id": str(number)}
            await world.connector.mi.sendto(json.dumps(command).encode(), world.opensips.mi_address)
        answers = [json.loads((await world.connector.mi.recvfrom(1000))[0])["id"] for _ in range(3)]
        assert answers == ["0", "1", "2"]
        assert trio.current_time() - begun == pytest.approx(3.01)


async def test_a_call_of_ours_is_told_as_uac_and_its_key_is_the_call_id(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        start = {"ruri": "sip:bob@192.0.2.9", "to": "sip:bob@192.0.2.9", "from": "Agent,sip:agent@192.0.2.5"}
        refusal = await world.connector.tell("ua_session_client_start", **start)
        assert refusal["message"] == "Failed to start session"
        refusal = await world.connector.tell("ua_session_client_start", **start, socket="udp:192.0.2.6:5060")
        assert refusal["message"] == "Non-local socket specified"
        options = {"socket": "udp:192.0.2.5:5060", "flags": "abh", "body": SDP}
        key = await world.connector.tell("ua_session_client_start", **start, **options)
        (invite,) = await world.caller.read()
        assert isinstance(invite, Request)
        assert (invite.call_id, str(invite.cseq), invite.sender.display_name) == (key, "2 INVITE", "Agent")
        await world.caller.answer(invite, "180 Ringing")
        await world.caller.answer(invite, "200 OK", "Contact: <sip:bob@192.0.2.9:5060>")
        events = await world.connector.hear()
        assert [(event["key"], event["event_type"], event["entity_type"]) for event in events] == [
            (key, "EARLY", "UAC"),
            (key, "ANSWERED", "UAC"),
        ]
        assert await world.caller.read_lines() == ["ACK"]
        assert await world.connector.state(key) == 5
        assert await world.connector.tell("ua_session_terminate", key=key) == "OK"
        assert await world.caller.read_lines() == ["BYE"]


async def test_a_refused_call_of_ours_is_freed_only_with_the_module_uac_auth(autojump_clock: MockClock) -> None:
    for has_module in (True, False):
        async with open_world() as world:
            world.opensips.uac_auth = has_module
            await world.opensips.restart()
            await world.connector.subscribe(100)
            start = {"ruri": "sip:bob@192.0.2.9", "to": "sip:bob@192.0.2.9", "from": "sip:agent@192.0.2.5"}
            key = await world.connector.tell("ua_session_client_start", **start, socket="udp:192.0.2.5:5060")
            (invite,) = await world.caller.read()
            assert isinstance(invite, Request)
            await world.caller.answer(invite, "486 Busy Here")
            assert (await world.connector.hear_one())["event_type"] == "REJECTED"
            assert await world.connector.state(key) == (404 if has_module else 1)


async def test_a_call_of_ours_that_is_terminated_unanswered_is_cancelled(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        start = {"ruri": "sip:bob@192.0.2.9", "to": "sip:bob@192.0.2.9", "from": "sip:agent@192.0.2.5"}
        key = await world.connector.tell("ua_session_client_start", **start, socket="udp:192.0.2.5:5060")
        (invite,) = await world.caller.read()
        assert isinstance(invite, Request)
        assert await world.connector.tell("ua_session_terminate", key=key) == "OK"
        assert await world.caller.read_lines() == []  # not before it rings
        await world.caller.answer(invite, "180 Ringing")
        assert await world.caller.read_lines() == ["CANCEL"]
        await world.caller.answer(invite, "487 Request Terminated")
        assert await world.caller.read_lines() == ["ACK"]
        assert await world.connector.hear() == []


@pytest.mark.parametrize("rings", [True, False])
@pytest.mark.parametrize(
    ("method", "more", "state", "heard"),
    [("ua_session_terminate", {}, 404, []), ("ua_session_update", {"method": "BYE"}, 7, ["ACK", "BYE"])],
)
async def test_an_answer_that_crosses_the_end_of_a_call_of_ours_is_hung_up_on_only_after_a_bye(
    method: str, more: dict[str, str], state: int, heard: list[str], rings: bool, autojump_clock: MockClock
) -> None:
    async with open_world() as world:
        start = {"ruri": "sip:bob@192.0.2.9", "to": "sip:bob@192.0.2.9", "from": "sip:agent@192.0.2.5"}
        key = await world.connector.tell("ua_session_client_start", **start, socket="udp:192.0.2.5:5060")
        (invite,) = await world.caller.read()
        assert isinstance(invite, Request)
        if rings:
            await world.caller.answer(invite, "180 Ringing")
        assert await world.connector.tell(method, key=key, **more) == "OK"
        assert await world.connector.state(key) == state
        await world.caller.answer(invite, "200 OK", "Contact: <sip:bob@192.0.2.9:5060>")
        assert await world.caller.read_lines() == ["CANCEL"] * rings + heard
        assert await world.connector.state(key) == 404


async def test_a_display_name_of_the_callee_is_a_violation(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        start = {"ruri": "sip:bob@192.0.2.9", "to": "Bob,sip:bob@192.0.2.9", "from": "Agent,sip:agent@192.0.2.5"}
        await world.connector.tell("ua_session_client_start", **start, socket="udp:192.0.2.5:5060")
        (violation,) = world.opensips.violations
        assert "a display name in `to`" in violation
