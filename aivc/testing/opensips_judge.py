"""What a connector does wrong at an OpenSIPS: the list that a test wants to be empty.

OpenSIPS itself takes most of it without a word, and sends broken messages or keeps dead sessions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

import attrs
import trio

from aivc.testing.opensips_jsonrpc import CommandError, Parameters
from aivc.testing.opensips_session import State, UaSession
from aivc.testing.opensips_transactions import ServerTransaction
from aivc.testing.schema import Json

PATIENCE: Final = 1.0  # seconds: within it, a command may cross an event, and an answer may be on its way
WHOLE_LINE: Final = re.compile(rb"content-type:[ \t]*[^\r\n]+\r\n", re.IGNORECASE)
ANSWERED_BY_ITSELF: Final = ("BYE", "CANCEL", "PRACK", "ACK")
HEADER_LINES: Final = re.compile(rb"(?:[A-Za-z0-9!%*_+`'~.-]+:[^\r\n]*\r\n)*")


@attrs.define(eq=False)
class Judge:
    """Watches the commands of all connectors.

    Attributes:
      found: in the order in which it was seen.
    """

    found: list[str] = attrs.field(factory=list)
    _keys: set[str] = attrs.field(factory=set)  # of all sessions that ever were
    _ends: dict[str, float] = attrs.field(factory=dict)  # key -> when the connector was told, or has ended it
    _seen: set[str] = attrs.field(factory=set)  # commands without their ids, as JSON

    def know(self, key: str) -> None:
        self._keys.add(key)

    def note_event(self, params: Json) -> None:
        """An event has been sent to somebody."""
        if params["event_type"] == "TERMINATED" and params["method"] == "BYE":
            self._ends.setdefault(params["key"], trio.current_time())

    def is_repeat(self, call: Json) -> bool:
        """Whether this command came before: its answer may have been lost."""
        command = json.dumps([call.get("method"), call.get("params")], sort_keys=True)
        if command in self._seen:
            return True
        self._seen.add(command)
        return False

    def judge_parameters(self, method: str, parameters: Parameters) -> None:
        """Pitfalls in how a message is put together."""
        if method not in ("ua_session_reply", "ua_session_update", "ua_session_terminate", "ua_session_client_start"):
            return
        if method == "ua_session_reply":
            self.judge_status(method, parameters)
        if method == "ua_session_client_start" and "," in parameters.text("to"):
            self.note(method, parameters, "a display name in `to`: a CANCEL goes out without the line end after To")
        names = ("body", "content_type", "extra_headers")
        body, content_type, extra_headers = (parameters.optional(name) for name in names)
        is_referring = method == "ua_session_update" and parameters.values.get("method") == "REFER"
        if is_referring and b"refer-to:" not in (extra_headers or b"").lower():
            self.note(method, parameters, "a REFER without Refer-To")
        if extra_headers is not None and body is None:
            self.note(method, parameters, "extra_headers without body: OpenSIPS sends garbage instead")
        if extra_headers is not None and not HEADER_LINES.fullmatch(extra_headers):
            self.note(method, parameters, f"extra_headers are no whole lines: {extra_headers!r}")
        if content_type and not WHOLE_LINE.fullmatch(content_type):
            self.note(method, parameters, f"content_type is no whole line: {content_type!r}")
        if body and content_type is None and not body.startswith(b"v="):
            self.note(method, parameters, "no content_type: the body goes out as application/sdp")
        if body == b"" and content_type is None and method == "ua_session_reply":
            self.note(method, parameters, 'an empty body without content_type "": it goes out as application/sdp')

    def judge_status(self, method: str, parameters: Parameters) -> None:
        """What stands in the first line of an answer, where OpenSIPS puts whatever it is given."""
        code, reason = parameters.integer("code"), parameters.text("reason")
        if not 100 <= code <= 699:
            self.note(method, parameters, "no status of SIP, and it goes out")
        if "\r" in reason or "\n" in reason:
            self.note(method, parameters, f"the reason goes out as it is, line ends too: {reason!r}")
        if parameters.text("method") in ANSWERED_BY_ITSELF:
            self.note(method, parameters, "OpenSIPS has answered that itself")

    def judge_key(self, method: str, key: str, sessions: dict[str, UaSession]) -> None:
        """A command for a session that is not there. To ask whether it is there is no fault."""
        if key in sessions or method == "ua_session_list":
            return
        end = self._ends.get(key)
        if key not in self._keys:
            self.found.append(f"{method}: no session ever had the key {key!r}")
        elif end is not None and trio.current_time() > end + PATIENCE:
            self.found.append(f"{method} {key}: the session is over since {trio.current_time() - end:.1f} s")

    def judge_failure(self, method: str, parameters: Parameters | None, error: CommandError, *, exists: bool) -> None:
        """A command was refused."""
        if error.code < 0 or parameters is None:
            self.found.append(f"{method or 'no method'}: {error}")
        elif exists and method != "ua_session_list":
            self.note(method, parameters, str(error))

    def note(self, method: str, parameters: Parameters, fault: str) -> None:
        values = parameters.values
        about = " ".join(str(values[name]) for name in ("key", "method", "code") if name in values)
        self.found.append(f"{method} {about}: {fault}")

    def note_end(self, key: str) -> None:
        """The connector has ended the session itself."""
        self._ends.setdefault(key, trio.current_time())

    def note_abandoned(self, session: UaSession, transaction: ServerTransaction) -> None:
        """OpenSIPS answers a request because the connector never did."""
        waited = trio.current_time() - transaction.began_at
        if waited > PATIENCE or transaction.request.to.tag is None:
            self.found.append(f"{session.key}: {transaction.method} was never answered")

    def leftovers(self, sessions: Iterable[UaSession]) -> list[str]:
        """What is wrong with the sessions that are there now."""
        now, found = trio.current_time(), []
        for session in sessions:
            for transaction in session.waiting:
                if now > transaction.began_at + PATIENCE and transaction.request.to.tag is not None:
                    found.append(f"{session.key}: {transaction.method} is not answered")
            ended = None if session.is_being_cancelled else session.terminated_at
            if session.state is State.TERMINATED and ended is not None and now > ended + PATIENCE:
                found.append(f"{session.key}: left in state 7, where it stays until its timer")
        return found
