"""What OpenSIPS sends: answers of its management interface, and events of UA sessions."""

from __future__ import annotations

from typing import Final

from aivc.sip import jsonrpc, uasession
from aivc.sip.jsonrpc import Command, Done, Failed, JsonRpcError, encode, load_untrusted, octets_of
from aivc.sip.message import MAX_MESSAGE_OCTETS, parse_untrusted
from aivc.sip.uasession import EventError, SessionEvent
from fuzz.lines import check_head, check_line
from fuzz.messages import serve
from fuzz.target import LARGEST_DATAGRAM, Target, only


def answer(data: bytes) -> None:
    """One datagram of mi_datagram: an id of ours or none, and a text for one line of a log."""
    read = only(JsonRpcError, jsonrpc.parse_untrusted, data)
    if isinstance(read, Done):
        only(EventError, uasession.read_sessions, read.result)
        only(EventError, uasession.read_subscribers, read.result)
    elif isinstance(read, Failed):
        assert read.text.isprintable()
        assert len(read.text) <= jsonrpc.MAX_TEXT


def event(data: bytes) -> None:
    """One datagram of the event socket: the request that it tells of is a message, and what we answer is whole."""
    read = only(EventError, uasession.parse_untrusted, data)
    if read is None:
        return
    check_line(read.key.encode("ascii"))
    assert read.reason.isprintable()
    request = only(EventError, uasession.request_of, read)
    if request is not None:
        octets = bytes(request)
        check_head(octets)
        if len(octets) <= MAX_MESSAGE_OCTETS:
            assert parse_untrusted(octets) == request
            serve(request, len(octets))
    check_commands(read)


def check_commands(read: SessionEvent) -> None:
    """What is made of any header fields and any body arrives as it was, or is not made."""
    fields = () if read.headers is None else read.headers.fields
    body = read.body or b""
    for command in (
        only(ValueError, uasession.reply, read.key, read.method, 200, read.reason, body=body, fields=fields),
        only(ValueError, uasession.update, read.key, read.method, body=body, fields=fields),
        uasession.terminate(read.key),
        uasession.list_sessions(read.key),
    ):
        if command is not None:
            check_command(command)


def check_command(command: Command) -> None:
    datagram = encode(command, "1")
    if len(datagram) <= jsonrpc.MAX_DATAGRAM_OCTETS:
        assert load_untrusted(datagram)["params"] == dict(command.params)
    assert b"\0" not in datagram
    lines = command.params.get("extra_headers")
    if isinstance(lines, str):
        check_head(octets_of(lines) + b"\r\n")
        assert "body" in command.params


TARGETS: Final = (
    Target("mi", answer, LARGEST_DATAGRAM),
    Target("uasession", event, LARGEST_DATAGRAM, 400),
)
