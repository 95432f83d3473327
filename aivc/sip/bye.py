"""Our BYE in a dialog: it may be owed for a while before it may be sent (RFC 3261 section 15)."""

from __future__ import annotations

import logging
from typing import Any

import attrs

from aivc import logs
from aivc.sip.dialog_client import Asked, DialogClient
from aivc.sip.fields import overridden, sendable_fields
from aivc.sip.leg import Fields
from aivc.sip.switchboard import Switchboard

log = logging.getLogger("aivc.sip")


@attrs.define(eq=False, repr=False)
class Bye:
    """The one BYE that we send.

    Attributes:
      sent: None: not yet.
    """

    client: DialogClient
    board: Switchboard[Any]
    sent: Asked | None = attrs.field(default=None, init=False)
    _owed: tuple[str, Fields] | None = attrs.field(default=None, init=False)  # its text for people, and its fields

    @property
    def is_owed(self) -> bool:
        return self._owed is not None

    def owe(self, text: str, status: int = 200, fields: Fields = ()) -> None:
        """It is to be sent with this Reason, and these header fields beside or in place of the configured ones."""
        self._owed = text, overridden(self.board.bye_fields(text, status), sendable_fields(fields))

    def waive(self) -> None:
        """The peer was faster."""
        self._owed = None

    def send(self) -> None:
        """Send it if it is owed."""
        if self._owed is not None:
            (text, fields), self._owed = self._owed, None
            logs.event(log, "sip.bye_sent", call_id=self.client.dialog.call_id, reason=text)
            self.sent = self.client.send("BYE", fields)
