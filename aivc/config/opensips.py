"""The settings of the OpenSIPS front end."""

from __future__ import annotations

import attrs

from aivc.config.metadata import about
from aivc.config.rules import host, network, plain_name, socket_path


@attrs.frozen(kw_only=True)
class OpenSipsSettings:
    """`[opensips]`: calls that an OpenSIPS hands over as UA sessions (its modules b2b_entities and mi_datagram)."""

    enabled: bool = attrs.field(default=False, metadata=about("Whether calls are taken from an OpenSIPS"))
    ip: str = attrs.field(
        default="127.0.0.1",
        metadata=about("Where its module mi_datagram listens: an IPv4 address or a name", variable="MI_IP", rule=host),
    )
    port: int = attrs.field(
        default=8080, metadata=about("The UDP port of mi_datagram", variable="MI_PORT", low=1, high=65535)
    )
    socket: str | None = attrs.field(
        default=None,
        metadata=about(
            "The path of mi_datagram's UNIX socket, used instead of ip and port",
            example="/run/opensips/mi.sock",
            rule=socket_path,
        ),
    )
    command_seconds: float = attrs.field(
        default=3.5,
        metadata=about("Longest wait for the answer to one command, repeats included", unit="s", low=0.5, high=60),
    )
    subscription_seconds: int = attrs.field(
        default=90,
        metadata=about(
            "How long OpenSIPS is to send events to us; renewed after a third of it, which is also how soon a restart"
            " of OpenSIPS is noticed",
            unit="s",
            low=6,
            high=3600,
        ),
    )
    event_sources: tuple[str, ...] = attrs.field(
        default=(),
        metadata=about(
            "Networks and addresses that events may come from; empty: the address that `ip` leads to",
            example=["192.0.2.0/28"],
            rule=network,
        ),
    )
    instance: str | None = attrs.field(
        default=None,
        metadata=about(
            'Only sessions whose extra_params say {"instance": "NAME"} are taken, for several connectors on one'
            " OpenSIPS; not set: every session",
            example="aivc-1",
            rule=plain_name,
        ),
    )
    session_seconds: int = attrs.field(
        default=43200,
        metadata=about(
            "After how long OpenSIPS ends a session by itself without telling us: `ua_default_timeout`, or the flag `t`"
            " of ua_session_server_init; service.max_call_seconds must be a minute less",
            unit="s",
            low=61,
            high=604800,
        ),
    )
    check_seconds: float = attrs.field(
        default=15.0,
        metadata=about(
            "Time between two looks at OpenSIPS's list of sessions: for those that it lost, and for those that nobody"
            " serves; 0: never",
            unit="s",
            low=0,
            high=3600,
        ),
    )
    end_orphans: bool = attrs.field(
        default=True,
        metadata=about(
            "Whether sessions in that list that we do not know, as after a restart of ours, are ended; never while"
            " another subscriber, or opensips.instance, says that they may be somebody else's"
        ),
    )
