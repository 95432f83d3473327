"""Who may look at what comes and goes, for a recording: it is told of each message, and changes nothing."""

from __future__ import annotations

from typing import Literal, Protocol

from aivc.sip.flow import Flow
from aivc.sip.jsonrpc import Command

Way = Literal["in", "out"]


class MessageWatcher(Protocol):
    """Told of SIP messages."""

    def note_message(self, way: Way, data: bytes, flow: Flow) -> None:
        """One message as it came, or as it is about to leave."""


class SessionWatcher(Protocol):
    """Told of what OpenSIPS and we say to each other."""

    def note_event(self, key: str, is_new: bool, data: bytes) -> None:
        """An event of the session with that key."""

    def note_command(self, way: Way, command: Command, data: bytes) -> None:
        """A command on its way out, or the answer to it; told in the task that gave it."""
