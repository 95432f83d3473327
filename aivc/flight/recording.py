"""From a tape to the lines of a file, masked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from aivc.flight.entries import Header
from aivc.flight.flightfile import lines
from aivc.flight.masking import Masking
from aivc.flight.tape import Tape


@attrs.frozen(eq=False)
class Recording:
    """One call that is over. Making its lines takes a while: some 10 microseconds an entry.

    Attributes:
      header: masked.
    """

    header: Header
    record: Mapping[str, Any] | None
    _tape: Tape
    _masking: Masking

    @classmethod
    def of(cls, tape: Tape, header: Header, record: Mapping[str, Any] | None, masking: Masking) -> Recording:
        """Mask the header and the record; the entries follow one by one."""
        for entry in tape.entries(media=False):
            masking.learn(entry)
        key = header.session_key
        masked = attrs.evolve(
            header,
            call_id=masking.sip(header.call_id),  # as in the messages
            session_key=None if key is None else masking.sip(key),
            settings=masking.tree(dict(header.settings)),
        )
        if record is not None:
            names = {"call_id": masked.call_id, "dialled": masking.name(record["dialled"])}
            record = {**masking.tree(dict(record)), **names}
        return cls(masked, record, tape, masking)

    def lines(self) -> Iterator[bytes]:
        """Of the file."""
        entries = map(self._masking.entry, self._tape.entries())
        return lines(self.header, entries, lambda: (self.record, self._tape.missing, self._tape.missing_from))
