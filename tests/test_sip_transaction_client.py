"""The client machines, and what holds of all four whatever happens."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paper_flow import read_request, reply

from aivc.sip.message import Request, parse_untrusted
from aivc.sip.transaction import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    STATE_TIMERS,
    T1,
    T2,
    TIMEOUT,
    Do,
    Input,
    State,
    Table,
    Transaction,
    ack_of_failure,
    cancel_of,
    client_transaction,
    receiving,
    sending,
    server_key,
)

FIRST_STATES: list[tuple[Table, State]] = [
    (INVITE_SERVER, State.PROCEEDING),
    (NON_INVITE_SERVER, State.TRYING),
    (INVITE_CLIENT, State.CALLING),
    (NON_INVITE_CLIENT, State.TRYING),
]
TIMERS = frozenset[Input]().union(*STATE_TIMERS.values())
FROM_OUTSIDE = [event for event in Input if event not in TIMERS]


def calling(*, reliable: bool = False) -> Transaction:
    transaction = client_transaction("INVITE", reliable=reliable)
    assert transaction.handle(Input.REQUEST, 0.0) == [Do.SEND]
    return transaction


def run_out(transaction: Transaction) -> list[tuple[float, Do]]:
    log: list[tuple[float, Do]] = []
    while transaction.state is not State.TERMINATED:
        now = transaction.deadline
        log += [(now, effect) for effect in transaction.expire(now)]
    return log


def test_an_unanswered_invite_is_resent_in_ever_longer_intervals_without_the_limit_t2() -> None:
    resent = [(at, Do.SEND) for at in (0.5, 1.5, 3.5, 7.5, 15.5, 31.5)]
    assert run_out(calling()) == [*resent, (32.0, Do.REPORT_TIMEOUT)]


def test_over_a_connection_an_invite_is_sent_once_and_waited_for_as_long() -> None:
    assert run_out(calling(reliable=True)) == [(32.0, Do.REPORT_TIMEOUT)]


def test_a_ringing_invite_is_neither_resent_nor_given_up() -> None:
    transaction = calling()
    assert transaction.handle(Input.RECEIVE_1XX, 0.3) == [Do.PASS]
    assert transaction.deadline == float("inf")
    assert transaction.handle(Input.RECEIVE_1XX, 100.0) == [Do.PASS]
    assert transaction.handle(Input.CONNECTION_LOST, 101.0) == []
    assert transaction.handle(Input.GIVE_UP, 102.0) == [Do.REPORT_TIMEOUT]
    assert transaction.state is State.TERMINATED


@pytest.mark.parametrize("reliable", [False, True])
def test_every_2xx_of_every_fork_is_passed_up_for_64_t1_after_the_first(reliable: bool) -> None:
    transaction = calling(reliable=reliable)
    assert transaction.handle(Input.RECEIVE_2XX, 1.0) == [Do.PASS]
    assert transaction.handle(Input.RECEIVE_2XX, 20.0) == [Do.PASS]
    assert transaction.handle(Input.RECEIVE_FAILURE, 21.0) == []
    assert transaction.handle(Input.RECEIVE_1XX, 22.0) == []
    assert transaction.deadline == 1.0 + TIMEOUT
    assert run_out(transaction) == []


def test_a_failure_is_acknowledged_each_time_and_passed_up_once() -> None:
    transaction = calling()
    transaction.handle(Input.RECEIVE_1XX, 0.5)
    assert transaction.handle(Input.RECEIVE_FAILURE, 1.0) == [Do.SEND_ACK, Do.PASS]
    assert transaction.handle(Input.RECEIVE_FAILURE, 1.5) == [Do.SEND_ACK]
    assert transaction.handle(Input.RECEIVE_2XX, 2.0) == []
    assert transaction.deadline == 33.0
    assert run_out(transaction) == []


@pytest.mark.parametrize("method", ["INVITE", "BYE"])
def test_a_lost_connection_ends_a_request_that_nobody_has_answered(method: str) -> None:
    transaction = client_transaction(method, reliable=True)
    transaction.handle(Input.REQUEST, 0.0)
    assert transaction.handle(Input.CONNECTION_LOST, 0.1) == [Do.REPORT_LOSS]
    assert transaction.state is State.TERMINATED


def test_the_status_says_which_input_a_response_is() -> None:
    assert [receiving(status) for status in (100, 199, 200, 299, 300, 699)] == [
        *[Input.RECEIVE_1XX] * 2,
        *[Input.RECEIVE_2XX] * 2,
        *[Input.RECEIVE_FAILURE] * 2,
    ]
    assert [sending(status) for status in (199, 200, 300)] == [Input.SEND_1XX, Input.SEND_2XX, Input.SEND_FAILURE]


Steps = st.lists(st.tuples(st.sampled_from(FROM_OUTSIDE), st.floats(0.0, 10.0)), max_size=30)


@given(which=st.sampled_from(FIRST_STATES), reliable=st.booleans(), steps=Steps)
def test_any_order_of_events_keeps_what_the_standard_promises(
    which: tuple[Table, State], reliable: bool, steps: list[tuple[Input, float]]
) -> None:
    """Timers only in their states, no effect after the end, at most one report, and an end when nothing more comes."""
    table, first = which
    transaction, now, effects = Transaction(table, first, reliable), 0.0, list[Do]()
    if table in (INVITE_CLIENT, NON_INVITE_CLIENT):
        effects += transaction.handle(Input.REQUEST, now)
    for event, pause in steps:
        now += pause
        effects += transaction.expire(now)
        was_over = transaction.state is State.TERMINATED
        latest = transaction.handle(event, now)
        assert not (was_over and latest)
        effects += latest
        assert transaction._timers.keys() <= STATE_TIMERS[transaction.state]
    for _ in range(100):
        if transaction.deadline < float("inf"):
            now = max(now, transaction.deadline)
            effects += transaction.expire(now)
    assert transaction.deadline == float("inf")
    assert effects.count(Do.REPORT_TIMEOUT) + effects.count(Do.REPORT_LOSS) <= 1
    # Only who waits for its user, or for a peer that has given a sign of life, may wait for ever.
    waiting = [State.PROCEEDING] if table in (INVITE_SERVER, INVITE_CLIENT) else []
    waiting += [State.TRYING, State.PROCEEDING] if table is NON_INVITE_SERVER else []
    assert transaction.state in (*waiting, State.TERMINATED)


@given(late=st.floats(0.0, 0.1))
def test_resending_never_comes_sooner_than_t1_nor_rarer_than_t2_for_any_timer_slack(late: float) -> None:
    transaction = client_transaction("BYE")
    transaction.handle(Input.REQUEST, 0.0)
    sent = [0.0]
    while transaction.state is not State.TERMINATED:
        now = transaction.deadline + late
        sent += [now] * transaction.expire(now).count(Do.SEND)
    gaps = [after - before for before, after in pairwise(sent)]
    assert gaps[0] >= T1
    assert all(gap <= T2 + late + 1e-9 for gap in gaps)


INVITE = """INVITE sip:200@example.com SIP/2.0
Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKours;rport
Route: <sip:192.0.2.10;lr>
Max-Forwards: 70
From: <sip:100@example.com>;tag=ours
To: <sip:200@example.com>
Call-ID: one
CSeq: 1 INVITE
Contact: <sip:192.0.2.1:5060>"""


def again(request: Request) -> Request:
    message = parse_untrusted(bytes(request))
    assert isinstance(message, Request)
    return message


def test_the_ack_of_a_failure_belongs_to_the_transaction_of_its_invite() -> None:
    invite = read_request(INVITE)
    ack = again(ack_of_failure(invite, reply(invite, 486)))
    assert (ack.method, ack.target, str(ack.cseq)) == ("ACK", invite.target, "1 ACK")
    assert server_key(ack) == server_key(invite)
    assert ack.to.tag == "theirs"
    assert ack.headers.lines("Route") == ["<sip:192.0.2.10;lr>"]
    assert (ack.header("From"), ack.call_id) == (invite.header("From"), "one")


def test_a_cancel_names_the_transaction_of_its_invite_and_no_tag_of_the_peer() -> None:
    invite = read_request(INVITE)
    cancel = again(cancel_of(invite, [("Reason", "SIP;cause=408")]))
    assert server_key(cancel, "INVITE") == server_key(invite)
    assert (cancel.target, str(cancel.cseq), cancel.to.tag) == (invite.target, "1 CANCEL", None)
    assert cancel.header("Reason") == "SIP;cause=408"
    assert cancel.headers.get("Contact") is None
