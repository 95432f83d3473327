"""What the settings of `rtp` and `dtmf` change that one stream shows by itself."""

from __future__ import annotations

from typing import Literal

import pytest
from paper_stream import EVENTS, SILENCE, VOICE, datagram, paper_stream
from settings_shown import shows

from aivc.config.settings import DtmfSettings, RtpSettings


@shows("rtp.reorder_ms")
@pytest.mark.parametrize(("reorder_ms", "order"), [(0, "1 34"), (10, "1 34"), (40, "1234")])
def test_a_packet_waits_for_the_one_before_it_as_long_as_is_set_at_most(reorder_ms: int, order: str) -> None:
    """The second packet comes 30 ms after the third."""
    paper = paper_stream(RtpSettings(reorder_ms=reorder_ms))
    for sequence, now in ((1, 0.021), (3, 0.061), (2, 0.091), (4, 0.093)):
        paper.run(now)
        paper.come(datagram(sequence, f"{sequence}".encode() * 160), now)
    assert paper.heard()[::160].replace(SILENCE[:1], b" ").decode() == order
    assert paper.stream.statistics().late == (order != "1234")


@shows("rtp.hold")
@pytest.mark.parametrize("hold", ["silence", "nothing"])
def test_the_model_hears_silence_or_nothing_while_the_caller_holds_the_call(
    hold: Literal["silence", "nothing"],
) -> None:
    paper = paper_stream(RtpSettings(hold=hold))
    paper.come(datagram(0), 0.0)
    paper.stream.expects_audio = False
    paper.come(datagram(1), 0.02)
    paper.run(1.01)
    assert paper.heard() == VOICE + (SILENCE * 50 if hold == "silence" else b"")
    paper.stream.expects_audio = True
    paper.come(datagram(51), 1.02)
    assert paper.heard() == VOICE


def durations(dtmf: DtmfSettings) -> tuple[int, int]:
    """Duration of the first of two digits, and of the gap after it, as the packets say; ms."""
    paper = paper_stream()
    paper.stream.send_digits("12", dtmf.tone_ms, dtmf.gap_ms)
    paper.run(10.0)
    events = [packet for packet in paper.sent if packet.payload_type == EVENTS]
    tone = int.from_bytes([packet for packet in events if packet.payload[0] == 1][-1].payload[2:], "big")
    second = next(packet.rtp_timestamp for packet in events if packet.payload[0] == 2)
    return tone // 8, (second - events[0].rtp_timestamp - tone) // 8


@shows("dtmf.tone_ms")
@pytest.mark.parametrize("milliseconds", [40, 500])
def test_a_tone_lasts_as_long_as_is_set(milliseconds: int) -> None:
    assert durations(DtmfSettings(tone_ms=milliseconds)) == (milliseconds, 80)


@shows("dtmf.gap_ms")
@pytest.mark.parametrize("milliseconds", [40, 500])
def test_the_pause_between_tones_lasts_as_long_as_is_set(milliseconds: int) -> None:
    assert durations(DtmfSettings(gap_ms=milliseconds)) == (160, milliseconds)
