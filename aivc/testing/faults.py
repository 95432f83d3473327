"""What can go wrong at the model's side, as switches."""

from __future__ import annotations

from typing import Literal

import attrs

from aivc.testing.vad import AudioFormat


@attrs.frozen(kw_only=True)
class Faults:
    """Departures from the protocol; the default is a server that makes none."""

    # Connecting
    refuse_upgrade: int | None = None  # HTTP status instead of 101, as proxies and other servers do: 401, 429, 503
    refuse_session: str | None = None  # this code in an error event after the upgrade, then close 4000
    silent_upgrade: bool = False  # the TCP connection stands, the upgrade is never answered
    no_session_created: bool = False
    session_updated_seconds: float = 0.0  # delay before session.updated; inf = it never comes
    echo_format: AudioFormat | None = None  # session.updated claims this for both directions, and means what was asked
    speak_format: AudioFormat | None = None  # deltas are in this format, whatever the session says
    expires_after_seconds: float = 3600.0  # session.expires_at, then session_expired and close 1001

    # Answers
    error_storm: int = 0  # so many server_error events after each response.created
    code_null: bool = False  # errors have code null, and the reason in `type`
    no_error_event_id: bool = False  # errors lack the client's event_id
    no_metadata: bool = False  # responses do not repeat the metadata of response.create, as servers before it
    ignore_cancel: bool = False  # response.cancel is neither obeyed nor answered
    no_response_to_create: bool = False  # response.create and the end of a turn are neither obeyed nor answered
    unanswered: int = 0  # the same, so many times, then no more
    unanswered_after: int = 0  # responses that are given before those
    crossing: int = 0  # so many response.create come just after a response that the server made on its own
    fail_responses: str | None = None  # every response.done is `failed` with this code, such as insufficient_quota
    response_done: Literal["once", "lost", "doubled"] = "once"
    broken_arguments: bool = False  # arguments of function calls are cut short, so that they are not JSON

    # The caller's turns
    lose_committed: bool = False  # input_audio_buffer.committed never comes; the item does
    transcription_fails: bool = False  # input_audio_transcription.failed instead of the transcript
    mcp_fails: bool = False  # the tools of remote MCP servers cannot be listed

    # Audio
    delta_octets: int | None = None  # size of every audio delta; 1, or larger than any response (200 KiB)
    delta_after_done: bool = False  # one more audio delta follows each response.done
    late_deltas: int = 2  # deltas that were in flight when a response was cancelled: no fault, every server has them

    # The connection, counted in audio deltas of the whole session
    close_after_deltas: int | None = None
    close_code: int = 1011
    drop_after_deltas: int | None = None  # cut with no close frame: the client sees 1006
    stall_after_deltas: int | None = None  # half-open: stops reading, sending and answering pings
