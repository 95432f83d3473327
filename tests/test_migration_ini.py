"""INI files, read as configparser reads them."""

from __future__ import annotations

import configparser
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.config.migration_ini import LARGEST, IniError, read_ini

KEYS = st.sampled_from(("a", "b", "c", "A b"))
TEXTS = st.text(alphabet='x%()sab# ;=:"é', max_size=12)
SECTIONS = st.dictionaries(
    st.sampled_from(("DEFAULT", "one", "two")), st.dictionaries(KEYS, TEXTS, max_size=4), min_size=1
)


@given(SECTIONS, st.sampled_from(("\n", "\r\n", "\r")))
def test_values_are_those_that_configparser_finds(sections: dict[str, dict[str, str]], line_end: str) -> None:
    lines = [
        f"[{name}]\n" + "".join(f"{key} = {text}\n" for key, text in keys.items()) for name, keys in sections.items()
    ]
    theirs = configparser.ConfigParser()
    theirs.read_string("".join(lines))
    ours = read_ini("".join(lines).replace("\n", line_end).encode(), "x.ini")
    for name in theirs.sections():
        for key in theirs[name]:
            try:
                expected = theirs[name][key]
            except configparser.InterpolationError:
                expected = theirs.get(name, key, raw=True)
                found = ours.get(name, key)
                assert found is not None
                assert found.fault is not None
            assert ours.text(name, key) == expected


def test_a_default_holds_for_sections_that_the_file_does_not_have() -> None:
    ini = read_ini(b"[DEFAULT]\nport = 9\nhost = h%(port)s\n", "x.ini")
    assert (ini.text("opensips", "port"), ini.text("rtp", "host")) == ("9", "h9")


def test_the_first_of_several_keys_that_is_there_counts() -> None:
    ini = read_ini(b"[one]\nb = 2\na = 1\n", "x.ini")
    assert ini.text("one", "a", "b") == "1"
    assert ini.text("one", "c", "b") == "2"
    assert ini.get("one", "c") is None


def test_lines_that_go_on_are_one_value() -> None:
    assert read_ini(b"[one]\na = 1\n  2\n\n  3\n", "x.ini").text("one", "a") == "1\n2\n\n3"


def test_a_byte_order_mark_is_passed_over() -> None:
    assert read_ini(b"\xef\xbb\xbf[one]\na = 1\n", "x.ini").text("one", "a") == "1"


@pytest.mark.parametrize(
    ("data", "complaints"),
    [
        (b"\n\nkey = sk-secret\n", ["x.ini:3: is no INI: something stands before the first [section]"]),
        (b"[a]\n\nsk-secret\nb = 1\nsk-too\n", ["x.ini:3: is neither", "x.ini:5: is neither"]),
        (b"[a]\n[b]\n[a]\n", ["x.ini:3: [a] is there for the second time"]),
        (b"[a]\nk = 1\nK = 2\n", ["x.ini:3: k is there for the second time in [a]"]),
        (b"[a]\nk = \xff\n", ["x.ini:2: is not UTF-8 text"]),
        (b"\x7fELF\x02\x00", ["x.ini:1: is no INI"]),
        (b"[a]\n\nb" + b" " * 500_000 + b"c", ["x.ini:3: has a thousand blanks"]),
        (b"[a]\n" + b"#" * LARGEST, ["x.ini:1: has more than"]),
    ],
)
def test_what_is_no_ini_is_refused_with_its_lines_and_not_shown(data: bytes, complaints: list[str]) -> None:
    with pytest.raises(IniError) as caught:
        read_ini(data, "x.ini")
    lines = str(caught.value).splitlines()
    assert len(lines) == len(complaints)
    assert all(line.startswith(complaint) for line, complaint in zip(lines, complaints, strict=True))
    assert "sk-" not in str(caught.value)


def test_of_a_file_of_another_kind_only_some_lines_are_named() -> None:
    with pytest.raises(IniError) as caught:
        read_ini(b"[a]\n" + b"nothing\n" * 1000, "x.ini")
    assert len(str(caught.value).splitlines()) < 100


@pytest.mark.parametrize("leaf", ["", "x" * 1000])
def test_keys_that_name_each_other_a_thousand_times_end_soon(leaf: str) -> None:
    lines = [f"k{number} = {f'%(k{number + 1})s' * 1000}" for number in range(9)]
    ini = read_ini("\n".join(["[a]", *lines, f"k9 = {leaf}"]).encode(), "x.ini")
    begin = time.perf_counter()
    found = ini.get("a", "k0")
    assert time.perf_counter() - begin < 5
    assert found is not None
    assert found.fault is not None


def test_a_key_that_names_itself_is_a_fault() -> None:
    found = read_ini(b"[a]\nk = %(k)s\n", "x.ini").get("a", "k")
    assert found is not None
    assert (found.text, found.fault) == ("%(k)s", "%(...)s leads to too much text, or back to itself")
