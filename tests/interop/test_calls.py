"""Whole calls of real telephones: what each side heard, octet by octet, how the audio was paced, how the call ended."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio

from aivc.testing.voice import SILENCE
from interop import wire
from interop.calls import Call, Case, Media, make_call
from interop.sipp_scenario import PAYLOAD_TYPES
from interop.speech import FRAME_OCTETS, caller_speech, encoded, frames_in_order, frames_of, without_negative_zero

pytestmark = pytest.mark.interop

CASES = (
    Case("baresip", "PCMU", "caller"),
    Case("baresip", "PCMA", "caller"),
    Case("baresip", "PCMU", "model"),
    Case("sipp", "PCMU", "caller"),
    Case("sipp", "PCMA", "caller"),
    Case("sipp", "PCMA", "model"),
    Case("linphone", "PCMU", "caller"),
    Case("linphone", "PCMA", "model"),
    Case("pjsip", "PCMU", "caller"),
    Case("pjsip", "PCMA", "model"),
)
FRAME_SECONDS = 0.020
ON_THE_WAY = 25  # packets: half a second that was still on its way to the model when the call ended
JITTER_BUFFER_FRAMES = 5
SHARE_RECORDED = {"linphone": 0.9}  # its flow control drops a few samples to shorten its own delay
JITTER_SECONDS = 0.010  # that a busy machine may add to an interval, 95 % of the time


@pytest.fixture(scope="module", params=CASES, ids=str)
def call(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Call:
    """One call; every test of this file looks at it from another side."""
    case: Case = request.param
    if (reason := case.make.missing()) is not None:
        pytest.skip(reason)
    return trio.run(make_call, case, tmp_path_factory.mktemp(case.phone))


@pytest.fixture
def media(call: Call) -> Media:
    if call.media is None:
        pytest.skip(str(wire.missing()))
    return call.media


def test_the_model_hears_every_octet_that_the_telephone_sent(call: Call, media: Media) -> None:
    sent = b"".join(packet.payload for packet in media.from_phone)
    assert media.dropped == 0
    assert sent.startswith(call.heard_by_model)
    assert len(sent) - len(call.heard_by_model) <= ON_THE_WAY * FRAME_OCTETS


def test_the_model_hears_what_was_said_into_the_telephone(call: Call) -> None:
    assert caller_speech(call.case.codec) in without_negative_zero(call.heard_by_model, call.case.codec)


def test_the_telephone_is_sent_every_octet_that_the_model_said(call: Call, media: Media) -> None:
    returned = b"".join(packet.payload for packet in media.to_phone)
    before, _, after = returned.partition(call.answer)
    assert call.answer in returned
    assert set(before + after) == {SILENCE[call.case.codec]}


def test_the_telephones_recording_is_what_the_model_said(call: Call) -> None:
    if call.recording is None:
        pytest.skip(f"{call.case.phone} keeps no recording")
    frames = frames_of(call.answer)
    heard = frames_in_order(frames, encoded(call.recording, call.case.codec))
    in_its_jitter_buffer = JITTER_BUFFER_FRAMES if call.case.ends == "model" else 0  # when the BYE came
    assert heard >= (len(frames) - in_its_jitter_buffer) * SHARE_RECORDED.get(call.case.phone, 1.0)


def test_the_audio_leaves_in_one_stream_of_20_ms_packets(call: Call, media: Media) -> None:
    packets = media.to_phone
    assert {packet.ssrc for packet in packets} == {packets[0].ssrc}
    assert {packet.payload_type for packet in packets} == {PAYLOAD_TYPES[call.case.codec]}
    assert {len(packet.payload) for packet in packets} == {FRAME_OCTETS}
    assert {(after.sequence - before.sequence) % 2**16 for before, after in pairwise(packets)} == {1}
    stalls = call.record["rtp"].get("stalls", 0)  # on a machine that is held up; each is a gap with a marker after it
    breaks = [packet for packet in packets if packet.marker]
    assert len(breaks) == 1 + stalls
    assert breaks[0] is packets[0]
    joined = [(before, after) for before, after in pairwise(packets) if after not in breaks]
    assert {(after.rtp_timestamp - before.rtp_timestamp) % 2**32 for before, after in joined} == {FRAME_OCTETS}


def test_the_audio_is_paced(media: Media) -> None:
    times = [packet.at for packet in media.to_phone]
    intervals = [after - before for before, after in pairwise(times)]
    off = sorted(abs(interval - FRAME_SECONDS) for interval in intervals)
    assert off[round(0.95 * len(off))] < JITTER_SECONDS
    assert (times[-1] - times[0]) / len(intervals) == pytest.approx(FRAME_SECONDS, rel=0.01)


def test_who_hangs_up_sends_the_bye(call: Call, media: Media) -> None:
    assert (media.bye_from == media.service) == (call.case.ends == "model")


def test_the_call_is_over_on_every_side(call: Call) -> None:
    assert call.exit_status == 0  # the telephone saw the end of the call, and found nothing wrong with it
    assert call.close_code == 1000
    assert call.record["ending"] == {"caller": "caller_hung_up", "model": "model_hung_up"}[call.case.ends]


def test_the_model_finds_no_fault_with_the_service(call: Call) -> None:
    assert call.model_errors == []
