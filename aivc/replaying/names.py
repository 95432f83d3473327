"""Names that are drawn at random in each run: learned from what is alike in both, replaced in what comes later.

A recorded caller's ACK bears the tag that we had drawn when the call was recorded. In the replay we have drawn another
one, and would not know the ACK as ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

WORDS = re.compile(r"([\w~%+]+)")  # of SIP, SDP and JSON-RPC: what is drawn is a word, or begins or ends one
# Hexadecimal digits as tokens, branches and JSON-RPC ids have, the number of an SDP session, or an id of our events.
DRAWN = re.compile(r"(?:z9hG4bK)?[0-9a-f]{12,}|\d{5,}|aivc-\d+", re.IGNORECASE)


def looks_drawn(word: str) -> bool:
    """Whether a word may be a random one."""
    return DRAWN.fullmatch(word) is not None


@attrs.define
class Names:
    """The pairs known so far."""

    _replayed: dict[str, str] = attrs.field(factory=dict)  # by recorded name
    _recorded: re.Pattern[str] | None = attrs.field(default=None, init=False)

    def learn(self, pairs: Mapping[str, str]) -> None:
        """Take over what `unified` has found."""
        new = {recorded: replayed for recorded, replayed in pairs.items() if recorded != replayed}
        if new:
            self._replayed.update(new)
            choices = "|".join(re.escape(name) for name in sorted(self._replayed, key=len, reverse=True))
            self._recorded = re.compile(rf"(?<![0-9A-Za-z])(?:{choices})(?![0-9A-Za-z])")

    def translated(self, text: str) -> str:
        """A recorded text with the names of this run."""
        return text if self._recorded is None else self._recorded.sub(self._of_this_run, text)

    def _of_this_run(self, found: re.Match[str]) -> str:
        return self._replayed[found[0]]


def unified(recorded: str, came: str) -> dict[str, str] | None:
    """What must be renamed for two texts to be equal; None when they differ in more than drawn names."""
    if recorded == came:
        return {}
    parts, other_parts = WORDS.split(recorded), WORDS.split(came)
    if len(parts) != len(other_parts):
        return None
    pairs: dict[str, str] = {}
    for word, other in zip(parts, other_parts, strict=True):
        if word == other:
            continue
        if not (looks_drawn(word) and looks_drawn(other)) or pairs.setdefault(word, other) != other:
            return None
    return pairs
