"""Calls that end, or never begin, because of what the service itself does, or its OpenSIPS."""

from __future__ import annotations

from typing import Any, Final

import attrs
import trio

from aivc import Ending
from aivc.config.settings import EngineSettings
from aivc.testing import FakeOpenSips, Faults, PhoneCall
from scenarios.arena import Arena
from scenarios.behind import LOST, command
from scenarios.ways import RINGS, SHORT, Way, be_hung_up_on, be_refused
from scenarios.world import changed

GRACE: Final = changed(SHORT, service={"drain_seconds": 0.5})
ASKING: Final = attrs.evolve(
    SHORT, engine=EngineSettings(api_url="http://settings.test/bots", api_seconds=1.0, api_failure="refuse")
)
WATCHFUL: Final = changed(SHORT, opensips={"check_seconds": 0.5})
NO_OPENSIPS: Final = ("opensips", "with the user agent there is none")


# Going down


async def go_down(arena: Arena) -> PhoneCall:
    """SIGTERM in the middle of the talk."""
    async with arena.dial() as call:
        await call.handset.wait_speech()
        await arena.stop()
    return call


async def go_down_while_it_rings(arena: Arena) -> PhoneCall:
    async with arena.ring() as call:
        await trio.sleep(0.1)
        await arena.stop()
        await call.wait_over()
    return call


async def hang_up_in_the_grace(arena: Arena) -> PhoneCall:
    async with arena.dial() as call:
        await call.handset.wait_speech()
        arena.stopping.set()
        await trio.sleep(0.1)
    await arena.stopped.wait()
    return call


async def go_down_at_once(arena: Arena) -> PhoneCall:
    """The second signal, in the grace."""
    async with arena.dial() as call:
        await call.handset.wait_speech()
        arena.stopping.set()
        await trio.sleep(0.1)
        await arena.cancel()
    return call


async def be_cancelled(arena: Arena) -> PhoneCall:
    async with arena.dial() as call:
        await call.handset.wait_speech()
        await arena.cancel()
    return call


async def be_cancelled_while_it_rings(arena: Arena) -> PhoneCall:
    async with arena.ring() as call:
        await trio.sleep(0.1)
        await arena.cancel()
        await call.wait_over()
    return call


async def come_too_late(arena: Arena) -> PhoneCall:
    """A call that comes while the service goes down."""
    async with arena.dial() as first:
        await first.handset.wait_speech()
        arena.stopping.set()
        await trio.sleep(0.1)
        late = await be_refused(arena)
    await arena.stopped.wait()
    return late


async def come_when_all_is_full(arena: Arena) -> PhoneCall:
    """A call that comes while another one rings."""
    async with arena.ring() as first:
        await trio.sleep(0.1)
        late = await be_refused(arena)
        await first.cancel()
        await first.wait_over()
    return late


# OpenSIPS


def opensips_of(arena: Arena) -> FakeOpenSips:
    assert arena.opensips is not None
    return arena.opensips


async def lose_opensips(arena: Arena) -> PhoneCall:
    """It is gone while the call rings, and comes back when the call is over."""
    async with arena.ring() as call:
        await opensips_of(arena).wait_told("ua_session_reply")
        await come_back_later(arena)
    return call


async def come_back_later(arena: Arena) -> None:
    await opensips_of(arena).stop()
    await arena.wait_over()
    await opensips_of(arena).start()
    await opensips_of(arena).wait_subscribed()


async def outlive_opensips(arena: Arena) -> PhoneCall:
    """The audio does not go through it; the telephone's BYE would, so that the call ends with the audio."""
    async with arena.dial() as call:
        await call.handset.wait_speech()
        call.handset.muted = True
        await come_back_later(arena)
    return call


async def be_forgotten(arena: Arena) -> PhoneCall:
    async with arena.dial() as call:
        await call.handset.wait_speech()
        await opensips_of(arena).restart()
        await arena.wait_over()
        await opensips_of(arena).wait_subscribed()
    return call


async def answer_in_vain(arena: Arena) -> PhoneCall:
    opensips_of(arena).lose("command", command("reply", "INVITE", 200))
    async with arena.ring() as call:
        await call.wait_over()
        await arena.wait_over()
    opensips_of(arena).heal()
    return call


def behind_opensips_only(name: str, happens: str, ending: Ending, live: Any, **more: Any) -> Way:
    return Way(name=name, happens=happens, ending=ending, live=live, only=NO_OPENSIPS, **{"settings": WATCHFUL, **more})


SERVICES: Final = (
    Way(
        name="the call ends in the grace",
        happens="The service is told to stop, and the caller hangs up within `service.drain_seconds`.",
        ending=Ending.CALLER_HUNG_UP,
        sees="hangs up",
        live=hang_up_in_the_grace,
        settings=GRACE,
    ),
    Way(
        name="no grace",
        happens="The service is told to stop, and `service.drain_seconds` is 0.",
        ending=Ending.DRAINED,
        sees="is hung up on",
        live=go_down,
    ),
    Way(
        name="the grace is over",
        happens="The service is told to stop, and the call goes on for longer than `service.drain_seconds`.",
        ending=Ending.DRAINED,
        sees="is hung up on",
        live=go_down,
        settings=GRACE,
    ),
    Way(
        name="the service stops while it rings",
        happens="The service is told to stop while the call rings.",
        ending=Ending.DRAINED,
        sees="is refused",
        live=go_down_while_it_rings,
        faults=RINGS,
    ),
    Way(
        name="the longest call",
        happens="The call has lasted for `service.max_call_seconds`.",
        ending=Ending.MAX_DURATION,
        detail="service.max_call_seconds",
        sees="is hung up on",
        live=be_hung_up_on,
        settings=changed(SHORT, service={"max_call_seconds": 0.5}),
    ),
    Way(
        name="no settings for the call",
        happens="`engine.api_url` gives no settings for the call, and `engine.api_failure` is `refuse`.",
        ending=Ending.CONFIG_FAILED,
        detail="settings.test",
        sees="is refused",
        live=be_refused,
        settings=ASKING,
    ),
    Way(
        name="the embedder cancels",
        happens="Whoever embeds the service cancels it.",
        ending=Ending.EMBEDDER_CANCELLED,
        sees="is hung up on",
        live=be_cancelled,
    ),
    Way(
        name="the embedder cancels while it rings",
        happens="Whoever embeds the service cancels it while the call rings.",
        ending=Ending.EMBEDDER_CANCELLED,
        sees="is refused",
        live=be_cancelled_while_it_rings,
        faults=RINGS,
    ),
    Way(
        name="the second signal",
        happens="The service is told to stop, and told so again before `service.drain_seconds` are over.",
        ending=Ending.EMBEDDER_CANCELLED,
        sees="is hung up on",
        live=go_down_at_once,
        settings=GRACE,
    ),
    behind_opensips_only(
        "OpenSIPS is gone while it rings",
        "OpenSIPS is gone when we answer.",
        Ending.SIGNALLING_FAILED,
        lose_opensips,
        sees="is left alone",
        detail="the call could not be answered",
        faults=Faults(session_updated_seconds=0.5),
        excused=("INVITE 500", "terminate"),
    ),
    behind_opensips_only(
        "OpenSIPS does not hear our answer",
        "OpenSIPS does not confirm our answer.",
        Ending.SIGNALLING_FAILED,
        answer_in_vain,
        sees="is refused",
        status=500,
        says="",
        detail="no answer",
        settings=SHORT,
        excused=("INVITE 500", "INVITE 200"),
    ),
    behind_opensips_only(
        "OpenSIPS has restarted",
        "OpenSIPS restarts, and does not know the call any more.",
        Ending.SESSION_EXPIRED,
        be_forgotten,
        sees="is left alone",
        detail=LOST,
    ),
    behind_opensips_only(
        "OpenSIPS is gone",
        "OpenSIPS is gone in the middle of the talk, which goes on until the audio stops coming.",
        Ending.MEDIA_TIMEOUT,
        outlive_opensips,
        sees="is left alone",
        detail="rtp.timeout_seconds",
        settings=changed(WATCHFUL, rtp={"timeout_seconds": 0.5}),
        excused=("terminate",),
    ),
    Way(
        name="all lines are busy",
        happens="`service.max_calls` calls are in progress; it suffices that they ring.",
        ending=None,
        sees="is refused",
        says="",
        live=come_when_all_is_full,
        settings=changed(SHORT, service={"max_calls": 1}),
        faults=RINGS,
        others=(Ending.CALLER_CANCELLED,),
    ),
    Way(
        name="a call that comes too late",
        happens="The service has been told to stop, and still has calls.",
        ending=None,
        sees="is refused",
        says="the service is going down",
        live=come_too_late,
        settings=GRACE,
        others=(Ending.CALLER_HUNG_UP,),
    ),
)
