"""Answers of OpenSIPS's management interface as they come, and commands as they go."""

from __future__ import annotations

import json

import pytest

from aivc.sip.jsonrpc import (
    MAX_TEXT,
    Answer,
    Command,
    Done,
    Failed,
    JsonRpcError,
    Repeat,
    encode,
    load_untrusted,
    octets_of,
    parse_untrusted,
    readable,
    text_of,
)


def test_a_command_is_one_json_rpc_request_with_a_string_for_its_id() -> None:
    command = Command("ua_session_list", {"key": "B2B.1"}, Repeat.HARMLESS)
    assert json.loads(encode(command, "5eed.7")) == {
        "jsonrpc": "2.0",
        "id": "5eed.7",
        "method": "ua_session_list",
        "params": {"key": "B2B.1"},
    }
    assert str(command) == "ua_session_list B2B.1"
    assert str(Command("ua_session_list", {}, Repeat.HARMLESS)) == "ua_session_list"


@pytest.mark.parametrize("octets", [b"caf\xc3\xa9", b"caf\xe9", bytes(range(256)), b""])
def test_octets_of_any_kind_go_and_come_unchanged(octets: bytes) -> None:
    datagram = encode(Command("x", {"body": text_of(octets)}, Repeat.NEVER), "1")
    params = load_untrusted(datagram)["params"]
    assert isinstance(params, dict)
    assert octets_of(params["body"]) == octets


def test_octets_above_127_are_not_written_as_escapes() -> None:
    assert b'"caf\xc3\xa9"' in encode(Command("x", {"body": "café"}, Repeat.NEVER), "1")


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b'{"jsonrpc":"2.0","result":"OK","id":"a.1"}', Done("a.1", "OK")),
        (b' {"id":"a.1","result":null}\n', Done("a.1", None)),
        (b'{"result":[{"state":5,"from":"\xe9"}],"id":"a.1"}', Done("a.1", [{"state": 5, "from": "\udce9"}])),
        (b'{"error":{"code":404,"message":"Entity not found"},"id":"a.1"}', Failed("a.1", 404, "Entity not found")),
        (
            b'{"error":{"code":-32602,"message":"Invalid params","data":"Negative expire value"},"id":"a.1"}',
            Failed("a.1", -32602, "Invalid params: Negative expire value"),
        ),
        (
            b'{"error":{"code":-32600,"message":"Invalid Request","data":7},"id":null}',
            Failed(None, -32600, "Invalid Request"),
        ),
        (b"500 Internal error", Failed(None, 500, "Internal error")),
        (b"400 Parse_error\n", Failed(None, 400, "Parse_error")),
    ],
)
def test_answers_of_every_kind_are_read(data: bytes, answer: Answer) -> None:
    assert parse_untrusted(data) == answer


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"OK",
        b"200 OK",
        b"5000 What",
        b"500 " + b"x" * 100,
        b"\xff",
        b"[]",
        b"{",
        b'{"id":"a"}',
        b'{"result":"OK"}',
        b'{"id":7,"result":"OK"}',
        b'{"id":"a","error":"no"}',
        b'{"id":"a","error":{"code":"500","message":"no"}}',
        b'{"id":"a","error":{"code":500}}',
        b'{"id":"a","result":' + b"[" * 60_000,
        b'{"id":"a","result":' + b"9" * 60_000 + b"}",
        b'{"id":"a","result":"' + b"x" * 65_535 + b'"}',
    ],
)
def test_what_is_no_answer_is_an_error_of_its_own_kind(data: bytes) -> None:
    with pytest.raises(JsonRpcError):
        parse_untrusted(data)


def test_half_a_surrogate_pair_stands_for_no_octets() -> None:
    with pytest.raises(JsonRpcError):
        octets_of("\ud83d")


def test_the_text_of_a_failure_is_fit_for_a_log() -> None:
    answer = parse_untrusted(b'{"id":"a","error":{"code":500,"message":"no\\n\\u0000\xff\\ud83d%s"}}' % (b"x" * 999))
    assert isinstance(answer, Failed)
    assert answer.text.startswith("no????x")
    assert len(answer.text) == MAX_TEXT
    assert readable("Grüße") == "Grüße"
