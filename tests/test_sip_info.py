"""INFO in a dialog: keys told by application/dtmf-relay and application/dtmf, and what is refused."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from sip_phone import user_agent
from trio.testing import MockClock

from aivc.sip import info
from aivc.sip.info import InfoError, parse_untrusted
from aivc.sip.leg import DigitPressed, HungUp


@pytest.mark.parametrize(
    ("body", "digit", "duration_ms"),
    [
        (b"Signal= 5\r\nDuration= 160\r\n", "5", 160),  # Cisco
        (b"Signal=5\r\nDuration=160\r\n", "5", 160),  # Asterisk
        (b"Signal=5\nDuration=250", "5", 250),
        (b"signal = #\r\nDURATION =  90 \r\n\r\n", "#", 90),
        (b"Duration=80\r\nSignal=*\r\n", "*", 80),
        (b"Signal=a\r\n", "A", info.DEFAULT_DURATION_MS),
        (b"Signal=10\r\nDuration=160\r\n", "*", 160),
        (b"Signal=11\r\nDuration=160\r\n", "#", 160),
        (b"Signal=15\r\nDuration=\r\n", "D", info.DEFAULT_DURATION_MS),
        (b"5", "5", info.DEFAULT_DURATION_MS),
        (b" 11\r\n", "#", info.DEFAULT_DURATION_MS),
        (b"d", "D", info.DEFAULT_DURATION_MS),
        (b"Signal=0\r\nDuration=60000\r\n", "0", 60_000),
        (b"Signal=7\r\nSignal=8\r\nnonsense\r\n", "7", info.DEFAULT_DURATION_MS),
    ],
)
def test_a_key_is_read_in_every_way_that_it_is_written(body: bytes, digit: str, duration_ms: int) -> None:
    assert parse_untrusted(body) == DigitPressed(digit, duration_ms)


@pytest.mark.parametrize("signal", [b"16", b"flash", b"Signal=hf", b"Signal= !\r\nDuration=300"])
def test_a_flash_of_the_hook_is_no_key(signal: bytes) -> None:
    assert parse_untrusted(signal) is None


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"17", b"-1", b"E", b"55", b"+5", b"Signal=\r\n", b"Duration=160\r\n", b"\xff", b"\0"),
        *(b"Signal=5\r\nDuration=-1\r\n", b"Signal=5\r\nDuration=60001\r\n", b"Signal=5\r\nDuration=1e3"),
        *(b"Signal=5\r\n" + b" " * info.MAX_BODY_OCTETS, "Signal=\u0665".encode()),
    ],
)
def test_a_body_without_a_key_is_an_error(body: bytes) -> None:
    with pytest.raises(InfoError):
        parse_untrusted(body)


@given(st.binary(max_size=300))
def test_no_octets_raise_anything_else(body: bytes) -> None:
    try:
        pressed = parse_untrusted(body)
    except InfoError:
        return
    assert pressed is None or (pressed.digit in info.KEYS and 0 <= pressed.duration_ms <= info.MAX_DURATION_MS)


async def test_a_key_is_answered_200_and_told(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        relay = phone.write("INFO", b"Signal= 5\r\nDuration= 160\r\n", cseq=2, content_type="Application/DTMF-Relay")
        plain = phone.write("INFO", b"#", cseq=3, content_type="application/dtmf;version=1")
        assert [(await phone.ask(relay)).status, (await phone.ask(plain)).status] == [200, 200]
        assert (await phone.ask(relay)).status == 200  # a retransmission: no second key
        assert [leg.events.receive_nowait() for _ in range(2)] == [DigitPressed("5", 160), DigitPressed("#", 100)]
        with pytest.raises(trio.WouldBlock):
            leg.events.receive_nowait()


async def test_an_empty_info_keeps_the_dialog_alive_and_tells_nothing(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        assert (await phone.ask(phone.write("INFO", cseq=2))).status == 200
        assert (await phone.ask(phone.write("INFO", b"flash", cseq=3, content_type="application/dtmf"))).status == 200
        with pytest.raises(trio.WouldBlock):
            leg.events.receive_nowait()


@pytest.mark.parametrize(
    ("content_type", "body", "extra", "status", "header"),
    [
        ("application/sdp", b"v=0\r\n", (), 415, ("Accept", "application/dtmf-relay, application/dtmf")),
        ("application/media_control+xml", b"<x/>", (), 415, ("Accept", "application/dtmf-relay, application/dtmf")),
        ("application/x", b"x", ("Info-Package: x",), 469, ("Recv-Info", "")),
        ("application/dtmf", b"x", (), 400, None),
        ("application/dtmf-relay", b"Signal=99", (), 400, None),
    ],
)
async def test_what_tells_of_no_key_is_refused(
    autojump_clock: MockClock,
    content_type: str,
    body: bytes,
    extra: tuple[str, ...],
    status: int,
    header: tuple[str, str] | None,
) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        answer = await phone.ask(phone.write("INFO", body, *extra, cseq=2, content_type=content_type))
        assert answer.status == status
        assert header is None or answer.headers.get(header[0]) == header[1]
        assert (await phone.ask(phone.write("BYE", cseq=3))).status == 200
        assert [event async for event in leg.events] == [HungUp()]


async def test_more_keys_than_anybody_reads_are_refused_and_the_end_is_told_all_the_same(
    autojump_clock: MockClock,
) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        statuses = []
        for number in range(2, 12):
            answer = await phone.ask(phone.write("INFO", b"1", cseq=number, content_type="application/dtmf"))
            statuses.append((answer.status, answer.headers.get("Retry-After")))
        assert statuses == [(200, None)] * 7 + [(500, "1")] * 3
        assert (await phone.ask(phone.write("BYE", cseq=20))).status == 200
        assert [event async for event in leg.events] == [DigitPressed("1", 100)] * 7 + [HungUp()]


async def test_a_key_while_we_hang_up_is_nobodys(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg, _ = await phone.call(agent)
        await phone.ack()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leg.hang_up, "over")
            bye = await phone.request()
            late = phone.write("INFO", b"1", cseq=2, content_type="application/dtmf")
            assert (await phone.ask(late)).status == 200  # our BYE is on its way
            await phone.reply(bye)
        assert [event async for event in leg.events] == []
