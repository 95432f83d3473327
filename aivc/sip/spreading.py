"""Which of several processes gets a SIP message: all of one dialog go to the one that has it. No I/O and no clock.

Every process puts its mark in front of the tags and branches that it makes. So what belongs to a dialog, and every
response, says itself to whom it belongs, and no flood can make us forget that. A table of Call-IDs is needed only for
what comes before there is a tag of ours: an INVITE that is repeated or sent again with a password, its CANCEL and ACK.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import attrs

from aivc.sip.address import MAGIC_COOKIE, parse_name_addr, parse_via
from aivc.sip.framing import read_untrusted_head
from aivc.sip.message import Headers, NotSipError, split_request_line
from aivc.sip.replacing import Replaces, read_replaces
from aivc.sip.scanner import AddressError, split_list

MAX_CALL_IDS: Final = 65_536  # some 10 MB; those of 130 new calls a second until the last of their timers (64*T1) ends
DIGEST_OCTETS: Final = 16  # of a Call-ID, which may be 8 kB long: none that collide can be found
MARK_DIGITS: Final = 2  # hexadecimal
PARENT: Final = 0xFF  # who owns the sockets has a mark, too; workers are numbered from 0


class NotSpreadable(Exception):
    """The octets are no SIP message, or a response that does not tell whose it is."""


@attrs.frozen
class Envelope:
    """What decides to whom a message goes.

    Attributes:
      method: of a request; None: it is a response.
      call_id: a digest of it.
      tag: what one of us has made, if it belongs to a dialog or transaction of ours: the To-tag of a request, the
        branch of the topmost Via of a response, without the magic cookie; "" when there is none.
      replaced: digest of the Call-ID, and both tags, that an INVITE wants to replace (RFC 3891).
    """

    method: str | None
    call_id: bytes
    tag: str = ""
    replaced: tuple[bytes, str, str] | None = None


def mark_of(number: int) -> str:
    """What stands in front of the tags and branches of the worker with that number."""
    return f"{number:0{MARK_DIGITS}x}"


def number_in(tag: str) -> int | None:
    """Whose mark a tag has; None: nobody's. Anybody can write one: it leads to who will not know the rest of it."""
    try:
        return int(tag[:MARK_DIGITS], 16)
    except ValueError:
        return None


def read_untrusted_envelope(data: bytes) -> Envelope:
    """Read of one message what decides to whom it goes, as the parser of whole messages would.

    Raises NotSpreadable.
    """
    head = data.lstrip(b"\r\n").partition(b"\r\n\r\n")[0]
    start, headers = read_untrusted_head(head)
    call_id = digest(headers.get("Call-ID") or "")
    try:
        if start[:4].upper() == "SIP/":
            top = parse_via(split_list(headers.get("Via") or "")[0])
            return Envelope(None, call_id, (top.branch or "").removeprefix(MAGIC_COOKIE))
        method = split_request_line(start)[0]
    except (AddressError, NotSipError) as error:
        raise NotSpreadable(str(error)) from error
    tag = called_tag(headers)
    return Envelope(method, call_id, tag, replaced_by(headers) if method == "INVITE" and not tag else None)


def called_tag(headers: Headers) -> str:
    """Of To; a broken request may go to anybody, who then says what is wrong with it."""
    try:
        return parse_name_addr(headers.get("To") or "").tag or ""
    except AddressError:
        return ""


def replaced_by(headers: Headers) -> tuple[bytes, str, str] | None:
    wanted = read_replaces(headers)  # what cannot be read is for the worker to refuse
    return (digest(wanted.call_id), wanted.to_tag, wanted.from_tag) if isinstance(wanted, Replaces) else None


def digest(call_id: str) -> bytes:
    return hashlib.blake2b(call_id.encode("latin-1", "replace"), digest_size=DIGEST_OCTETS).digest()


@attrs.define
class Load:
    """What is known of one worker that runs.

    Attributes:
      room: how many calls it may have.
      calls: how many it had when it told last.
      given: how many new ones it was sent in all.
      taken: how many of these had reached it when it told last: what it tells may cross others on their way.
      turn: when it got its last one, in the order of all.
    """

    room: int
    accepting: bool = False
    calls: int = 0
    given: int = 0
    taken: int = 0
    turn: int = 0

    @property
    def busy(self) -> int:
        """How many calls it has, those on their way to it included."""
        return self.calls + self.given - self.taken

    @property
    def is_free(self) -> bool:
        return self.accepting and self.busy < self.room


@attrs.define(eq=False)
class Spreading:
    """Who runs, how much each has to do, and whose the Call-IDs of late are."""

    loads: dict[int, Load] = attrs.field(factory=dict, init=False)
    _owners: dict[bytes, int] = attrs.field(factory=dict, init=False)  # digest of a Call-ID -> number, oldest first
    _turns: int = attrs.field(default=0, init=False)

    @property
    def accepting(self) -> bool:
        """Whether anybody takes new calls."""
        return any(load.is_free for load in self.loads.values())

    def join(self, number: int, room: int) -> None:
        """A worker runs from now on; it accepts nothing until it says so."""
        self.loads[number] = Load(room)

    def leave(self, number: int) -> None:
        """It has ended; what was its own goes to others, who will not know it (481)."""
        self.loads.pop(number, None)

    def note(self, number: int, calls: int, accepting: bool, taken: int) -> None:
        """What a worker says of itself."""
        load = self.loads[number]
        load.calls, load.accepting, load.taken = calls, accepting, taken

    def choose(self, envelope: Envelope) -> int | None:
        """Who gets the message: the number of a worker that runs, or PARENT; None: nobody, drop it."""
        marked = number_in(envelope.tag)
        if envelope.method is None:
            return marked if marked == PARENT or marked in self.loads else None
        if marked in self.loads:
            return marked
        owner = self._owners.get(envelope.call_id)
        if owner in self.loads:
            self._remember(envelope.call_id, owner)
            return owner
        if envelope.method == "INVITE" and not envelope.tag:
            return self._invited(envelope)
        return self._anybody(envelope)

    def _invited(self, envelope: Envelope) -> int | None:
        """Who gets a new INVITE: who has the call that it is to replace, else who has the fewest."""
        number = self._replaced(envelope)
        if number is None and self.loads:
            number = min(self._candidates(), key=self._burden)
            self._turns += 1
            self.loads[number].turn = self._turns
            self.loads[number].given += 1
        if number is not None:
            self._remember(envelope.call_id, number)
        return number

    def _replaced(self, envelope: Envelope) -> int | None:
        if envelope.replaced is None:
            return None
        call_id, *tags = envelope.replaced
        # One of the tags is ours and has a mark; the other is the peer's, and may look like one.
        marked = [number for number in map(number_in, tags) if number in self.loads]
        owner = self._owners.get(call_id)
        if owner in self.loads and (owner in marked or not marked):
            return owner
        return marked[0] if marked else None

    def _anybody(self, envelope: Envelope) -> int | None:
        """A request that belongs to no call: for OPTIONS it must be one who accepts calls, if anybody does, and for a
        request that is repeated the same one again."""
        candidates = sorted(self._candidates())
        return candidates[int.from_bytes(envelope.call_id[:4], "big") % len(candidates)] if candidates else None

    def _candidates(self) -> Iterable[int]:
        """Who has room, or all: whoever refuses then says why."""
        return [number for number, load in self.loads.items() if load.is_free] or list(self.loads)

    def _burden(self, number: int) -> tuple[int, int]:
        load = self.loads[number]
        return load.busy, load.turn

    def _remember(self, call_id: bytes, number: int | None) -> None:
        self._owners.pop(call_id, None)
        if number is not None:
            self._owners[call_id] = number
        if len(self._owners) > MAX_CALL_IDS:
            del self._owners[next(iter(self._owners))]
