"""Floods, reflections and smuggled lines: what strangers try on a SIP server, against the whole user agent."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import attrs
import pytest
import trio
from sip_phone import PHONE, RTP, SERVER, Phone, sdp, user_agent
from trio.testing import MockClock

from aivc.config.secret import Secret
from aivc.config.settings import Address, SipRegister, SipSettings, SipUser
from aivc.sip import reception, sources, transaction_layer
from aivc.sip.amplification import MAX_AMPLIFICATION
from aivc.sip.leg import ConsultationFailed, Leg, Rejection
from aivc.sip.message import Request, Response, parse_untrusted
from aivc.sip.useragent import UserAgent, open_user_agent
from aivc.testing.network import VirtualNetwork

USERS = (SipUser(name="alice", password=Secret("wonder")),)
STRANGERS = 300


@attrs.define
class Wire(VirtualNetwork):
    """A network that keeps what the server sends, with its destination."""

    said: list[tuple[Address, bytes]] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        def keep(source: Address, to: Address, data: bytes) -> None:
            if source == SERVER:
                self.said.append((to, data))

        self.on_packet = keep

    def statuses(self, to: Address) -> Counter[int]:
        found = (parse_untrusted(data) for where, data in self.said if where == to)
        return Counter(message.status for message in found if isinstance(message, Response))


def invite(phone: Phone, number: int, *, cseq: int = 1) -> bytes:
    """One of another call."""
    return attrs.evolve(phone, call_id=f"flood-{number}", tag=f"t{number}", branches=9000 + number).write(
        "INVITE", sdp(), cseq=cseq
    )


async def answer_all(agent: UserAgent) -> None:
    async for leg in agent.legs:
        await leg.answer(RTP)


@asynccontextmanager
async def serving(
    settings: SipSettings | None = None, network: VirtualNetwork | None = None
) -> AsyncIterator[tuple[UserAgent, Phone]]:
    """A running call of `phone`; further ones are answered as they come."""
    async with user_agent(settings, network) as (agent, phone), trio.open_nursery() as nursery:
        await phone.connect(agent)
        nursery.start_soon(answer_all, agent)
        yield agent, phone
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def stranger(host: str, port: int = 5060) -> AsyncIterator[Phone]:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as socket:
        await socket.bind((host, port))
        yield Phone(socket, host=host, contact=f"<sip:{host}>", call_id=f"of-{host}", tag=f"of-{host}")


# Floods


async def test_a_flood_from_one_source_gets_what_the_bucket_holds_and_the_running_call_is_unharmed(
    autojump_clock: MockClock,
) -> None:
    wire, rate = Wire(), 50.0
    async with (
        serving(SipSettings(requests_per_second=rate), wire) as (agent, phone),
        stranger("192.0.2.66") as flooder,
    ):
        for number in range(1000):
            await flooder.send(invite(flooder, number))
            await trio.sleep(0.001)
        statuses = wire.statuses(("192.0.2.66", 5060))
        assert statuses[100] <= 2 * rate + 1
        assert statuses[503] <= 2 * rate + 1
        assert agent.statistics().legs <= 2 * rate + 2
        assert agent.statistics().dropped >= 1000 - 4 * rate - 2
        refusals = (parse_untrusted(data) for _, data in wire.said if data.startswith(b"SIP/2.0 503"))
        assert all(isinstance(each, Response) and each.headers.get("Retry-After") == "10" for each in refusals)
        async with stranger("192.0.2.67") as other:
            assert (await other.ask(other.write("OPTIONS"))).status == 200
        assert (await phone.ask(phone.write("INVITE", sdp()))).status == 200
        await phone.ack()
        await trio.sleep(120)
        assert agent.statistics().legs == 1, "calls that nobody acknowledges end"
        assert agent.statistics().server_transactions == agent.statistics().client_transactions == 0
        assert (await phone.ask(phone.write("BYE", cseq=3))).status == 200


async def test_a_flood_from_many_sources_fills_bounded_tables_and_the_running_call_is_unharmed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_SOURCES", 64)
    monkeypatch.setattr(transaction_layer, "MAX_TRANSACTIONS", 150)
    monkeypatch.setattr(reception, "MAX_LEGS", 100)
    wire = Wire()
    async with serving(network=wire) as (agent, phone):
        for number in range(STRANGERS):
            async with stranger(f"198.51.{number >> 8}.{number & 255}") as flooder:
                await flooder.send(invite(flooder, number))
                await trio.sleep(0.001)
        counted = agent.statistics()
        assert counted.legs == 100
        assert counted.server_transactions <= 150
        said = Counter(data.split(b" ")[1] for _, data in wire.said if data.startswith(b"SIP/2.0"))
        assert said[b"503"] >= STRANGERS - 100
        assert (await phone.ask(phone.write("INVITE", sdp()))).status == 200
        await phone.ack()
        await trio.sleep(120)
        assert agent.statistics().legs == 1
        assert agent.statistics().server_transactions == agent.statistics().client_transactions == 0


async def test_nobody_asked_for_a_password_costs_more_than_one_answer(autojump_clock: MockClock) -> None:
    """RFC 3261 section 26.3.2.4: a single 401, and no state for who has not proved to be anybody."""
    wire = Wire()
    async with user_agent(SipSettings(users=USERS), wire) as (agent, phone):
        for number in range(50):
            await phone.send(invite(phone, number))
        await trio.sleep(40)
        assert wire.statuses(PHONE) == {401: 50}
        assert agent.statistics().legs == agent.statistics().server_transactions == 0


async def test_a_request_that_meets_a_bug_of_ours_is_answered_and_its_transaction_ends(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(reception, "inspect", broken)
    VirtualNetwork().enable()
    settings = SipSettings(listen=(f"udp:{SERVER[0]}:{SERVER[1]}",))
    async with stranger(PHONE[0]) as phone, open_user_agent(settings) as agent:
        assert [(await phone.ask(phone.write(method))).status for method in ("OPTIONS", "BYE")] == [500, 500]
        assert agent.statistics().failures == 2
        await trio.sleep(40)
        assert agent.statistics().server_transactions == 0


# Reflection

SHORT = "z9hG4bK1"


def short(method: str, *extra: str, body: bytes = b"", to: str = "<sip:1@h>", target: str = "sip:1@h") -> bytes:
    """As short as a request can be."""
    lines = [f"{method} {target} SIP/2.0", f"v:SIP/2.0/UDP h;branch={SHORT}", "f:<sip:a@h>;tag=1", f"t:{to}", "i:1"]
    lines += [f"CSeq:1 {method}", *(["m:<sip:a@192.0.2.10>"] if method in ("INVITE", "UPDATE") else []), *extra]
    lines += ["c:application/sdp"] if body and not any(line.startswith("c:") for line in extra) else []
    return "\r\n".join([*lines, f"l:{len(body)}", "", ""]).encode() + body


TINY_SDP = b"v=0\no=- 1 1 IN IP4 h\ns=-\nc=IN IP4 192.0.2.10\nt=0 0\nm=audio 4000 RTP/AVP 0\n"
REQUESTS: dict[str, tuple[bytes, int | None]] = {  # what is asked, and the status; None: too short to be answered
    "options": (short("OPTIONS"), 200),
    "options without a user": (short("OPTIONS", target="sip:h"), 200),
    "invite": (short("INVITE", body=TINY_SDP), 200),
    "invite without an offer": (short("INVITE"), 513),
    "two streams": (short("INVITE", body=TINY_SDP + b"m=video 1 RTP/AVP 1\n" * 14), 200),
    "record-routes": (short("INVITE", "Record-Route:" + ",".join(["<sip:h;lr>"] * 9), body=TINY_SDP), 200),
    "no codec": (short("INVITE", body=TINY_SDP.replace(b"AVP 0", b"AVP 3")), 488),
    "extension": (short("INVITE", "Require:x,y,z", body=TINY_SDP), 420),
    "extensions without number": (short("INVITE", *["Require:" + "a," * 4000] * 7, body=TINY_SDP), 420),
    "timer": (short("INVITE", "k:timer", "x:1", body=TINY_SDP), 422),
    "scheme": (short("INVITE", target="tel:1"), 416),
    "encoding": (short("INVITE", "e:gzip", body=TINY_SDP), 415),
    "content": (short("INVITE", "c:x/y", body=b"x"), 415),
    "accept": (short("INVITE", "Accept:x/y", body=TINY_SDP), 406),
    "no such dialog": (short("BYE", to="<sip:1@h>;tag=9"), 481),
    "nothing to cancel": (short("CANCEL"), 481),
    "refer": (short("REFER", "r:<sip:2@h>"), 603),
    "register": (short("REGISTER"), 405),
    "unknown": (short("X"), 501),
    "sdp": (short("INVITE", body=b"v=0\n"), 400),
    "no contact": (short("INVITE").replace(b"m:<sip:a@192.0.2.10>\r\n", b""), 400),
    "no call-id": (short("OPTIONS").replace(b"i:1\r\n", b""), 400),
    "version": (short("OPTIONS").replace(b"sip:1@h SIP/2.0", b"sip:1@h SIP/3.0"), 505),
    "replaces": (short("INVITE", "Replaces:c;to-tag=a;from-tag=b", body=TINY_SDP), 481),
    "challenge": (short("INVITE", body=TINY_SDP), 401),
    "forbidden": (short("OPTIONS"), 403),
    "not accepting": (short("OPTIONS"), 503),
    "number": (short("INVITE", body=TINY_SDP), 404),
}
SETTINGS = {
    "challenge": SipSettings(users=USERS),
    "forbidden": SipSettings(allow=("203.0.113.0/24",), unwanted="403"),
    "number": SipSettings(numbers=("2",)),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_no_answer_to_who_may_be_anybody_is_longer_than_twice_the_request(
    name: str, autojump_clock: MockClock
) -> None:
    wire, (request, status) = Wire(), REQUESTS[name]
    async with user_agent(SETTINGS.get(name), wire) as (agent, phone), trio.open_nursery() as nursery:
        agent.accepting = name != "not accepting"
        nursery.start_soon(answer_all, agent)
        await phone.send(request)
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    answers = [data for to, data in wire.said if to == PHONE and data.startswith(b"SIP/2.0")]
    assert max(map(len, answers), default=0) <= MAX_AMPLIFICATION * len(request)
    finals = [int(data.split(b" ")[1]) for data in answers if not data.startswith(b"SIP/2.0 100")]
    assert finals[-1:] == ([] if status is None else [status])
    assert {to for to, _ in wire.said} <= {PHONE}
    assert all(len(data) <= len(request) + 1024 for _, data in wire.said)


# Smuggled lines

EVIL = ("x\r\nX-Evil: 1", "x\nX-Evil: 1", "x\rX-Evil: 1", "x\0X-Evil: 1", "x\x85X-Evil: 1", "x\u2028X-Evil: 1", '"\\')
EVIL_URIS = (
    *("sip:x@h\r\nX-Evil: 1", "sip:x%0d%0aX-Evil:1@h", "sip:x@h?X-Evil=1", "sip:x@h>\r\nX-Evil: 1", "tel:1\n", "x"),
)


async def hang_up(leg: Leg, evil: str) -> None:
    await leg.hang_up(evil)


async def hang_up_with(leg: Leg, evil: str) -> None:
    await leg.hang_up("over", (("X-Told", evil), (evil, "told")))


async def refer_with(leg: Leg, evil: str) -> None:
    await leg.refer("sip:2@h", "sip:1@h", 5, fields=(("X-Told", evil),))


async def refer_as(leg: Leg, evil: str) -> None:
    await leg.refer("sip:2@h", f"sip:{evil}@h", 5)


async def reject(leg: Leg, evil: str) -> None:
    await leg.reject(Rejection(503, evil, retry_after_seconds=1))


async def refer_to(leg: Leg, evil: str) -> None:
    await leg.refer(evil, "sip:1@h", 5)


async def consult(leg: Leg, evil: str) -> None:
    await leg.consult(evil, RTP, 5)


Say = Callable[[Leg, str], Awaitable[None]]


@pytest.mark.parametrize(
    ("say", "evil"),
    [(say, evil) for say in (hang_up, hang_up_with, refer_with, refer_as, reject) for evil in EVIL]
    + [(say, evil) for say in (refer_to, consult) for evil in EVIL_URIS],
)
async def test_what_tools_and_models_say_never_becomes_a_line(say: Say, evil: str, autojump_clock: MockClock) -> None:
    wire = Wire()
    fields = {} if evil in EVIL_URIS else {"X-Set": evil}
    settings = SipSettings(bye_headers=fields, refer_headers=fields, realm=evil)
    async with user_agent(settings, wire) as (agent, phone):
        await phone.send(phone.write("INVITE", sdp()))
        leg = await agent.legs.receive()
        if say is not reject:
            await leg.answer(RTP)
            while isinstance(answer := await phone.receive(), Response) and answer.status != 200:
                pass
            assert isinstance(answer, Response)
            phone.to_tag = answer.to.tag
            await phone.ack()
        with suppress(ValueError, ConsultationFailed):  # it was refused; nothing may have left
            await say(leg, evil)
        await leg.hang_up("over")
        await trio.sleep(1)
    assert len(wire.said) >= 2
    for _, data in wire.said:
        check_no_line_was_smuggled(data)


def check_no_line_was_smuggled(data: bytes) -> None:
    head = data.partition(b"\r\n\r\n")[0]
    assert not {b"\r", b"\n", b"\0"} & {bytes([octet]) for line in head.split(b"\r\n") for octet in line}
    assert not [line for line in head.split(b"\r\n") if line.lower().startswith(b"x-evil")]
    assert b"X-Evil=" not in head
    parse_untrusted(data)


# Leaks


@pytest.mark.parametrize(("status", "field"), [(401, "WWW-Authenticate"), (407, "Proxy-Authenticate")])
async def test_a_caller_that_challenges_our_bye_gets_no_answer_to_try_passwords_on(
    status: int, field: str, autojump_clock: MockClock
) -> None:
    """CVE-2021-41158: the BYE is ours since the caller never sent its ACK."""
    wire = Wire()
    register = SipRegister(user="200", server="192.0.2.50", password=Secret("s3cret"), expires_seconds=0)
    async with user_agent(SipSettings(register=(register,)), wire) as (agent, phone):
        await phone.call(agent)
        while not isinstance(bye := await phone.receive(40), Request):
            pass
        assert bye.method == "BYE"
        await phone.reply(bye, status, f'{field}: Digest realm="192.0.2.50", nonce="n", qop="auth"')
        await trio.sleep(40)
    requests = [parse_untrusted(data) for to, data in wire.said if to == PHONE and data.startswith(b"BYE")]
    assert requests
    assert all("authorization" not in request.headers.joined() for request in requests)
    assert all("proxy-authorization" not in request.headers.joined() for request in requests)


# Silence


@pytest.mark.parametrize("seed", range(3))
async def test_responses_that_nobody_asked_for_change_nothing_and_are_not_kept(
    seed: int, autojump_clock: MockClock
) -> None:
    dice = random.Random(seed)
    async with serving() as (agent, phone):
        options = phone.write("OPTIONS")
        _, _, fields = options.partition(b"\r\n")
        for _ in range(500):
            await phone.send(b"SIP/2.0 %d X\r\n" % dice.randrange(100, 700) + fields)
        await trio.sleep(0.1)
        counted = agent.statistics()
        assert (counted.stray_responses, counted.client_transactions, counted.legs) == (500, 0, 1)
        assert (await phone.ask(phone.write("BYE", cseq=2))).status == 200
