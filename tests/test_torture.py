"""The torture tests of RFC 4475 and RFC 5118, and our own like them, each through the whole user agent.

The RFCs' messages are read from the folder of test data, octet by octet; ours are always there.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torture_cases import CASES, MORE, RFC_4475, RFC_5118, Case
from torture_messages import OWN
from torture_world import Heard, open_server
from trio.testing import MockClock


def name_of(case: Case) -> str:
    return f"{case.section}-{case.name}"


each_case = pytest.mark.parametrize("case", CASES, ids=name_of)
each_of_ours = pytest.mark.parametrize("case", [*CASES, *MORE], ids=name_of)


def folder_of(case: Case) -> str:
    return "rfc5118" if case in RFC_5118 else "rfc4475"


async def check_datagram(case: Case, message: bytes) -> None:
    async with open_server() as server:
        assert await server.torture(message, ipv6=case in RFC_5118) == Heard(case.udp)
        assert server.calls == case.udp.count(200) * case.calls


async def check_stream(case: Case, message: bytes) -> None:
    async with open_server() as server:
        assert await server.torture_stream(message, ipv6=case in RFC_5118) == Heard(case.tcp, case.closes)
        assert server.calls == case.tcp.count(200) * case.calls


@each_case
async def test_each_message_of_the_rfcs_gets_its_answer_in_a_datagram(
    case: Case, test_data: Path, autojump_clock: MockClock
) -> None:
    await check_datagram(case, (test_data / folder_of(case) / f"{case.name}.dat").read_bytes())


@each_case
async def test_each_message_of_the_rfcs_gets_its_answer_on_a_connection(
    case: Case, test_data: Path, autojump_clock: MockClock
) -> None:
    await check_stream(case, (test_data / folder_of(case) / f"{case.name}.dat").read_bytes())


@each_of_ours
async def test_each_message_of_ours_gets_its_answer_in_a_datagram(case: Case, autojump_clock: MockClock) -> None:
    await check_datagram(case, OWN[case.name])


@each_of_ours
async def test_each_message_of_ours_gets_its_answer_on_a_connection(case: Case, autojump_clock: MockClock) -> None:
    await check_stream(case, OWN[case.name])


def test_the_answers_are_those_that_the_rfcs_allow(test_data: Path) -> None:
    for folder, cases in (("rfc4475", RFC_4475), ("rfc5118", RFC_5118)):
        allowed = {
            entry["file"]: entry["uas"] for entry in json.loads((test_data / folder / "manifest.json").read_text())
        }
        assert {f"{case.name}.dat" for case in cases} - {"extra-test.dat"} == allowed.keys()
        assert [
            case.name for case in cases if case.section and set(case.udp or (0,)) - set(allowed[f"{case.name}.dat"])
        ] == []
        assert all((test_data / folder / f"{case.name}.dat").is_file() for case in cases)


def test_every_case_has_a_message_of_ours() -> None:
    assert OWN.keys() == {case.name for case in (*CASES, *MORE)}
