"""Calls of ours on paper: what is sent, and what becomes of everything that a callee and its proxies may answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from paper_flow import PBX, PaperFlow, PaperTransports, reply, tokens
from trio.testing import MockClock, wait_all_tasks_blocked

from aivc.config.settings import Address
from aivc.sip.flow import Transport
from aivc.sip.leg import ConsultationFailed
from aivc.sip.message import Request, Response
from aivc.sip.outgoing import Answered, Invitation, call
from aivc.sip.timers import Timers
from aivc.sip.transaction_layer import TransactionLayer

OFFER, ANSWER = b"v=0 offer", b"v=0 answer"
CONTACT = ("Contact", "<sip:200@192.0.2.10:5060>")
RELIABLE = ("Require", "100rel")


@attrs.define
class Secret:
    """A password for the PBX."""

    def answer(self, request: Request, response: Response, peer: Address) -> tuple[str, str] | None:
        return ("Proxy-Authorization", "Digest x") if peer == PBX else None


@attrs.define(eq=False)
class Desk:
    """One call of ours in a task of its own, and the callee's side by hand."""

    flow: PaperFlow = attrs.field(factory=PaperFlow)
    layer: TransactionLayer = attrs.field(init=False)
    outcome: Answered | ConsultationFailed | None = attrs.field(default=None, init=False)
    ended: trio.Event = attrs.field(factory=trio.Event, init=False)
    waiting: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    def __attrs_post_init__(self) -> None:
        self.layer = TransactionLayer(Timers(), tokens(), PaperTransports())

    def invitation(self, **changed: Any) -> Invitation:
        plain = Invitation(target="sip:200@pbx.example.com", caller="sip:100@example.com", offer=OFFER, flow=self.flow)
        return attrs.evolve(plain, **changed)

    async def run(self, invitation: Invitation, seconds: float) -> None:
        with self.waiting:
            try:
                self.outcome = await call(self.layer, invitation, seconds, Secret())
            except ConsultationFailed as error:
                self.outcome = error
        self.ended.set()

    def last(self, method: str) -> Request:
        return [request for request in self.flow.requests if request.method == method][-1]

    async def answer(
        self, status: int, *fields: tuple[str, str], tag: str | None = "bob", body: bytes = b"", to: str = "INVITE"
    ) -> None:
        self.layer.receive_response(reply(self.last(to), status, *fields, tag=tag, body=body))
        await wait_all_tasks_blocked()

    @property
    def answered(self) -> Answered:
        assert isinstance(self.outcome, Answered)
        return self.outcome

    @property
    def failure(self) -> tuple[int | None, str]:
        assert isinstance(self.outcome, ConsultationFailed)
        return self.outcome.status, self.outcome.text


@asynccontextmanager
async def calling(desk: Desk, seconds: float = 30.0, **changed: Any) -> AsyncIterator[None]:
    with trio.fail_after(200):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.layer.timers.run)
            nursery.start_soon(desk.run, desk.invitation(**changed), seconds)
            await wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()


async def test_the_invite_says_who_calls_whom_with_what() -> None:
    desk = Desk()
    fields = (("Allow", "INVITE, ACK"), ("Supported", "100rel, replaces"))
    async with calling(desk, fields=fields, display_name='A "B"', route=("<sip:192.0.2.10;lr>",)):
        invite = desk.last("INVITE")
        assert invite.target == "sip:200@pbx.example.com"
        assert (invite.header("To"), str(invite.cseq), invite.body) == ("<sip:200@pbx.example.com>", "1 INVITE", OFFER)
        assert invite.header("From").startswith('"A \\"B\\"" <sip:100@example.com>;tag=')
        assert invite.header("Contact") == "<sip:192.0.2.1:5060>"
        assert invite.headers.lines("Route") == ["<sip:192.0.2.10;lr>"]
        assert (invite.header("Allow"), invite.header("Supported")) == ("INVITE, ACK", "100rel, replaces")
        assert (invite.header("Max-Forwards"), invite.header("Content-Type")) == ("70", "application/sdp")
        assert invite.header("User-Agent").startswith("aivc")


async def test_an_answer_is_acknowledged_as_often_as_it_comes_and_makes_a_dialog() -> None:
    desk = Desk()
    async with calling(desk):
        await desk.answer(100)
        await desk.answer(180, CONTACT)
        for _ in range(2):
            await desk.answer(200, CONTACT, body=ANSWER)
        assert desk.flow.methods == ["INVITE", "ACK", "ACK"]
        assert desk.answered.answer == ANSWER
        assert desk.answered.response.status == 200
        ack = desk.last("ACK")
        assert (ack.target, str(ack.cseq), ack.to.tag) == ("sip:200@192.0.2.10:5060", "1 ACK", "bob")
        bye = desk.answered.client.send("BYE").request
        assert (str(bye.cseq), bye.to.tag, bye.call_id) == ("2 BYE", "bob", desk.last("INVITE").call_id)


async def test_a_challenge_is_answered_once_in_the_same_call() -> None:
    desk = Desk()
    async with calling(desk):
        first = desk.last("INVITE")
        await desk.answer(407)
        second = desk.last("INVITE")
        assert desk.flow.methods == ["INVITE", "ACK", "INVITE"]
        assert (second.call_id, second.header("From")) == (first.call_id, first.header("From"))
        assert (second.header("To"), str(second.cseq)) == (first.header("To"), "2 INVITE")
        assert second.via.branch != first.via.branch
        assert second.header("Proxy-Authorization") == "Digest x"
        await desk.answer(200, CONTACT, body=ANSWER)
        assert desk.last("ACK").header("Proxy-Authorization") == "Digest x"
        assert str(desk.answered.client.send("BYE").request.cseq) == "3 BYE"


async def test_a_proxy_and_who_is_behind_it_may_challenge_but_a_third_challenge_is_a_failure() -> None:
    """RFC 3261 section 22.3."""
    desk = Desk()
    async with calling(desk):
        await desk.answer(407)
        await desk.answer(401)
        assert str(desk.last("INVITE").cseq) == "3 INVITE"
        await desk.answer(407)
        assert desk.failure[0] == 407
        assert desk.flow.methods == ["INVITE", "ACK"] * 3


async def test_a_challenge_of_a_stranger_gets_no_answer() -> None:
    desk = Desk(PaperFlow(peer=("203.0.113.66", 5060)))
    async with calling(desk):
        await desk.answer(401)
        assert desk.failure[0] == 401
        assert b"uthorization" not in b"".join(desk.flow.sent)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (486, "Busy Here"),
        (603, "Decline"),
        (302, "Moved Temporarily (redirections are not followed)"),
        (503, "Service Unavailable"),
    ],
)
async def test_a_refusal_is_told_with_its_status(status: int, text: str) -> None:
    desk = Desk()
    async with calling(desk):
        await desk.answer(180)
        phrase = text.partition(" (")[0]
        desk.layer.receive_response(attrs.evolve(reply(desk.last("INVITE"), status, CONTACT), reason=phrase))
        await desk.ended.wait()
        assert desk.failure == (status, text)
        assert desk.flow.methods == ["INVITE", "ACK"]


async def test_silence_fails_the_call_when_timer_b_says_so(autojump_clock: MockClock) -> None:
    desk = Desk()
    async with calling(desk, seconds=100):
        await desk.ended.wait()
        assert trio.current_time() == pytest.approx(32.0, abs=0.1)
        assert desk.failure == (None, "no answer")
        assert desk.flow.methods == ["INVITE"] * 7


async def test_without_a_connection_the_call_fails_at_once(autojump_clock: MockClock) -> None:
    desk = Desk(PaperFlow("TCP", is_open=False))
    async with calling(desk):
        await desk.ended.wait()
        assert trio.current_time() < 1
        assert desk.failure == (None, "there is no connection")


async def test_who_does_not_answer_in_time_is_cancelled(autojump_clock: MockClock) -> None:
    desk = Desk()
    async with calling(desk, seconds=20):
        await desk.answer(180, CONTACT)
        await desk.ended.wait()
        assert desk.failure == (None, "not answered in 20 s")
        assert desk.flow.methods == ["INVITE", "CANCEL"]
        cancel = desk.last("CANCEL")
        assert cancel.via == desk.last("INVITE").via
        await desk.answer(200, to="CANCEL")
        await desk.answer(487)
        assert desk.flow.methods == ["INVITE", "CANCEL", "ACK"]


@pytest.mark.parametrize("ring", [True, False])
async def test_an_answer_that_crosses_the_cancel_is_acknowledged_and_hung_up(
    ring: bool, autojump_clock: MockClock
) -> None:
    desk = Desk()
    async with calling(desk, seconds=0.3):
        if ring:
            await desk.answer(180)
        await desk.ended.wait()
        await desk.answer(200, CONTACT, body=ANSWER)
        assert desk.flow.methods == ["INVITE", *["CANCEL"] * ring, "ACK", "BYE"]
        assert desk.last("BYE").to.tag == "bob"
        await desk.answer(200, CONTACT, body=ANSWER)  # the ACK was lost
        assert desk.flow.methods[-1] == "ACK"
        assert isinstance(desk.outcome, ConsultationFailed)


async def test_who_stops_waiting_gives_the_call_up_without_waiting() -> None:
    desk = Desk()
    async with calling(desk):
        await desk.answer(180)
        desk.waiting.cancel()
        await desk.ended.wait()
        assert desk.flow.methods == ["INVITE", "CANCEL"]
        await desk.answer(200, CONTACT)
        assert desk.flow.methods == ["INVITE", "CANCEL", "ACK", "BYE"]


async def test_who_stops_waiting_as_the_answer_comes_hangs_up() -> None:
    desk = Desk()
    async with calling(desk):
        desk.waiting.cancel()
        await desk.answer(200, CONTACT)
        assert desk.flow.methods == ["INVITE", "ACK", "BYE"]


async def test_nothing_is_sent_again_with_credentials_once_it_was_given_up() -> None:
    desk = Desk()
    async with calling(desk):
        await desk.answer(100)
        desk.waiting.cancel()
        await desk.ended.wait()
        await desk.answer(407)
        assert desk.flow.methods == ["INVITE", "CANCEL", "ACK"]


async def test_the_first_fork_that_answers_wins_and_the_others_are_hung_up() -> None:
    desk = Desk()
    async with calling(desk):
        for tag in ("bob", "carol", "dave"):
            await desk.answer(180, CONTACT, tag=tag)
        await desk.answer(200, CONTACT, tag="carol", body=ANSWER)
        await desk.answer(200, ("Contact", "<sip:d@192.0.2.44>"), tag="dave", body=b"other")
        assert (desk.answered.dialog.remote_tag, desk.answered.answer) == ("carol", ANSWER)
        assert desk.flow.methods == ["INVITE", "ACK"]
        transports = desk.layer.transports
        assert isinstance(transports, PaperTransports)
        (other,) = transports.made
        assert (other.peer, other.methods) == (("192.0.2.44", 5060), ["ACK", "BYE"])
        assert {request.to.tag for request in other.requests} == {"dave"}


async def test_a_reliable_ringing_is_acknowledged_once_and_in_order() -> None:
    """RFC 3262 section 4."""
    desk = Desk()
    async with calling(desk):
        await desk.answer(180, CONTACT, RELIABLE, ("RSeq", "7"))
        prack = desk.last("PRACK")
        assert (prack.header("RAck"), str(prack.cseq), prack.to.tag) == ("7 1 INVITE", "2 PRACK", "bob")
        await desk.answer(180, CONTACT, RELIABLE, ("RSeq", "7"))
        await desk.answer(183, CONTACT, RELIABLE, ("RSeq", "9"))
        assert desk.flow.methods.count("PRACK") == 1
        await desk.answer(183, CONTACT, RELIABLE, ("RSeq", "8"))
        assert desk.last("PRACK").header("RAck") == "8 1 INVITE"
        await desk.answer(180, CONTACT, RELIABLE, ("RSeq", "1"), tag="carol")
        assert desk.last("PRACK").to.tag == "carol"
        await desk.answer(200, CONTACT, body=ANSWER)
        assert str(desk.last("ACK").cseq) == "1 ACK"
        assert str(desk.answered.client.send("BYE").request.cseq) == "4 BYE"


@pytest.mark.parametrize("fields", [(), (RELIABLE, ("RSeq", "1"))])
async def test_the_answer_may_come_before_the_phone_is_taken_up(fields: tuple[tuple[str, str], ...]) -> None:
    desk = Desk()
    async with calling(desk):
        await desk.answer(183, CONTACT, *fields, body=ANSWER)
        assert desk.outcome is None
        await desk.answer(200, CONTACT)
        assert desk.answered.answer == ANSWER


@pytest.mark.parametrize("fields", [(RELIABLE, ("RSeq", "x")), (RELIABLE,), (CONTACT, RELIABLE, ("RSeq", "-1"))])
async def test_a_broken_reliable_response_is_not_acknowledged_and_the_call_goes_on(
    fields: tuple[tuple[str, str], ...],
) -> None:
    desk = Desk()
    async with calling(desk):
        await desk.answer(180, *fields)
        assert desk.flow.methods == ["INVITE"]
        await desk.answer(200, CONTACT, body=ANSWER)
        assert desk.answered.answer == ANSWER


@pytest.mark.parametrize("early", [True, False])
async def test_an_answer_that_names_no_contact_is_acknowledged_hung_up_and_a_failure(early: bool) -> None:
    desk = Desk()
    async with calling(desk):
        if early:
            await desk.answer(180, CONTACT, RELIABLE, ("RSeq", "1"))
        await desk.answer(200, body=ANSWER)
        assert desk.failure == (None, "unusable answer: Missing Contact")
        assert desk.flow.methods == ["INVITE", *["PRACK"] * early, "ACK", "BYE"]
        assert desk.last("BYE").cseq.number == 2 + early


async def test_an_answer_without_a_tag_is_taken_from_an_old_peer() -> None:
    desk = Desk()
    async with calling(desk):
        await desk.answer(200, CONTACT, tag=None, body=ANSWER)
        assert desk.answered.dialog.remote_tag == ""
        assert desk.flow.methods == ["INVITE", "ACK"]


@pytest.mark.parametrize(
    ("transport", "target", "contact"),
    [
        ("TCP", "sip:200@pbx.example.com", "<sip:192.0.2.1:5060;transport=tcp>"),
        ("TLS", "sip:200@pbx.example.com", "<sip:192.0.2.1:5060;transport=tls>"),
        ("TLS", "sips:200@pbx.example.com", "<sips:192.0.2.1:5060>"),
    ],
)
async def test_over_a_connection_the_contact_says_so(transport: Transport, target: str, contact: str) -> None:
    desk = Desk(PaperFlow(transport))
    async with calling(desk, target=target):
        assert desk.last("INVITE").header("Contact") == contact
        assert desk.last("INVITE").via.transport == transport


@pytest.mark.parametrize(
    "changed",
    [
        {"target": "sip:x@y\r\nRoute: <sip:evil>"},
        {"target": "sip:x@y?Replaces=1"},
        {"target": "sip:x%0d%0aRoute:@y"},
        {"target": "http://example.com"},
        {"target": "sip:x@y>;tag=1"},
        {"target": "200"},
        {"target": "sips:200@pbx.example.com"},  # not over UDP
        {"caller": "sip:a@b\n"},
    ],
)
async def test_a_uri_that_must_not_be_written_is_refused_before_anything_is_sent(changed: dict[str, str]) -> None:
    desk = Desk()
    with pytest.raises(ValueError, match="URI"):
        await call(desk.layer, desk.invitation(**changed), 5)
    assert desk.flow.sent == []


async def test_so_is_a_route_that_is_none() -> None:
    desk = Desk()
    with pytest.raises(ValueError, match="URI"):
        await call(desk.layer, desk.invitation(route=("nonsense",)), 5)
    assert desk.flow.sent == []


async def test_a_telephone_number_is_called_by_the_flow_that_is_given() -> None:
    desk = Desk()
    async with calling(desk, target="tel:+15551234"):
        assert desk.last("INVITE").target == "tel:+15551234"
        await desk.answer(200)  # no Contact: ACK and BYE go the same way
        assert desk.flow.methods == ["INVITE", "ACK", "BYE"]
