"""Transactions on flows: where answers go, how long they may be, and what becomes of requests of ours."""

from __future__ import annotations

import attrs
import pytest
import trio
from paper_flow import PBX, PaperFlow, PaperTransports, read_request, reply, tokens
from trio.testing import MockClock

from aivc.sip.address import Via
from aivc.sip.amplification import fitting
from aivc.sip.flow import Arrival, Flow, Transport
from aivc.sip.message import Request, Response, answer_to
from aivc.sip.timers import Timers
from aivc.sip.transaction_layer import TransactionLayer

LONG = (("Server", "aivc/1"), ("Allow", "INVITE, ACK, CANCEL, BYE"), ("Supported", "replaces"), ("Accept", "x" * 300))


def request(method: str = "OPTIONS", branch: str = "z9hG4bK1", **changed: str) -> Request:
    lines = {
        "Via": f"SIP/2.0/UDP 192.0.2.10:5060;branch={branch}",
        "Max-Forwards": "70",
        "From": "<sip:100@example.com>;tag=1",
        "To": "<sip:200@192.0.2.1>",
        "Call-ID": "one",
        "CSeq": f"1 {method}",
        **changed,
    }
    return read_request(f"{method} sip:200@192.0.2.1 SIP/2.0\n" + "\n".join(f"{k}: {v}" for k, v in lines.items()))


def arrived(message: Request, flow: Flow) -> Arrival:
    return Arrival(message, flow, len(bytes(message)))


@attrs.define
class Bench:
    flow: PaperFlow = attrs.field(factory=PaperFlow)
    transports: PaperTransports = attrs.field(factory=PaperTransports)
    proven: set[tuple[str, int]] = attrs.field(factory=set)
    timers: Timers = attrs.field(factory=Timers)
    layer: TransactionLayer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.layer = TransactionLayer(self.timers, tokens(), self.transports, self.proven.__contains__)

    async def pass_time(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self.timers.run()


async def test_each_answer_asks_anew_which_way_it_goes() -> None:
    """After the loss of a connection the next one takes another (RFC 3261 section 18.2.2)."""

    @attrs.define(eq=False)
    class Moving(PaperTransports):
        flows: list[PaperFlow] = attrs.field(factory=lambda: [PaperFlow("TCP"), PaperFlow("TCP")])

        def answering(self, arrival: Arrival, via: Via) -> Flow:
            return next(flow for flow in self.flows if flow.is_open)

    transports = Moving()
    layer = TransactionLayer(Timers(), tokens(), transports)
    transaction = layer.begin(request("INVITE"), arrived(request("INVITE"), transports.flows[0]))
    transaction.respond(answer_to(transaction.request.headers, 180, tag="ours"))
    transports.flows[0].is_open = False
    transaction.respond(answer_to(transaction.request.headers, 200, tag="ours"))
    assert [flow.statuses for flow in transports.flows] == [[180], [200]]


@pytest.mark.parametrize(("transport", "sent"), [("UDP", 11), ("TCP", 1), ("TLS", 1)])
async def test_only_over_udp_is_an_unacknowledged_refusal_resent(
    transport: Transport, sent: int, autojump_clock: MockClock
) -> None:
    with trio.fail_after(60):
        bench = Bench(PaperFlow(transport))
        transaction = bench.layer.begin(request("INVITE"), arrived(request("INVITE"), bench.flow))
        transaction.respond(answer_to(transaction.request.headers, 486, tag="ours"))
        await bench.pass_time(33)
        assert len(bench.flow.sent) == sent
        assert not bench.layer.servers
        assert bench.layer.stored_octets == 0


async def test_an_answer_to_who_may_be_anybody_loses_what_is_not_needed_before_it_is_twice_as_long() -> None:
    bench = Bench()
    transaction = bench.layer.begin(request(), arrived(request(), bench.flow))
    transaction.respond(answer_to(transaction.request.headers, 200, tag="ours", extra=LONG))
    (data,) = bench.flow.sent
    assert len(data) <= 2 * len(bytes(request()))
    (answer,) = bench.flow.messages
    assert {name for name, _ in answer.headers} >= {"Via", "From", "To", "Call-ID", "CSeq", "Allow"}
    assert answer.headers.get("Accept") is None
    assert bench.layer.amplifying == 0


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
async def test_who_has_proved_to_be_there_gets_the_whole_answer(transport: Transport) -> None:
    bench = Bench(PaperFlow(transport), proven={PBX} if transport == "UDP" else set())
    transaction = bench.layer.begin(request(), arrived(request(), bench.flow))
    response = answer_to(transaction.request.headers, 200, tag="ours", extra=LONG, body=b"x" * 2000)
    transaction.respond(response)
    assert bench.flow.sent == [bytes(response)]


async def test_an_answer_that_would_amplify_all_the_same_is_dropped_and_counted_and_so_are_its_copies() -> None:
    bench = Bench()
    transaction = bench.layer.begin(request(), arrived(request(), bench.flow))
    transaction.respond(answer_to(transaction.request.headers, 200, tag="ours", body=b"x" * 2000))
    assert bench.layer.absorb(request(), 10)
    bench.layer.respond_statelessly(answer_to(request().headers, 503, body=b"x" * 2000), arrived(request(), bench.flow))
    assert bench.flow.sent == []
    assert bench.layer.amplifying == 2


def test_no_more_is_left_out_of_an_answer_than_need_be() -> None:
    response = answer_to(request().headers, 200, extra=LONG)
    length = len(bytes(response))
    assert fitting(response, length) == bytes(response)
    shortened = fitting(response, length // 2 - 1)
    assert shortened is not None
    assert b"Server" not in shortened
    assert b"Accept" in shortened


async def test_a_trying_fits_however_short_the_request() -> None:
    assert fitting(answer_to(request().headers, 100), len(bytes(request()))) is not None


async def test_a_request_of_ours_is_resent_over_udp_until_it_is_answered(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        bench = Bench()
        transaction = bench.layer.send(request("BYE"), bench.flow)
        await bench.pass_time(2)
        assert bench.flow.methods == ["BYE"] * 3
        bench.layer.receive_response(reply(transaction.request, 200))
        assert transaction.done.is_set()
        assert transaction.response is not None
        await bench.pass_time(6)
        assert bench.flow.methods == ["BYE"] * 3
        assert not bench.layer.clients


async def test_a_request_over_a_connection_that_closes_fails_at_once(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        bench = Bench(PaperFlow("TLS"))
        told: list[Response | None] = []
        transaction = bench.layer.send(request("BYE"), bench.flow, told.append)
        await bench.pass_time(3)
        assert not transaction.done.is_set()
        bench.flow.is_open = False
        await bench.pass_time(0.6)
        assert told == [None]
        assert transaction.lost
        assert not bench.layer.clients


async def test_a_connection_that_never_was_is_told_to_who_asked_after_the_question(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        bench = Bench(PaperFlow("TCP", is_open=False))
        transaction = bench.layer.invite(request("INVITE"), bench.flow)
        told: list[Response | None] = []
        transaction.report = told.append
        await bench.pass_time(0.1)
        assert told == [None]


async def test_silence_is_reported_after_64_t1(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        bench = Bench()
        told: list[Response | None] = []
        transaction = bench.layer.invite(request("INVITE"), bench.flow, told.append)
        await bench.pass_time(31.9)
        assert told == []
        await bench.pass_time(0.2)
        assert told == [None]
        assert (transaction.lost, transaction.response, transaction.done.is_set()) == (False, None, True)
        assert bench.flow.methods == ["INVITE"] * 7


async def test_each_fork_is_reported_once_and_its_ack_goes_out_for_every_copy_of_its_2xx() -> None:
    bench = Bench()
    told: list[Response | None] = []
    transaction = bench.layer.invite(request("INVITE"), bench.flow, told.append)
    invite = transaction.request
    first, second = reply(invite, 200, tag="a"), reply(invite, 200, tag="b")
    bench.layer.receive_response(first)
    bench.layer.receive_response(first)
    bench.layer.receive_response(second)
    assert told == [first, second]
    assert transaction.response == first
    other = PaperFlow()
    transaction.acknowledge(request("ACK", To="<sip:200@192.0.2.1>;tag=b"), other)
    bench.layer.receive_response(second)
    bench.layer.receive_response(first)
    assert other.methods == ["ACK", "ACK"]
    assert bench.flow.methods == ["INVITE"]


async def test_a_failure_is_acknowledged_without_its_user() -> None:
    bench = Bench()
    told: list[Response | None] = []
    transaction = bench.layer.invite(request("INVITE"), bench.flow, told.append)
    for _ in range(2):
        bench.layer.receive_response(reply(transaction.request, 486))
    assert bench.flow.methods == ["INVITE", "ACK", "ACK"]
    assert [response.status for response in told if response] == [486]


async def test_a_cancel_waits_for_a_sign_of_life() -> None:
    """RFC 3261 section 9.1."""
    bench = Bench()
    transaction = bench.layer.invite(request("INVITE"), bench.flow)
    transaction.cancel((("Reason", "SIP;cause=200"),))
    transaction.cancel()
    assert bench.flow.methods == ["INVITE"]
    for _ in range(2):
        bench.layer.receive_response(reply(transaction.request, 100))
    assert bench.flow.methods == ["INVITE", "CANCEL"]
    assert bench.flow.requests[1].header("Reason") == "SIP;cause=200"
    bench.layer.receive_response(reply(bench.flow.requests[1], 200))
    bench.layer.receive_response(reply(transaction.request, 487))
    assert bench.flow.methods == ["INVITE", "CANCEL", "ACK"]
    assert transaction.response is not None
    assert transaction.response.status == 487


async def test_a_cancelled_invite_that_gets_no_final_response_is_forgotten_after_64_t1(
    autojump_clock: MockClock,
) -> None:
    with trio.fail_after(120):
        bench = Bench()
        told: list[Response | None] = []
        transaction = bench.layer.invite(request("INVITE"), bench.flow, told.append)
        bench.layer.receive_response(reply(transaction.request, 180))
        await bench.pass_time(50)
        transaction.cancel()
        await bench.pass_time(31.9)
        assert bench.layer.clients.keys() >= {transaction.key}
        await bench.pass_time(1)
        assert told[-1] is None
        assert transaction.key not in bench.layer.clients


async def test_an_answered_invite_cannot_be_cancelled() -> None:
    bench = Bench()
    transaction = bench.layer.invite(request("INVITE"), bench.flow)
    bench.layer.receive_response(reply(transaction.request, 200))
    transaction.cancel()
    assert bench.flow.methods == ["INVITE"]


async def test_a_response_to_nothing_is_counted() -> None:
    bench = Bench()
    bench.layer.receive_response(reply(request("BYE"), 200))
    assert bench.layer.stray_responses == 1
