"""C programs of the bench: compiled once, with words when they cannot be."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from bench_peer import NEEDS_COMPILER

from bench.compiling import CompileError, compiled
from bench.generator import generator_program

pytestmark = NEEDS_COMPILER


def test_a_program_is_compiled_once_and_again_when_a_header_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "answer.h").write_text("#define ANSWER 42\n")
    source = tmp_path / "main.c"
    source.write_text('#include "answer.h"\nint main(void) { return ANSWER; }\n')
    program = compiled([source])
    assert subprocess.run([program]).returncode == 42
    made = program.stat().st_mtime_ns
    assert compiled([source]) == program
    assert program.stat().st_mtime_ns == made
    (tmp_path / "answer.h").write_text("#define ANSWER 43\n")
    assert subprocess.run([compiled([source])]).returncode == 43


def test_what_is_missing_for_a_program_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "main.c"
    source.write_text("int main(void) { return nothing; }\n")
    with pytest.raises(CompileError, match="nothing"):
        compiled([source])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CompileError, match="install gcc and libssl-dev"):
        generator_program()
