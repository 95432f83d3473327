"""The timeline picture of a demonstration call."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import combinations
from xml.etree import ElementTree

import attrs
import pytest

from aivc.demo.recording import AudioFrame, CallRecording, Gap, Interruption, Speaker, ToolUse, Turn
from aivc.demo.svg import shorten, text_width, wrap
from aivc.demo.timeline import HEIGHT, WIDTH, draw_timeline
from aivc.demo.waveform import envelope

SVG = "{http://www.w3.org/2000/svg}"
FONTS = {"title": 19, "facts": 13, "side": 14, "small": 11, "part": 10, "label": 12}
HOSTILE = (
    "<script>alert(1)</script>",
    '"></svg><image href="http://example.org/x.png"/>',
    "Pneumonoultramicroscopicsilicovolcanoconiosis" * 40,
    "مرحبا، متى تفتحون؟ أريد أن أحجز غرفة لليلتين",
    "こんにちは、予約をしたいのですが、明日の夜の部屋は空いていますか",
    "\x00\x1b[31m\ud800\uffff\u202eoverride\u2066 ]]> &amp; &#0;",
    "",
    "👩‍👩‍👧‍👦" * 30,
)


PLAIN = ("Hello, what can I do for you on this day?", "Yes")


@attrs.frozen
class Box:
    left: float
    top: float
    right: float
    bottom: float
    words: str

    def touches(self, other: Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


def spoken(turns: list[Turn], speaker: Speaker, rng: random.Random) -> tuple[AudioFrame, ...]:
    """Clicks while the speaker has its turn."""
    return tuple(
        AudioFrame(turn.start + index * 0.02, bytes([rng.randrange(256)]) * 160)
        for turn in turns
        if turn.speaker == speaker
        for index in range(int((turn.end - turn.start) / 0.02))
    )


def call(
    seed: int, answers: int, texts: tuple[str, ...] = ("Hello, what can I do for you on this day?",)
) -> CallRecording:
    """A call with so many answers, one of three interrupted, one of four with a tool."""
    rng = random.Random(seed)
    turns, gaps, tools, cuts, now = [Turn("model", 0.6, 2.0, "Hello")], [Gap(0.0, (("connect", 600.0),))], [], [], 2.3
    for index in range(answers):
        asked = now + rng.uniform(0.5, 2.5)
        turns.append(Turn("caller", now, asked, texts[index % len(texts)]))
        gaps.append(Gap(asked, (("endpointing", rng.uniform(150, 300)), ("model", rng.uniform(200, 900)))))
        begun = asked + gaps[-1].total_ms / 1000
        now = begun + rng.uniform(0.8, 3.0)
        turns.append(Turn("model", begun, now, texts[(index + 1) % len(texts)]))
        if index % 3 == 1:
            cuts.append(Interruption(now, int(1000 * (now - begun)), 9000, rng.uniform(5, 40)))
        if index % 4 == 0:
            tools.append(ToolUse(texts[index % len(texts)], "{}", "<ok>", asked + 0.1, asked + 0.3))
        now += 0.2
    audio = [spoken(turns, speaker, rng) for speaker in ("caller", "model")]
    return CallRecording(
        "PCMU", now, audio[0], audio[1], tuple(turns), tuple(tools), tuple(cuts), tuple(gaps), (), texts[0], 9, 8, 7
    )


def boxes(element: ElementTree.Element, x: float = 0.0, y: float = 0.0, limit: float = WIDTH) -> Iterator[Box]:
    """The room of every text, clipped to the inner picture that it stands in."""
    for child in element:
        if child.tag == SVG + "svg":
            left, top = float(child.attrib["x"]), float(child.attrib["y"])
            yield from boxes(child, left, top, left + float(child.attrib["width"]))
        elif child.tag == SVG + "text":
            size = FONTS[child.attrib["class"].split()[0]]
            words = child.text or ""
            width = text_width(words, size)
            left = (
                x
                + float(child.attrib["x"])
                - {"start": 0, "middle": 0.5, "end": 1}[child.attrib["text-anchor"]] * width
            )
            base = y + float(child.attrib["y"])
            yield Box(left, base - 0.75 * size, min(left + width, limit), base + 0.2 * size, words)
        else:
            yield from boxes(child, x, y, limit)


def texts_of(picture: str) -> str:
    return " ".join(element.text or "" for element in ElementTree.fromstring(picture).iter(SVG + "text"))


@pytest.mark.parametrize("answers", [1, 3, 6, 12, 25])
@pytest.mark.parametrize("texts", [PLAIN, HOSTILE], ids=["plain", "hostile"])
def test_no_text_touches_another_or_leaves_the_picture(answers: int, texts: tuple[str, ...]) -> None:
    found = list(boxes(ElementTree.fromstring(draw_timeline(call(answers, answers, texts)))))

    assert [(a.words, b.words) for a, b in combinations(found, 2) if a.touches(b)] == []
    assert [b.words for b in found if b.left < 0 or b.right > WIDTH or b.top < 0 or b.bottom > HEIGHT] == []


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_words_stay_words(words: str) -> None:
    tame = draw_timeline(call(1, 3))
    picture = draw_timeline(call(1, 3, (words,)))
    names = {element.tag for element in ElementTree.fromstring(picture).iter()}

    assert names <= {element.tag for element in ElementTree.fromstring(tame).iter()}
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]", picture)


def test_the_picture_needs_nothing_from_elsewhere() -> None:
    picture = draw_timeline(call(1, 5, HOSTILE))
    root = ElementTree.fromstring(picture)

    assert not [name for element in root.iter() for name in element.attrib if name.endswith(("href", "src"))]
    assert not re.search(r"url\(|@import", picture)
    assert len(picture) < 400_000


def test_everything_that_happened_is_named() -> None:
    recording = attrs.evolve(
        call(1, 2),
        tools=(ToolUse("opening_hours", "{}", "7-21", 4.0, 4.214),),
        interruptions=(Interruption(5.0, 1240, 5200, 14.2),),
        gaps=(Gap(3.0, (("endpointing", 212.0), ("model", 400.0))),),
        ending="caller hung up",
        duration=12.0,
    )

    words = texts_of(draw_timeline(recording))

    assert "opening_hours · 214 ms" in words
    assert "cut: heard 1240 of 5200 ms · silent after 14 ms" in words
    assert "612 ms" in words
    assert "endpointing" in words
    assert "PCMU 8000 Hz · 12.0 s · caller hung up" in words
    assert "9 sent, 8 received, 7 lost" in words


def test_each_turn_shows_its_words() -> None:
    words = texts_of(draw_timeline(call(3, 2, ("good morning", "good evening"))))

    assert "good morning" in words
    assert "good evening" in words


@pytest.mark.parametrize("duration", [0.0, 3.0, 600.0])
def test_a_call_in_which_nothing_happened_has_a_picture(duration: float) -> None:
    recording = CallRecording("PCMA", duration, (), (), (), (), (), (), (), "caller hung up", 0, 0, 0)

    assert "answered" in texts_of(draw_timeline(recording))


def test_the_envelope_follows_the_octets() -> None:
    loud, silent = b"\x00" * 80, b"\xff" * 80

    columns = envelope(loud + silent, "PCMU", 2)

    assert columns[0].peak == pytest.approx(0.98, abs=0.01)
    assert columns[0].rms == pytest.approx(0.98, abs=0.01)
    assert (columns[1].peak, columns[1].rms) == (0.0, 0.0)


def test_wrapped_text_keeps_to_its_lines_and_width_and_says_when_it_is_cut() -> None:
    for words in HOSTILE:
        lines = wrap(words, 100.0, 12, 3)
        assert len(lines) <= 3
        assert all(text_width(line, 12) <= 100 for line in lines)
    assert wrap("one two", 200.0, 12, 3) == ["one two"]
    assert wrap("word " * 99, 100.0, 12, 2)[-1].endswith("…")
    assert wrap("   ", 100.0, 12, 3) == []


def test_shortened_text_fits() -> None:
    assert shorten("short", 100.0, 12) == "short"
    assert text_width(shorten("w" * 99, 50.0, 12), 12) <= 50
    assert shorten("www", 1.0, 12) == ""
