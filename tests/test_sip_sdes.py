from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.sip import sdes
from aivc.sip.sdes import Crypto, SdesError
from aivc.sip.sdp import Line

DATA = Path(os.environ.get("AIVC_TEST_DATA", "/nonexistent"))
KEY = bytes(range(30))
WRITTEN = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd"
LONG: Final = "AES_CM_128_HMAC_SHA1_80"
SHORT: Final = "AES_CM_128_HMAC_SHA1_32"


def test_a_line_is_read_and_written_alike() -> None:
    value = f"7 {SHORT} inline:{WRITTEN}"
    crypto = sdes.parse_untrusted(value)
    assert crypto == Crypto(7, SHORT, KEY)
    assert crypto.line() == Line("a", f"crypto:{value}")


@pytest.mark.parametrize(
    "value",
    [
        f"1 {LONG} inline:{WRITTEN}|2^20",
        f"1 {LONG} inline:{WRITTEN}|2^48",
        f"1 {LONG} inline:{WRITTEN}|1048576",
        f"1 {LONG.lower()} INLINE:{WRITTEN}",
        f"1  {LONG} inline:{WRITTEN} ",
        f"1 {LONG} inline:{WRITTEN} WSH=64",
        f"1 {LONG} inline:{WRITTEN} -newfangled=1",
    ],
)
def test_lifetimes_and_hints_change_nothing(value: str) -> None:
    assert sdes.parse_untrusted(value) == Crypto(1, LONG, KEY)


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("", "expected"),
        ("1", "expected"),
        (f"1 {LONG}", "expected"),
        (f"x {LONG} inline:{WRITTEN}", "tag"),
        (f"01 {LONG} inline:{WRITTEN}", "tag"),
        (f"-1 {LONG} inline:{WRITTEN}", "tag"),
        (f"1234567890 {LONG} inline:{WRITTEN}", "tag"),
        (f"1 AES_256_CM_HMAC_SHA1_80 inline:{WRITTEN}", "suite"),
        (f"1 F8_128_HMAC_SHA1_80 inline:{WRITTEN}", "suite"),
        (f"1 {LONG} {WRITTEN}", "method"),
        (f"1 {LONG} uri:{WRITTEN}", "method"),
        (f"1 {LONG} inline:", "length"),
        (f"1 {LONG} inline:{WRITTEN[:-2]}==", "length"),
        (f"1 {LONG} inline:{WRITTEN[:-1]}!", "bad key"),
        (f"1 {LONG} inline:{WRITTEN[:-1]}", "length"),
        (f"1 {LONG} inline:{WRITTEN}AAAA", "length"),
        (f"1 {LONG} inline:{WRITTEN}|2^49", "lifetime"),
        (f"1 {LONG} inline:{WRITTEN}|0", "lifetime"),
        (f"1 {LONG} inline:{WRITTEN}|", "lifetime"),
        (f"1 {LONG} inline:{WRITTEN}|2^20|2^20", "lifetime"),
        (f"1 {LONG} inline:{WRITTEN}|1:4", "MKI"),
        (f"1 {LONG} inline:{WRITTEN}|2^20|1:4", "MKI"),
        (f"1 {LONG} inline:{WRITTEN}|2^20|1:4;inline:{WRITTEN}|2^20|2:4", "several keys"),
        (f"1 {LONG} inline:{WRITTEN} UNENCRYPTED_SRTP", "parameter"),
        (f"1 {LONG} inline:{WRITTEN} UNENCRYPTED_SRTCP", "parameter"),
        (f"1 {LONG} inline:{WRITTEN} UNAUTHENTICATED_SRTP", "parameter"),
        (f"1 {LONG} inline:{WRITTEN} KDR=1", "parameter"),
        (f"1 {LONG} inline:{WRITTEN} FEC_ORDER=FEC_SRTP", "parameter"),
        (f"1 {LONG} inline:{WRITTEN} newfangled=1", "parameter"),
    ],
)
def test_what_we_cannot_do_is_refused_without_a_word_of_the_key(value: str, cause: str) -> None:
    with pytest.raises(SdesError) as caught:
        sdes.parse_untrusted(value)
    assert cause in str(caught.value)
    assert caught.value.__cause__ is None
    assert "AAEC" not in str(caught.value)


def test_the_usable_lines_come_in_the_writer_s_order_and_a_tag_counts_once() -> None:
    values = [
        f"1 AES_256_CM_HMAC_SHA1_80 inline:{WRITTEN}",
        f"2 {SHORT} inline:{WRITTEN}",
        "junk",
        f"3 {LONG} inline:{WRITTEN}",
        f"2 {LONG} inline:{WRITTEN}",
    ]
    assert sdes.usable(values) == (Crypto(2, SHORT, KEY), Crypto(3, LONG, KEY))


def test_without_a_usable_line_the_first_one_says_why() -> None:
    with pytest.raises(SdesError, match="MKI"):
        sdes.usable([f"1 {LONG} inline:{WRITTEN}|1:4", "junk"])
    with pytest.raises(SdesError, match="there is none"):
        sdes.usable([])
    with pytest.raises(SdesError):
        sdes.usable(["junk"] * sdes.MAX_CRYPTO_LINES + [f"1 {LONG} inline:{WRITTEN}"])


def test_keys_are_shown_to_nobody() -> None:
    crypto = Crypto(1, LONG, KEY)
    assert "\\x01" not in repr(crypto)
    assert WRITTEN not in repr(crypto.line())
    assert WRITTEN in str(crypto.line())


PIECES = ["1 ", LONG, " inline:", WRITTEN, "|", "2^", "20", ":", ";", " WSH=64", "-", "\xa0", "=", "A" * 40]


@given(st.text(st.characters(max_codepoint=255)) | st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_line_is_read_or_refused(value: str) -> None:
    try:
        crypto = sdes.parse_untrusted(value)
    except SdesError:
        return
    assert len(crypto.key) == sdes.KEY_OCTETS
    assert sdes.parse_untrusted(crypto.line().value.removeprefix("crypto:")) == crypto


@pytest.mark.skipif(not DATA.is_dir(), reason="AIVC_TEST_DATA names no folder of test messages")
def test_the_corpus_of_another_parser_is_read_or_refused() -> None:
    files = sorted((DATA / "corpora" / "pjproject" / "sdes").glob("*.sdp"))
    assert files
    for path in files:
        for line in path.read_text("latin-1").splitlines():
            if line.startswith("a=crypto:"):
                try:
                    sdes.parse_untrusted(line.removeprefix("a=crypto:"))
                except SdesError:
                    continue
