"""The torture tests of RFC 4475 and RFC 5118, and our own like them, each through the whole user agent.

The RFCs' messages are read from the folder of test data, octet by octet; ours are always there.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torture_cases import CASES, RFC_4475, RFC_5118, Case
from torture_messages import OWN
from torture_world import Heard, open_server
from trio.testing import MockClock

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.section}-{case.name}")
SILENT_STREAMS = {"scalarlg", "bigcode"}


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


@each_case
async def test_each_message_of_ours_gets_its_answer_in_a_datagram(case: Case, autojump_clock: MockClock) -> None:
    await check_datagram(case, OWN[case.name])


@each_case
async def test_each_message_of_ours_gets_its_answer_on_a_connection(case: Case, autojump_clock: MockClock) -> None:
    await check_stream(case, OWN[case.name])
