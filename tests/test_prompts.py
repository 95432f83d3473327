"""The sounds of the settings: loaded once, all errors told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from aivc.config.loading import ConfigError
from aivc.config.settings import SoundsSettings
from aivc.nursery.prompts import Prompts, load_prompts


def test_what_is_not_set_is_not_played() -> None:
    assert load_prompts(SoundsSettings()) == Prompts()


def test_each_sound_is_the_one_of_its_setting(tmp_path: Path) -> None:
    files = {}
    for number, name in enumerate(("failure", "busy", "hold")):
        files[name] = str(tmp_path / f"{name}.ulaw")
        Path(files[name]).write_bytes(bytes([0x10 + number]) * 160)
    prompts = load_prompts(SoundsSettings(**files))
    assert (prompts.failure, prompts.busy, prompts.hold) != (None, None, None)
    for number, sound in enumerate((prompts.failure, prompts.busy, prompts.hold)):
        assert sound is not None
        assert sound.octets("PCMU") == bytes([0x10 + number]) * 160


def test_all_files_that_cannot_be_played_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "busy.wav").write_bytes(b"ID3 is no WAV")
    (tmp_path / "hold.ulaw").write_bytes(b"\x10" * 160)
    sounds = SoundsSettings(
        failure=str(tmp_path / "none.wav"), busy=str(tmp_path / "busy.wav"), hold=str(tmp_path / "hold.ulaw")
    )
    with pytest.raises(ConfigError) as caught:
        load_prompts(sounds)
    missing, unplayable = caught.value.errors
    assert missing.startswith("sounds.failure: ")
    assert missing.endswith("none.wav: No such file or directory")
    assert unplayable.startswith("sounds.busy: ")
    assert "no WAV file" in unplayable
