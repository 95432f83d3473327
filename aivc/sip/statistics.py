"""What one user agent has seen and has alive, for people and for a dispatcher."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class UserAgentStatistics:
    """Counts since the start, and what is alive now. Those of the sockets: `aivc.sip.counters.Counters`."""

    received: int  # messages served
    sent: int
    keep_alives: int
    garbage: int  # what is no SIP
    malformed: int  # broken requests, answered 400, 505 or 513
    unanswerable: int  # broken messages that cannot be answered
    overflow: int  # messages dropped because we are too slow
    unsent: int  # messages that could not be sent
    unwanted: int  # datagrams and connections of whom we do not serve
    accepted: int  # connections made to us
    connected: int  # connections made by us
    closed: int
    full: int
    crowded: int
    accept_errors: int
    unreachable: int
    handshakes_failed: int
    unframed: int
    slow: int
    stuck: int
    idle: int
    broken: int

    refused: int  # requests answered with a failure
    challenged: int  # of them: asked for a password
    dropped: int  # requests met with silence: scanners, and floods
    slowed: int  # requests answered 503 because of `sip.requests_per_second` or a full table
    amplifying: int  # answers not sent because they are too long for a source that may be forged
    stray_acks: int
    stray_responses: int
    failures: int  # messages that met a bug of ours
    server_transactions: int  # now
    client_transactions: int  # now
    legs: int  # dialogs now
