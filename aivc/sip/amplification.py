"""How long an answer may be: anybody can write a victim's address into a UDP packet, and have us send to it."""

from __future__ import annotations

from typing import Final

import attrs

from aivc.sip.message import Headers, Response

MAX_AMPLIFICATION: Final = 2  # an answer to who may be anybody is never longer than so many times the request
OPTIONAL: Final = ("Server", "Supported", "Accept", "Allow", "Warning", "Reason")  # the least missed first


def fitting(response: Response, request_octets: int) -> bytes | None:
    """The response to a source that has not shown that it gets what we send; None: it would amplify.

    Header fields that say only what we can do are left out, no more of them than need be.
    """
    data = bytes(response)
    for name in OPTIONAL:
        if len(data) <= MAX_AMPLIFICATION * request_octets:
            break
        kept = Headers(tuple(field for field in response.headers if field[0].lower() != name.lower()))
        response = attrs.evolve(response, headers=kept)
        data = bytes(response)
    return data if len(data) <= MAX_AMPLIFICATION * request_octets else None
