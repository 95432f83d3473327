"""Single requests, good and bad: RFC 3261 sections 7, 8, 11, 12 and 18."""

from __future__ import annotations

import pytest
import trio
from sip_phone import PHONE, SERVER, sdp, user_agent
from trio.testing import MockClock

from aivc.sip.address import get_parameter
from aivc.sip.message import Request, parse_untrusted
from aivc.testing.network import VirtualNetwork


async def test_tx_01_options_is_answered_with_what_we_can_do(autojump_clock: MockClock) -> None:
    """RFC 3261 sections 11.2 and 8.2.6: Via, From, Call-ID and CSeq come back, and To has a tag."""
    async with user_agent() as (_, phone):
        asked = phone.write("OPTIONS")
        answer, request = await phone.ask(asked), parse_untrusted(asked)
        assert answer.status == 200
        for name in ("From", "Call-ID", "CSeq"):
            assert answer.header(name) == request.header(name)
        assert answer.via.branch == request.via.branch
        assert answer.to.tag
        assert "INVITE" in answer.headers.items("Allow")
        assert "application/sdp" in answer.headers.items("Accept")


async def test_tx_02_a_retransmission_gets_the_same_final_response(autojump_clock: MockClock) -> None:
    """RFC 3261 section 17.2.2."""
    async with user_agent() as (_, phone):
        request = phone.write("OPTIONS")
        assert bytes(await phone.ask(request)) == bytes(await phone.ask(request))


async def test_tx_08_a_cancel_of_nothing_is_481(autojump_clock: MockClock) -> None:
    """RFC 3261 section 9.2."""
    async with user_agent() as (_, phone):
        assert (await phone.ask(phone.write("CANCEL"))).status == 481


@pytest.mark.parametrize("tag", [None, "unknown"])
async def test_tx_10_a_bye_outside_any_dialog_is_481(tag: str | None, autojump_clock: MockClock) -> None:
    """RFC 3261 sections 12.2.2 and 15.1.2."""
    async with user_agent() as (_, phone):
        phone.to_tag = tag
        assert (await phone.ask(phone.write("BYE"))).status == 481


async def test_tx_11_an_invite_with_an_unknown_to_tag_is_481(autojump_clock: MockClock) -> None:
    """RFC 3261 section 12.2.2."""
    async with user_agent() as (agent, phone):
        phone.to_tag = "unknown"
        assert (await phone.ask(phone.write("INVITE", sdp()))).status == 481
        assert agent.statistics().legs == 0


async def test_tx_12_a_stray_ack_is_met_with_silence(autojump_clock: MockClock) -> None:
    """RFC 3261 section 17.1.1.3."""
    async with user_agent() as (_, phone):
        await phone.send(phone.write("ACK"))
        phone.to_tag = "unknown"
        await phone.send(phone.write("ACK"))
        assert await phone.hears_nothing(40)


async def test_tx_13_a_merged_request_is_482(autojump_clock: MockClock) -> None:
    """RFC 3261 section 8.2.2.2: the same From tag, Call-ID and CSeq by another branch."""
    async with user_agent() as (_, phone):
        assert (await phone.ask(phone.write("OPTIONS", branch="z9hG4bK-one"))).status == 200
        assert (await phone.ask(phone.write("OPTIONS", branch="z9hG4bK-two"))).status == 482


async def test_tx_14_a_required_extension_that_we_lack_is_420_by_name(autojump_clock: MockClock) -> None:
    """RFC 3261 section 8.2.2.3."""
    async with user_agent() as (_, phone):
        answer = await phone.ask(phone.write("INVITE", sdp(), "Require: nothing-has-this"))
        assert (answer.status, answer.headers.items("Unsupported")) == (420, ["nothing-has-this"])


async def test_tx_15_what_proxies_must_do_and_what_the_caller_can_do_is_not_for_us(autojump_clock: MockClock) -> None:
    """RFC 3261 section 8.2.2.3: Proxy-Require, and an unknown tag in Supported."""
    async with user_agent() as (_, phone):
        request = phone.write("OPTIONS", b"", "Proxy-Require: nothing-has-this", "Supported: nor-this")
        assert (await phone.ask(request)).status == 200


async def test_tx_16_an_unknown_method_is_501(autojump_clock: MockClock) -> None:
    """RFC 3261 sections 8.2.1 and 21.5.2."""
    async with user_agent() as (_, phone):
        assert (await phone.ask(phone.write("WEAVE"))).status == 501


@pytest.mark.parametrize(
    ("method", "status"),
    [("REGISTER", 405), ("SUBSCRIBE", 405), ("PUBLISH", 405), ("MESSAGE", 405), ("REFER", 603), ("NOTIFY", 481)],
)
async def test_tx_17_known_methods_that_are_not_served_outside_a_dialog_are_refused(
    method: str, status: int, autojump_clock: MockClock
) -> None:
    """RFC 3261 section 8.2.1: a 405 says in Allow what is served."""
    async with user_agent() as (_, phone):
        answer = await phone.ask(phone.write(method, b"", "Refer-To: <sip:+1900@192.0.2.99>", "Event: presence"))
        assert answer.status == status
        assert status != 405 or method not in answer.headers.items("Allow") != []


async def test_tx_18_an_unknown_body_is_415_with_accept(autojump_clock: MockClock) -> None:
    """RFC 3261 section 8.2.3."""
    async with user_agent() as (_, phone):
        answer = await phone.ask(phone.write("INVITE", b"<x/>", content_type="application/x-unknown"))
        assert (answer.status, answer.header("Accept")) == (415, "application/sdp")


async def test_tx_19_an_unknown_encoding_of_a_body_is_415_with_accept_encoding(autojump_clock: MockClock) -> None:
    """RFC 3261 section 8.2.3."""
    async with user_agent() as (_, phone):
        answer = await phone.ask(phone.write("INVITE", sdp(), "Content-Encoding: brotli"))
        assert (answer.status, answer.header("Accept-Encoding")) == (415, "identity")


async def test_tx_20_an_unknown_scheme_of_the_request_uri_is_416(autojump_clock: MockClock) -> None:
    """RFC 3261 section 8.2.2.1."""
    async with user_agent() as (_, phone):
        assert (await phone.ask(phone.write("OPTIONS", target="unknown:thing"))).status == 416


async def test_tx_21_another_version_is_505(autojump_clock: MockClock) -> None:
    """RFC 3261 section 21.5.6."""
    async with user_agent() as (_, phone):
        request = phone.write("OPTIONS").replace(b" SIP/2.0\r\n", b" SIP/7.0\r\n", 1)
        assert (await phone.ask(request)).status == 505


async def test_tx_22_compact_names_of_header_fields_are_read(autojump_clock: MockClock) -> None:
    """RFC 3261 section 7.3.3."""
    async with user_agent() as (agent, phone):
        request = phone.write("INVITE", sdp())
        for name, compact in (("Via", "v"), ("From", "f"), ("To", "t"), ("Call-ID", "i"), ("Contact", "m")):
            request = request.replace(f"\r\n{name}: ".encode(), f"\r\n{compact}: ".encode())
        for name, compact in (("Content-Type", "c"), ("Content-Length", "l")):
            request = request.replace(f"\r\n{name}: ".encode(), f"\r\n{compact}: ".encode())
        await phone.send(request)
        leg = await agent.legs.receive()
        assert (leg.call_id, leg.agreement.codec) == (phone.call_id, "PCMU")


async def test_tx_23_folding_white_space_and_odd_case_are_read(autojump_clock: MockClock) -> None:
    """RFC 3261 section 7.3.1."""
    async with user_agent() as (_, phone):
        request = phone.write("OPTIONS", b"", "Subject: one\r\n  two\r\n\tthree")
        request = request.replace(b"\r\nCall-ID: ", b"\r\ncALL-iD\t :  ").replace(b"\r\nCSeq: ", b"\r\nCSEQ:\r\n  ")
        answer = await phone.ask(request)
        assert (answer.status, answer.call_id) == (200, phone.call_id)


async def test_tx_24_all_vias_are_echoed_in_order(autojump_clock: MockClock) -> None:
    """RFC 3261 sections 18.2 and 20.42: in a list and on lines of their own."""
    async with user_agent() as (_, phone):
        more = "SIP/2.0/TCP a.example;branch=z9hG4bK-a, SIP/2.0/TLS b.example;branch=z9hG4bK-b"
        answer = await phone.ask(phone.write("OPTIONS", b"", f"Via: {more}", "Via: SIP/2.0/UDP c.example"))
        vias = [value.partition(" ")[2].partition(";")[0] for value in answer.headers.items("Via")]
        assert vias == ["192.0.2.10:5060", "a.example", "b.example", "c.example"]


async def test_tx_25_record_route_is_copied_in_order_and_routed_requests_are_served(autojump_clock: MockClock) -> None:
    """RFC 3261 sections 12.1.1 and 16.12."""
    async with user_agent() as (agent, phone):
        routes = ["<sip:192.0.2.20;lr>", "<sip:192.0.2.21;lr>"]
        _, answer = await phone.call(agent, None, *(f"Record-Route: {route}" for route in routes))
        assert answer.headers.items("Record-Route") == routes
        await phone.ack()
        assert (await phone.ask(phone.write("OPTIONS", b"", f"Route: {routes[0]}", cseq=2))).status == 200


async def test_tx_26_rport_is_filled_in_and_answered_to(autojump_clock: MockClock) -> None:
    """RFC 3581 section 4: the source port, whatever sent-by says."""
    async with user_agent() as (_, phone):
        answer = await phone.ask(phone.write("OPTIONS", via="198.51.100.1:6060"))
        assert (get_parameter(answer.via.parameters, "rport"), answer.via.received) == ("5060", PHONE[0])


async def test_tx_27_without_rport_the_answer_goes_to_the_source_address_and_the_port_of_sent_by(
    autojump_clock: MockClock,
) -> None:
    """RFC 3261 section 18.2.2."""
    async with user_agent() as (_, phone):
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as other:
            await other.bind((PHONE[0], 6060))
            await phone.send(phone.write("OPTIONS", via="198.51.100.1:6060", rport=""))
            with trio.fail_after(1):
                data, source = await other.recvfrom(65_535)
        assert (source, parse_untrusted(data).via.received) == (SERVER, PHONE[0])


async def test_tx_28_a_lower_cseq_in_a_dialog_is_500(autojump_clock: MockClock) -> None:
    """RFC 3261 section 12.2.2."""
    async with user_agent() as (agent, phone):
        await phone.connect(agent)
        assert (await phone.ask(phone.write("OPTIONS", cseq=9))).status == 200
        assert (await phone.ask(phone.write("OPTIONS", cseq=8))).status == 500


async def test_tx_33_a_content_length_beyond_the_datagram_is_400(autojump_clock: MockClock) -> None:
    """RFC 3261 section 18.3."""
    async with user_agent() as (_, phone):
        request = phone.write("OPTIONS").replace(b"Content-Length: 0", b"Content-Length: 10")
        assert (await phone.ask(request)).status == 400


@pytest.mark.parametrize("name", ["To", "From", "Call-ID", "CSeq", "Via"])
async def test_tx_34_a_request_without_a_mandatory_field_is_never_served(name: str, autojump_clock: MockClock) -> None:
    """RFC 3261 section 8.1.1: 400; without Via there is no way to say so."""
    async with user_agent() as (_, phone):
        lines = phone.write("OPTIONS").split(b"\r\n")
        await phone.send(b"\r\n".join(line for line in lines if not line.startswith(f"{name}:".encode())))
        if name == "Via":
            assert await phone.hears_nothing(5)
        else:
            with trio.fail_after(5):
                assert (await phone.socket.recvfrom(65_535))[0].startswith(b"SIP/2.0 400 ")


async def test_tx_35_max_forwards_0_at_its_goal_is_served(autojump_clock: MockClock) -> None:
    """RFC 3261 section 20.22: it is for those who forward."""
    async with user_agent() as (_, phone):
        assert (await phone.ask(phone.write("OPTIONS", b"", "Max-Forwards: 0"))).status == 200


async def test_tx_36_a_cseq_of_another_method_is_400(autojump_clock: MockClock) -> None:
    """RFC 3261 section 7.3.1."""
    async with user_agent() as (_, phone):
        assert (await phone.ask(phone.write("OPTIONS").replace(b"1 OPTIONS", b"1 INVITE"))).status == 400


@pytest.mark.parametrize("data", [b"\r\n\r\n", b"\0", b""], ids=["CRLF", "NUL", "nothing"])
async def test_tx_37_keep_alives_are_no_error(data: bytes, autojump_clock: MockClock) -> None:
    """RFC 5626 section 4.4, and what others use."""
    async with user_agent() as (agent, phone):
        await phone.send(data)
        assert await phone.hears_nothing(1)
        left = agent.statistics()
        assert (left.keep_alives, left.garbage, left.malformed) == (1, 0, 0)


GARBAGE = {
    "STUN": b"\0\1\0\0\x21\x12\xa4\x42" + b"t" * 12,
    "RTP": b"\x80\0" + b"\1" * 170,
    "TLS": b"\x16\3\1\2\0\1\0\1\xfc\3\3" + b"r" * 300,
    "HTTP": b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n",
    "octets": bytes(range(256)) * 4,
    "60 kB": b"OPTIONS sip:" + b"a" * 60_000,
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
async def test_tx_38_what_is_no_sip_is_dropped_and_harms_nobody(data: bytes, autojump_clock: MockClock) -> None:
    """RFC 3261 section 18.3: whatever comes to the port."""
    async with user_agent() as (agent, phone):
        await phone.send(data)
        assert await phone.hears_nothing(1)
        assert agent.statistics().garbage == 1
        assert (await phone.ask(phone.write("OPTIONS"))).status == 200


@pytest.mark.parametrize("target", ["sip:other@192.0.2.1", "sip:192.0.2.1", "sip:+49-30-1@192.0.2.1;user=phone;x=y"])
async def test_tx_40_any_user_part_and_parameters_are_answered_and_the_contact_is_of_use(
    target: str, autojump_clock: MockClock
) -> None:
    """RFC 3261 section 13.2.1: the ACK and the BYE go to the Contact of the answer."""
    seen: list[bytes] = []
    network = VirtualNetwork(on_packet=lambda source, to, data: seen.append(data))
    async with user_agent(network=network) as (agent, phone):
        await phone.send(phone.write("INVITE", sdp(), target=target))
        leg = await agent.legs.receive()
        await leg.answer(("192.0.2.1", 40_000))
        while (answer := await phone.response()).status == 100:
            pass
        phone.to_tag = answer.to.tag
        contact = answer.header("Contact").strip("<>")
        await phone.send(phone.write("ACK", target=contact))
        assert (await phone.ask(phone.write("BYE", cseq=2, target=contact))).status == 200
        bye = parse_untrusted(seen[-2])
        assert isinstance(bye, Request)
        assert bye.target == contact
