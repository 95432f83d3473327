"""What `opensips.enabled` and `opensips.session_seconds` change; test_settings_of_the_opensips.py has the others."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
from scenarios.world import SERVICE, SETTINGS
from settings_shown import shows
from trio.testing import MockClock

from aivc import ConfigError, EngineSettings, OpenSipsSettings, load, open_service
from aivc.media.clock import TaskClock
from aivc.testing import VirtualNetwork
from aivc.testing.opensips import open_fake_opensips

OPENSIPS = "192.0.2.5"


@shows("opensips.enabled")
@pytest.mark.parametrize("enabled", [False, True])
async def test_calls_are_taken_from_opensips_when_that_is_enabled(autojump_clock: MockClock, enabled: bool) -> None:
    VirtualNetwork().enable()
    settings = attrs.evolve(
        SETTINGS,
        opensips=OpenSipsSettings(enabled=enabled, ip=OPENSIPS),
        engine=EngineSettings(event_ip=SERVICE, event_port=8090),
    )
    with trio.fail_after(30):
        async with open_fake_opensips(OPENSIPS) as opensips, open_service(settings, clock=TaskClock()) as service:
            await trio.sleep(1.0)
            assert len(opensips.subscribers) == enabled
            assert service.is_subscribed is (True if enabled else None)
            assert service.listening == ((SERVICE, 5060),)


@shows("opensips.session_seconds")
@pytest.mark.parametrize(
    ("session", "call", "fits"), [(3660, 3600, True), (3660, 3600.5, False), (43200, 43200, False)]
)
def test_calls_must_end_before_opensips_ends_them(tmp_path: Path, session: int, call: float, fits: bool) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        f"[opensips]\nenabled = true\nsession_seconds = {session}\n[service]\nmax_call_seconds = {call:.1f}\n"
    )
    if fits:
        load(str(file), {}, simulator=True)
    else:
        with pytest.raises(ConfigError, match=r"^service\.max_call_seconds: .* less than opensips\.session_seconds"):
            load(str(file), {}, simulator=True)
