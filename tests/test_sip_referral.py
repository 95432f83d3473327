"""A REFER and its subscription as a machine, and the URIs that may go into one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.sip import referral
from aivc.sip.inspection import Refusal
from aivc.sip.leg import ReferOutcome
from aivc.sip.message import Headers, Request
from aivc.sip.referral import NO_ANSWER, Notice, Subscriptions, name_addr_of, parse_sipfrag, read_notify, refer_fields
from aivc.sip.scanner import AddressError

OVER = "the call is over"


def notify(
    body: bytes = b"SIP/2.0 200 OK\r\n",
    state: str | None = "terminated;reason=noresource",
    event: str | None = "refer",
    content_type: str = "message/sipfrag;version=2.0",
) -> Request:
    fields = {"Event": event, "Subscription-State": state, "Content-Type": content_type}
    headers = Headers(tuple((name, value) for name, value in fields.items() if value is not None))
    return Request(method="NOTIFY", target="sip:192.0.2.1", headers=headers, body=body)


TRYING, RINGING = notify(b"SIP/2.0 100 Trying\r\n", "active;expires=60"), notify(b"SIP/2.0 180 Ringing", "Active")
SUCCESS, BUSY = notify(), notify(b"SIP/2.0 486 Busy Here\r\n")
SUCCESS_YET_ACTIVE = notify(b"SIP/2.0 200 OK\r\nContact: <sip:x@y>\r\n", "active")
EMPTY = notify(b"", "active")
ENDED, ENDED_TRYING = notify(b"", "terminated;reason=giveup"), notify(b"SIP/2.0 100 Trying", "terminated")

Step = Request | tuple[int | None, str] | str
SUCCEEDED = ReferOutcome(200, "OK", True)


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        ([(202, "Accepted")], None),
        ([(202, ""), TRYING, RINGING, EMPTY], None),
        ([(202, ""), TRYING, SUCCESS], SUCCEEDED),
        ([(200, ""), SUCCESS_YET_ACTIVE], SUCCEEDED),
        ([(202, ""), SUCCESS_YET_ACTIVE, SUCCESS], SUCCEEDED),
        ([TRYING, (202, ""), SUCCESS], SUCCEEDED),
        ([TRYING, SUCCESS, (202, "")], SUCCEEDED),
        ([SUCCESS_YET_ACTIVE, (603, "Decline")], SUCCEEDED),  # the first word counts
        ([TRYING, (None, ""), SUCCESS], SUCCEEDED),  # the 2xx was lost, the NOTIFY not
        ([(202, ""), BUSY], ReferOutcome(486, "Busy Here", True)),
        ([(202, ""), notify(b"SIP/2.0 302 Moved"), SUCCESS], ReferOutcome(302, "Moved", True)),
        ([(202, ""), notify(b"SIP/2.0 603")], ReferOutcome(603, "Decline", True)),
        ([(202, ""), ENDED], ReferOutcome(None, "the subscription ended: giveup", True)),
        ([(202, ""), ENDED_TRYING], ReferOutcome(None, "the subscription ended", True)),
        ([(603, "Decline")], ReferOutcome(603, "Decline")),
        ([(405, "")], ReferOutcome(405, "Method Not Allowed")),
        ([(407, "Proxy Authentication Required")], ReferOutcome(407, "Proxy Authentication Required")),
        ([(302, "Moved")], ReferOutcome(302, "Moved")),
        ([TRYING, (603, "Decline")], ReferOutcome(603, "Decline")),
        ([(408, "Request Timeout")], ReferOutcome(None, NO_ANSWER)),
        ([(None, "")], ReferOutcome(None, NO_ANSWER)),
        ([OVER], ReferOutcome(None, OVER)),
        ([(202, ""), OVER], ReferOutcome(None, OVER, True)),
        ([(202, ""), SUCCESS, OVER], SUCCEEDED),
        ([(403, "a\x00b\xc3\xa9" + "x" * 200)], ReferOutcome(403, "a b\xe9" + "x" * 96)),
    ],
)
def test_how_a_transfer_went(steps: Sequence[Step], outcome: ReferOutcome | None) -> None:
    subscriptions = Subscriptions()
    it = subscriptions.begin(2)
    for step in steps:
        match step:
            case Request():
                assert subscriptions.take_notify(step) is None or it.outcome is not None
            case str():
                subscriptions.close(step)
            case (status, phrase):
                subscriptions.take_response(it, status, phrase)
    assert it.outcome == outcome
    assert subscriptions.under_way == (outcome is None)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (notify(event=None), 489),
        (notify(event=""), 489),
        (notify(event="message-summary"), 489),
        (notify(event="refer;id=x"), 489),
        (notify(event="refer;id"), 489),
        (notify(event="refer.winfo"), 489),
        (notify(event="refer extra"), 489),
        (notify(event="talk", state=None, content_type="x/y"), 489),
        (notify(state=None), 400),
        (notify(state=""), 400),
        (notify(state=";expires=1"), 400),
        (notify(content_type="application/sdp"), 415),
        (notify(b"garbage"), 400),
        (notify(b"\r\n\r\n"), 400),
        (notify(b"SIP/2.0 99 Low"), 400),
        (notify(b"SIP/2.0 700 High"), 400),
        (notify(b"SIP/2.0 2000 OK"), 400),
        (notify(b"SIP/2.0 +20 OK"), 400),
        (notify(b"HTTP/1.1 200 OK"), 400),
        (notify(b"INVITE sip:x@y SIP/2.0"), 400),
        (notify(event="refer;id=3"), 481),
    ],
)
def test_a_notify_that_is_refused_changes_nothing(request_: Request, status: int) -> None:
    subscriptions = Subscriptions()
    it = subscriptions.begin(2)
    refusal = subscriptions.take_notify(request_)
    assert refusal is not None
    assert refusal.status == status
    assert (status == 489) == (refusal.headers == (("Allow-Events", "refer"),))
    assert it.outcome is None


def test_a_notify_finds_its_refer_by_id_and_without_one_the_first() -> None:
    subscriptions = Subscriptions()
    first, second = subscriptions.begin(2), subscriptions.begin(3)
    assert subscriptions.take_notify(notify(b"SIP/2.0 486 Busy", event="refer;id=3")) is None
    assert (first.outcome, second.outcome) == (None, ReferOutcome(486, "Busy", True))
    assert subscriptions.take_notify(notify()) is None
    assert first.outcome == SUCCEEDED
    assert isinstance(subscriptions.take_notify(notify()), Refusal)  # both have ended


def test_a_phone_that_never_ends_its_subscriptions_costs_no_memory() -> None:
    subscriptions = Subscriptions()
    for cseq in range(100):
        it = subscriptions.begin(cseq)
        assert subscriptions.take_notify(notify(state="active", event=f"refer;id={cseq}")) is None
        assert it.outcome == SUCCEEDED
    late = subscriptions.take_notify(notify(event="refer;id=1"))
    assert late is not None
    assert late.status == 481
    assert subscriptions.take_notify(notify(event="refer;id=95")) is None


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (b"SIP/2.0 200 OK", (200, "OK")),
        (b"SIP/2.0 200 OK\r\nTo: <sip:x@y>\r\n\r\n", (200, "OK")),
        (b"\r\nsip/2.0 200 OK\nmore", (200, "OK")),
        (b"SIP/2.0 503  Service   Unavailable ", (503, "Service   Unavailable")),
        (b"SIP/2.0 200 " + b"a" * 5000, (200, "a" * 100)),
        (b"SIP/2.0 200 <script>\x1b[31m\tred", (200, "<script> [31m red")),
    ],
)
def test_of_a_sipfrag_the_status_line_is_read(body: bytes, read: tuple[int, str]) -> None:
    assert parse_sipfrag(body) == read


@given(st.binary(max_size=64), st.text("SIP/2.0 13589 OK\r\n;=", max_size=40), st.text(max_size=20))
def test_no_notify_raises_anything(body: bytes, fragment: str, header: str) -> None:
    for data in (body, fragment.encode()):
        outcome = read_notify(notify(data, header, f"refer{header}"))
        assert isinstance(outcome, (Notice, Refusal))
        try:
            status, phrase = parse_sipfrag(data)
        except AddressError:
            continue
        assert 100 <= status <= 699
        assert phrase.isprintable()


@pytest.mark.parametrize(
    "uri",
    [
        "sip:1000@192.0.2.7",
        "sips:alice@example.com:5061;transport=tcp",
        "SIP:Alice%20B@Example.com",
        "sip:[2001:db8::1]:5060",
        "sip:+15551234;phone-context=x@gw.example;user=phone",
        "tel:+15551234",
        "tel:112;phone-context=example.com",
        "tel:*21#;phone-context=+1",
    ],
)
def test_a_plain_uri_goes_out_in_angle_brackets(uri: str) -> None:
    assert name_addr_of(uri).lower() == f"<{uri}>".lower()
    assert refer_fields(uri, "sip:me@b") == (("Refer-To", name_addr_of(uri)), ("Referred-By", "<sip:me@b>"))


@pytest.mark.parametrize(
    "uri",
    [
        *("", "1000", "+1555", "alice@example.com", "sip:", "sip:@x", "sip:a@", "tel:", "mailto:a@b", "http://x/"),
        *("javascript:x", "urn:service:sos", "sip:a@b\r\nRoute: <sip:evil>", "sip:a@b\n", "sip:a@b\0", "sip:a b@c"),
        *("<sip:a@b>", "sip:a@b>;x=<", 'sip:"a"@b', '"x" <sip:a@b>', "sip:a@b?Replaces=x", "sip:a@b?", "tel:1?x=y"),
        *("sip:a%0d%0aRoute:x@b", "sip:a%0D@b", "sip:a%00@b", "sip:a@b;x=%0a", "sip:a%7f@b", "tel:1%0a2", "tel:1%zz"),
        *("sip:a%@b", "sip:a%zz@b", "sip:a@b:99999", "sip:a@b:05060", "sip:a@b@c", "sip:a@b,sip:c@d", "sip:a,b@c"),
        *("sip:\u00e9@b", "sip:a@b;\u2028", "tel:+1 555", "tel:\uff11", "sip:" + "a" * 1100 + "@b", "sip:a@b;"),
    ],
)
def test_anything_else_is_not_sent(uri: str) -> None:
    with pytest.raises(ValueError, match=r"URI|telephone number"):
        refer_fields(uri, "sip:me@b")
    with pytest.raises(ValueError, match=r"URI|telephone number"):
        refer_fields("sip:me@b", uri)


@given(st.text(max_size=40) | st.text("sip:@;?,<>%0da=b[]. \r\n", max_size=40).map("sip:".__add__))
def test_what_is_sent_is_one_line_of_one_name_addr(uri: str) -> None:
    try:
        text = name_addr_of(uri)
    except ValueError:
        return
    assert text.isascii()
    assert text.isprintable()
    assert (text[0], text[-1], text.count("<"), text.count(">")) == ("<", ">", 1, 1)
    assert not set(text[1:-1]) & set('<>"?, \r\n')
    assert text[1:-1].partition(":")[0] in referral.SCHEMES
