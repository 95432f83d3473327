"""What a recording may not show, masked: secrets always, numbers and what was said if the settings say so.

Nothing is left out, and lengths stay: a SIP message with other numbers is still a SIP message, the same number is
still the same in each of them, and a replay of the masked call goes the way that the call went.

- Secrets: credentials in SIP, keys of SDES (replaced by zeros), passwords in URIs, bearer tokens, and whatever the
  settings name as a secret.
- "numbers": user parts and display names become others (`pseudonyms.py`), and numbers of at least four digits in them
  are found in all other text, too; in SIP messages from seven digits on, as a port may have fewer.
- "transcripts": what was said, and arguments and outputs of tools, become asterisks; pressed keys zeros.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Final, Literal, assert_never

import attrs

from aivc.config.effective import without_secrets
from aivc.config.redaction import redacted, redacted_in_place
from aivc.flight.entries import (
    Datagram,
    Entry,
    MiMessage,
    RealtimeEvent,
    RealtimeLine,
    RtpPacket,
    SipMessage,
    StateChange,
    ToolEntry,
)
from aivc.flight.pseudonyms import LONG, Pseudonyms
from aivc.flight.sdes import with_texts

SHORTEST_SECRET: Final = 4  # characters; a shorter one would be found everywhere, and protects nothing
EVENT_OCTETS: Final = 16  # of payload, at most, in a packet of RFC 4733; G.711 has 80 and more
NO_DIGEST: Final = "0" * 16

# Hostile peers write messages of 64 KB, and an expression holds Python's lock until it is through. So each is linear:
# what is read from one beginning ends at the next one, and is given back by none (possessive).
USER: Final = re.compile(  # RFC 3261 section 25.1; a comma followed by another URI ends a list's element
    r"\b(sips?:)((?:[^@<>\s\"\\:,]|,(?!\s*sips?:)){1,256}+)(:(?:(?!\bsips?:)[^@<>\s\"\\,]){0,256}+)?@", re.IGNORECASE
)
TELEPHONE: Final = re.compile(r"\b(tel:)([^@<>\s\"\\:,;?]{1,256})", re.IGNORECASE)  # RFC 3966
QUOTED_NAME: Final = re.compile(
    r"(?<!\\)\"((?:[^\"\\\r\n]|\\[^\r\n]){1,256}+)\"(?=\s*(?:<|sips?:|tel:))", re.IGNORECASE
)
BARE_NAME: Final = re.compile(  # of a header field, also when it is folded, and of other elements of a list
    r"([:,]|^[ \t])([^\"<\r\n:;,]{1,256}+)(?=<(?:sips?|tel):)", re.IGNORECASE | re.MULTILINE
)
OTHER_FIELDS: Final = re.compile(  # that say what their makers like
    r"^(?:[xp]-[a-z0-9-]{1,80}|subject|s|call-info|organization|user-to-user)[ \t]*:([^\r\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
CREDENTIALS: Final = re.compile(
    r"^((?:proxy-)?auth(?:orization|entication-info)|[a-z0-9-]{0,40}(?:api-?key|token|secret|password))([ \t]*:[ \t]*)"
    r"[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*",
    re.IGNORECASE | re.MULTILINE,
)
PASSPORT: Final = re.compile(  # RFC 8224: the numbers of both, in base64, and signed
    r"^((?:identity|y)[ \t]*:[ \t]*)[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*", re.IGNORECASE | re.MULTILINE
)
ORIGIN: Final = re.compile(r"^(o=)(\S{1,256}+)(?= )", re.MULTILINE)  # a user name, RFC 8866 section 5.2
REACHED_AT: Final = re.compile(r"^([ep]=)([^\r\n]{1,256})", re.MULTILINE)  # whom to write to, or to call
SDES_KEY: Final = re.compile(r"(\binline:)([A-Za-z0-9+/=]+)")  # RFC 4568 section 6.1
SDP_KEY: Final = re.compile(  # RFC 4566 section 5.12, RFC 4567, RFC 8839
    r"^(k=[a-z0-9]+:|a=key-mgmt:[a-z0-9]+ |a=ice-pwd:)([^\r\n]+)", re.IGNORECASE | re.MULTILINE
)
SIGNAL: Final = re.compile(r"^(signal[ \t]*=[ \t]*)([0-9a-d*#]+)", re.IGNORECASE | re.MULTILINE)  # dtmf-relay
BARE_SIGNAL: Final = re.compile(r"(?<=\r\n\r\n)[0-9A-Da-d*#]{1,2}(?=\s*\Z)")  # application/dtmf
BODY_SIGNAL: Final = re.compile(r"\A[0-9A-Da-d*#]{1,2}(?=\s*\Z)")  # without the header before it

SUSPECT: Final = re.compile(  # texts are many, and few have anything that `redacted` or a number's pattern would find
    r"authorization|bearer|api[-_]?key|sk-|ek_|openai-insecure|response|sips?:|tel:|[0-9]{4}", re.IGNORECASE
)
SAID: Final = frozenset(  # of Realtime events
    {"transcript", "text", "arguments", "output", "delta", "error_message", "refusal"}
)
SIP_MEMBERS: Final = frozenset({"headers", "extra_headers", "body"})  # of what OpenSIPS and we say to each other
AUDIO_DELTAS: Final = ("response.audio.delta", "response.output_audio.delta")
SECRET_MEMBERS: Final = frozenset({"authorization", "api_key", "client_secret", "password", "secret", "token"})

Kind = Literal["plain", "said", "wire"]  # what a JSON text is: settings and records, a Realtime event, or for OpenSIPS


@attrs.define(eq=False)
class Masking:
    """Masks one recording. Give it all SIP and MI messages first (`learn`), so that it knows the numbers.

    Args:
      masked: of "numbers", "transcripts".
      secrets: those that the settings have.
      instructions: of the settings: what an agent is told at the beginning is nothing that was said.
    """

    masked: Collection[str]
    secrets: Collection[str]
    pseudonyms: Pseudonyms
    instructions: str = ""
    _secret: re.Pattern[str] | None = attrs.field(default=None, init=False)
    _hides_numbers: bool = attrs.field(init=False)
    _hides_words: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        known = sorted((secret for secret in self.secrets if len(secret) >= SHORTEST_SECRET), key=len, reverse=True)
        if known:
            self._secret = re.compile("|".join(map(re.escape, known)))
        self._hides_numbers, self._hides_words = "numbers" in self.masked, "transcripts" in self.masked

    # Numbers

    def learn(self, entry: Entry) -> None:
        """Find the numbers of the call."""
        if self._hides_numbers:
            if isinstance(entry, SipMessage):
                self.learn_text(entry.text)
            elif isinstance(entry, MiMessage):
                for text in strings_of(parsed(entry.text)):
                    self.learn_text(text)

    def learn_text(self, text: str) -> None:
        """The numbers in URIs, display names and the fields that say what their makers like."""
        for pattern in (USER, TELEPHONE, BARE_NAME, ORIGIN, REACHED_AT):
            for found in pattern.finditer(text):
                self.pseudonyms.learn(found[2])
        for pattern in (QUOTED_NAME, OTHER_FIELDS):
            for found in pattern.finditer(text):
                self.pseudonyms.learn(found[1])

    # Entries

    def entry(self, entry: Entry) -> Entry:
        """The entry as it may be written."""
        match entry:
            case RtpPacket():
                return self._packet(entry)
            case RealtimeEvent():
                return attrs.evolve(entry, text=self.event(entry.text))
            case SipMessage():
                return attrs.evolve(entry, text=self.sip(entry.text))
            case MiMessage():
                return attrs.evolve(entry, text=self._json(entry.text, "wire"))
            case ToolEntry():
                return attrs.evolve(entry, text=self.text(starred(entry.text) if self._hides_words else entry.text))
            case Datagram():
                return attrs.evolve(entry, data=self._octets(entry.data))
            case StateChange(what="error", detail=detail) if self._hides_words and detail.startswith("tool."):
                event, kind, said = (*detail.split(": ", 2), "", "")[:3]
                return attrs.evolve(entry, detail=f"{event}: {kind}: {'*' * len(said)}" if said else self.text(detail))
            case StateChange() | RealtimeLine():
                return attrs.evolve(entry, detail=self.text(entry.detail))
            case _:
                assert_never(entry)

    def text(self, text: str) -> str:
        """Any text of people's or programs'."""
        if SUSPECT.search(text) is None:
            return self._without_secrets(text)
        return self._without_numbers(self._without_secrets(redacted(text)), shortest=0)

    def sip(self, text: str) -> str:
        """A SIP message, or its header."""
        text = CREDENTIALS.sub(r"\1\2***", text)
        text = SDES_KEY.sub(lambda found: found[1] + "A" * len(found[2]), text)
        text = SDP_KEY.sub(lambda found: found[1] + "*" * len(found[2]), text)
        text = self._without_secrets(redacted_in_place(text))
        if self._hides_words:
            text = SIGNAL.sub(lambda found: found[1] + "0" * len(found[2]), text)
            text = BARE_SIGNAL.sub(lambda found: "0" * len(found[0]), text)
        return self._without_numbers(text, shortest=LONG)

    def name(self, user: str) -> str:
        """A user part that stands by itself."""
        return self.pseudonyms.name(user) if self._hides_numbers else user

    def event(self, text: str) -> str:
        """A Realtime event."""
        return self._json(text, "said")

    def tree(self, value: Any) -> Any:
        """What JSON can say, with every text masked."""
        return self._masked(value, "plain")

    def _packet(self, packet: RtpPacket) -> RtpPacket:
        if self._hides_words and packet.octets <= EVENT_OCTETS:  # four octets can be guessed from their digest
            return attrs.evolve(packet, digest=NO_DIGEST, payload=None)
        return packet

    def _octets(self, data: bytes) -> bytes:
        """RTCP names its sender (RFC 3550 section 6.5)."""
        if not self._hides_numbers:
            return data
        named = with_texts(data, lambda text: self.pseudonyms.name(text.decode("latin-1")).encode("latin-1"))
        return self.pseudonyms.numbers_in(named.decode("latin-1")).encode("latin-1")

    def _without_secrets(self, text: str) -> str:
        return text if self._secret is None else self._secret.sub(lambda found: "*" * len(found[0]), text)

    def _without_numbers(self, text: str, shortest: int) -> str:
        text = USER.sub(self._user, text)
        if not self._hides_numbers:
            return text
        text = TELEPHONE.sub(self._name, text)
        if shortest:  # a SIP message
            text = PASSPORT.sub(r"\1***", text)
            text = ORIGIN.sub(self._name, REACHED_AT.sub(self._name, text))
            text = QUOTED_NAME.sub(lambda found: f'"{self.pseudonyms.name(found[1])}"', text)
            text = BARE_NAME.sub(self._name, text)
            text = OTHER_FIELDS.sub(lambda found: self.pseudonyms.numbers_in(found[0]), text)
        return self.pseudonyms.numbers_in(text, shortest)

    def _name(self, found: re.Match[str]) -> str:
        return found[1] + self.pseudonyms.name(found[2])

    def _user(self, found: re.Match[str]) -> str:
        user = self.pseudonyms.name(found[2]) if self._hides_numbers else found[2]
        return f"{found[1]}{user}{':' + '*' * (len(found[3]) - 1) if found[3] else ''}@"

    # JSON

    def _json(self, text: str, kind: Kind) -> str:
        """A JSON text masked; as it was if that changes nothing."""
        value = parsed(text)
        if value is None:
            return "*" * len(text) if self._hides_words else self.text(text)
        made = self._masked(value, kind)
        return text if made == value else json.dumps(made, separators=(",", ":"))

    def _masked(self, value: Any, kind: Kind, key: str = "") -> Any:
        if key.lower().replace("-", "_") in SECRET_MEMBERS and isinstance(value, (str, dict)):
            return "***"
        match value:
            case str() if kind == "said" and self._hides_words and self._is_said(key, value):
                return starred(value)
            case str() if kind == "wire" and (key in SIP_MEMBERS or "\n" in value):
                return self.sip(self._without_key(value) if key == "body" else value)
            case str() if kind == "said" and key == "server_url":
                return self.text(without_secrets(value))
            case dict() if kind == "said" and key == "headers":
                return dict.fromkeys(value, "***")
            case str():
                return self.text(value)
            case list() if key == "logprobs" and self._hides_words:
                return []
            case list():
                return [self._masked(item, kind, key) for item in value]
            case dict():
                if kind == "said" and self._hides_words and value.get("type") == "mcp_call":
                    value = {name: starred_tree(item) if name == "error" else item for name, item in value.items()}
                keeps = "delta" if value.get("type") in AUDIO_DELTAS else ""
                return {
                    self.text(name) if kind == "plain" else name: item
                    if name == keeps
                    else self._masked(item, kind, name)
                    for name, item in value.items()
                }
            case _:
                return value

    def _without_key(self, body: str) -> str:
        return BODY_SIGNAL.sub(lambda found: "0" * len(found[0]), body) if self._hides_words else body

    def _is_said(self, key: str, value: str) -> bool:
        return key in SAID or (key == "instructions" and value != self.instructions)


def starred(text: str) -> str:
    """Asterisks instead; JSON stays JSON with the same members, so that it still fits a schema's types."""
    value = parsed(text)
    return json.dumps(starred_tree(value)) if isinstance(value, (dict, list)) else "*" * len(text)


def starred_tree(value: Any) -> Any:
    match value:
        case str():
            return "*" * len(value)
        case list():
            return [starred_tree(item) for item in value]
        case dict():
            return {key: starred_tree(item) for key, item in value.items()}
        case bool() | None:
            return value
        case _:
            return 0


def parsed(text: str) -> Any:
    """What a JSON text says; None for what is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def strings_of(value: Any) -> Iterator[str]:
    """Every text in it."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from strings_of(item)
        case dict():
            for item in value.values():
                yield from strings_of(item)
        case _:
            return
