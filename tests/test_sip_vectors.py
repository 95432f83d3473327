"""Offers modelled on RFC 4317, and the shape that the answer to each must have."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import attrs
import pytest

from aivc.sip.leg import AudioAgreement
from aivc.sip.negotiation import Accepted, Origin
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.sdp import Media, SessionDescription, parse_untrusted

DATA = Path(os.environ.get("AIVC_TEST_DATA", "/nonexistent"))
LOCAL = ("192.0.2.1", 40_000)
HEAD = "v=0\r\no=alice 2890844526 2890844526 IN IP4 host.example.com\r\ns= \r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
LAWS = "a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:97 iLBC/8000\r\n"
AUDIO = f"m=audio 49170 RTP/AVP 0 8 97\r\n{LAWS}"
VIDEO = "m=video 51372 RTP/AVP 31 32\r\na=rtpmap:31 H261/90000\r\na=rtpmap:32 MPV/90000\r\n"
EVENTS = "m=audio 49172 RTP/AVP 98\r\na=rtpmap:98 telephone-event/8000\r\na=sendonly\r\n"


@attrs.frozen
class Example:
    """One exchange of RFC 4317, as far as it asks something of the answerer."""

    section: str
    offers: tuple[str, ...]  # the media of each offer, one after the other in one session
    answer: tuple[tuple[int, str, str], ...]  # to the last: port, formats and direction of each stream


EXAMPLES = [
    Example("2.1 audio and video", (AUDIO + VIDEO,), ((40_000, "0", "sendrecv"), (0, "31", "sendrecv"))),
    Example(
        "2.2 another codec is offered first",
        (AUDIO.replace("0 8 97", "97 8 0") + VIDEO,),
        ((40_000, "8", "sendrecv"), (0, "31", "sendrecv")),
    ),
    Example(
        "2.3 static formats without rtpmap",
        ("m=audio 49170 RTP/AVP 0 8\r\nm=video 51372 RTP/AVP 31\r\n",),
        ((40_000, "0", "sendrecv"), (0, "31", "sendrecv")),
    ),
    Example("2.4 events on a line of their own", (AUDIO + EVENTS,), ((40_000, "0", "sendrecv"), (0, "98", "sendrecv"))),
    Example(
        "2.5 alternatives on two lines",
        ("m=audio 49170 RTP/AVP 97\r\na=rtpmap:97 iLBC/8000\r\nm=audio 49172 RTP/AVP 0\r\n",),
        ((0, "97", "sendrecv"), (40_000, "0", "sendrecv")),
    ),
    Example("2.7 none of the codecs is ours", ("m=audio 49170 RTP/AVP 97 98\r\na=rtpmap:97 iLBC/8000\r\n",), ()),
    Example("3.1 hold", (AUDIO, AUDIO + "a=sendonly\r\n"), ((40_000, "0", "recvonly"),)),
    Example("3.1 unhold", (AUDIO, AUDIO + "a=sendonly\r\n", AUDIO), ((40_000, "0", "sendrecv"),)),
    Example("3.2 hold by both", (AUDIO, AUDIO + "a=inactive\r\n"), ((40_000, "0", "inactive"),)),
    Example("4.1 a second line is added", (AUDIO, AUDIO + EVENTS), ((40_000, "0", "sendrecv"), (0, "98", "sendrecv"))),
    Example("4.2 video is added", (AUDIO, AUDIO + VIDEO), ((40_000, "0", "sendrecv"), (0, "31", "sendrecv"))),
    Example(
        "4.3 video is deleted",
        (AUDIO + VIDEO, AUDIO + "m=video 0 RTP/AVP 31\r\n"),
        ((40_000, "0", "sendrecv"), (0, "31", "sendrecv")),
    ),
    Example("5.1 no media", ("",), ()),
    Example(
        "5.3 black hole",
        ("m=audio 49170 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\n",),
        ((40_000, "0", "inactive"),),
    ),
]


def session() -> OfferAnswer:
    ours = OfferAnswer(("192.0.2.1", 5060), Origin(5))
    ours.local = LOCAL
    return ours


def answer(ours: OfferAnswer, offer: bytes) -> SessionDescription | None:
    """Our answer as the peer reads it; None: refused."""
    outcome = ours.read(offer)
    if not isinstance(outcome, Accepted):
        return None
    ours.take(outcome)
    return parse_untrusted(ours.answer(outcome))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.section)
def test_each_exchange_of_rfc_4317_ends_as_it_should(example: Example) -> None:
    ours = session()
    reply = None
    for offer in example.offers:
        reply = answer(ours, (HEAD + offer).encode())
    media = () if reply is None else reply.media
    assert tuple((one.port, " ".join(one.formats), one.direction or "sendrecv") for one in media) == example.answer


def test_the_offer_comes_late_as_in_section_5_of_rfc_4317() -> None:
    """Third party call control: an INVITE without an offer, the answer in the ACK, a black hole until there is more."""
    ours = session()
    assert [media.formats for media in parse_untrusted(ours.offer()).media] == [("0", "101")]
    hole = ours.read((HEAD + "m=audio 49170 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n").encode())
    assert isinstance(hole, Accepted)
    ours.take(hole)
    assert ours.agreement == AudioAgreement("PCMU", 0, ("0.0.0.0", 49170), may_send=False)
    assert answer(ours, (HEAD + AUDIO).encode()) is not None
    assert ours.agreement.remote == ("192.0.2.9", 49170)
    assert ours.agreement.may_send


def vectors() -> list[dict[str, Any]]:
    path = DATA / "sdp" / "vectors.json"
    return json.loads(path.read_text()) if path.is_file() else []


@pytest.mark.skipif(not DATA.is_dir(), reason="AIVC_TEST_DATA names no folder of test messages")
@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["id"])
def test_each_example_offer_gets_an_answer_of_the_right_shape(vector: dict[str, Any]) -> None:
    offer = parse_untrusted(vector["offer"].encode())
    reply = answer(session(), bytes(offer))
    expected = vector["expect"]
    if reply is None:
        assert expected in (488, "any", [])
        return
    assert expected != 488
    assert len(reply.media) == len(offer.media)
    shapes = ["any"] * len(offer.media) if expected == "any" else expected
    for theirs, ours, shape in zip(offer.media, reply.media, shapes, strict=True):
        assert (ours.kind, ours.protocol) == (theirs.kind, theirs.protocol)
        assert set(ours.formats) <= set(theirs.formats)
        if shape != "any":
            check_shape(reply, ours, shape)


def check_shape(reply: SessionDescription, ours: Media, shape: dict[str, Any]) -> None:
    assert (ours.port > 0) == (shape["port"] != 0)
    assert set(ours.formats) <= set(shape.get("formats_subset", ours.formats)) or not ours.port
    assert reply.direction_for(ours) in shape.get("direction", [reply.direction_for(ours)])


@pytest.mark.skipif(not DATA.is_dir(), reason="AIVC_TEST_DATA names no folder of test messages")
def test_no_example_offer_is_missing() -> None:
    assert len(vectors()) >= 23
