"""Other numbers and names in the place of true ones: of the same length and kind, the same for the same, in one file.

The key is drawn anew for every recording and kept nowhere, so nobody can try all numbers until one fits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Final

import attrs

DIGITS: Final = "0123456789"
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
NUMBER: Final = re.compile(r"[0-9]{4,}")  # an extension has three or four; of three nobody can tell what they count
ESCAPED: Final = re.compile(r"%[0-9A-Fa-f]{2}")  # RFC 3261 section 25.1
LONG: Final = 7  # digits of a number that are no port, sequence number or status
TRIES: Final = 100  # for a pseudonym that is nobody's; of one or two digits they may run out


@attrs.define(eq=False)
class Pseudonyms:
    """Made by a keyed hash."""

    key: bytes = attrs.field(repr=False)
    known: set[str] = attrs.field(factory=set)  # numbers: runs of digits
    _tails: set[str] = attrs.field(factory=set, init=False)  # their last LONG digits
    _made: dict[str, str] = attrs.field(factory=dict, init=False)
    _taken: set[str] = attrs.field(factory=set, init=False)

    def learn(self, name: str) -> None:
        """The numbers in this are to be found wherever they stand."""
        for number in NUMBER.findall(ESCAPED.sub(".", name)):
            if number not in self.known:
                self.known.add(number)
                if len(number) >= LONG:
                    self._tails.add(number[-LONG:])

    def name(self, text: str) -> str:
        """In place of a user part or display name."""
        made, start = [], 0
        for number in NUMBER.finditer(text):
            made += [self._letters(text[start : number.start()]), self.number(number[0])]
            start = number.end()
        return "".join([*made, self._letters(text[start:])])

    def number(self, digits: str) -> str:
        """In place of a run of digits: neither one that is known, nor one that stands for another already."""
        return self._of(digits)

    def numbers_in(self, text: str, shortest: int = 0) -> str:
        """A text with the known numbers replaced, in national form or with a prefix, too; not those of fewer digits."""
        if not self.known:
            return text
        return NUMBER.sub(lambda found: self.number(found[0]) if self._is_one(found[0], shortest) else found[0], text)

    def _is_one(self, digits: str, shortest: int) -> bool:
        if len(digits) < max(shortest, LONG):
            return len(digits) >= shortest and digits in self.known
        # Any of its sevens, not any of the numbers: a message may have thousands of numbers.
        return any(digits[start : start + LONG] in self._tails for start in range(len(digits) - LONG + 1))

    def _letters(self, text: str) -> str:
        made, start = [], 0
        for escaped in ESCAPED.finditer(text):
            made += [self._of(text[start : escaped.start()]), escaped[0]]
            start = escaped.end()
        return "".join([*made, self._of(text[start:])])

    def _of(self, text: str) -> str:
        if not any(char.isalnum() or char > "~" for char in text):
            return text
        if text not in self._made:
            for attempt in range(TRIES):
                made = replaced(text, stream(self.key, f"{attempt} {text}"))
                if made != text and made not in self._taken and not self._is_one(made, 0):
                    break
            self._made[text] = made
            self._taken.add(made)
        return self._made[text]


def replaced(text: str, numbers: Iterator[int]) -> str:
    return "".join(stand_in(char, numbers) for char in text)


def stand_in(char: str, numbers: Iterator[int]) -> str:
    if char.isascii() and char.isdigit():
        return DIGITS[next(numbers) % 10]
    if char.isascii() and not char.isalpha():
        return char
    letter = LETTERS[next(numbers) % 26]
    return letter.upper() if char.isupper() else letter


def stream(key: bytes, text: str) -> Iterator[int]:
    """Numbers below 65536 without end."""
    block = 0
    while True:
        found = hashlib.blake2b(f"{block} {text}".encode("utf-8", "surrogatepass"), key=key).digest()
        yield from (int.from_bytes(found[index : index + 2], "big") for index in range(0, len(found), 2))
        block += 1
