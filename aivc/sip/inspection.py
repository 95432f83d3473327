"""What every request must pass before it is served, RFC 3261 section 8.2, and what we say that we can do."""

from __future__ import annotations

import importlib.metadata
from typing import Final

import attrs

from aivc.sip.address import SipUri, format_host_port, quote
from aivc.sip.info import DTMF_TYPES
from aivc.sip.message import REASONS, Headers, Request, Response, answer_to
from aivc.sip.negotiation import Refused

ALLOWED: Final = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO", "NOTIFY")
IN_DIALOG_ONLY: Final = frozenset({"BYE", "INFO", "NOTIFY"})
KNOWN: Final = frozenset(  # methods with a name of their own that we do not serve: 405, not 501
    ("MESSAGE", "PRACK", "PUBLISH", "REGISTER", "SUBSCRIBE", "UPDATE")
)
SUPPORTED: Final = frozenset[str]()  # option tags
SDP_TYPE: Final = "application/sdp"

ALLOW_HEADER: Final = ("Allow", ", ".join(ALLOWED))
ACCEPT_HEADER: Final = ("Accept", SDP_TYPE)
SUPPORTED_HEADER: Final = ("Supported", ", ".join(sorted(SUPPORTED)))  # empty: no extension (section 20.37)


def software() -> str:
    """What we call ourselves in Server."""
    try:
        return f"aivc/{importlib.metadata.version('aivc')}"
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "aivc"


SERVER_HEADER: Final = ("Server", software())

Fields = tuple[tuple[str, str], ...]


@attrs.frozen
class Refusal:
    """A final failure response before it is written."""

    status: int
    cause: str  # the true one: for the log, and for the peer where that helps it
    headers: Fields = ()

    def answer(self, headers: Headers, tag: str) -> Response:
        """The response to the request with these headers."""
        phrase = self.cause if self.status == 400 else REASONS.get(self.status)
        return answer_to(headers, self.status, phrase, tag=tag, extra=self.headers)


def inspect(request: Request) -> Refusal | None:
    """The first reason not to serve a request, whoever it is for; None when there is none. Not for ACK and CANCEL."""
    return inspect_method(request) or inspect_target(request) or inspect_extensions(request) or inspect_content(request)


def inspect_method(request: Request) -> Refusal | None:
    """Section 8.2.1."""
    if request.method in ALLOWED:
        return None
    if request.method == "REFER":  # whoever can send us one must not make us call others
        return Refusal(603, "transfers are not followed")
    if request.method in KNOWN:
        return Refusal(405, f"{request.method} is not served", (ALLOW_HEADER,))
    return Refusal(501, "unknown method", (ALLOW_HEADER,))


def inspect_target(request: Request) -> Refusal | None:
    """Section 8.2.2.1."""
    return None if isinstance(request.uri, SipUri) else Refusal(416, "Request-URI of another scheme")


def inspect_extensions(request: Request) -> Refusal | None:
    """Section 8.2.2.3; Proxy-Require is not for us."""
    unsupported = [option for option in request.headers.items("Require") if option.lower() not in SUPPORTED]
    if not unsupported:
        return None
    return Refusal(420, "required extension", (("Unsupported", ", ".join(unsupported)),))


def inspect_content(request: Request) -> Refusal | None:
    """Section 8.2.3. A BYE ends the call whatever it carries: trunks put ISUP parameters in it. What a NOTIFY may
    carry depends on its event."""
    if not request.body or request.method in ("BYE", "NOTIFY"):
        return None
    encodings = [value.lower() for value in request.headers.items("Content-Encoding")]
    if any(encoding != "identity" for encoding in encodings):
        return Refusal(415, "content encoding", (("Accept-Encoding", "identity"),))
    types = DTMF_TYPES if request.method == "INFO" else (SDP_TYPE,)
    if content_type(request) in types:
        return None
    if request.headers.get("Info-Package") is not None:  # RFC 6086 section 4.2.2: we have named none that we take
        return Refusal(469, "info package", (("Recv-Info", ""),))
    return Refusal(415, "content type", (("Accept", ", ".join(types)),))


def content_type(request: Request) -> str:
    """Content-Type in lower case, without its parameters."""
    return (request.headers.get("Content-Type") or "").partition(";")[0].strip(" \t").lower()


def inspect_number(request: Request, numbers: tuple[str, ...]) -> Refusal | None:
    """404 when there are `numbers` and the Request-URI names none of them (section 8.2.2.1)."""
    return None if not numbers or dialled_number(request) in numbers else Refusal(404, "number is not served")


def dialled_number(request: Request) -> str:
    """The user part of the Request-URI, unescaped; "" when there is none."""
    uri = request.uri
    return (uri.user or "") if isinstance(uri, SipUri) else ""


def retry_after_header(seconds: int) -> tuple[str, str]:
    return "Retry-After", str(seconds)


def warning_header(code: int, host: str, text: str) -> tuple[str, str]:
    """A Warning value, section 20.43."""
    return "Warning", f"{code} {format_host_port(host, None)} {quote(text)}"


def reason_header(text: str, status: int = 200) -> tuple[str, str]:
    """A Reason value, RFC 3326."""
    return "Reason", f"SIP;cause={status};text={quote(text)}"


def not_acceptable(refused: Refused, host: str) -> Refusal:
    """488 with the true cause, section 21.4.26."""
    return Refusal(488, refused.cause, (warning_header(refused.warning, host, refused.cause),))
