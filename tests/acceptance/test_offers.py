"""Offers and answers as the wire shows them: RFC 3264, RFC 4566 and their kin."""

from __future__ import annotations

import pytest
import trio
from sip_phone import RTP, Phone, sdp, user_agent
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip.leg import Leg, MediaChanged
from aivc.sip.message import Response
from aivc.sip.sdp import SessionDescription, parse_untrusted
from aivc.sip.useragent import UserAgent

AUDIO = "m=audio 49170 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"
REFUSALS = (400, 488, 606)


async def answered(phone: Phone, agent: UserAgent, media: str) -> tuple[Leg, SessionDescription]:
    """The answer to an offer of these media, in a call that is acknowledged."""
    leg, response = await phone.call(agent, sdp(media))
    await phone.ack()
    phone.cseq += 1
    return leg, parse_untrusted(response.body)


async def reoffered(phone: Phone, body: bytes) -> Response:
    """The acknowledged answer to a re-INVITE."""
    response = await phone.ask(phone.write("INVITE", body))
    await phone.send(phone.write("ACK"))
    phone.cseq += 1
    return response


async def test_oa_01_the_answer_is_of_the_form_that_it_must_have(autojump_clock: MockClock) -> None:
    """RFC 3264 section 6: one stream, of the same profile, with offered formats only, and all mandatory lines."""
    async with user_agent() as (agent, phone):
        _, response = await phone.call(agent, sdp(AUDIO))
        text = response.body.decode()
        assert [line[:2] for line in text.splitlines()][:5] == ["v=", "o=", "s=", "c=", "t="]
        assert text.splitlines()[1].split(" ")[3:] == ["IN", "IP4", RTP[0]]
        (media,) = parse_untrusted(response.body).media
        assert (media.kind, media.port, media.protocol) == ("audio", RTP[1], "RTP/AVP")
        assert set(media.formats) <= {"0", "8", "101"}


async def test_oa_02_pcma_alone_is_answered_with_pcma(autojump_clock: MockClock) -> None:
    """RFC 3264 section 6; that it is sent, too, is shown with the media."""
    async with user_agent() as (agent, phone):
        leg, answer = await answered(phone, agent, "m=audio 49170 RTP/AVP 8\r\n")
        assert answer.media[0].formats == ("8",)
        assert (leg.agreement.codec, leg.agreement.payload_type) == ("PCMA", 8)


async def test_oa_03_telephone_events_that_were_not_offered_are_not_answered(autojump_clock: MockClock) -> None:
    """RFC 3264 section 6.1."""
    async with user_agent() as (agent, phone):
        leg, answer = await answered(phone, agent, "m=audio 49170 RTP/AVP 0\r\n")
        assert (answer.media[0].formats, leg.agreement.telephone_event) == (("0",), None)


async def test_oa_04_telephone_events_keep_the_number_that_was_offered(autojump_clock: MockClock) -> None:
    """RFC 4733."""
    async with user_agent() as (agent, phone):
        offer = "m=audio 49170 RTP/AVP 0 96\r\na=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-15\r\n"
        leg, answer = await answered(phone, agent, offer)
        assert (answer.media[0].formats, leg.agreement.telephone_event) == (("0", "96"), 96)


async def test_oa_05_without_an_offer_the_2xx_offers_and_the_ack_answers(autojump_clock: MockClock) -> None:
    """RFC 3264 section 5, RFC 3261 section 13.3.1.4."""
    async with user_agent() as (agent, phone):
        leg, response = await phone.call(agent, b"")
        (media,) = parse_untrusted(response.body).media
        assert (media.port, "0" in media.formats) == (RTP[1], True)
        await phone.ack(sdp("m=audio 49170 RTP/AVP 0\r\n"))
        assert await leg.events.receive() == MediaChanged(leg.agreement)
        assert leg.agreement.remote == ("192.0.2.10", 49170)


@pytest.mark.parametrize(
    ("media", "direction"),
    [
        pytest.param(f"{AUDIO}a=sendonly\r\n", "recvonly", id="oa_06"),
        pytest.param(f"{AUDIO}a=inactive\r\n", "inactive", id="oa_07"),
        pytest.param(f"{AUDIO}c=IN IP4 0.0.0.0\r\n", None, id="oa_08"),
    ],
)
async def test_oa_06_07_08_hold_is_answered_as_it_must_be(
    media: str, direction: str | None, autojump_clock: MockClock
) -> None:
    """RFC 3264 section 8.4: today's ways, and RFC 2543's. That nothing is sent then is shown with the media."""
    async with user_agent() as (agent, phone):
        leg, _ = await answered(phone, agent, AUDIO)
        held = await reoffered(phone, sdp(media, version=2))
        answer = parse_untrusted(held.body)
        assert direction in (None, answer.direction_for(answer.media[0]))
        assert not leg.agreement.may_send
        resumed = await reoffered(phone, sdp(AUDIO, version=3))
        assert resumed.status == 200
        assert leg.agreement.may_send


async def test_oa_10_streams_that_we_do_not_take_stay_in_their_place_with_port_0(autojump_clock: MockClock) -> None:
    """RFC 3264 section 6."""
    async with user_agent() as (agent, phone):
        more = "m=video 50000 RTP/AVP 31\r\nm=application 50002 TCP/BFCP *\r\n"
        _, answer = await answered(phone, agent, AUDIO + more)
        assert [(media.kind, media.port > 0) for media in answer.media] == [
            ("audio", True),
            ("video", False),
            ("application", False),
        ]


async def test_oa_11_audio_may_come_second(autojump_clock: MockClock) -> None:
    """RFC 3264 section 6."""
    async with user_agent() as (agent, phone):
        _, answer = await answered(phone, agent, "m=video 50000 RTP/AVP 31\r\n" + AUDIO)
        assert [(media.kind, media.port > 0) for media in answer.media] == [("video", False), ("audio", True)]


async def test_oa_13_audio_with_port_0_only_makes_no_call(autojump_clock: MockClock) -> None:
    """RFC 3264 section 5.1."""
    async with user_agent() as (agent, phone):
        assert (await phone.ask(phone.write("INVITE", sdp("m=audio 0 RTP/AVP 0\r\n")))).status == 488
        assert agent.statistics().legs == 0


async def test_oa_14_no_common_codec_is_488_with_a_warning(autojump_clock: MockClock) -> None:
    """RFC 3264 section 6, RFC 3261 sections 21.4.26 and 20.43."""
    async with user_agent() as (_, phone):
        offer = sdp("m=audio 49170 RTP/AVP 18 96\r\na=rtpmap:96 opus/48000/2\r\n")
        answer = await phone.ask(phone.write("INVITE", offer))
        assert (answer.status, answer.header("Warning")[:3]) == (488, "305")


async def test_oa_16_static_payload_types_need_no_rtpmap_and_a_remapped_one_is_not_what_it_was(
    autojump_clock: MockClock,
) -> None:
    """RFC 3551 section 6."""
    async with user_agent() as (agent, phone):
        leg, answer = await answered(phone, agent, "m=audio 49170 RTP/AVP 8 0\r\na=rtpmap:8 G729/8000\r\n")
        assert (answer.media[0].formats, leg.agreement.codec) == (("0",), "PCMU")


@pytest.mark.parametrize("ptime", [10, 30, 40, 60])
async def test_oa_17_the_packet_time_that_was_asked_for_is_agreed(ptime: int, autojump_clock: MockClock) -> None:
    """RFC 4566 section 6; that packets have it is shown with the media."""
    async with user_agent() as (agent, phone):
        leg, _ = await answered(phone, agent, f"{AUDIO}a=ptime:{ptime}\r\n")
        assert leg.agreement.ptime_ms == ptime


async def test_oa_18_what_a_web_browser_adds_is_not_answered(autojump_clock: MockClock) -> None:
    """RFC 8839, RFC 5763, RFC 5576: there is no ICE nor DTLS that was not asked for in earnest."""
    async with user_agent() as (agent, phone):
        extras = (
            "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n"
            "a=candidate:1 1 udp 1 192.0.2.10 49170 typ host\r\n"
            "a=rtcp-mux\r\na=ssrc:1 cname:x\r\na=fingerprint:sha-256 00:11\r\na=setup:actpass\r\n"
        )
        _, answer = await answered(phone, agent, AUDIO + extras)
        lines = bytes(answer).decode()
        assert not [word for word in ("ice-", "candidate", "fingerprint", "setup", "a=ssrc") if word in lines]
        assert answer.media[0].protocol == "RTP/AVP"


@pytest.mark.parametrize("profile", ["RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP"])
async def test_oa_19_a_secure_offer_is_never_answered_in_the_clear(profile: str, autojump_clock: MockClock) -> None:
    """RFC 3264 section 6, RFC 4568: with rtp.srtp off it is 488."""
    async with user_agent() as (agent, phone):
        key = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n"
        offer = sdp(f"m=audio 49170 {profile} 0\r\n{key}a=fingerprint:sha-256 00:11\r\n")
        assert (await phone.ask(phone.write("INVITE", offer))).status == 488
        assert agent.statistics().legs == 0


MALFORMED = {
    "no media": sdp(""),
    "no connection": sdp().replace(b"c=IN IP4 192.0.2.10\r\n", b""),
    "port": sdp("m=audio 99999 RTP/AVP 0\r\n"),
    "no port": sdp("m=audio RTP/AVP 0\r\n"),
    "garbage": b"\x80\x00" * 50,
    "NUL": sdp("m=audio 49170 RTP/AVP 0\0\r\n"),
    "lines": sdp("a=x\r\n" * 4000),
    "no version": sdp()[5:],
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
async def test_oa_20_a_malformed_description_makes_no_call(body: bytes, autojump_clock: MockClock) -> None:
    """RFC 4566."""
    async with user_agent() as (agent, phone):
        assert (await phone.ask(phone.write("INVITE", body))).status in REFUSALS
        assert agent.statistics().legs == 0
        assert (await phone.ask(phone.write("OPTIONS", cseq=5))).status == 200


async def test_oa_21_22_a_reinvite_may_move_the_audio_and_must_keep_what_it_may_not_change(
    autojump_clock: MockClock,
) -> None:
    """RFC 3264 sections 8.3.1 and 8.3.2; that the packets follow is shown with the media."""
    async with user_agent() as (agent, phone):
        leg, first = await answered(phone, agent, AUDIO)
        moved = await reoffered(phone, sdp(AUDIO.replace("49170", "49180"), version=2))
        second = parse_untrusted(moved.body)
        assert leg.agreement.remote == ("192.0.2.10", 49180)
        assert second.media[0].port == first.media[0].port


async def test_oa_23_a_reinvite_without_an_offer_gets_one(autojump_clock: MockClock) -> None:
    """RFC 3264 section 8, RFC 3261 section 14.2: a whole description, with the same o= but for its version."""
    async with user_agent() as (agent, phone):
        _, first = await answered(phone, agent, AUDIO)
        response = await phone.ask(phone.write("INVITE"))
        offer = parse_untrusted(response.body)
        assert (response.status, offer.media[0].port) == (200, first.media[0].port)
        assert response.body.split(b"\r\n")[1].split(b" ")[:2] == bytes(first).split(b"\r\n")[1].split(b" ")[:2]
        await phone.ack(sdp(AUDIO, version=2))
        phone.cseq += 1
        assert (await phone.ask(phone.write("OPTIONS"))).status == 200


async def test_oa_25_an_update_without_a_body_is_200_if_allow_lists_it(autojump_clock: MockClock) -> None:
    """RFC 3311 section 5.2."""
    async with user_agent() as (agent, phone):
        await answered(phone, agent, AUDIO)
        allowed = (await phone.ask(phone.write("OPTIONS"))).headers.items("Allow")
        phone.cseq += 1
        assert "UPDATE" in allowed
        assert (await phone.ask(phone.write("UPDATE"))).status == 200


async def test_oa_26_a_first_offer_may_be_sendonly(autojump_clock: MockClock) -> None:
    """RFC 3264 section 6.1."""
    async with user_agent() as (agent, phone):
        leg, answer = await answered(phone, agent, f"{AUDIO}a=sendonly\r\n")
        assert answer.direction_for(answer.media[0]) == "recvonly"
        assert not leg.agreement.may_send


async def test_oa_27_ipv6_audio_over_ipv4_signalling_is_taken(autojump_clock: MockClock) -> None:
    """RFC 4566 section 5.7: answered in IPv6, or refused; here answered."""
    async with user_agent() as (agent, phone):
        await phone.send(phone.write("INVITE", sdp("m=audio 49170 RTP/AVP 0\r\nc=IN IP6 2001:db8::10\r\n")))
        leg = await agent.legs.receive()
        assert leg.agreement.remote == ("2001:db8::10", 49170)
        await leg.answer(("2001:db8::1", 40_000))
        assert (await phone.response()).status == 100
        assert b"c=IN IP6 2001:db8::1\r\n" in (await phone.response()).body


async def test_oa_29_the_connection_of_the_stream_beats_that_of_the_session(autojump_clock: MockClock) -> None:
    """RFC 4566 section 5.7."""
    async with user_agent() as (agent, phone):
        leg, _ = await answered(phone, agent, "m=audio 49170 RTP/AVP 0\r\nc=IN IP4 192.0.2.55\r\n")
        assert leg.agreement.remote == ("192.0.2.55", 49170)


async def test_oa_30_lines_that_nobody_needs_are_skipped(autojump_clock: MockClock) -> None:
    """RFC 4566 section 5, RFC 5939, RFC 5888."""
    async with user_agent(SipSettings()) as (agent, phone):
        head = (
            b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\ni=x\r\nu=http://a.example\r\ne=a@b.example\r\np=+1\r\n"
            b"c=IN IP4 192.0.2.10\r\nb=AS:64\r\nt=0 0\r\nr=7d 1h 0 25h\r\nz=0 -1h\r\nk=prompt\r\na=tool:x\r\n"
            b"a=group:LS 1\r\na=csup:med-v0\r\n"
        )
        media = b"m=audio 49170 RTP/AVP 0\r\ni=x\r\nb=TIAS:64000\r\nk=prompt\r\na=mid:1\r\na=acap:1 x\r\na=unknown\r\n"
        with trio.fail_after(5):
            leg, _ = await phone.call(agent, head + media)
        assert leg.agreement.codec == "PCMU"
