"""The OpenSIPS front end as a whole: whose datagrams it reads, where it wants them, how it begins and ends."""

from __future__ import annotations

import errno
import logging

import pytest
import trio
from connector_parts import EVENTS, connector, seeded
from log_lines import fields_of, names_of
from paper_opensips import OPENSIPS, WORKER, PaperOpenSips, event, key, serve
from trio.testing import MockClock

from aivc.config.settings import EngineSettings, OpenSipsSettings, SipSettings
from aivc.sip import opensips as front_end_module
from aivc.sip.event_socket import open_event_socket
from aivc.sip.opensips import open_opensips
from aivc.testing.network import VirtualNetwork

KEY = key(1)


async def send_from(host: str, data: bytes, port: int = 41_000) -> None:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as socket:
        await socket.bind((host, port))
        await socket.sendto(data, EVENTS)


async def test_a_foreign_datagram_is_not_read_but_counted_and_told_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with connector() as found:
        for _ in range(50):
            await send_from("203.0.113.9", event(KEY))
        await trio.sleep(1)
        assert (found.waiting(), found.counts().foreign, found.opensips.told) == (0, 50, [])
        assert names_of(caplog) == ["opensips.subscribed", "opensips.foreign"]
        assert fields_of(caplog.records[1])["source"] == "203.0.113.9:41000"


async def test_a_flood_of_forged_sources_is_told_of_a_few_times(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with connector() as found:
        for number in range(500):
            await send_from(f"203.0.{number // 250}.{number % 250 + 1}", b"x")
        await trio.sleep(1)
        assert found.counts().foreign == 500
        assert names_of(caplog).count("opensips.foreign") <= 6


@pytest.mark.parametrize(
    ("event_ip", "peer_ip", "told", "expected"),
    [
        ("0.0.0.0", "192.0.2.5", "192.0.2.7", {"192.0.2.5"}),
        ("192.0.2.44", "192.0.2.5", "192.0.2.44", {"192.0.2.5"}),
        ("0.0.0.0", "192.0.2.7", "192.0.2.7", {"192.0.2.7", "127.0.0.1"}),  # OpenSIPS is on our own host
        ("192.0.2.44", "127.0.0.1", "192.0.2.44", {"127.0.0.1", "192.0.2.44"}),
        ("0.0.0.0", None, "127.0.0.1", {"127.0.0.1"}),  # by a UNIX socket
        ("192.0.2.44", None, "192.0.2.44", {"127.0.0.1", "192.0.2.44"}),
    ],
)
async def test_where_events_come_to_and_from_follows_from_the_way_to_opensips(
    event_ip: str, peer_ip: str | None, told: str, expected: set[str], autojump_clock: MockClock
) -> None:
    VirtualNetwork(host=EVENTS[0]).enable()
    events = await open_event_socket(OpenSipsSettings(), EngineSettings(event_ip=event_ip, event_port=50_060))
    with events.socket:
        assert not any(events.expects(ip) for ip in expected)  # nobody is expected before
        await events.locate(peer_ip)
        assert events.address == (told, 50_060)
        hosts = {"127.0.0.1", "192.0.2.5", "192.0.2.7", "192.0.2.44", "203.0.113.9"}
        assert {ip for ip in hosts if events.expects(ip)} == expected


async def test_every_process_of_opensips_may_send_from_its_own_port(autojump_clock: MockClock) -> None:
    async with connector() as found:
        for number in range(3):
            await send_from(WORKER[0], event(key(number)), port=42_000 + number)
        await trio.sleep(0.1)
        assert found.waiting() == 3


async def test_an_opensips_that_is_down_is_no_error(autojump_clock: MockClock) -> None:
    async with connector(PaperOpenSips(is_up=False)) as found:
        await trio.sleep(100)
        subscribed = [found.front_end.is_subscribed]
        found.opensips.is_up = True
        await trio.sleep(6)
        assert [*subscribed, found.front_end.is_subscribed] == [False, True]


async def test_an_opensips_known_by_name_is_found_when_the_name_is(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(host=EVENTS[0]).enable()
    settings, engine = OpenSipsSettings(ip="opensips.test", port=OPENSIPS[1]), EngineSettings(event_ip="0.0.0.0")
    opensips = PaperOpenSips()
    with trio.fail_after(1000):
        async with serve(opensips), open_opensips(settings, engine, SipSettings(), randomness=seeded()) as front_end:
            await trio.sleep(20)
            assert not front_end.is_subscribed
            network.names["opensips.test"] = OPENSIPS[0]
            await trio.sleep(10)
            assert list(opensips.subscribers) == [f"udp:192.0.2.7:{front_end.event_address[1]}"]


async def test_a_port_that_is_taken_is_an_error_at_once(autojump_clock: MockClock) -> None:
    async with connector():
        engine = EngineSettings(event_ip=EVENTS[0], event_port=EVENTS[1])
        with pytest.raises(OSError, match=r"192\.0\.2\.7:50060") as caught:
            async with open_opensips(OpenSipsSettings(), engine, SipSettings()):
                pytest.fail("opened")
        assert caught.value.errno == errno.EADDRINUSE


async def test_events_that_opensips_would_send_to_itself_are_warned_of(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with connector(engine=EngineSettings()):
        assert "opensips.events_lost" in names_of(caplog)
        await trio.sleep(1000)
        assert names_of(caplog).count("opensips.events_lost") == 1


async def test_in_the_end_the_subscription_is_taken_back_and_waiting_callers_are_refused(
    autojump_clock: MockClock,
) -> None:
    async with connector() as found:
        leg = await found.call(KEY)
        opensips, legs = found.opensips, found.front_end.legs
        assert opensips.subscribers[f"udp:{EVENTS[0]}:{EVENTS[1]}"] > trio.current_time()
    assert max(opensips.subscribers.values()) <= trio.current_time()
    assert opensips.told == [f"{KEY} INVITE 503", f"{KEY} terminate"]
    with trio.fail_after(1):
        assert [event async for event in leg.events] == []
        assert [leg async for leg in legs] == []


async def test_refusals_are_said_before_the_end(autojump_clock: MockClock) -> None:
    async with connector(instance=None) as found:
        found.opensips.sessions[KEY] = 1
        await found.worker.sendto(event(KEY, headers=None), EVENTS)
        await trio.testing.wait_all_tasks_blocked()
        opensips = found.opensips
    assert opensips.told == [f"{KEY} INVITE 500", f"{KEY} terminate"]


async def test_a_cancelled_front_end_takes_its_subscription_back_too(autojump_clock: MockClock) -> None:
    opensips = PaperOpenSips()
    VirtualNetwork(host=EVENTS[0]).enable()
    with trio.fail_after(100):
        async with serve(opensips), trio.open_nursery() as nursery:
            await nursery.start(hold_open)
            await trio.sleep(0.1)
            assert max(opensips.subscribers.values()) > trio.current_time()
            nursery.cancel_scope.cancel()
    assert max(opensips.subscribers.values()) <= trio.current_time()


async def hold_open(task_status: trio.TaskStatus[None]) -> None:
    settings, engine = OpenSipsSettings(ip=OPENSIPS[0], port=OPENSIPS[1]), EngineSettings(event_ip=EVENTS[0])
    async with open_opensips(settings, engine, SipSettings()):
        task_status.started()
        await trio.sleep_forever()


async def test_an_opensips_that_has_died_does_not_hold_up_the_end(autojump_clock: MockClock) -> None:
    async with connector() as found:
        found.opensips.is_up = False
        began = trio.current_time()
    assert trio.current_time() - began <= front_end_module.LEAVE_SECONDS + 0.1


async def test_withdrawing_keeps_the_events_of_running_calls(autojump_clock: MockClock) -> None:
    async with connector() as found:
        await found.front_end.withdraw()
        await trio.sleep(200)
        assert found.front_end.is_subscribed
        await found.call(KEY)


async def test_a_call_comes_in_over_real_sockets() -> None:
    opensips = PaperOpenSips()
    with trio.fail_after(10):
        async with serve(opensips, ("127.0.0.1", 0)) as port:
            settings = OpenSipsSettings(port=port, check_seconds=0)
            async with open_opensips(settings, EngineSettings(), SipSettings()) as front_end:
                await trio.sleep(0.3)
                assert front_end.is_subscribed
                with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as worker:
                    opensips.sessions[KEY] = 1
                    await worker.sendto(event(KEY), front_end.event_address)
                    leg = await front_end.legs.receive()
                    await leg.answer(("127.0.0.1", 40_000))
        assert opensips.told == [f"{KEY} INVITE 200"]
