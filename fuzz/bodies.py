"""What SIP messages carry: session descriptions with offer and answer, keys, and reports of transfers."""

from __future__ import annotations

import ipaddress
from typing import Final

import attrs

from aivc.config.settings import Address
from aivc.sip import info, sdes, sdp
from aivc.sip.info import KEYS, InfoError
from aivc.sip.leg import AudioAgreement
from aivc.sip.message import Headers
from aivc.sip.multipart import find_part
from aivc.sip.negotiation import Accepted, Origin, SrtpPolicy
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.referral import (
    MAX_PHRASE_CHARS,
    SIPFRAG_TYPE,
    Subscriptions,
    parse_sipfrag,
    read_notify,
)
from aivc.sip.referred import sipfrag
from aivc.sip.scanner import AddressError
from aivc.sip.sdes import Crypto, SdesError
from aivc.sip.sdp import SdpError
from fuzz.choices import Choices
from fuzz.lines import check_body, check_line
from fuzz.messages import HEADERS, INVITE
from fuzz.target import Target, only

OUR_SIP: Final[Address] = ("192.0.2.1", 5060)
OUR_RTP: Final[Address] = ("192.0.2.1", 40_000)
POLICIES: Final[tuple[SrtpPolicy, ...]] = ("off", "optional", "required")


def session(data: bytes) -> None:
    """An offer, the same again, and another; and all of it as the answer to an offer of ours."""
    choices = Choices(data)
    policy, by_us = choices.one_of(POLICIES), choices.number(2)
    first, _, second = choices.rest().partition(b"\n\n")
    for body in (first, second):
        description = only(SdpError, sdp.parse_untrusted, body)
        assert description is None or sdp.parse_untrusted(bytes(description)) == description
    media = OfferAnswer(OUR_SIP, Origin(1), policy, lambda: b"k" * sdes.KEY_OCTETS)
    media.local = OUR_RTP
    if by_us:
        check_body(media.offer())
    for body in (first, first, second, first):
        accepted = only(SdpError, media.read, body)
        if isinstance(accepted, Accepted):
            check_agreement(accepted.agreement, policy)
            media.take(accepted)
            check_answer(media, accepted)
        check_body(media.repeat() if by_us else media.offer())
        if not by_us:
            media.withdraw()


def check_answer(media: OfferAnswer, offer: Accepted) -> None:
    """It fits the offer (RFC 3264 section 6), and the same offer changes nothing."""
    body = media.answer(offer)
    check_body(body)
    assert media.answer(offer) == body
    answer, asked = sdp.parse_untrusted(body), offer.description
    assert [each.kind for each in answer.media] == [each.kind for each in asked.media]
    assert [each.protocol for each in answer.media] == [each.protocol for each in asked.media]
    for index, (ours, theirs) in enumerate(zip(answer.media, asked.media, strict=True)):
        assert set(ours.formats) <= set(theirs.formats)
        assert ours.port == (OUR_RTP[1] if index == offer.index and theirs.port else 0)
    assert not media.take(offer)


def check_agreement(agreed: AudioAgreement, policy: SrtpPolicy) -> None:
    """No audio is aimed at many, at us, or at other services; no key is left out where one is required."""
    for address in (agreed.remote, agreed.remote_rtcp or agreed.remote):
        ip = ipaddress.ip_address(address[0])
        assert not ip.is_multicast
        assert address[0] != "255.255.255.255"
        assert address != OUR_SIP
        assert ip.is_unspecified or address[1] == 0 or 1024 <= address[1] <= 65_535
        assert not (ip.is_unspecified and agreed.may_send)
    assert 10 <= agreed.ptime_ms <= 60
    assert agreed.ptime_ms % 10 == 0
    assert 0 <= agreed.payload_type <= 127
    assert policy != "off" or agreed.srtp is None
    assert policy != "required" or agreed.srtp is not None


def crypto(data: bytes) -> None:
    """One a=crypto value: what can be used is written and read as the same; no error tells of its key."""
    text = data.decode("latin-1")
    try:
        read = sdes.parse_untrusted(text)
    except SdesError as error:
        if any(word in str(error) for word in text.split() if len(word) >= sdes.KEY_CHARACTERS):
            raise AssertionError("an error tells of a key") from error
        return
    assert len(read.key) == sdes.KEY_OCTETS
    line = read.line()
    check_line(str(line).removesuffix("\r\n").encode("latin-1"))
    assert sdes.parse_untrusted(line.value.removeprefix("crypto:")) == read
    assert read.line().value not in repr(read)
    assert all(isinstance(each, Crypto) for each in sdes.usable([text, text]))


def key_info(data: bytes) -> None:
    """The body of an INFO: a key, the hook, or an error."""
    pressed = only(InfoError, info.parse_untrusted, data)
    if pressed is not None:
        assert pressed.digit in KEYS
        assert 0 <= pressed.duration_ms <= info.MAX_DURATION_MS


def notify(data: bytes) -> None:
    """A report of a transfer: Event, Subscription-State and body, each on its own and all together."""
    choices = Choices(data)
    event, state, body = choices.piece(), choices.piece(), choices.rest()
    found = only(AddressError, parse_sipfrag, body)
    if found is not None:
        status, phrase = found
        assert 100 <= status <= 699
        assert phrase.isprintable()
        assert len(phrase) <= MAX_PHRASE_CHARS
        check_line(sipfrag(status, phrase).removesuffix(b"\r\n"))
    fields = ("Event", header(event)), ("Subscription-State", header(state)), ("Content-Type", SIPFRAG_TYPE)
    request = attrs.evolve(INVITE, method="NOTIFY", headers=Headers((*HEADERS, *fields)), body=body)
    read_notify(request)
    subscriptions = Subscriptions()
    subscriptions.begin(1)
    subscriptions.take_notify(request)
    subscriptions.close("over")


def parts(data: bytes) -> None:
    """A body of several parts, of any boundary: what is found in it is part of it."""
    choices = Choices(data)
    content_type, body = header(choices.piece()), choices.rest()
    found = find_part(content_type, body, "application/sdp")
    assert found is None or found in body


def header(octets: bytes) -> str:
    """As the value of a header can be: one line."""
    return octets.translate(None, b"\r\n\0").decode("latin-1").strip(" \t")


TARGETS: Final = (
    Target("session", session, 20_000, 400),
    Target("crypto", crypto, 512),
    Target("info", key_info, 512),
    Target("notify", notify, 2048),
    Target("parts", parts, 2048),
)
