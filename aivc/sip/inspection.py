"""What every request must pass before it is served, RFC 3261 section 8.2, and what we say that we can do."""

from __future__ import annotations

import importlib.metadata
from typing import Final

import attrs

from aivc.config.settings import SipSettings
from aivc.sip import info
from aivc.sip.address import SipUri, format_host_port, quote
from aivc.sip.info import DTMF_TYPES, InfoError
from aivc.sip.leg import DigitPressed, Fields
from aivc.sip.message import REASONS, Headers, Request, Response, answer_to
from aivc.sip.multipart import MULTIPART, find_part
from aivc.sip.negotiation import Refused
from aivc.sip.reasons import named, reason_fields, shortened
from aivc.sip.refusals import EXPLANATIONS, Cause, usual_cause

SDP_TYPE: Final = "application/sdp"
KNOWN: Final = frozenset(  # methods with a name of their own that we may not serve: 405, not 501
    ("MESSAGE", "PRACK", "PUBLISH", "REGISTER", "SUBSCRIBE", "UPDATE")
)
IN_DIALOG_ONLY: Final = frozenset({"BYE", "INFO", "NOTIFY", "PRACK", "UPDATE"})
LONGEST_UNSUPPORTED: Final = 512  # octets: who requires more names than there are is not told them all
ACCEPTABLE: Final = frozenset({SDP_TYPE, "application/*", "*/*"})

ACCEPT_HEADER: Final = ("Accept", SDP_TYPE)


@attrs.frozen
class Capabilities:
    """What we say that we can do, and what we do accordingly.

    Args:
      allowed: methods, in the order of Allow.
      supported: option tags.
    """

    allowed: tuple[str, ...]
    supported: tuple[str, ...]

    @classmethod
    def of(cls, settings: SipSettings) -> Capabilities:
        reliable = settings.reliable_provisional != "off"
        allowed = ["INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO", "NOTIFY", "UPDATE"]
        allowed += ["PRACK"] * reliable + ["REFER"] * bool(settings.follow_refer)
        return cls(tuple(allowed), ("100rel",) * reliable + ("replaces", "timer"))

    @property
    def fields(self) -> Fields:
        """Allow and Supported."""
        return ("Allow", ", ".join(self.allowed)), ("Supported", ", ".join(self.supported))


def software() -> str:
    """What we call ourselves in Server."""
    try:
        return f"aivc/{importlib.metadata.version('aivc')}"
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "aivc"


SOFTWARE: Final = software()  # looked up once: it reads a file
SERVER_HEADER: Final = ("Server", SOFTWARE)


@attrs.frozen
class Refusal:
    """A final failure response before it is written."""

    status: int
    cause: str  # the true one: for the log, and for the peer where that helps it
    headers: Fields = ()
    name: str = attrs.field()  # of a `Cause`, or of what ended a call that rang
    is_counted: bool = attrs.field(default=True, kw_only=True)  # by its name

    @name.default
    def _usual_name(self) -> str:
        return usual_cause(self.status).value

    @property
    def phrase(self) -> str:
        """The reason phrase."""
        return self.cause if self.status == 400 else REASONS.get(self.status, "")

    def answer(self, headers: Headers, tag: str) -> Response:
        """The response to the request with these headers."""
        return answer_to(headers, self.status, self.phrase, tag=tag, extra=self.headers)

    @property
    def explained(self) -> Refusal:
        """With Reason, if it has none. That makes the answer longer: not for who may have forged his address."""
        if any(name == "Reason" for name, _ in self.headers):
            return self
        reason = reason_fields(named(self.name, EXPLANATIONS[Cause(self.name)].text), self.status)
        return attrs.evolve(self, headers=(*self.headers, *reason))


def inspect(request: Request, capabilities: Capabilities) -> Refusal | None:
    """The first reason not to serve a request, whoever it is for; None when there is none. Not for ACK and CANCEL.

    Max-Forwards is no reason: it is for those who forward (section 16.3), and a 0 may well reach its goal.
    """
    return (
        inspect_method(request, capabilities)
        or inspect_target(request)
        or inspect_extensions(request, capabilities)
        or inspect_content(request)
        or inspect_accept(request)
    )


def inspect_method(request: Request, capabilities: Capabilities) -> Refusal | None:
    """Section 8.2.1."""
    if request.method in capabilities.allowed:
        return None
    allow = capabilities.fields[:1]
    if request.method == "REFER":  # whoever can send us one must not make us call others
        return Refusal(603, "REFER is not followed: sip.follow_refer is empty", allow)
    if request.method in KNOWN:
        return Refusal(405, f"{request.method} is not served", allow)
    return Refusal(501, "unknown method", allow)


def inspect_target(request: Request) -> Refusal | None:
    """Section 8.2.2.1."""
    return None if isinstance(request.uri, SipUri) else Refusal(416, "Request-URI of another scheme")


def inspect_extensions(request: Request, capabilities: Capabilities) -> Refusal | None:
    """Section 8.2.2.3; Proxy-Require is not for us."""
    required = request.headers.items("Require")
    unsupported = [option for option in required if option.lower() not in capabilities.supported]
    if not unsupported:
        return None
    named = ", ".join(unsupported)
    if len(named) > LONGEST_UNSUPPORTED:
        named = named[:LONGEST_UNSUPPORTED].rpartition(",")[0]
    return Refusal(420, "required extension", (("Unsupported", named),) if named else ())


def inspect_content(request: Request) -> Refusal | None:
    """Section 8.2.3. A BYE ends the call whatever it carries: trunks put ISUP parameters in it. What a NOTIFY may
    carry depends on its event."""
    if not request.body or request.method in ("BYE", "NOTIFY"):
        return None
    encodings = [value.lower() for value in request.headers.items("Content-Encoding")]
    if any(encoding != "identity" for encoding in encodings):
        return Refusal(415, "content encoding", (("Accept-Encoding", "identity"),))
    types = DTMF_TYPES if request.method == "INFO" else (SDP_TYPE,)
    if content_type(request) in types or is_optional(request) or (SDP_TYPE in types and session_body(request)):
        return None
    if request.headers.get("Info-Package") is not None:  # RFC 6086 section 4.2.2: we have named none that we take
        return Refusal(469, "info package", (("Recv-Info", ""),))
    return Refusal(415, "content type", (("Accept", ", ".join(types)),))


def inspect_accept(request: Request) -> Refusal | None:
    """406 for whoever does not take the only thing that we answer an INVITE or UPDATE with (section 21.4.7)."""
    answers = request.method == "INVITE" or (request.method == "UPDATE" and request.body)
    if not answers or request.headers.get("Accept") is None:
        return None
    ranges = {item.partition(";")[0].strip(" \t").lower() for item in request.headers.items("Accept")}
    return None if ranges & ACCEPTABLE else Refusal(406, "Accept without application/sdp")


def is_optional(request: Request) -> bool:
    """Whether a body that is not understood may be ignored (section 20.11)."""
    _, _, parameters = (request.headers.get("Content-Disposition") or "").lower().partition(";")
    return "handling=optional" in [parameter.replace(" ", "") for parameter in parameters.split(";")]


def session_body(message: Request | Response) -> bytes:
    """The session description in a message; b"" when there is none."""
    if content_type(message).startswith(MULTIPART):
        return find_part(message.header("Content-Type"), message.body, SDP_TYPE) or b""
    disposition = (message.headers.get("Content-Disposition") or "session").partition(";")[0].strip(" \t").lower()
    return message.body if content_type(message) == SDP_TYPE and disposition == "session" else b""


def read_key(request: Request) -> DigitPressed | Refusal | None:
    """The key that an INFO tells of; None: it tells of none, as some peers keep a dialog alive so."""
    try:
        return info.parse_untrusted(request.body) if request.body else None
    except InfoError as error:
        return Refusal(400, str(error))


def content_type(message: Request | Response) -> str:
    """Content-Type in lower case, without its parameters."""
    return (message.headers.get("Content-Type") or "").partition(";")[0].strip(" \t").lower()


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
    return "Warning", f"{code} {format_host_port(host, None)} {quote(shortened(text))}"


def not_acceptable(refused: Refused, host: str) -> Refusal:
    """488 with the true cause, section 21.4.26."""
    return Refusal(488, refused.cause, (warning_header(refused.warning, host, refused.cause),))
