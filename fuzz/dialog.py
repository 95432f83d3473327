"""The whole SIP user agent under a fake clock: damaged requests and responses of real dialogs, one after another."""

from __future__ import annotations

import logging
import random
from contextlib import suppress
from typing import Final

import attrs
import trio
from trio.testing import MockClock

from aivc.config.secret import Secret
from aivc.config.settings import Address, SipSettings, SipUser
from aivc.sip.amplification import MAX_AMPLIFICATION
from aivc.sip.leg import ConsultationFailed, Leg, Rejection
from aivc.sip.message import ParseError, Request, parse_untrusted
from aivc.sip.useragent import UserAgent, open_user_agent
from aivc.testing.network import VirtualNetwork
from fuzz.choices import Choices
from fuzz.lines import check_head
from fuzz.target import Target

SERVER: Final[Address] = ("192.0.2.1", 5060)
PHONE: Final[Address] = ("192.0.2.10", 5060)
RTP: Final[Address] = ("192.0.2.1", 40_000)
MOST_STEPS: Final = 60
METHODS: Final = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REFER", "NOTIFY", "INFO", "UPDATE", "PRACK", "REGISTER")
STATUSES: Final = (100, 180, 183, 200, 202, 302, 401, 407, 422, 481, 486, 491, 500, 503, 603, 699)
STEPS: Final = (0.0, 0.01, 0.2, 0.6, 4.0, 33.0, 100.0)  # seconds between two datagrams
LONG_ENOUGH: Final = 200.0  # seconds after which every transaction is over, each with one that it made
PIECES: Final = (
    *(b"", b"\r\n", b"\r\n ", b";", b",", b'"', b"\0", b"9", b"<", b">", b"@", b":", b"%0d%0a", b"\xff", b"\\"),
    *(b"Require: 100rel\r\n", b"Supported: 100rel, timer, replaces\r\n", b"Session-Expires: 90;refresher=uac\r\n"),
    *(b"Replaces: call-0;to-tag=%TAG;from-tag=phone\r\n", b"RAck: %RSEQ 1 INVITE\r\n", b"Event: refer\r\n"),
    *(
        b"Refer-To: <sip:7@192.0.2.10>\r\n",
        b"Subscription-State: terminated;reason=noresource\r\n",
        b"Min-SE: 99999\r\n",
    ),
    *(b"Contact: <sip:a@192.0.2.77;transport=tcp>\r\n", b"Record-Route: <sip:192.0.2.78;lr>\r\n", b"Expires: 0\r\n"),
    *(b'Authorization: Digest username="alice", realm="aivc", nonce="', b"Proxy-Authenticate: Digest realm=x\r\n"),
)
BODIES: Final = (
    ("application/sdp", b"m=audio 49170 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"),
    ("application/sdp", b"m=audio 49170 RTP/AVP 8\r\na=sendonly\r\n"),
    ("application/sdp", b"m=video 2 RTP/AVP 31\r\nm=audio 0 RTP/AVP 0\r\n"),
    ("message/sipfrag", b"SIP/2.0 200 OK\r\n"),
    ("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n"),
)
SDP_HEAD: Final = b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n"


class Bug(Exception):
    """A message or a timer met a bug, which the user agent has survived and logged."""


@attrs.define(eq=False)
class Bugs(logging.Handler):
    """Keeps the bugs that are logged as `sip.bug`."""

    met: list[logging.LogRecord] = attrs.field(factory=list)

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", "") == "sip.bug":
            self.met.append(record)


@attrs.define(eq=False)
class Phone:
    """Writes the messages of one caller, damaged as the input says."""

    choices: Choices
    socket: trio.socket.SocketType
    tag: str | None = None  # the server's, of the last answer
    asked: Request | None = None  # the server's last request
    rseq: bytes = b"1"  # of the server's last reliable response
    cseq: int = 1
    branch: int = 0
    longest: int = 0  # octets of what was sent, until something of it said a tag of the server's
    is_proven: bool = False
    heard: set[bytes] = attrs.field(factory=set)  # most of what comes is resent

    def request(self) -> bytes:
        """A request of some dialog, or the same as before with something changed."""
        choices = self.choices
        method, how = choices.one_of(METHODS), choices.number(64)
        self.branch += how & 1 or method == "INVITE"
        self.cseq += how >> 1 & 1
        tag = f";tag={self.tag}" if self.tag is not None and how & 4 else ""
        kind, body = choices.one_of(BODIES) if how & 8 else ("", b"")
        body = SDP_HEAD + body if kind == "application/sdp" else body
        lines = [
            f"{method} sip:100@192.0.2.1 SIP/2.0",
            f"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-{self.branch};rport",
            "From: <sip:alice@192.0.2.10>;tag=phone",
            f"To: <sip:100@192.0.2.1>{tag}",
            f"Call-ID: call-{how >> 4 & 1}",
            f"CSeq: {self.cseq} {method}",
            "Contact: <sip:alice@192.0.2.10:5060>",
            *([f"Content-Type: {kind}"] if kind else []),
            f"Content-Length: {len(body)}",
        ]
        return self.damaged("\r\n".join([*lines, "", ""]).encode() + body)

    def response(self) -> bytes:
        """To the server's last request."""
        if self.asked is None:
            return b""
        copied = ("Via", "From", "To", "Call-ID", "CSeq")
        status, how = self.choices.one_of(STATUSES), self.choices.number(4)
        tag = ";tag=theirs" if how & 1 and self.asked.to.tag is None else ""
        body = SDP_HEAD + BODIES[0][1] if how & 2 else b""
        lines = [f"{name}: {value}{tag * (name == 'To')}" for name, value in self.asked.headers if name in copied]
        lines += ["Contact: <sip:alice@192.0.2.10:5060>", *(["Content-Type: application/sdp"] if body else [])]
        head = "\r\n".join([f"SIP/2.0 {status} Whatever", *lines, "", ""])
        return self.damaged(head.encode("latin-1") + body)

    def damaged(self, data: bytes) -> bytes:
        """With up to three pieces of it replaced: at any octet, or at the beginning of a line."""
        for _ in range(self.choices.number(4)):
            at = self.choices.number(65_536) % (len(data) + 1)
            if self.choices.number(2):
                at = data.find(b"\r\n", at) + 2
            data = data[:at] + self.choices.one_of(PIECES) + data[at + self.choices.number(4) :]
        return data.replace(b"%TAG", (self.tag or "x").encode("latin-1")).replace(b"%RSEQ", self.rseq)

    async def say(self, data: bytes) -> None:
        self.is_proven = self.is_proven or (self.tag is not None and self.tag.encode("latin-1") in data)
        self.longest = max(self.longest, len(data))
        await self.socket.sendto(data, SERVER)

    async def listen(self) -> None:
        """Learn what answers and requests say, and check that they are sound."""
        while True:
            data, _ = await self.socket.recvfrom(65_535)
            if data in self.heard:
                continue
            self.heard.add(data)
            check_head(data)
            if not self.is_proven and data.startswith(b"SIP/2.0"):
                assert len(data) <= MAX_AMPLIFICATION * self.longest, "an amplifier"
            try:
                message = parse_untrusted(data)
            except ParseError:  # the answer to a broken request is as broken
                continue
            if isinstance(message, Request):
                self.asked = message
            elif message.to.tag is not None:
                self.tag = message.to.tag
                self.rseq = (message.headers.get("RSeq") or "1").encode("latin-1")


def dialog(data: bytes) -> None:
    """Requests, responses, pauses and what the service does with its calls: no bug, and all tables empty at the end."""
    bugs, log = Bugs(), logging.getLogger("aivc")
    before, propagates = log.level, log.propagate
    log.addHandler(bugs)
    log.setLevel(logging.ERROR)
    log.propagate = False
    try:
        trio.run(converse, data, clock=MockClock(autojump_threshold=0.0))
    finally:
        log.removeHandler(bugs)
        log.setLevel(before)
        log.propagate = propagates
    for record in bugs.met:
        raise Bug(record.getMessage()) from (record.exc_info[1] if record.exc_info else None)


async def converse(data: bytes) -> None:
    choices = Choices(data)
    how = choices.number(8)
    settings = SipSettings(
        listen=(f"udp:{SERVER[0]}:{SERVER[1]}",),
        users=(SipUser(name="alice", password=Secret("wonder")),) if how == 1 else (),
        trusted=(PHONE[0],) if how == 2 else (),
        reliable_provisional="required" if how == 3 else "on",
        follow_refer=("sip:7@.*",) if how & 4 else (),
        requests_per_second=0.0,
    )
    VirtualNetwork().enable()
    with trio.fail_after(100_000), trio.socket.socket(type=trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(PHONE)
        async with open_user_agent(settings, randomness=random.Random(7)) as agent, trio.open_nursery() as nursery:
            phone = Phone(choices, socket, is_proven=how == 2)
            nursery.start_soon(phone.listen)
            nursery.start_soon(take_calls, agent, nursery, data)
            await speak(phone)
            check_tables(agent)
            nursery.cancel_scope.cancel()


async def speak(phone: Phone) -> None:
    """The steps of the input."""
    choices = phone.choices
    for _ in range(MOST_STEPS):
        if choices.is_over:
            break
        kind = choices.number(8)
        data = phone.response() if kind < 2 else choices.piece() if kind == 2 else phone.request()
        if data:
            await phone.say(data)
        await trio.sleep(choices.one_of(STEPS))
    await trio.sleep(LONG_ENOUGH)


def check_tables(agent: UserAgent) -> None:
    """Nothing is left but calls; every one of them has at most one request of its own under way."""
    counted = agent.statistics()
    assert counted.legs <= MOST_STEPS
    assert counted.client_transactions <= counted.legs
    assert counted.server_transactions <= counted.legs


async def take_calls(agent: UserAgent, nursery: trio.Nursery, data: bytes) -> None:
    """What the service does with each call is drawn from the input as well."""
    number = 0
    async for leg in agent.legs:
        nursery.start_soon(serve, leg, data[number % len(data)] if data else 0)
        number += 1


async def serve(leg: Leg, what: int) -> None:
    """Ring, answer, transfer and hang up, or some of that, with pauses."""
    if what & 1:
        await leg.ring()
        await trio.sleep(what % 8)
    if what & 2:
        await leg.reject(Rejection(486, "busy\r\nX: y", retry_after_seconds=1))
        return
    await leg.answer(RTP)
    if what & 4:
        await trio.sleep(what % 16)
        await leg.refer("sip:9@192.0.2.9", "sip:100@192.0.2.1", what % 32, fields=(("X-Why", "because"),))
    if what & 16:
        with suppress(ConsultationFailed):
            consultation = await leg.consult("sip:9@192.0.2.10", RTP, what % 64)
            await leg.refer("sip:9@192.0.2.10", "sip:100@192.0.2.1", what % 32, replaces=consultation)
            await consultation.hang_up("done")
    if what & 8:
        await leg.hang_up('over "and"\r\nout', (("X-Why", "because"),))
    async for _ in leg.events:
        pass


TARGETS: Final = (Target("dialog", dialog, 1024, 20_000),)
