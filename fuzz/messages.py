"""SIP messages, alone and in streams, and the values of their headers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import attrs
import trio

from aivc.config.secret import Secret
from aivc.config.settings import Address, SipRegister, SipSettings, SipUser
from aivc.sip.accounts import Accounts
from aivc.sip.address import parse_cseq, parse_name_addr, parse_uri, parse_via, quote
from aivc.sip.amplification import MAX_AMPLIFICATION, fitting
from aivc.sip.authentication import Authentication
from aivc.sip.counters import Counters
from aivc.sip.datagrams import Intake
from aivc.sip.dialog import Dialog
from aivc.sip.digest import answer_challenge, parse_challenge, parse_credentials
from aivc.sip.fields import checked_fields
from aivc.sip.flow import Arrival, Transport
from aivc.sip.framing import MAX_HEAD_OCTETS, Broken, Frame, StreamFramer
from aivc.sip.inspection import Capabilities, Refusal, inspect, warning_header
from aivc.sip.invitation import asserted_identity
from aivc.sip.message import (
    MAX_LINE_OCTETS,
    MAX_MESSAGE_OCTETS,
    Headers,
    ParseError,
    Request,
    Response,
    answer_to,
    is_safe_line,
    parse_untrusted,
)
from aivc.sip.provisional import read_rack
from aivc.sip.reasons import reason_fields
from aivc.sip.referral import name_addr_of, read_notify, refer_fields
from aivc.sip.referred import read_refer
from aivc.sip.refreshing import judge, read_wish_or_none
from aivc.sip.registration import Registration, read_contacts, read_retry_after, read_routes
from aivc.sip.replacing import read_replaces, replaces_of
from aivc.sip.scanner import AddressError, split_list
from aivc.sip.sources import Sources
from aivc.sip.stateless import stateless_answer
from fuzz.choices import Choices
from fuzz.lines import check_head, check_line
from fuzz.target import LARGEST_DATAGRAM, Target, only

PEER: Final[Address] = ("192.0.2.10", 5060)
SETTINGS: Final = SipSettings(
    users=(SipUser(name="alice", password=Secret("wonder")),),
    register=(SipRegister(user="200", server=PEER[0], password=Secret("s3cret")),),
    follow_refer=("sip:.*@192[.]0[.]2[.]7",),
)
CAPABILITIES: Final = Capabilities.of(SETTINGS)
HEADERS: Final = Headers(
    (
        ("Via", "SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK1;rport"),
        ("From", "<sip:alice@192.0.2.10>;tag=1"),
        ("To", "<sip:100@192.0.2.1>"),
        ("Call-ID", "call-1"),
        ("CSeq", "1 INVITE"),
        ("Contact", "<sip:alice@192.0.2.10>"),
    )
)
INVITE: Final = Request(method="INVITE", target="sip:100@192.0.2.1", headers=HEADERS)
NOWHERE: Final = trio.open_memory_channel[Arrival](0)[0]
LONGEST_WAIT: Final = 2.0**32  # seconds, what a registrar may grant
LONGER: Final = 1024  # octets by which any answer may be longer than its request
ROOM: Final = 512  # octets by which a stamped message may be longer than the one that came


@attrs.frozen
class Way:
    """To the registrar, for a machine that sends nothing itself."""

    transport: Transport = "UDP"
    peer: Address = PEER
    local: Address = ("10.0.0.1", 5060)
    is_open: bool = True

    def send_nowait(self, data: bytes) -> None:
        raise NotImplementedError


def message(data: bytes) -> None:
    """One datagram: read or refused; what is read is written and read as the same; what we answer is sound."""
    try:
        read = parse_untrusted(data)
    except ParseError as error:
        answer = stateless_answer(error.status, error.reason, error.headers, PEER)
        if answer is not None:
            check_head(answer[0])
        return
    octets = bytes(read)
    check_head(octets)
    assert len(octets) > MAX_MESSAGE_OCTETS or parse_untrusted(octets) == read
    assert (read.call_id, read.cseq.method, read.sender, read.to, read.via) is not None
    read.headers.joined()
    if isinstance(read, Request):
        serve(read, len(data))
    else:
        take(read)


def serve(request: Request, octets: int) -> None:
    """Everything that a server reads of a request before a call sees it."""
    request = as_it_arrives(request, octets)
    refusal = inspect(request, CAPABILITIES) or Authentication(SETTINGS, random.Random(1)).challenge(request, *PEER)
    for each in (refusal, read_replaces(request.headers), read_refer(request, SETTINGS.follow_refer)):
        if isinstance(each, Refusal):
            check_answer(each.answer(request.headers, "tag"), octets)
    check_answer(answer_to(request.headers, 200, tag="tag", extra=CAPABILITIES.fields), octets)
    for read in (read_notify, asserted_identity, lambda each: judge(each.headers, 1800, 90)):
        read(request)
    for attempt in (read_rack, lambda each: Dialog.from_invite(each, "tag")):
        only(AddressError, attempt, request)
    Sources(SETTINGS).judge(request, PEER[0], 0.0, in_dialog=False)


def as_it_arrives(request: Request, octets: int) -> Request:
    """With its top Via stamped; that leaves it a message."""
    intake = Intake(NOWHERE, lambda _: True, Counters())
    arrived = intake.read_untrusted(bytes(request), PEER)
    if isinstance(arrived, ParseError):  # ours is longer than theirs was: compact names written out
        assert octets + ROOM + 16 * len(request.headers.fields) > MAX_MESSAGE_OCTETS, arrived
        return request
    assert isinstance(arrived, Request)
    assert arrived.via.received in (None, PEER[0])
    assert arrived.via.response_address()[0] in (PEER[0], arrived.via.host)
    return arrived


def check_answer(response: Response, octets: int) -> None:
    """It is sound, and never much longer than the request when it goes to who may be anybody."""
    check_head(bytes(response))
    assert len(bytes(response)) <= octets + LONGER, "an answer that grows with the request"
    short = fitting(response, octets)
    assert short is None or len(short) <= MAX_AMPLIFICATION * octets
    if short is not None and max(map(len, short.split(b"\r\n"))) <= MAX_LINE_OCTETS:  # stamped, a Via may be longer
        assert parse_untrusted(short).call_id == response.call_id


def take(response: Response) -> None:
    """Everything that a client reads of a response."""
    only(AddressError, lambda each: Dialog.from_response(INVITE, each), response)
    read_wish_or_none(response.headers)
    for read in (read_contacts, read_routes):
        read(response.headers)
    assert read_retry_after(response) >= 0
    register(response)
    authorize(response)


def register(response: Response) -> None:
    """Whatever a registrar says, the next attempt is in some time, and our next REGISTER is sound."""
    registration = Registration(SETTINGS.register[0], "call-1", "1", "urn:x", False, "INVITE", random.Random(1))
    flow = Way()
    registration.request(flow, "1")
    for now in (1.0, 2.0, 3.0):
        assert 0.0 <= registration.take(response, flow, now) <= LONGEST_WAIT
        check_head(bytes(registration.request(flow, "2")))


def authorize(response: Response) -> None:
    """Our credentials are one line, can be read, and go to our own server only."""
    accounts = Accounts(SETTINGS, random.Random(1))
    assert accounts.answer(INVITE, response, ("203.0.113.66", 5060)) is None
    field = accounts.answer(INVITE, response, PEER)
    if field is not None:
        check_line(field[1].encode("latin-1"))
        credentials = parse_credentials(field[1])
        assert credentials is not None
        assert credentials.username == "200"


def framer(data: bytes) -> None:
    """A stream: the same frames however it is cut, and each of them a message or a parse error."""
    choices = Choices(data)
    cuts = [choices.number(256) for _ in range(3)]
    stream = choices.rest()
    whole = StreamFramer()
    frames = whole.feed(stream)
    cut = StreamFramer()
    pieces: list[Frame] = []
    for size in cuts:
        pieces += cut.feed(stream[:size])
        stream = stream[size:]
    pieces += [frame for octet in stream[:256] for frame in cut.feed(bytes([octet]))]
    pieces += cut.feed(stream[256:])
    assert pieces == frames, f"{pieces} and {frames}"
    assert whole.is_inside == cut.is_inside
    assert sum(isinstance(frame, Broken) for frame in frames) == any(isinstance(frame, Broken) for frame in frames[-1:])
    for frame in frames:
        if isinstance(frame, bytes):
            assert len(frame) <= MAX_MESSAGE_OCTETS + MAX_HEAD_OCTETS
            only(ParseError, parse_untrusted, frame)


def address(data: bytes) -> None:
    """Addresses and the like: what is read is written and read as the same; what we write is one line."""
    text = data.decode("latin-1")
    check_round_trip(parse_uri, text)
    if is_safe_line(text):  # as every header value is that a message was read with
        for parse in (parse_name_addr, parse_via, parse_cseq):
            check_round_trip(parse, text)
    for item in split_list(text):
        assert item in text
    quoted = quote(text)
    check_line(quoted.encode("latin-1"))
    assert str(parse_name_addr(f"{quoted} <sip:a@b>")) == f"{quoted} <sip:a@b>"
    ours = [*reason_fields(text), warning_header(399, "192.0.2.1", text)]
    if '"' not in text:
        ours += only(ValueError, checked_fields, (("X-Told", text),)) or ()
    replaced = replaces_of((text, "ours", "theirs"))
    for target in (only(ValueError, name_addr_of, text), only(ValueError, lambda uri: refer_fields(uri, uri), text)):
        if isinstance(target, str):
            check_line(target.encode("ascii"))
            assert f"<{parse_name_addr(target).uri}>".lower() == f"<{text}>".lower()
        elif target is not None:
            ours += target
    ours += only(ValueError, lambda uri: refer_fields(uri, "sip:a@b", replaced), "sip:a@192.0.2.7") or ()
    for _, value in ours:
        check_line(value.encode("latin-1"))
    bytes(Response(status=200, headers=Headers((*HEADERS, *ours))))


def digest(data: bytes) -> None:
    """Challenges and credentials: read or refused; what we answer can be read."""
    text = data.decode("latin-1")
    only(AddressError, parse_credentials, text)
    challenge = only(AddressError, parse_challenge, text)
    if challenge is not None:
        whose = {"username": "alice", "password": "wonder", "method": "INVITE", "uri": "sip:a@b"}
        answer = answer_challenge(challenge, **whose, body=b"", cnonce="c", nc=1)
        assert answer is None or parse_credentials(str(answer)) == answer
    value = text.replace("\r", "").replace("\n", "").replace("\0", "")
    request = attrs.evolve(INVITE, headers=Headers((*HEADERS, ("Authorization", value))))
    refusal = Authentication(SETTINGS, random.Random(1)).challenge(request, *PEER)
    assert refusal is not None, "nobody can guess what we have not said"
    check_head(bytes(refusal.answer(request.headers, "tag")))
    for status, name in ((401, "WWW-Authenticate"), (407, "Proxy-Authenticate")):
        authorize(Response(status=status, headers=Headers((*HEADERS, (name, value)))))


def check_round_trip(parse: Callable[[str], object], text: str) -> None:
    try:
        read = parse(text)
    except AddressError:
        return
    written = str(read)
    check_line(written.encode("latin-1"))
    assert parse(written) == read, f"{written!r} is read as something else than {text!r}"


TARGETS: Final = (
    Target("message", message, LARGEST_DATAGRAM, 300),
    Target("framer", framer, LARGEST_DATAGRAM),
    Target("address", address, 2048, 200),
    Target("digest", digest, 2048),
)
