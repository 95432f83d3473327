"""The sounds of `sounds.*`, loaded once for all calls."""

from __future__ import annotations

import attrs

from aivc.config.loading import ConfigError
from aivc.config.settings import SoundsSettings
from aivc.media.sounds import Sound, SoundError, load_sound


@attrs.frozen
class Prompts:
    """The sounds of the settings, loaded."""

    failure: Sound | None = None
    busy: Sound | None = None
    hold: Sound | None = None


def load_prompts(sounds: SoundsSettings) -> Prompts:
    """Raises ConfigError, naming each setting, for files that cannot be played."""
    loaded: dict[str, Sound] = {}
    errors: list[str] = []
    for name, file in attrs.asdict(sounds).items():
        try:
            if file is not None:
                loaded[name] = load_sound(file)
        except SoundError as error:
            errors.append(f"sounds.{name}: {error}")
    if errors:
        raise ConfigError(tuple(errors))
    return Prompts(**loaded)
