"""The callers of the benchmark, without I/O but for the last tests: what they send, and what they make of answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from math import inf

import pytest

from aivc.sip.message import Request, parse_untrusted
from bench.signalling import (
    Answered,
    Datagrams,
    Effect,
    Ended,
    Exchange,
    HungUp,
    Ready,
    Refused,
    Send,
    offer,
    remote_of,
)
from bench.signalling_lines import Lines
from bench.signalling_sip import PATIENCE, SipCallers, read_message

TARGET = ("127.0.0.1", 5060)
SDP = offer(7, 40_000, "PCMU").replace("127.0.0.1", "192.0.2.5")


def sent(effects: Sequence[Effect]) -> list[bytes]:
    return [each.data for each in effects if isinstance(each, Send)]


def told(effects: Sequence[Effect]) -> list[Effect]:
    return [each for each in effects if not isinstance(each, Send)]


def answer(request: bytes, status: str, body: str = "", *, more: Sequence[str] = ()) -> bytes:
    """A response to it, with a tag in To and a Contact elsewhere."""
    message = read_message(request)
    to = message.first("to")
    lines = [f"SIP/2.0 {status}", *(f"Via: {via}" for via in message.fields["via"])]
    lines += [f"{name}: {message.first(name.lower())}" for name in ("From", "Call-ID", "CSeq")]
    lines += [f"To: {to if 'tag=' in to else to + ';tag=answerer'}", "Contact: <sip:answerer@192.0.2.9:5070>", *more]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


@pytest.fixture
def callers() -> SipCallers:
    """To whom the target has shown itself already."""
    made = SipCallers(TARGET, 6000, life="test")
    (probe,) = sent(made.expire(0.0))
    assert told(made.receive(answer(probe, "200 OK"), TARGET, 0.0)) == [Ready()]
    return made


def answered(callers: SipCallers) -> bytes:
    """A call in progress; its INVITE."""
    (invite,) = sent(callers.begin(7, 40_000, 1.0))
    callers.receive(answer(invite, "200 OK", SDP), TARGET, 1.25)
    return invite


# SIP


def test_callers_look_for_the_target_until_it_answers() -> None:
    callers = SipCallers(TARGET, 6000)
    for now in (0.0, 0.1, 0.2):
        (probe,) = sent(callers.expire(now))
        assert probe.startswith(b"OPTIONS ")
        assert callers.receive(answer(probe, "503 Starting"), TARGET, now) == []
    assert callers.receive(answer(probe, "200 OK"), TARGET, 0.3) == [Ready()]
    assert callers.expire(9.0) == []
    assert callers.deadline == inf


def test_what_a_caller_sends_is_sip(callers: SipCallers) -> None:
    (invite,) = sent(callers.begin(7, 40_000, 1.0))
    message = parse_untrusted(invite)
    assert isinstance(message, Request)
    assert message.method == "INVITE"
    assert b"m=audio 40000 RTP/AVP 0 101" in message.body


def test_the_time_of_set_up_is_that_from_invite_to_200(callers: SipCallers) -> None:
    (invite,) = sent(callers.begin(7, 40_000, 1.0))
    assert callers.receive(answer(invite, "100 Trying"), TARGET, 1.1) == []
    assert callers.receive(answer(invite, "180 Ringing"), TARGET, 1.2) == []
    effects = callers.receive(answer(invite, "200 OK", SDP), TARGET, 1.25)
    assert told(effects) == [Answered(7, ("192.0.2.5", 40_000), 0.25)]


def test_the_ack_goes_by_the_route_that_was_recorded_to_the_contact(callers: SipCallers) -> None:
    (invite,) = sent(callers.begin(7, 40_000, 1.0))
    routes = ["Record-Route: <sip:192.0.2.1;lr>", "Record-Route: <sip:192.0.2.2;lr>"]
    (ack,) = sent(callers.receive(answer(invite, "200 OK", SDP, more=routes), TARGET, 1.25))
    message = read_message(ack)
    assert message.start == "ACK sip:answerer@192.0.2.9:5070 SIP/2.0"
    assert message.fields["route"] == ["<sip:192.0.2.2;lr>", "<sip:192.0.2.1;lr>"]
    assert message.first("cseq") == "1 ACK"
    assert message.first("to").endswith(";tag=answerer")
    assert message.branch != read_message(invite).branch


def test_an_invite_is_repeated_until_something_comes(callers: SipCallers) -> None:
    (invite,) = sent(callers.begin(7, 40_000, 1.0))
    assert callers.deadline == 1.5
    assert sent(callers.expire(1.5)) == [invite]
    assert callers.expire(2.4) == []
    assert sent(callers.expire(2.5)) == [invite]
    callers.receive(answer(invite, "100 Trying"), TARGET, 2.6)
    assert callers.expire(20.0) == []


def test_a_call_that_nobody_answers_is_given_up(callers: SipCallers) -> None:
    (invite,) = sent(callers.begin(7, 40_000, 1.0))
    callers.receive(answer(invite, "100 Trying"), TARGET, 1.1)
    assert callers.expire(1.0 + PATIENCE) == [Refused(7, "no final answer")]


def test_who_is_answered_after_giving_up_hangs_up(callers: SipCallers) -> None:
    (invite,) = sent(callers.begin(7, 40_000, 1.0))
    callers.receive(answer(invite, "100 Trying"), TARGET, 1.1)
    callers.expire(1.0 + PATIENCE)
    effects = callers.receive(answer(invite, "200 OK", SDP), TARGET, 40.0)
    assert [data.split()[0] for data in sent(effects)] == [b"ACK", b"BYE"]
    assert told(effects) == []


def test_a_200_that_comes_again_gets_the_same_ack_again(callers: SipCallers) -> None:
    (invite,) = sent(callers.begin(7, 40_000, 1.0))
    first = callers.receive(answer(invite, "200 OK", SDP), TARGET, 1.25)
    assert callers.receive(answer(invite, "200 OK", SDP), TARGET, 1.75) == first[:1]


def test_a_refusal_is_acknowledged_in_its_own_transaction(callers: SipCallers) -> None:
    (invite,) = sent(callers.begin(7, 40_000, 1.0))
    refusal = answer(invite, "503 Service Unavailable")
    effects = callers.receive(refusal, TARGET, 1.25)
    (ack,) = sent(effects)
    assert read_message(ack).branch == read_message(invite).branch
    assert told(effects) == [Refused(7, "SIP/2.0 503 Service Unavailable")]
    assert callers.receive(refusal, TARGET, 1.75) == [Send(ack, TARGET)]
    assert callers.end(7, 2.0) == []


def test_an_answer_without_audio_is_a_refusal(callers: SipCallers) -> None:
    (invite,) = sent(callers.begin(7, 40_000, 1.0))
    effects = callers.receive(answer(invite, "200 OK", SDP.replace("audio 40000", "audio 0")), TARGET, 1.25)
    assert [data.split()[0] for data in sent(effects)] == [b"ACK", b"BYE"]
    assert told(effects) == [Refused(7, "an answer without audio")]


def test_a_call_is_over_when_its_bye_is_answered(callers: SipCallers) -> None:
    answered(callers)
    (bye,) = sent(callers.end(7, 2.0))
    assert bye.startswith(b"BYE sip:answerer@192.0.2.9:5070 ")
    assert read_message(bye).first("cseq") == "2 BYE"
    assert callers.receive(answer(bye, "200 OK"), TARGET, 2.1) == [Ended(7)]
    assert callers.expire(40.0) == []


def test_a_bye_is_repeated_and_its_silence_told(callers: SipCallers) -> None:
    answered(callers)
    (bye,) = sent(callers.end(7, 2.0))
    times = [2.5, 3.5, 5.5, 9.5, 13.5, 17.5, 21.5, 25.5, 29.5, 33.5]
    for due in times:
        assert callers.expire(due - 0.1) == []
        assert sent(callers.expire(due)) == [bye]
    assert callers.expire(2.0 + PATIENCE) == [Ended(7, "no answer to BYE")]


def test_a_bye_of_the_target_is_answered_and_told_once(callers: SipCallers) -> None:
    invite = read_message(answered(callers))
    lines = [
        "BYE sip:127.0.0.1:6000 SIP/2.0",
        "v: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1",
        "i: " + invite.first("call-id"),
    ]
    bye = ("\r\n".join([*lines, "f: <sip:b>;tag=answerer", "t: <sip:a>", "CSeq: 1 BYE"]) + "\r\n\r\n").encode()
    effects = callers.receive(bye, ("192.0.2.9", 5070), 2.0)
    assert told(effects) == [HungUp(7)]
    (response,) = [each for each in effects if isinstance(each, Send)]
    assert response.to == ("192.0.2.9", 5070)
    assert read_message(response.data).start == "SIP/2.0 200 OK"
    assert read_message(response.data).branch == "z9hG4bK1"
    assert told(callers.receive(bye, ("192.0.2.9", 5070), 2.5)) == []


def test_a_refresh_by_the_target_gets_the_same_sdp(callers: SipCallers) -> None:
    invite = read_message(answered(callers))
    lines = ["INVITE sip:127.0.0.1:6000 SIP/2.0", "Via: SIP/2.0/UDP h;branch=z9hG4bK1", "CSeq: 1 INVITE"]
    request = "\r\n".join([*lines, f"Call-ID: {invite.first('call-id')}", "From: <sip:b>", "To: <sip:a>"]) + "\r\n\r\n"
    (response,) = sent(callers.receive(request.encode(), TARGET, 2.0))
    assert read_message(response).body == invite.body


def test_a_request_in_no_call_of_theirs_gets_481(callers: SipCallers) -> None:
    (response,) = sent(
        callers.receive(b"BYE sip:x SIP/2.0\r\nVia: v\r\nCall-ID: other\r\nCSeq: 1 BYE\r\n\r\n", TARGET, 2.0)
    )
    assert response.startswith(b"SIP/2.0 481 ")


def test_a_caller_may_call_again(callers: SipCallers) -> None:
    first = answered(callers)
    (bye,) = sent(callers.end(7, 2.0))
    (second,) = sent(callers.begin(7, 40_000, 2.25))
    assert read_message(first).first("call-id") != read_message(second).first("call-id")
    assert callers.receive(answer(bye, "200 OK"), TARGET, 2.25) == [Ended(7)]
    assert told(callers.receive(answer(second, "200 OK", SDP), TARGET, 2.5)) == [
        Answered(7, ("192.0.2.5", 40_000), 0.25)
    ]


# SDP


def test_the_address_of_the_media_wins_over_that_of_the_session() -> None:
    assert remote_of(SDP) == ("192.0.2.5", 40_000)
    assert remote_of(SDP + "c=IN IP4 192.0.2.6\r\n") == ("192.0.2.6", 40_000)
    assert remote_of("v=0\r\n") is None


def test_pcma_is_offered_as_payload_type_8() -> None:
    assert "m=audio 40000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\n" in offer(7, 40_000, "PCMA")


# Lines


@pytest.fixture
def lines() -> Lines:
    made = Lines()
    assert made.expire(0.0) == [Ready()]
    return made


def test_a_call_is_told_in_a_line_and_answered_in_one(lines: Lines) -> None:
    assert lines.begin(7, 40_000, 1.0) == [Send(b"call 7 127.0.0.1 40000\n")]
    assert lines.receive(b"something else\nrea", None, 1.1) == []
    assert lines.receive(b"dy 7 50000\n", None, 1.5) == [Answered(7, ("127.0.0.1", 50_000), 0.5)]
    assert lines.end(7, 2.0) == [Send(b"end 7\n")]
    assert lines.receive(b"ended 7\n", None, 2.1) == [Ended(7)]


def test_a_call_that_ends_unasked_is_told(lines: Lines) -> None:
    lines.begin(7, 40_000, 1.0)
    lines.begin(8, 40_002, 1.0)
    lines.receive(b"ready 7 50000\n", None, 1.1)
    assert lines.receive(b"ended 7\nended 8\n", None, 1.5) == [HungUp(7), Refused(8, "ended before it was ready")]


def test_a_line_that_does_not_come_is_not_waited_for_for_ever(lines: Lines) -> None:
    lines.begin(7, 40_000, 1.0)
    assert lines.expire(lines.deadline - 0.1) == []
    assert lines.expire(lines.deadline) == [Refused(7, "no answer")]
    assert lines.deadline == inf


# On sockets


def until(exchange: Exchange, enough: Callable[[list[object]], bool]) -> list[object]:
    found: list[object] = []
    deadline = time.monotonic() + 5.0
    while not enough(found):
        assert time.monotonic() < deadline
        found += exchange.serve(deadline)
    return found


def test_hundreds_of_calls_at_once_are_answered_over_loopback() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as server, closing(Datagrams([0])) as wire:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5.0)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        with closing(Exchange(SipCallers(server.getsockname(), wire.ports[0]), wire)) as exchange:
            for number in range(200):
                exchange.begin(number, 40_000 + 2 * number)
            invites = [server.recvfrom(65_535) for _ in range(200)]
            for data, source in invites:
                server.sendto(answer(data, "200 OK", SDP), source)
            found = until(exchange, lambda found: len(found) == 200)
    assert {each.number for each in found if isinstance(each, Answered)} == set(range(200))


def test_a_datagram_that_waited_counts_from_when_the_kernel_had_it() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sender, closing(Datagrams([0])) as wire:
        before = time.monotonic()
        sender.sendto(b"x", ("127.0.0.1", wire.ports[0]))
        after = time.monotonic()
        deadline = after + 0.05
        while time.monotonic() < deadline:
            continue  # busy with something else
        ((data, _, at),) = wire.receive(wire.files()[0])
    assert data == b"x"
    assert before - 0.001 <= at <= after + 0.001
