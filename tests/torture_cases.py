"""What a user agent server answers to each message of RFC 4475 and RFC 5118, and to ours that are modelled on them."""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class Case:
    """One message.

    Attributes:
      name: of the file in the RFC's archive, and of our own message of the same kind.
      section: of RFC 4475, or of RFC 5118.
      about: what is odd about it, and what must be done.
      udp: the final responses to it in a datagram; none: silence.
      tcp: the same on a connection.
      closes: the connection cannot be followed any further and is closed.
      calls: how many calls it makes.
    """

    name: str
    section: str
    about: str
    udp: tuple[int, ...]
    tcp: tuple[int, ...]
    closes: bool = False
    calls: int = 0


def served(name: str, section: str, status: int, about: str, calls: int = 0) -> Case:
    """A request that can be followed in a stream, too, and has the same answer there."""
    return Case(name, section, about, (status,), (status,), calls=calls)


def ignored(name: str, section: str, about: str) -> Case:
    """A response that is nobody's."""
    return Case(name, section, about, (), ())


RFC_4475: Final = (
    # 3.1.1 Valid messages
    served("wsinv", "3.1.1.1", 481, "white space and folding wherever they may be; the To tag is of no dialog"),
    served("intmeth", "3.1.1.2", 501, "every character that a method, a parameter and a user part may have"),
    served("esc01", "3.1.1.3", 200, "an INVITE with escapes in user parts and parameters", calls=1),
    served("escnull", "3.1.1.4", 405, "an escaped NUL in a user part ends no string"),
    served("esc02", "3.1.1.5", 501, "% escapes nothing in a method: this is no REGISTER"),
    served("lwsdisp", "3.1.1.6", 200, "no white space between a display name and <"),
    served("longreq", "3.1.1.7", 200, "an INVITE with long values, and 34 Vias", calls=1),
    # In a stream there is a second request, with a broken m= line, and more octets after that.
    Case("dblreq", "3.1.1.8", "octets after Content-Length", (405,), (405, 400), closes=True),
    served("semiuri", "3.1.1.9", 200, "a user part with a semicolon and an escaped @"),
    served("transports", "3.1.1.10", 200, "Vias of transports known and unknown"),
    served("mpart01", "3.1.1.11", 405, "a body of several parts, with NUL and bare line feeds"),
    ignored("unreason", "3.1.1.12", "a reason phrase in UTF-8"),
    ignored("noreason", "3.1.1.13", "no reason phrase"),
    # 3.1.2 Invalid messages
    served("badinv01", "3.1.2.1", 400, "empty parameters and empty values in Via and Contact"),
    # In a stream the rest is waited for, and never comes.
    Case("clerr", "3.1.2.2", "Content-Length beyond what there is", (400,), (), closes=True),
    Case("ncl", "3.1.2.3", "a negative Content-Length", (400,), (400,), closes=True),
    served("scalar02", "3.1.2.4", 400, "numbers beyond all bounds in CSeq, Max-Forwards and Expires"),
    ignored("scalarlg", "3.1.2.5", "a response with numbers beyond all bounds"),
    served("quotbal", "3.1.2.6", 400, "a quote that is not closed"),
    served("ltgtruri", "3.1.2.7", 400, "the Request-URI in angle brackets"),
    served("lwsruri", "3.1.2.8", 400, "white space in the Request-URI"),
    served("lwsstart", "3.1.2.9", 400, "several spaces in the request line"),
    served("trws", "3.1.2.10", 400, "a space at the end of the request line"),
    served(
        "escruri", "3.1.2.11", 200, "an INVITE with header fields in the Request-URI: nobody's header fields", calls=1
    ),
    served("baddate", "3.1.2.12", 200, "an INVITE with a Date of another time zone, which nobody asks for", calls=1),
    served("regbadct", "3.1.2.13", 405, "a Contact with ? and without angle brackets"),
    served("badaspec", "3.1.2.14", 200, "spaces inside angle brackets"),
    # In the archive's file the empty line is missing: a stream waits for it.
    Case("baddn", "3.1.2.15", "a comma in a display name without quotes", (400,), (), closes=True),
    served("badvers", "3.1.2.16", 505, "SIP/7.0"),
    served("mismatch01", "3.1.2.17", 400, "CSeq of another method"),
    served("mismatch02", "3.1.2.18", 400, "the same with an unknown method"),
    ignored("bigcode", "3.1.2.19", "a status beyond 699"),
    # 3.2 Transaction layer semantics
    served("badbranch", "3.2.1", 200, "a branch that is the magic cookie and no more"),
    # 3.3 Application layer semantics
    served("insuf", "3.3.1", 400, "neither From nor To nor Call-ID"),
    served("unkscm", "3.3.2", 416, "a Request-URI of a scheme that nobody knows"),
    served("novelsc", "3.3.3", 416, "a Request-URI of a scheme that is not SIP's"),
    served("unksm2", "3.3.4", 405, "From, To and Contact of other schemes"),
    served("bext01", "3.3.5", 420, "Require of what nobody can do"),
    served("invut", "3.3.6", 415, "a body of an unknown type"),
    served("regaut01", "3.3.7", 405, "Authorization of an unknown scheme"),
    served("multi01", "3.3.8", 400, "two of each field that there may be one of"),
    Case("mcl01", "3.3.9", "two Content-Lengths", (400,), (400,), closes=True),
    ignored("bcast", "3.3.10", "a 200 that names a broadcast address to go on to"),
    served("zeromf", "3.3.11", 200, "Max-Forwards 0 at its goal"),
    served("cparam01", "3.3.12", 405, "an unknown parameter of Contact"),
    served("cparam02", "3.3.13", 405, "an unknown parameter of the URI in Contact"),
    served("regescrt", "3.3.14", 405, "an escaped Route in Contact"),
    served("sdp01", "3.3.15", 406, "Accept without application/sdp in an INVITE"),
    # 3.4 Backward compatibility
    # It has no Contact, which RFC 3261 section 8.1.1.8 asks for; in a stream not even its end can be known.
    Case("inv2543", "3.4.1", "an INVITE of RFC 2543", (400,), (400,), closes=True),
    # Not numbered: in the RFC's archive
    Case("extra-test", "", "no SIP version in the request line: no SIP", (), (), closes=True),
)

RFC_5118: Final = (
    served("ipv6-good", "4.1", 405, "IPv6 references in URIs and Via"),
    served("ipv6-bad", "4.2", 400, "an IPv6 address without brackets in the Request-URI"),
    served("port-ambiguous", "4.3", 405, "what looks like a port is a part of the address"),
    served("port-unambiguous", "4.4", 405, "an IPv6 reference and a port"),
    served("via-received-param-with-delim", "4.5", 481, "received in brackets"),
    served("via-received-param-no-delim", "4.5", 200, "received without"),
    # These three have more octets than their Content-Length says: a stream ends there.
    Case("ipv6-in-sdp", "4.6", "IN IP6, and no codec of ours", (488,), (488,), closes=True),
    served("mult-ip-in-header", "4.7", 481, "Vias of both families"),
    Case("mult-ip-in-sdp", "4.8", "media of both families", (200,), (200,), closes=True, calls=1),
    Case(
        "ipv4-mapped-ipv6", "4.9", "IPv4 addresses mapped into IPv6, and no codec of ours", (488,), (488,), closes=True
    ),
    served("ipv6-bug-abnf-3-colons", "4.10", 400, "three colons, as a wrong grammar had it"),
    served("ipv6-correct-abnf-2-colons", "4.10", 200, "two colons before an IPv4 address"),
)
CASES: Final = (*RFC_4475, *RFC_5118)

# Of the same kind, in no RFC's archive.
MORE: Final = (
    served("comma-in-display-name", "3.1.2.15", 400, "a comma in a display name without quotes, and nothing else"),
    served("bare-line-feeds", "3.1.1.1", 400, "lines that end without CR"),
    served("escaped-method", "3.1.1.5", 501, "INV%49TE, which is no INVITE"),
    served(
        "contact-with-route",
        "3.1.1.3",
        200,
        "an INVITE whose Contact has header fields in it: our BYE has none",
        calls=1,
    ),
    served("names-of-one-letter", "3.1.1.1", 200, "an INVITE with every compact form", calls=1),
    served(
        "header-named-like-one",
        "3.1.1.2",
        200,
        "an INVITE with fields whose names only look like mandatory ones",
        calls=1,
    ),
)
