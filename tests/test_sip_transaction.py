from __future__ import annotations

import itertools

import pytest

from aivc.sip.message import Request, parse_untrusted
from aivc.sip.transaction import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    Do,
    Input,
    State,
    Table,
    Transaction,
    client_transaction,
    merge_key,
    server_key,
    server_transaction,
)

TABLES: list[Table] = [INVITE_SERVER, NON_INVITE_SERVER, INVITE_CLIENT, NON_INVITE_CLIENT]
FOR_THE_OWNER = (Do.SEND, Do.PASS, Do.SEND_ACK, Do.REPORT_TIMEOUT, Do.REPORT_LOSS)
BACKED_OFF = [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]


def run_out(transaction: Transaction) -> list[tuple[float, Do]]:
    """Let every timer fire at its time."""
    log: list[tuple[float, Do]] = []
    while transaction.state is not State.TERMINATED:
        now = transaction.deadline
        log += [(now, effect) for effect in transaction.expire(now)]
    return log


@pytest.mark.parametrize(("table", "state", "event"), list(itertools.product(TABLES, State, Input)))
def test_every_pair_is_in_the_table_or_absorbed(table: Table, state: State, event: Input) -> None:
    transaction = Transaction(table, state)
    effects = transaction.handle(event, 0.0)
    if (state, event) in table:
        after, actions = table[state, event]
        assert transaction.state is after
        assert effects == [action for action in actions if action in FOR_THE_OWNER]
    else:
        assert effects == []
        assert (transaction.state, transaction.deadline) == (state, float("inf"))


@pytest.mark.parametrize("table", TABLES)
def test_every_state_but_the_first_can_be_left_and_the_last_cannot(table: Table) -> None:
    states = {state for state, _ in table} | {after for after, _ in table.values()}
    assert not any(state is State.TERMINATED for state, _ in table)
    for state in states - {State.TERMINATED}:
        assert any(before is state and after is not state for (before, _), (after, _) in table.items())


def test_an_unacknowledged_failure_is_resent_with_backoff_and_then_reported() -> None:
    transaction = server_transaction("INVITE")
    assert transaction.handle(Input.SEND_FAILURE, 0.0) == [Do.SEND]
    assert run_out(transaction) == [*((at, Do.SEND) for at in BACKED_OFF), (32.0, Do.REPORT_TIMEOUT)]


def test_an_acknowledged_failure_falls_silent_and_absorbs_acks_for_t4() -> None:
    transaction = server_transaction("INVITE")
    transaction.handle(Input.SEND_FAILURE, 0.0)
    assert transaction.handle(Input.ACK, 0.2) == []
    assert transaction.handle(Input.ACK, 0.3) == []
    assert transaction.deadline == 5.2
    assert run_out(transaction) == []


def test_a_success_is_never_resent_by_the_transaction_and_its_ack_is_passed_up() -> None:
    transaction = server_transaction("INVITE")
    assert transaction.handle(Input.SEND_1XX, 0.0) == [Do.SEND]
    assert transaction.handle(Input.REQUEST, 0.1) == [Do.SEND]
    assert transaction.handle(Input.SEND_2XX, 0.2) == [Do.SEND]
    assert transaction.handle(Input.REQUEST, 0.3) == []
    assert transaction.handle(Input.ACK, 0.4) == [Do.PASS]
    assert transaction.deadline == 32.2
    assert run_out(transaction) == []


def test_a_non_invite_server_repeats_its_answer_for_32_seconds() -> None:
    transaction = server_transaction("OPTIONS")
    assert transaction.handle(Input.REQUEST, 0.0) == []
    assert transaction.handle(Input.SEND_2XX, 1.0) == [Do.SEND]
    assert transaction.handle(Input.REQUEST, 2.0) == [Do.SEND]
    assert transaction.handle(Input.SEND_FAILURE, 2.0) == []
    assert transaction.deadline == 33.0
    assert run_out(transaction) == []


def test_an_unanswered_request_is_resent_with_backoff_and_then_reported() -> None:
    transaction = client_transaction("BYE")
    assert transaction.handle(Input.REQUEST, 0.0) == [Do.SEND]
    assert run_out(transaction) == [*((at, Do.SEND) for at in BACKED_OFF), (32.0, Do.REPORT_TIMEOUT)]


def test_a_provisional_response_slows_the_request_to_t2_and_keeps_timer_f() -> None:
    transaction = client_transaction("BYE")
    transaction.handle(Input.REQUEST, 0.0)
    assert transaction.handle(Input.RECEIVE_1XX, 0.4) == [Do.PASS]
    log = run_out(transaction)
    assert [at for at, _ in log] == pytest.approx([4.4, 8.4, 12.4, 16.4, 20.4, 24.4, 28.4, 32.0])
    assert log[-1][1] is Do.REPORT_TIMEOUT


def test_a_final_response_is_passed_up_once_and_its_copies_are_absorbed_for_t4() -> None:
    transaction = client_transaction("BYE")
    transaction.handle(Input.REQUEST, 0.0)
    assert transaction.handle(Input.RECEIVE_2XX, 1.0) == [Do.PASS]
    assert transaction.handle(Input.RECEIVE_2XX, 1.1) == []
    assert transaction.handle(Input.RECEIVE_FAILURE, 1.2) == []
    assert transaction.deadline == 6.0
    assert run_out(transaction) == []


def test_nothing_is_resent_and_nothing_lingers_over_a_reliable_transport() -> None:
    failure = server_transaction("INVITE", reliable=True)
    failure.handle(Input.SEND_FAILURE, 0.0)
    assert run_out(failure) == [(32.0, Do.REPORT_TIMEOUT)]
    answered = server_transaction("BYE", reliable=True)
    answered.handle(Input.SEND_2XX, 3.0)
    assert answered.deadline == 3.0
    request = client_transaction("BYE", reliable=True)
    request.handle(Input.REQUEST, 0.0)
    assert request.deadline == 32.0
    invite = client_transaction("INVITE", reliable=True)
    invite.handle(Input.REQUEST, 0.0)
    assert invite.deadline == 32.0
    assert invite.handle(Input.RECEIVE_FAILURE, 3.0) == [Do.SEND_ACK, Do.PASS]
    assert invite.deadline == 3.0
    acknowledged = server_transaction("INVITE", reliable=True)
    acknowledged.handle(Input.SEND_FAILURE, 0.0)
    acknowledged.handle(Input.ACK, 1.0)
    assert acknowledged.deadline == 1.0


def read(
    method: str = "INVITE", via: str = "192.0.2.9;branch=z9hG4bKx", call: str = "c", to: str = "<sip:b@c>"
) -> Request:
    lines = (f"Via: SIP/2.0/UDP {via}", "From: <sip:a@b>;tag=1", f"To: {to}", f"Call-ID: {call}", f"CSeq: 1 {method}")
    message = parse_untrusted("\r\n".join((f"{method} sip:b@c SIP/2.0", *lines, "", "")).encode())
    assert isinstance(message, Request)
    return message


def test_the_ack_and_the_cancel_of_an_invite_find_it() -> None:
    assert server_key(read("ACK", to="<sip:b@c>;tag=2")) == server_key(read())
    assert server_key(read("CANCEL")) != server_key(read())
    assert server_key(read("CANCEL"), "INVITE") == server_key(read())


def test_another_branch_or_sender_is_another_transaction() -> None:
    keys = {
        server_key(read(via=via))
        for via in ("h;branch=z9hG4bKx", "h;branch=z9hG4bKy", "h:5060;branch=z9hG4bKx", "i;branch=z9hG4bKx")
    }
    assert len(keys) == 4


@pytest.mark.parametrize("via", ["h;branch=z9hG4bK", "h", "h;branch=1"])
def test_a_branch_without_the_cookie_or_with_nothing_else_does_not_prove_a_match(via: str) -> None:
    assert server_key(read(via=via)) == server_key(read(via=via))
    assert server_key(read(via=via)) != server_key(read(via=via, call="d"))


def test_copies_of_one_request_by_two_ways_share_their_merge_key_outside_dialogs_only() -> None:
    assert merge_key(read(via="h;branch=z9hG4bKy")) == merge_key(read())
    assert merge_key(read(call="d")) != merge_key(read())
    assert merge_key(read(to="<sip:b@c>;tag=2")) is None
