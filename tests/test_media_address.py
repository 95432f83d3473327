"""What our SDP says, asked of the real system: where it cannot route, nobody answers the phone."""

from __future__ import annotations

import pytest
import trio
from paper_leg import paper_leg

from aivc import Ending, Settings
from aivc.nursery.ending import CallOver
from aivc.nursery.media import media_address
from aivc.sip.leg import AudioAgreement


async def test_an_address_that_no_packet_of_ours_may_go_to_refuses_the_call() -> None:
    leg = paper_leg(agreement=AudioAgreement("PCMU", 0, ("255.255.255.255", 4000)))
    with trio.fail_after(5), trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("0.0.0.0", 0))
        with pytest.raises(CallOver) as over:
            await media_address(leg, Settings(), sock)
    assert over.value.ending is Ending.MEDIA_UNREACHABLE
    assert over.value.rejection(10).status == 488


async def test_a_caller_whose_address_is_not_known_yet_is_reached_where_the_invite_came_from() -> None:
    late = AudioAgreement("PCMU", 0, ("0.0.0.0", 0), may_send=False)
    leg = paper_leg(agreement=late, source=("127.0.0.2", 5060))
    with trio.fail_after(5), trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("0.0.0.0", 0))
        host, port = await media_address(leg, Settings(), sock)
        assert (host, port) == ("127.0.0.1", sock.getsockname()[1])
