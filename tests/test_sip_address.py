from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aivc.sip.address import (
    CSeq,
    NameAddr,
    OtherUri,
    SipUri,
    Via,
    parse_cseq,
    parse_name_addr,
    parse_uri,
    parse_via,
    quote,
    unescape,
)
from aivc.sip.scanner import MAX_PARAMETERS, AddressError, split_list


def test_a_sip_uri_is_taken_apart() -> None:
    uri = parse_uri("sip:alice:secret@[2001:db8::1]:5070;transport=udp;lr?Subject=x")
    assert uri == SipUri("2001:db8::1", 5070, "alice:secret", (("transport", "udp"), ("lr", None)), "Subject=x")
    assert isinstance(uri, SipUri)
    assert (uri.user, uri.is_loose_router, uri.address) == ("alice", True, ("2001:db8::1", 5070))


@pytest.mark.parametrize(
    "text",
    [
        "sip:example.com",
        "sips:a%20b@example.com:5061;x=%41",
        "sip:+1-212;phone-context=x@192.0.2.1",
        "sip:a@[::ffff:192.0.2.1]",
        "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com",
        "tel:+1212",
        "http://www.example.com/?a=b",
    ],
)
def test_a_uri_round_trips(text: str) -> None:
    assert str(parse_uri(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sip:",
        "example.com",
        "<sip:a@b>",
        "sip:a b@c",
        "sip:@c",
        "sip:a@",
        "sip:a@b@c",
        "sip:a@b:x",
        "sip:a@b:65536",
        "sip:2001:db8::10",
        "sip:[2001:db8:::1]",
        "sip:[::1",
        "sip:a%0@b",
        "sip:a%zz@b",
        "sip:a@b;",
        "sip:a@b;=x",
        "sip:a@b?",
        "sip:a@b\r\nVia:x",
        "sip:caf\xe9@b",
        "1sip:a@b",
        "sip:a@b" + ";x" * (MAX_PARAMETERS + 1),
    ],
)
def test_a_broken_uri_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_uri(text)


def test_the_user_part_is_unescaped_once_and_never_to_a_control_character() -> None:
    assert parse_uri("sip:%75se%72%2541@example.com") == SipUri("example.com", userinfo="%75se%72%2541")
    assert unescape("%75se%72") == "user"
    assert unescape("%2541") == "%41"
    assert unescape("a%00b%0d%0Ac%") == "a%00b%0d%0Ac%"


def test_a_name_addr_keeps_its_display_name_and_parameters() -> None:
    value = parse_name_addr('"J \\"R\\" <x>"   <sip:j@example.com;lr>  ;  tag = 98 ; q="a;b"')
    assert (value.display_name, str(value.uri), value.tag) == ('"J \\"R\\" <x>"', "sip:j@example.com;lr", "98")
    assert value.parameters[1] == ("q", '"a;b"')


def test_parameters_of_a_bare_uri_belong_to_the_header() -> None:
    assert parse_name_addr("sip:a@b;tag=x") == NameAddr(SipUri("b", userinfo="a"), parameters=(("tag", "x"),))


@pytest.mark.parametrize(
    "text", ["caller<sip:a@b>;tag=1", "A. Bell <sip:a@b>", '"x"<sip:a@b>', "< sip:a@b >", "<http://x>"]
)
def test_odd_but_legal_name_addrs_are_read(text: str) -> None:
    assert parse_name_addr(text).uri in (SipUri("b", userinfo="a"), OtherUri("http", "//x"))


@pytest.mark.parametrize(
    "text",
    [
        '"open <sip:a@b>',
        '"x\\',
        "<sip:a@b",
        "<sip:a@b> x",
        "<sip:a@b>;",
        "<sip:a@b>;x=",
        "sip:a@b?Route=c",
        '"x" sip:a@b',
        "Bell, A <sip:a@b>",
    ],
)
def test_a_broken_name_addr_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_name_addr(text)


def test_a_via_with_spaces_everywhere_is_read() -> None:
    via = parse_via("SIP  / 2.0  / TCP     spindle.example.com : 5070  ;  branch  =   z9hG4bK9ikj8")
    assert via == Via("spindle.example.com", 5070, "TCP", (("branch", "z9hG4bK9ikj8"),))


@pytest.mark.parametrize(
    "text",
    ["", "SIP/2.0/UDP", "SIP/2.0/UDP 192.0.2.15;;,;", "HTTP/1.1/TCP a", "SIP/2.0 UDP a", "SIP/2.0/UDP a;rport=x"],
)
def test_a_broken_via_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_via(text)


def test_rport_is_filled_in_and_answered_whatever_the_sent_by_says() -> None:
    via = parse_via("SIP/2.0/UDP 10.0.0.1:5062;branch=x;rport").stamped(("192.0.2.9", 31_000))
    assert str(via) == "SIP/2.0/UDP 10.0.0.1:5062;branch=x;rport=31000;received=192.0.2.9"
    assert via.response_address() == ("192.0.2.9", 31_000)


def test_without_rport_the_answer_goes_to_the_source_address_and_the_sent_by_port() -> None:
    assert parse_via("SIP/2.0/UDP a.example:5062").stamped(("192.0.2.9", 31_000)).response_address() == (
        "192.0.2.9",
        5062,
    )
    assert parse_via("SIP/2.0/UDP a.example").stamped(("192.0.2.9", 31_000)).response_address() == ("192.0.2.9", 5060)


def test_a_received_or_maddr_that_the_peer_wrote_does_not_aim_our_answer() -> None:
    via = parse_via("SIP/2.0/UDP 192.0.2.9;received=198.51.100.1;maddr=198.51.100.2;rport=9").stamped(
        ("192.0.2.9", 5062)
    )
    assert via.response_address() == ("192.0.2.9", 5062)


def test_cseq_is_a_number_below_two_to_the_32_and_a_method() -> None:
    assert parse_cseq("0009  INVITE") == CSeq(9, "INVITE")
    assert parse_cseq(f"{2**32 - 1} BYE").number == 2**32 - 1
    for text in ("", "1", "INVITE", "-1 BYE", "1_0 BYE", "4294967296 BYE", "\xb2 BYE", "1 B YE"):
        with pytest.raises(AddressError):
            parse_cseq(text)


def test_commas_in_quotes_and_brackets_do_not_cut_a_list() -> None:
    assert split_list('"a, \\" b" <sip:x,y@z>, c ,,') == ['"a, \\" b" <sip:x,y@z>', "c", "", ""]


@given(st.text())
def test_quoting_never_lets_a_line_break_or_an_open_quote_through(text: str) -> None:
    quoted = quote(text)
    assert parse_name_addr(f"{quoted} <sip:a@b>").display_name == quoted
    assert not any(char < " " for char in quoted)


SEPARATORS = [
    '"',
    "\\",
    "<",
    ">",
    ";",
    ",",
    "=",
    "sip:",
    "SIP/2.0/UDP ",
    "a@b",
    "[",
    "]",
    "::1",
    ":",
    "%41",
    "tag",
    " ",
]


@example("A:0>")
@example("A:>")
@given(st.text(st.characters(max_codepoint=255)) | st.lists(st.sampled_from(SEPARATORS)).map("".join))
def test_any_text_is_read_or_refused_and_what_is_read_round_trips(text: str) -> None:
    for parse in (parse_uri, parse_name_addr, parse_via):
        try:
            value = parse(text)
        except AddressError:
            continue
        assert parse(str(value)) == value
