"""Lost packets on real sockets, and a wall clock that is stepped, under a real service."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from lossy_relay import open_lossy_relay
from real_faults_world import Plant, plant, until

from aivc.testing.caller import Phone, open_phone

HERE = Path(__file__).parent
RELAY = "127.0.0.2"
FIRST_PORT = 21_800 + os.getpid() % 100 * 8  # of RTP, for tests that run beside each other
PORTS = range(FIRST_PORT, FIRST_PORT + 8)
DAY = 86_400.0
PATIENT = 100.0  # seconds: a lost ACK or BYE is sent again for 32
# Packets that were lost before the first that was heard, or after the last. Four in a row prove their source, for which
# three calls lose 6 at this loss on average, 20 once in 100 runs, and 40 once in 60 000.
UNSEEN = 40


def relay_is_possible() -> bool:
    """Linux has all of 127.0.0.0/8."""
    return sys.platform == "linux"


@pytest.mark.skipif(not relay_is_possible(), reason="127.0.0.2 is no address of this system")
@pytest.mark.parametrize("loss", [0.05, 0.25])
async def test_lost_packets_cost_gaps_and_no_calls(tmp_path: Path, loss: float) -> None:
    ports = {"RTP_MIN_PORT": f"{PORTS[0]}", "RTP_MAX_PORT": f"{PORTS[-1]}", "AIVC_RTP_NAT": "on"}
    async with plant(tmp_path, seconds=PATIENT, AIVC_SIP_EXTERNAL_IP=RELAY, **ports) as at, open_phone(seed=1) as phone:
        async with open_lossy_relay([at.service.port, *PORTS], loss=loss, seed=7) as relay:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(talk_through, phone, f"sip:1000@{RELAY}:{at.service.port}")
            await until(lambda: len(at.endings()) == 4, "all records", PATIENT)
            assert set(at.endings().values()) == {"caller_hung_up"}
            found = [record for record in at.records() if record["rtp"]["lost"]]
            assert len(found) == 3
            lost = sum(record["rtp"]["lost"] for record in found)
            assert lost <= sum(relay.lost_inward[port] for port in PORTS[::2]) <= lost + UNSEEN
        assert not at.service.log("call.bug")


async def talk_through(phone: Phone, uri: str) -> None:
    async with phone.dial(uri):
        await trio.sleep(2.3)  # not until the greeting is heard: it may be over when the 200 comes through at last


@pytest.mark.parametrize("step", [DAY, -DAY])
async def test_a_step_of_the_wall_clock_is_not_heard(tmp_path: Path, step: float) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    folder = tmp_path / "records"
    stepping = [sys.executable, str(HERE / "stepping_clock.py"), str(clock), "serve"]
    async with plant(folder, instead=stepping, AIVC_OPENAI_RECONNECT="true") as at:
        async with at.calls(1) as (call,):
            before = await packets_of_half_a_second(at, call.handset.heard)
            clock.write_text(f"{step}")
            after = await packets_of_half_a_second(at, call.handset.heard)
            assert abs(after - before) <= 5
            await trio.sleep(0.5)
            assert call.hung_up_at is None
        line = await at.ended(call, "caller_hung_up")
        assert 0 < line["seconds"] < 10
        await at.check_next_call()
        assert not at.service.log("session.lost")
        assert not at.service.log("session.replaced")
        assert all(0 < record["duration_seconds"] < 10 for record in at.records())


async def packets_of_half_a_second(at: Plant, heard: Sequence[object]) -> int:
    count = len(heard)
    await trio.sleep(0.5)
    return len(heard) - count


def test_nothing_but_the_clock_that_is_given_and_the_log_reads_the_wall_clock() -> None:
    """`time.time` as a default, or for a timestamp that is sent; timers and deadlines have trio's clock."""
    package = HERE.parent / "aivc"
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.time", "datetime.now", "time.localtime")
    }
    assert found == {
        "demo/run.py",  # the name of a folder
        "nursery/flightfolder.py",  # which files are old
        "nursery/media.py",  # NTP in RTCP
        "nursery/recordfile.py",  # the name of today's file
        "realtime/httptools.py",  # what is signed
    }
