"""A REFER of ours and the subscription that it makes: RFC 3515, RFC 3892, and RFC 6665 for NOTIFY.

                 2xx or a NOTIFY              NOTIFY with a final status, or `terminated`
    REFER --> open -----------> accepted -----------------------------------------------> settled
               | 3xx to 6xx, 408, silence         | silence, end of the dialog               ^
               +----------------------------------+------------------------------------------+

A settled referral goes on taking NOTIFYs: the peer may not know yet that we need no more of them.
"""

from __future__ import annotations

from typing import Final

import attrs

from aivc.sip.address import OtherUri, is_escaped, parse_name_addr, parse_uri
from aivc.sip.inspection import Refusal, content_type
from aivc.sip.leg import Fields, ReferOutcome
from aivc.sip.message import REASONS, VERSION, Request
from aivc.sip.replacing import Replaces, refer_to_with
from aivc.sip.scanner import ALPHANUMERIC, AddressError, Scanner, parse_number

SIPFRAG_TYPE: Final = "message/sipfrag"  # RFC 3420
EVENT: Final = "refer"  # the event package, RFC 3515 section 3
ALLOW_EVENTS_HEADER: Final = ("Allow-Events", EVENT)
TEL: Final = "tel"
SCHEMES: Final = ("sip", "sips", TEL)
MAX_URI_OCTETS: Final = 1024  # what other people's parsers surely take
NUMBER: Final = ALPHANUMERIC | frozenset("+-.()*#;=:%_!~'&$/[]")  # RFC 3966 section 3, without the comma and "?"
MAX_STATUS_LINE_OCTETS: Final = 512  # of a sipfrag; what follows is not looked at
MAX_PHRASE_CHARS: Final = 100  # shown to people and models
MAX_SUBSCRIPTIONS: Final = 8  # of one dialog; the oldest is forgotten

NO_ANSWER: Final = "no answer"
UNDER_WAY: Final = "a transfer is under way"
NO_CALL: Final = "there is no call to transfer"


@attrs.frozen
class Notice:
    """What one NOTIFY of the event `refer` says."""

    event_id: int | None  # CSeq of the REFER; may be left out for the first one (RFC 3515 section 2.4.6)
    status: int | None  # of the sipfrag; None: there is none
    phrase: str
    terminated: bool
    reason: str  # of the end of the subscription, RFC 6665 section 4.1.3; "" when not told


@attrs.define
class Referral:
    """One REFER that was sent, in the order of its CSeq.

    Attributes:
      outcome: None until it is settled.
    """

    cseq: int
    accepted: bool = attrs.field(default=False, init=False)
    outcome: ReferOutcome | None = attrs.field(default=None, init=False)

    def take_response(self, status: int | None, phrase: str) -> None:
        """The final response to the REFER; None when none came. A NOTIFY that came first is as good as a 2xx."""
        if status is not None and status < 300:
            self.accepted = True
        elif status in (None, 408):
            if not self.accepted:
                self.settle(None, NO_ANSWER)
        else:
            self.accepted = False
            self.settle(status, readable(phrase) or REASONS.get(status, ""))

    def take_notice(self, notice: Notice) -> None:
        self.accepted = True
        if notice.status is not None and notice.status >= 200:
            self.settle(notice.status, notice.phrase)
        elif notice.terminated:
            self.settle(None, f"the subscription ended: {notice.reason}" if notice.reason else "the subscription ended")

    def settle(self, status: int | None, text: str) -> None:
        """Say how it went; the first word counts."""
        if self.outcome is None:
            self.outcome = ReferOutcome(status, text, self.accepted)


@attrs.define
class Subscriptions:
    """The implicit subscriptions of one dialog."""

    _live: dict[int, Referral] = attrs.field(factory=dict, init=False)  # by CSeq, oldest first

    @property
    def under_way(self) -> bool:
        """Whether somebody waits for one of them."""
        return any(referral.outcome is None for referral in self._live.values())

    def begin(self, cseq: int) -> Referral:
        """A REFER with this CSeq goes out."""
        while len(self._live) >= MAX_SUBSCRIPTIONS:
            del self._live[next(iter(self._live))]
        referral = self._live[cseq] = Referral(cseq)
        return referral

    def renumber(self, referral: Referral, cseq: int) -> None:
        """It goes out again with another CSeq."""
        self._live.pop(referral.cseq, None)
        referral.cseq = cseq
        self._live[cseq] = referral

    def take_response(self, referral: Referral, status: int | None, phrase: str) -> None:
        """The end of the REFER's transaction; a refusal makes no subscription."""
        referral.take_response(status, phrase)
        if not referral.accepted and self._live.get(referral.cseq) is referral:
            del self._live[referral.cseq]

    def take_notify(self, request: Request) -> Refusal | None:
        """Take a NOTIFY in the dialog; None: it is to be answered 200."""
        notice = read_notify(request)
        if isinstance(notice, Refusal):
            return notice
        number = next(iter(self._live), None) if notice.event_id is None else notice.event_id
        referral = None if number is None else self._live.get(number)
        if referral is None:
            return Refusal(481, "no subscription")  # RFC 6665 section 4.1.3
        referral.take_notice(notice)
        if notice.terminated:
            del self._live[referral.cseq]
        return None

    def close(self, text: str) -> None:
        """The dialog is over, and its subscriptions with it."""
        for referral in self._live.values():
            referral.settle(None, text)
        self._live.clear()


def refer_fields(refer_to: str, referred_by: str, replaces: Replaces | None = None) -> Fields:
    """Refer-To (RFC 3515 section 2.1) and Referred-By (RFC 3892 section 2.1).

    Args:
      replaces: the call that the peer is to take our place in (RFC 5589 section 7.3); a tel URI leads to none.

    Raises:
      ValueError: a text that is no plain URI; it may have come from a model.
    """
    target = name_addr_of(refer_to)
    if replaces is not None:
        if target[1:4].lower() == TEL:
            raise ValueError(f"URI that no call can be replaced at: {refer_to[:80]!r}")
        target = refer_to_with(target[1:-1], replaces)
    return ("Refer-To", target), ("Referred-By", name_addr_of(referred_by))


def name_addr_of(uri: str) -> str:
    """The URI in angle brackets.

    Raises:
      ValueError: another scheme than sip, sips or tel; characters of no URI; `?headers`, which the peer would put into
        its INVITE (RFC 3261 section 19.1.5); or a URI that is read back as another one.
    """
    shown = uri if len(uri) <= 80 else f"{uri[:80]}..."
    if len(uri) > MAX_URI_OCTETS:
        raise ValueError(f"URI longer than {MAX_URI_OCTETS} octets: {shown!r}")
    try:
        parsed = parse_uri(uri)
    except AddressError as error:
        raise ValueError(f"no URI ({error}): {shown!r}") from error
    if parsed.scheme not in SCHEMES:
        raise ValueError(f"URI of another scheme than {', '.join(SCHEMES)}: {shown!r}")
    if "?" in uri or "," in uri:
        raise ValueError(f"URI with headers or a comma: {shown!r}")
    if isinstance(parsed, OtherUri) and not is_escaped(parsed.rest, NUMBER):
        raise ValueError(f"bad telephone number: {shown!r}")
    if has_hidden_control(uri):
        raise ValueError(f"URI with an escaped control character: {shown!r}")
    text = f"<{parsed}>"
    if text.lower() != f"<{uri}>".lower() or parse_name_addr(text).uri != parsed:
        raise ValueError(f"URI that is not read as it is written: {shown!r}")
    return text


def has_hidden_control(uri: str) -> bool:
    """%00 to %1f and %7f: legal, and the stuff of header smuggling in whoever unescapes them too early."""
    return any(int(piece[:2], 16) < 0x20 or piece[:2].lower() == "7f" for piece in uri.split("%")[1:])


def read_notify(request: Request) -> Notice | Refusal:
    """What a NOTIFY says, or how it is refused."""
    try:
        event_id = read_event(request.headers.get("Event"))
    except AddressError:
        return Refusal(489, "not the event refer", (ALLOW_EVENTS_HEADER,))
    try:
        state, reason = read_state(request.header("Subscription-State"))
        if request.body and content_type(request) != SIPFRAG_TYPE:
            return Refusal(415, "content type", (("Accept", SIPFRAG_TYPE),))
        status, phrase = parse_sipfrag(request.body) if request.body else (None, "")
    except AddressError as error:
        return Refusal(400, str(error))
    return Notice(event_id, status, phrase, state == "terminated", reason)


def read_event(text: str | None) -> int | None:
    """The id of the event `refer`. Raises AddressError for any other."""
    scanner = Scanner(text or "")
    if scanner.token().lower() != EVENT:
        raise AddressError("another event")
    parameters = scanner.parameters()
    scanner.expect_end()
    number = next((value or "" for name, value in parameters if name.lower() == "id"), None)
    return None if number is None else parse_number(number, 2**32 - 1, "event id")


def read_state(text: str) -> tuple[str, str]:
    """Subscription-State: the state in lower case, and the reason for its end. Raises AddressError."""
    scanner = Scanner(text)
    state = scanner.token().lower()
    parameters = scanner.parameters()
    scanner.expect_end()
    return state, next((readable(value or "") for name, value in parameters if name.lower() == "reason"), "")


def parse_sipfrag(body: bytes) -> tuple[int, str]:
    """Status and phrase of the status line that a message/sipfrag begins with (RFC 3515 section 2.4.5).

    Raises:
      AddressError: it begins with something else.
    """
    line = body[:MAX_STATUS_LINE_OCTETS].lstrip(b"\r\n").replace(b"\r", b"\n").partition(b"\n")[0].decode("latin-1")
    version, _, rest = line.partition(" ")
    code, _, phrase = rest.strip(" ").partition(" ")
    if version.upper() != VERSION or len(code) != 3:
        raise AddressError("sipfrag without a status line")
    status = parse_number(code, 699, "Status code")
    if status < 100:
        raise AddressError("Status code below 100")
    return status, readable(phrase) or REASONS.get(status, "")


def readable(phrase: str) -> str:
    """A peer's phrase as people may see it: one short line of printable characters."""
    text = phrase.encode("latin-1", "replace").decode("utf-8", "replace")
    return "".join(char if char.isprintable() else " " for char in text).strip()[:MAX_PHRASE_CHARS]
