"""One whole call of a real telephone, and all that was seen of it from every side."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import trio

from aivc.config.settings import Address, Codec
from aivc.demo.simulator import open_simulator
from aivc.testing.handset import RtpHeard
from aivc.testing.model import FakeModel
from aivc.testing.script import CallTool, Context, Part, Say, decided
from interop import baresip, linphone, pjsip, sipp
from interop.certificates import write_certificates
from interop.phone import DIALLED, PLAIN, Line, Make
from interop.service_process import LogLine, ServiceProcess, serving
from interop.speech import LEAD_SECONDS, SPEECH_SECONDS, model_speech, read_wav
from interop.wire import Wire, open_wire

LONGEST_SECONDS = 40.0
HEARD_OCTETS = round(8000 * (LEAD_SECONDS + SPEECH_SECONDS + 1.2))  # then the model, too, has long said everything

MAKES: Mapping[str, Make] = {"baresip": baresip, "sipp": sipp, "linphone": linphone, "pjsip": pjsip}


@attrs.frozen
class Case:
    """Who calls, in which law, and who ends the call."""

    phone: str
    codec: Codec
    ends: Literal["caller", "model"]
    line: Line = PLAIN
    variables: Mapping[str, str] = attrs.field(factory=dict)  # the service's environment
    toml: str = ""  # the service's configuration file
    host: str | None = None  # of the service; None: where this make calls

    @property
    def make(self) -> Make:
        return MAKES[self.phone]

    @property
    def is_readable(self) -> bool:
        """Whether whoever listens to the wire can follow the call: IPv4, and no keys."""
        return self.line.transport != "tls" and self.line.srtp is None and ":" not in (self.host or "")

    def __str__(self) -> str:
        return f"{self.phone}-{self.codec}-{self.ends}-hangs-up"


@attrs.frozen(kw_only=True)
class Media:
    """The RTP of a call, as it was on the wire."""

    from_phone: Sequence[RtpHeard]
    to_phone: Sequence[RtpHeard]
    bye_from: Address  # who sent BYE
    service: Address  # of its SIP
    dropped: int  # datagrams that the capture missed


@attrs.frozen(kw_only=True)
class Call:
    """A call, when it is over."""

    case: Case
    printed: str  # by the telephone
    exit_status: int  # of the telephone
    seconds: float  # from the start of the telephone to its end
    recording: bytes | None  # what the telephone heard, 16-bit samples; None: it keeps no recording
    answer: bytes  # what the model said, octets
    heard_by_model: bytes  # octets
    model_errors: Sequence[Mapping[str, object]]
    close_code: int  # of the WebSocket
    record: LogLine  # the line call.ended
    media: Media | None  # None: the system lets nobody listen, or the call cannot be read
    wire: Wire | None  # which hears all that passes, of other calls as well
    port: int  # of the service's SIP
    log: Sequence[LogLine]  # the service's, from start to end


def model_of(case: Case) -> FakeModel:
    """The caller and the model talk at once and the caller hangs up; or the model answers, says goodbye, hangs up."""
    answer: list[Part] = [Say("Goodbye.", audio=model_speech(case.codec), codec=case.codec)]

    def respond(context: Context) -> Sequence[Part]:
        if case.ends == "caller":
            return answer
        return [*answer, CallTool("terminate_call")] if context.turns else []

    return FakeModel(decided(respond))


def variables_of(case: Case, folder: Path) -> dict[str, str]:
    """The service's environment; what it is to read from files is written into the folder."""
    host, transport = case.host or case.make.host(), case.line.transport
    (folder / "aivc.toml").write_text(case.toml)
    variables = {
        "CONFIG_FILE": str(folder / "aivc.toml"),
        "AIVC_SIP_LISTEN": f"{transport}:{f'[{host}]' if ':' in host else host}:0",
        "AIVC_RTP_BIND_IPV6" if ":" in host else "RTP_BIND_IP": host,
    }
    if case.line.certificates is not None:
        write_certificates(case.line.certificates, host)
        variables |= {"AIVC_SIP_TLS_CERTIFICATE": str(case.line.certificates / "service.pem")}
    if case.ends == "caller":
        variables |= {"OPENAI_WELCOME_MSG": "Say goodbye.", "OPENAI_TURN_DETECT_TYPE": "none"}
    return variables | dict(case.variables)


async def make_call(case: Case, folder: Path) -> Call:
    """The whole call, with a service and a model of its own."""
    model = model_of(case)
    if case.line.transport == "tls":
        line = attrs.evolve(case.line, certificates=folder / "certificates")
        case = attrs.evolve(case, line=line)
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_wire() as wire,
            open_simulator(model) as url,
            serving(url, **variables_of(case, folder)) as service,
        ):
            seen = await watch_call(case, folder, model, service)
        media = media_of(wire, service.port) if wire is not None and case.is_readable else None
    return Call(
        case=case, answer=model_speech(case.codec), media=media, wire=wire, port=service.port, log=service.log(), **seen
    )


async def watch_call(case: Case, folder: Path, model: FakeModel, service: ServiceProcess) -> dict[str, Any]:
    """Dial, wait until it is over on every side, and note what each has seen."""
    started = time.monotonic()
    uri, caller_ends = service.uri(DIALLED, case.line.transport), case.ends == "caller"
    async with case.make.call(uri, case.codec, folder, hangs_up=caller_ends, line=case.line) as phone:
        session = await model.wait_session()
        if caller_ends:
            await session.wait_until(lambda session: len(session.received_audio) >= HEARD_OCTETS)
            await phone.hang_up()
        exit_status = await phone.wait_over()
    return {
        "printed": phone.program.output,
        "exit_status": exit_status,
        "seconds": time.monotonic() - started,
        "recording": read_wav(phone.recording()) if phone.recording else None,
        "close_code": await session.wait_closed(),
        "heard_by_model": session.received_audio,
        "model_errors": session.errors,
        "record": await service.wait_log("call.ended"),
    }


def media_of(wire: Wire, port: int) -> Media:
    at_phone, at_service = wire.media_of(port)
    return Media(
        from_phone=wire.rtp(at_phone, at_service),
        to_phone=wire.rtp(at_service, at_phone),
        bye_from=wire.sip(port, "BYE ")[0].source,
        service=(at_service[0], port),
        dropped=wire.dropped,
    )
