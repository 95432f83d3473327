"""Which calls: the patterns of an OpenSIPS AI Voice Connector CE as ours.

It compares the *beginning* of the dialled user, in lower case, with one expression for each flavor (`re.match`). Ours
compare all of the user as it was dialled, in linear time (`aivc.config.patterns`).
"""

from __future__ import annotations

import re
from typing import Final

from aivc.config.patterns import check, compiled

ATOMS: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)  # escapes and classes
ESCAPES: Final = re.compile(r"\\[^xuU]|\(\?P<\w+>", re.DOTALL)  # letters that stand for no letter
FLAGS: Final = re.compile(r"\(\?([aimsux]+)\)")
LISTED: Final = re.compile(r",(?![0-9]*\})")  # a comma that is not in {2,3}


def whole(expression: str) -> str:
    """A pattern of ours that takes the calls whose user begins with what the expression matches.

    Raises:
        ValueError: with what is wrong with the expression, or cannot be matched in linear time.
    """
    try:
        check(expression)
    except ValueError as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    leading = FLAGS.match(expression)
    flags = {*leading[1]} - {"m", "u"} if leading else set()  # of one line of text they make no difference
    if "x" in flags:
        raise ValueError("has the flag x, which ours do not know: write it without spaces and comments")
    body = expression[leading.end() :] if leading else expression
    if has_letters(body):
        flags.add("i")
    if has_branches(body):
        body = f"(?:{body}).*"
    elif not takes_the_rest(body):
        body = f"{body}.*"
    pattern = f"(?{''.join(sorted(flags))}){body}" if flags else body
    compiled(pattern)
    return pattern


def has_letters(body: str) -> bool:
    return any(char.isalpha() for char in ESCAPES.sub("", body))


def has_capitals(expression: str) -> bool:
    """Whether it has upper-case letters, which no user in lower case ever had."""
    return any(char.isupper() for char in ESCAPES.sub("", expression).replace("\\U", ""))


def looks_like_a_list(expression: str) -> bool:
    return LISTED.search(expression) is not None


def has_branches(body: str) -> bool:
    """Whether there is a `|` outside all groups: what is written behind would belong to the last branch only."""
    depth = 0
    for char in ATOMS.sub("", body):
        depth += (char == "(") - (char == ")")
        if char == "|" and depth == 0:
            return True
    return False


def takes_the_rest(body: str) -> bool:
    """Whether a match of the beginning is one of everything."""
    for end in (".*", ".+", "$"):
        before = body.removesuffix(end)
        if before != body:
            return (len(before) - len(before.rstrip("\\"))) % 2 == 0
    return False
