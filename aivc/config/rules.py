"""Rules for values that are more than their type: addresses, URLs, URIs, header text. Each raises ValueError only."""

from __future__ import annotations

import ipaddress
import json
import string
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from aivc.config.patterns import compiled

BUILTIN_TOOLS = ("terminate_call", "transfer_call", "send_digits")
TOKEN_KINDS = ("input_audio", "input_text", "input_cached", "output_audio", "output_text")
LONGEST_NAME = 64  # OpenAI's limit for the name of a function
# Header fields of ours beside those of the protocol: all of a message must fit into one datagram.
MOST_FIELDS = 16
MOST_FIELD_OCTETS = 4096  # names and values together
LONGEST_FIELD_NAME = 64  # no registered SIP header field has half of it
LONGEST_FIELD_OCTETS = 1000  # of a value
NAME = frozenset(string.ascii_letters + string.digits + "_-")
TOKEN = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")  # RFC 9110 section 5.6.2
FRAMING_FIELDS = ("connection", "content-length", "host", "transfer-encoding")
LONGEST_HOST = 253  # RFC 1035 section 2.3.4, without the dot at the end
LONGEST_SOCKET_PATH = 107  # octets, unix(7)
LISTEN_TRANSPORTS = ("udp", "tcp", "tls")
HOST_NAME = frozenset(string.ascii_letters + string.digits + ".-")
USER = frozenset(string.ascii_letters + string.digits + "-_.!~*'()&=+$,;?/%")  # RFC 3261 section 25.1
# With their compact forms: a second one would change what a message means.
SIP_OWN_FIELDS = frozenset(
    {"via", "v", "from", "f", "to", "t", "call-id", "i", "cseq", "contact", "m", "route", "record-route"}
    | {"max-forwards", "content-length", "l", "content-type", "c", "content-encoding", "e", "require", "supported", "k"}
    | {"allow", "authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate", "proxy-require"}
    | {"refer-to", "r", "referred-by", "b", "replaces", "session-expires", "x", "min-se", "rseq", "rack", "event", "o"}
    | {"subscription-state"}
)
SCHEMES = ("ws", "wss", "http", "https")  # http(s) is what many compatible servers print as their base URL


def shortened(text: str, length: int = 60) -> str:
    """The text in TOML's quotes, on one line, cut when it is long: for error messages."""
    return json.dumps(text if len(text) <= length else text[:length] + "...")


def ip_address(text: str) -> None:
    """An IPv4 or IPv6 address without brackets, port or zone."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{shortened(text)} is not an IP address") from None
    if "%" in text:
        raise ValueError(f"{shortened(text)} has a zone, which means nothing to anybody else")


def advertised_ip(text: str) -> None:
    """An address that a peer can send to: not 0.0.0.0, not multicast."""
    ip_address(text)
    address = ipaddress.ip_address(text)
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{shortened(text)} cannot be advertised: nobody can send to it")


def ipv4(text: str) -> None:
    """An IPv4 address."""
    ip_address(text)
    if ":" in text:
        raise ValueError(f"{shortened(text)} is IPv6, and this is the place for an IPv4 address")


def ipv6(text: str) -> None:
    """An IPv6 address without brackets."""
    ip_address(text)
    if ":" not in text:
        raise ValueError(f"{shortened(text)} is IPv4, and this is the place for an IPv6 address")


def advertised_ipv4(text: str) -> None:
    """An IPv4 address that a peer can send to."""
    ipv4(text)
    advertised_ip(text)


def advertised_ipv6(text: str) -> None:
    """An IPv6 address that a peer can send to."""
    ipv6(text)
    advertised_ip(text)


def host(text: str) -> None:
    """An IPv4 address or a host name."""
    if not text or len(text) > LONGEST_HOST or not HOST_NAME.issuperset(text):
        raise ValueError(f"{shortened(text)} is no IPv4 address and no host name")
    if text.replace(".", "").isdecimal():
        ipv4(text)


def socket_path(text: str) -> None:
    """The path of a UNIX socket, as long as the system can take (unix(7))."""
    if not text.startswith("/") or "\0" in text or octets(text) > LONGEST_SOCKET_PATH:
        raise ValueError(f"{shortened(text)} is no absolute path of at most {LONGEST_SOCKET_PATH} octets")


def network(text: str) -> None:
    """An IP network, such as 192.0.2.0/24, or one address."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{shortened(text)} is not a network like 192.0.2.0/24: {error}") from None


def listen(text: str) -> None:
    """Where to listen: see `parse_listen`."""
    parse_listen(text)


def parse_listen(text: str) -> tuple[str, str, int]:
    """Transport, IP address and port of `udp:HOST:PORT`; an IPv6 HOST stands in brackets, port 0 = any free one.

    Raises:
        ValueError: the text is something else, or HOST is not an IP address.
    """
    transport, _, rest = text.partition(":")
    if transport not in LISTEN_TRANSPORTS or ":" not in rest:
        raise ValueError(f"{shortened(text)} is not of the form udp:HOST:PORT, tcp:HOST:PORT or tls:HOST:PORT")
    host, port = parse_host_port(rest)
    ip_address(host)
    return transport, host, port


def sip_server(text: str) -> None:
    """HOST or HOST:PORT, an IPv6 HOST in brackets."""
    host, port = parse_sip_server(text)
    if port == 0:
        raise ValueError(f"{shortened(text)} has port 0")
    if ":" not in host and not (host and HOST_NAME.issuperset(host)):
        raise ValueError(f"{shortened(text)} is not of the form HOST or HOST:PORT")


def parse_sip_server(text: str) -> tuple[str, int | None]:
    """Host, and port if there is one. Raises ValueError."""
    if text.endswith("]") or ":" not in text:
        host = bare_host(text)
        if ":" in host:
            ip_address(host)
        return host, None
    host, port = parse_host_port(text)
    if ":" in host:
        ip_address(host)
    return host, port


def sip_user(text: str) -> None:
    """The user part of a SIP URI, as it is written (RFC 3261 section 25.1), without a password."""
    if not USER.issuperset(text):
        raise ValueError(f"{shortened(text)} has a character that a SIP user name cannot have")


def sip_header_name(text: str) -> None:
    """The name of a SIP header field that says nothing about the dialog or the message itself."""
    if not 0 < len(text) <= LONGEST_FIELD_NAME or not set(text) <= TOKEN:
        raise ValueError(f"{shortened(text)} is not the name of a header field")
    if text.lower() in SIP_OWN_FIELDS:
        raise ValueError(f"{text} belongs to the protocol and cannot be used here")


def sip_header_value(text: str) -> None:
    """Text for a SIP header field, on one line."""
    if text != text.strip() or not text.isprintable():
        raise ValueError(f"{shortened(text)} has a line end, a space at an end or a control character")
    if octets(text) > LONGEST_FIELD_OCTETS:
        raise ValueError(f"{shortened(text)} is longer than {LONGEST_FIELD_OCTETS} octets")


def sip_header_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Names and values that a request of ours bears beside those of the protocol."""
    if len(fields) > MOST_FIELDS:
        raise ValueError(f"more than {MOST_FIELDS} header fields")
    for name, value in fields:
        try:
            sip_header_name(name)
            sip_header_value(value)
        except ValueError as error:
            raise ValueError(f"header field {shortened(name)}: {error}") from None
    if sum(octets(name) + octets(value) for name, value in fields) > MOST_FIELD_OCTETS:
        raise ValueError(f"the header fields have more than {MOST_FIELD_OCTETS} octets together")


def octets(text: str) -> int:
    """Length in UTF-8."""
    return len(text.encode("utf-8", "replace"))


def host_port(text: str) -> None:
    """Raises ValueError unless it is `HOST:PORT`, an IPv6 address in brackets."""
    parse_host_port(text)


def parse_host_port(text: str) -> tuple[str, int]:
    """Take `HOST:PORT` apart; an IPv6 HOST stands in brackets, port 0 = any free one. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{shortened(text)} is not of the form HOST:PORT")
    return bare_host(host), parse_port(port)


def bare_host(host: str) -> str:
    """The host without the brackets that an IPv6 address, and nothing else, must have before a port."""
    if host.startswith("[") and host.endswith("]") and ":" in host:
        return host[1:-1]
    if host.startswith("["):
        raise ValueError(f"only an IPv6 address stands in brackets: {host[:60]}")
    if ":" in host:
        raise ValueError(f"write the IPv6 address in brackets: [{host[:60]}]")
    return host


def parse_port(text: str) -> int:
    """A port number from 0 to 65535, or ValueError."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 65535):
        raise ValueError(f"{shortened(text)} is not a port number from 0 to 65535")
    return int(text)


def realtime_url(text: str) -> None:
    """Where a Realtime server listens: ws, wss, http or https, with a host."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text:
        raise ValueError(f"{shortened(text)} is not a URL like wss://HOST/v1/realtime")
    if parts.username is not None or parts.fragment:
        raise ValueError("a name, password or fragment has no place in this URL")


def sip_uri(text: str) -> None:
    """A sip, sips or tel URI as it goes into Refer-To and Referred-By (RFC 3515, RFC 3892)."""
    scheme, colon, rest = text.partition(":")
    if not colon or scheme.lower() not in ("sip", "sips", "tel") or not rest:
        raise ValueError(f"{shortened(text)} is not a URI like sip:support@example.com or tel:+15551234567")
    if any(not char.isprintable() or char in ' <>"' for char in text):
        raise ValueError(f"{shortened(text)} has a space, quote, angle bracket or control character")


def header_value(text: str) -> None:
    """Text for an HTTP header, here a secret: so the message never shows it."""
    if any(not 0x21 <= ord(char) <= 0x7E for char in text):
        raise ValueError("has a space, line end or other character that a key never has")


def http_url(text: str) -> None:
    """Where an HTTP server is: http or https, with a host."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text:
        raise ValueError(f"{shortened(text)} is not a URL like https://example.com/bots")


def regular_expression(text: str) -> None:
    """A regular expression that can be matched in linear time: `aivc.config.patterns`."""
    try:
        compiled(text)
    except ValueError as error:
        raise ValueError(f"{shortened(text)} is not a regular expression: {error}") from None


def language_code(text: str) -> None:
    """A language as ISO 639-1 writes it."""
    if not (len(text) == 2 and text.isascii() and text.isalpha() and text.islower()):
        raise ValueError(f"{shortened(text)} is not a language code like en or de")


def digits(text: str) -> None:
    """Keys of a telephone (RFC 4733 section 3.2)."""
    if not set(text) <= set("0123456789*#ABCD"):
        raise ValueError(f"{shortened(text)} has another key than 0 to 9, *, # and A to D")


def builtin_tool(text: str) -> None:
    """The name of a built-in function."""
    if text not in BUILTIN_TOOLS:
        raise ValueError(f"{shortened(text)} is none of {', '.join(BUILTIN_TOOLS)}")


def token_kind(text: str) -> None:
    """The name of a kind of tokens."""
    if text not in TOKEN_KINDS:
        raise ValueError(f"{shortened(text)} is none of {', '.join(TOKEN_KINDS)}")


def plain_name(text: str) -> None:
    """A name of a function, an agent or a transfer target: what OpenAI allows for functions."""
    if not 0 < len(text) <= LONGEST_NAME or not set(text) <= NAME:
        raise ValueError(f"{shortened(text)} is not a name of 1 to {LONGEST_NAME} letters, digits, _ and -")


def header_name(text: str) -> None:
    """The name of an HTTP header field (RFC 9110 section 5.1) that may be set by hand."""
    if not text or not set(text) <= TOKEN:
        raise ValueError(f"{shortened(text)} is not the name of a header field")
    if text.lower() in FRAMING_FIELDS:
        raise ValueError(f"{text} belongs to the connection and cannot be set")


def field_value(text: str) -> None:
    """Text for an HTTP header field, such as "Bearer ..."; a secret, so the message never shows it."""
    if text != text.strip() or any(not 0x20 <= ord(char) <= 0x7E for char in text):
        raise ValueError("has a line end, a space at an end or another character that a header field cannot have")


def object_schema(schema: Mapping[str, object]) -> None:
    """A JSON schema of a function's arguments: an object with properties."""
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if schema and schema.get("type") != "object":
        raise ValueError('is not the schema of an object: needs type = "object"')
    if not isinstance(properties, dict) or not all(isinstance(each, dict) for each in properties.values()):
        raise ValueError("properties: is not a table of tables")
    if not isinstance(required, list) or not all(isinstance(name, str) and name in properties for name in required):
        raise ValueError("required: is not a list of names that properties has")


def append_ms(milliseconds: int) -> None:
    """Raises ValueError unless it is one of the lengths whose cost and delay are documented."""
    if milliseconds not in (20, 40, 60, 100):
        raise ValueError("is not 20, 40, 60 or 100")


def mask_name(text: str) -> None:
    if text not in ("numbers", "transcripts"):
        raise ValueError(f"{shortened(text)} is neither numbers nor transcripts")


def idle_timeout(milliseconds: int) -> None:
    """What OpenAI allows for `idle_timeout_ms`, or 0."""
    if 0 < milliseconds < 5000:
        raise ValueError(f"{milliseconds} is neither 0 nor 5000 to 30000")


def is_openai_host(url: str) -> bool:
    """Whether the URL leads to OpenAI itself, where names of models and the need of a key are known."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    return host == "openai.com" or host.endswith(".openai.com")


def is_readable_on_the_way(url: str) -> bool:
    """Whether the URL leads to another machine without encryption."""
    parts = urlsplit(url)
    return parts.scheme.lower() in ("ws", "http") and parts.hostname not in ("localhost", "127.0.0.1", "::1")
