"""Calls that end because of what the caller's telephone does, or does not do."""

from __future__ import annotations

import errno
import os
import socket as stdlib
from typing import Any, Final

import trio

from aivc import Ending
from aivc.config.settings import Address
from aivc.testing import Faults, PhoneCall, VirtualNetwork, scripted
from aivc.testing.datagrams import VirtualSocket
from aivc.testing.refreshing import SessionTimer
from scenarios.arena import Arena
from scenarios.patience import polite
from scenarios.ways import AT_ONCE, FEW, GOODBYE, RINGS, SHORT, Way, be_hung_up_on, be_refused, talk
from scenarios.world import DELAY, PHONE, RTP_PORT, SERVICE, changed

FEW_PACKETS: Final = {"ptime_ms": 60}
QUIET: Final = changed(SHORT, rtp={"timeout_seconds": 0.5, "hold_timeout_seconds": 0.5})
IDLE: Final = changed(SHORT, openai={"idle_timeout_ms": 500, "idle_prompts": 1, "turn_detection_type": "semantic_vad"})


async def hang_up_at_once(arena: Arena) -> PhoneCall:
    async with arena.dial() as call:
        pass
    return call


async def cancel(arena: Arena) -> PhoneCall:
    async with arena.ring() as call:
        await trio.sleep(0.1)
        await call.cancel()
        await call.wait_over()
    return call


async def cancel_at_once(arena: Arena) -> PhoneCall:
    async with arena.ring() as call:
        await call.cancel()
        await call.wait_over()
    return call


async def cancel_an_answer(arena: Arena) -> PhoneCall:
    """CANCEL and the 200 cross each other."""
    answered = trio.Event()

    def watch(source: Address, to: Address, data: bytes) -> None:
        if source[0] == SERVICE and data.startswith(b"SIP/2.0 200"):
            answered.set()

    arena.network.on_packet = watch
    async with arena.ring() as call:
        await answered.wait()
        await call.cancel()
        await call.wait_answer()
    return call


async def cancel_in_the_tick_of_the_answer(arena: Arena) -> PhoneCall:
    """CANCEL arrives when the model is ready."""
    async with arena.ring() as call:
        await trio.sleep(READY - 3 * DELAY)
        await call.cancel()
        while not [response for response in call.responses if response.status >= 200]:  # noqa: ASYNC110 - no event tells of it
            await trio.sleep(DELAY)
    return call


async def hang_up_in_the_tick_of_the_model(arena: Arena) -> PhoneCall:
    """Both say goodbye: BYE arrives when the model's last words were heard."""
    async with arena.dial() as call:
        began = await call.handset.wait_speech()
        await trio.sleep_until(began + 0.4 - DELAY)
    return call


async def be_silent(arena: Arena, **more: Any) -> PhoneCall:
    """A telephone that sends nothing at all, from the beginning."""
    async with arena.ring(**more) as call:
        await call.wait_hung_up()
    return call


async def fall_silent(arena: Arena) -> PhoneCall:
    async with arena.dial() as call:
        await call.handset.wait_speech()
        call.handset.muted = True
        await call.wait_hung_up()
    return call


async def hold_for_ever(arena: Arena) -> PhoneCall:
    async with arena.dial() as call:
        await call.handset.wait_speech()
        call.handset.muted = True
        await call.hold()
        await call.wait_hung_up()
    return call


async def acknowledge_nothing(arena: Arena) -> PhoneCall:
    return await be_hung_up_on(arena, acknowledge=False, **FEW_PACKETS)


async def acknowledge_no_ringing(arena: Arena) -> PhoneCall:
    return await be_refused(arena, reliable="required", prack=False)


async def say_nothing_of_the_audio(arena: Arena) -> PhoneCall:
    return await be_hung_up_on(arena, late_offer=True)


async def refresh_nothing(arena: Arena) -> PhoneCall:
    timer = SessionTimer(expires=90, refresher="uac", refreshes=False)
    return await be_hung_up_on(arena, session_timer=timer, **FEW_PACKETS)


async def meet_a_taken_port(arena: Arena) -> PhoneCall:
    with trio.socket.socket(type=stdlib.SOCK_DGRAM) as other:
        await other.bind((SERVICE, RTP_PORT))
        return await be_refused(arena)


class Stranded(VirtualSocket):
    """Of a machine without a route to the telephone."""

    async def connect(self, address: Any) -> None:
        if address[0] == PHONE:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        await super().connect(address)


class NoRoute(VirtualNetwork):
    def socket(self, family: int = stdlib.AF_INET, type: int = stdlib.SOCK_STREAM, proto: int = 0) -> Any:
        return Stranded(self, family) if type == stdlib.SOCK_DGRAM else super().socket(family, type, proto)


READY: Final = 0.2  # seconds after the INVITE

CALLERS: Final = (
    Way(
        name="the caller hangs up",
        happens="The caller hangs up.",
        ending=Ending.CALLER_HUNG_UP,
        sees="hangs up",
        live=talk,
    ),
    Way(
        name="the caller hangs up at once",
        happens="The caller hangs up as soon as the call is answered, before the model has said anything.",
        ending=Ending.CALLER_HUNG_UP,
        sees="hangs up",
        live=hang_up_at_once,
    ),
    Way(
        name="CANCEL crosses the answer",
        happens="CANCEL and our 200 cross each other: the caller acknowledges the 200 and sends BYE.",
        ending=Ending.CALLER_HUNG_UP,
        sees="hangs up",
        live=cancel_an_answer,
    ),
    Way(
        name="caller and model hang up at once",
        happens="BYE comes in the very moment in which the model's `terminate_call` is to end the call.",
        ending=Ending.CALLER_HUNG_UP,
        or_else=Ending.MODEL_HUNG_UP,
        sees="both hang up",
        live=hang_up_in_the_tick_of_the_model,
        script=scripted([GOODBYE]),
        model={"speed": AT_ONCE},
    ),
    Way(
        name="CANCEL while it rings",
        happens="The caller gives up while it rings.",
        ending=Ending.CALLER_CANCELLED,
        sees="cancels",
        live=cancel,
        faults=RINGS,
    ),
    Way(
        name="CANCEL before the model is connected",
        happens="The caller gives up while the connection to the model is being opened.",
        ending=Ending.CALLER_CANCELLED,
        sees="cancels",
        live=cancel_at_once,
        faults=Faults(silent_upgrade=True),
    ),
    Way(
        name="CANCEL in the moment of the answer",
        happens="CANCEL comes in the very moment in which the model is ready and we answer.",
        ending=Ending.CALLER_CANCELLED,
        or_else=Ending.CALLER_HUNG_UP,
        sees="cancels",
        live=cancel_in_the_tick_of_the_answer,
        faults=Faults(session_updated_seconds=READY),
    ),
    Way(
        name="the caller says nothing",
        happens="The caller says nothing, in spite of `openai.idle_prompts` questions.",
        ending=Ending.CALLER_IDLE,
        sees="is hung up on",
        live=be_hung_up_on,
        settings=IDLE,
        script=polite(),
    ),
    Way(
        name="no ACK",
        happens="No ACK comes for our 200, for 32 s (64\\*T1).",
        ending=Ending.ACK_MISSING,
        detail="Contact",
        sees="is hung up on",
        says="no ACK received",
        live=acknowledge_nothing,
        schedules=FEW,
    ),
    Way(
        name="no PRACK",
        happens="No PRACK comes for our reliable 180, for 32 s (64\\*T1).",
        ending=Ending.SIGNALLING_FAILED,
        detail="no PRACK came for the 180",
        sees="is refused",
        status=504,
        says="",
        live=acknowledge_no_ringing,
        settings=changed(SHORT, openai={"configure_seconds": 60.0}),
        faults=RINGS,
        only=("sip", "OpenSIPS has no 100rel"),
    ),
    Way(
        name="no answer in the ACK",
        happens="The INVITE has no offer, and the ACK no answer to ours.",
        ending=Ending.SIGNALLING_FAILED,
        detail="the answer to our offer was not told",
        sees="is hung up on",
        says="the answer to our offer was not told",
        live=say_nothing_of_the_audio,
        opensips={"flags": "bh"},
        only=("opensips", "it keeps the ACK from us, with flags without `a`"),
    ),
    Way(
        name="no refresh",
        happens="The session timer (RFC 4028) runs out, as nobody refreshes the call.",
        ending=Ending.SESSION_EXPIRED,
        detail="no refresh came",
        sees="is hung up on",
        says="no refresh came",
        live=refresh_nothing,
        schedules=FEW,
    ),
    Way(
        name="no audio from the beginning",
        happens="Nothing comes from the caller's handset after the answer.",
        ending=Ending.MEDIA_TIMEOUT,
        detail="rtp.timeout_seconds",
        sees="is hung up on",
        live=be_silent,
        settings=QUIET,
    ),
    Way(
        name="audio stops coming",
        happens="Nothing comes from the caller's handset any more, in the middle of the talk.",
        ending=Ending.MEDIA_TIMEOUT,
        detail="rtp.timeout_seconds",
        sees="is hung up on",
        live=fall_silent,
        settings=QUIET,
    ),
    Way(
        name="a hold without end",
        happens="The caller holds us, and nothing comes for `rtp.hold_timeout_seconds`.",
        ending=Ending.MEDIA_TIMEOUT,
        detail="rtp.hold_timeout_seconds",
        sees="is hung up on",
        live=hold_for_ever,
        settings=QUIET,
    ),
    Way(
        name="no route to the audio",
        happens="There is no route to the address in the caller's SDP.",
        ending=Ending.MEDIA_UNREACHABLE,
        detail=os.strerror(errno.ENETUNREACH),
        sees="is refused",
        live=be_refused,
        settings=changed(SHORT, rtp={"bind_ip": "0.0.0.0"}),
        network=NoRoute,
    ),
    Way(
        name="the RTP port is taken",
        happens="Another program has every RTP port that is left.",
        ending=Ending.NO_RTP_PORT,
        detail="no RTP port is free",
        sees="is refused",
        live=meet_a_taken_port,
    ),
)
