"""The settings of the process: how many calls, how many processes, what watches them."""

from __future__ import annotations

import attrs

from aivc.config.metadata import about
from aivc.config.rules import append_ms, host_port


@attrs.frozen(kw_only=True)
class ServiceSettings:
    """`[service]`: the process."""

    max_calls: int = attrs.field(
        default=100, metadata=about("Calls at a time; more are refused with 503", low=1, high=10000)
    )
    calls_per_second: float = attrs.field(
        default=100.0,
        metadata=about(
            "New calls taken in a second, bursts of as many included; more are refused with 503, 0: any number",
            low=0,
            high=10000,
        ),
    )
    max_pacing_ms: float = attrs.field(
        default=20.0,
        metadata=about(
            "When more than one packet in a hundred leaves later than this, new calls are refused with 503, until they"
            " have been at most half as late for five seconds; 0: never",
            unit="ms",
            low=0,
            high=1000,
        ),
    )
    workers: int = attrs.field(
        default=1,
        metadata=about(
            "Processes that share the calls, behind the same SIP address; all limits are those of them together",
            low=1,
            high=64,
        ),
    )
    stall_ms: float = attrs.field(
        default=20.0,
        metadata=about(
            "Code that keeps the process from everything else for longer is named in the log; 0: nothing watches",
            unit="ms",
            low=0,
            high=10000,
        ),
    )
    drain_seconds: float = attrs.field(
        default=30.0,
        metadata=about("Time that calls get to end when the process is told to stop", unit="s", low=0, high=3600),
    )
    retry_after_seconds: int = attrs.field(
        default=10, metadata=about("When a caller refused with 503 may try again", unit="s", low=0, high=86400)
    )
    max_call_seconds: float = attrs.field(
        default=3600.0, metadata=about("The longest call", unit="s", low=1, high=86400)
    )


@attrs.frozen(kw_only=True)
class AdminSettings:
    """`[admin]`: what can be seen of the running service by HTTP: /healthz, /status (JSON), /metrics (Prometheus)."""

    listen: str | None = attrs.field(
        default=None,
        metadata=about(
            "Where, HOST:PORT; it asks for no password. Not set: nowhere", example="127.0.0.1:9464", rule=host_port
        ),
    )


@attrs.frozen(kw_only=True)
class RealtimeSettings:
    """`[realtime]`: how the connections to the model are used, whichever agent's they are."""

    append_ms: int = attrs.field(
        default=20,
        metadata=about(
            "How much of the caller's audio goes into one message: 20, 40, 60 or 100; more costs less CPU and makes"
            " the model hear later",
            unit="ms",
            rule=append_ms,
        ),
    )
    prewarm: int = attrs.field(
        default=0,
        metadata=about(
            "Connections to the model opened ahead of the calls that will need them, which answers these sooner",
            low=0,
            high=100,
        ),
    )
