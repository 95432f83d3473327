from __future__ import annotations

from pathlib import Path

import pytest

from aivc.config.loading import ConfigError, load


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ('[rtp]\nbind_ip = "::"', 'rtp.bind_ip: "::" is IPv6; media are IPv4 only'),
        ('[rtp]\nip = "2001:db8::1"', 'rtp.ip: "2001:db8::1" is IPv6; media are IPv4 only'),
        ('[sip]\nexternal_ip = "2001:db8::1"', "rtp.ip: set it: sip.external_ip is IPv6, and media are IPv4 only"),
    ],
)
def test_an_ipv6_address_for_media_is_refused(tmp_path: Path, lines: str, error: str) -> None:
    file = tmp_path / "aivc.toml"
    file.write_text(lines)
    with pytest.raises(ConfigError) as caught:
        load(str(file), {"OPENAI_API_KEY": "sk-test"})
    assert error in caught.value.errors
