"""What a recording may not show is not in it, and what it has instead still makes a call."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aivc.config.secret import Secret
from aivc.config.settings import HttpTool, McpServer, OpenAISettings, Settings, SipSettings, SipUser, ToolsSettings
from aivc.flight.audio import append_without, digest_of
from aivc.flight.describing import described, secrets_of
from aivc.flight.entries import (
    Datagram,
    Entry,
    Header,
    MiMessage,
    RealtimeEvent,
    RealtimeLine,
    RtpPacket,
    SipMessage,
    StateChange,
    ToolEntry,
)
from aivc.flight.flightfile import read_untrusted
from aivc.flight.masking import Masking
from aivc.flight.pseudonyms import Pseudonyms
from aivc.flight.recording import Recording
from aivc.flight.sdes import with_texts
from aivc.flight.tape import Tape
from aivc.media.rtcp import Description, build
from aivc.sip.message import Request, parse_untrusted

PEER: Final = ("192.0.2.1", 5060)
KEY: Final = b"k" * 32
NUMBER: Final = "4930123456"
INVITE: Final = (
    "INVITE sip:+{callee}@192.0.2.9:5060;user=phone SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK776asdhds;rport\r\n"
    'From: "Alice {caller}" <sip:+{caller}@192.0.2.1>;tag=1928301774\r\n'
    "To: Support Desk <sip:+{callee}@192.0.2.9>\r\n"
    "Call-ID: {caller}-a84b4c76@192.0.2.1\r\n"
    "CSeq: 1 INVITE\r\n"
    "Contact: <sip:+{caller}@192.0.2.1:5060;transport=udp>\r\n"
    "P-Asserted-Identity: <sip:+{caller}@example.com>, <tel:+{caller}>\r\n"
    'Authorization: Digest username="{caller}", realm="aivc", nonce="abc",\r\n'
    '  response="6629fae49393a05397450978507c4ef1"\r\n'
    "X-Customer: account {account}\r\n"
    "X-Api-Key: {secret}\r\n"
    "X-Queue: national 0{national}\r\n"
    "Content-Type: application/sdp\r\n"
    "Content-Length: 146\r\n"
    "\r\n"
    "v=0\r\no={caller} 1 1 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 5004 RTP/SAVP 0\r\n"
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{sdes}|2^20\r\n"
)


def invite(caller: str = NUMBER, callee: str = "4989654321", account: str = "7700123", secret: str = "hush") -> str:
    sdes = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"
    return INVITE.format(caller=caller, callee=callee, account=account, secret=secret, sdes=sdes, national=caller[2:])


def masking(*masked: str, secrets: Iterable[str] = (), learned: Iterable[str] = (), instructions: str = "") -> Masking:
    made = Masking(masked, tuple(secrets), Pseudonyms(KEY), instructions)
    for text in learned:
        made.learn(SipMessage(0.0, "in", "UDP", PEER, PEER, text))
    return made


def sip(text: str) -> SipMessage:
    return SipMessage(0.0, "in", "UDP", PEER, PEER, text)


# Numbers


def test_every_place_of_a_number_has_the_same_other_number_of_the_same_length() -> None:
    mask = masking("numbers", learned=[invite()])
    text = mask.sip(invite())
    assert NUMBER not in text
    assert len(text.partition("\r\n\r\n")[2]) == len(invite().partition("\r\n\r\n")[2])  # Content-Length still fits
    other = mask.pseudonyms.number(NUMBER)
    assert (other.isdigit(), len(other)) == (True, 10)
    assert text.count(other) == invite().count(NUMBER) - 1  # that of the credentials is gone altogether
    assert mask.sip(text.replace("INVITE", "ACK")) is not None


def test_a_masked_message_can_be_read_as_the_true_one_can() -> None:
    mask = masking("numbers", learned=[invite()])
    true, other = parse_untrusted(invite().encode()), parse_untrusted(mask.sip(invite()).encode())
    assert isinstance(true, Request)
    assert isinstance(other, Request)
    assert other.via == true.via
    assert (other.sender.tag, other.cseq) == (true.sender.tag, true.cseq)
    assert str(other.uri).replace(mask.pseudonyms.number("4989654321"), "4989654321") == str(true.uri)
    assert len(other.body) == len(true.body)


def test_a_number_is_found_in_national_form_and_with_a_prefix_and_in_all_other_text() -> None:
    mask = masking("numbers", learned=[invite()])
    for text in (f"call 0{NUMBER[2:]} back", f"00{NUMBER}", f"number={NUMBER};", f"x{NUMBER}y"):
        assert NUMBER[-7:] not in mask.text(text)
        assert len(mask.text(text)) == len(text)
    assert mask.text("5060 and 20260301") == "5060 and 20260301"


def test_an_extension_is_found_outside_of_sip_where_it_can_be_no_port() -> None:
    message = "OPTIONS sip:5060@192.0.2.9:5060 SIP/2.0\r\nFrom: <sip:bob@h>\r\n\r\n"
    mask = masking("numbers", learned=[message])
    assert mask.sip(message).count("5060") == 1
    assert ":5060 SIP/2.0" in mask.sip(message)
    assert "5060" not in mask.text("extension 5060")
    assert "bob" not in mask.text("sip:bob@example.com")


def test_names_that_are_shown_become_others() -> None:
    text = masking("numbers").sip('From: "Alice \\"A\\" M\u00fcller" <sip:a@h>\r\nTo: Bob Smith <sip:b@h>\r\n\r\n')
    for name in ("Alice", "ller", "\u00fc", "Bob", "Smith"):
        assert name not in text


def test_different_numbers_stay_different() -> None:
    made = Pseudonyms(KEY)
    numbers = [f"{number:04}" for number in range(2000)]
    assert len({made.number(number) for number in numbers}) == 2000


def test_another_recording_has_other_numbers() -> None:
    assert Pseudonyms(KEY).number(NUMBER) != Pseudonyms(b"l" * 32).number(NUMBER)


def test_numbers_stay_unless_they_are_to_be_masked() -> None:
    text = masking("transcripts").sip(invite())
    assert text.count(NUMBER) == invite().count(NUMBER) - 1
    assert 'From: "Alice 4930123456" <sip:+4930123456@192.0.2.1>;tag=1928301774' in text


def test_rtcp_names_nobody() -> None:
    compound = build((Description(7, "alice@192.0.2.1"),))
    masked = masking("numbers").entry(Datagram(0.0, "in", PEER, True, compound))
    assert isinstance(masked, Datagram)
    assert b"alice" not in masked.data
    assert len(masked.data) == len(compound)
    assert masking().entry(Datagram(0.0, "in", PEER, True, compound)) == Datagram(0.0, "in", PEER, True, compound)


@given(st.binary(max_size=200))
def test_rubbish_on_the_port_of_rtcp_keeps_its_length(data: bytes) -> None:
    for octets in (data, b"\x81\xca" + data):
        assert len(with_texts(octets, lambda text: b"x" * len(text))) == len(octets)


# Secrets


def test_secrets_are_masked_always() -> None:
    text = masking().sip(invite(secret="hush-hush"))
    assert "Authorization: ***\r\nX-Customer" in text
    for secret in ("6629fae4", "d0RmdmcmVCsp", "hush-hush"):
        assert secret not in text
    assert f"inline:{'A' * 40}|2^20" in text


@pytest.mark.parametrize(
    "text",
    [
        "sip:alice:hunter2@example.com",
        "Bearer hunter2hunter2",
        "api_key=hunter2",
        "Proxy-Authorization: Digest hunter2",
        "wrong key sk-hunter2hunter2",
        '{"authorization": "hunter2"}',
        "the key is hunter2",
    ],
)
def test_a_secret_is_found_in_any_text(text: str) -> None:
    mask = masking(secrets=["hunter2"])
    for entry in (
        StateChange(0.0, "error", text),
        RealtimeLine(0.0, 1, "refused", text),
        RealtimeEvent(0.0, "in", 1, json.dumps({"type": "error", "error": {"message": text}})),
        RealtimeEvent(0.0, "in", 1, text),
        ToolEntry(0.0, "c", "n", "called", text),
        MiMessage(0.0, "in", "event", json.dumps({"params": {"headers": f"{text}\r\nX: y\r\n"}})),
        sip(f"OPTIONS x SIP/2.0\r\n{text}\r\n\r\n"),
    ):
        assert "hunter2" not in repr(mask.entry(entry))


def test_an_mcp_servers_token_is_not_in_the_session() -> None:
    text = json.dumps({"session": {"tools": [{"type": "mcp", "authorization": "anything"}], "client_secret": {"a": 1}}})
    masked = masking().event(text)
    assert "anything" not in masked
    assert json.loads(masked)["session"]["client_secret"] == "***"


SECRETS: Final = Settings(
    openai=OpenAISettings(key=Secret("sk-abcdefghijkl"), url="wss://u:pw@example.com/v1?token=tttt", instructions="Hi"),
    sip=SipSettings(users=(SipUser(name="200", password=Secret("pa55word")),)),
    tools=ToolsSettings(
        http=(HttpTool(name="a", description="b", url="https://example.com", headers={"X-Key": Secret("hhhhhh")}),),
        mcp=(McpServer(server_label="a", server_url="https://example.com/?key=kkkk", authorization=Secret("mmmm")),),
    ),
)


def test_the_settings_are_there_without_their_secrets() -> None:
    found = described(SECRETS)
    assert found["openai"]["instructions"] == "Hi"
    assert found["tools"]["mcp"][0]["server_label"] == "a"
    for secret in ("sk-abc", "pw", "tttt", "pa55", "hhhh", "kkkk", "mmmm"):
        assert secret not in json.dumps(found)
    assert sorted(secrets_of(SECRETS)) == ["hhhhhh", "mmmm", "pa55word", "sk-abcdefghijkl"]


# Transcripts

SAID: Final = "my dog is called Rex"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.output_audio_transcript.delta", "delta": SAID},
        {"type": "response.output_audio_transcript.done", "transcript": SAID},
        {"type": "conversation.item.input_audio_transcription.completed", "transcript": SAID, "logprobs": [SAID]},
        {"type": "conversation.item.create", "item": {"content": [{"type": "input_text", "text": SAID}]}},
        {"type": "conversation.item.create", "item": {"type": "function_call_output", "output": SAID}},
        {"type": "response.done", "response": {"output": [{"arguments": json.dumps({"name": SAID, "age": 77})}]}},
        {"type": "response.create", "response": {"instructions": f"Say: {SAID}"}},
    ],
)
def test_what_was_said_is_in_no_event(event: dict[str, object]) -> None:
    masked = masking("transcripts").event(json.dumps(event))
    for word in ("dog", "Rex", "77"):
        assert word not in masked
    assert json.loads(masked)["type"] == event["type"]
    assert json.loads(masking("numbers").event(json.dumps(event))) == event


def test_arguments_stay_an_object_with_the_same_members() -> None:
    event = {"arguments": '{"number": "12", "times": 3, "list": ["a"], "sure": true, "none": null}'}
    masked = json.loads(masking("transcripts").event(json.dumps(event)))
    assert json.loads(masked["arguments"]) == {"number": "**", "times": 0, "list": ["*"], "sure": True, "none": None}


def test_what_an_agent_is_told_at_the_beginning_was_not_said() -> None:
    mask, event = masking("transcripts", instructions="Be kind."), {"session": {"instructions": "Be kind."}}
    assert json.loads(mask.event(json.dumps(event))) == event


def test_audio_is_no_transcript() -> None:
    for text in (
        append_without(digest_of(b"abc"), 3),
        '{"type":"response.output_audio.delta","delta":"QUJD"}',
        '{"type":"response.output_audio.delta","delta":{"digest":"0123456789abcdef","octets":3}}',
    ):
        assert masking("transcripts", "numbers").event(text) == text


def test_tools_neither_tell_what_they_were_given_nor_what_they_found() -> None:
    for what, text in (("called", '{"name": "Rex"}'), ("returned", "Rex")):
        entry = ToolEntry(0.0, "c", "n", "called" if what == "called" else "returned", text)
        assert "Rex" not in repr(masking("transcripts").entry(entry))
        assert masking("numbers").entry(entry) == entry


@pytest.mark.parametrize(
    ("kind", "body", "masked"),
    [
        ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", "Signal=0\r\nDuration=160\r\n"),
        ("application/dtmf-relay", "Signal= *\r\n", "Signal= 0\r\n"),
        ("application/dtmf", "7", "0"),
    ],
)
def test_keys_that_the_caller_presses_are_words(kind: str, body: str, masked: str) -> None:
    info = f"INFO sip:a@h SIP/2.0\r\nContent-Type: {kind}\r\n\r\n"
    assert masking("transcripts").sip(info + body) == info + masked
    assert masking("numbers").sip(info + body).endswith(body)
    packet = RtpPacket(
        0.0, "in", PEER, 101, False, 1, 2, 3, 4, digest_of(b"\x05\x0a\x00\xa0"), False, b"\x05\x0a\x00\xa0"
    )
    hidden = masking("transcripts").entry(packet)
    assert isinstance(hidden, RtpPacket)
    assert (hidden.digest, hidden.payload) == ("0" * 16, None)
    assert masking("numbers").entry(packet) == packet


# Nothing leaks

digits = st.text("0123456789", min_size=7, max_size=13)
secret_words = st.text("ghijklmnopqrstuvwxyz_-", min_size=12, max_size=20)


@settings(max_examples=40)
@given(caller=digits, callee=digits, account=digits, secret=secret_words, said=secret_words)
def test_no_number_secret_or_word_of_a_call_is_in_what_is_written(
    caller: str, callee: str, account: str, secret: str, said: str
) -> None:
    tape = Tape("call", 0.0, 2**20)
    message = invite(caller, callee, account, secret)
    headers = message.partition("\r\n\r\n")[0].partition("\r\n")[2]
    entries: list[Entry] = [
        sip(message),
        MiMessage(0.0, "in", "event", json.dumps({"method": "E", "params": {"key": caller, "headers": headers}})),
        MiMessage(0.0, "out", "command", json.dumps({"params": {"ruri": f"sip:{callee}@h", "body": f"tel:{account}"}})),
        RealtimeEvent(0.0, "out", 1, json.dumps({"session": {"instructions": f"{said} {caller} {secret}"}})),
        RealtimeEvent(0.0, "in", 1, json.dumps({"type": "x", "delta": said, "item": {"name": caller}})),
        RealtimeEvent(0.0, "in", 1, f"no JSON {said} {caller} {secret}"),
        RealtimeLine(0.0, 1, "refused", f"{secret} {caller}"),
        ToolEntry(0.0, "call_1", "ask", "called", json.dumps({"q": said, caller: [callee]})),
        ToolEntry(0.0, "call_1", "ask", "returned", f"{said} {caller} {secret}"),
        StateChange(0.0, "over", f"00{caller} {secret}"),
        Datagram(0.0, "in", PEER, True, build((Description(7, f"{caller}@h"),))),
        Datagram(0.0, "in", PEER, False, f"rubbish {caller}".encode()),
    ]
    for entry in entries:
        tape.note(entry)
    header = Header(
        "aivc",
        "3.11",
        f"{caller}-a84b4c76@192.0.2.1",
        0.0,
        "sip",
        callee,
        None,
        {"openai": {"instructions": f"{caller} {secret}", "transfer_targets": {f"sip:{callee}@h": account}}},
        None,
        "hash",
        ("numbers", "transcripts"),
    )
    record = {"caller": f"sip:{caller}@h", "dialled": callee, "headers": {"X-Customer": account}, "detail": secret}
    mask = Masking(("numbers", "transcripts"), (secret,), Pseudonyms(KEY))
    recording = Recording.of(tape, header, record, mask)
    data = b"".join(recording.lines())
    assume(not any(number in "1928301774" or number in "0" * 40 for number in (caller, callee, account)))
    text = data.decode()
    for hidden in (caller, callee, account, secret, said):
        assert hidden not in text
    flight = read_untrusted(data)
    assert [type(entry) for entry in flight.entries] == [type(entry) for entry in entries]
    first = flight.entries[0]
    assert isinstance(first, SipMessage)
    assert f"Call-ID: {flight.header.call_id}\r\n" in first.text
    assert flight.record is not None
    assert f"sip:+{flight.record['dialled']}@" in first.text
