"""Who is served, and what everybody else gets: passwords, scanners, floods, bodies that are not ours alone."""

from __future__ import annotations

import random
from typing import Literal

import pytest
import trio
from sip_phone import PHONE, RTP, Phone, another_phone, sdp, user_agent
from trio.testing import MockClock

from aivc.config.secret import Secret
from aivc.config.settings import SipSettings, SipUser
from aivc.sip import reception
from aivc.sip.digest import answer_challenge, parse_challenge
from aivc.sip.inspection import Refusal, session_body
from aivc.sip.leg import HungUp
from aivc.sip.message import Request, Response, parse_untrusted
from aivc.sip.multipart import find_part
from aivc.sip.sources import SCANNERS
from aivc.sip.useragent import open_user_agent
from aivc.testing.network import VirtualNetwork

USERS = SipSettings(users=(SipUser(name="alice", password=Secret("secret")),))
MULTIPART = 'multipart/mixed; boundary="a b"'


def credentials(challenge: Response, password: str = "secret", nc: int = 1) -> str:
    parsed = parse_challenge(challenge.headers.lines("WWW-Authenticate")[0])
    assert parsed is not None
    answer = answer_challenge(
        parsed,
        username="alice",
        password=password,
        method="INVITE",
        uri="sip:100@192.0.2.1",
        body=b"",
        cnonce="0123456789abcdef",
        nc=nc,
    )
    return f"Authorization: {answer}"


async def challenged(phone: Phone, *extra: str, cseq: int = 1) -> Response:
    """The 401 to an INVITE, acknowledged."""
    answer = await phone.ask(phone.write("INVITE", sdp(), *extra, cseq=cseq))
    assert answer.status == 401
    await phone.send(phone.write("ACK", cseq=cseq, branch=f"z9hG4bK-{phone.branches}"))
    return answer


async def test_a_call_with_the_right_password_is_served_and_everything_in_it_unasked(
    autojump_clock: MockClock,
) -> None:
    async with user_agent(USERS) as (agent, phone):
        challenge = await challenged(phone)
        assert agent.statistics().legs == 0
        phone.cseq = 2
        leg, _ = await phone.call(agent, None, credentials(challenge))
        await phone.ack()
        assert (await phone.ask(phone.write("INVITE", sdp(version=2), cseq=3))).status == 200
        assert (await phone.ask(phone.write("BYE", cseq=4))).status == 200
        assert [type(event) for event in [event async for event in leg.events]][-1] is HungUp
        assert agent.statistics().challenged == 1


async def test_wrong_passwords_are_asked_again_and_leave_no_leg(autojump_clock: MockClock) -> None:
    async with user_agent(USERS) as (agent, phone):
        challenge = await challenged(phone)
        again = await challenged(phone, credentials(challenge, "guess"), cseq=2)
        assert again.headers.lines("WWW-Authenticate") != challenge.headers.lines("WWW-Authenticate")
        assert (agent.statistics().legs, agent.statistics().challenged) == (0, 2)
        with pytest.raises(trio.WouldBlock):
            agent.legs.receive_nowait()


async def test_cancel_and_options_are_never_challenged(autojump_clock: MockClock) -> None:
    async with user_agent(USERS) as (agent, phone):
        assert (await phone.ask(phone.write("OPTIONS"))).status == 200
        challenge = await challenged(phone, cseq=2)
        await phone.send(phone.write("INVITE", sdp(), credentials(challenge), cseq=3, branch="z9hG4bK-x"))
        leg = await agent.legs.receive()
        assert (await phone.response()).status == 100
        await phone.send(phone.write("CANCEL", cseq=3, branch="z9hG4bK-x"))
        assert [(await phone.response()).status for _ in range(2)] == [200, 487]
        assert len([event async for event in leg.events]) == 1


async def test_a_trunk_is_not_asked_for_a_password(autojump_clock: MockClock) -> None:
    settings = SipSettings(users=USERS.users, trusted=("192.0.2.10",))
    async with user_agent(settings) as (agent, phone):
        await phone.connect(agent)
        assert agent.statistics().challenged == 0


async def test_an_unknown_number_is_told_to_users_only(autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(users=USERS.users, numbers=("200",))) as (_, phone):
        challenge = await challenged(phone)
        answer = await phone.ask(phone.write("INVITE", sdp(), credentials(challenge), cseq=2))
        assert answer.status == 404


@pytest.mark.parametrize("unwanted", ["drop", "403"])
async def test_a_scanner_and_a_stranger_get_what_is_set(
    unwanted: Literal["drop", "403"], autojump_clock: MockClock
) -> None:
    async with (
        user_agent(SipSettings(allow=("192.0.2.10",), unwanted=unwanted)) as (agent, phone),
        another_phone("192.0.2.66") as stranger,
    ):
        scan = phone.write("OPTIONS").replace(b"a phone of the tests", SCANNERS[0].encode())
        for who, data in ((phone, scan), (stranger, stranger.write("INVITE", sdp()))):
            await who.send(data)
            if unwanted == "drop":
                assert await who.hears_nothing(1)
            else:
                assert (await who.response()).status == 403
        assert agent.statistics().legs == agent.statistics().server_transactions == 0


async def test_who_asks_too_much_is_slowed_down_but_not_in_a_call(autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(requests_per_second=2)) as (agent, phone):
        await phone.connect(agent)
        tag, phone.to_tag = phone.to_tag, None
        statuses = [(await phone.ask(phone.write("OPTIONS", cseq=number))).status for number in (10, 11)]
        assert statuses == [200, 503]
        assert agent.statistics().slowed == 1
        phone.to_tag = tag
        assert [(await phone.ask(phone.write("OPTIONS", cseq=n))).status for n in range(12, 17)] == [200] * 5


@pytest.mark.parametrize(
    ("accept", "status"),
    [("text/plain", 406), ("", 406), ("application/sdp;level=1", 100), ("text/plain, Application/*", 100)],
)
async def test_who_does_not_take_sdp_cannot_be_answered(accept: str, status: int, autojump_clock: MockClock) -> None:
    async with user_agent() as (_, phone):
        await phone.send(phone.write("INVITE", sdp(), f"Accept: {accept}"))
        assert (await phone.response()).status == status


def multipart(*parts: tuple[str, bytes]) -> bytes:
    return b"".join(b"--a b\r\nContent-Type: %s\r\n\r\n%s\r\n" % (kind.encode(), body) for kind, body in parts) + (
        b"--a b--\r\n"
    )


async def test_an_offer_beside_something_else_is_found(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        body = multipart(("application/isup", b"\x01\0\r\n\x02"), ("Application/SDP", sdp()))
        await phone.send(phone.write("INVITE", body, content_type=MULTIPART))
        leg = await agent.legs.receive()
        assert leg.agreement.remote == ("192.0.2.10", 49170)
        await leg.answer(RTP)
        assert [(await phone.response()).status for _ in range(2)] == [100, 200]
        alone = multipart(("application/isup", b"x"))
        phone.call_id = "another"
        assert (await phone.ask(phone.write("INVITE", alone, content_type=MULTIPART))).status == 415


@pytest.mark.parametrize("seed", range(5))
def test_no_damaged_multipart_raises(seed: int) -> None:
    dice, body = random.Random(seed), bytearray(multipart(("application/isup", b"x"), ("application/sdp", sdp())))
    for _ in range(200):  # and what is found was there
        position = dice.randrange(len(body))
        body[position : position + 1] = dice.choice((b"", b"\r\n", b"--a b", b"--", b"\0"))
        found = find_part(MULTIPART, bytes(body), "application/sdp")
        assert found is None or found in bytes(body)
    assert find_part("multipart/mixed", bytes(body), "application/sdp") is None
    assert find_part("multipart/mixed;boundary=", bytes(body), "application/sdp") is None


async def test_a_body_that_may_be_ignored_is(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        optional = phone.write(
            "INVITE", b"hello", "Content-Disposition: x; handling=optional", content_type="text/plain"
        )
        request = parse_untrusted(optional)
        assert not isinstance(request, Response)
        assert session_body(request) == b""
        await phone.send(optional)
        assert (await agent.legs.receive()).agreement.may_send is False


async def test_a_whole_call_over_tcp(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    with trio.fail_after(100):
        async with (
            open_user_agent(SipSettings(listen=("tcp:192.0.2.1:5060",)), randomness=random.Random(7)) as agent,
            trio.open_nursery() as nursery,
        ):
            stream = await trio.open_tcp_stream("192.0.2.1", 5060)
            phone = Phone(
                trio.socket.socket(type=trio.socket.SOCK_DGRAM), contact="<sip:alice@192.0.2.10;transport=tcp>"
            )

            async def say(data: bytes) -> None:
                await stream.send_all(data.replace(b"SIP/2.0/UDP", b"SIP/2.0/TCP"))

            async def heard(beginning: bytes) -> bytes:
                data = await stream.receive_some()
                while beginning not in data:
                    data += await stream.receive_some()
                return bytes(data)

            await say(phone.write("INVITE", sdp()))
            leg = await agent.legs.receive()
            await leg.answer(RTP)
            answer = await heard(b"SIP/2.0 200 OK")
            assert b"Contact: <sip:192.0.2.1:5060;transport=tcp>" in answer
            phone.to_tag = (
                answer.partition(b"SIP/2.0 200 OK")[2].partition(b"tag=")[2].partition(b"tag=")[2][:16].decode()
            )
            await say(phone.write("ACK"))
            await trio.sleep(1)
            nursery.start_soon(leg.hang_up, "over")
            assert b"BYE sip:alice@192.0.2.10;transport=tcp" in await heard(b"BYE ")
            assert (agent.transports, agent.listening) == ((("TCP", ("192.0.2.1", 5060)),), (("192.0.2.1", 5060),))


async def test_a_bug_of_ours_leaves_no_transaction_without_an_answer(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(request: Request, _: object) -> Refusal | None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(reception, "inspect", broken)
    VirtualNetwork().enable()
    with trio.fail_after(200), trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(PHONE)
        settings = SipSettings(listen=("udp:192.0.2.1:5060",))
        async with open_user_agent(settings, randomness=random.Random(7)) as agent:
            phone = Phone(sock)
            await phone.send(phone.write("OPTIONS"))
            await phone.send(phone.write("INVITE", sdp()))
            await trio.sleep(120)
            assert agent.statistics().server_transactions == 0
            assert agent.refusals["internal_error"] == 2
            assert (await phone.response()).status == 500
