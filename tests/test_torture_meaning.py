"""What is understood of odd messages, not only how they are answered: the lessons that RFC 4475 wants to teach."""

from __future__ import annotations

import random

import pytest
import trio
from sip_phone import RTP, SERVER, sdp, user_agent
from torture_messages import CALLER, OWN, invite, request
from torture_world import TORTURER, open_server
from transport_world import dial, udp_phone
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip.message import Request, Response, parse_untrusted
from aivc.testing.network import VirtualNetwork


async def test_white_space_and_folding_change_nothing_of_what_is_said(autojump_clock: MockClock) -> None:
    """Section 3.1.1.1."""
    async with user_agent() as (agent, phone):
        body = sdp()
        lines = [
            "INVITE sip:100@192.0.2.1;unknown SIP/2.0", "TO :", " sip:100@192.0.2.1 ;   x    = y",
            'from   : "A \\\\\\""       <sip:alice@example.com>', "  ;", "  tag = 98", "MaX-fOrWaRdS: 0068",
            "Call-ID: ws@192.0.2.1", f"Content-Length   : {len(body)}", "cseq: 0009", "  INVITE",
            "Via  : SIP  /   2.0", " /UDP", "    192.0.2.10;branch=z9hG4bK390", "s :", "NewFangled:   one", " two",
            "Odd: ;;,,;;,;", "Content-Type: application/sdp",
            'm:"Quoted \\"\\"" <sip:alice@192.0.2.10> ; newparam =', "      newvalue ;",
            "  secondparam ; q = 0.33", "", "",
        ]  # fmt: skip
        await phone.send("\r\n".join(lines).encode() + body)
        leg = await agent.legs.receive()
        assert (leg.call_id, leg.caller, leg.dialled) == ("ws@192.0.2.1", "sip:alice@example.com", "100")
        assert leg.headers["newfangled"] == "one two"
        await leg.answer(RTP)
        statuses = [(await phone.response()) for _ in range(2)]
        assert [(response.status, response.cseq.number) for response in statuses] == [(100, 9), (200, 9)]


@pytest.mark.parametrize(
    ("user", "dialled"), [("sips%3Auser%40example.com", "sips:user@example.com"), ("a%2541", "a%41"), ("%%", None)]
)
async def test_a_user_part_is_unescaped_exactly_once(user: str, dialled: str | None, autojump_clock: MockClock) -> None:
    """Section 3.1.1.3."""
    async with user_agent() as (agent, phone):
        await phone.send(phone.write("INVITE", sdp(), target=f"sip:{user}@192.0.2.1"))
        status = (await phone.response()).status
        assert status == (400 if dialled is None else 100)
        if dialled is not None:
            assert (await agent.legs.receive()).dialled == dialled


async def test_an_escaped_nul_ends_no_number(autojump_clock: MockClock) -> None:
    """Section 3.1.1.4."""
    async with user_agent(SipSettings(numbers=("100",))) as (_, phone):
        assert (await phone.ask(phone.write("INVITE", sdp(), target="sip:100%00@192.0.2.1"))).status == 404


async def test_a_magic_cookie_alone_makes_no_two_requests_one(autojump_clock: MockClock) -> None:
    """Section 3.2.1: neither the same transaction, nor a merged request."""
    async with user_agent() as (_, phone):
        heard = []
        for number in range(3):
            phone.call_id = f"cookie-{number}"
            heard.append(await phone.ask(phone.write("OPTIONS", branch="z9hG4bK")))
        assert [(answer.status, answer.call_id) for answer in heard] == [(200, f"cookie-{n}") for n in range(3)]
        assert len({answer.to.tag for answer in heard}) == 3


async def test_a_refusal_says_what_would_do(autojump_clock: MockClock) -> None:
    """Sections 3.3.5, 3.3.6 and 3.3.9."""
    async with user_agent() as (_, phone):
        answer = await phone.ask(phone.write("OPTIONS", b"", "Require: selvage", "Require: twill", "Proxy-Require: x"))
        assert (answer.status, answer.headers.items("Unsupported")) == (420, ["selvage", "twill"])
        answer = await phone.ask(phone.write("INVITE", b"<a/>", cseq=2, content_type="application/x-cloth"))
        assert (answer.status, answer.header("Accept")) == (415, "application/sdp")


@pytest.mark.parametrize(
    "escaped", ["Route=%3Csip:192.0.2.77%3Blr%3E", "X-Evil=1", "Call-ID=other&From=%3Csip:x%40y%3E"]
)
async def test_header_fields_in_the_uri_of_a_contact_are_nobodys(escaped: str, autojump_clock: MockClock) -> None:
    """Sections 3.1.2.11 and 3.3.14: the BYE that follows a missing ACK goes to the source, without any of them."""
    sent: list[bytes] = []
    network = VirtualNetwork(on_packet=lambda source, to, data: sent.append(data) if source == SERVER else None)
    async with user_agent(network=network) as (agent, phone):
        phone.contact = f"<sip:alice@192.0.2.10:5060?{escaped}>"
        await phone.call(agent)
        while isinstance(await phone.receive(), Response):
            pass
        bye = parse_untrusted(sent[-1])
        assert isinstance(bye, Request)
        assert (bye.method, bye.target) == ("BYE", "sip:alice@192.0.2.10:5060")
        names = {name for name, _ in bye.headers}
        assert not {"Route", "X-Evil"} & names
        assert (bye.call_id, len(bye.headers.lines("From"))) == (phone.call_id, 1)


async def test_all_of_them_at_once_disturb_nobody(autojump_clock: MockClock) -> None:
    """Every message of ours, one after the other and without a pause, to one server."""
    async with open_server():
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as socket:
            await socket.bind(("192.0.2.66", 5060))
            for message in OWN.values():
                await socket.sendto(message, ("192.0.2.1", 5060))
            await trio.sleep(0.1)


def test_the_messages_are_built_as_they_say() -> None:
    message = parse_untrusted(invite())
    assert isinstance(message, Request)
    assert (message.method, message.header("Contact")) == ("INVITE", CALLER.partition(": ")[2])
    assert message.body
    assert isinstance(parse_untrusted(request("OPTIONS")), Request)


PIECES = (
    b"",
    b"\r\n",
    b"\r\n\r\n",
    b";",
    b",",
    b'"',
    b"\0",
    b"9",
    b"<",
    b">",
    b"%00",
    b" ",
    b"[",
    b"\xff",
    b"\\",
    b"sip:",
)


@pytest.mark.parametrize("seed", range(8))
async def test_damaged_ones_disturb_nobody_either(seed: int, autojump_clock: MockClock) -> None:
    dice = random.Random(seed)
    async with open_server(), udp_phone(TORTURER) as socket:
        for number in range(100):
            data = bytearray(OWN[dice.choice(list(OWN))].replace(b"=z9hG4bK", b"=z9hG4bK%d" % number))
            for _ in range(dice.randint(1, 4)):
                position = dice.randrange(len(data))
                data[position : position + dice.choice((0, 0, 1, 2, 10))] = dice.choice(PIECES)
            await socket.sendto(bytes(data), SERVER)
            if number % 10 == 0:
                async with await dial((TORTURER[0], 0)) as stream:
                    await stream.send_all(bytes(data))
                    await trio.sleep(dice.choice((0.0, 0.05)))
        await trio.sleep(0.5)
