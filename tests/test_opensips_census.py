"""What the census finds in OpenSIPS's list: sessions of ours that are gone, and sessions that nobody serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from paper_opensips import BEGAN, PaperOpenSips, Refused, key
from trio.testing import MockClock

from aivc.config.settings import OpenSipsSettings
from aivc.sip.census import Census, began_at
from aivc.sip.subscribing import Subscription
from aivc.sip.uasession import SessionEvent

OWN = "udp:192.0.2.7:50060"


@attrs.define
class PaperSession:
    """A session of ours as far as the census cares."""

    is_over: bool = False
    is_unanswered: bool = False
    is_ending: bool = False
    lost: list[str] = attrs.field(factory=list)

    def lose(self, cause: str) -> None:
        self.lost.append(cause)
        self.is_over = True

    def take(self, event: SessionEvent) -> None:
        raise AssertionError("the census tells no events")

    def close(self) -> None:
        raise AssertionError("the census ends nothing of ours")


@attrs.define
class Counted:
    opensips: PaperOpenSips
    census: Census
    ours: dict[str, PaperSession]

    def call(self, number: int, state: int = 5) -> PaperSession:
        """One that both have."""
        self.opensips.sessions[key(number)] = state
        session = self.ours[key(number)] = PaperSession()
        return session


@asynccontextmanager
async def counted(opensips: PaperOpenSips | None = None, **settings: Any) -> AsyncIterator[Counted]:
    """A census every 15 s, the first one at once."""

    async def own_socket() -> str:
        return OWN

    opensips, chosen = opensips or PaperOpenSips(), OpenSipsSettings(**settings)
    ours: dict[str, PaperSession] = {}
    subscription = Subscription(opensips, chosen, own_socket)
    census = Census(opensips, chosen, ours, subscription, lambda: BEGAN + trio.current_time())
    subscription.on_subscribed = census.wake
    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subscription.run)
            nursery.start_soon(census.run)
            await trio.sleep(0.1)
            yield Counted(opensips, census, ours)
            nursery.cancel_scope.cancel()


async def test_a_session_that_opensips_has_lost_is_told_after_two_looks(autojump_clock: MockClock) -> None:
    async with counted() as found:
        gone, alive = found.call(1), found.call(2)
        del found.opensips.sessions[key(1)]
        await trio.sleep(15.1)
        assert not gone.lost
        await trio.sleep(2)
        assert len(gone.lost) == 1
        await trio.sleep(60)
        assert (len(gone.lost), alive.lost) == (1, [])
        assert found.census.lost == 1
        assert found.opensips.told == []


async def test_a_session_whose_end_comes_between_the_looks_is_not_lost(autojump_clock: MockClock) -> None:
    async with counted() as found:
        ending = found.call(1)
        del found.opensips.sessions[key(1)]
        await trio.sleep(15.1)
        del found.ours[key(1)]
        await trio.sleep(30)
        assert not ending.lost
        assert found.census.lost == 0


async def test_a_session_made_while_the_list_is_written_is_not_missed(autojump_clock: MockClock) -> None:
    async with counted(check_seconds=1) as found:
        for number in range(50):  # each comes at another point of a look
            found.opensips.sessions.clear()
            found.ours.clear()
            await trio.sleep(0.0403)
            assert found.call(number).lost == []
        assert found.census.lost == 0


async def test_after_a_restart_all_sessions_are_lost_within_a_renewal_and_two_looks(autojump_clock: MockClock) -> None:
    async with counted(subscription_seconds=30, check_seconds=3600) as found:
        sessions = [found.call(number) for number in range(5)]
        found.opensips.restart()
        await trio.sleep(12.5)
        assert [len(session.lost) for session in sessions] == [1] * 5


async def test_sessions_that_are_missing_have_the_subscription_made_again_before_its_renewal(
    autojump_clock: MockClock,
) -> None:
    async with counted(subscription_seconds=3600) as found:
        found.call(1)
        found.opensips.restart()
        await trio.sleep(15 + 2.5)
        assert found.census.subscription.lapses == 1


async def test_many_sessions_are_asked_for_one_by_one(autojump_clock: MockClock) -> None:
    async with counted() as found:
        ours = [found.call(number) for number in range(100)]
        found.opensips.sessions |= {key(number): 5 for number in range(1000, 1100)}  # too many for one answer
        del found.opensips.sessions[key(7)]
        await trio.sleep(20)
        assert [bool(session.lost) for session in ours] == [number == 7 for number in range(100)]
        assert found.opensips.told == []  # who the others are is not known


async def test_a_list_that_cannot_be_is_not_asked_for(autojump_clock: MockClock) -> None:
    async with counted() as found:
        lists = found.opensips.lists
        ours = [found.call(number) for number in range(200)]
        del found.opensips.sessions[key(150)]
        await trio.sleep(40)
        assert [number for number, session in enumerate(ours) if session.lost] == [150]
        assert found.opensips.lists == lists


async def test_an_opensips_that_does_not_answer_costs_no_session(autojump_clock: MockClock) -> None:
    async with counted() as found:
        session = found.call(1)
        found.opensips.is_up = False
        await trio.sleep(500)
        assert not session.lost
        assert not found.census.subscription.is_subscribed  # the census has raised the doubt


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (1, ["INVITE 503", "terminate"]),
        (3, ["INVITE 503", "terminate"]),
        (4, ["terminate"]),
        (5, ["terminate"]),
        (6, ["terminate"]),
        (7, ["INVITE 487", "terminate"]),
    ],
)
async def test_an_orphan_is_ended_in_the_way_of_its_state(
    state: int, told: list[str], autojump_clock: MockClock
) -> None:
    async with counted(PaperOpenSips(sessions={key(1): state})) as found:
        await trio.sleep(1)
        assert found.opensips.told == []
        await trio.sleep(2)
        assert found.opensips.told == [f"{key(1)} {text}" for text in told]
        assert found.opensips.sessions == {}
        await trio.sleep(60)
        assert found.census.orphans == 1


async def test_a_session_whose_event_is_on_its_way_is_no_orphan(autojump_clock: MockClock) -> None:
    async with counted() as found:
        found.opensips.sessions[key(1)] = 1
        await trio.sleep(15.1)
        found.ours[key(1)] = PaperSession()
        await trio.sleep(60)
        assert found.opensips.told == []


async def test_sessions_that_opensips_was_told_to_make_are_left_alone(autojump_clock: MockClock) -> None:
    async with counted(PaperOpenSips(sessions={key(1, "uac"): 5})) as found:
        await trio.sleep(100)
        assert found.opensips.told == []


async def test_orphans_are_left_alone_while_somebody_else_is_subscribed(autojump_clock: MockClock) -> None:
    opensips = PaperOpenSips(sessions={key(1): 5}, subscribers={"udp:192.0.2.8:1": 100.0})
    async with counted(opensips) as found:
        await trio.sleep(95)
        assert opensips.told == []
        assert found.opensips.lists < 10  # and nobody looks twice because of them
        await trio.sleep(60)
        assert opensips.told == [f"{key(1)} terminate"]


async def test_a_session_whose_cancel_or_bye_we_have_not_heard_of_is_told_and_freed(autojump_clock: MockClock) -> None:
    async with counted(instance="aivc-1") as found:
        session = found.call(1, state=7)
        await trio.sleep(20)
        assert len(session.lost) == 1
        assert found.opensips.told == [f"{key(1)} INVITE 487", f"{key(1)} terminate"]


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_session_that_we_are_ending_is_not_lost(is_over: bool, autojump_clock: MockClock) -> None:
    async with counted() as found:
        session = found.call(1, state=7)  # while the answer to our BYE is on its way
        session.is_ending, session.is_over = True, is_over
        await trio.sleep(60)
        assert (session.lost, found.opensips.told) == ([], [])


async def test_an_orphan_that_opensips_does_not_free_is_counted_once_and_tried_again(autojump_clock: MockClock) -> None:
    async with counted(Stubborn()) as found:
        found.opensips.sessions[key(1)] = 5
        await trio.sleep(300)
        assert found.census.orphans == 1
        assert found.opensips.told.count(f"{key(1)} terminate") > 5


async def test_a_connector_that_has_just_come_keeps_its_sessions(autojump_clock: MockClock) -> None:
    async with counted(subscription_seconds=3600) as found:
        await trio.sleep(1)
        assert found.census.subscription.is_sole
        found.opensips.subscribers["udp:192.0.2.8:1"] = 1000.0
        found.opensips.sessions[key(1)] = 5
        await trio.sleep(100)
        assert found.opensips.told == []


@pytest.mark.parametrize(
    ("state", "told"), [(1, [f"{key(1)} INVITE 503"]), (3, [f"{key(1)} INVITE 503"]), (5, []), (7, [])]
)
async def test_an_orphan_that_has_outlived_its_timer_is_not_terminated_which_may_crash_opensips(
    state: int, told: list[str], autojump_clock: MockClock
) -> None:
    async with counted(session_seconds=61) as found:
        await trio.sleep(61)
        found.opensips.sessions[key(1)] = state
        await trio.sleep(300)
        assert found.opensips.told == told


def test_the_beginning_of_a_session_is_read_off_its_key() -> None:
    assert began_at("B2B.212.500.1795333284.543018876") == 1_795_333_284
    assert began_at("my.own.prefix.212.500.1795333284.543018876") == 1_795_333_284


@pytest.mark.parametrize("unreadable", ["", "B2B", "a.b", "B2B.1.2.-3.4", "B2B.1.2.x.4", "B2B.1.2.\u0663.4", "...."])
def test_a_key_that_tells_no_beginning_passes_for_new(unreadable: str) -> None:
    assert began_at(unreadable) is None


class Stubborn(PaperOpenSips):
    """Frees nothing."""

    def _end(self, method: str, params: dict[str, Any], key: str) -> str:
        self.told.append(f"{key} terminate")
        raise Refused(500, "Failed to terminate session")
