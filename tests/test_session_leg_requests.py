"""What the peer of a UA session asks for in its dialog: each request gets exactly one answer."""

from __future__ import annotations

import logging

import attrs
import pytest
import trio
from session_leg_parts import (
    HELD,
    KEY,
    LOCAL,
    ack,
    ended,
    invite,
    open_session,
    request,
    response,
    sdp,
    settle,
)
from trio.testing import MockClock

from aivc.sip.leg import DigitPressed, MediaChanged, SignallingFailed
from aivc.sip.uasession import SessionEvent

DTMF = ("Content-Type", "application/dtmf-relay")
KEY_5 = b"Signal=5\r\nDuration=160\r\n"


async def test_a_hold_and_its_end_are_answered_and_told(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        await session.say(request("INVITE", cseq=2, body=sdp(more=HELD, version=2)))
        held = session.leg.events.receive_nowait()
        assert isinstance(held, MediaChanged)
        assert not held.agreement.may_send
        assert "a=recvonly" in session.paper.params("reply INVITE 200")["body"]
        await session.say(ack(2))
        await session.say(request("INVITE", cseq=3, body=sdp(version=3)))
        resumed = session.leg.events.receive_nowait()
        assert isinstance(resumed, MediaChanged)
        assert resumed.agreement.may_send
        assert session.paper.told == ["reply INVITE 200"] * 3


async def test_a_request_whose_event_comes_twice_is_served_once(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        for cseq in (3, 3, 2, 3, 2, 4):  # processes of OpenSIPS overtake each other
            await session.say(request("INFO", DTMF, cseq=cseq, body=KEY_5))
        assert session.paper.told.count("reply INFO 200") == 3
        assert [type(session.leg.events.receive_nowait()) for _ in range(3)] == [DigitPressed] * 3
        with pytest.raises(trio.WouldBlock):
            session.leg.events.receive_nowait()


async def test_audio_that_moves_is_told_and_the_version_of_our_sdp_rises_only_with_a_change(
    autojump_clock: MockClock,
) -> None:
    async with open_session() as session:
        await session.answer()
        first = session.paper.params("reply INVITE 200")["body"]
        await session.say(request("INVITE", cseq=2, body=sdp(41000, version=2)))
        moved = session.leg.events.receive_nowait()
        assert isinstance(moved, MediaChanged)
        assert moved.agreement.remote == ("192.0.2.9", 41000)
        assert session.leg.agreement == moved.agreement
        assert session.paper.params("reply INVITE 200")["body"] == first


async def test_a_reinvite_without_an_offer_gets_ours_and_the_ack_answers(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        await session.say(request("INVITE", cseq=2))
        assert "m=audio 35000 RTP/AVP 0" in session.paper.params("reply INVITE 200")["body"]
        await session.say(ack(2, sdp(42000)))
        moved = session.leg.events.receive_nowait()
        assert isinstance(moved, MediaChanged)
        assert moved.agreement.remote == ("192.0.2.9", 42000)


async def test_an_invite_without_an_offer_gets_ours_and_the_ack_answers(autojump_clock: MockClock) -> None:
    async with open_session(invite(body=b"")) as session:
        assert session.leg.agreement.remote[1] == 0
        await session.leg.answer(LOCAL)
        assert "m=audio 35000 RTP/AVP 0" in session.paper.params("reply INVITE 200")["body"]
        await session.say(ack(1, sdp()))
        agreed = session.leg.events.receive_nowait()
        assert isinstance(agreed, MediaChanged)
        assert agreed.agreement.remote == ("192.0.2.9", 40000)


@pytest.mark.parametrize("body", [b"", b"v=0\r\nm=audio x\r\n", sdp(0)])
async def test_an_ack_without_a_usable_answer_to_our_offer_ends_a_new_call(
    autojump_clock: MockClock, body: bytes
) -> None:
    async with open_session(invite(body=b"")) as session:
        await session.leg.answer(LOCAL)
        await session.say(ack(1, body))
        assert isinstance(await session.last_event(), SignallingFailed)
        assert session.paper.fields("update BYE")[0].startswith("Reason: SIP;cause=488;")
        await session.say(response("BYE", 200, "OK"))
        assert session.paper.forgotten == [KEY]


@pytest.mark.parametrize("first", [sdp(), b""])
async def test_an_ack_without_a_usable_answer_leaves_an_old_session_as_it_is(
    autojump_clock: MockClock, first: bytes
) -> None:
    async with open_session(invite(body=first)) as session:
        await session.leg.answer(LOCAL)
        await session.say(ack(1, b"" if first else sdp()))
        before = session.leg.agreement
        await session.say(request("INVITE", cseq=2))
        await session.say(ack(2))
        await session.say(request("INVITE", cseq=3, body=sdp(more=HELD)))
        assert not session.leg.is_over
        assert before.may_send
        assert not session.leg.agreement.may_send
        assert session.paper.told == ["reply INVITE 200"] * 3


async def test_while_our_offer_waits_for_its_answer_no_other_is_taken(autojump_clock: MockClock) -> None:
    async with open_session(invite(body=b"")) as session:
        await session.leg.answer(LOCAL)
        await session.say(request("UPDATE", cseq=2, body=sdp()))
        await session.say(request("INVITE", cseq=3, body=sdp()))
        await session.say(request("UPDATE", cseq=4))
        assert session.paper.told[1:] == ["reply UPDATE 491", "reply INVITE 500", "reply UPDATE 200"]
        assert session.paper.fields("reply INVITE 500")[0].startswith("Retry-After: ")


async def test_a_reinvite_stands_for_an_ack_that_was_not_told(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.leg.answer(LOCAL)
        await session.say(request("INVITE", cseq=2, body=sdp(more=HELD)))
        assert session.paper.told == ["reply INVITE 200"] * 2


async def test_an_update_changes_the_session_or_refreshes_it(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        await session.say(request("UPDATE", cseq=2))
        assert "body" in session.paper.params("reply UPDATE 200")
        assert session.paper.params("reply UPDATE 200")["body"] == ""
        await session.say(request("UPDATE", cseq=3, body=sdp(more=HELD)))
        assert "a=recvonly" in session.paper.params("reply UPDATE 200")["body"]
        assert isinstance(session.leg.events.receive_nowait(), MediaChanged)


async def test_an_update_before_the_answer_is_answered_but_takes_no_offer(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.say(request("UPDATE", cseq=2))
        await session.say(request("UPDATE", cseq=3, body=sdp(41000)))
        assert session.paper.told == ["reply UPDATE 200", "reply UPDATE 500"]
        assert session.leg.agreement.remote == ("192.0.2.9", 40000)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"v=0\r\nm=audio x\r\n", 400),
        (sdp().replace(b"RTP/AVP 0 8 101", b"RTP/AVP 9"), 488),
    ],
)
async def test_a_change_that_cannot_be_is_refused_and_the_session_stays(
    autojump_clock: MockClock, body: bytes, status: int
) -> None:
    async with open_session() as session:
        await session.answer()
        before = session.leg.agreement
        await session.say(request("INVITE", cseq=2, body=body))
        await session.say(request("UPDATE", cseq=3, body=body))
        assert session.paper.told[1:] == [f"reply INVITE {status}", f"reply UPDATE {status}"]
        assert session.leg.agreement == before


async def test_a_key_told_by_info_is_told(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        await session.say(request("INFO", DTMF, body=KEY_5))
        await session.say(request("INFO", ("Content-Type", "application/dtmf"), cseq=3, body=b"#"))
        assert session.leg.events.receive_nowait() == DigitPressed("5", 160)
        assert session.leg.events.receive_nowait() == DigitPressed("#", 100)
        assert session.paper.told[1:] == ["reply INFO 200", "reply INFO 200"]


OTHERS: list[tuple[SessionEvent, str, list[str] | None]] = [  # with the header fields of the answer
    (request("INFO"), "200", []),
    (request("INFO", DTMF, body=b"Duration=160"), "400", []),
    (
        request("INFO", ("Content-Type", "text/plain"), body=b"?"),
        "415",
        ["Accept: application/dtmf-relay, application/dtmf"],
    ),
    (
        request("OPTIONS"),
        "200",
        [
            "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, NOTIFY, UPDATE",
            "Supported: timer",
            "Accept: application/sdp",
        ],
    ),
    (request("MESSAGE", ("Content-Type", "text/plain"), body=b"hi"), "405", None),
    (request("SUBSCRIBE", ("Event", "presence")), "405", None),
    (request("PUBLISH"), "405", None),
    (request("FOO"), "501", None),
    (request("REFER", ("Refer-To", "<sip:bob@example.com>")), "603", None),
    (request("NOTIFY", ("Event", "refer"), ("Subscription-State", "active")), "481", []),
    (request("NOTIFY", ("Event", "presence"), ("Subscription-State", "active")), "489", ["Allow-Events: refer"]),
    (request("NOTIFY", ("Event", "refer")), "400", []),
    (request("OPTIONS", ("Require", "100rel")), "420", ["Unsupported: 100rel"]),
    (request("INVITE", ("Content-Type", "text/plain"), body=b"?"), "415", ["Accept: application/sdp"]),
    (request("INVITE", ("Accept", "text/plain"), body=sdp()), "406", []),
    (request("INVITE", ("CSeq", "2"), body=sdp()), "400", []),
]


@pytest.mark.parametrize(("told", "status", "fields"), OTHERS, ids=[f"{e[0].method} {e[1]}" for e in OTHERS])
async def test_every_request_is_answered_exactly_once(
    autojump_clock: MockClock, told: SessionEvent, status: str, fields: list[str] | None
) -> None:
    async with open_session() as session:
        await session.answer()
        await session.say(told)
        method = told.method
        assert session.paper.told[1:] == [f"reply {method} {status}"]
        params = session.paper.params(f"reply {method} {status}")
        if fields is not None:
            assert session.paper.fields(f"reply {method} {status}") == fields
        assert params.get("content_type", "") == ""
        assert ("extra_headers" not in params) or params["body"] == ""


async def test_headers_that_cannot_be_read_get_400(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        await session.say(attrs.evolve(request("OPTIONS"), fault="Bad header line"))
        assert session.paper.told[1:] == ["reply OPTIONS 400"]
        assert session.paper.params("reply OPTIONS 400")["reason"] == "Bad header line"


async def test_an_answer_to_a_request_of_ours_is_not_taken_for_a_request(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        await session.say(response("INVITE", 200, "OK"))
        await session.say(response("BYE", 200, "OK"))
        await session.say(attrs.evolve(request("INVITE"), status=200))
        assert session.paper.told == ["reply INVITE 200"]
        assert session.board.counts.stray == 3


async def test_an_ack_is_never_answered(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        for stray in (ack(), ack(7), attrs.evolve(ack(), fault="Bad header line")):
            await session.say(stray)
        assert session.paper.told == ["reply INVITE 200"]


async def test_a_queue_that_nobody_reads_lets_changes_and_keys_come_later(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        for cseq in range(2, 9):
            await session.say(request("INFO", DTMF, cseq=cseq, body=KEY_5))
        await session.say(request("INFO", DTMF, cseq=9, body=KEY_5))
        await session.say(request("INVITE", cseq=10, body=sdp(more=HELD)))
        assert session.paper.told[-2:] == ["reply INFO 500", "reply INVITE 500"]
        assert session.paper.fields("reply INFO 500") == ["Retry-After: 1"]
        await session.say(ended("BYE"))
        assert len([told async for told in session.leg.events]) == 8  # the end has a place of its own


async def test_a_peer_that_asks_too_much_is_slowed_down(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        for cseq in range(2, 100):
            session.leg.take(request("OPTIONS", cseq=cseq))
            await trio.sleep(0.005)
        assert session.paper.told.count("reply OPTIONS 503") > 30
        assert len(session.paper.told) == 99
        assert session.paper.fields("reply OPTIONS 503") == ["Retry-After: 10"]


async def test_answers_that_opensips_does_not_take_do_not_pile_up(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        session.paper.seconds = 10.0
        for cseq in range(2, 42):
            session.leg.take(request("OPTIONS", cseq=cseq))
        assert session.board.counts.dropped == 8


async def test_an_answer_that_opensips_refuses_changes_nothing(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        session.paper.refused |= {"reply OPTIONS 200"}
        await session.say(request("OPTIONS", cseq=2))
        await session.say(request("INFO", DTMF, cseq=3, body=KEY_5))
        assert session.paper.told[1:] == ["reply OPTIONS 200", "reply INFO 200"]
        assert session.board.counts.failed == 1


async def test_while_we_hang_up_requests_are_answered_but_change_nothing(autojump_clock: MockClock) -> None:
    async with open_session() as session, trio.open_nursery() as nursery:
        await session.answer()
        nursery.start_soon(session.leg.hang_up, "the talk is over")
        await settle()
        await session.say(request("INFO", DTMF, cseq=2, body=KEY_5))
        await session.say(request("OPTIONS", cseq=3))
        await session.say(request("INVITE", cseq=4, body=sdp(more=HELD)))
        assert session.paper.told[2:] == ["reply INFO 200", "reply OPTIONS 200", "reply INVITE 481"]
        session.leg.take(response("BYE", 200, "OK"))
        assert await session.last_event() is None


async def test_a_bug_in_one_answer_gets_500_and_costs_no_more(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_session() as session:
        await session.answer()
        broken = attrs.evolve(request("INVITE", cseq=2, body=sdp()), body="no octets")  # type: ignore[arg-type]  # the bug
        await session.say(broken)
        await session.say(request("OPTIONS", cseq=3))
        assert session.paper.told[1:] == ["reply INVITE 500", "reply OPTIONS 200"]
        assert session.leg.dialog.board.refusals.counts["internal_error"] == 1
        assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == ["sip.bug"]


async def test_a_flood_of_refused_requests_is_logged_once_a_second(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aivc.sip")
    async with open_session() as session:
        await session.answer()
        for number in range(2, 1002):
            session.leg.take(request("MESSAGE", cseq=number))
            await trio.sleep(0.01)
        assert session.board.counts.refused == 1000
    assert sum("sip.refused" in record.getMessage() for record in caplog.records) <= 60


async def test_a_flood_of_updates_leaves_room_for_every_other_request(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        session.paper.seconds = 1.0  # OpenSIPS is slow; a new UPDATE takes the place of the one before
        for number in range(2, 102):
            session.leg.take(request("UPDATE", cseq=number, body=sdp(version=number)))
            await trio.lowlevel.checkpoint()
        await trio.sleep(10)
        session.leg.take(request("INFO", cseq=102))
        await trio.sleep(10)
        assert session.board.counts.dropped == 0
        assert session.paper.told[-1] == "reply INFO 200"


async def test_only_the_latest_of_several_updates_is_answered(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        session.paper.seconds = 1.0
        await session.say(request("INFO", cseq=2))
        for number, more in ((3, HELD), (4, ""), (5, HELD)):
            await session.say(request("UPDATE", cseq=number, body=sdp(more=more, version=number)))
        await trio.sleep(10)
        assert session.paper.told[1:] == ["reply INFO 200", "reply UPDATE 200"]
        assert "a=recvonly" in session.paper.params("reply UPDATE 200")["body"]
