from __future__ import annotations

import pytest

from aivc.sip import describing, negotiation
from aivc.sip.leg import AudioAgreement
from aivc.sip.negotiation import Accepted, Origin, Refused, Terms
from aivc.sip.sdp import SessionDescription, parse_untrusted

LOCAL = ("192.0.2.1", 40_000)
HEAD = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\n"


def describe(media: str, session: str = "c=IN IP4 192.0.2.9\r\nt=0 0\r\n") -> SessionDescription:
    return parse_untrusted((HEAD + session + media).encode())


def accept(media: str, session: str = "c=IN IP4 192.0.2.9\r\nt=0 0\r\n") -> Accepted:
    outcome = negotiation.accept(describe(media, session), Terms())
    assert isinstance(outcome, Accepted), outcome
    return outcome


def refuse(media: str, session: str = "c=IN IP4 192.0.2.9\r\nt=0 0\r\n") -> Refused:
    outcome = negotiation.accept(describe(media, session), Terms())
    assert isinstance(outcome, Refused), outcome
    return outcome


def answer(media: str) -> SessionDescription:
    return describing.answer(accept(media), LOCAL, Origin(5))


def held_to(current: AudioAgreement) -> Terms:
    return Terms(codec=current.codec, in_force=current, place=0)


def test_the_answer_is_one_stream_with_only_what_was_offered() -> None:
    assert bytes(answer("m=audio 49170 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\n")).decode() == (
        "v=0\r\no=- 5 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
        "m=audio 40000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
        "a=fmtp:101 0-15\r\na=ptime:20\r\na=maxptime:60\r\na=sendrecv\r\n"
    )


@pytest.mark.parametrize(("formats", "codec"), [("0 8", "PCMU"), ("8 0", "PCMA"), ("18 9 8 0", "PCMA"), ("8", "PCMA")])
def test_the_offerer_s_order_of_preference_decides(formats: str, codec: str) -> None:
    assert accept(f"m=audio 49170 RTP/AVP {formats}\r\n").agreement.codec == codec


def test_a_dynamic_number_for_g711_serves_both_ways() -> None:
    agreement = accept("m=audio 49170 RTP/AVP 96\r\na=rtpmap:96 pcmu/8000/1\r\n").agreement
    assert (agreement.codec, agreement.payload_type) == ("PCMU", 96)


def test_a_static_number_mapped_to_nonsense_is_not_that_codec() -> None:
    agreement = accept("m=audio 49170 RTP/AVP 8 0\r\na=rtpmap:8 speex/16000\r\n").agreement
    assert agreement.payload_type == 0


def test_events_are_answered_with_their_number_and_never_unasked() -> None:
    media = "m=audio 49170 RTP/AVP 0 96\r\na=rtpmap:96 telephone-event/8000\r\n"
    assert accept(media).agreement.telephone_event == 96
    assert answer(media).media[0].formats == ("0", "96")
    assert b"a=fmtp:96 0-15\r\n" in bytes(answer(media))
    with_noise = "m=audio 49170 RTP/AVP 0 13 96\r\na=rtpmap:96 telephone-event/8000\r\n"
    assert answer(with_noise).media[0].formats == ("0", "96")  # comfort noise is taken, but never asked for
    assert accept("m=audio 49170 RTP/AVP 0\r\n").agreement.telephone_event is None
    assert b"telephone-event" not in bytes(answer("m=audio 49170 RTP/AVP 0\r\n"))
    assert (
        accept("m=audio 49170 RTP/AVP 0 96\r\na=rtpmap:96 telephone-event/16000\r\n").agreement.telephone_event is None
    )


@pytest.mark.parametrize(
    ("offered", "answered", "may_send", "may_receive"),
    [
        ("", "sendrecv", True, True),
        ("a=sendrecv\r\n", "sendrecv", True, True),
        ("a=sendonly\r\n", "recvonly", False, True),
        ("a=recvonly\r\n", "sendonly", True, False),
        ("a=inactive\r\n", "inactive", False, False),
        ("c=IN IP4 0.0.0.0\r\n", "recvonly", False, True),
        ("c=IN IP6 ::\r\n", "recvonly", False, True),
        ("c=IN IP6 black-hole.invalid\r\n", "recvonly", False, True),
        ("c=IN IP4 0.0.0.0\r\na=recvonly\r\n", "inactive", False, False),
        ("c=IN IP4 0.0.0.0\r\na=inactive\r\n", "inactive", False, False),
    ],
)
def test_the_answer_mirrors_the_direction(offered: str, answered: str, may_send: bool, may_receive: bool) -> None:
    media = f"m=audio 49170 RTP/AVP 0\r\n{offered}"
    agreement = accept(media).agreement
    assert (agreement.may_send, agreement.may_receive) == (may_send, may_receive)
    assert answer(media).media[0].direction == answered


def test_the_media_level_address_beats_the_session_level_one() -> None:
    assert accept("m=audio 49170 RTP/AVP 0\r\nc=IN IP4 192.0.2.77\r\n").agreement.remote == ("192.0.2.77", 49170)


def test_other_streams_are_refused_in_place() -> None:
    reply = answer(
        "m=video 4000 RTP/AVP 31 32\r\nm=audio 49170 RTP/AVP 0\r\nm=application 5000 udp wb\r\nm=audio 6 RTP/AVP 8\r\n"
    )
    assert [(media.kind, media.port, media.protocol) for media in reply.media] == [
        ("video", 0, "RTP/AVP"),
        ("audio", 40_000, "RTP/AVP"),
        ("application", 0, "udp"),
        ("audio", 0, "RTP/AVP"),
    ]


def test_ice_and_its_kin_are_neither_done_nor_answered() -> None:
    extras = (
        "candidate:1 1 UDP 1 192.0.2.9 49170 typ host",
        "ice-ufrag:x",
        "rtcp-fb:* nack",
        "setup:actpass",
        "mid:0",
        "extmap:1 urn:x",
        "crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd",
        "altc:1 IP6 2001:db8::1 49170",
        "fingerprint:sha-1 A",
        "ssrc:1",
    )
    reply = bytes(answer("m=audio 49170 RTP/AVP 0\r\n" + "".join(f"a={extra}\r\n" for extra in extras)))
    assert not any(
        word in reply for word in (b"ice", b"candidate", b"rtcp", b"fingerprint", b"ssrc", b"mid", b"crypto")
    )


def test_the_time_of_the_offer_is_repeated() -> None:
    accepted = accept("m=audio 49170 RTP/AVP 0\r\n", "c=IN IP4 192.0.2.9\r\nt=3149328700 0\r\n")
    assert describing.answer(accepted, LOCAL, Origin(5)).timing == "3149328700 0"


@pytest.mark.parametrize(
    ("media", "cause", "code"),
    [
        ("", "no audio stream", 304),
        ("m=video 4000 RTP/AVP 31\r\n", "no audio stream", 304),
        ("m=audio 0 RTP/AVP 0\r\n", "port 0", 304),
        ("m=audio 49170 RTP/AVP 18\r\n", "neither PCMU nor PCMA", 305),
        ("m=audio 49170 RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\n", "neither PCMU nor PCMA", 305),
        ("m=audio 49170 RTP/SAVP 0\r\n", "rtp.srtp is off", 302),
        ("m=audio 49170 UDP/TLS/RTP/SAVPF 0\r\n", "only RTP/AVP", 302),
        ("m=audio 49170 TCP/RTP/AVP 0\r\n", "only RTP/AVP", 302),
        ("m=audio 49170 RTP/AVP 0\r\nc=IN IP4 2001:db8::1\r\n", "another type", 301),
        ("m=audio 49170 RTP/AVP 0\r\nc=IN IP6 192.0.2.9\r\n", "another type", 301),
        ("m=audio 49170 RTP/AVP 0\r\nc=IN IP6 ff15::101/3\r\n", "multicast", 301),
        ("m=audio 49170 RTP/AVP 0\r\nc=IN IP6 ff02::1\r\n", "must not", 301),
        ("m=audio 49170 RTP/AVP 0\r\nc=IN IP6 ::ffff:192.0.2.9\r\n", "must not", 301),
        ("m=audio 49170 RTP/AVP 0\r\nc=IN IP6 fe80::1\r\n", "must not", 301),
        ("m=audio 49170 RTP/AVP 0\r\nc=IN IP6 host.example.com\r\n", "host name", 301),
        ("m=audio 49170 RTP/AVP 0\r\nc=IN IP4 224.2.1.1/127\r\n", "multicast", 301),
        ("m=audio 49170 RTP/AVP 0\r\nc=IN IP4 239.1.1.1\r\n", "must not", 301),
        ("m=audio 49170 RTP/AVP 0\r\nc=IN IP4 255.255.255.255\r\n", "must not", 301),
        ("m=audio 49170 RTP/AVP 0\r\nc=IN IP4 0.0.0.1\r\n", "must not", 301),
        ("m=audio 49170 RTP/AVP 0\r\nc=IN IP4 host.example.com\r\n", "host name", 301),
        ("m=audio 53 RTP/AVP 0\r\n", "must not", 399),
    ],
)
def test_an_offer_that_we_cannot_take_is_refused_with_its_true_cause(media: str, cause: str, code: int) -> None:
    refused = refuse(media)
    assert cause in refused.cause
    assert refused.warning == code


def test_an_offer_without_any_address_is_refused() -> None:
    assert "no c= line" in refuse("m=audio 49170 RTP/AVP 0\r\n", "t=0 0\r\n").cause


def test_our_own_signalling_port_is_never_streamed_to() -> None:
    offer = describe("m=audio 5060 RTP/AVP 0\r\n")
    assert isinstance(negotiation.accept(offer, Terms(forbidden=(("192.0.2.9", 5060),))), Refused)
    assert isinstance(negotiation.accept(offer, Terms(forbidden=(("192.0.2.1", 5060),))), Accepted)


def test_a_stream_taken_away_later_leaves_a_silent_call() -> None:
    current = AudioAgreement("PCMA", 8, ("192.0.2.9", 49170), 101)
    outcome = negotiation.accept(describe("m=audio 0 RTP/AVP 8\r\n"), held_to(current))
    assert isinstance(outcome, Accepted)
    assert outcome.agreement == AudioAgreement("PCMA", 8, ("192.0.2.9", 0), 101, may_send=False, may_receive=False)
    assert describing.answer(outcome, LOCAL, Origin(5)).media[0].port == 0


def test_our_offer_names_the_codec_in_force_alone_and_keeps_the_places() -> None:
    previous = answer("m=video 4000 RTP/AVP 31\r\nm=audio 49170 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/8000\r\n")
    agreement = AudioAgreement("PCMA", 8, ("192.0.2.9", 49170), 96, may_send=False)
    video, audio = describing.offer(agreement, LOCAL, Origin(5, 2), previous, 1).media
    assert (video.kind, video.port) == ("video", 0)
    assert (audio.formats, audio.direction, audio.port) == (("8", "96"), "sendrecv", 40_000)


def test_our_first_offer_has_pcmu_and_events() -> None:
    offer = describing.offer(negotiation.tentative_agreement(), LOCAL, Origin(5), None)
    assert offer.media[0].formats == ("0", "101")
    outcome = negotiation.accept(offer, Terms())
    assert isinstance(outcome, Accepted)
    assert outcome.agreement == AudioAgreement("PCMU", 0, LOCAL, 101)


def test_the_codec_of_a_call_stays_whatever_a_later_offer_prefers() -> None:
    current = AudioAgreement("PCMU", 0, ("192.0.2.9", 49170))
    both = negotiation.accept(describe("m=audio 6000 RTP/AVP 8 0\r\n"), held_to(current))
    assert isinstance(both, Accepted)
    assert both.agreement == AudioAgreement("PCMU", 0, ("192.0.2.9", 6000))
    other = negotiation.accept(describe("m=audio 6000 RTP/AVP 8\r\n"), held_to(current))
    assert isinstance(other, Refused)
    assert other.cause == "this call stays with PCMU"


@pytest.mark.parametrize(
    ("attributes", "ptime_ms"),
    [
        ("", 20),
        ("a=ptime:10\r\n", 10),
        ("a=ptime:30\r\n", 30),
        ("a=ptime:60\r\n", 60),
        ("a=ptime:120\r\n", 60),
        ("a=ptime:5\r\n", 10),
        ("a=ptime:25\r\n", 20),
        ("a=ptime:30.5 \r\n", 30),
        ("a=maxptime:10\r\n", 10),
        ("a=ptime:60\r\na=maxptime:35\r\n", 30),
        ("a=ptime:20\r\na=maxptime:150\r\n", 20),
        ("a=maxptime:3\r\n", 10),
        *(
            (f"a=ptime:{value}\r\n", 20)
            for value in ("", "0", "-10", "x", "1e1", "99999999999", "10 30", "30.x", "\u0663")
        ),
        ("a=ptime:x\r\na=ptime:40\r\n", 40),
    ],
)
def test_the_packet_time_is_the_peer_s_wish_as_far_as_it_makes_sense(attributes: str, ptime_ms: int) -> None:
    media = f"m=audio 49170 RTP/AVP 0\r\n{attributes}"
    assert accept(media).agreement.ptime_ms == ptime_ms
    assert answer(media).media[0].attributes("ptime") == [str(ptime_ms)]
    assert answer(media).media[0].attributes("maxptime") == ["60"]


def test_a_packet_time_of_the_whole_session_counts_for_a_stream_without_its_own() -> None:
    session = "c=IN IP4 192.0.2.9\r\nt=0 0\r\na=ptime:30\r\n"
    assert accept("m=audio 49170 RTP/AVP 0\r\n", session).agreement.ptime_ms == 30
    assert accept("m=audio 49170 RTP/AVP 0\r\na=ptime:10\r\n", session).agreement.ptime_ms == 10


@pytest.mark.parametrize(
    ("attributes", "rtcp"),
    [
        ("", None),
        ("a=rtcp:49171\r\n", None),
        ("a=rtcp:53020\r\n", ("192.0.2.9", 53020)),
        ("a=rtcp:53020 IN IP4 192.0.2.7\r\n", ("192.0.2.7", 53020)),
        ("a=rtcp:53020 IN IP6 2001:db8::7\r\n", None),  # our socket is of the other kind
        ("a=rtcp:53020 IN IP4 224.0.0.1\r\n", None),
        ("a=rtcp:53020 IN IP4 host.example.com\r\n", None),
        ("a=rtcp:53020 IN IP4\r\n", None),
        ("a=rtcp:junk\r\n", None),
        ("a=rtcp:70000\r\n", None),
        ("a=rtcp:53\r\n", ("192.0.2.9", 0)),
        ("a=rtcp:53020\r\na=rtcp-mux\r\n", None),
    ],
)
def test_reports_go_to_the_next_port_or_to_where_the_peer_says(attributes: str, rtcp: tuple[str, int] | None) -> None:
    assert accept(f"m=audio 49170 RTP/AVP 0\r\n{attributes}").agreement.remote_rtcp == rtcp


def test_reports_never_go_to_a_port_that_is_none_or_to_our_signalling() -> None:
    assert accept("m=audio 65535 RTP/AVP 0\r\n").agreement.remote_rtcp == ("192.0.2.9", 0)
    terms = Terms(forbidden=(("192.0.2.9", 5060),))
    outcome = negotiation.accept(describe("m=audio 5059 RTP/AVP 0\r\n"), terms)
    assert isinstance(outcome, Accepted)
    assert outcome.agreement.remote_rtcp == ("192.0.2.9", 0)


def test_one_port_for_rtp_and_rtcp_is_answered_when_it_is_offered() -> None:
    media = "m=audio 49170 RTP/AVP 0\r\na=rtcp-mux\r\n"
    assert accept(media).agreement.rtcp_mux
    assert answer(media).media[0].attributes("rtcp-mux") == [""]
    assert not accept("m=audio 49170 RTP/AVP 0\r\n").agreement.rtcp_mux
    assert not answer("m=audio 49170 RTP/AVP 0\r\n").media[0].attributes("rtcp-mux")
    like_rtcp = "m=audio 49170 RTP/AVP 72\r\na=rtpmap:72 PCMU/8000\r\na=rtcp-mux\r\n"
    assert not accept(like_rtcp).agreement.rtcp_mux


def test_of_several_event_formats_the_first_at_our_clock_rate_is_taken() -> None:
    media = "m=audio 49170 RTP/AVP 0 96 97 98\r\n" + "".join(
        f"a=rtpmap:{number} telephone-event/{rate}\r\n" for number, rate in ((96, 16000), (97, 8000), (98, 8000))
    )
    assert accept(media).agreement.telephone_event == 97
    assert answer(media).media[0].formats == ("0", "97")


def test_avpf_is_answered_with_avpf() -> None:
    reply = answer("m=audio 49170 RTP/AVPF 0\r\na=rtcp-fb:* nack\r\n")
    assert reply.media[0].protocol == "RTP/AVPF"
    assert not reply.media[0].attributes("rtcp-fb")


@pytest.mark.parametrize("session", [True, False])
def test_an_ipv6_stream_is_answered_with_ipv6(session: bool) -> None:
    connection = "c=IN IP6 2001:DB8:0::9\r\n"
    offer = ("t=0 0\r\nm=audio 49170 RTP/AVP 0\r\n" + connection, connection + "t=0 0\r\nm=audio 49170 RTP/AVP 0\r\n")
    accepted = negotiation.accept(parse_untrusted((HEAD + offer[session]).encode()), Terms())
    assert isinstance(accepted, Accepted)
    assert accepted.agreement.remote == ("2001:db8::9", 49170)  # as the source of its packets is written
    reply = bytes(describing.answer(accepted, ("2001:db8::1", 40_000), Origin(5)))
    assert b"o=- 5 1 IN IP6 2001:db8::1\r\n" in reply
    assert b"c=IN IP6 2001:db8::1\r\n" in reply


@pytest.mark.parametrize("address", ["::1", "2001:db8::9", "fd00::9", "64:ff9b::c000:209"])
def test_audio_may_go_to_every_ipv6_unicast_address(address: str) -> None:
    assert accept(f"m=audio 49170 RTP/AVP 0\r\nc=IN IP6 {address}\r\n").agreement.remote[0] == address


def test_a_stream_of_another_kind_does_not_stand_in_the_way_of_one_that_will_do() -> None:
    reply = answer("m=audio 6000 UDP/TLS/RTP/SAVPF 0\r\nm=audio 6002 RTP/AVP 18\r\nm=audio 6004 RTP/AVP 8\r\n")
    assert [media.port for media in reply.media] == [0, 0, 40_000]
    assert reply.media[0].protocol == "UDP/TLS/RTP/SAVPF"
