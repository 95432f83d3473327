from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aivc.sip.sdp import (
    MAX_FORMATS,
    MAX_LINES,
    MAX_MEDIA,
    MAX_SDP_OCTETS,
    Connection,
    Line,
    Media,
    SdpError,
    SessionDescription,
    parse_untrusted,
)

DATA = Path(os.environ.get("AIVC_TEST_DATA", "/nonexistent"))
HEAD = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n"
FULL = (
    HEAD.replace(b"t=", b"i=info\r\nu=http://x\r\ne=a@b\r\np=+1\r\nc=IN IP4 192.0.2.1\r\nb=AS:64\r\nt=")
    + b"r=7d 1h 0 25h\r\nz=0 0\r\nk=clear:x\r\na=group:BUNDLE 1\r\na=sendonly\r\n"
    + b"m=audio 49170/2 RTP/AVP 0 97\r\ni=title\r\nc=IN IP6 2001:db8::1\r\nb=AS:8\r\n"
    + b"a=rtpmap:97 iLBC/8000\r\na=X-odd\r\na=recvonly\r\nm=video 0 RTP/AVP 31\r\n"
)


def test_every_line_is_kept_in_order() -> None:
    assert bytes(parse_untrusted(FULL)) == FULL


def test_the_media_level_beats_the_session_level() -> None:
    description = parse_untrusted(FULL)
    audio, video = description.media
    assert description.connection_for(audio) == Connection("IP6", "2001:db8::1")
    assert description.connection_for(video) == Connection("IP4", "192.0.2.1")
    assert description.direction_for(audio) == "recvonly"
    assert description.direction_for(video) == "sendonly"
    assert (audio.port, audio.port_count, audio.formats) == (49170, 2, ("0", "97"))
    assert audio.attributes("rtpmap") == ["97 iLBC/8000"]
    assert audio.attributes("X-odd") == [""]


def test_bare_line_feeds_are_read_and_written_as_crlf() -> None:
    assert bytes(parse_untrusted(FULL.replace(b"\r\n", b"\n"))) == FULL


def test_no_direction_means_sendrecv_and_no_timing_means_now() -> None:
    description = parse_untrusted(b"v=0\r\no=- 1 1 IN IP4 h\r\nm=audio 9 RTP/AVP 0\r\n")
    assert description.direction_for(description.media[0]) == "sendrecv"
    assert description.timing == "0 0"
    assert description.lines == (Line("v", "0"), Line("o", "- 1 1 IN IP4 h"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"garbage",
        b"v=1\r\no=- 1 1 IN IP4 h\r\n",
        b"v=0\r\ns=-\r\n",
        b"v=0\r\no=short\r\n",
        HEAD + b"nonsense\r\n",
        HEAD + b"\r\n" + b"m=audio 9 RTP/AVP 0\r\n",
        HEAD + b"a=nul\0\r\n",
        HEAD + b"a=cr\rcr\r\n",
        HEAD + b"c=IN IP4\r\n",
        HEAD + b"c=IN IP5 x\r\n",
        HEAD + b"c=IN IP4 a\xff\r\n",
        HEAD + b"m=audio\r\n",
        HEAD + b"m=audio 9 RTP/AVP\r\n",
        HEAD + b"m=audio x RTP/AVP 0\r\n",
        HEAD + b"m=audio -1 RTP/AVP 0\r\n",
        HEAD + b"m=audio 65536 RTP/AVP 0\r\n",
        HEAD + b"m=audio 9/x RTP/AVP 0\r\n",
        HEAD + b"m=audio 9 RTP/AVP  0\r\n",
        HEAD + b"m =audio 9 RTP/AVP 0\r\n",
        HEAD + b"m=audio 9 RTP/AVP" + b" 0" * (MAX_FORMATS + 1) + b"\r\n",
        HEAD + b"m=audio 9 RTP/AVP 0\r\n" * (MAX_MEDIA + 1),
        HEAD + b"a=x\r\n" * MAX_LINES,
        HEAD + b"a=" + b"x" * 4000,
        b"a" * (MAX_SDP_OCTETS + 1),
    ],
)
def test_what_is_no_session_description_is_refused(data: bytes) -> None:
    with pytest.raises(SdpError):
        parse_untrusted(data)


PIECES = [
    HEAD,
    FULL,
    b"m=audio 9 RTP/AVP 0\r\n",
    b"c=IN IP4 1.2.3.4\r\n",
    b"a=x:y\r\n",
    b"\r\n",
    b"\n",
    b"\0",
    b"=",
    b"m=",
    b"\xff",
]


@settings(max_examples=300)
@given(st.binary() | st.lists(st.sampled_from(PIECES)).map(b"".join))
def test_any_octets_are_read_or_refused_and_what_is_read_round_trips(data: bytes) -> None:
    try:
        description = parse_untrusted(data)
    except SdpError:
        return
    assert parse_untrusted(bytes(description)) == description


WORDS = st.text("abcRTP/AVS0189-", min_size=1, max_size=12)
LINES = st.builds(Line, st.sampled_from("aibk"), st.text(st.characters(max_codepoint=255, exclude_characters="\0\r\n")))
STREAMS = st.builds(
    Media,
    WORDS,
    st.integers(0, 65535),
    WORDS,
    st.lists(WORDS, min_size=1, max_size=5).map(tuple),
    st.lists(LINES, max_size=5).map(tuple),
    st.none() | st.integers(0, 65535),
)


@given(st.lists(LINES, max_size=5), st.lists(STREAMS, max_size=4))
def test_what_is_written_is_read_as_it_was(lines: list[Line], media: list[Media]) -> None:
    head = (Line("v", "0"), Line("o", "- 1 1 IN IP4 192.0.2.1"))
    description = SessionDescription((*head, *lines), tuple(media))
    assert parse_untrusted(bytes(description)) == description


@pytest.mark.skipif(not DATA.is_dir(), reason="AIVC_TEST_DATA names no folder of test messages")
def test_every_offer_of_the_vectors_is_read_and_written_unchanged() -> None:
    for vector in json.loads((DATA / "sdp" / "vectors.json").read_text()):
        offer = vector["offer"].encode()
        assert bytes(parse_untrusted(offer)) == offer, vector["id"]


def test_a_space_at_the_end_of_a_line_changes_nothing() -> None:
    text = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9 \r\nt=0 0\r\n"
    text += "m=audio 4000 RTP/AVP 0 \r\na=sendonly \r\n"
    description = parse_untrusted(text.encode())
    (audio,) = description.media
    assert (audio.port, audio.formats, audio.direction) == (4000, ("0",), "sendonly")
    connection = description.connection_for(audio)
    assert connection is not None
    assert connection.address == "192.0.2.9"
