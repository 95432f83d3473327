"""`aivc demo`: service, local model and caller in one process, over real sockets on loopback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import trio

from aivc.config.settings import OpenAISettings, RtpSettings, ServiceSettings, Settings, SipSettings
from aivc.demo.caller import DemoCaller, Spoken
from aivc.demo.display import Display, Moment, open_display
from aivc.demo.live import Screen, show_levels
from aivc.demo.measure import measured
from aivc.demo.recording import CallRecording
from aivc.demo.report import latency_table
from aivc.demo.simulator import MODEL, local_model, open_simulator
from aivc.demo.timeline import draw_timeline
from aivc.demo.wav import write_stereo
from aivc.media.ports import local_ip_towards
from aivc.nursery.ending import leaves
from aivc.nursery.garbage import spare_startup_objects
from aivc.nursery.record import OBSERVER_EVENTS, CallEvent, Ended
from aivc.nursery.service import open_service
from aivc.realtime.tools import load_tools, tool
from aivc.testing.caller import CallRefused, PhoneCall, open_phone
from aivc.testing.model import FakeModel
from aivc.testing.script import demo as demo_script

LONGEST: Final = 60.0  # seconds; the call takes about 25
TOOL_SECONDS: Final = 0.4  # what a real system would need to be asked
EXPLANATION: Final = """\
  From the caller's last audible packet to the first one of the answer, and whose time it was. vad: its silence setting;
  network: a round trip to the model; detection: the rest until speech_stopped; creation: to response.created;
  generation: to the first audio; tool: while it ran; playout: cushion, and the next place in the row of packets.
  added inwards: phone to model, per packet; added outwards: first delta of an answer to its first packet."""
SOMEWHERE: Final = ("192.0.2.1", 9)  # RFC 5737: nothing is sent there, it only tells our own address


@tool
async def time_now() -> str:
    """The time of day."""
    await trio.sleep(TOOL_SECONDS)
    return f"{datetime.now():%H:%M}"


async def run_demo(*, out: Path, listen: bool, sip_port: int | None) -> int:
    """One whole call, shown live, then its files and figures; or, with `listen`, calls of a softphone until Ctrl-C.

    Returns the exit status: 0 when the call went as it should.
    """
    if listen:
        await run_demo_line(sip_port or 5060)
        return 0
    make_folder(out)  # better refused now than after the call
    recording: CallRecording | None = None
    try:
        with open_display(sys.stdout) as display, trio.move_on_after(LONGEST):
            recording = await make_call(display)
    except* CallRefused as refused:
        print(f"aivc: the demo call was refused: {next(leaves(refused))}", file=sys.stderr)
    if recording is None:
        print(f"aivc: no whole call within {LONGEST:g} s; `aivc demo -v` shows the log", file=sys.stderr)
        return 1
    print(f"\n{latency_table(recording)}\n{EXPLANATION}\n")
    for path in write_files(recording, out):
        print(f"wrote {path}")
    return 0 if recording.ending == "model_hung_up" else 1


async def make_call(display: Display) -> CallRecording:
    """The demo call, from INVITE to the model's BYE."""
    model, tools = FakeModel(demo_script(), require_key=False), load_tools([])
    tools.add(time_now)
    events: list[CallEvent] = []
    ended = trio.Event()
    screen = Screen(display, hears_caller=False)

    def see(event: CallEvent) -> None:
        events.append(event)
        screen.show(event)
        if isinstance(event.what, Ended):
            ended.set()

    send, receive = trio.open_memory_channel[CallEvent](OBSERVER_EVENTS)
    async with trio.open_nursery() as nursery, open_simulator(model) as url:
        nursery.start_soon(watch, receive, see)
        async with open_service(loopback(url), tools=tools, observer=send) as service, open_phone() as phone:
            spare_startup_objects()
            host, port = service.listening[0]
            async with phone.dial(f"sip:demo@{host}:{port}") as call:
                nursery.start_soon(show_levels, display, call.handset)
                caller = DemoCaller(call, partial(show_caller, display, call))
                await caller.talk()
                await ended.wait()
        nursery.cancel_scope.cancel()
    return measured(call, model.sessions[0], caller.said, events)


def show_caller(display: Display, call: PhoneCall, spoken: Spoken) -> None:
    display.show(Moment(spoken.start - (call.answered_at or 0.0), "caller", spoken.text))


async def watch(events: trio.MemoryReceiveChannel[CallEvent], see: Callable[[CallEvent], None]) -> None:
    async for event in events:
        see(event)


async def run_demo_line(sip_port: int) -> None:
    """Keep the service and the local model up for a softphone, until Ctrl-C."""
    send, receive = trio.open_memory_channel[CallEvent](OBSERVER_EVENTS)
    tools = load_tools([])
    tools.add(time_now)
    with open_display(sys.stdout, force_plain=True) as display:
        async with trio.open_nursery() as nursery, open_simulator(local_model()) as url:
            nursery.start_soon(watch, receive, Screen(display).show)
            settings = for_softphone(url, sip_port)
            async with open_service(settings, tools=tools, observer=send):
                address = "127.0.0.1"
                with suppress(OSError):
                    address = await local_ip_towards(SOMEWHERE)
                print(f"Call sip:demo@{address}:{sip_port} from a softphone (from this machine also 127.0.0.1).")
                print("Speak after the greeting. Ctrl-C ends.", flush=True)
                await trio.sleep_forever()


def loopback(url: str) -> Settings:
    return Settings(
        openai=OpenAISettings(url=url, model=MODEL, welcome_message="Greet the caller."),
        sip=SipSettings(listen=("udp:127.0.0.1:0",)),
        rtp=RtpSettings(bind_ip="127.0.0.1"),
        service=ServiceSettings(stall_ms=0),  # this process is service, model and phone at once
    )


def for_softphone(url: str, sip_port: int) -> Settings:
    return Settings(
        openai=OpenAISettings(url=url, model=MODEL, welcome_message="Greet the caller."),
        sip=SipSettings(listen=(f"udp:0.0.0.0:{sip_port}",)),
    )


def make_folder(out: Path) -> None:
    """Raises OSError."""
    out.mkdir(parents=True, exist_ok=True)


def write_files(recording: CallRecording, out: Path) -> list[Path]:
    """The sound file, the picture and the table. Raises OSError."""
    sound, picture, table = out / "call.wav", out / "timeline.svg", out / "latency.txt"
    write_stereo(sound, recording)
    picture.write_text(draw_timeline(recording), encoding="utf-8")
    table.write_text(latency_table(recording), encoding="utf-8")
    return [sound, picture, table]
