"""Messages of our own, each as odd as the one of RFC 4475 or RFC 5118 whose name it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

HEAD: Final = "v=0\r\no=loom 77 78 IN IP4 192.0.2.66\r\ns=-\r\nc=IN IP4 192.0.2.66\r\nt=0 0\r\n"
OFFER: Final = f"{HEAD}m=audio 30200 RTP/AVP 8 0 18\r\n"
HEAD6: Final = "v=0\r\no=loom 77 78 IN IP6 2001:db8::66\r\ns=-\r\nc=IN IP6 2001:db8::66\r\nt=0 0\r\n"
NO_CODEC_OF_OURS: Final = "m=audio 30200 RTP/AVP 18\r\n"
SDP: Final = ("Content-Type: application/sdp",)
CALLER: Final = "Contact: <sip:weaver@192.0.2.66>"


def raw(*lines: str, body: str = "") -> bytes:
    """The lines as they stand, and the body."""
    return ("\r\n".join([*lines, "", ""]) + body).encode()


def request(method: str, *fields: str, uri: str = "sip:shuttle@192.0.2.1", cut: Mapping[str, str] = {}) -> bytes:
    """A request with nothing wrong in it but what `fields` add, and `cut` puts in place of (or, if empty, drops)."""
    own = {
        "Via": "SIP/2.0/UDP 192.0.2.66;branch=z9hG4bK-weft",
        "Max-Forwards": "70",
        "From": "<sip:weaver@mill.example>;tag=warp",
        "To": "<sip:shuttle@mill.example>",
        "Call-ID": "heddle@mill.example",
        "CSeq": f"21 {method}",
        "Content-Length": "0",
    } | dict(cut)
    return raw(f"{method} {uri} SIP/2.0", *(f"{name}: {value}" for name, value in own.items() if value), *fields)


def invite(*fields: str, uri: str = "sip:shuttle@192.0.2.1", cut: Mapping[str, str] = {}, sdp: str = OFFER) -> bytes:
    """The same with an offer, and a Contact if there is no other."""
    contact = () if any(line.lower().startswith(("contact", "m:")) for line in fields) else (CALLER,)
    length = {"Content-Length": str(len(sdp.encode()))}
    return request("INVITE", *fields, *contact, *SDP, uri=uri, cut=length | dict(cut)) + sdp.encode()


def response(status_line: str, *fields: str, via: str = "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK-none") -> bytes:
    return raw(
        status_line, f"Via: {via}", "From: <sip:weaver@mill.example>;tag=warp", "To: <sip:loom@mill.example>;tag=w",
        "Call-ID: heddle@mill.example", *(fields or ("CSeq: 21 INVITE",)), "Content-Length: 0",
    )  # fmt: skip


def register(*fields: str, uri: str = "sip:mill.example", cut: Mapping[str, str] = {}) -> bytes:
    return request("REGISTER", *fields, uri=uri, cut=cut)


def via(value: str, **more: str) -> dict[str, str]:
    return {"Via": value, **more}


VIA6: Final = via("SIP/2.0/UDP [2001:db8::66];branch=z9hG4bK-weft")
PARTS: Final = b"--selvage\r\n\r\nWeft\n\0\xff\n--selvage\r\n\r\n\x01\x02\n\n\0\0\r\n--selvage--\r\n"
ODD: Final = "!odd-METHOD.7_*+`%~'"
ODD_USER: Final = "9_to.five~(or-so!)&co=+1,$5/?;tea"

OWN: Final[dict[str, bytes]] = {
    # RFC 4475 3.1.1
    "wsinv": raw(
        "INVITE sip:shuttle@mill.example;fast SIP/2.0", "tO\t:", "\tsip:shuttle@mill.example ;", " tag\t=  long-gone",
        'FROM : "The \\\\ \\"Weaver\\""  <sip:weaver@mill.example>', "  ; tag  = warp", "MAX-forwards:  0070",
        "i : heddle@mill.example", "cSEQ :", " 0021", "\tINVITE", "Via : SIP /2.0", " / UDP", "  192.0.2.66 ; branch =",
        " z9hG4bK-weft  ,  SIP/  2.0 /TCP  bobbin.example ;branch=z9hG4bK-two", "s:", "Thread-Count: ,;,;,",
        'm: "Mill \\"North\\"" <sip:weaver@192.0.2.66> ; colour =', "   red ; q = 0.5", "Content-Type:application/sdp",
        f"l  : {len(OFFER)}", body=OFFER,
    ),
    "intmeth": request(
        ODD, "x-!odd%*_+`'~: \ufeff\u7e54\u6a5f", uri=f"sip:{ODD_USER}:*&pin=7,~@mill.example",
        cut=via(
            "SIP/2.0/TCP bobbin.example;branch=z9hG4bK!%*_+`'~.",
            To=f'"TAB:\\\t NUL:\\\0" <sip:{ODD_USER}@mill.example>',
            From="one~` two'+_ 3*%!.- <sip:weaver@mill.example>;a''~+*_!.-%=\"\u7e54\";tag=w~'+`*%!.",
            **{"Call-ID": "a%Z-!.*_+'@b`~)(><:\\/\"][?}{"},
        ),
    ),
    "esc01": invite(
        "Contact: <sip:w%65aver@192.0.2.66;%6Cr;c%6Flour=r%65d%25>", uri="sip:tel%3A%2B1%40mill@mill.example",
        cut={"To": "<sip:%73huttle@mill.example>", "From": "<sip:two%20words@mill.example>;tag=warp"},
    ),
    "escnull": register("Contact: <sip:%00@192.0.2.66>", cut={"To": "<sip:a%00b@mill.example>"}),
    "esc02": request("REG%49STER", "Cont%61ct: <sip:b@192.0.2.66>", cut={"To": '"%Q%4" <sip:a@mill.example>'}),
    "lwsdisp": request("OPTIONS", cut={"From": "Weaver<sip:weaver@mill.example>;tag=warp"}),
    "longreq": invite(
        f"X-{'Long' * 40}: {'cloth' * 200}", *(f"{'vV'[n % 2]} : SIP/2.0/TCP bobbin{n}.example" for n in range(33)),
        cut={"To": f'"{"very " * 50}old" <sip:shuttle@mill.example;x={"y" * 250}>', "Call-ID": "heddle" * 40},
    ),
    "dblreq": register() + b"\r\n\r\n" + invite(
        cut={"Via": "SIP/2.0/UDP 192.0.2.66;branch=z9hG4bK-two", "Call-ID": "second"},
        sdp=f"{OFFER}m =video 9 RTP/AVP 31\r\n",
    ) + b"more\r\n",
    "semiuri": request("OPTIONS", uri="sip:shuttle;floor=2%40north@mill.example"),
    "transports": request(
        "OPTIONS", "Via: SIP/2.0/SCTP b.example;branch=z9hG4bK-2", "Via: SIP/2.0/TLS c.example;branch=z9hG4bK-3",
        "Via: SIP/2.0/PIGEON d.example;branch=z9hG4bK-4", "Via: SIP/2.0/TCP e.example;branch=z9hG4bK-5",
    ),
    "mpart01": request(
        "MESSAGE", "Content-Type: multipart/mixed;boundary=selvage", cut={"Content-Length": str(len(PARTS))}
    ) + PARTS,
    "unreason": response("SIP/2.0 200 \u6210\u529f 2**2*50"),
    "noreason": response("SIP/2.0 183 "),
    # 3.1.2
    "badinv01": invite('Contact: "Weaver" <sip:weaver@mill.example>;;;', cut=via("SIP/2.0/UDP 192.0.2.66;;,;,")),
    "clerr": invite(cut={"Content-Length": "5000"}),
    "ncl": invite(cut={"Content-Length": "-1"}),
    "scalar02": register(f"Expires: {'9' * 80}", cut={"CSeq": "18446744073709551617 REGISTER", "Max-Forwards": "256"}),
    "scalarlg": response("SIP/2.0 503 Busy", "CSeq: 99999999999999999999 OPTIONS", f"Retry-After: {'8' * 30}"),
    "quotbal": invite(cut={"To": '"Shuttle <sip:shuttle@mill.example>'}),
    "ltgtruri": invite(uri="<sip:shuttle@192.0.2.1>"),
    "lwsruri": invite(uri="sip:shuttle@192.0.2.1; transport=udp"),
    "lwsstart": invite().replace(b"INVITE sip:shuttle@192.0.2.1 ", b"INVITE   sip:shuttle@192.0.2.1  "),
    "trws": request("OPTIONS").replace(b" SIP/2.0\r\n", b" SIP/2.0 \r\n", 1),
    "escruri": invite(uri="sip:shuttle@192.0.2.1?Route=%3Csip:192.0.2.77%3Blr%3E&Subject=x"),
    "baddate": invite("Date: Mon, 06 Jul 2026 09:30:00 CEST"),
    "regbadct": register("Contact: sip:weaver@mill.example?Route=%3Csip:192.0.2.77%3E"),
    "badaspec": request("OPTIONS", cut={"To": '"Mill, The" <  sip:shuttle@mill.example  >'}),
    "baddn": request("OPTIONS", cut={"To": "Mill, The <sip:shuttle@mill.example>"})[:-2],
    "badvers": request("OPTIONS").replace(b"SIP/2.0", b"SIP/3.1"),
    "mismatch01": request("OPTIONS", cut={"CSeq": "21 BYE"}),
    "mismatch02": request("WEAVE", cut={"CSeq": "21 INVITE"}),
    "bigcode": response("SIP/2.0 65736 of another universe"),
    # 3.2
    "badbranch": request("OPTIONS", cut=via("SIP/2.0/UDP 192.0.2.66;branch=z9hG4bK")),
    # 3.3
    "insuf": invite(cut={"To": "", "From": "", "Call-ID": ""}),
    "unkscm": request("OPTIONS", uri="weavingloom:north-3"),
    "novelsc": request("OPTIONS", uri="http://192.0.2.1:80/cloth"),
    "unksm2": register("Contact: <cloth:linen>", cut={"To": "urn:isbn:0", "From": "<ftp://mill.example>;tag=warp"}),
    "bext01": request("OPTIONS", "Require: selvage, twill", "Proxy-Require: dobby"),
    "invut": invite("X: y", sdp="<cloth/>").replace(b"application/sdp", b"application/x-cloth"),
    "regaut01": register("Authorization: Loom thread-count=120"),
    "multi01": invite("CSeq: 22 INVITE", "Call-ID: other", "To: <sip:b@c>", "From: <sip:d@e>;tag=2", "Max-Forwards: 1"),
    "mcl01": request("OPTIONS", "Content-Length: 7", "Content-Type: text/plain") + b"As long as a thread",
    "bcast": response("SIP/2.0 200 OK", "Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK-all", "CSeq: 21 INVITE"),
    "zeromf": request("OPTIONS", cut={"Max-Forwards": "0"}),
    "cparam01": register("Contact: sip:weaver@192.0.2.66;selvage"),
    "cparam02": register("Contact: <sip:weaver@192.0.2.66;selvage>"),
    "regescrt": register("m: <sip:weaver@mill.example?Route=%3Csip:192.0.2.77%3E>"),
    "sdp01": invite("Accept: text/x-pattern"),
    # 3.4, and what has no number
    "inv2543": raw(
        "INVITE sip:shuttle@192.0.2.1 SIP/2.0", "Via: SIP/2.0/UDP 192.0.2.66", "From: <sip:weaver@mill.example>",
        "To: sip:shuttle@mill.example", "Call-ID: heddle@mill.example", "CSeq: 21 INVITE", *SDP, body=OFFER,
    ),
    "extra-test": raw("INVITE sip:shuttle@192.0.2.1", "To : shuttle", "Loom", "Content-Length: 4", body="v=0\n"),
    # RFC 5118
    "ipv6-good": register("Contact: <sip:weaver@[2001:db8::66]>", uri="sip:[2001:db8::1]", cut=VIA6),
    "ipv6-bad": register(uri="sip:2001:db8::1", cut=VIA6),
    "port-ambiguous": register(uri="sip:[2001:db8::1:5060]", cut=VIA6),
    "port-unambiguous": register(uri="sip:[2001:db8::1]:5060", cut=VIA6),
    "via-received-param-with-delim": request(
        "BYE",
        cut=via("SIP/2.0/UDP [2001:db8::66];received=[2001:db8::67];branch=z9hG4bK-a", To="<sip:s@m.example>;tag=x"),
    ),
    "via-received-param-no-delim": request(
        "OPTIONS", cut=via("SIP/2.0/UDP [2001:db8::66];received=2001:db8::67;branch=z9hG4bK-a")
    ),
    "ipv6-in-sdp": invite(
        "Contact: <sip:weaver@[2001:db8::66]>", sdp=HEAD6 + NO_CODEC_OF_OURS, uri="sip:shuttle@[2001:db8::1]", cut=VIA6
    ) + b"more\r\n",
    "mult-ip-in-header": request(
        "BYE", "Via: SIP/2.0/UDP 192.0.2.67;branch=z9hG4bK-b",
        "Via: SIP/2.0/TCP [2001:db8::67];branch=z9hG4bK-c;received=192.0.2.68",
        cut={**VIA6, "To": "<sip:s@m.example>;tag=x"},
    ),
    "mult-ip-in-sdp": invite(
        "Contact: <sip:weaver@[2001:db8::66]>", cut=VIA6,
        sdp="v=0\r\no=loom 1 1 IN IP4 mill.example\r\ns=\r\nt=0 0\r\nm=audio 30200 RTP/AVP 8\r\nc=IN IP4 192.0.2.66\r\n"
        "m=video 30300 RTP/AVP 99\r\nc=IN IP6 2001:db8::66\r\n",
    ) + b"more\r\n",
    "ipv4-mapped-ipv6": invite(
        "Via: SIP/2.0/UDP [::ffff:192.0.2.68];branch=z9hG4bK-b", "Contact: <sip:weaver@[::ffff:192.0.2.66]>",
        sdp=HEAD6.replace("2001:db8::66", "::ffff:192.0.2.66") + NO_CODEC_OF_OURS,
        cut=via("SIP/2.0/UDP [::ffff:192.0.2.66]:5066;branch=z9hG4bK-weft"),
    ) + b"more\r\n",
    "ipv6-bug-abnf-3-colons": request("OPTIONS", uri="sip:shuttle@[2001:db8:::192.0.2.66]", cut=VIA6),
    "ipv6-correct-abnf-2-colons": request("OPTIONS", uri="sip:shuttle@[2001:db8::192.0.2.66]", cut=VIA6),
    # More of the same kind
    "comma-in-display-name": request("OPTIONS", cut={"To": "Mill, The <sip:shuttle@mill.example>"}),
    "bare-line-feeds": request("OPTIONS", "X: a\nb: c"),
    "escaped-method": request("INV%49TE"),
    "contact-with-route": invite("Contact: <sip:weaver@192.0.2.66?Route=%3Csip:192.0.2.77%3E&X-Evil=1>"),
    "names-of-one-letter": raw(
        "INVITE sip:shuttle@192.0.2.1 SIP/2.0", "v: SIP/2.0/UDP 192.0.2.66;branch=z9hG4bK-weft", "k: timer",
        "f: <sip:weaver@mill.example>;tag=warp", "t: <sip:shuttle@mill.example>", "i: heddle", "CSeq: 21 INVITE",
        "m: <sip:weaver@192.0.2.66>", "c: application/sdp", "e: identity", "s: cloth", f"l: {len(OFFER)}", body=OFFER,
    ),
    "header-named-like-one": invite("Too: <sip:a@b>", "From-: <sip:c@d>", "X-Call-ID: other", "Content-Length-: 3"),
}  # fmt: skip
