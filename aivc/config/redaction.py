"""Secrets in a text, wherever they come from: keys, tokens and digest responses."""

from __future__ import annotations

import re

HIDDEN = "***"
# Each pattern is linear: no repetition stands inside or directly before another one over the same characters.
SECRETS = (
    re.compile(r"((?:proxy-)?authorization[\"']?\s*[:=])[^\r\n]+", re.IGNORECASE),
    re.compile(r"(\bbearer\s)\s*\S+", re.IGNORECASE),
    re.compile(r"(api[-_]?key[\"']?\s*[:=]\s?[\"']?)[^\s\"',;}]+", re.IGNORECASE),
    re.compile(r"((?<![A-Za-z0-9])sk-)[A-Za-z0-9_*-]{6,}"),
    re.compile(r"((?<![A-Za-z0-9])ek_)[A-Za-z0-9_-]{6,}"),  # client secrets, which last minutes
    re.compile(r"(openai-insecure-api-key\.)[^\s\"',]+"),  # the key as a WebSocket sub-protocol
    re.compile(r"(\bresponse\s?=\s?\"?)[0-9a-f]{16,}", re.IGNORECASE),  # digest, RFC 7616
)


def redacted(text: str) -> str:
    """The text with keys, tokens and digest responses hidden."""
    for pattern in SECRETS:
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return text


def redacted_in_place(text: str) -> str:
    """The same with asterisks, so that the length stays: of a SIP message, which tells it. Not header fields."""
    for pattern in SECRETS[1:]:
        text = pattern.sub(lambda found: found[1] + "*" * (len(found[0]) - len(found[1])), text)
    return text
