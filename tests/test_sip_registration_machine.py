"""What a registrar may say, right or wrong, without a network."""

from __future__ import annotations

import random
import uuid

import attrs
import pytest
from registration_parts import HOST, PBX

from aivc.config.settings import Address
from aivc.sip.flow import Transport
from aivc.sip.message import Request, Response, answer_to
from aivc.sip.registration import Registration, instance_urn


@attrs.define
class PaperFlow:
    """A way to the registrar that nothing goes over."""

    local: Address = (HOST, 5060)
    transport: Transport = "UDP"
    peer: Address = ("192.0.2.50", 5060)
    is_open: bool = True

    def send_nowait(self, data: bytes) -> None:
        raise AssertionError("the machine sends nothing itself")


@pytest.fixture
def machine() -> Registration:
    return Registration(PBX, "call", "tag", instance_urn("x"), False, "INVITE", random.Random(1))


def answer(request: Request, status: int, *fields: tuple[str, str]) -> Response:
    return answer_to(request.headers, status, "", extra=fields)


def step(
    machine: Registration, status: int, *fields: tuple[str, str], now: float = 0.0, flow: PaperFlow | None = None
) -> float:
    """One REGISTER with that answer; when the next is due."""
    way = flow or PaperFlow()
    return machine.take(answer(machine.request(way, "b"), status, *fields), way, now)


@pytest.mark.parametrize("least", ["600", "1", "-5", "soon", "", "99999999999999999999", "4294967296"])
def test_a_423_that_asks_for_no_more_than_it_got_is_a_refusal(machine: Registration, least: str) -> None:
    assert step(machine, 423, ("Min-Expires", least)) >= 300
    assert machine.status.state == "failed"


def test_a_423_that_always_wants_more_is_a_refusal(machine: Registration) -> None:
    waits = [step(machine, 423, ("Min-Expires", str(601 + number))) for number in range(4)]
    assert waits[:3] == [0.0] * 3
    assert waits[3] >= 300


@pytest.mark.parametrize(
    ("contacts", "expires", "lasts"),
    [
        (("<sip:200@192.0.2.1:5060>;expires=100", "<sip:200@192.0.2.9>;expires=50"), None, 100),
        (("<sip:200@192.0.2.9>;expires=50", "<sip:200@192.0.2.1:5060>;expires=100"), "70", 100),
        (("<sip:200@203.0.113.1:1024>;expires=50",), "70", 50),
        (("<sip:200@192.0.2.9>;expires=50", "<sip:200@192.0.2.8>;expires=60"), "70", 70),
        (("nonsense", "<sip:200@192.0.2.1:5060>"), "80", 80),
        (("<sip:200@192.0.2.1:5060>;expires=nonsense",), None, 600),
        ((), None, 600),
        ((), "99999", 600),
    ],
)
def test_the_time_that_was_granted_is_found(
    machine: Registration, contacts: tuple[str, ...], expires: str | None, lasts: int
) -> None:
    fields = [("Contact", text) for text in contacts] + ([("Expires", expires)] if expires else [])
    step(machine, 200, *fields, now=1000.0)
    assert machine.status.expires_at == 1000.0 + lasts


def test_the_instance_tells_our_binding_from_others(machine: Registration) -> None:
    ours = f'<sip:200@203.0.113.1>;expires=100;+sip.instance="<{machine.instance}>"'
    other = '<sip:200@192.0.2.1:5060>;expires=50;+sip.instance="<urn:uuid:other>"'
    step(machine, 200, ("Contact", f"{other}, {ours}"))
    assert machine.status.expires_at == 100


def test_a_registrar_that_drops_the_binding_has_refused(machine: Registration) -> None:
    assert step(machine, 200, ("Expires", "0")) > 0
    assert machine.status.state == "failed"


@pytest.mark.parametrize("value", ["-1", "tomorrow", "", "1e9"])
def test_a_retry_after_that_is_no_number_is_ignored(machine: Registration, value: str) -> None:
    assert 0.5 <= step(machine, 503, ("Retry-After", value)) <= 1.0


def test_with_outbound_the_contact_is_left_alone(machine: Registration) -> None:
    flow = PaperFlow()
    response = answer(machine.request(flow, "b"), 200, ("Require", "outbound"))
    seen = [(name, f"{value};received=203.0.113.7" if name == "Via" else value) for name, value in response.headers]
    response = attrs.evolve(response, headers=attrs.evolve(response.headers, fields=tuple(seen)))
    assert machine.take(response, flow, 0.0) == 540.0
    assert machine.public is None
    moved = machine.request(PaperFlow(local=("192.0.2.2", 5060)), "b")
    assert len(moved.headers.lines("Contact")) == 1, "the instance says which one it replaces"


def test_another_address_of_ours_replaces_the_earlier_one(machine: Registration) -> None:
    step(machine, 200)
    moved = machine.request(PaperFlow(local=("2001:db8::2", 5060), transport="TLS"), "b")
    ours, gone = moved.headers.lines("Contact")
    assert ours.startswith("<sip:200@[2001:db8::2]:5060;transport=tls>")
    assert gone == f"<sip:200@{HOST}:5060>;expires=0"
    assert moved.via.host == "2001:db8::2"


def test_the_instance_stays_the_same_and_is_a_uuid() -> None:
    assert instance_urn("x") == uuid.uuid5(uuid.NAMESPACE_OID, "x").urn
    assert instance_urn("y") != instance_urn("x")
