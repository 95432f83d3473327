"""One call in the place of another: Replaces in an INVITE (RFC 3891), and in the Refer-To to one (RFC 5589)."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Final, TypeVar

import attrs

from aivc.sip.address import SipUri, Uri, get_parameter, has_parameter, parse_uri
from aivc.sip.dialog import DialogId
from aivc.sip.inspection import Refusal
from aivc.sip.message import Headers
from aivc.sip.scanner import TOKEN, AddressError, Scanner

CALL_ID: Final = TOKEN | frozenset('@()<>:\\"/[]?{}')  # RFC 3261 section 25.1: word "@" word
PLAIN: Final = frozenset(string.ascii_letters + string.digits + "-_.!~*'()")  # what a URI header need not escape
HEX: Final = frozenset(string.hexdigits)
MAX_REPLACES_CHARS: Final = 512
Held = TypeVar("Held")


@attrs.frozen
class Replaces:
    """The dialog that a call is to take the place of, as seen by whoever takes part in it and gets the INVITE."""

    call_id: str
    to_tag: str  # the receiver's own
    from_tag: str  # its peer's
    early_only: bool = False

    @property
    def dialogs(self) -> tuple[DialogId, DialogId]:
        """The dialogs meant: the right way round, and as those write it who take From and To of a request."""
        return (self.call_id, self.to_tag, self.from_tag), (self.call_id, self.from_tag, self.to_tag)

    def __str__(self) -> str:
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}"


def replaces_of(dialog: DialogId) -> Replaces:
    """What the peer in a dialog of ours must be told to replace it."""
    call_id, local_tag, remote_tag = dialog
    return Replaces(call_id, to_tag=remote_tag, from_tag=local_tag)


def replaceable_at(uri: str, contact: Uri | None) -> str:
    """Whom another party must call to take our place in a call of `uri`: a tel URI cannot hold Replaces, so then it is
    where they are now. Raises AddressError.

    Args:
      contact: of who answered.
    """
    if isinstance(parse_uri(uri), SipUri):
        return uri
    if not isinstance(contact, SipUri):
        raise AddressError("a Contact that cannot hold Replaces")
    return str(attrs.evolve(contact, headers=""))


def parse_replaces(text: str) -> Replaces:
    """Read one Replaces value. Raises AddressError."""
    if len(text) > MAX_REPLACES_CHARS:
        raise AddressError("Replaces too long")
    scanner = Scanner(text)
    call_id = scanner.take(CALL_ID)
    parameters = scanner.parameters()
    scanner.expect_end()
    to_tag, from_tag = get_parameter(parameters, "to-tag"), get_parameter(parameters, "from-tag")
    if not (call_id and to_tag and from_tag):
        raise AddressError("Replaces without its dialog")
    return Replaces(call_id, to_tag, from_tag, has_parameter(parameters, "early-only"))


def read_replaces(headers: Headers) -> Replaces | Refusal | None:
    """What an INVITE wants to replace; None: nothing (RFC 3891 section 3)."""
    values = headers.items("Replaces")
    if not values:
        return None
    if len(values) > 1:
        return Refusal(400, "Repeated Replaces")
    try:
        return parse_replaces(values[0])
    except AddressError as error:
        return Refusal(400, f"Bad Replaces: {error}")


def find_replaced(wanted: Replaces, dialogs: Mapping[DialogId, Held]) -> Held | None:
    return next((dialogs[identity] for identity in wanted.dialogs if identity in dialogs), None)


def refer_to_with(uri: str, replaces: Replaces) -> str:
    """A Refer-To value for an attended transfer, RFC 5589 section 7; `uri` has no headers."""
    return f"<{uri}?Replaces={escape(str(replaces))}>"


def escape(text: str) -> str:
    """For the value of a header in a URI, RFC 3261 section 19.1.2."""
    return "".join(char if char in PLAIN else f"%{ord(char):02X}" for char in text)


def unescape_header(text: str) -> str:
    """The value of a header in a URI, unescaped once. Raises AddressError for what no header may have."""
    head, *pieces = text.split("%")
    for number, piece in enumerate(pieces):
        if len(piece) < 2 or not HEX.issuperset(piece[:2]):
            raise AddressError("bad escape in a URI")
        pieces[number] = chr(int(piece[:2], 16)) + piece[2:]
    whole = head + "".join(pieces)
    if not all(" " <= char <= "~" for char in whole):
        raise AddressError("control character in a URI header")
    return whole
