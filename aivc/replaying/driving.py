"""The driver of a replay: has everything come when the recording says, and hands on what our side sends.

Everything that happens is done by one task in the recording's order. Whatever it leads to is over before the next thing
happens: the fake clock jumps only when nobody has anything left to do, and where two things happened in one moment the
driver waits for that by itself.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from functools import partial
from typing import Final

import attrs
import trio
import trio.testing

from aivc.config.settings import Settings
from aivc.flight.audio import with_audio
from aivc.flight.entries import (
    Address,
    Datagram,
    Entry,
    Flight,
    MiMessage,
    RealtimeEvent,
    RealtimeLine,
    RtpPacket,
    SipMessage,
    StateChange,
    ToolEntry,
)
from aivc.media.rtp import Packet, build
from aivc.nursery.record import CallEvent, Ended
from aivc.nursery.service import Service, open_service
from aivc.replaying.clock import ReplayClock, packet_of, unrecorded_ticks
from aivc.replaying.comparing import Comparison
from aivc.replaying.entering import codec_of, names_of, own_host, replayable, sent_packets, tcp_targets
from aivc.replaying.model import PlayedModel
from aivc.replaying.names import Names
from aivc.replaying.settings import replay_settings
from aivc.replaying.sound import StandIns
from aivc.replaying.tools import PlayedTools, played_registry
from aivc.replaying.wires import PlayedOpenSips, SipPeers, text_of
from aivc.testing.network import VirtualNetwork

SUBSCRIBED_SECONDS: Final = 30.0  # virtual ones, until OpenSIPS has our subscription
AFTERWARDS_SECONDS: Final = 2.0  # virtual ones, in which what is still due may come


@attrs.frozen
class Tick:
    """A packet of ours might have left, and the recording has none."""

    at: float


@attrs.define(eq=False)
class Replay:
    """One replay. Use `of`, then `run`."""

    flight: Flight
    settings: Settings
    entries: tuple[Entry, ...]
    comparison: Comparison
    sounds: StandIns
    names: Names
    tools: PlayedTools
    network: VirtualNetwork = attrs.field(init=False)
    clock: ReplayClock = attrs.field(init=False)
    _began_at: float = attrs.field(init=False, default=0.0)  # on trio's clock
    _own_sockets: frozenset[Address] = attrs.field(init=False)
    _leave: trio.Event = attrs.field(init=False, factory=trio.Event)  # the service is to end
    _has_ended: bool = attrs.field(init=False, default=False)
    _serving: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)

    @classmethod
    def of(cls, flight: Flight, tolerance: float) -> Replay:
        """Raises NotReplayable."""
        entries = replayable(flight)
        names, sounds = Names(), StandIns(codec_of(flight))
        is_kept, until = flight.header.audio == "keep", entries[-1].at
        settings = replay_settings(flight)
        append_ms = settings.realtime.append_ms
        comparison = Comparison(entries, names, sounds, tolerance, is_kept, until, append_ms)
        return cls(flight, settings, entries, comparison, sounds, names, PlayedTools.of(flight))

    def __attrs_post_init__(self) -> None:
        self.network = VirtualNetwork(
            names=names_of(self.entries), host=own_host(self.flight, self.settings), on_packet=self._on_packet
        )
        self._own_sockets = frozenset(entry.local for entry in self.entries if isinstance(entry, SipMessage))
        self.clock = ReplayClock(self._packet_left, lambda: self.comparison.media_over(self.now))

    @property
    def last(self) -> float:
        """When the last entry was made."""
        return self.entries[-1].at

    @property
    def _is_awaited(self) -> bool:
        """Whether the call should end, as the recorded one did, and has not."""
        return not (self._has_ended or self.flight.record is None or self.flight.missing)

    @property
    def now(self) -> float:
        """Seconds since the call began."""
        return trio.current_time() - self._began_at

    async def run(self) -> None:
        """Live through the call; what came of it is in `comparison`."""
        self.network.enable()
        registry = played_registry(self.flight, self.settings, self.tools)
        async with trio.open_nursery() as nursery:
            model = PlayedModel(nursery, self._connecting, self._heard)
            peers = SipPeers(self.network, nursery)
            await peers.listen(tcp_targets(self.entries))
            opensips = PlayedOpenSips(self.network, self.settings, self._commanded)
            if self.settings.opensips.enabled:
                await nursery.start(opensips.serve)
            opened = partial(
                open_service,
                self.settings,
                connect=model.connect,
                tools=registry,
                clock=self.clock,
                observer=self,
                wall_clock=lambda: self.flight.header.began_at + self.now,
            )

            async def serve(task_status: trio.TaskStatus[Service]) -> None:
                with self._serving:
                    async with opened() as service:
                        task_status.started(service)
                        await self._leave.wait()

            service: Service = await nursery.start(serve)
            await self._subscribed(service)
            self._began_at = trio.current_time()
            await self._drive(Ways(self, model, peers, opensips))
            nursery.cancel_scope.cancel()

    async def _subscribed(self, service: Service) -> None:
        with trio.move_on_after(SUBSCRIBED_SECONDS):
            while service.is_subscribed is False:  # noqa: ASYNC110 - a fake clock makes polling cheap
                await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked()

    async def _drive(self, ways: Ways) -> None:
        """Have everything happen, until something differs."""
        for happening in self._happenings():
            if happening.at > self.now:
                await trio.sleep_until(self._began_at + happening.at)
            else:
                await trio.testing.wait_all_tasks_blocked()
            self.comparison.overdue(happening.at)
            if self.comparison.difference is not None:
                return
            if happening.at > self.last and self.comparison.is_complete and not self._is_awaited:
                break
            if isinstance(happening, Tick):
                self.clock.pass_over() if happening.at <= self.last else self.clock.tick()
            else:
                await ways.happen(happening)
        await trio.testing.wait_all_tasks_blocked()
        if self._is_awaited:
            assert self.flight.record is not None
            self.comparison.other_end(self.now, str(self.flight.record.get("ending")), "not at all")
        self.comparison.finish()

    def _happenings(self) -> Iterator[Entry | Tick]:
        """All that happens, in its order; at the end the media goes on for a while."""
        sent = sent_packets(self.entries)
        until = self.last + AFTERWARDS_SECONDS
        ticks = (Tick(at) for at in unrecorded_ticks(sent, until))
        yield from heapq.merge(self.entries, ticks, key=lambda happening: happening.at)
        yield Tick(until)

    # What our side does

    def send_nowait(self, value: CallEvent) -> None:
        """As the observer of the call."""
        self._has_ended |= isinstance(value.what, Ended)
        if isinstance(value.what, Ended) and self.flight.record is not None and not self.flight.missing:
            recorded, came = str(self.flight.record.get("ending")), value.what.record.ending.value
            if recorded != came:
                self.comparison.other_end(self.now, recorded, came)

    def leave(self) -> None:
        """The service drains, and at once."""
        self._leave.set()

    def cancel(self) -> None:
        """The service is cancelled."""
        self._serving.cancel()

    def _connecting(self, number: int) -> None:
        self.comparison.came(RealtimeLine(self.now, number, "opening"))

    def _heard(self, number: int, text: str) -> None:
        self.comparison.came(RealtimeEvent(self.now, "out", number, text))

    def _commanded(self, text: str) -> None:
        self.comparison.came(MiMessage(self.now, "out", "command", text))

    def _packet_left(self, datagram: bytes, to: Address, _now: float) -> None:
        self.comparison.came(packet_of(datagram, self.now, to, self.sounds.codec))

    def _on_packet(self, source: Address, to: Address, data: bytes) -> None:
        """Everything on the network: our SIP is in it."""
        if source in self._own_sockets and data.strip():
            transport = "UDP" if source in self.network.bound or self._is_udp(source) else "TCP"
            self.comparison.came(SipMessage(self.now, "out", transport, source, to, text_of(data)))

    def _is_udp(self, source: Address) -> bool:
        return any(address[1] == source[1] for address in self.network.bound)


@attrs.frozen(eq=False)
class Ways:
    """By which inputs come in."""

    replay: Replay
    model: PlayedModel
    peers: SipPeers
    opensips: PlayedOpenSips

    async def happen(self, entry: Entry) -> None:
        """Have it happen, if it is not for our side to do it."""
        replay = self.replay
        match entry:
            case RtpPacket(way="in"):
                replay.clock.arrive(self._datagram(entry), entry.peer)
            case RtpPacket():
                replay.clock.tick()
            case Datagram(way="in"):
                await self._control(entry)
            case RealtimeEvent(way="in"):
                await self.model.say(entry.session, replay.names.translated(self._event(entry)))
            case RealtimeLine():
                self.model.became(entry)
            case SipMessage(way="in"):
                await self.peers.say(entry, replay.names.translated(entry.text))
            case MiMessage(way="in"):
                self.opensips.say(entry, replay.names.translated(entry.text))
            case ToolEntry(what="returned"):
                replay.tools.returned(entry)
            case StateChange(what="draining"):
                replay.leave()
            case StateChange(what="cancelled"):
                replay.cancel()
            case _:
                pass

    def _datagram(self, packet: RtpPacket) -> bytes:
        payload = packet.payload
        if payload is None:
            payload = self.replay.sounds.octets(packet.octets, packet.digest, packet.is_voiced)
        fields = packet.payload_type, packet.marker, packet.sequence, packet.rtp_timestamp, packet.ssrc
        return build(Packet(*fields, payload))

    def _event(self, event: RealtimeEvent) -> str:
        """With audio in the place of what was left out; a model that speaks is voiced."""
        return with_audio(event.text, lambda digest, octets: self.replay.sounds.octets(octets, digest, voiced=True))

    async def _control(self, datagram: Datagram) -> None:
        """RTCP, or what is no RTP."""
        if not datagram.is_control:
            self.replay.clock.arrive(datagram.data, datagram.peer)
            return
        rtp = self.replay.settings.rtp
        host = rtp.bind_ipv6 if ":" in datagram.peer[0] else rtp.bind_ip
        here = self.replay.network.host_for(host), rtp.min_port + rtp.min_port % 2 + 1
        self.replay.network.carry(datagram.peer, here, datagram.data)
