"""Where the model may transfer a call to. Its wish is untrusted: callers talk it into things."""

from __future__ import annotations

import re
from typing import Final

from aivc.config.patterns import matches_any
from aivc.config.rules import sip_uri
from aivc.config.settings import OpenAISettings

LONGEST_TARGET: Final = 128  # characters; no number or URI that anyone dials is longer
VISUAL_SEPARATORS: Final = " -.()/"  # of telephone numbers (RFC 3966 section 5.1.1), and what people add
DIAL_KEYS: Final = "0123456789*#"
ANNOUNCEMENT_SECONDS: Final = 20.0  # longest wait for the announcement to somebody who has picked up, and its end
SPARE_SECONDS: Final = 1.0  # beyond the deadlines that a transfer has of its own


class TransferRefused(ValueError):
    """The call is not transferred; the message tells the model where it may be."""


def can_transfer(settings: OpenAISettings) -> bool:
    """Whether there is anywhere to go."""
    return bool(settings.transfer_to or settings.transfer_targets or settings.transfer_allow)


def transfer_deadline(settings: OpenAISettings) -> float:
    """How long `transfer_call` may take, in seconds: the sum of the deadlines within it."""
    seconds = settings.farewell_seconds + settings.transfer_seconds + SPARE_SECONDS
    if settings.transfer_attended:
        seconds += settings.transfer_ring_seconds + ANNOUNCEMENT_SECONDS + SPARE_SECONDS
    return seconds


def transfer_uri(settings: OpenAISettings, target: str | None) -> str:
    """Return the URI for Refer-To: of a configured name, or of a number or URI that `transfer_allow` allows.

    Args:
        target: what the model asked for; None or "" is `transfer_to`.

    Raises:
        TransferRefused: there is no such place, or it is not allowed.
    """
    wanted = (target or "").strip()
    if not wanted:
        if settings.transfer_to is None:
            raise TransferRefused(f"say where to: {places(settings)}")
        return settings.transfer_to
    for name, uri in settings.transfer_targets.items():
        if name.casefold() == wanted.casefold():
            return uri
    if settings.transfer_allow:
        return allowed_uri(settings, wanted)
    raise TransferRefused(f"{wanted!r:.60} is no place to transfer to; there is {places(settings)}")


def allowed_uri(settings: OpenAISettings, wanted: str) -> str:
    """The URI of a number or URI in the model's own words."""
    number = plain_number(wanted)
    if len(wanted) > LONGEST_TARGET or not is_plain(number or wanted):
        raise TransferRefused("that is not a telephone number or SIP URI")
    if not matches_any(settings.transfer_allow, number or wanted):
        raise TransferRefused(f"{wanted!r:.60} may not be called; there is {places(settings)}")
    uri = number_uri(number, settings.transfer_to) if number else wanted
    try:
        sip_uri(uri)
    except ValueError:
        raise TransferRefused(f"{wanted!r:.60} is neither a telephone number nor a URI like sip:NAME@HOST") from None
    return uri


def is_plain(text: str) -> bool:
    """No line end, space or delimiter: `?` would begin header fields (RFC 3261 section 19.1.1)."""
    return text.isascii() and all(0x21 <= ord(char) <= 0x7E and char not in '<>"?' for char in text)


def plain_number(text: str) -> str | None:
    """The keys of a telephone number, without what people write between them; None: it is something else."""
    bare = text.translate({ord(separator): None for separator in VISUAL_SEPARATORS})
    keys = bare.removeprefix("+")
    return bare if keys and set(keys) <= set(DIAL_KEYS) else None


def number_uri(number: str, transfer_to: str | None) -> str:
    """A number where `transfer_to` is: the same host is asked for it."""
    scheme, _, rest = (transfer_to or "tel:").partition(":")
    if scheme.lower() == "tel":
        return f"tel:{number}"
    host = re.split("[;?]", rest.rpartition("@")[2])[0]
    user = number.replace("#", "%23")  # the only key that a SIP URI cannot hold (RFC 3261 section 25.1)
    return f"{scheme}:{user}@{host}"


def places(settings: OpenAISettings) -> str:
    """What the model may name, for the model."""
    names = list(settings.transfer_targets)
    if settings.transfer_to is not None:
        names.append("the usual place, if you name none")
    if settings.transfer_allow:
        names.append("some telephone numbers or SIP URIs")
    return ", ".join(names) or "nowhere"
