from __future__ import annotations

import itertools
import random
import struct

import pytest
import trio
from trio.testing import MockClock

from aivc.config.settings import RtpSettings
from aivc.media.clock import MediaClock, TaskClock, open_heartbeat
from aivc.media.latching import Latch
from aivc.media.pacer import Pacer
from aivc.media.playout import Playout
from aivc.media.ports import NoPortFree, PortPool, local_ip_towards
from aivc.media.stream import RtpStream
from aivc.testing.handset import Handset
from aivc.testing.network import VirtualNetwork

OURS, PHONE = ("192.0.2.1", 4000), ("192.0.2.9", 7078)
VOICE = bytes([0x10, 0x90]) * 80


async def udp(address: tuple[str, int]) -> trio.socket.SocketType:
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind(address)
    return sock


def make_stream(
    sock: trio.socket.SocketType,
    remote: tuple[str, int],
    heard: trio.MemorySendChannel[bytes],
    settings: RtpSettings | None = None,
) -> RtpStream:
    settings, now = settings or RtpSettings(), trio.current_time()
    latch = Latch(remote, remote[0], settings.nat, settings.relatch_seconds)
    return RtpStream(sock, "PCMU", 0, latch, Playout(0xFF), Pacer(0, 7, 65530, 0, now), heard, settings, now)


def datagram(sequence: int, payload: bytes, payload_type: int = 0, ssrc: int = 9) -> bytes:
    return struct.pack("!BBHII", 0x80, payload_type, sequence, 160 * sequence, ssrc) + payload


async def test_every_octet_passes_both_ways_and_each_packet_leaves_on_its_20_ms(autojump_clock: MockClock) -> None:
    VirtualNetwork(delay=0.030).enable()
    ours, phone = await udp(OURS), await udp(PHONE)
    send, receive = trio.open_memory_channel[bytes](50)
    stream, handset, clock = make_stream(ours, PHONE, send), Handset(phone), TaskClock()
    spoken = bytes(random.Random(1).randrange(0, 0x30) for _ in range(160 * 40))
    answer = bytes(random.Random(2).randrange(0, 0x30) for _ in range(160 * 40))
    stream.playout.push("r", "a", answer)
    handset.say(spoken)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for task in (clock.receive, clock.send):
                nursery.start_soon(task, stream)
            nursery.start_soon(handset.listen)
            nursery.start_soon(handset.speak, OURS)
            heard = b"".join([await receive.receive() for _ in range(40)])
            await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
    assert heard == spoken
    assert handset.speech_heard() == answer
    times = [packet.at for packet in handset.heard]
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == pytest.approx([0.02] * (len(times) - 1))
    assert [p.sequence for p in handset.heard[:8]] == [65530, 65531, 65532, 65533, 65534, 65535, 0, 1]
    assert [p.rtp_timestamp for p in handset.heard[:3]] == [0, 160, 320]
    assert [p.marker for p in handset.heard[:3]] == [True, False, False]


async def test_silence_flows_while_there_is_nothing_to_say(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    ours, phone = await udp(OURS), await udp(PHONE)
    send, _receive = trio.open_memory_channel[bytes](50)
    stream, handset = make_stream(ours, PHONE, send), Handset(phone)
    with trio.move_on_after(1.01):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(TaskClock().send, stream)
            nursery.start_soon(handset.listen)
    assert len(handset.heard) == 51
    assert {packet.payload for packet in handset.heard} == {b"\xff" * 160}


async def test_a_model_that_does_not_listen_costs_frames_and_never_the_phone() -> None:
    send, receive = trio.open_memory_channel[bytes](3)
    stream = make_stream(trio.socket.socket(type=trio.socket.SOCK_DGRAM), PHONE, send)
    for n in range(5):
        stream.received(datagram(n, VOICE), PHONE, 0.02 * n)
    assert stream.statistics().heard_dropped == 2
    assert receive.statistics().current_buffer_used == 3
    stream.socket.close()


async def test_what_is_not_the_agreed_audio_is_counted_and_not_heard() -> None:
    send, receive = trio.open_memory_channel[bytes](10)
    stream = make_stream(trio.socket.socket(type=trio.socket.SOCK_DGRAM), PHONE, send)
    stream.received(datagram(1, VOICE), PHONE, 0.0)
    stream.received(datagram(2, b"\x05\x8a\x03\x20", payload_type=101), PHONE, 0.02)  # telephone-event
    stream.received(datagram(3, b"\x40", payload_type=13), PHONE, 0.04)  # comfort noise
    stream.received(b"\x80\xc8\x00\x06" + bytes(24), PHONE, 0.05)  # RTCP sender report
    stream.received(b"GET / HTTP/1.1\r\n\r\n", PHONE, 0.05)
    stream.received(datagram(4, VOICE), ("198.51.100.1", 9), 0.06)
    stream.received(datagram(4, VOICE), PHONE, 0.06)
    counters = stream.statistics()
    assert (counters.received, counters.malformed, counters.foreign) == (4, 2, 1)
    assert (counters.other_payload, counters.comfort_noise) == (1, 1)
    heard = [receive.receive_nowait() for _ in range(receive.statistics().current_buffer_used)]
    assert heard == [VOICE, b"\xff" * 320, VOICE]
    stream.socket.close()


async def test_an_address_that_never_sends_is_not_flooded_for_long(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    ours, victim = await udp(OURS), await udp(PHONE)
    send, _receive = trio.open_memory_channel[bytes](50)
    stream = make_stream(ours, PHONE, send, RtpSettings(probe_seconds=15.0))
    handset = Handset(victim)
    with trio.move_on_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(TaskClock().send, stream)
            nursery.start_soon(handset.listen)
    assert handset.heard[-1].at - handset.heard[0].at == pytest.approx(15.0, abs=0.021)


async def test_while_held_nothing_is_sent_and_afterwards_rtp_time_has_gone_on(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    ours, phone = await udp(OURS), await udp(PHONE)
    send, _receive = trio.open_memory_channel[bytes](50)
    stream, handset = make_stream(ours, PHONE, send), Handset(phone)
    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(TaskClock().send, stream)
            nursery.start_soon(handset.listen)
            await trio.sleep(1.01)
            stream.may_send = False
            await trio.sleep(5.0)
            stream.may_send = True
            await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    gaps = [b.at - a.at for a, b in zip(handset.heard, handset.heard[1:], strict=False)]
    at = gaps.index(max(gaps)) + 1
    before, after = handset.heard[at - 1], handset.heard[at]
    assert after.sequence == (before.sequence + 1) % 65536
    assert after.rtp_timestamp - before.rtp_timestamp == round(8000 * max(gaps))
    assert after.marker


async def test_who_waits_for_digits_and_a_sound_goes_on_when_they_are_over(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    ours, phone = await udp(OURS), await udp(PHONE)
    send, _receive = trio.open_memory_channel[bytes](50)
    stream, handset = make_stream(ours, PHONE, send), Handset(phone)
    stream.telephone_event = 101
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(TaskClock().send, stream)
            nursery.start_soon(handset.listen)
            await trio.sleep(0.05)
            sound, digits = stream.play(b"\x11" * 1600), stream.send_digits("42", 160, 80)
            await digits.wait()
            assert trio.current_time() == pytest.approx(0.06 + 2 * 0.24)
            await sound.wait()
            assert trio.current_time() == pytest.approx(0.06 + 2 * 0.24 + 0.18)
            await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    assert [packet.payload[0] for packet in handset.heard if packet.payload_type == 101] == [4] * 10 + [2] * 10
    assert handset.speech_heard().endswith(b"\x11" * 1600)


async def test_a_flood_from_a_stranger_costs_the_caller_nothing_under_the_heartbeat() -> None:
    """20 foreign packets for each of the caller's: 1000 a second on one port."""
    with trio.fail_after(20):
        async with open_heartbeat() as clock, PortPool(RtpSettings(bind_ip="127.0.0.1")).open_socket() as ours:
            phone, stranger = await udp(("127.0.0.1", 0)), await udp(("127.0.0.1", 0))
            send, receive = trio.open_memory_channel[bytes](200)
            stream, handset = make_stream(ours, phone.getsockname(), send), Handset(phone)
            handset.say(VOICE * 50)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(clock.carry, stream)
                nursery.start_soon(handset.speak, ours.getsockname())
                nursery.start_soon(flood, stranger, ours.getsockname(), 20)
                heard = [await receive.receive() for _ in range(50)]
                nursery.cancel_scope.cancel()
            assert heard == [VOICE] * 50
            assert stream.statistics().foreign > 500
            phone.close()
            stranger.close()


async def test_audio_that_a_network_held_back_for_half_a_second_is_heard_whole() -> None:
    with trio.fail_after(20):
        async with open_heartbeat() as clock, PortPool(RtpSettings(bind_ip="127.0.0.1")).open_socket() as ours:
            phone = await udp(("127.0.0.1", 0))
            send, receive = trio.open_memory_channel[bytes](200)
            stream = make_stream(ours, phone.getsockname(), send)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(clock.carry, stream)
                for sequence in range(30):
                    await phone.sendto(datagram(sequence, VOICE), ours.getsockname())
                    if sequence < 5:
                        await trio.sleep(0.02)
                heard = [await receive.receive() for _ in range(30)]
                nursery.cancel_scope.cancel()
            assert heard == [VOICE] * 30
            assert stream.statistics().flooded == 0
            phone.close()


async def test_far_more_than_a_telephone_sends_is_counted_and_not_read_under_the_heartbeat() -> None:
    """100 packets for each that is due, from the caller's own address: forged, or a broken telephone."""
    with trio.fail_after(20):
        async with open_heartbeat() as clock, PortPool(RtpSettings(bind_ip="127.0.0.1")).open_socket() as ours:
            phone = await udp(("127.0.0.1", 0))
            send, _receive = trio.open_memory_channel[bytes](200)
            stream = make_stream(ours, phone.getsockname(), send)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(clock.carry, stream)
                nursery.start_soon(flood, phone, ours.getsockname(), 100)
                while not stream.statistics().flooded:  # noqa: ASYNC110 - a counter has no event
                    await trio.sleep(0.02)
                nursery.cancel_scope.cancel()
            assert stream.latch.pinned == phone.getsockname()
            phone.close()


async def test_an_address_of_whom_is_trusted_is_sent_audio_for_ever(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    ours, trunk = await udp(OURS), await udp(PHONE)
    send, _receive = trio.open_memory_channel[bytes](50)
    stream, handset = make_stream(ours, PHONE, send, RtpSettings(probe_seconds=15.0)), Handset(trunk)
    stream.is_trusted = True
    with trio.move_on_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(TaskClock().send, stream)
            nursery.start_soon(handset.listen)
    assert handset.heard[-1].at - handset.heard[0].at > 59


async def flood(sock: trio.socket.SocketType, to: tuple[str, int], each_20_ms: int) -> None:
    due = trio.current_time()
    for sequence in range(10_000):
        for _ in range(each_20_ms):
            await sock.sendto(datagram(sequence, VOICE, ssrc=666), to)
        due += 0.02
        await trio.sleep_until(due)


async def test_a_port_rests_between_two_calls(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    pool = PortPool(RtpSettings(min_port=35000, max_port=35003, quarantine_seconds=5.0), random.Random(1))
    async with pool.open_socket() as first, pool.open_socket() as second:
        assert {first.getsockname()[1], second.getsockname()[1]} == {35000, 35002}
        with pytest.raises(NoPortFree, match="2 in use"):
            await pool.open_socket().__aenter__()
    with pytest.raises(NoPortFree, match="2 in quarantine"):
        await pool.open_socket().__aenter__()
    await trio.sleep(5.0)
    async with pool.open_socket():
        assert pool.in_use == 1
    assert pool.in_use == 0


async def test_a_port_that_somebody_else_owns_is_passed_over(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    taken = await udp(("0.0.0.0", 35000))
    pool = PortPool(RtpSettings(min_port=35000, max_port=35003), random.Random(1))
    async with pool.open_socket() as sock:
        assert sock.getsockname()[1] == 35002
    taken.close()


async def test_loopback_is_reached_from_loopback() -> None:
    assert await local_ip_towards(("127.0.0.1", 9)) == "127.0.0.1"


@pytest.mark.parametrize("kind", ["tasks", "heartbeat"])
async def test_real_sockets_carry_the_same_octets_under_either_clock(kind: str) -> None:
    async def talk(clock: MediaClock) -> None:
        pool = PortPool(RtpSettings(bind_ip="127.0.0.1"))
        async with pool.open_socket() as ours, trio.open_nursery() as nursery:
            phone = await udp(("127.0.0.1", 0))
            send, receive = trio.open_memory_channel[bytes](50)
            stream, handset = make_stream(ours, phone.getsockname(), send), Handset(phone)
            spoken, answer = bytes([0x11]) * 160 * 10, bytes([0x22]) * 160 * 10
            stream.playout.push("r", "a", answer)
            handset.say(spoken)
            nursery.start_soon(clock.carry, stream)
            nursery.start_soon(handset.listen)
            nursery.start_soon(handset.speak, ours.getsockname())
            assert b"".join([await receive.receive() for _ in range(10)]) == spoken
            while len(handset.speech_heard()) < len(answer):
                await handset.wait_speech()
            assert handset.speech_heard() == answer
            nursery.cancel_scope.cancel()
            phone.close()

    with trio.fail_after(10):
        if kind == "tasks":
            await talk(TaskClock())
        else:
            async with open_heartbeat() as clock:
                await talk(clock)
                await talk(clock)  # it beats again after it had nothing to do


async def test_a_bug_in_one_stream_under_the_heartbeat_ends_that_stream_only() -> None:
    with trio.fail_after(10):
        async with open_heartbeat() as clock:
            one, two, phone = await udp(("127.0.0.1", 0)), await udp(("127.0.0.1", 0)), await udp(("127.0.0.1", 0))
            send, _receive = trio.open_memory_channel[bytes](50)
            broken = make_stream(one, phone.getsockname(), send)
            healthy = make_stream(two, phone.getsockname(), send)
            broken.playout = None  # type: ignore[assignment]  # the bug
            async with trio.open_nursery() as nursery:
                nursery.start_soon(clock.carry, healthy)
                with pytest.raises(AttributeError):
                    await clock.carry(broken)
                sent = healthy.pacer.sent
                for _ in range(sent + 5):
                    await phone.recvfrom(2048)
                nursery.cancel_scope.cancel()
            for sock in (one, two, phone):
                sock.close()
