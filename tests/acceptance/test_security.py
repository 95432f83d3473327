"""What must not be possible: amplification, reflection, injection, leaks, floods."""

from __future__ import annotations

import pytest
import trio
from scenarios.world import NUMBER, changed, open_world
from scenarios.world import PHONE as TALKER
from sip_phone import RTP, Phone, another_phone, sdp, user_agent
from trio.testing import MockClock

from acceptance.talk import count_arrivals, is_heard, open_talk, socket_at
from aivc import Ending
from aivc.config.secret import Secret
from aivc.config.settings import SipRegister, SipSettings
from aivc.sip.message import Request, Response
from aivc.testing import CallRefused, Say, scripted

VICTIM = ("203.0.113.7", 40_000)


def aimed_at(host: str, port: int) -> str:
    head = f"v=0\r\no=- 1 1 IN IP4 {TALKER}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
    return head + f"m=audio {port} RTP/AVP 0\r\n"


async def test_se_01_an_answer_to_anybody_is_at_most_twice_the_request(autojump_clock: MockClock) -> None:
    """Amplification: one response to the shortest OPTIONS that there can be."""
    async with user_agent() as (_, phone):
        request = (
            b"OPTIONS sip:a SIP/2.0\r\nv:SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKa\r\nf:<sip:a@b>;tag=c\r\nt:<sip:a@b>\r\n"
            b"i:d\r\nCSeq:1 OPTIONS\r\n\r\n"
        )
        answer = await phone.ask(request)
        assert answer.status == 200
        assert len(bytes(answer)) <= 2 * len(request)
        assert await phone.hears_nothing(40)


async def test_se_02_a_stream_to_who_never_sends_ends_by_itself(autojump_clock: MockClock) -> None:
    """Media reflection: the SDP names a third party. Within 30 s; here after rtp.probe_seconds."""
    hello = scripted([[Say("Hello.", seconds=50.0)]])
    async with open_world(hello) as world, socket_at(VICTIM) as victim, world.ring(sdp=aimed_at(*VICTIM)) as call:
        await call.wait_answer()
        assert await count_arrivals(victim, 30.0) <= 50 * 15 + 50
        assert await count_arrivals(victim, 20.0) == 0
        await call.wait_hung_up()
    assert world.record.ending is Ending.MEDIA_TIMEOUT


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("255.255.255.255", 40_000),
        ("239.1.1.1", 40_000),
        ("192.0.2.1", 5060),
        (TALKER, 53),
        (TALKER, 1),
        ("0.0.0.1", 40_000),
    ],
)
async def test_se_03_a_stream_that_aims_where_none_may_go_is_refused(
    host: str, port: int, autojump_clock: MockClock
) -> None:
    """Broadcast, multicast, our own signalling, and the ports of well-known services."""
    async with open_world(scripted([[Say("Hello.", seconds=0.5)]]), calls=0) as world:
        with pytest.raises(CallRefused, match="488"):
            async with world.dial(sdp=aimed_at(host, port)):
                pass


INJECTIONS = [
    "sip:a%0d%0aX-Evil:%201@192.0.2.10",
    "sip:a%22%0D%0AX-Evil%3A1@192.0.2.10",
    "sip:a@192.0.2.10;x=%0d%0aX-Evil:1",
    "sip:a@192.0.2.10?X-Evil=1",
]


@pytest.mark.parametrize("uri", INJECTIONS)
async def test_se_04_what_is_escaped_in_a_uri_never_becomes_a_header(uri: str, autojump_clock: MockClock) -> None:
    """In From, To, Request-URI and Contact: neither in a response nor in our BYE."""
    async with user_agent() as (agent, phone), trio.open_nursery() as nursery:
        phone.contact = f'"a\\" \\\\b" <{uri}>'
        invite = phone.write("INVITE", sdp(), target=uri)
        invite = invite.replace(b"From: <sip:alice@192.0.2.10>", f'From: "\\"x" <{uri}>'.encode())
        await phone.send(invite.replace(b"To: <sip:100@192.0.2.1>", f"To: <{uri}>".encode()))
        leg = await agent.legs.receive()
        await leg.answer(RTP)
        heard: list[Request | Response] = [await phone.response(), await phone.response()]
        assert isinstance(heard[1], Response)
        phone.to_tag = heard[1].to.tag
        await phone.send(phone.write("ACK"))
        nursery.start_soon(leg.hang_up, "over")
        heard.append(await phone.receive())
        for message in heard:
            assert "x-evil" not in {name.lower() for name, _ in message.headers}
            assert b"\r\nX-Evil" not in bytes(message)
        bye = heard[-1]
        while isinstance(bye, Response):
            bye = await phone.receive()
        await phone.reply(bye)


@pytest.mark.parametrize("raw", ["\r\nX-Evil: 1", "\nX-Evil: 1", "\rX-Evil: 1", "\0"])
async def test_se_04_raw_line_breaks_are_never_written_back(raw: str, autojump_clock: MockClock) -> None:
    """A true line break ends the value; everything else in it is 400, without an echo of it."""
    async with user_agent() as (_, phone):
        request = phone.write("OPTIONS").replace(b"To: <sip:100@", f'To: "x{raw}" <sip:100@'.encode())
        await phone.send(request)
        with trio.fail_after(5):
            data = (await phone.socket.recvfrom(65_535))[0]
        assert data.startswith(b"SIP/2.0 400 ")
        assert b"\nX-Evil" not in data
        assert b"\rX-Evil" not in data
        assert b"\0" not in data


@pytest.mark.parametrize("status", [401, 407])
@pytest.mark.parametrize("realm", ["pbx.example.com", "192.0.2.50", "aivc", "asterisk"])
async def test_se_08_a_stranger_that_challenges_us_gets_no_credentials(
    status: int, realm: str, autojump_clock: MockClock
) -> None:
    """CVE-2021-41158: a BYE is challenged for each realm that may be guessed, also the one that we have."""
    account = SipRegister(user="200", server="192.0.2.50", password=Secret("s3cret"), expires_seconds=0)
    async with user_agent(SipSettings(register=(account,))) as (agent, phone), trio.open_nursery() as nursery:
        leg = await phone.connect(agent)
        nursery.start_soon(leg.hang_up, "over")
        bye = await phone.request()
        name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
        await phone.reply(bye, status, f'{name}: Digest realm="{realm}", nonce="n", qop="auth", algorithm=MD5')
        assert await phone.hears_nothing(40)
        assert not {"Authorization", "Proxy-Authorization"} & {field for field, _ in bye.headers}


async def test_se_09_a_flood_of_invites_is_answered_and_others_are_served(autojump_clock: MockClock) -> None:
    """200 calls in a second, none of them acknowledged."""
    async with user_agent(SipSettings(requests_per_second=150)) as (agent, phone), trio.open_nursery() as nursery:

        async def answer() -> None:
            async for leg in agent.legs:
                await leg.answer(RTP)

        nursery.start_soon(answer)
        answers: dict[str, int] = {}
        for number in range(200):
            phone.call_id = f"flood-{number}"
            await phone.send(phone.write("INVITE", sdp()))
            await trio.sleep(0.004)
        with trio.move_on_after(0.4):
            while True:
                message = await phone.response()
                answers[message.call_id] = max(message.status, answers.get(message.call_id, 0))
        assert len(answers) == 200
        assert set(answers.values()) <= {200, 503}
        async with another_phone("192.0.2.11") as other:
            assert (await other.ask(other.write("OPTIONS"))).status == 200
        nursery.cancel_scope.cancel()


async def test_se_10_calls_one_after_another_are_all_answered_quickly(autojump_clock: MockClock) -> None:
    """Fifty, the slowest of which is set up within 300 ms."""
    settings = changed(rtp={"max_port": 40_999})
    async with open_world(scripted([[Say("Hello.", seconds=0.2)]]), settings=settings, calls=50) as world:
        for _ in range(50):
            start = trio.current_time()
            async with world.dial() as call:
                assert call.answered_at is not None
                assert call.answered_at - start <= 0.3
            await trio.sleep(0.05)


async def test_se_11_beyond_max_calls_it_is_503_with_retry_after_and_running_calls_go_on(
    autojump_clock: MockClock,
) -> None:
    """RFC 3261 section 21.5.4."""
    async with open_talk(settings=changed(service={"max_calls": 1})) as (world, call):
        with pytest.raises(CallRefused) as refused:
            async with world.phone.dial(NUMBER):
                pass
        assert refused.value.response.status == 503
        assert int(refused.value.response.header("Retry-After")) > 0
        assert await is_heard(call.handset)


async def test_se_12_a_bye_that_knows_the_dialog_counts_from_anywhere_and_one_that_guesses_does_not(
    autojump_clock: MockClock,
) -> None:
    """RFC 3261 section 12.2.2: the dialog is its tags; a proxy or another NAT binding may stand before it."""
    async with user_agent() as (agent, phone), another_phone("192.0.2.11") as stranger:
        await phone.connect(agent)
        forged = Phone(stranger.socket, call_id=phone.call_id, tag=phone.tag, to_tag="guess", host="192.0.2.11")
        assert (await forged.ask(forged.write("BYE", cseq=5))).status == 481
        assert agent.statistics().legs == 1
        forged.to_tag = phone.to_tag
        assert (await forged.ask(forged.write("BYE", cseq=6))).status == 200
