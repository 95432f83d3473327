"""`python -m bench answer`: a model that is far away."""

from __future__ import annotations

import socket
import time

from bench.answer import far_away
from bench.distance import HOST

DISTANCE_MS = 30.0


def test_what_goes_through_the_relay_arrives_whole_and_later_by_the_distance() -> None:
    with socket.create_server((HOST, 0)) as model, far_away(DISTANCE_MS, 0) as (port, lead_to):
        lead_to(model.getsockname()[1])
        model.settimeout(5)
        with socket.create_connection((HOST, port), timeout=5) as caller:
            there, _ = model.accept()
            with there:
                there.settimeout(5)
                began = time.monotonic()
                caller.sendall(b"question")
                assert there.recv(100) == b"question"
                there.sendall(b"answer")
                assert caller.recv(100) == b"answer"
                assert time.monotonic() - began >= 2 * DISTANCE_MS / 1000
                caller.shutdown(socket.SHUT_WR)
                assert there.recv(100) == b""
