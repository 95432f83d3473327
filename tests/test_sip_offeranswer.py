from __future__ import annotations

from itertools import count

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aivc.sip import describing
from aivc.sip.leg import AudioAgreement, SrtpKeys
from aivc.sip.negotiation import Accepted, Origin, Refused, SrtpPolicy
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.sdp import Media, SdpError, SessionDescription, parse_untrusted

LOCAL = ("192.0.2.1", 40_000)
HEAD = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
AUDIO = "m=audio 49170 RTP/AVP 0\r\n"


def session(srtp: SrtpPolicy = "off") -> OfferAnswer:
    numbers = count(1)
    ours = OfferAnswer(("192.0.2.1", 5060), Origin(5), srtp, lambda: bytes([next(numbers)]) * 30)
    ours.local = LOCAL
    return ours


def read(ours: OfferAnswer, media: str) -> Accepted:
    outcome = ours.read((HEAD + media).encode())
    assert isinstance(outcome, Accepted), outcome
    return outcome


def refuse(ours: OfferAnswer, media: str) -> str:
    outcome = ours.read((HEAD + media).encode())
    assert isinstance(outcome, Refused)
    return outcome.cause


def exchange(ours: OfferAnswer, media: str) -> SessionDescription:
    """The peer offers, and gets this answer."""
    accepted = read(ours, media)
    ours.take(accepted)
    return parse_untrusted(ours.answer(accepted))


def version(body: bytes | SessionDescription) -> tuple[str, str]:
    """Session id and version of the o= line."""
    described = body if isinstance(body, SessionDescription) else parse_untrusted(body)
    _, session_id, number, *_ = described.lines[1].value.split(" ")
    return session_id, number


def test_the_first_offer_is_agreed_when_it_is_taken() -> None:
    ours = session()
    accepted = read(ours, "m=audio 49170 RTP/AVP 8\r\n")
    assert (ours.agreement.codec, ours.agreement.remote) == ("PCMU", ("0.0.0.0", 0))
    assert ours.take(accepted)
    assert ours.agreement == AudioAgreement("PCMA", 8, ("192.0.2.9", 49170))
    assert not ours.take(accepted)


def test_hold_resume_and_move_each_change_the_agreement_and_the_version() -> None:
    ours = session()
    versions = []
    for media in (AUDIO, AUDIO, AUDIO + "a=sendonly\r\n", AUDIO, AUDIO.replace("49170", "6000")):
        before = ours.agreement
        versions.append(version(exchange(ours, media)))
        assert (ours.agreement == before) == (len(versions) == 2)
    assert versions == [("5", "1"), ("5", "1"), ("5", "2"), ("5", "3"), ("5", "3")]


def test_an_answer_asked_for_again_is_the_same() -> None:
    ours = session()
    accepted = read(ours, AUDIO)
    assert ours.answer(accepted) == ours.answer(accepted)


def test_a_codec_is_kept_and_another_one_refused() -> None:
    ours = session()
    exchange(ours, "m=audio 49170 RTP/AVP 0 8\r\n")
    assert read(ours, "m=audio 49170 RTP/AVP 8 0\r\n").agreement.codec == "PCMU"
    assert refuse(ours, "m=audio 49170 RTP/AVP 8\r\n") == "this call stays with PCMU"
    assert ours.agreement.payload_type == 0


def test_a_late_offer_is_answered_by_the_peer() -> None:
    ours = session()
    offer = parse_untrusted(ours.offer())
    assert [media.formats for media in offer.media] == [("0", "101")]
    assert ours.offer() == bytes(offer)
    accepted = read(ours, "m=audio 49170 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n")
    assert ours.take(accepted)
    assert ours.agreement == AudioAgreement("PCMU", 0, ("192.0.2.9", 49170), 101, may_send=False)


def test_an_offer_can_name_the_codec_before_anything_is_agreed() -> None:
    ours = session()
    assert parse_untrusted(ours.offer("PCMA")).media[0].formats == ("8", "101")
    assert refuse(ours, AUDIO) == "this call stays with PCMA"
    ours.offer("PCMA")
    assert ours.take(read(ours, "m=audio 49170 RTP/AVP 8\r\n"))
    assert parse_untrusted(ours.offer("PCMU")).media[0].formats[0] == "8"


@pytest.mark.parametrize(
    "media",
    ["", "m=video 6000 RTP/AVP 31\r\n", "m=audio 0 RTP/AVP 0\r\n", "m=video 0 RTP/AVP 31\r\n" + AUDIO],
)
def test_an_answer_without_our_audio_in_its_place_is_no_answer(media: str) -> None:
    ours = session()
    ours.offer()
    assert refuse(ours, media)


def test_after_a_useless_answer_the_next_description_is_an_offer() -> None:
    ours = session()
    ours.offer()
    with pytest.raises(SdpError):
        ours.read(b"junk")
    assert read(ours, "m=audio 49170 RTP/AVP 8\r\n").agreement.codec == "PCMA"


def test_after_a_failed_request_with_our_offer_the_next_description_is_an_offer() -> None:
    ours = session()
    ours.offer()
    ours.withdraw()
    assert read(ours, "m=video 0 RTP/AVP 31\r\nm=audio 49170 RTP/AVP 8\r\n").index == 1


def test_streams_keep_their_places_in_our_offers() -> None:
    ours = session()
    exchange(ours, "m=video 6000 RTP/AVP 31\r\nm=audio 49170 RTP/AVP 0\r\nm=text 6002 RTP/AVP 98\r\n")
    offer = parse_untrusted(ours.offer())
    assert [(media.kind, media.port) for media in offer.media] == [("video", 0), ("audio", 40_000), ("text", 0)]
    assert version(offer) == ("5", "2")  # events are offered that were not asked for
    assert refuse(ours, AUDIO)  # fewer streams than our offer has


def test_streams_come_and_go_in_later_offers() -> None:
    ours = session()
    exchange(ours, AUDIO)
    two = exchange(ours, AUDIO + "m=video 6000 RTP/AVP 31\r\n")
    assert [media.port for media in two.media] == [40_000, 0]
    second = exchange(ours, "m=audio 6002 RTP/AVP 0\r\nm=audio 6004 RTP/AVP 0\r\n")
    assert [media.port for media in second.media] == [40_000, 0]
    moved = exchange(ours, "m=audio 0 RTP/AVP 0\r\nm=audio 6004 RTP/AVP 0\r\n")
    assert [media.port for media in moved.media] == [0, 40_000]
    stays = exchange(ours, "m=audio 6006 RTP/AVP 0\r\nm=audio 6004 RTP/AVP 0\r\n")
    assert [media.port for media in stays.media] == [0, 40_000]


def test_a_stream_taken_away_leaves_a_silent_call_that_can_speak_again() -> None:
    ours = session()
    exchange(ours, "m=video 0 RTP/AVP 31\r\n" + AUDIO)
    silent = exchange(ours, "m=video 0 RTP/AVP 31\r\nm=audio 0 RTP/AVP 0\r\n")
    assert [media.port for media in silent.media] == [0, 0]
    assert (ours.agreement.remote, ours.agreement.may_send) == (("192.0.2.9", 0), False)
    offer = parse_untrusted(ours.offer())
    assert [(media.kind, media.port) for media in offer.media] == [("video", 0), ("audio", 40_000)]
    ours.take(read(ours, "m=video 0 RTP/AVP 31\r\n" + AUDIO))
    assert ours.agreement.may_send


def test_a_refresh_repeats_our_description_octet_by_octet() -> None:
    ours = session()
    answer = exchange(ours, AUDIO + "a=sendonly\r\na=rtcp-mux\r\n")
    assert ours.repeat() == bytes(answer) == ours.repeat()
    ours.take(read(ours, AUDIO + "a=sendonly\r\na=rtcp-mux\r\n"))
    assert ours.agreement.rtcp_mux
    assert session().repeat() == session().offer()


def test_a_port_for_both_is_offered_only_once_it_is_in_force() -> None:
    ours = session()
    assert b"rtcp-mux" not in ours.offer()
    assert not read(ours, AUDIO + "a=rtcp-mux\r\n").agreement.rtcp_mux
    exchange(ours, AUDIO + "a=rtcp-mux\r\n")
    assert b"a=rtcp-mux\r\n" in ours.offer()


def test_our_descriptions_have_the_address_family_of_our_socket() -> None:
    ours = session()
    ours.local = ("2001:db8::1", 40_000)
    assert b"IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\n" in ours.offer()


OFFERED_LINES = st.sampled_from(
    [
        *(f"a=rtpmap:{number} {name}" for number in (0, 8, 96, 101) for name in ("PCMU/8000", "telephone-event/8000")),
        *("a=ptime:30", "a=maxptime:15", "a=rtcp:9", "a=rtcp-mux", "a=sendonly", "a=inactive", "a=recvonly", "a=mid:1"),
        *("c=IN IP6 ::", "c=IN IP6 2001:db8::7", "c=IN IP4 0.0.0.0", "c=IN IP4 192.0.2.8", "c=IN IP4 239.1.1.1"),
        *(f"a=crypto:{tag} AES_CM_128_HMAC_SHA1_{bits} inline:{'A' * 40}" for tag in (1, 2) for bits in (32, 80)),
    ]
)
OFFERED_MEDIA = st.builds(
    lambda kind, port, protocol, formats, lines: "\r\n".join([f"m={kind} {port} {protocol} {formats}", *lines, ""]),
    st.sampled_from(["audio", "audio", "audio", "video"]),
    st.sampled_from([49170, 49170, 65535, 0, 53]),
    st.sampled_from(["RTP/AVP", "RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVPF"]),
    st.lists(st.sampled_from(["0", "8", "96", "101", "18", "x"]), min_size=1, max_size=5).map(" ".join),
    st.lists(OFFERED_LINES, max_size=6),
)
POLICIES = st.sampled_from(["off", "optional", "required"])


def check_answer(theirs: Media, ours: Media) -> None:
    assert (ours.kind, ours.protocol) == (theirs.kind, theirs.protocol)
    assert set(ours.formats) <= set(theirs.formats)
    assert theirs.port or not ours.port
    tags = {value.split()[0] for value in theirs.attributes("crypto")}
    assert {value.split()[0] for value in ours.attributes("crypto")} <= tags
    assert not ours.port or "SAVP" not in ours.protocol or len(ours.attributes("crypto")) == 1


@settings(max_examples=200)
@given(POLICIES, st.lists(st.lists(OFFERED_MEDIA, max_size=4), min_size=1, max_size=4))
def test_every_offer_is_refused_or_answered_in_its_own_words(srtp: SrtpPolicy, offers: list[list[str]]) -> None:
    ours = session(srtp)
    for media in offers:
        offer = parse_untrusted((HEAD + "".join(media)).encode())
        outcome = ours.read(bytes(offer))
        if isinstance(outcome, Accepted):
            ours.take(outcome)
            answer = parse_untrusted(ours.answer(outcome))
            assert len(answer.media) == len(offer.media)
            assert sum(1 for stream in answer.media if stream.port) <= 1
            for theirs, mine in zip(offer.media, answer.media, strict=True):
                check_answer(theirs, mine)
            assert srtp != "required" or ours.agreement.srtp is not None
            assert parse_untrusted(ours.repeat()) == answer
            ours.withdraw()


@given(POLICIES, st.sampled_from(["PCMU", "PCMA"]))
def test_two_of_us_agree(srtp: SrtpPolicy, codec: str) -> None:
    caller, called = session(srtp), session(srtp)
    called.local = ("192.0.2.2", 40_002)
    offer = caller.offer("PCMU" if codec == "PCMU" else "PCMA")
    accepted = called.read(offer)
    assert isinstance(accepted, Accepted)
    called.take(accepted)
    outcome = caller.read(called.answer(accepted))
    assert isinstance(outcome, Accepted)
    caller.take(outcome)
    assert caller.agreement.codec == called.agreement.codec == codec
    assert (caller.agreement.remote, called.agreement.remote) == (called.local, LOCAL)
    here, there = caller.agreement.srtp, called.agreement.srtp
    if srtp == "required":
        assert isinstance(here, SrtpKeys)
        assert there == attrs.evolve(here, local=here.remote, remote=here.local)
    else:
        assert here is there is None


def test_a_stream_that_is_not_there_any_more_is_offered_anew() -> None:
    previous = parse_untrusted(HEAD.encode())
    agreement = AudioAgreement("PCMU", 0, ("192.0.2.9", 49170))
    assert len(describing.offer(agreement, LOCAL, Origin(5), previous, 2).media) == 1


@pytest.mark.parametrize(
    ("local", "first", "then"),
    [("192.0.2.1", "IP4 192.0.2.9", "IP6 2001:db8::9"), ("2001:db8::1", "IP6 2001:db8::9", "IP4 192.0.2.9")],
)
def test_a_call_whose_audio_would_move_to_the_other_address_family_stays_as_it_is(
    local: str, first: str, then: str
) -> None:
    ours = OfferAnswer((local, 5060), Origin(1))
    offer = ours.read(described(first))
    assert isinstance(offer, Accepted)
    ours.local = (local, 40_000)
    ours.take(offer)
    ours.answer(offer)
    moved = ours.read(described(then))
    assert isinstance(moved, Refused)
    assert moved.warning == 301
    assert isinstance(ours.read(described("IP4 0.0.0.0")), Accepted)  # that is hold, whatever the family


def described(connection: str) -> bytes:
    return HEAD.replace("IP4 192.0.2.9", connection).encode() + AUDIO.encode()


def test_the_answer_to_our_offer_may_have_other_numbers_for_what_we_send() -> None:
    """RFC 3264 section 6.1: the peer sends with the numbers of our offer, we with those of its answer."""
    ours = session()
    ours.offer("PCMU")
    events = "a=rtpmap:97 pcmu/8000\r\na=rtpmap:96 telephone-event/8000\r\n"
    ours.take(read(ours, f"m=audio 49170 RTP/AVP 97 96\r\n{events}"))
    agreed = ours.agreement
    assert (agreed.payload_type, agreed.telephone_event) == (97, 96)
    assert (agreed.own_payload_type, agreed.own_telephone_event) == (0, 101)
    assert parse_untrusted(ours.offer()).media[0].formats == ("0", "101")
    ours.withdraw()
    exchange(ours, f"m=audio 49170 RTP/AVP 97 96\r\n{events}")
    assert (ours.agreement.own_payload_type, ours.agreement.own_telephone_event) == (None, None)


def test_events_that_the_answer_does_not_have_are_not_read_either() -> None:
    ours = session()
    ours.offer()
    accepted = read(ours, AUDIO)
    assert (accepted.agreement.telephone_event, accepted.agreement.own_telephone_event) == (None, None)


def test_a_port_for_both_is_not_agreed_to_without_rtcp() -> None:
    ours = OfferAnswer(("192.0.2.1", 5060), Origin(5), rtcp=False)
    ours.local = LOCAL
    assert b"rtcp-mux" not in bytes(exchange(ours, AUDIO + "a=rtcp-mux\r\n"))
    assert not ours.agreement.rtcp_mux
