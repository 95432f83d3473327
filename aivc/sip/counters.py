"""What the sockets have seen, counted: nothing is dropped or closed without a trace."""

from __future__ import annotations

import attrs


@attrs.define
class Counters:
    """Counts since the start, of all sockets together."""

    received: int = 0  # messages passed on
    sent: int = 0  # messages that the system has taken
    keep_alives: int = 0  # RFC 5626 section 4.4.1 and its kin
    garbage: int = 0  # no SIP: dropped, and the connection closed
    malformed: int = 0  # broken requests: answered 400, 505, 513
    unanswerable: int = 0  # broken responses and ACKs, and requests whose answer would amplify: dropped
    overflow: int = 0  # messages dropped because we are too slow
    unsent: int = 0  # messages dropped because the socket is too slow, gone, or refused by the system
    unwanted: int = 0  # datagrams and connections of whom we do not serve: dropped, closed

    accepted: int = 0  # connections made to us
    connected: int = 0  # connections made by us
    closed: int = 0  # of both
    full: int = 0  # connections refused at once: `sip.max_connections` are open
    crowded: int = 0  # connections refused at once: too many of one address
    accept_errors: int = 0  # connections that the system could not give us, mostly for want of descriptors
    unreachable: int = 0  # connections that could not be made
    handshakes_failed: int = 0  # of TLS, both ways
    unframed: int = 0  # connections closed because of a Content-Length or a size (RFC 3261 section 18.3)
    slow: int = 0  # connections closed because a message or a handshake was not complete in time
    stuck: int = 0  # connections closed because the peer did not read
    idle: int = 0  # connections closed because nothing came
    broken: int = 0  # connections closed by a bug of ours
