from __future__ import annotations

from itertools import count
from typing import Final

import pytest

from aivc.sip.leg import SrtpKeys
from aivc.sip.negotiation import Accepted, Origin, Refused, SrtpPolicy
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.sdes import Crypto, usable
from aivc.sip.sdp import SessionDescription, parse_untrusted

HEAD = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
CLEAR = "m=audio 49170 RTP/AVP 0\r\n"
SECURE = "m=audio 49170 RTP/SAVP 0\r\n"
LONG: Final = "AES_CM_128_HMAC_SHA1_80"
SHORT: Final = "AES_CM_128_HMAC_SHA1_32"
FIRST, SECOND = b"\1" * 30, b"\2" * 30  # our keys, in the order of need
THEIRS, OTHERS = b"T" * 30, b"O" * 30


def key(tag: int, suite: str = LONG, octets: bytes = THEIRS, more: str = "") -> str:
    written = Crypto(tag, "AES_CM_128_HMAC_SHA1_80", octets).line().value.split(" ")[2]
    return f"a=crypto:{tag} {suite} {written}{more}\r\n"


def session(srtp: SrtpPolicy) -> OfferAnswer:
    numbers = count(1)
    ours = OfferAnswer(("192.0.2.1", 5060), Origin(5), srtp, lambda: bytes([next(numbers)]) * 30)
    ours.local = ("192.0.2.1", 40_000)
    return ours


def read(ours: OfferAnswer, media: str) -> Accepted:
    outcome = ours.read((HEAD + media).encode())
    assert isinstance(outcome, Accepted), outcome
    return outcome


def refuse(ours: OfferAnswer, media: str) -> Refused:
    outcome = ours.read((HEAD + media).encode())
    assert isinstance(outcome, Refused)
    return outcome


def exchange(ours: OfferAnswer, media: str) -> SessionDescription:
    accepted = read(ours, media)
    ours.take(accepted)
    return parse_untrusted(ours.answer(accepted))


@pytest.mark.parametrize("policy", ["optional", "required"])
@pytest.mark.parametrize("protocol", ["RTP/SAVP", "RTP/SAVPF"])
def test_a_secure_offer_is_answered_with_its_tag_and_a_key_of_ours(policy: SrtpPolicy, protocol: str) -> None:
    ours = session(policy)
    (audio,) = exchange(ours, f"m=audio 49170 {protocol} 0\r\n" + key(3, SHORT) + key(4)).media
    assert (audio.protocol, audio.port) == (protocol, 40_000)
    assert usable(audio.attributes("crypto")) == (Crypto(3, SHORT, FIRST),)
    assert ours.agreement.srtp == SrtpKeys(SHORT, FIRST, THEIRS)


def test_lines_that_we_cannot_do_are_passed_over() -> None:
    lines = (
        key(1, "AES_256_CM_HMAC_SHA1_80")
        + key(2, more="|2^20|1:4")
        + key(3, more=" UNENCRYPTED_SRTP")
        + key(4, more="|2^31")
    )
    (audio,) = exchange(session("optional"), SECURE + lines).media
    assert [crypto.tag for crypto in usable(audio.attributes("crypto"))] == [4]


@pytest.mark.parametrize("policy", ["optional", "required"])
@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        ("", "there is none"),
        (key(1, "AES_256_CM_HMAC_SHA1_80"), "suite"),
        (key(1, more="|1:4"), "MKI"),
        (key(1, more=" UNENCRYPTED_SRTCP"), "session parameter"),
    ],
)
def test_a_secure_offer_without_a_key_for_us_is_refused(policy: SrtpPolicy, lines: str, cause: str) -> None:
    refused = refuse(session(policy), SECURE + lines)
    assert cause in refused.cause
    assert refused.warning == 302


def test_with_srtp_off_a_secure_stream_is_refused_and_a_clear_one_beside_it_taken() -> None:
    refused = refuse(session("off"), SECURE + key(1))
    assert (refused.warning, "rtp.srtp is off" in refused.cause) == (302, True)
    both = exchange(session("off"), SECURE + key(1) + CLEAR)
    assert [(media.protocol, media.port) for media in both.media] == [("RTP/SAVP", 0), ("RTP/AVP", 40_000)]


def test_with_srtp_required_a_clear_offer_is_refused_with_what_to_change() -> None:
    refused = refuse(session("required"), CLEAR)
    assert refused == Refused("SRTP is required here (rtp.srtp): offer RTP/SAVP with a=crypto", 302)
    both = exchange(session("required"), CLEAR + SECURE + key(1))
    assert [(media.protocol, media.port) for media in both.media] == [("RTP/AVP", 0), ("RTP/SAVP", 40_000)]


def test_with_srtp_optional_a_clear_offer_is_taken_in_the_clear() -> None:
    ours = session("optional")
    assert not exchange(ours, CLEAR).media[0].attributes("crypto")
    assert ours.agreement.srtp is None


@pytest.mark.parametrize(("policy", "encrypted"), [("off", False), ("optional", True), ("required", True)])
def test_keys_in_a_clear_profile_are_opportunistic_srtp(policy: SrtpPolicy, encrypted: bool) -> None:
    ours = session(policy)
    (audio,) = exchange(ours, CLEAR + key(1)).media
    assert audio.protocol == "RTP/AVP"
    assert bool(audio.attributes("crypto")) == (ours.agreement.srtp is not None) == encrypted


def test_useless_keys_in_a_clear_profile_count_only_where_srtp_is_required() -> None:
    ours = session("optional")
    exchange(ours, CLEAR + key(1, more="|1:4"))
    assert ours.agreement.srtp is None
    assert "MKI" in refuse(session("required"), CLEAR + key(1, more="|1:4")).cause


def test_our_key_stays_while_the_peer_keeps_its_own() -> None:
    ours = session("optional")
    first = exchange(ours, SECURE + key(1))
    assert exchange(ours, SECURE + key(1)) == first
    exchange(ours, SECURE + key(1) + "a=sendonly\r\n")
    assert ours.agreement.srtp == SrtpKeys(LONG, FIRST, THEIRS)


@pytest.mark.parametrize("line", [key(1, octets=OTHERS), key(2, SHORT)])
def test_a_new_key_or_suite_of_the_peer_gets_a_new_key_of_ours(line: str) -> None:
    ours = session("optional")
    exchange(ours, SECURE + key(1))
    (audio,) = exchange(ours, SECURE + line).media
    assert ours.agreement.srtp is not None
    assert ours.agreement.srtp.local == SECOND
    assert usable(audio.attributes("crypto"))[0].key == SECOND


def test_our_own_offer_has_both_suites_when_srtp_is_required() -> None:
    ours = session("required")
    (audio,) = parse_untrusted(ours.offer("PCMA")).media
    assert audio.protocol == "RTP/SAVP"
    assert usable(audio.attributes("crypto")) == (Crypto(1, LONG, FIRST), Crypto(2, SHORT, SECOND))
    assert ours.offer() == ours.offer()
    ours.take(read(ours, "m=audio 49170 RTP/SAVP 8\r\n" + key(2, SHORT)))
    assert ours.agreement.srtp == SrtpKeys(SHORT, SECOND, THEIRS)
    (later,) = parse_untrusted(ours.offer()).media
    assert usable(later.attributes("crypto")) == (Crypto(2, SHORT, SECOND),)


@pytest.mark.parametrize("policy", ["off", "optional"])
def test_our_own_offer_is_clear_when_srtp_is_not_required(policy: SrtpPolicy) -> None:
    ours = session(policy)
    assert b"RTP/AVP" in ours.offer()
    assert b"crypto" not in ours.offer()
    ours.take(read(ours, CLEAR + key(1)))  # keys that answer none are none
    assert ours.agreement.srtp is None


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (CLEAR, "another profile"),
        (CLEAR + key(1), "another profile"),
        (SECURE, "there is none"),
        (SECURE + key(3), "not offered"),
        (SECURE + key(1, SHORT), "not offered"),
        (SECURE + key(1, more=" UNENCRYPTED_SRTP"), "session parameter"),
    ],
)
def test_an_answer_that_does_not_fit_our_secure_offer_is_refused(answer: str, cause: str) -> None:
    ours = session("required")
    ours.offer()
    assert cause in refuse(ours, answer).cause


def test_a_refresh_repeats_our_key_and_the_answer_may_bring_a_new_one() -> None:
    ours = session("required")
    answer = exchange(ours, SECURE + key(7))
    assert ours.repeat() == bytes(answer)
    assert ours.take(read(ours, SECURE + key(7, octets=OTHERS)))
    assert ours.agreement.srtp == SrtpKeys(LONG, FIRST, OTHERS)


def test_keys_survive_a_stream_that_is_taken_away_for_a_while() -> None:
    ours = session("required")
    exchange(ours, SECURE + key(1))
    exchange(ours, SECURE.replace("49170", "0"))
    assert b"inline" in ours.offer()
    ours.withdraw()
    exchange(ours, SECURE + key(1))
    assert ours.agreement.srtp == SrtpKeys(LONG, FIRST, THEIRS)


def test_keys_are_shown_to_nobody() -> None:
    ours = session("required")
    accepted = read(ours, SECURE + key(1) + "k=base64:VFRU\r\n")
    ours.take(accepted)
    shown = repr(accepted) + repr(ours) + repr(ours.agreement) + repr(parse_untrusted(ours.answer(accepted)))
    assert not any(secret in shown for secret in ("VFRU", "AQEB", "TTTT", "\\x01"))
    assert "crypto:..." in shown


def test_srtp_needs_a_source_of_keys() -> None:
    with pytest.raises(ValueError, match="new_key"):
        OfferAnswer(("192.0.2.1", 5060), Origin(5), "optional")
