"""linphonec (package linphone-cli), with WAV files in place of a sound card."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aivc.config.settings import Codec
from interop.phone import PLAIN, Line, RealPhone
from interop.program import open_program
from interop.speech import caller_audio, write_wav

CONFIG = """\
[sip]
sip_port={udp}
sip_tcp_port={tcp}
sip_tls_port={tls}
use_ipv6=0
{sip}[rtp]
audio_rtp_port=-1
download_ptime={ptime_ms}
[sound]
echocancellation=0
echolimiter=0
agc=0
"""
PORT, NO_PORT = -1, 0  # any free one, none
# Its mbed TLS knows no IP addresses in certificates, so the name is not checked, only who has signed.
CERTIFICATES = "root_ca={folder}/ca.pem\nverify_server_certs=1\nverify_server_cn=0\n"
SRTP = "media_encryption=srtp\nsrtp_crypto_suites=AES_CM_128_HMAC_SHA1_{srtp}\n"
CONTACT = "contact=sip:{user}@127.0.0.1\n"
TIMER = "session_expires_enabled=1\nsession_expires_value={seconds}\nsession_expires_refresher_value=1\n"
PASSWORD = "[auth_info_0]\nusername={user}\npasswd={password}\nrealm=aivc\n"
CODEC = "[audio_codec_{number}]\nmime={mime}\nrate={rate}\nchannels={channels}\nenabled={enabled}\n"
CODECS = (
    *(("opus", 48000, 2), ("speex", 16000, 1), ("speex", 8000, 1), ("G729", 8000, 1)),
    *(("PCMU", 8000, 1), ("PCMA", 8000, 1)),
)
DATA = Path(".local", "share", "linphone")  # below HOME; without it linphonec opens no SIP port, and says nothing
SOMEWHERE = ("192.0.2.1", 9)  # RFC 5737: nothing is sent there, it only tells our own address


def missing() -> str | None:
    return None if shutil.which("linphonec") else "linphonec is not installed (Debian: linphone-cli)"


def host() -> str:
    """The machine's own address: that is what linphonec writes into its SDP, even when it calls 127.0.0.1."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(SOMEWHERE)
        except OSError:  # a machine without a network
            return "127.0.0.1"
        own: str = probe.getsockname()[0]
        return own


def config(codec: Codec, line: Line) -> str:
    sections = [
        CODEC.format(number=number, mime=mime, rate=rate, channels=channels, enabled=int(mime == codec))
        for number, (mime, rate, channels) in enumerate(CODECS)
    ]
    sip = CERTIFICATES.format(folder=line.certificates) if line.certificates else ""
    sip += SRTP.format(srtp=line.srtp) if line.srtp else ""
    sip += TIMER.format(seconds=line.session_seconds) if line.session_seconds else ""
    if line.credentials is not None:
        user, password = line.credentials
        sip += CONTACT.format(user=user)
        sections.append(PASSWORD.format(user=user, password=password))
    ports = {name: PORT if name == line.transport else NO_PORT for name in ("udp", "tcp", "tls")}
    return CONFIG.format(sip=sip, ptime_ms=line.ptime_ms, **ports) + "".join(sections)


@asynccontextmanager
async def call(uri: str, codec: Codec, folder: Path, *, hangs_up: bool, line: Line = PLAIN) -> AsyncIterator[RealPhone]:
    to_play, to_record = folder / "caller.wav", folder / "heard.wav"
    write_wav(to_play, caller_audio(codec), codec)
    (folder / "linphonerc").write_text(config(codec, line))
    (folder / DATA).mkdir(parents=True)
    environ = os.environ | {"HOME": str(folder)}
    async with open_program(["linphonec", "-c", "linphonerc"], folder=folder, environ=environ) as program:
        for typed in ("soundcard use files", "ipv6 disable", f"play {to_play}", f"record {to_record}", f"call {uri}"):
            await program.type(typed)
        yield RealPhone(
            program=program,
            hang_up_line="terminate" if hangs_up else None,
            over=r"Call 1 with \S+ ended",
            quit_line="quit",
            recording=lambda: to_record,
        )
