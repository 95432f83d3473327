"""What must be true of every whole call, whatever it went over."""

from __future__ import annotations

from aivc.testing.voice import SILENCE
from interop.calls import Call
from interop.speech import caller_speech, encoded, frames_in_order, frames_of, without_negative_zero

JITTER_BUFFER_FRAMES = 5  # lost when the BYE comes, or when the machine is held up
SHARE_RECORDED = {"linphone": 0.9}  # its flow control drops a few samples to shorten its own delay


def check_call(call: Call) -> None:
    """Both have heard every octet that the other said, and the call has ended as it was to."""
    check_ended(call)
    case = call.case
    assert caller_speech(case.codec) in without_negative_zero(call.heard_by_model, case.codec)
    if call.recording is not None:
        frames = frames_of(call.answer)
        heard = frames_in_order(frames, encoded(call.recording, case.codec))
        assert heard >= (len(frames) - JITTER_BUFFER_FRAMES) * SHARE_RECORDED.get(case.phone, 1.0)
    if call.media is not None:
        returned = b"".join(packet.payload for packet in call.media.to_phone)
        before, _, after = returned.partition(call.answer)
        assert call.answer in returned
        assert set(before + after) <= {SILENCE[case.codec]}
        assert b"".join(packet.payload for packet in call.media.from_phone).startswith(call.heard_by_model)


def check_ended(call: Call) -> None:
    assert call.exit_status == 0  # the telephone saw the end of the call, and found nothing wrong with it
    assert call.close_code == 1000
    assert call.model_errors == []
    assert call.record["ending"] == {"caller": "caller_hung_up", "model": "model_hung_up"}[call.case.ends]
