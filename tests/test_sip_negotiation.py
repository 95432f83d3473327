from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from aivc.sip import negotiation
from aivc.sip.leg import AudioAgreement
from aivc.sip.negotiation import Accepted, Origin, Refused
from aivc.sip.sdp import SessionDescription, parse_untrusted

DATA = Path(os.environ.get("AIVC_TEST_DATA", "/nonexistent"))
LOCAL = ("192.0.2.1", 40_000)
HEAD = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\n"


def describe(media: str, session: str = "c=IN IP4 192.0.2.9\r\nt=0 0\r\n") -> SessionDescription:
    return parse_untrusted((HEAD + session + media).encode())


def accept(media: str, session: str = "c=IN IP4 192.0.2.9\r\nt=0 0\r\n") -> Accepted:
    outcome = negotiation.accept(describe(media, session))
    assert isinstance(outcome, Accepted), outcome
    return outcome


def refuse(media: str, session: str = "c=IN IP4 192.0.2.9\r\nt=0 0\r\n") -> Refused:
    outcome = negotiation.accept(describe(media, session))
    assert isinstance(outcome, Refused), outcome
    return outcome


def answer(media: str) -> SessionDescription:
    return negotiation.answer(accept(media), LOCAL, Origin(5))


def vectors() -> list[dict[str, Any]]:
    path = DATA / "sdp" / "vectors.json"
    return json.loads(path.read_text()) if path.is_file() else []


@pytest.mark.skipif(not DATA.is_dir(), reason="AIVC_TEST_DATA names no folder of test messages")
@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["id"])
def test_each_example_offer_gets_an_answer_of_the_right_shape(vector: dict[str, Any]) -> None:
    offer = parse_untrusted(vector["offer"].encode())
    outcome = negotiation.accept(offer)
    expected = vector["expect"]
    if isinstance(outcome, Refused):
        assert expected in (488, "any", [])
        return
    assert expected != 488
    reply = parse_untrusted(bytes(negotiation.answer(outcome, LOCAL, Origin(5))))
    assert len(reply.media) == len(offer.media)
    for theirs, ours, shape in zip(offer.media, reply.media, expected if expected != "any" else ["any"], strict=True):
        assert ours.kind == theirs.kind
        assert set(ours.formats) <= set(theirs.formats)
        if shape != "any":
            assert (ours.port > 0) == (shape["port"] != 0)
            assert set(ours.formats) <= set(shape.get("formats_subset", ours.formats)) or not ours.port
            assert reply.direction_for(ours) in shape.get("direction", [reply.direction_for(ours)])


def test_the_answer_is_one_stream_with_only_what_was_offered() -> None:
    assert bytes(answer("m=audio 49170 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\n")).decode() == (
        "v=0\r\no=- 5 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
        "m=audio 40000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
        "a=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
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
        "rtcp-mux",
        "fingerprint:sha-1 A",
        "ssrc:1",
    )
    reply = bytes(answer("m=audio 49170 RTP/AVP 0\r\n" + "".join(f"a={extra}\r\n" for extra in extras)))
    assert not any(word in reply for word in (b"ice", b"candidate", b"mux", b"fingerprint", b"ssrc"))


def test_the_time_of_the_offer_is_repeated() -> None:
    accepted = accept("m=audio 49170 RTP/AVP 0\r\n", "c=IN IP4 192.0.2.9\r\nt=3149328700 0\r\n")
    assert negotiation.answer(accepted, LOCAL, Origin(5)).timing == "3149328700 0"


@pytest.mark.parametrize(
    ("media", "cause", "code"),
    [
        ("", "no audio stream", 304),
        ("m=video 4000 RTP/AVP 31\r\n", "no audio stream", 304),
        ("m=audio 0 RTP/AVP 0\r\n", "port 0", 304),
        ("m=audio 49170 RTP/AVP 18\r\n", "neither PCMU nor PCMA", 305),
        ("m=audio 49170 RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\n", "neither PCMU nor PCMA", 305),
        ("m=audio 49170 RTP/SAVP 0\r\n", "only RTP/AVP", 302),
        ("m=audio 49170 UDP/TLS/RTP/SAVPF 0\r\n", "only RTP/AVP", 302),
        ("m=audio 49170 RTP/AVP 0\r\nc=IN IP6 2001:db8::1\r\n", "only IPv4", 300),
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
    assert isinstance(negotiation.accept(offer, forbidden=[("192.0.2.9", 5060)]), Refused)
    assert isinstance(negotiation.accept(offer, forbidden=[("192.0.2.1", 5060)]), Accepted)


def test_a_stream_taken_away_later_leaves_a_silent_call() -> None:
    current = AudioAgreement("PCMA", 8, ("192.0.2.9", 49170), 101)
    outcome = negotiation.accept(describe("m=audio 0 RTP/AVP 8\r\n"), current=current)
    assert isinstance(outcome, Accepted)
    assert outcome.agreement == AudioAgreement("PCMA", 8, ("192.0.2.9", 0), 101, may_send=False, may_receive=False)
    assert negotiation.answer(outcome, LOCAL, Origin(5)).media[0].port == 0


def test_our_offer_names_the_codec_in_force_alone_and_keeps_the_places() -> None:
    previous = answer("m=video 4000 RTP/AVP 31\r\nm=audio 49170 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/8000\r\n")
    agreement = AudioAgreement("PCMA", 8, ("192.0.2.9", 49170), 96, may_send=False)
    video, audio = negotiation.offer(agreement, LOCAL, Origin(5, 2), previous).media
    assert (video.kind, video.port) == ("video", 0)
    assert (audio.formats, audio.direction, audio.port) == (("8", "96"), "sendrecv", 40_000)


def test_our_first_offer_has_pcmu_and_events() -> None:
    offer = negotiation.offer(negotiation.tentative_agreement(), LOCAL, Origin(5), None)
    assert offer.media[0].formats == ("0", "101")
    outcome = negotiation.accept(offer)
    assert isinstance(outcome, Accepted)
    assert outcome.agreement == AudioAgreement("PCMU", 0, LOCAL, 101)


def test_the_codec_of_a_call_stays_whatever_a_later_offer_prefers() -> None:
    current = AudioAgreement("PCMU", 0, ("192.0.2.9", 49170))
    both = negotiation.accept(describe("m=audio 6000 RTP/AVP 8 0\r\n"), current=current)
    assert isinstance(both, Accepted)
    assert both.agreement == AudioAgreement("PCMU", 0, ("192.0.2.9", 6000))
    other = negotiation.accept(describe("m=audio 6000 RTP/AVP 8\r\n"), current=current)
    assert isinstance(other, Refused)
    assert other.cause == "this call stays with PCMU"
