"""The test OpenSIPS: subscriptions, restarts, datagrams that get lost, and what it says of a connector."""

from __future__ import annotations

import json

import pytest
import trio
from fake_opensips_parts import SDP, Json, open_world, udp_socket
from trio.testing import MockClock

from aivc.testing import CallRefused, open_fake_opensips, open_phone


def in_any_order(events: list[Json]) -> list[str]:
    """What came from different ports at the same instant has no order."""
    return sorted(json.dumps(event) for event in events)


async def test_every_subscriber_gets_every_event_from_several_ports(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        with udp_socket() as second:
            await second.bind(("192.0.2.3", 9001))
            await world.connector.tell("event_subscribe", event="E_UA_SESSION", socket="udp:192.0.2.3:9001")
            await world.talk()
            for number in range(2, 12):
                await world.caller.ask("UPDATE", number)
            await world.connector.hear()
            heard = [json.loads((await second.recvfrom(65_535))[0])["params"] for _ in world.opensips.events]
        assert in_any_order(heard) == in_any_order(world.opensips.events)
        assert in_any_order(heard) == in_any_order([event for _, event in world.connector.heard])
        ports = {source for source, _ in world.connector.heard}
        assert len(ports) > 1
        assert world.opensips.mi_address not in ports


async def test_a_subscription_ends_within_a_second_after_its_end_when_somebody_looks(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await world.connector.subscribe(2)
        (listed,) = (await world.connector.tell("subscribers_list"))["Events"]
        assert listed["name"] == "E_UA_SESSION"
        assert listed["Subscribers"] == [{"socket": "udp:192.0.2.1:9000", "expire": 2, "ttl": 2}]
        await trio.sleep(2.0)
        (listed,) = (await world.connector.tell("subscribers_list"))["Events"]
        assert listed["Subscribers"][0]["ttl"] == "expired"
        assert len(world.opensips.subscribers) == 1
        await trio.sleep(1.0)
        assert await world.connector.tell("subscribers_list") == {"Events": []}
        assert await world.connector.tell("subscribers_list", event="E_UA_SESSION") == {"Event": {}}
        await world.caller.ask("INVITE", 1, body=SDP)
        assert await world.connector.hear() == []


async def test_an_expiry_of_0_unsubscribes_at_the_next_whole_second(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await world.connector.subscribe(0)
        await world.ring()
        await trio.sleep(1.0)
        assert world.opensips.subscribers == []


async def test_a_renewal_makes_no_second_entry_and_an_address_matches_its_prefix(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await world.connector.subscribe(50)
        assert [entry.expire for entry in world.opensips.subscribers] == [50]
        for socket in ("udp:192.0.2.10:9009", "udp:192.0.2.1:9009"):
            assert await world.connector.tell("event_subscribe", event="E_UA_SESSION", socket=socket) == "OK"
        addresses = [entry.address for entry in world.opensips.subscribers]
        assert addresses == [("192.0.2.10", 9009), ("192.0.2.1", 9000)]


@pytest.mark.parametrize(
    ("event", "socket"),
    [
        ("E_OTHER", "udp:192.0.2.1:9000"),
        ("E_UA_SESSION", "192.0.2.1:9000"),
        ("E_UA_SESSION", "udp:192.0.2.1"),
        ("E_UA_SESSION", "udp:192.0.2.1:0"),
    ],
)
async def test_a_bad_subscription_is_refused(event: str, socket: str, autojump_clock: MockClock) -> None:
    async with open_world() as world:
        refusal = await world.connector.tell("event_subscribe", event=event, socket=socket)
        assert refusal == {"code": 400, "message": "Bad parameter value"}


async def test_positional_parameters_subscribe_as_well(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        params = ["E_UA_SESSION", "udp:192.0.2.1:9000", 7]
        command = {"jsonrpc": "2.0", "method": "event_subscribe", "params": params, "id": "1"}
        assert b'"OK"' in await world.connector.tell_raw(json.dumps(command).encode())
        assert [entry.expire for entry in world.opensips.subscribers] == [7]


async def test_a_restart_loses_sessions_and_subscriptions(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await world.talk()
        await world.opensips.restart()
        assert (world.opensips.sessions, world.opensips.subscribers) == ({}, [])
        await world.connector.subscribe(100)
        await world.caller.ask("INFO", 2)
        await world.caller.ask("BYE", 3)
        assert await world.caller.read_lines() == ["481 Call/Transaction Does Not Exist 2 INFO", "200 OK 3 BYE"]
        assert await world.connector.hear() == []


async def refused_sends(socket: trio.socket.SocketType) -> None:
    for _ in range(2):
        await socket.send(b"{}")
        await trio.sleep(0.1)


async def test_while_it_is_down_nobody_listens(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await world.opensips.stop()
        with udp_socket() as socket:
            await socket.connect(world.opensips.mi_address)
            with pytest.raises(ConnectionRefusedError):
                await refused_sends(socket)
        await world.opensips.start()
        assert "Server" in await world.connector.tell("version")


def is_reply(command: Json) -> bool:
    return bool(command["method"] == "ua_session_reply")


async def test_a_lost_command_is_not_carried_out_and_a_lost_answer_is(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.ring()
        for kind, lines in (("command", []), ("answer", ["180 Said 1 INVITE"])):
            world.opensips.lose("command" if kind == "command" else "answer", is_reply, times=1)
            with trio.move_on_after(1.0) as scope:
                await world.connector.reply(key, "INVITE", 180)
            assert scope.cancelled_caught
            assert await world.caller.read_lines() == lines
        assert await world.connector.reply(key, "INVITE", 180) == "OK"
        assert [command.params["code"] for command in world.opensips.told("ua_session_reply")] == [180, 180]


async def test_events_can_be_late_doubled_and_overtaken(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await world.talk()
        world.opensips.delay("event", 1.0, lambda event: event["method"] == "INFO")
        world.opensips.duplicate("event", lambda event: event["method"] == "UPDATE", times=1)
        await world.caller.ask("INFO", 2)
        await world.caller.ask("UPDATE", 3)
        assert [event["method"] for event in await world.connector.hear(2.0)] == ["UPDATE", "UPDATE", "INFO"]
        world.opensips.heal()
        world.opensips.lose("event", times=1)
        await world.caller.ask("UPDATE", 4)
        await world.caller.ask("UPDATE", 5)
        assert len(await world.connector.hear()) == 1


async def test_a_command_after_a_bye_is_a_race_at_first_and_then_a_fault(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.talk()
        await world.caller.ask("BYE", 2)
        await world.connector.hear()
        await world.connector.tell("ua_session_terminate", key=key)
        assert world.opensips.violations == []
        await trio.sleep(2.0)
        await world.connector.reply(key, "INFO", 200)
        (violation,) = world.opensips.violations
        assert "over since" in violation


async def test_a_repeated_command_is_no_fault(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        key = await world.talk()
        assert await world.connector.tell("ua_session_terminate", key=key) == "OK"
        await trio.sleep(5.0)
        assert (await world.connector.tell("ua_session_terminate", key=key))["code"] == 500
        assert world.opensips.violations == []


async def test_what_a_test_waits_for(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await world.opensips.wait_subscribed()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.talk)
            session = await world.opensips.wait_session()
            assert (await world.opensips.wait_event("UPDATED", "ACK"))["key"] == session.key
        (command,) = await world.opensips.wait_told("ua_session_reply")
        assert (command.result, command.error) == ("OK", None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.opensips.wait_empty)
            await world.caller.ask("BYE", 2)


async def test_on_real_sockets_a_phone_is_refused() -> None:
    with trio.fail_after(10), udp_socket() as mi, udp_socket() as events:
        await mi.bind(("127.0.0.1", 0))
        await events.bind(("127.0.0.1", 0))
        async with (
            open_fake_opensips("127.0.0.1", sip_port=0, mi_port=0) as opensips,
            open_phone() as phone,
            trio.open_nursery() as nursery,
        ):

            async def tell(method: str, params: Json) -> None:
                command = {"jsonrpc": "2.0", "method": method, "params": params, "id": "1"}
                await mi.sendto(json.dumps(command).encode(), opensips.mi_address)
                assert json.loads((await mi.recvfrom(65_535))[0])["result"] == "OK"

            async def refuse() -> None:
                key = json.loads((await events.recvfrom(65_535))[0])["params"]["key"]
                await tell("ua_session_reply", {"key": key, "method": "INVITE", "code": 486, "reason": "Busy Here"})
                await tell("ua_session_terminate", {"key": key})

            port = events.getsockname()[1]
            await tell("event_subscribe", {"event": "E_UA_SESSION", "socket": f"udp:127.0.0.1:{port}"})
            nursery.start_soon(refuse)
            host, sip_port = opensips.sip_address
            with pytest.raises(CallRefused, match="486"):
                async with phone.dial(f"sip:1000@{host}:{sip_port}"):
                    pass
            await opensips.wait_empty()
            assert opensips.violations == []
