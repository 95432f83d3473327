"""The UA sessions of OpenSIPS (module b2b_entities): its event E_UA_SESSION, and the commands that answer it.

No I/O. OpenSIPS is the SIP element; what it tells has no first line and no request URI, only headers and body.
Headers and bodies come and go as the octets of the SIP message; only a NUL ends what OpenSIPS tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, cast, get_args

import attrs

from aivc.sip.address import SipUri
from aivc.sip.inspection import SDP_TYPE
from aivc.sip.jsonrpc import Command, JsonRpcError, Repeat, load_untrusted, octets_of, readable, text_of
from aivc.sip.leg import Fields
from aivc.sip.message import Headers, Request, Response, check_headers, is_safe_line, read_headers, without_length
from aivc.sip.scanner import TOKEN, AddressError

EventType = Literal["NEW", "EARLY", "ANSWERED", "REJECTED", "UPDATED", "TERMINATED"]
EntityType = Literal["UAS", "UAC"]

EVENT: Final = "E_UA_SESSION"
TERMINATE: Final = "ua_session_terminate"
NO_SESSION: Final = 404  # code of a refused list_sessions: OpenSIPS has none of this key
MAX_KEY: Final = 128  # characters; OpenSIPS's own have some 40 and a prefix of the administrator's
MAX_METHOD: Final = 32  # characters; the longest registered one has 9
NO_TARGET: Final = "sip:invalid"  # where To names nobody that can be called by SIP (RFC 2606: no host has that name)


@attrs.frozen
class SessionEvent:
    """One E_UA_SESSION.

    Attributes:
      key: names the session; opaque. The To-tag of OpenSIPS in a session that came in, the Call-ID of one of ours.
      status: 0 for a request, else of the reply to a request of ours.
      method: of the request; for a reply that of its CSeq.
      headers: None without the flag "h". Those that can be read.
      body: None without the flag "b", and where there is none to tell.
      extra_params: of ua_session_server_init; only NEW has it.
      fault: what is wrong with the headers, in our own words; "" when nothing is.
    """

    key: str
    event_type: EventType
    entity_type: EntityType
    status: int
    reason: str
    method: str
    headers: Headers | None
    body: bytes | None
    extra_params: str | None
    fault: str = ""


@attrs.frozen
class ListedSession:
    """One entity of ua_session_list.

    Attributes:
      key: what the event would call it.
      state: 1 new, 3 early, 4 final answer sent or received, 5 acknowledged, 6 re-INVITE pending, 7 terminated
        (`b2b_state_t` in b2b_entities/dlg.h).
      is_outgoing: OpenSIPS was told to make it.
      callee: the URI in To of its INVITE.
      contact: the URI that OpenSIPS is reached by in it.
    """

    key: str
    state: int
    call_id: str
    is_outgoing: bool = False
    callee: str = ""
    contact: str = ""


@attrs.frozen
class Subscriber:
    """Who gets the events.

    Attributes:
      socket: as in `subscribe`.
      seconds_left: until it ends; None: never.
    """

    socket: str
    seconds_left: int | None


class EventError(ValueError):
    """What OpenSIPS sent is of no use; the text says why, in our own words."""


def parse_untrusted(data: bytes) -> SessionEvent:
    """Read one datagram of the event socket. Bad headers are no error but a `fault`: a BYE counts whatever it says.

    Raises:
      EventError: and nothing else.
    """
    try:
        message = load_untrusted(data)
        params = message.get("params")
        if message.get("method") != EVENT or not isinstance(params, dict):
            raise EventError(f"no {EVENT}")
        return read_event(params)
    except JsonRpcError as error:
        raise EventError(str(error)) from error


def read_event(params: Mapping[str, object]) -> SessionEvent:
    """Raises EventError and JsonRpcError."""
    key, method = text_member(params, "key"), text_member(params, "method")
    if not key or len(key) > MAX_KEY or not all("!" <= char <= "~" for char in key):
        raise EventError("no key that could be one")
    if not method or len(method) > MAX_METHOD or not TOKEN.issuperset(method):
        raise EventError("no method that could be one")
    event_type, entity_type = text_member(params, "event_type"), text_member(params, "entity_type")
    if event_type not in get_args(EventType) or entity_type not in get_args(EntityType):
        raise EventError("an event or entity of unknown type")
    status = params.get("status")
    if not isinstance(status, int) or isinstance(status, bool) or not (status == 0 or 100 <= status <= 699):
        raise EventError("no status that could be one")
    headers, body, extra = (text_member(params, name) for name in ("headers", "body", "extra_params"))
    fields, fault = (None, "") if headers is None else header_fields(octets_of(headers))
    return SessionEvent(
        key=key,
        event_type=cast("EventType", event_type),
        entity_type=cast("EntityType", entity_type),
        status=status,
        reason=readable(text_member(params, "reason") or ""),
        method=method,
        headers=fields,
        body=None if body is None else octets_of(body),
        extra_params=None if extra is None else octets_of(extra).decode("utf-8", "replace"),
        fault=fault,
    )


def text_member(params: Mapping[str, object], name: str) -> str | None:
    """A string; None when it is null or not there. Raises EventError."""
    value = params.get(name)
    if value is not None and not isinstance(value, str):
        raise EventError(f"{name} is no text")
    return value


def header_fields(octets: bytes) -> tuple[Headers, str]:
    """The header fields, and the first fault.

    OpenSIPS ends a line at a bare LF as well, so the same is done here: both must see the same fields.
    """
    lines = octets.decode("latin-1").replace("\r\n", "\n").split("\n")
    while lines and not lines[-1]:
        lines.pop()
    return read_headers(lines)


def request_of(event: SessionEvent) -> Request:
    """The SIP request that an event tells of, checked like one from the wire.

    The Request-URI is not told; that of To takes its place, which is what was dialled unless a proxy retargeted.

    Raises:
      EventError: it is no request, or one to be answered 400.
    """
    if event.status or event.headers is None:
        raise EventError("no request" if event.status else "no headers: the flag h is missing")
    headers = event.headers
    try:
        if event.fault:
            raise AddressError(event.fault)
        if check_headers(headers).method != event.method:
            raise AddressError("CSeq of another method")
    except AddressError as error:
        raise EventError(str(error)) from error
    # OpenSIPS has cut the body to its Content-Length, or shorter, at a NUL; SDP before binary parts is still of use.
    body = event.body or b""
    request = Request(method=event.method, target=NO_TARGET, headers=without_length(headers), body=body)
    uri = request.to.uri
    return attrs.evolve(request, target=str(uri)) if isinstance(uri, SipUri) else request


def response_of(event: SessionEvent) -> Response:
    """The SIP response that an event tells of, checked like one from the wire.

    Raises:
      EventError: it is a request, or one that OpenSIPS made up, which has hardly any headers; or its headers are bad.
    """
    if not event.status or event.headers is None:
        raise EventError("no response" if not event.status else "no headers")
    try:
        if event.fault:
            raise AddressError(event.fault)
        check_headers(event.headers)
    except AddressError as error:
        raise EventError(str(error)) from error
    headers = without_length(event.headers)
    return Response(status=event.status, reason=event.reason, headers=headers, body=event.body or b"")


def subscribe(socket: str, seconds: int) -> Command:
    """Have events sent to `socket`, such as udp:192.0.2.7:50060, for so long; renews what is there. 0: no more."""
    return Command("event_subscribe", {"event": EVENT, "socket": socket, "expire": seconds}, Repeat.HARMLESS)


def reply(
    key: str,
    method: str,
    status: int,
    reason: str,
    *,
    body: bytes = b"",
    content_type: str | None = None,
    fields: Fields = (),
) -> Command:
    """Answer a request of the session's peer. A second copy is a retransmission to OpenSIPS, or refused as too late.

    Args:
      content_type: of the body; None: application/sdp.
      fields: more header fields, values as latin-1 text of the octets.

    Raises ValueError for what would smuggle a line or end early.
    """
    params = {"key": key, "method": method, "code": status, "reason": text_of(safe_line(reason).encode("utf-8"))}
    return Command("ua_session_reply", params | content(body, content_type, fields), Repeat.HARMLESS)


def update(
    key: str, method: str, *, body: bytes = b"", content_type: str | None = None, fields: Fields = ()
) -> Command:
    """Send a request in the dialog; its outcome comes as an event. Arguments and errors as of `reply`.

    OpenSIPS writes `Content-Type: application/sdp` into every request with header fields of ours, empty or not.
    """
    params: dict[str, object] = {"key": key, "method": method}
    return Command("ua_session_update", params | content(body, content_type, fields), Repeat.NEVER)


def terminate(key: str) -> Command:
    """Send BYE and forget the session; no event follows. Refused before the final answer.

    It has no header fields: OpenSIPS would send uninitialised memory in their place. A BYE with some is an `update`.
    """
    return Command(TERMINATE, {"key": key}, Repeat.DONE_IF_REFUSED)


def end_call(key: str) -> Command:
    """End a call of ours, answered or not, after whose end OpenSIPS forgets the session.

    While it rings OpenSIPS makes a CANCEL of the BYE (_b2b_send_request in b2b_entities/dlg.c), and answers a 2xx that
    crosses that with ACK and BYE. `terminate` forgets the session at once: who picks up then hears nothing. A second
    copy does nothing, or is refused.
    """
    return Command("ua_session_update", {"key": key, "method": "BYE"}, Repeat.HARMLESS)


def list_sessions(key: str | None = None) -> Command:
    """Ask for one session, refused with 404 when there is none, or for all, refused with 500 when they are many."""
    params = {} if key is None else {"key": key}
    return Command("ua_session_list", params, Repeat.HARMLESS, lists=key is None)


def read_sessions(result: object) -> tuple[ListedSession, ...]:
    """The result of `list_sessions`, with a key or without.

    Raises EventError.
    """
    return tuple(read_session(item) for item in (result if isinstance(result, list) else [result]))


def read_session(item: object) -> ListedSession:
    """Raises EventError."""
    if not isinstance(item, dict):
        raise EventError("an entity that is no object")
    state, call_id, to_tag = item.get("state"), text_member(item, "callid"), text_member(item, "to_tag")
    if not isinstance(state, int) or call_id is None:
        raise EventError("an entity without state or Call-ID")
    is_outgoing = "ruri" not in item  # only those that came in have the Request-URI that they came with
    contacts = item.get("contact")
    own_side = "caller" if is_outgoing else "callee"
    return ListedSession(
        key=call_id if is_outgoing else to_tag or "",
        state=state,
        call_id=call_id,
        is_outgoing=is_outgoing,
        callee=text_member(item, "to_uri") or "",
        contact=(text_member(contacts, own_side) or "") if isinstance(contacts, dict) else "",
    )


def list_subscribers() -> Command:
    """Ask who gets the events."""
    return Command("subscribers_list", {"event": EVENT}, Repeat.HARMLESS)


def read_subscribers(result: object) -> tuple[Subscriber, ...]:
    """The result of `list_subscribers`; those whose time is over are left out.

    Raises EventError.
    """
    event = result.get("Event") if isinstance(result, dict) else None
    found = event.get("Subscribers", []) if isinstance(event, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise EventError("no list of subscribers")
    read = [(text_member(item, "socket"), item.get("ttl")) for item in found]
    return tuple(
        Subscriber(socket, left if isinstance(left, int) else None)
        for socket, left in read
        if socket and left != "expired"
    )


def start_session(
    uri: str,
    *,
    to: str,
    sender: str,
    body: bytes,
    fields: Fields = (),
    proxy: str | None = None,
    socket: str | None = None,
    seconds: int,
) -> Command:
    """Call somebody; the result is the key of the new session. ACKs, bodies and headers are told of in its events.

    Args:
      uri: the Request-URI.
      to: the URI in To. With a display name ("name,URI") OpenSIPS 3.6 leaves out the line end after To in its CANCEL.
      sender: the URI in From, or "name,URI".
      body: our offer, SDP.
      proxy: the URI of where to send it, if not to `uri`.
      socket: from which of OpenSIPS's sockets, such as udp:192.0.2.5:5060.
      seconds: after which OpenSIPS ends it by itself.
    """
    params: dict[str, object] = {"ruri": safe_line(uri), "to": safe_line(to), "from": safe_line(sender)}
    params |= {"body": safe_body(body), "content_type": line("Content-Type", SDP_TYPE), "flags": f"abht{seconds}"}
    params["extra_headers"] = "".join(line(name, value) for name, value in fields)
    params |= {name: safe_line(text) for name, text in (("proxy", proxy), ("socket", socket)) if text is not None}
    return Command("ua_session_client_start", params, Repeat.NEVER)


def content(body: bytes, content_type: str | None, fields: Fields) -> dict[str, object]:
    """Body and header fields in the way that OpenSIPS copies them.

    Header fields without a body are uninitialised memory (ua_build_hdrs in b2b_entities/ua_api.c), so there is one,
    of no octets, as soon as there are fields; and the content type is a whole line of the header.
    """
    if not body and not fields:
        return {}
    found: dict[str, object] = {
        "body": safe_body(body),
        "content_type": line("Content-Type", content_type or SDP_TYPE) if body else "",
    }
    if fields:
        found["extra_headers"] = "".join(line(name, value) for name, value in fields)
    return found


def line(name: str, value: str) -> str:
    """One header line. Raises ValueError."""
    if not name or not TOKEN.issuperset(name):
        raise ValueError(f"{name[:60]!r} is no name of a header field")
    return text_of(safe_line(f"{name}: {value}").encode("latin-1")) + "\r\n"


def safe_line(text: str) -> str:
    """The same text. Raises ValueError for a line break, and for a NUL, which would end it in OpenSIPS."""
    if not is_safe_line(text) or "\0" in text:
        raise ValueError(f"line break or NUL in {text[:60]!r}")
    return text


def safe_body(body: bytes) -> str:
    if b"\0" in body:
        raise ValueError("NUL in a body")
    return text_of(body)
