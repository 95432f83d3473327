"""The latency table of a demonstration call."""

from __future__ import annotations

import re

import attrs

from aivc.demo.gaps import part_names, rounded_parts, rounded_total_ms
from aivc.demo.recording import CallRecording, Delay, Gap, Interruption, ToolUse, Turn
from aivc.demo.report import latency_table
from aivc.demo.transcript import columns, elide, printable

RECORDING = CallRecording(
    codec="PCMU",
    duration=24.0,
    caller=(),
    model=(),
    turns=(
        Turn("caller", 3.6, 5.6, "Hi, what are your opening hours?"),
        Turn("model", 6.2, 10.1, "We are open", 10.1),
        Turn("caller", 9.9, 12.2, "こんにちは"),
    ),
    tools=(ToolUse("opening_hours", "{}", "7-21", 12.5, 12.714),),
    interruptions=(Interruption(10.1, 1240, 5200, 14.2),),
    gaps=(
        Gap(0.0, (("connect", 210.4), ("model", 390.4))),
        Gap(5.6, (("endpointing", 200.5), ("model", 310.5), ("network", 20.5))),
        Gap(12.2, (("endpointing", 200.0), ("tool", 214.0), ("model", 700.0), ("network", 1.6))),
    ),
    delays=(Delay("added delay inwards", 0.31, 0.92, 2.4, 1200), Delay("pacing error", 0.05, 0.4, 11.9, 620)),
    ending="caller hung up",
    packets_sent=620,
    packets_received=1200,
    packets_lost=3,
)


def test_each_line_of_parts_sums_to_its_total() -> None:
    lines = latency_table(RECORDING).splitlines()[1:4]

    for line, gap in zip(lines, RECORDING.gaps, strict=True):
        figures = [int(cell) for cell in re.split(r"\s{2,}", line.strip())[2:] if cell != "-"]
        assert len(figures) == len(gap.parts) + 1
        assert sum(figures[:-1]) == figures[-1]
        assert abs(figures[-1] - gap.total_ms) <= 0.5


def test_the_columns_of_every_block_end_in_one_line_even_with_wide_characters() -> None:
    blocks = latency_table(RECORDING).split("\n\n")[:2]

    for block in blocks:
        assert len({columns(line) for line in block.splitlines()}) == 1


def test_a_gap_is_named_after_what_the_caller_had_said() -> None:
    lines = latency_table(RECORDING).splitlines()

    assert "(answered)" in lines[1]
    assert '"Hi, what are your opening hours?"' in lines[2]
    assert '"こんにちは"' in lines[3]


def test_delays_interruptions_tools_and_packets_are_listed() -> None:
    table = latency_table(RECORDING)

    assert re.search(r"added delay inwards +0\.31 +0\.92 +2\.40 +1200\n", table)
    assert re.search(r"pacing error +0\.05 +0\.40 +11\.90 +620\n", table)
    assert "interrupted at 10.10 s: the caller had heard 1240 of 5200 ms; silent 14 ms" in table
    assert "tool at 12.50 s: opening_hours, 214 ms" in table
    assert "620 sent, 1200 received, 3 lost" in table


def test_a_call_without_any_turn_still_has_a_table() -> None:
    empty = attrs.evolve(RECORDING, turns=(), gaps=(), delays=(), interruptions=(), tools=())

    assert latency_table(empty) == "  RTP packets: 620 sent, 1200 received, 3 lost\n"


def test_words_of_others_cannot_break_a_line_or_command_the_terminal() -> None:
    turns = (Turn("caller", 1.0, 2.0, "a\r\n\x1b[2J\x9b31m\u202eb" + "c" * 500),)

    table = latency_table(attrs.evolve(RECORDING, turns=turns))

    assert printable(table.replace("\n", "")) == " ".join(table.replace("\n", "").split())
    assert len(table.splitlines()[2]) < 120


def test_rounded_parts_sum_to_the_rounded_total_and_none_is_off_by_more_than_one() -> None:
    gap = Gap(0.0, tuple((f"part {index}", 0.5) for index in range(7)))

    assert rounded_total_ms(gap) == round(gap.total_ms)
    assert all(part_ms in (0, 1) for _, part_ms in rounded_parts(gap))


def test_parts_are_named_in_the_order_of_the_gap_that_has_most() -> None:
    assert part_names(RECORDING.gaps) == ["endpointing", "tool", "model", "network", "connect"]


def test_printable_keeps_letters_of_all_scripts_and_joined_emoji() -> None:
    words = "Zürich — مرحبا こんにちは 👩‍👧"

    assert printable(words) == words
    assert printable("a\x00\ud800\uffffb\u2066 \t\n c") == "ab c"


def test_elided_text_keeps_within_its_columns() -> None:
    assert elide("hello", 5) == "hello"
    assert elide("hello you", 6) == "hello…"
    assert columns(elide("こんにちは", 6)) <= 6
