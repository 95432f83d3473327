"""Which of several workers gets a message."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.sip import spreading
from aivc.sip.message import ParseError, Request, parse_untrusted
from aivc.sip.spreading import PARENT, Envelope, NotSpreadable, Spreading, mark_of, number_in, read_untrusted_envelope


def message(
    method: str = "INVITE",
    call_id: str = "a",
    to_tag: str = "",
    *,
    status: int | None = None,
    branch: str = "x",
    replaces: str = "",
) -> bytes:
    lines = [
        f"{method} sip:100@192.0.2.1 SIP/2.0" if status is None else f"SIP/2.0 {status} OK",
        f"Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK{branch}",
        "From: <sip:alice@192.0.2.10>;tag=1",
        f"To: <sip:100@192.0.2.1>{f';tag={to_tag}' if to_tag else ''}",
        f"Call-ID: {call_id}",
        f"CSeq: 1 {method}",
        *([f"Replaces: {replaces}"] if replaces else []),
        "Content-Length: 0",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def mutated(at: int, by: bytes) -> bytes:
    data = message("BYE", "call", "00tag")
    return data[:at] + by + data[at + len(by) :]


def envelope(method: str, call_id: str, to_tag: str = "", *, replaces: str = "") -> Envelope:
    return read_untrusted_envelope(message(method, call_id, to_tag, replaces=replaces))


def spread(*numbers: int, room: int = 1000) -> Spreading:
    """Workers that run and accept."""
    made = Spreading()
    for number in numbers:
        made.join(number, room)
        made.note(number, 0, accepting=True, taken=0)
    return made


def tag(number: int) -> str:
    return mark_of(number) + "0123456789abcdef"


# What is read of a message


def test_a_request_tells_its_call_and_our_tag() -> None:
    one, other = envelope("BYE", "a", tag(3)), envelope("BYE", "b", tag(3))
    assert (one.method, number_in(one.tag)) == ("BYE", 3)
    assert one.call_id != other.call_id


def test_a_response_tells_who_made_the_branch() -> None:
    read = read_untrusted_envelope(message("OPTIONS", status=200, branch=tag(5)))
    assert (read.method, number_in(read.tag)) == (None, 5)


def test_compact_names_and_folded_lines_are_read_as_the_parser_does() -> None:
    plain = message("BYE", "call", tag(1))
    compact = plain.replace(b"Call-ID: call", b"i:\r\n call").replace(b"To: ", b"t : ")
    assert read_untrusted_envelope(compact) == read_untrusted_envelope(plain)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"\xff\x00" * 40,
        b"GET / HTTP/1.1\r\n\r\n",
        message("BYE", status=200).replace(b"Via:", b"X:"),
        message("BYE", status=200).replace(b"SIP/2.0/UDP", b"nonsense"),
    ],
)
def test_what_does_not_tell_whose_it_is_goes_nowhere(data: bytes) -> None:
    with pytest.raises(NotSpreadable):
        read_untrusted_envelope(data)


@pytest.mark.parametrize(
    "data",
    [
        message().replace(b"Call-ID: a\r\n", b""),
        message().replace(b"Call-ID: a\r\n", b"Call-ID:\r\n"),
        message().replace(b"Call-ID: a\r\n", b"Call-ID: a\r\ni: b\r\n"),
        message().replace(b"To: <sip:100@192.0.2.1>", b"X: y"),
        message().replace(b"To: <sip:100@192.0.2.1>", b"To: <sip:100@192.0.2.1"),
    ],
)
def test_a_broken_request_goes_to_somebody_who_answers_it(data: bytes) -> None:
    assert spread(0, 1).choose(read_untrusted_envelope(data)) in (0, 1)


def test_a_very_long_call_id_costs_no_more_memory_than_a_short_one() -> None:
    assert len(envelope("INVITE", "x" * 8000).call_id) == len(envelope("INVITE", "x").call_id) == 16


@given(st.binary(max_size=300) | st.builds(mutated, st.integers(0, 250), st.binary(max_size=4)))
def test_of_what_the_parser_takes_the_envelope_can_be_read_and_of_anything_else_only_its_own_error_comes(
    data: bytes,
) -> None:
    try:
        read: Envelope | None = read_untrusted_envelope(data)
    except NotSpreadable:
        read = None
    try:
        parsed = parse_untrusted(data)
    except ParseError:
        return
    assert read is not None
    assert read.call_id == spreading.digest(parsed.call_id)
    assert read.method == (parsed.method if isinstance(parsed, Request) else None)
    if isinstance(parsed, Request):
        assert read.tag == (parsed.to.tag or "")


# Who gets it


def test_new_calls_go_to_whoever_has_the_fewest() -> None:
    workers = spread(0, 1, 2)
    workers.note(1, 5, accepting=True, taken=0)
    given = Counter(workers.choose(envelope("INVITE", f"call-{number}")) for number in range(11))
    assert given == {0: 5, 2: 5, 1: 1}


def test_a_burst_is_spread_evenly_though_nobody_has_told_of_it_yet() -> None:
    workers = spread(0, 1, 2, 3)
    assert set(Counter(workers.choose(envelope("INVITE", f"{n}")) for n in range(400)).values()) == {100}


def test_all_that_comes_before_there_is_a_tag_goes_where_the_invite_went() -> None:
    workers = spread(0, 1)
    for number in range(20):
        call = f"call-{number}"
        owner = workers.choose(envelope("INVITE", call))
        for method in ("INVITE", "CANCEL", "ACK"):
            assert workers.choose(envelope(method, call)) == owner


def test_what_belongs_to_a_dialog_goes_to_the_maker_of_its_tag_whatever_has_been_forgotten() -> None:
    workers = spread(0, 1)
    assert [workers.choose(envelope("BYE", "unheard-of", tag(number))) for number in (0, 1)] == [0, 1]


def test_a_response_goes_to_whoever_asked() -> None:
    workers = spread(0, 1)
    answers = [read_untrusted_envelope(message("INVITE", status=200, branch=tag(n))) for n in (0, 1, PARENT)]
    assert [workers.choose(answer) for answer in answers] == [0, 1, PARENT]


@pytest.mark.parametrize("branch", ["", "zz", "7", tag(9), "09"])
def test_a_response_that_nobody_asked_for_goes_nowhere(branch: str) -> None:
    assert spread(0, 1).choose(read_untrusted_envelope(message("INVITE", status=200, branch=branch))) is None


def test_an_invite_with_replaces_goes_where_the_replaced_call_is() -> None:
    workers = spread(0, 1)
    for number in (0, 1):
        for to, own in ((tag(number), "peer"), ("peer", tag(number))):
            wanted = envelope("INVITE", f"new-{number}-{to}", replaces=f"old;to-tag={to};from-tag={own}")
            assert workers.choose(wanted) == number
            assert workers.choose(envelope("CANCEL", f"new-{number}-{to}")) == number


def test_where_both_tags_look_like_ours_the_call_id_decides() -> None:
    workers = spread(0, 1)
    owner = workers.choose(envelope("INVITE", "old"))
    assert owner is not None
    mine, foreign = tag(owner), tag(1 - owner)
    for number, (to, own) in enumerate([(mine, foreign), (foreign, mine)]):
        wanted = envelope("INVITE", f"new-{number}", replaces=f"old;to-tag={to};from-tag={own}")
        assert workers.choose(wanted) == owner


def test_an_invite_with_replaces_that_cannot_be_read_is_a_new_call() -> None:
    assert spread(0).choose(envelope("INVITE", "a", replaces="nonsense")) == 0


def test_who_does_not_accept_gets_no_new_call_but_all_of_its_own() -> None:
    workers = spread(0, 1)
    workers.note(0, 0, accepting=False, taken=0)
    assert {workers.choose(envelope("INVITE", f"{number}")) for number in range(10)} == {1}
    assert {workers.choose(envelope("OPTIONS", f"o{number}")) for number in range(10)} == {1}
    assert workers.choose(envelope("BYE", "a", tag(0))) == 0


def test_who_is_full_gets_no_more_even_before_it_has_said_so() -> None:
    workers = spread(0, 1, room=3)
    assert workers.accepting
    given = Counter(workers.choose(envelope("INVITE", f"{number}")) for number in range(6))
    assert given == {0: 3, 1: 3}
    assert not workers.accepting


def test_a_call_that_crosses_what_its_worker_says_is_not_forgotten() -> None:
    workers = spread(0, 1, room=1)
    owner = workers.choose(envelope("INVITE", "a"))
    assert owner is not None
    workers.note(owner, 0, accepting=True, taken=0)  # said before the call had come
    assert workers.choose(envelope("INVITE", "b")) == 1 - owner


@pytest.mark.parametrize("told", [{0}, {1}, {0, 1}])
def test_calls_that_come_one_by_one_are_spread_evenly_whoever_tells_of_them_in_between(told: set[int]) -> None:
    workers = spread(0, 1)
    given = Counter[int | None]()
    for number in range(8):
        given[workers.choose(envelope("INVITE", f"{number}"))] += 1
        for teller in told:
            workers.note(teller, given[teller], accepting=True, taken=given[teller])
        assert max(given[0], given[1]) - min(given[0], given[1]) <= 1


def test_a_call_that_has_ended_makes_room() -> None:
    workers = spread(0, room=1)
    workers.choose(envelope("INVITE", "a"))
    workers.note(0, 1, accepting=False, taken=1)
    workers.note(0, 0, accepting=True, taken=1)
    assert workers.accepting


def test_when_nobody_accepts_somebody_gets_it_and_says_why_not() -> None:
    workers = spread(0, 1, room=0)
    assert workers.choose(envelope("INVITE", "a")) in (0, 1)
    assert workers.choose(envelope("OPTIONS", "b")) in (0, 1)


def test_a_request_outside_of_calls_goes_to_the_same_worker_when_it_is_repeated_and_all_take_part() -> None:
    workers = spread(0, 1, 2)
    asked = [envelope("OPTIONS", f"ping-{number}") for number in range(60)]
    first = [workers.choose(each) for each in asked]
    assert [workers.choose(each) for each in asked] == first
    assert set(first) == {0, 1, 2}


def test_messages_for_a_worker_that_has_ended_go_to_others() -> None:
    workers = spread(0, 1)
    owner = workers.choose(envelope("INVITE", "a"))
    assert owner is not None
    workers.leave(owner)
    assert workers.choose(envelope("BYE", "a", tag(owner))) == 1 - owner
    assert workers.choose(envelope("INVITE", "a")) == 1 - owner
    workers.leave(1 - owner)
    assert workers.choose(envelope("INVITE", "a")) is None
    assert workers.choose(envelope("OPTIONS", "a")) is None


def test_a_worker_that_has_not_said_that_it_accepts_gets_nothing_while_others_do() -> None:
    workers = spread(0)
    workers.join(1, 100)
    assert {workers.choose(envelope("INVITE", f"{number}")) for number in range(9)} == {0}


def test_a_flood_of_call_ids_neither_fills_the_memory_nor_takes_calls_from_their_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spreading, "MAX_CALL_IDS", 100)
    workers = spread(0, 1)
    for number in range(500):
        workers.choose(envelope("INVITE", f"flood-{number}"))
    assert len(workers._owners) == 100
    assert [workers.choose(envelope("BYE", "old", tag(number))) for number in (0, 1)] == [0, 1]


def test_call_ids_in_use_are_the_last_to_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreading, "MAX_CALL_IDS", 10)
    workers = spread(*range(8))
    owner = workers.choose(envelope("INVITE", "alive"))
    for number in range(100):
        workers.choose(envelope("INVITE", f"flood-{number}"))
        assert workers.choose(envelope("INVITE", "alive")) == owner
