"""The commands of the test OpenSIPS: what each one does, and what it is refused with."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from aivc.sip.address import NameAddr, SipUri, Uri, parse_uri
from aivc.sip.dialog import MAX_FORWARDS
from aivc.sip.message import Headers, Request
from aivc.sip.scanner import AddressError
from aivc.testing.opensips_entities import Entities, read_flags
from aivc.testing.opensips_jsonrpc import INVALID_PARAMS, CommandError, Parameters, octets
from aivc.testing.opensips_session import UaSession, read_key
from aivc.testing.opensips_subscribers import EVENT, Subscribers, read_socket
from aivc.testing.opensips_wording import SOFTWARE, given_headers, request_headers

DEFAULT_EXPIRE = 3600  # seconds of a subscription


@attrs.define(eq=False)
class Commands:
    """All that a connector can tell.

    Args:
      now: seconds since 1970.
      advertised_contact: the modparam; without it, and without `socket`, no session can be started.
    """

    entities: Entities
    subscribers: Subscribers
    now: Callable[[], int]
    advertised_contact: str | None = None

    def perform(self, method: str, parameters: Parameters) -> object:
        """The result of a command whose parameters are those of a recipe. Raises CommandError."""
        match method:
            case "event_subscribe":
                return self._subscribe(parameters)
            case "subscribers_list":
                return self._list_subscribers(parameters)
            case "ua_session_reply":
                return self._reply(parameters)
            case "ua_session_update":
                return self._update(parameters)
            case "ua_session_terminate":
                return self._terminate(parameters)
            case "ua_session_list":
                return self._list(parameters)
            case "ua_session_client_start":
                return self._start(parameters)
            case _:
                return {"Server": SOFTWARE}

    # Events

    def _subscribe(self, parameters: Parameters) -> str:
        expire = parameters.integer("expire") if "expire" in parameters.values else DEFAULT_EXPIRE
        if expire < 0:
            raise CommandError(INVALID_PARAMS, "Invalid params", "Negative expire value")
        event, socket = parameters.text("event"), parameters.text("socket")
        if event != EVENT or not self.subscribers.subscribe(socket, expire, self.now()):
            raise CommandError(400, "Bad parameter value")
        return "OK"

    def _list_subscribers(self, parameters: Parameters) -> object:
        listed = self.subscribers.listed(self.now())
        if "event" not in parameters.values:
            return {"Events": [] if listed is None else [listed]}
        if parameters.text("event") != EVENT:
            raise CommandError(404, "Event not published")
        if "socket" not in parameters.values:
            return {"Event": listed or {}}
        wanted = read_socket(parameters.text("socket"))
        for entry in self.subscribers.entries:
            if entry.address == wanted and listed is not None:
                event = {"name": EVENT, "id": listed["id"], "Subscriber": entry.listed(self.now())}
                return {"Event": event}
        raise CommandError(404, "Subscriber does not exist")

    # Sessions

    def _reply(self, parameters: Parameters) -> str:
        session, method = self.entities.find(parameters.text("key")), parameters.text("method")
        code, reason = parameters.integer("code"), octets(parameters.text("reason")).decode("latin-1")
        given, body = content(parameters)
        if session is None or not self.entities.reply(session, method.upper(), code, reason, given, body):
            raise CommandError(500, "Failed to send reply")
        return "OK"

    def _update(self, parameters: Parameters) -> str:
        session, method = self.entities.find(parameters.text("key")), parameters.text("method")
        given, body = content(parameters)
        if session is None or not self.entities.requests.send(session, method, given, body):
            raise CommandError(500, "Failed to send sequential request")
        return "OK"

    def _terminate(self, parameters: Parameters) -> str:
        session = self.entities.find(parameters.text("key"))
        given, _ = content(parameters)
        if session is None or not self.entities.requests.send(session, "BYE", given, None, is_told=False):
            raise CommandError(500, "Failed to terminate session")
        self.entities.delete(session)
        return "OK"

    def _list(self, parameters: Parameters) -> object:
        if "key" not in parameters.values:
            return [session.listed(self.entities.address) for session in self.entities.sessions.values()]
        key = parameters.text("key")
        if read_key(key) is None:
            raise CommandError(400, "Bad format for b2b key")
        session = self.entities.find(key)
        if session is None:
            raise CommandError(404, "Entity not found")
        return session.listed(self.entities.address)

    # Calls of ours

    def _start(self, parameters: Parameters) -> str:
        """ua_session_client_start: send an INVITE; the key of the session is its Call-ID."""
        if "socket" in parameters.values and read_socket(parameters.text("socket")) != self.entities.address:
            raise CommandError(500, "Non-local socket specified")
        contact = self.advertised_contact or (self.entities.contact if "socket" in parameters.values else None)
        ruri = known_uri(parameters.text("ruri"))
        proxy = known_uri(parameters.text("proxy")) if "proxy" in parameters.values else ruri
        if contact is None or ruri is None or not isinstance(proxy, SipUri) or proxy.address is None:
            raise CommandError(500, "Failed to start session")
        caller, callee = named(parameters.text("from")), named(parameters.text("to"))
        key = self.entities.new_key(str(caller), str(callee))
        caller = attrs.evolve(caller, parameters=(("tag", f"{self.entities.dice.getrandbits(64):016x}"),))
        letters, seconds = read_flags(parameters.text("flags") if "flags" in parameters.values else "")
        given, body = content(parameters)
        fields = [
            ("Via", str(self.entities.requests.new_via())),
            ("Max-Forwards", str(MAX_FORWARDS)),
            ("From", str(caller)),
            ("To", str(callee)),
            ("Call-ID", key),
            ("CSeq", "2 INVITE"),
        ]
        request = Request(method="INVITE", target=str(ruri), headers=Headers(tuple(fields)), body=body or b"")
        session = UaSession(
            key=key,
            entity_type="UAC",
            flags=letters,
            call_id=key,
            caller=caller,
            callee=callee,
            contact=contact,
            peer=proxy.address,
            last_method="INVITE",
        )
        self.entities.add(session, seconds)
        self.entities.requests.ask(session, request, proxy.address, request_headers(given, body, contact))
        return key


def content(parameters: Parameters) -> tuple[bytes, bytes | None]:
    """The header lines that a command gives, with the faults of OpenSIPS, and its body."""
    names = ("body", "content_type", "extra_headers")
    body, content_type, extra_headers = (parameters.optional(name) for name in names)
    return given_headers(body, content_type, extra_headers), body


def named(text: str) -> NameAddr:
    """`Name,sip:uri`, or the URI alone. Raises CommandError."""
    name, comma, uri = text.partition(",")
    found = known_uri(uri if comma else text)
    if found is None:
        raise CommandError(500, "Failed to start session")
    return NameAddr(found, name if comma else "")


def known_uri(text: str) -> Uri | None:
    """A sip, sips or tel URI."""
    try:
        uri = parse_uri(text)
    except AddressError:
        return None
    return uri if isinstance(uri, SipUri) or uri.scheme == "tel" else None
