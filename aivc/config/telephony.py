"""The settings of telephony: the user agent, who may use it, where it registers, and the media sockets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from aivc.config.metadata import about
from aivc.config.rules import (
    advertised_ip,
    advertised_ipv4,
    advertised_ipv6,
    ipv4,
    ipv6,
    listen,
    network,
    regular_expression,
    sip_header_name,
    sip_header_value,
    sip_server,
    sip_user,
)
from aivc.config.secret import Secret


@attrs.frozen(kw_only=True)
class SipUser:
    """`[[sip.users]]`: who may call, when calls are to be authenticated."""

    name: str = attrs.field(metadata=about("The user name", example="trunk", rule=sip_user))
    password: Secret = attrs.field(
        metadata=about("The environment variable with the password", example="TRUNK_PASSWORD", indirect=True)
    )


@attrs.frozen(kw_only=True)
class SipRegister:
    """`[[sip.register]]`: a PBX or provider whose extension or trunk we are."""

    user: str = attrs.field(metadata=about("The user part of our address there", example="200", rule=sip_user))
    server: str = attrs.field(
        metadata=about(
            "The registrar: HOST or HOST:PORT; an IPv6 address in brackets", example="pbx.example.com", rule=sip_server
        )
    )
    password: Secret | None = attrs.field(
        default=None,
        metadata=about("The environment variable with the password", example="PBX_PASSWORD", indirect=True),
    )
    auth_user: str | None = attrs.field(
        default=None,
        metadata=about("The user name for authentication, if it is another", example="200-auth", rule=sip_user),
    )
    domain: str | None = attrs.field(
        default=None,
        metadata=about("The host of our address, if it is not the server's", example="example.com", rule=sip_server),
    )
    transport: Literal["udp", "tcp", "tls"] = attrs.field(default="udp", metadata=about("How it is reached"))
    expires_seconds: int = attrs.field(
        default=600,
        metadata=about(
            "How long a registration is to last; it is renewed before; 0: none is made, the password is only for our"
            " requests in calls from there",
            unit="s",
            low=0,
            high=86400,
        ),
    )


@attrs.frozen(kw_only=True)
class SipSettings:
    """`[sip]`: the built-in SIP user agent."""

    enabled: bool = attrs.field(default=True, metadata=about("Whether the built-in user agent listens"))
    listen: tuple[str, ...] = attrs.field(
        default=("udp:0.0.0.0:5060",),
        metadata=about(
            "Where to listen: `udp:HOST:PORT`, `tcp:HOST:PORT` or `tls:HOST:PORT`; HOST is an IP address, an IPv6 one"
            " in brackets, port 0 any free one",
            rule=listen,
        ),
    )
    external_ip: str | None = attrs.field(
        default=None,
        metadata=about(
            "The address written into Contact and Via instead of the local one, when a NAT lies between",
            example="203.0.113.10",
            rule=advertised_ip,
        ),
    )
    numbers: tuple[str, ...] = attrs.field(
        default=(),
        metadata=about("User parts of the SIP URIs that are answered, others get 404; empty: every one is"),
    )
    tls_certificate: str | None = attrs.field(
        default=None,
        metadata=about(
            "PEM file with the certificate for `tls:` and those that sign it; read again at SIGHUP",
            example="tls/cert.pem",
            file=True,
        ),
    )
    tls_key: str | None = attrs.field(
        default=None,
        metadata=about(
            "PEM file with its private key; not set: in the same file as the certificate",
            example="tls/key.pem",
            file=True,
        ),
    )
    tls_client_ca: str | None = attrs.field(
        default=None,
        metadata=about(
            "PEM file with the authorities of which one must have signed the certificate of whoever connects; not set:"
            " none is asked for",
            example="tls/clients.pem",
            file=True,
        ),
    )
    tls_ca: str | None = attrs.field(
        default=None,
        metadata=about(
            "PEM file with the authorities that servers we connect to are checked by; not set: the system's",
            example="tls/ca.pem",
            file=True,
        ),
    )
    max_connections: int = attrs.field(
        default=1000,
        metadata=about("TCP and TLS connections at a time; further ones are closed at once", low=1, high=100000),
    )
    idle_seconds: float = attrs.field(
        default=600.0,
        metadata=about(
            "A connection on which nothing has come for so long is closed; calls are not ended by that",
            unit="s",
            low=1,
            high=86400,
        ),
    )
    message_seconds: float = attrs.field(
        default=10.0,
        metadata=about(
            "Time for a message to arrive whole on a connection, and for a TLS handshake", unit="s", low=0.5, high=32
        ),
    )
    allow: tuple[str, ...] = attrs.field(
        default=(),
        metadata=about(
            "Networks whose requests are served; `trusted` and the servers of `register` always are; empty: all",
            example=["192.0.2.0/24", "2001:db8::/32"],
            rule=network,
        ),
    )
    trusted: tuple[str, ...] = attrs.field(
        default=(),
        metadata=about(
            "Networks of trunks: not asked for passwords nor slowed down, their P-Asserted-Identity is believed, and"
            " audio goes to where their SDP says even if none comes from there",
            example=["198.51.100.0/28"],
            rule=network,
        ),
    )
    unwanted: Literal["drop", "403"] = attrs.field(
        default="drop", metadata=about("What requests from elsewhere, and of known scanners, get: nothing, or 403")
    )
    # One request more is one transaction for 32 s; those of running calls are not counted.
    requests_per_second: float = attrs.field(
        default=200.0,
        metadata=about(
            "New requests of one IP address in a second, bursts of as many included; more get 503, 0: any number",
            low=0,
            high=100000,
        ),
    )
    users: tuple[SipUser, ...] = attrs.field(
        default=(),
        metadata=about(
            "Who may call: with any of them every call but those of `trusted` and `register` must prove to be theirs;"
            " each a `[[sip.users]]` table"
        ),
    )
    realm: str = attrs.field(
        default="aivc", metadata=about("The realm that callers are asked to authenticate for", rule=sip_header_value)
    )
    # libre of 2020 (baresip 1.0) and SIPp 3.6 give up as soon as they see SHA-256
    digest: Literal["both", "SHA-256", "MD5"] = attrs.field(
        default="both",
        metadata=about(
            "How callers are asked to prove that they know their password: by SHA-256 or else by MD5, or by one of them"
            ' alone; "MD5" for telephones that give up when they are offered anything else'
        ),
    )
    nonce_seconds: float = attrs.field(
        default=300.0, metadata=about("How long an answer to one challenge is good", unit="s", low=5, high=86400)
    )
    register: tuple[SipRegister, ...] = attrs.field(
        default=(), metadata=about("Where we are an extension or a trunk, each a `[[sip.register]]` table")
    )
    # RFC 4028 section 4.2 recommends 1800 s; 90 s is the least that section 5 allows
    session_expires_seconds: int = attrs.field(
        default=1800,
        metadata=about(
            "Session timer that we ask for; a call that neither side has refreshed for so long is over; 0: none, unless"
            " the caller asks",
            unit="s",
            low=0,
            high=86400,
        ),
    )
    min_se_seconds: int = attrs.field(
        default=90,
        metadata=about("The shortest session timer that we take; shorter ones get 422", unit="s", low=90, high=86400),
    )
    reliable_provisional: Literal["off", "on", "required"] = attrs.field(
        default="on",
        metadata=about(
            "Whether 180 is sent reliably (100rel): never, to callers that require it, or to all that can and no others"
        ),
    )
    follow_refer: tuple[str, ...] = attrs.field(
        default=(),
        metadata=about(
            "Patterns (regular expressions in linear time), of which one must match all of the URI that a caller's"
            " REFER has us call; empty: REFER is refused with 603",
            example=["sip:[0-9]{3}@pbx[.]example[.]com"],
            rule=regular_expression,
        ),
    )
    pass_headers: tuple[str, ...] = attrs.field(
        default=(),
        metadata=about(
            "Header fields of the INVITE that go into the record and may stand in instructions",
            example=["X-Customer", "User-to-User"],
            rule=sip_header_name,
        ),
    )
    refer_headers: Mapping[str, str] = attrs.field(
        factory=dict,
        metadata=about(
            "Header fields of our REFER requests",
            example={"X-Reason": "agent"},
            names=sip_header_name,
            rule=sip_header_value,
        ),
    )
    bye_headers: Mapping[str, str] = attrs.field(
        factory=dict,
        metadata=about(
            "Header fields of our BYE requests",
            example={"X-Reason": "agent"},
            names=sip_header_name,
            rule=sip_header_value,
        ),
    )
    # 32 s is timer F, 64*T1: after that no answer to a BYE can come (RFC 3261 section 17.1.2.2)
    hang_up_seconds: float = attrs.field(
        default=2.0, metadata=about("Longest wait for the answer to our BYE", unit="s", low=0.1, high=32)
    )


@attrs.frozen(kw_only=True)
class RtpSettings:
    """`[rtp]`: the media sockets."""

    min_port: int = attrs.field(
        default=35000,
        metadata=about(
            "The lowest media port; each call takes an even one for RTP and the next for RTCP",
            low=1024,
            high=65535,
            variable="RTP_MIN_PORT",
        ),
    )
    max_port: int = attrs.field(
        default=65000, metadata=about("The highest media port", low=1024, high=65535, variable="RTP_MAX_PORT")
    )
    bind_ip: str = attrs.field(
        default="0.0.0.0",
        metadata=about("The local IPv4 address of the media sockets", variable="RTP_BIND_IP", rule=ipv4),
    )
    ip: str | None = attrs.field(
        default=None,
        metadata=about(
            "The IPv4 address written into SDP; not set: `sip.external_ip`, else the local one that reaches the peer",
            variable="RTP_IP",
            example="203.0.113.10",
            rule=advertised_ipv4,
        ),
    )
    bind_ipv6: str = attrs.field(
        default="::",
        metadata=about("The local address of the media sockets for callers whose SDP has IPv6", rule=ipv6),
    )
    ipv6: str | None = attrs.field(
        default=None,
        metadata=about(
            "The IPv6 address written into SDP; not set: `sip.external_ip`, else the local one that reaches the peer",
            example="2001:db8::10",
            rule=advertised_ipv6,
        ),
    )
    nat: Literal["auto", "on", "off"] = attrs.field(
        default="auto",
        metadata=about(
            "Whether audio may come from, and go to, another IP address than the SDP's: if that one is private and the"
            " signalling came from one that is not, always, or never"
        ),
    )
    timeout_seconds: float = attrs.field(
        default=60.0,
        metadata=about(
            "A call without audio from the caller for so long is over; 0: never", unit="s", low=0, high=86400
        ),
    )
    hold_timeout_seconds: float = attrs.field(
        default=0.0,
        metadata=about(
            "A call on hold without RTP or RTCP from the caller for so long is over; 0: never",
            unit="s",
            low=0,
            high=86400,
        ),
    )
    # rtpengine's learning takes 3 s, too: short for a caller whose NAT has moved, long for a thief in a pause
    relatch_seconds: float = attrs.field(
        default=3.0,
        metadata=about(
            "Silence from where the caller's audio came from after which another source may take its place",
            unit="s",
            low=0.1,
            high=3600,
        ),
    )
    probe_seconds: float = attrs.field(
        default=15.0,
        metadata=about(
            "Audio is sent for so long to an address that sends none; 0: for ever, for trunks that only listen",
            unit="s",
            low=0,
            high=3600,
        ),
    )
    quarantine_seconds: float = attrs.field(
        default=5.0, metadata=about("Time before a freed port is given to a new call", unit="s", low=0, high=600)
    )
    reorder_ms: int = attrs.field(
        default=40,
        metadata=about(
            "The longest that a packet waits for one before it; the wait adapts to the jitter, 0: none",
            unit="ms",
            low=0,
            high=200,
        ),
    )
    cushion_ms: int = attrs.field(
        default=20,
        metadata=about(
            "Audio of the model that must wait beyond the first packet before it is played, unless its item is"
            " complete, so that deltas which arrive just in time make no gaps",
            unit="ms",
            low=0,
            high=200,
        ),
    )
    hold: Literal["silence", "nothing"] = attrs.field(
        default="silence", metadata=about("What the model hears while the caller holds the call")
    )
    rtcp: bool = attrs.field(
        default=True, metadata=about("Whether reports are sent and read (RTCP), for jitter and loss in the record")
    )
    rtcp_seconds: float = attrs.field(
        default=5.0, metadata=about("Time between two of our reports, on average", unit="s", low=1, high=60)
    )
    srtp: Literal["off", "optional", "required"] = attrs.field(
        default="off",
        metadata=about(
            "SRTP with keys in the SDP: not taken; taken, as are offers without; offers without are refused. Needs the"
            " extra `srtp`, and TLS to keep the keys secret"
        ),
    )
