"""SIPp scenarios, put together from steps: what is sent, and what must come back, in this order.

Brackets are SIPp's own keywords. The INVITE has a branch of its own that CANCEL and the ACK of a refusal repeat (RFC
3261 sections 9.1 and 17.1.1.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aivc.config.settings import Codec

PAYLOAD_TYPES: dict[Codec, int] = {"PCMU": 0, "PCMA": 8}
TELEPHONE_EVENT = 101
INVITE_BRANCH = "z9hG4bK-[pid]-[call_number]-invite"
IN_DIALOG = "[next_url]"
OUT_OF_DIALOG = "sip:[service]@[remote_ip]:[remote_port]"


def scenario(*steps: str) -> str:
    return '<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="aivc">\n' + "".join(steps) + "</scenario>\n"


def request(
    method: str,
    sequence: int,
    *,
    uri: str,
    to: str,
    branch: str = "[branch]",
    body: str = "",
    content_type: str = "application/sdp",
    fields: Sequence[str] = (),
    repeat: bool = True,
) -> str:
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch};rport",
        "From: <sip:sipp@[local_ip]:[local_port]>;tag=[pid]t[call_number]",
        to,
        "Call-ID: [call_id]",
        f"CSeq: {sequence} {method}",
        "Contact: <sip:sipp@[local_ip]:[local_port]>",
        "Max-Forwards: 70",
        *fields,
        *([f"Content-Type: {content_type}"] if body else []),
        "Content-Length: [len]",
    ]
    attributes = ' retrans="500"' if repeat else ""
    return f"<send{attributes}><![CDATA[\n" + "\n".join(lines) + f"\n\n{body}]]></send>\n"


def invite(offer: str) -> str:
    return request("INVITE", 1, uri=OUT_OF_DIALOG, to=f"To: <{OUT_OF_DIALOG}>", branch=INVITE_BRANCH, body=offer)


def offer_of(*codecs: tuple[int, str]) -> str:
    """An SDP offer of these payload types and encodings."""
    formats = " ".join(str(payload_type) for payload_type, _ in codecs)
    return (
        "v=0\no=- 1 1 IN IP[media_ip_type] [media_ip]\ns=-\nc=IN IP[media_ip_type] [media_ip]\nt=0 0\n"
        f"m=audio [rtpstream_audio_port] RTP/AVP {formats}\n"
    ) + "".join(f"a=rtpmap:{payload_type} {encoding}/8000\n" for payload_type, encoding in codecs)


def offer(codec: Codec) -> str:
    return offer_of((PAYLOAD_TYPES[codec], codec))


def in_dialog(method: str, sequence: int) -> str:
    """A request in the dialog that the last response belongs to; only ACK is never repeated."""
    return request(method, sequence, uri=IN_DIALOG, to="[last_To:]", repeat=method != "ACK")


def of_dialog(method: str, sequence: int, body: str = "", content_type: str = "", *fields: str) -> str:
    """The same, also after a request of the other side: it names the other side by its tag alone."""
    to = f"To: <{OUT_OF_DIALOG}>[peer_tag_param]"
    return request(method, sequence, uri=IN_DIALOG, to=to, body=body, content_type=content_type, fields=fields)


def notify(sequence: int, status_line: str, state: str) -> str:
    """NOTIFY of a transfer, RFC 3515 section 2.4.4."""
    fields = ("Event: refer", f"Subscription-State: {state}")
    return of_dialog("NOTIFY", sequence, f"SIP/2.0 {status_line}\n", "message/sipfrag;version=2.0", *fields)


def info_key(sequence: int, key: str) -> str:
    """A key, told by INFO."""
    return of_dialog("INFO", sequence, f"Signal= {key}\nDuration= 160\n", "application/dtmf-relay")


def reinvite(sequence: int, codec: Codec, direction: str) -> str:
    """Offer the same media in another direction, and acknowledge the answer."""
    body = f"{offer(codec)}a={direction}\n"
    asked = request("INVITE", sequence, uri=IN_DIALOG, to="[last_To:]", body=body)
    return asked + expect_answer() + in_dialog("ACK", sequence)


def without_dialog(method: str, to_tag: str = "") -> str:
    to = f"To: <{OUT_OF_DIALOG}>" + (f";tag={to_tag}" if to_tag else "")
    return request(method, 1, uri=OUT_OF_DIALOG, to=to)


def cancel() -> str:
    return request("CANCEL", 1, uri=OUT_OF_DIALOG, to=f"To: <{OUT_OF_DIALOG}>", branch=INVITE_BRANCH)


def ack_of_refusal() -> str:
    return request("ACK", 1, uri=OUT_OF_DIALOG, to="[last_To:]", branch=INVITE_BRANCH, repeat=False)


def expect(status: int, **headers: str) -> str:
    """This response must come, with headers that match these regular expressions; `_` stands for `-` in a name."""
    return received(f'response="{status}"', headers)


def expect_answer() -> str:
    """The 200 to an INVITE must come; its Contact and its routes are those of the dialog from now on.

    Of other responses they are not asked for: SIPp from 3.7 on fails at one that has no Contact.
    """
    return received('response="200" rrs="true"', {})


def expect_request(method: str, status_line: str | None = "200 OK", **headers: str) -> str:
    """This request of the other side must come, with such headers; it is answered so, or not at all."""
    copied = "\n".join(f"[last_{name}:]" for name in ("Via", "From", "To", "Call-ID", "CSeq"))
    answer = f"<send><![CDATA[\nSIP/2.0 {status_line}\n{copied}\nContent-Length: 0\n\n]]></send>\n"
    return received(f'request="{method}"', headers) + (answer if status_line else "")


def received(what: str, headers: Mapping[str, str]) -> str:
    checks = "".join(
        f'<ereg regexp="{pattern}" search_in="hdr" header="{name.replace("_", "-")}:" check_it="true" assign_to="{n}"/>'
        for n, (name, pattern) in enumerate(headers.items(), 1)
    )
    variables = ",".join(str(n) for n in range(1, len(headers) + 1))
    reference = f'<Reference variables="{variables}"/>\n' if headers else ""  # else SIPp complains of unused variables
    return f"<recv {what}><action>{checks}</action></recv>\n{reference}"


def speak(file: Path, codec: Codec) -> str:
    """Send raw G.711 octets as RTP, once."""
    return f'<nop><action><exec rtp_stream="{file},1,{PAYLOAD_TYPES[codec]}"/></action></nop>\n'


def pause(seconds: float) -> str:
    return f'<pause milliseconds="{round(seconds * 1000)}"/>\n'


def answered(codec: Codec, *, keys: bool = False) -> str:
    """From the INVITE to the ACK; `keys`: it takes RFC 4733 events as well."""
    codecs = [(PAYLOAD_TYPES[codec], codec), *([(TELEPHONE_EVENT, "telephone-event")] if keys else [])]
    return invite(offer_of(*codecs)) + expect(100) + expect(180) + expect_answer() + in_dialog("ACK", 1)


def reply(status_line: str, body: str = "") -> str:
    """Answer the last request of a call that came to us."""
    lines = [
        f"SIP/2.0 {status_line}",
        *(f"[last_{name}:]" for name in ("Via", "Record-Route", "From")),
        "[last_To:];tag=[pid]t[call_number]",
        "[last_Call-ID:]",
        "[last_CSeq:]",
        "Contact: <sip:target@[local_ip]:[local_port]>",
        *(["Content-Type: application/sdp"] if body else []),
        "Content-Length: [len]",
    ]
    return "<send><![CDATA[\n" + "\n".join(lines) + f"\n\n{body}]]></send>\n"


def answering(codec: Codec) -> str:
    """Be called, answer, and wait for the caller to hang up."""
    called = received('request="INVITE"', {}) + reply("180 Ringing") + reply("200 OK", offer(codec))
    return called + received('request="ACK"', {}) + expect_request("BYE")


def refusing(status_line: str) -> str:
    """Be called, and refuse."""
    return received('request="INVITE"', {}) + reply(status_line) + received('request="ACK"', {})
