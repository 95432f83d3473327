"""Peers that say anything at any time inside calls, and calls that do anything meanwhile: nothing of it stays."""

from __future__ import annotations

import random
from typing import Final

import attrs
import pytest
import trio
from sip_phone import Phone, sdp, user_agent
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip.leg import ConsultationFailed, Leg, Rejection
from aivc.sip.message import Request
from aivc.testing.network import VirtualNetwork

LONGEST: Final = 1000.0  # seconds, from the last word to the end of every timer
AUDIO: Final = "m=audio 49170 RTP/AVP 0 8\r\n"
BODIES: Final = (b"", sdp(AUDIO), sdp(AUDIO), sdp(AUDIO + "a=sendonly\r\n"), sdp("m=audio 0 RTP/AVP 0\r\n"), b"garbage")
METHODS: Final = ("INVITE", "INVITE", "BYE", "CANCEL", "ACK", "PRACK", "UPDATE", "INFO", "NOTIFY", "OPTIONS", "REFER")
STATUSES: Final = (100, 180, 183, 200, 200, 200, 202, 302, 400, 405, 408, 422, 481, 486, 487, 491, 500, 503, 603)
FIELDS: Final = (
    "Supported: timer, 100rel",
    "Require: 100rel",
    "Session-Expires: 90;refresher=uac",
    "Session-Expires: 100;refresher=uas",
    "RAck: 1 1 INVITE",
    "Refer-To: <sip:7@192.0.2.10>",
    "Refer-To: <sip:7@192.0.2.10?Replaces=call-1%3Bto-tag%3Da%3Bfrom-tag%3Db>",
    "Event: refer",
    "Subscription-State: terminated;reason=noresource",
    "Allow: INVITE, ACK, BYE",
)


@attrs.define(eq=False)
class Peer:
    """One phone with several calls, in which it does as the dice say."""

    phone: Phone
    dice: random.Random
    tags: dict[str, str] = attrs.field(factory=dict)  # the other side's, by Call-ID

    async def listen(self) -> None:
        """Task: acknowledge most 2xx, and answer requests with anything, or not at all."""
        while True:
            message = await self.phone.receive(LONGEST * 2)
            if isinstance(message, Request):
                await self.answer(message)
            elif message.cseq.method == "INVITE" and 100 < message.status < 300:
                self.tags[message.call_id] = message.to.tag or ""
                if message.status >= 200 and self.dice.random() < 0.8:
                    await self.say("ACK", message.call_id, self.dice.choice(BODIES), message.cseq.number)

    async def answer(self, request: Request) -> None:
        self.tags.setdefault(request.call_id, request.sender.tag or "")
        if request.method != "ACK" and self.dice.random() < 0.85:
            body = self.dice.choice(BODIES) if request.method in ("INVITE", "UPDATE") else b""
            tag = None if request.to.tag else f"fork{self.dice.randrange(2)}"
            fields = ("Contact: <sip:x@192.0.2.10>", *self.dice.choice(((), ("Require: 100rel", "RSeq: 1"))))
            await self.phone.reply(request, self.dice.choice(STATUSES), *fields, tag=tag, body=body)

    async def say(self, method: str, call_id: str, body: bytes, cseq: int) -> None:
        self.phone.call_id, self.phone.to_tag = call_id, self.tags.get(call_id)
        fields = self.dice.sample(FIELDS, self.dice.randint(0, 4))
        await self.phone.send(self.phone.write(method, body, *fields, cseq=cseq))

    async def storm(self) -> None:
        for number in range(1, 120):
            call_id = self.dice.choice([f"call-{number // 10}", *list(self.tags)[-3:]])
            method = "INVITE" if call_id not in self.tags else self.dice.choice(METHODS)
            await self.say(method, call_id, self.dice.choice(BODIES), number)
            await trio.sleep(self.dice.choice((0, 0, 0.01, 0.1, 0.6, 3)))


async def act(leg: Leg, dice: random.Random) -> None:
    """The service's side of one call."""
    for _ in range(dice.randint(2, 6)):
        await trio.sleep(dice.choice((0, 0.01, 0.3, 2)))
        match dice.choice(("ring", "answer", "answer", "refer", "consult")):
            case "ring":
                await leg.ring()
            case "answer":
                await leg.answer(("192.0.2.1", 40_000))
            case "refer":
                await leg.refer("sip:9@192.0.2.10", "sip:1@192.0.2.1", dice.choice((1.0, 10.0)))
            case _:
                try:
                    reached = await leg.consult("sip:8@192.0.2.10", ("192.0.2.1", 40_002), dice.choice((1.0, 5.0)))
                except ConsultationFailed:
                    continue
                await reached.hang_up("over")
    await leg.hang_up("over")
    await leg.reject(Rejection(480, "over"))


@pytest.mark.parametrize("seed", range(12))
async def test_a_storm_of_requests_and_answers_leaves_nothing_behind(seed: int, autojump_clock: MockClock) -> None:
    dice = random.Random(seed)
    network = VirtualNetwork(seed=seed, delay=0.01, loss=0.2 * (seed % 3 == 0), reordering=0.2 * (seed % 2))
    settings = SipSettings(follow_refer=("sip:.*",), session_expires_seconds=dice.choice((0, 90)))
    async with user_agent(settings, network, seconds=LONGEST * 2) as (agent, phone), trio.open_nursery() as nursery:

        async def serve() -> None:
            async for leg in agent.legs:
                nursery.start_soon(act, leg, dice)

        peer = Peer(phone, dice)
        nursery.start_soon(serve)
        nursery.start_soon(peer.listen)
        await peer.storm()
        await trio.sleep(LONGEST)
        left = agent.statistics()
        assert (left.legs, left.server_transactions, left.client_transactions) == (0, 0, 0)
        nursery.cancel_scope.cancel()
