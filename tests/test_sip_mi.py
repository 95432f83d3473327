"""The client of OpenSIPS's management interface: deadlines, repeats, and answers of every kind."""

from __future__ import annotations

import random
from collections.abc import Sequence

import attrs
import pytest
import trio
from mi_parts import (
    ASK,
    END,
    LIST,
    REFER,
    SETTINGS,
    Asked,
    Reply,
    done,
    failed,
    open_interface,
    outcome,
    silent,
    virtual,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from aivc.sip.jsonrpc import Command, Repeat
from aivc.sip.mi import MAX_OUTSTANDING, ManagementInterface, MiRefused, MiUnanswered, open_mi


async def test_a_command_is_a_json_rpc_request_and_its_result_comes_back(autojump_clock: MockClock) -> None:
    virtual()
    with trio.fail_after(10):
        async with open_interface(lambda _, asked: done(asked, [1, {"a": None}])) as opensips, open_mi(SETTINGS) as mi:
            assert await mi.perform(ASK) == [1, {"a": None}]
            assert mi.peer_ip == "192.0.2.5"
    (_, asked) = opensips.asked[0]
    assert isinstance(asked.pop("id"), str)
    assert asked == {"jsonrpc": "2.0", "method": "ua_session_list", "params": {"key": "B2B.1.2"}}
    assert attrs.asdict(mi.statistics()) | {"sent": 1, "answered": 1} == attrs.asdict(mi.statistics())


async def test_a_refusal_tells_code_text_method_and_key(autojump_clock: MockClock) -> None:
    virtual()
    with trio.fail_after(10):
        async with open_interface(lambda _, asked: failed(asked, 404, "Entity not found")), open_mi(SETTINGS) as mi:
            error = await outcome(mi, ASK)
    assert isinstance(error, MiRefused)
    assert (error.code, error.text) == (404, "Entity not found")
    assert str(error) == "ua_session_list B2B.1.2: 404 Entity not found"
    assert mi.statistics().refused == 1


async def test_a_lost_command_is_repeated_with_the_same_id_after_half_a_second_and_then_one(
    autojump_clock: MockClock,
) -> None:
    virtual()
    with trio.fail_after(10):
        async with (
            open_interface(lambda number, asked: done(asked) if number == 2 else []) as opensips,
            open_mi(SETTINGS) as mi,
        ):
            start = trio.current_time()
            assert await mi.perform(ASK) == "OK"
    assert opensips.times(start) == [0.0, 0.5, 1.5]
    assert len(set(opensips.ids)) == 1
    assert (mi.statistics().sent, mi.statistics().repeated) == (3, 2)


async def test_a_late_answer_to_an_earlier_try_serves_and_the_later_one_is_a_stray(autojump_clock: MockClock) -> None:
    virtual()
    with trio.fail_after(10):
        async with open_interface(lambda number, asked: done(asked, number, after=0.7)), open_mi(SETTINGS) as mi:
            start = trio.current_time()
            assert await mi.perform(ASK) == 0
            assert trio.current_time() - start == pytest.approx(0.7)
            await trio.sleep(1)
    assert mi.statistics().strays == 1


async def test_silence_is_told_after_the_deadline_and_repeats_go_on_until_then(autojump_clock: MockClock) -> None:
    virtual()
    with trio.fail_after(60):
        async with open_interface(silent) as opensips, open_mi(SETTINGS) as mi:
            start = trio.current_time()
            error = await outcome(mi, ASK, 8)
            assert trio.current_time() - start == pytest.approx(8)
    assert isinstance(error, MiUnanswered)
    assert str(error) == "ua_session_list B2B.1.2: no answer"
    assert opensips.times(start) == [0.0, 0.5, 1.5, 3.5, 5.5, 7.5]
    assert mi.statistics().unanswered == 1


async def test_what_must_not_be_done_twice_is_sent_once(autojump_clock: MockClock) -> None:
    virtual()
    with trio.fail_after(60):
        async with open_interface(silent) as opensips, open_mi(SETTINGS) as mi:
            assert isinstance(await outcome(mi, REFER), MiUnanswered)
    assert len(opensips.asked) == 1


async def test_that_the_second_try_of_a_terminate_is_refused_means_that_the_first_was_done(
    autojump_clock: MockClock,
) -> None:
    def forgetful(number: int, asked: Asked) -> Sequence[Reply]:
        return failed(asked, 500, "Failed to terminate session") if number else []

    virtual()
    with trio.fail_after(60):
        async with open_interface(forgetful), open_mi(SETTINGS) as mi:
            assert await mi.perform(END) == "OK"
            assert isinstance(await outcome(mi, END), MiRefused)  # this one was refused at the first try


async def test_that_a_repeated_command_is_not_known_is_no_success(autojump_clock: MockClock) -> None:
    virtual()
    with trio.fail_after(60):
        async with (
            open_interface(lambda number, asked: failed(asked, -32601, "Method not found") if number else []),
            open_mi(SETTINGS) as mi,
        ):
            assert isinstance(await outcome(mi, END), MiRefused)


async def test_many_at_once_get_their_own_answers_in_whatever_order_they_come(autojump_clock: MockClock) -> None:
    def backwards(number: int, asked: Asked) -> Sequence[Reply]:
        return done(asked, asked["params"]["n"], after=(20 - number) * 0.001)

    virtual()
    results: list[tuple[int, object]] = []

    async def ask(mi: ManagementInterface, number: int) -> None:
        results.append((number, await mi.perform(Command("x", {"n": number}, Repeat.HARMLESS))))

    with trio.fail_after(10):
        async with open_interface(backwards) as opensips, open_mi(SETTINGS) as mi, trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(ask, mi, number)
    assert all(asked == told for asked, told in results)
    assert len(results) == 20
    assert len(set(opensips.ids)) == 20


async def test_ids_of_another_process_are_others() -> None:
    virtual()
    with trio.fail_after(10):
        async with open_interface() as opensips:
            for seed in (1, 2):
                async with open_mi(SETTINGS, randomness=random.Random(seed)) as mi:
                    await mi.perform(ASK)
    assert len(set(opensips.ids)) == 2


async def test_a_bare_failure_is_for_the_oldest_command_with_a_long_answer(autojump_clock: MockClock) -> None:
    def overflowing(number: int, asked: Asked) -> Sequence[Reply]:
        if asked["params"]:
            return done(asked, after=0.3)
        return [(0.2, b"500 Internal error")] if number < 3 else []

    virtual()
    results: dict[str, object] = {}

    async def ask(mi: ManagementInterface, name: str, command: Command) -> None:
        results[name] = await outcome(mi, command, 0.4)

    with trio.fail_after(10):
        async with open_interface(overflowing), open_mi(SETTINGS) as mi, trio.open_nursery() as nursery:
            for name, command in (("one", ASK), ("long", LIST), ("longer", LIST)):
                nursery.start_soon(ask, mi, name, command)
                await trio.sleep(0.01)
    assert results["one"] == "OK"
    assert isinstance(results["long"], MiRefused)
    assert results["long"].code == 500
    assert isinstance(results["longer"], MiRefused)


@pytest.mark.parametrize("bare", [b"500 Internal error", b'{"error":{"code":500,"message":"no"},"id":null}'])
async def test_a_failure_without_an_id_is_for_no_command_but_a_list(autojump_clock: MockClock, bare: bytes) -> None:
    virtual()
    with trio.fail_after(10):
        async with open_interface(lambda _, asked: [(0.1, bare), *done(asked, after=0.2)]), open_mi(SETTINGS) as mi:
            assert await mi.perform(ASK) == "OK"
    assert mi.statistics().strays == 1


@pytest.mark.parametrize("junk", [b"", b"\xff\xfe", b"{", b"[" * 60_000, b"{}", b"200 OK", b'{"id":1,"result":1}'])
async def test_what_is_no_answer_is_counted_and_the_true_one_still_serves(
    autojump_clock: MockClock, junk: bytes
) -> None:
    virtual()
    with trio.fail_after(10):
        async with open_interface(lambda _, asked: [(0.1, junk), *done(asked, after=0.2)]), open_mi(SETTINGS) as mi:
            assert await mi.perform(ASK) == "OK"
    assert mi.statistics().unreadable == 1


async def test_octets_of_any_kind_in_a_result_come_through(autojump_clock: MockClock) -> None:
    def answer(_: int, asked: Asked) -> Sequence[Reply]:
        return [(0.0, b'{"jsonrpc":"2.0","result":"caf\xe9","id":"%s"}' % asked["id"].encode())]

    virtual()
    with trio.fail_after(10):
        async with open_interface(answer), open_mi(SETTINGS) as mi:
            assert await mi.perform(ASK) == "caf\udce9"


async def test_an_answer_from_elsewhere_never_arrives(autojump_clock: MockClock) -> None:
    virtual()
    with trio.fail_after(10):
        async with open_interface(silent) as opensips, open_mi(SETTINGS) as mi:

            async def forge() -> None:
                await wait_all_tasks_blocked()
                with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as other:
                    await other.bind(("192.0.2.66", 8080))
                    [(_, forged)] = done(opensips.asked[0][1])
                    await other.sendto(forged, opensips.sources[0])

            async with trio.open_nursery() as nursery:
                nursery.start_soon(forge)
                assert isinstance(await outcome(mi, ASK, 1), MiUnanswered)
    assert mi.statistics().strays == 0


async def test_too_many_at_once_fail_at_once(autojump_clock: MockClock) -> None:
    virtual()
    results: list[object] = []

    async def ask(mi: ManagementInterface) -> None:
        results.append(await outcome(mi, REFER))

    with trio.fail_after(60):
        async with open_interface(silent), open_mi(SETTINGS) as mi, trio.open_nursery() as nursery:
            for _ in range(MAX_OUTSTANDING):
                nursery.start_soon(ask, mi)
            await wait_all_tasks_blocked()
            error = await outcome(mi, ASK)
            assert isinstance(error, MiUnanswered)
            assert "wait" in str(error)
            assert results == []
    assert mi.statistics().crowded == 1
    assert len(results) == MAX_OUTSTANDING


async def test_a_command_too_long_for_opensips_is_refused_as_it_would_be() -> None:
    virtual()
    with trio.fail_after(10):
        async with open_interface() as opensips, open_mi(SETTINGS) as mi:
            error = await outcome(mi, Command("x", {"body": "\n" * 40_000}, Repeat.NEVER))
    assert isinstance(error, MiRefused)
    assert error.code == 400
    assert opensips.asked == []


async def test_a_cancelled_command_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    virtual()
    with trio.fail_after(10):
        async with open_interface(lambda _, asked: done(asked, after=0.3)) as opensips, open_mi(SETTINGS) as mi:
            with trio.move_on_after(0.1) as scope:
                await mi.perform(ASK)
            assert scope.cancelled_caught
            await trio.sleep(5)
            assert await mi.perform(ASK) == "OK"
    assert len(opensips.asked) == 2
    assert mi.statistics().strays == 1


async def test_commands_that_end_calls_are_still_answered_while_everything_around_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    virtual()
    ended: list[object] = []
    with trio.fail_after(10):
        async with open_interface(lambda _, asked: done(asked, after=0.3)):
            with trio.CancelScope() as scope:
                async with open_mi(SETTINGS) as mi:
                    scope.cancel()
                    with trio.CancelScope(shield=True):
                        ended.append(await mi.perform(END, 1))
    assert ended == ["OK"]
