"""What every message that we write must be, whatever it was made of."""

from __future__ import annotations

END_OF_HEAD = b"\r\n\r\n"


def check_head(message: bytes) -> None:
    """Each line before the empty one ends with CR LF and has no other CR, LF or NUL; a quoted `\\` NUL is grammar."""
    head, blank_line, _ = message.partition(END_OF_HEAD)
    assert blank_line, "no empty line after the headers"
    for line in head.split(b"\r\n"):
        check_line(line)
        assert b":" in line or line.startswith(b"SIP/2.0 ") or line.endswith(b" SIP/2.0"), f"no header: {line!r}"


def check_line(line: bytes) -> None:
    assert not set(b"\r\n") & set(line), f"line break in {line!r}"
    assert b"\0" not in line.replace(b"\\\0", b""), f"NUL in {line!r}"


def check_body(body: bytes) -> None:
    """A session description of ours: lines of one letter, an equals sign and text."""
    assert body.endswith(b"\r\n"), "no end of the last line"
    for line in body[:-2].split(b"\r\n"):
        check_line(line)
        assert b"\0" not in line, f"NUL in {line!r}"
        assert line[1:2] == b"=", f"no x=value: {line!r}"
