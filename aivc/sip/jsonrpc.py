"""JSON-RPC 2.0 as OpenSIPS's module mi_datagram speaks it: one request in a datagram, one answer in another. No I/O.

OpenSIPS puts octets into JSON strings as they are, whatever their encoding, and takes them so (its lib/cJSON.c). Text
here is therefore UTF-8 with surrogate escapes for what is none: `text_of` and `octets_of` lose nothing.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from typing import Final

import attrs

from aivc.sip.scanner import AddressError, parse_number

MAX_COMMAND_OCTETS: Final = 65_457  # OpenSIPS cuts longer ones off (DATAGRAM_SOCK_BUF_SIZE of mi_datagram)
MAX_DATAGRAM_OCTETS: Final = 65_535  # more than UDP can carry
MAX_TEXT: Final = 200  # characters of somebody else's text in an error or a log
MAX_BARE_OCTETS: Final = 100  # of an answer that is no JSON: "500 Internal error" is the longest


class Repeat(enum.Enum):
    """Whether a command may be sent again when no answer comes: OpenSIPS carries every copy out."""

    HARMLESS = enum.auto()
    DONE_IF_REFUSED = enum.auto()  # once only: that a copy is refused means that the first was carried out
    NEVER = enum.auto()


@attrs.frozen
class Command:
    """One command of the management interface.

    Attributes:
      params: what JSON can say; strings as `text_of` makes them.
      lists: the answer may be too long for a datagram; OpenSIPS then says "500 Internal error", not in JSON.
    """

    method: str
    params: Mapping[str, object]
    repeat: Repeat
    lists: bool = False

    def __str__(self) -> str:
        """The method, and which session it is about: for errors and logs."""
        key = self.params.get("key")
        return self.method if key is None else f"{self.method} {key}"


@attrs.frozen
class Done:
    """The answer to a command that was carried out."""

    id: str
    result: object


@attrs.frozen
class Failed:
    """The answer to one that was not.

    Attributes:
      id: None where OpenSIPS could not tell, or did not answer in JSON.
      code: its own, 400 to 500, or one of JSON-RPC 2.0 section 5.1, below zero.
    """

    id: str | None
    code: int
    text: str


Answer = Done | Failed


class JsonRpcError(ValueError):
    """The octets are no JSON-RPC message; the text says why, in our own words."""


def text_of(octets: bytes) -> str:
    """Octets as a JSON string carries them."""
    return octets.decode("utf-8", "surrogateescape")


def octets_of(text: str) -> bytes:
    """The octets that a JSON string carries. Raises JsonRpcError for what stands for none: half a surrogate pair."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise JsonRpcError("half a surrogate pair") from error


def readable(text: str) -> str:
    """Somebody else's text for a log: shortened, and nothing in it that does not print."""
    plain = text[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
    return "".join(char if char.isprintable() else "?" for char in plain)


def encode(command: Command, identity: str) -> bytes:
    """The datagram of one try."""
    message = {"jsonrpc": "2.0", "id": identity, "method": command.method, "params": dict(command.params)}
    return octets_of(json.dumps(message, ensure_ascii=False, separators=(",", ":")))


def parse_untrusted(data: bytes) -> Answer:
    """Read one answer.

    Raises:
      JsonRpcError: and nothing else.
    """
    if not data.lstrip().startswith(b"{"):
        return read_bare(data)
    message = load_untrusted(data)
    identity = message.get("id")
    if identity is not None and not isinstance(identity, str):
        raise JsonRpcError("an id that is none of ours")
    if "error" in message:
        return read_error(identity, message["error"])
    if identity is None or "result" not in message:
        raise JsonRpcError("neither a result nor an error")
    return Done(identity, message["result"])


def read_error(identity: str | None, error: object) -> Failed:
    """JSON-RPC 2.0 section 5.1; OpenSIPS says in `data` what was wrong."""
    code, text = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, None)
    if not isinstance(error, dict) or not isinstance(code, int) or not isinstance(text, str):
        raise JsonRpcError("an error without code and message")
    data = error.get("data")
    return Failed(identity, code, readable(f"{text}: {data}" if isinstance(data, str) else text))


def read_bare(data: bytes) -> Failed:
    """`400 Parse_error` and its kin (the MI_* texts of OpenSIPS's mi.h): no JSON, and no id."""
    status, _, text = data[:MAX_BARE_OCTETS].decode("latin-1").strip().partition(" ")
    try:
        code = parse_number(status, 699, "code")
    except AddressError as error:
        raise JsonRpcError("neither JSON nor a status line") from error
    if len(data) > MAX_BARE_OCTETS or code < 400:
        raise JsonRpcError("neither JSON nor a failure")
    return Failed(None, code, readable(text))


def load_untrusted(data: bytes) -> dict[str, object]:
    """One JSON object.

    Raises:
      JsonRpcError: and nothing else.
    """
    if len(data) > MAX_DATAGRAM_OCTETS:
        raise JsonRpcError("longer than a datagram")
    try:
        found = json.loads(text_of(data))
    except (ValueError, RecursionError) as error:  # a number of many digits is a ValueError, deep nesting the other
        raise JsonRpcError("no JSON") from error
    if not isinstance(found, dict):
        raise JsonRpcError("no JSON object")
    return found
