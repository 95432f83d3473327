from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aivc.media.g711 import FRAME_OCTETS
from aivc.media.playout import CAPACITY_OCTETS, MOST_ITEMS, ItemPlayout, Playout


def playout() -> Playout:
    return Playout(silence=0xFF)


def speak(one: Playout, frames: int) -> bytes:
    return b"".join(one.pop_frame(n * 0.02) or b"" for n in range(frames))


def test_nothing_to_say_is_none() -> None:
    assert playout().pop_frame(0.0) is None


def test_octets_leave_in_the_order_in_which_they_came() -> None:
    one = playout()
    audio = bytes(n % 251 for n in range(1000))
    for start in range(0, 1000, 77):
        one.push("r", "a", audio[start : start + 77])
    assert speak(one, 6) == audio[:960]


def test_an_unfinished_frame_waits_for_the_rest_of_its_item() -> None:
    one = playout()
    one.push("r", "a", b"x" * 200)
    assert one.pop_frame(0.0) == b"x" * 160
    assert one.pop_frame(0.02) is None
    one.push("r", "a", b"y" * 200)
    assert one.pop_frame(0.04) == b"x" * 40 + b"y" * 120


def test_the_last_frame_of_an_item_is_filled_up_with_silence() -> None:
    one = playout()
    one.push("r", "a", b"x" * 100)
    one.end_item("a")
    assert one.pop_frame(0.0) == b"x" * 100 + b"\xff" * 60
    assert one.drained


def test_items_follow_each_other_without_a_gap() -> None:
    one = playout()
    one.push("r", "a", b"a" * 100)
    one.end_item("a")
    one.push("r", "b", b"b" * 220)
    assert speak(one, 2) == b"a" * 100 + b"b" * 220


def test_a_cut_tells_for_each_item_what_was_heard_and_what_was_not() -> None:
    one = playout()
    one.push("r", "a", b"a" * 240)
    one.end_item("a")
    one.push("r", "b", b"b" * 800)
    one.push("r", "c", b"c" * 80)
    speak(one, 3)
    cut = [(item.item_id, item.heard_ms, item.received_ms, item.complete) for item in one.cut()]
    assert cut == [("b", 30, 100, False), ("c", 0, 10, False)]
    assert one.pop_frame(1.0) is None
    assert one.drained


def test_an_item_that_was_heard_whole_is_not_cut() -> None:
    one = playout()
    one.push("r", "a", b"a" * 160)
    one.pop_frame(0.0)
    one.end_item("a")
    assert one.cut() == []


def test_an_item_of_which_more_was_to_come_is_cut_where_it_stood() -> None:
    one = playout()
    one.push("r", "a", b"a" * 160)
    one.pop_frame(0.0)
    assert [(item.heard_ms, item.received_ms, item.complete) for item in one.cut()] == [(20, 20, False)]


def test_the_first_frame_of_each_item_is_noted_with_its_time() -> None:
    began: list[ItemPlayout] = []
    one = Playout(silence=0xFF, began=began.append)
    one.push("r", "a", b"a" * 320)
    one.end_item("a")
    one.push("r", "b", b"b" * 160)
    for now in (5.0, 5.02, 5.04):
        one.pop_frame(now)
    assert [(item.item_id, item.began_at) for item in began] == [("a", 5.0), ("b", 5.04)]


def test_unfinished_items_are_few_and_those_that_are_there_may_go_on() -> None:
    one = playout()
    assert all(one.push("r", f"{n}", b"x") for n in range(MOST_ITEMS))
    assert not one.push("r", "one more", b"x")
    assert one.push("r", "0", b"x")


def test_two_minutes_may_wait_and_not_an_octet_more() -> None:
    one = playout()
    assert one.push("r", "a", bytes(CAPACITY_OCTETS))
    assert not one.push("r", "a", b"x")
    assert one.refused_octets == 1
    assert one.waiting_octets == CAPACITY_OCTETS


def test_a_pause_keeps_everything_and_more_may_come() -> None:
    one = playout()
    one.push("r", "a", b"a" * 320)
    assert one.pop_frame(0.0) == b"a" * 160
    one.pause()
    assert one.paused
    one.push("r", "a", b"b" * 160)
    assert [one.pop_frame(0.02 * n) for n in range(1, 5)] == [None] * 4
    one.resume()
    assert speak(one, 2) == b"a" * 160 + b"b" * 160


def test_what_is_cut_in_a_pause_was_heard_as_far_as_the_pause_and_speech_goes_on_afterwards() -> None:
    one = playout()
    one.push("r", "a", b"a" * 800)
    one.pop_frame(0.0)
    one.pause()
    one.pop_frame(0.02)
    assert [(item.heard_ms, item.received_ms) for item in one.cut()] == [(20, 100)]
    assert not one.paused
    one.push("r", "b", b"b" * 160)
    assert one.pop_frame(0.04) == b"b" * 160


def test_the_end_of_all_that_was_to_be_said_is_told_once_when_its_last_frame_leaves() -> None:
    emptied: list[int] = []
    one = Playout(silence=0xFF, emptied=lambda: emptied.append(one.waiting_octets))
    one.push("r", "a", b"a" * 400)
    one.end_item("a")
    heard = speak(one, 6)
    assert emptied == [0]
    assert len(heard) == 480
    one.push("r", "b", b"b" * 160)
    speak(one, 3)
    assert emptied == [0, 0]


def test_a_cut_is_no_end_and_neither_is_a_pause() -> None:
    emptied: list[bool] = []
    one = Playout(silence=0xFF, emptied=lambda: emptied.append(True))
    one.push("r", "a", b"a" * 400)
    one.pop_frame(0.0)
    one.pause()
    one.pop_frame(0.0)
    one.cut()
    one.pop_frame(0.0)
    assert emptied == []


def test_who_is_told_of_the_end_may_go_on_at_once() -> None:
    def go_on() -> None:
        one.push("r", "b", b"b" * 160)

    one = Playout(silence=0xFF, emptied=go_on)
    one.push("r", "a", b"a" * 160)
    assert speak(one, 3) == b"a" * 160 + b"b" * 320


actions = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 3), st.integers(0, 700)),
        st.tuples(st.just("end"), st.integers(0, 3), st.just(0)),
        st.tuples(st.sampled_from(["pop", "pause", "resume"]), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(actions)
def test_heard_and_waiting_octets_always_add_up_to_what_was_received(history: list[tuple[str, int, int]]) -> None:
    one, received, frames = playout(), 0, 0
    for now, (action, item, octets) in enumerate(history):
        match action:
            case "push":
                one.push("r", f"{item}", b"x" * octets)
                received += octets
            case "end":
                one.end_item(f"{item}")
            case "pause":
                one.pause()
            case "resume":
                one.resume()
            case _:
                frame = one.pop_frame(float(now))
                if frame is not None:
                    assert not one.paused
                    assert len(frame) == FRAME_OCTETS
                    frames += frame.count(b"x")
    assert frames + one.waiting_octets == received
    cut = one.cut()
    assert all(item.heard_octets <= item.received_octets for item in cut)


def played(one: Playout, is_late: str) -> str:
    """What leaves, a letter a frame, when one delta is due before each frame, and those marked L come after it."""
    told = ""
    for number, mark in enumerate(is_late):
        if mark == " ":
            one.push("r", "a", b"x" * 160)
        told += "-" if one.pop_frame(number * 0.02) is None else "x"
        if mark == "L":
            one.push("r", "a", b"x" * 160)
    return told


def test_without_a_cushion_a_delta_that_is_a_little_late_makes_a_gap_in_a_word() -> None:
    assert played(playout(), "  L  ") == "xx-xx"


def test_with_a_cushion_deltas_that_are_a_little_late_make_no_gap() -> None:
    assert played(Playout(silence=0xFF, cushion_ms=20), "  L  L ") == "-xxxxxx"


def test_a_delta_with_more_than_the_cushion_is_played_at_once() -> None:
    one = Playout(silence=0xFF, cushion_ms=20)
    one.push("r", "a", b"x" * 320)
    assert one.pop_frame(0.0) == b"x" * 160


def test_an_item_that_is_complete_is_played_at_once_however_short() -> None:
    one = Playout(silence=0xFF, cushion_ms=40)
    one.push("r", "a", b"x" * 160)
    one.end_item("a")
    assert one.pop_frame(0.0) == b"x" * 160


def test_audio_waits_for_more_no_longer_than_the_cushion_lasts() -> None:
    one = Playout(silence=0xFF, cushion_ms=40)
    one.push("r", "a", b"x" * 160)
    assert [one.pop_frame(n * 0.02) for n in range(3)] == [None, None, b"x" * 160]


def test_after_a_gap_the_cushion_is_filled_again() -> None:
    one = Playout(silence=0xFF, cushion_ms=20)
    one.push("r", "a", b"x" * 320)
    assert speak(one, 3) == b"x" * 320
    one.push("r", "a", b"y" * 160)
    assert one.pop_frame(0.06) is None
    one.push("r", "a", b"y" * 160)
    assert one.pop_frame(0.08) == b"y" * 160


def test_a_cut_empties_the_cushion() -> None:
    one = Playout(silence=0xFF, cushion_ms=20)
    one.push("r", "a", b"x" * 160)
    assert one.pop_frame(0.0) is None
    one.cut()
    one.push("r", "b", b"y" * 160)
    assert [one.pop_frame(0.02), one.pop_frame(0.04)] == [None, b"y" * 160]
