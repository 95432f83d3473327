"""baresip (package baresip-core), which plays and records WAV files without a sound card."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aivc.config.settings import Codec
from interop.phone import PLAIN, Line, RealPhone
from interop.program import open_program
from interop.speech import caller_audio, write_wav

MODULES = ("/usr/lib/baresip/modules", "/usr/local/lib/baresip/modules", "/usr/lib64/baresip/modules")
NAMES = {"PCMU": "pcmu", "PCMA": "pcma"}
# sndfile writes what the decoder gives to dump-TIME-dec.wav; there need be no player.
CONFIG = """\
module_path {modules}
module stdio.so
module g711.so
module aufile.so
module sndfile.so
module srtp.so
module rtcpsummary.so
module_tmp account.so
module_app menu.so
sip_listen {host}:0
audio_source aufile,{folder}/caller.wav
audio_player aufile,{folder}/heard.wav
audio_alert aufile,{folder}/alert.wav
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
statmode_default off
snd_path {folder}
"""
CERTIFICATES = "sip_cafile {folder}/ca.pem\nsip_certificate {folder}/telephone.pem\n"
ACCOUNT = "<sip:{user}@{host};transport={transport}>;regint=0;audio_codecs={codec}/8000/1;ptime={ptime_ms}{more}\n"


def modules() -> str | None:
    return next((folder for folder in MODULES if Path(folder, "aufile.so").exists()), None)


def missing() -> str | None:
    if shutil.which("baresip") is None or modules() is None:
        return "baresip is not installed (Debian: baresip-core)"
    return None


def host() -> str:
    return "127.0.0.1"


def account(codec: Codec, address: str, line: Line) -> str:
    user, password = line.credentials or ("baresip", None)
    more = "" if password is None else f";auth_user={user};auth_pass={password}"
    more += ";mediaenc=srtp-mand" if line.srtp else ""
    return ACCOUNT.format(
        user=user, host=address, transport=line.transport, codec=NAMES[codec], ptime_ms=line.ptime_ms, more=more
    )


@asynccontextmanager
async def call(uri: str, codec: Codec, folder: Path, *, hangs_up: bool, line: Line = PLAIN) -> AsyncIterator[RealPhone]:
    """Calls over IPv6 when that is what the URI has."""
    own = "::1" if "[" in uri else host()
    bracketed = "[::1]" if "[" in uri else host()
    write_wav(folder / "caller.wav", caller_audio(codec), codec)
    certificates = CERTIFICATES.format(folder=line.certificates) if line.certificates else ""
    settings = CONFIG.format(modules=modules(), folder=folder, host=bracketed) + certificates
    (folder / "config").write_text(settings)
    (folder / "accounts").write_text(account(codec, bracketed, line))
    (folder / "contacts").touch()
    command: list[str | Path] = ["baresip", "-f", folder, "-n", own, "-e", f"/dial {uri}"]
    async with open_program(command, folder=folder) as program:
        yield RealPhone(
            program=program,
            hang_up_line="/hangup" if hangs_up else None,
            over=r"terminated \(duration|session closed",
            quit_line="/quit",
            recording=lambda: next(folder.glob("dump-*-dec.wav")),
            key_heard="event: '{}' (end=1)",
            hold_line="x",
            resume_line="X",
        )
