"""Where events of OpenSIPS go: to their session, to a new leg, or to nobody; and whose datagrams are read at all."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest
import trio
from connector_parts import connector
from log_lines import lines_of, names_of
from paper_opensips import PaperOpenSips, event, headers, key
from trio.testing import MockClock

from aivc.sip import reception
from aivc.sip.leg import Cancelled, HungUp, SessionExpired

KEY = key(1)
REFUSED = [f"{KEY} INVITE 503", f"{KEY} terminate"]


async def test_a_new_session_becomes_a_leg(autojump_clock: MockClock) -> None:
    async with connector() as found:
        leg = await found.call(KEY)
        assert (leg.dialled, leg.call_id, leg.extra_params) == ("openai", f"call-{KEY}@phone", None)
        assert found.counts().legs == 1
        assert found.opensips.told == []


async def test_later_events_go_to_the_leg_of_their_key(autojump_clock: MockClock) -> None:
    async with connector() as found:
        one, two = await found.call(key(1)), await found.call(key(2))
        await found.send(event(key(2), "TERMINATED", "CANCEL"))
        with trio.fail_after(1):
            assert await two.events.receive() == Cancelled()
        await one.answer(("192.0.2.7", 40_000))
        await found.send(event(key(1), "TERMINATED", "BYE"))
        with trio.fail_after(1):
            assert await one.events.receive() == HungUp()
        await trio.sleep(1)
        assert found.counts().legs == 0


async def test_a_new_event_that_comes_twice_is_one_call(autojump_clock: MockClock) -> None:
    async with connector() as found:
        await found.call(KEY)
        await found.send(event(KEY))
        assert (found.waiting(), found.opensips.told) == (0, [])
        assert found.counts().ignored == 1


async def test_what_is_no_event_is_counted_and_stops_nothing(autojump_clock: MockClock) -> None:
    dice = random.Random(7)
    good = event(KEY, "UPDATED", "INFO")
    async with connector() as found:
        for data in (b"", b"{", b"[]", b"\xff" * 60_000, b"[" * 60_000, b'{"method":"E_UA_SESSION","params":{}}'):
            await found.send(data)
        assert found.counts().unreadable == 6
        for _ in range(200):
            broken = bytearray(good)
            broken[dice.randrange(len(broken))] = dice.randrange(256)
            await found.send(bytes(broken))
        assert found.counts().failures == 0
        await found.call(KEY)


async def test_a_bug_costs_one_call_which_is_refused(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    async with connector() as found:
        with monkeypatch.context() as patch:
            patch.setattr("aivc.sip.event_reception.receive_session", fail)
            found.opensips.sessions[KEY] = 1
            await found.send(event(KEY))
        assert found.opensips.told == [f"{KEY} INVITE 500", f"{KEY} terminate"]
        assert (found.counts().failures, names_of(caplog, logging.ERROR)) == (1, ["sip.bug"])
        await found.call(key(2))


async def test_a_flood_of_calls_that_nobody_takes_is_refused_and_freed(autojump_clock: MockClock) -> None:
    async with connector() as found:
        keys = [key(number) for number in range(reception.WAITING_LEGS + 30)]
        for name in keys:
            found.opensips.sessions[name] = 1
            await found.send(event(name))
        assert found.waiting() == reception.WAITING_LEGS
        refused = keys[reception.WAITING_LEGS :]
        assert set(found.opensips.told) == {
            f"{name} {text}" for name in refused for text in ("INVITE 503", "terminate")
        }
        assert set(found.opensips.sessions) == set(keys[: reception.WAITING_LEGS])


@pytest.mark.parametrize("missing", ["headers", "body"])
async def test_a_call_without_headers_or_body_is_refused_and_the_flags_are_named(
    missing: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    members: dict[str, Any] = {missing: None}
    async with connector() as found:
        found.opensips.sessions[KEY] = 1
        await found.send(event(KEY, **members))
        assert found.opensips.told == [f"{KEY} INVITE 500", f"{KEY} terminate"]
        [hint] = [line["hint"] for line in lines_of(caplog, "opensips.flags")]
        assert '"abh"' in hint


async def test_a_call_that_cannot_be_taken_is_refused_and_freed(autojump_clock: MockClock) -> None:
    async with connector() as found:
        found.opensips.sessions[KEY] = 1
        await found.send(event(KEY, body="v=0\r\n"))
        [refused, freed] = found.opensips.told
        assert refused.startswith(f"{KEY} INVITE 4")
        assert freed == f"{KEY} terminate"


async def test_an_invite_that_is_forked_to_us_twice_is_one_call(autojump_clock: MockClock) -> None:
    one, two = key(1), key(2)
    async with connector() as found:
        await found.call(one)
        found.opensips.sessions[two] = 1
        await found.send(event(two, headers=headers(one, "INVITE", "")))
        assert found.opensips.told == [f"{two} INVITE 482", f"{two} terminate"]
        assert set(found.opensips.sessions) == {one}
        assert found.counts().legs == 1


# Sessions that we do not have


@pytest.mark.parametrize("method", ["INVITE", "INFO", "OPTIONS", "UPDATE", "MESSAGE", "REFER", "NOTIFY"])
async def test_a_request_of_an_unknown_session_is_481(method: str, autojump_clock: MockClock) -> None:
    async with connector() as found:
        found.opensips.sessions[KEY] = 5
        await found.send(event(KEY, "UPDATED", method))
        assert found.opensips.told == [f"{KEY} {method} 481"]


@pytest.mark.parametrize(
    "members",
    [
        {"event_type": "UPDATED", "method": "ACK"},
        {"event_type": "UPDATED", "method": "INFO", "entity_type": "UAC"},
        {"event_type": "ANSWERED", "method": "REFER", "status": 202},
        {"event_type": "REJECTED", "method": "INFO", "status": 486},
        {"event_type": "TERMINATED", "method": "BYE"},
        {"event_type": "NEW", "entity_type": "UAC"},
    ],
)
async def test_other_events_of_unknown_sessions_are_counted_only(
    members: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with connector() as found:
        await found.send(event(KEY, **members))
        assert found.opensips.told == []
        assert found.counts().strays + found.counts().ignored == 1


async def test_who_shares_opensips_leaves_unknown_sessions_alone(autojump_clock: MockClock) -> None:
    async with connector(PaperOpenSips(subscribers={"udp:192.0.2.9:1": 1e9})) as found:
        await found.send(event(KEY, "UPDATED", "INFO"))
        assert found.opensips.told == []


async def test_a_late_request_of_a_session_that_is_over_has_it_freed(autojump_clock: MockClock) -> None:
    async with connector() as found:
        leg = await found.call(KEY)
        await leg.answer(("192.0.2.7", 40_000))
        await found.send(event(KEY, "TERMINATED", "BYE"))
        told = len(found.opensips.told)
        await found.send(event(KEY, "UPDATED", "INFO"))  # from a slower process of OpenSIPS
        assert found.opensips.told[told:] == [f"{KEY} terminate"]  # refused, unless the BYE has left it in memory


async def test_a_cancel_that_overtakes_its_invite_ends_the_call(autojump_clock: MockClock) -> None:
    async with connector() as found:
        found.opensips.sessions[KEY] = 7
        await found.send(event(KEY, "TERMINATED", "CANCEL"))
        await found.send(event(KEY))
        assert found.opensips.told == [f"{KEY} INVITE 487", f"{KEY} terminate"]
        assert found.waiting() == 0


async def test_a_cancel_is_remembered_for_five_seconds(autojump_clock: MockClock) -> None:
    async with connector(check_seconds=0) as found:
        await found.send(event(KEY, "TERMINATED", "CANCEL"))
        await trio.sleep(5)
        await found.call(KEY)


async def test_a_session_that_opensips_lost_ends_the_call(autojump_clock: MockClock) -> None:
    async with connector() as found:
        leg = await found.call(KEY)
        await leg.answer(("192.0.2.7", 40_000))
        told = list(found.opensips.told)
        found.opensips.restart()
        await trio.sleep(20)
        with trio.fail_after(1):
            assert isinstance(await leg.events.receive(), SessionExpired)
        assert found.opensips.told == told
        assert (found.counts().lost, found.counts().legs) == (1, 0)
