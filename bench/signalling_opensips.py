"""A stand-in for an OpenSIPS 3.6 and the telephones behind it: commands in, E_UA_SESSION events out. No I/O.

It speaks as modules/b2b_entities/ua_api.c, mi_datagram and event_datagram do: JSON-RPC 2.0, a datagram a message,
events from one socket for each of its processes in turn. The script behind it is
`ua_session_server_init($var(key), "abh")`. OpenSIPS itself answers a BYE, so a call that is ended is over at once.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from math import inf
from typing import Any, Final

import attrs

from bench.signalling import HOST, Address, Answered, Effect, Ended, HungUp, Law, Ready, Refused, Send, offer, remote_of

PROCESSES: Final = 4  # sockets that events come from
MI: Final = 0  # origin of answers; those of events follow
PATIENCE: Final = 32.0  # seconds until a caller hangs up; OpenSIPS itself waits for ever
LARGEST_ANSWER: Final = 65_457  # octets (mi_datagram, datagram_fnc.h); more is the text INTERNAL_ERROR
PARSE_ERROR: Final = b"400 Parse_error"
INTERNAL_ERROR: Final = b"500 Internal error"
EVENT: Final = "E_UA_SESSION"
SIP_PORT: Final = 5060  # in its messages; nobody listens there
NEW, ANSWERED, ACKNOWLEDGED, OVER = 1, 4, 5, 7  # b2b_state_t


class CommandError(Exception):
    """A refused command."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@attrs.define(eq=False)
class Session:
    """A call that came in (entity type UAS)."""

    number: int
    key: str
    name: int  # in its headers
    sdp: str
    began: float
    state: int = NEW
    cseq: int = 1


@attrs.define(eq=False)
class Subscriber:
    address: Address
    expire: int
    until: float


class OpenSips:
    """The machine; commands come to origin 0, events leave from 1 to PROCESSES."""

    def __init__(self, law: Law = "PCMU", life: int = 0) -> None:
        self._law, self._life = law, life
        self._sessions: dict[str, Session] = {}
        self._calls: dict[int, Session] = {}
        self._subscribers: dict[str, Subscriber] = {}
        self._names = itertools.count(1)
        self._process = itertools.cycle(range(1, PROCESSES + 1))
        self._ready = False

    # The outside

    @property
    def deadline(self) -> float:
        waiting = [each.began for each in self._calls.values() if each.state == NEW]
        return min(waiting) + PATIENCE if waiting else inf

    def begin(self, number: int, rtp_port: int, now: float) -> list[Effect]:
        name = next(self._names)
        key = f"B2B.{name % 512}.{name}.{self._life}.{(name * 2_654_435_761) % 2**31}"
        session = Session(number, key, name, offer(number, rtp_port, self._law), now)
        self._sessions[key] = self._calls[number] = session
        return self._event(session, "NEW", "INVITE", now, body=session.sdp)

    def end(self, number: int, now: float) -> list[Effect]:
        session = self._calls.get(number)
        if session is None or session.state not in (ANSWERED, ACKNOWLEDGED):
            return []
        self._delete(session)
        session.cseq += 1
        return [*self._event(session, "TERMINATED", "BYE", now), Ended(number)]

    def receive(self, data: bytes, source: Address | None, now: float) -> list[Effect]:
        try:
            request = json.loads(data)
        except ValueError:
            return [Send(PARSE_ERROR, source, MI)]
        told: dict[str, Any] = {"jsonrpc": "2.0"}
        effects: list[Effect] = []
        try:
            told["result"], effects = self._perform(
                request["method"].rpartition(":")[2], request.get("params", {}), now
            )
        except CommandError as error:
            told["error"] = {"code": error.code, "message": str(error)}
        except (KeyError, IndexError, TypeError, AttributeError):  # a name that is not there, or of another type
            told["error"] = {"code": -32602, "message": "Invalid params"}
        if not isinstance(request, dict) or request.get("id") is None:
            return effects
        answer = json.dumps({**told, "id": request["id"]}, separators=(",", ":")).encode()
        return [Send(answer if len(answer) <= LARGEST_ANSWER else INTERNAL_ERROR, source, MI), *effects]

    def expire(self, now: float) -> list[Effect]:
        """Callers who have waited long enough hang up: CANCEL, which leaves the session to the connector."""
        effects: list[Effect] = []
        for session in [each for each in self._calls.values() if each.state == NEW and now >= each.began + PATIENCE]:
            del self._calls[session.number]
            effects += self._event(session, "TERMINATED", "CANCEL", now)
            effects.append(Refused(session.number, "no final answer"))
        return effects

    # Commands

    def _perform(self, method: str, params: Any, now: float) -> tuple[object, list[Effect]]:
        """The result, and what follows."""
        match method:
            case "event_subscribe":
                return "OK", self._subscribe(params, now)
            case "subscribers_list":
                return self._list_subscribers("event" in params, now), []
            case "ua_session_reply":
                return "OK", self._reply(params, now)
            case "ua_session_update":
                return "OK", self._update(self._found(params, "send sequential request"), params["method"], now)
            case "ua_session_terminate":
                return "OK", self._terminate(self._found(params, "terminate session"))
            case "ua_session_list":
                return self._list(params), []
            case "version":
                return {"Server": "OpenSIPS (3.6.8 (x86_64/linux))"}, []
            case _:
                raise CommandError(-32601, "Method not found")

    def _subscribe(self, params: Any, now: float) -> list[Effect]:
        positional = (
            dict(zip(("event", "socket", "expire"), params, strict=False)) if isinstance(params, list) else params
        )
        socket, expire = positional["socket"], int(positional.get("expire", 3600))
        kind, _, address = socket.partition(":")
        host, _, port = address.rpartition(":")
        if positional["event"] != EVENT or kind != "udp" or not port.isdigit():
            raise CommandError(400, "Bad parameter value")
        self._subscribers[socket] = Subscriber((host, int(port)), expire, now + expire)
        was_ready, self._ready = self._ready, True
        return [] if was_ready else [Ready()]

    def _list_subscribers(self, is_one: bool, now: float) -> object:
        listed = [
            {"socket": socket, "expire": each.expire, "ttl": int(each.until - now)}
            for socket, each in self._subscribers.items()
            if each.until > now
        ]
        event = {"name": EVENT, "id": 6, "Subscribers": listed}
        return {"Event": event} if is_one else {"Events": [event]}

    def _reply(self, params: Any, now: float) -> list[Effect]:
        session, status = self._found(params, "send reply"), int(params["code"])
        if params["method"] != "INVITE" or status < 200 or session.state == ACKNOWLEDGED:
            return []  # a provisional, or the answer to a request in the call, which nobody made
        if session.state != NEW:
            raise CommandError(500, "Failed to send reply")
        is_waited_for = self._calls.get(session.number) is session
        remote = remote_of(str(params.get("body", ""))) if status < 300 else None
        session.state = OVER if status >= 300 else ANSWERED
        if not is_waited_for:
            return []
        if remote is None:
            del self._calls[session.number]
            return [Refused(session.number, f"{status} {params['reason']}")]
        session.state = ACKNOWLEDGED
        acknowledged = self._event(session, "UPDATED", "ACK", now)
        return [*acknowledged, Answered(session.number, remote, now - session.began)]

    def _update(self, session: Session, method: str, now: float) -> list[Effect]:
        """The telephone grants whatever it is asked for."""
        if method == "BYE":
            return self._terminate(session)
        return [] if method == "ACK" else self._event(session, "ANSWERED", method, now, status=200)

    def _terminate(self, session: Session) -> list[Effect]:
        if session.state == NEW:
            raise CommandError(500, "Failed to terminate session")
        is_call = self._calls.get(session.number) is session
        self._delete(session)
        return [HungUp(session.number)] if is_call else []

    def _list(self, params: Mapping[str, str]) -> object:
        if "key" not in params:
            return [listed(each) for each in self._sessions.values()]
        if params["key"] not in self._sessions:
            raise CommandError(404, "Entity not found")
        return listed(self._sessions[params["key"]])

    def _found(self, params: Mapping[str, str], purpose: str) -> Session:
        session = self._sessions.get(params["key"])
        if session is None:
            raise CommandError(500, f"Failed to {purpose}")
        return session

    def _delete(self, session: Session) -> None:
        self._sessions.pop(session.key, None)
        if self._calls.get(session.number) is session:
            del self._calls[session.number]

    # Events

    def _event(
        self, session: Session, event_type: str, method: str, now: float, *, body: str = "", status: int = 0
    ) -> list[Effect]:
        """To all subscribers."""
        params = {
            "key": session.key,
            "event_type": event_type,
            "entity_type": "UAS",
            "status": status,
            "reason": "OK" if status else None,
            "method": method,
            "body": body,
            "headers": headers(session, method, body),
            "extra_params": None,
        }
        told = {"jsonrpc": "2.0", "method": EVENT, "params": params}
        data, origin = json.dumps(told, separators=(",", ":")).encode(), next(self._process)
        return [Send(data, each.address, origin) for each in self._subscribers.values() if each.until > now]


def headers(session: Session, method: str, body: str) -> str:
    """The header lines of the telephone's message; To has OpenSIPS's tag in a call, but for CANCEL."""
    tag = f";tag={session.key}" if session.state != NEW else ""
    host, user = f"{HOST}:{SIP_PORT + 1}", 10_000 + session.number
    lines = [
        f"Via: SIP/2.0/UDP {host};branch=z9hG4bK{session.name}-{session.cseq}{method};rport",
        "Max-Forwards: 69",
        f'From: "Caller {session.number}" <sip:{user}@{HOST}>;tag=f{session.name}',
        f"To: <sip:1000@{HOST}>{tag}",
        f"Call-ID: {session.name}@bench",
        f"CSeq: {session.cseq} {method}",
        f"Contact: <sip:{user}@{host}>",
        *(["Content-Type: application/sdp"] if body else []),
        f"Content-Length: {len(body)}",
    ]
    return "".join(f"{line}\r\n" for line in lines)


def listed(session: Session) -> dict[str, object]:
    """As ua_session_list has it."""
    caller, callee = f"sip:{10_000 + session.number}@{HOST}", f"sip:1000@{HOST}"
    return {
        "dlg": session.name,
        "logic_key": "",
        "mod_name": "b2b_entities",
        "state": session.state,
        "last_invite_cseq": 1,
        "last_method": 0,
        "last_reply_code": 0 if session.state == NEW else 200,
        "db_flag": 2,
        "ruri": f"{callee}:{SIP_PORT}",
        "callid": f"{session.name}@bench",
        "from": f'"Caller {session.number}"',
        "from_uri": caller,
        "from_tag": f"f{session.name}",
        "to": "",
        "to_uri": callee,
        "to_tag": session.key,
        "cseq": {"caller": session.cseq, "callee": 1},
        "contact": {"caller": f"{caller}:{SIP_PORT + 1}", "callee": f"sip:{HOST}:{SIP_PORT}"},
        "send_sock": HOST,
    }
