"""The SIPp scenarios of this repository, each over UDP and over TCP: what a UAS must answer to the letter."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio

from aivc.testing.faults import Faults
from aivc.testing.model import FakeModel
from interop import sipp
from interop.conversing import Scene, needs, open_scene
from interop.sipp import SOCKETS, played

pytestmark = [pytest.mark.interop, needs(sipp)]

SCENARIOS: Final = Path(__file__).with_name("scenarios")
HUNG_UP: Final = ("caller_hung_up",)
USERS: Final = '[[sip.users]]\nname = "desk"\npassword = "DESK_PASSWORD"\n'
MD5: Final = f'[sip]\ndigest = "MD5"\n{USERS}'  # SIPp 3.6 gives up when it sees SHA-256


@attrs.frozen
class Played:
    """A file, the service's settings for it, and how its calls end."""

    name: str
    endings: Sequence[str] = HUNG_UP
    toml: str = ""
    faults: Faults = attrs.field(factory=Faults)

    def __str__(self) -> str:
        return self.name


async def play(scenario: Played, folder: Path) -> list[str]:
    """Play it over UDP and over TCP at the same time; how the calls ended."""
    told = {"AIVC_SIP_LISTEN": "udp:127.0.0.1:0,tcp:127.0.0.1:0", "DESK_PASSWORD": "right"}
    async with (
        open_scene(FakeModel(faults=scenario.faults), folder, scenario.toml, **told) as scene,
        trio.open_nursery() as nursery,
    ):
        for transport in ("udp", "tcp"):
            nursery.start_soon(play_over, scenario, scene, transport, folder / transport)
    return [record["ending"] for record in scene.records]


async def play_over(scenario: Played, scene: Scene, transport: str, folder: Path) -> None:
    steps = (SCENARIOS / f"{scenario.name}.xml").read_text()
    uri = scene.service.uri(transport=transport)
    options = ("-m", "1", *SOCKETS[transport])
    assert await played(uri, steps, folder, *options) == ""


@pytest.mark.parametrize(
    "scenario",
    [
        Played("basic"),
        Played("cancel", ["caller_cancelled"], faults=Faults(session_updated_seconds=inf)),
        Played("late_offer"),
        Played("prack", faults=Faults(session_updated_seconds=0.3)),
        Played("session_timer"),
        Played("update"),
        Played("hold"),
        Played("options"),
        Played("refusals"),
        Played("replaces", []),
        Played("challenges", [], USERS),
        Played("digest", toml=MD5),
        Played("wrong_password", [], MD5),
    ],
    ids=str,
)
async def test_a_scenario_goes_as_written(tmp_path: Path, scenario: Played) -> None:
    assert await play(scenario, tmp_path) == [*scenario.endings] * 2


async def test_a_call_that_is_never_acknowledged_is_hung_up_on(tmp_path: Path) -> None:
    assert await play(Played("no_ack"), tmp_path) == ["ack_missing"] * 2
