"""The reference of the settings: docs/configuration.md and config.toml have every one, and show what can be used."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import tomli

from aivc.config import reference
from aivc.config.catalogue import CATALOGUE, Setting, fields_of, record_class
from aivc.config.loading import load
from aivc.config.percall import read_wishes
from aivc.config.settings import Secret, Settings
from aivc.config.spelling import as_toml

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "config.toml"
DOCUMENT = ROOT / "docs" / "configuration.md"
PASSWORDS = ("TRUNK_PASSWORD", "PBX_PASSWORD")  # variables that hold one

each_setting = pytest.mark.parametrize("setting", CATALOGUE, ids=lambda setting: setting.path)


@each_setting
def test_a_setting_is_documented(setting: Setting) -> None:
    lines = DOCUMENT.read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and f"| `{setting.variable}` |" in line]
    assert len(rows) == 1
    assert f"`{setting.name}`" in rows[0]
    assert setting.about.doc in rows[0]
    assert setting.about.doc == setting.about.doc.strip().rstrip(".")
    assert ("not set" if setting.default is None else f"`{as_toml(setting.default)}`") in rows[0]


@each_setting
def test_a_setting_stands_in_the_shipped_file_commented_at_its_default(setting: Setting) -> None:
    text = SHIPPED.read_text()
    section = text[text.index(f"\n[{setting.section}]") :].partition("\n\n\n[")[0]
    if record_class(setting.kind) is not None:
        assert f"({setting.variable}).\n#[[{setting.path}]]\n" in section
        return
    (line,) = re.findall(rf"^#({setting.name} = .*)$", section, re.MULTILINE)
    shown = tomli.loads(line)[setting.name]
    default = list(setting.default) if isinstance(setting.default, tuple) else setting.default
    assert shown == default or (default in (None, [], {}) and shown == setting.about.example is not None)
    assert setting.variable in line


RECORD_KEYS = [
    key
    for setting in CATALOGUE
    if (cls := record_class(setting.kind)) is not None
    for key in fields_of(cls, setting.path)
]


@pytest.mark.parametrize("key", RECORD_KEYS, ids=lambda key: key.path)
def test_a_key_of_an_array_of_tables_is_documented_and_stands_in_the_shipped_file(key: Setting) -> None:
    table = DOCUMENT.read_text().partition(f"### `[[{key.section}]]`: ")[2].partition("\n###")[0]
    (row,) = [line for line in table.splitlines() if line.startswith(f"| `{key.name}` |")]
    assert key.about.doc in row
    example = SHIPPED.read_text().partition(f"#[[{key.section}]]\n")[2].partition("\n\n")[0]
    assert re.findall(rf"^#{key.name} = ", example, re.MULTILINE)


def test_every_line_of_the_shipped_file_may_be_uncommented(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    uncommented = re.sub(r"^#(\w+ = |\[)", r"\1", SHIPPED.read_text(), flags=re.MULTILINE)
    file.write_text(re.sub(r"^model = .*\n(?=model)", "", uncommented, flags=re.MULTILINE))
    (tmp_path / "sounds").mkdir()
    for name in ("sorry.wav", "busy.wav", "music.wav"):
        (tmp_path / "sounds" / name).write_bytes(b"")
    (tmp_path / "tls").mkdir()
    for name in ("cert.pem", "key.pem", "clients.pem", "ca.pem"):
        (tmp_path / "tls" / name).write_bytes(b"")
    names = ("HOURS_AUTHORIZATION", "HOURS_SECRET", "WIKI_TOKEN", *PASSWORDS)
    loaded = load(str(file), dict.fromkeys(names, "Bearer x"))
    assert set(loaded.sources.values()) == {"file"}
    assert [agent.name for agent in loaded.settings.agents] == ["sales"]
    assert loaded.settings.tools.http[0].secret == Secret("Bearer x")


def test_the_shipped_file_needs_only_a_key_and_says_nothing_against_itself() -> None:
    loaded = load(str(SHIPPED), {"OPENAI_API_KEY": "sk-test"})
    assert loaded.settings.openai.model == "gpt-realtime-2.1"
    assert loaded.warnings == ()
    assert attrs.evolve(loaded.settings, openai=Settings().openai) == Settings()


def test_the_shipped_file_is_what_the_settings_render() -> None:
    assert SHIPPED.read_text() == reference.config_toml(), "run python -m aivc.config.reference"


def test_the_document_has_the_tables_that_the_settings_render() -> None:
    document = DOCUMENT.read_text()
    assert document == reference.with_tables(document), "run python -m aivc.config.reference"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks("toml"))
def test_each_example_of_the_document_is_a_configuration_without_warnings(tmp_path: Path, block: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(block)
    names = ("OPENAI_API_KEY", "HOURS_AUTHORIZATION", "HOURS_SECRET", "WIKI_TOKEN")
    loaded = load(str(file), dict.fromkeys(names, "x") | {"OPENAI_API_MODEL": "gpt-realtime-2.1"})
    assert loaded.warnings == ()
    assert "file" in loaded.sources.values()


def test_the_answer_in_the_document_can_be_used() -> None:
    question, answer = (json.loads(block) for block in blocks("json"))
    assert question["bot"] == "100"
    assert read_wishes("api_url", answer, Settings()).values == answer["openai"]


def test_a_document_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        reference.with_tables("# Configuration\n")


def test_the_renderer_runs_as_a_module_and_changes_nothing_when_nothing_changed() -> None:
    before = (SHIPPED.read_text(), DOCUMENT.read_text())
    done = subprocess.run(
        [sys.executable, "-m", "aivc.config.reference"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (SHIPPED.read_text(), DOCUMENT.read_text()) == before
