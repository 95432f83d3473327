"""Whole calls of telephones through OpenSIPS, which hands them to the service as UA sessions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
import trio

from aivc.demo.simulator import open_simulator
from aivc.nursery.ending import CallOver, Ending
from aivc.sip.reasons import reason_fields
from aivc.testing import CallRefused, Phone, open_phone
from aivc.testing.faults import Faults
from aivc.testing.model import FakeModel
from aivc.testing.script import CallTool, Context, Part, Say, decided
from aivc.testing.transfers import Transfers
from interop import opensips
from interop.calls import HEARD_OCTETS, Case, model_of
from interop.conversing import needs
from interop.dispatchers import HOST
from interop.handed_over import POLL_SECONDS, Handover, open_handover, open_several, variables_for
from interop.opensips import OpenSips, open_opensips
from interop.service_process import serving
from interop.sipp import open_target
from interop.sipp_scenario import answering, refusing
from interop.speech import caller_speech, without_negative_zero

pytestmark = [pytest.mark.interop, needs(opensips)]

LONGEST_SECONDS: Final = 30.0
HEARD_SECONDS: Final = 0.5
PROBED_SECONDS: Final = 8.0  # OPTIONS every 2 s, and 5 s until one is given up
CASES: Final = (
    Case("sipp", "PCMU", "caller"),
    Case("sipp", "PCMA", "model"),
    Case("baresip", "PCMU", "model"),
    Case("baresip", "PCMA", "caller"),
    Case("pjsip", "PCMU", "caller"),
    Case("linphone", "PCMU", "model"),
)


def talker(context: Context) -> Sequence[Part]:
    """Goes on talking."""
    return [Say("A long story.", seconds=30.0)]


def telling() -> FakeModel:
    return FakeModel(decided(talker))


WELCOME: Final = {"OPENAI_WELCOME_MSG": "Tell a long story."}
NAT: Final = {"AIVC_RTP_NAT": "on"}  # the SDP of a telephone may name another address of this machine


# Telephones


@pytest.mark.parametrize("case", [pytest.param(case, id=str(case), marks=needs(case.make)) for case in CASES])
async def test_a_telephone_talks_with_the_model_and_the_session_is_freed(case: Case, tmp_path: Path) -> None:
    model = model_of(case)
    greeted = {"OPENAI_WELCOME_MSG": "Say goodbye.", "OPENAI_TURN_DETECT_TYPE": "none"}
    variables = greeted if case.ends == "caller" else {}
    with trio.fail_after(LONGEST_SECONDS):
        async with open_handover(model, tmp_path, variables | NAT, deployed=True) as handover:
            uri = handover.opensips.uri("1000")
            async with case.make.call(uri, case.codec, tmp_path, hangs_up=case.ends == "caller") as phone:
                session = await model.wait_session()
                if case.ends == "caller":
                    await session.wait_until(lambda session: len(session.received_audio) >= HEARD_OCTETS)
                    await phone.hang_up()
                assert await phone.wait_over() == 0
            record = await handover.service.wait_log("call.ended")
            await handover.wait_sessions(0)
    assert record["ending"] == {"caller": "caller_hung_up", "model": "model_hung_up"}[case.ends]
    assert caller_speech(case.codec) in without_negative_zero(session.received_audio, case.codec)
    assert (session.errors, handover.service.log("call.bug"), handover.service.log("sip.bug")) == ([], [], [])


# What a caller may do


async def test_a_caller_who_gives_up_gets_487_and_the_session_is_freed(tmp_path: Path) -> None:
    model = telling()
    model.faults = Faults(silent_upgrade=True)  # so that the call stays unanswered
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_handover(model, tmp_path) as handover,
            open_phone() as phone,
            phone.ring(handover.opensips.uri()) as call,
        ):
            await handover.wait_sessions(1)
            await call.cancel()
            while not call.responses or call.responses[-1].status < 300:  # noqa: ASYNC110 - no event tells of it
                await trio.sleep(POLL_SECONDS)
            assert call.responses[-1].status == 487
            await handover.wait_sessions(0)


async def test_hold_resume_digits_and_other_requests_are_answered(tmp_path: Path) -> None:
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_handover(telling(), tmp_path, WELCOME) as handover,
            open_phone() as phone,
            phone.dial(handover.opensips.uri()) as call,
        ):
            await call.handset.wait_speech(HEARD_SECONDS)
            for way in ("sendonly", "inactive", "0.0.0.0"):
                assert (await call.hold(way)).status == 200
                assert (await call.resume()).status == 200
            await call.handset.wait_speech(HEARD_SECONDS)
            for digit in "1#":
                assert (await call.info_digit(digit)).status == 200
            for method, status in (("OPTIONS", 200), ("UPDATE", 200), ("MESSAGE", 405), ("SUBSCRIBE", 405)):
                assert (await call.ask(method)).status == status, method
            assert (await call.ask("REFER", (("Refer-To", "<sip:bob@192.0.2.77>"),))).status == 603
            assert (await call.ask("INFO", (), "text/plain", "hello")).status == 415
            await call.hang_up()
            record = await handover.service.wait_log("call.ended")
            await handover.wait_sessions(0)
    assert record["ending"] == "caller_hung_up"


@pytest.mark.parametrize("source", ["rtp", "info"])
async def test_digits_in_the_audio_or_by_info_are_heard(tmp_path: Path, source: str) -> None:
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_handover(telling(), tmp_path, WELCOME) as handover,
            open_phone() as phone,
            phone.dial(handover.opensips.uri()) as call,
        ):
            await call.handset.wait_speech(HEARD_SECONDS)
            if source == "rtp":
                call.handset.press("12")
            else:
                for digit in "12":
                    await call.info_digit(digit)
            await handover.service.wait_log("caller.pressed_keys", keys=2, source=source)
            await call.hang_up()
            await handover.service.wait_log("call.ended")


# Transfers


def operator(context: Context) -> Sequence[Part]:
    """Transfers the call at once; says goodbye and hangs up if it comes to nothing."""
    if context.outputs:
        return [Say("Nobody is there. Goodbye.", seconds=0.6), CallTool("terminate_call")]
    return [Say("I connect you.", seconds=0.4), CallTool("transfer_call")]


@pytest.mark.parametrize(("busy", "ending"), [(False, "transferred"), (True, "model_hung_up")])
async def test_a_transfer_is_followed_to_its_outcome(tmp_path: Path, busy: bool, ending: str) -> None:
    steps = refusing("486 Busy Here") if busy else answering("PCMU")
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_target(steps, tmp_path) as (uri, target),
            open_handover(FakeModel(decided(operator)), tmp_path, {"OPENAI_TRANSFER_TO": uri} | WELCOME) as handover,
            open_phone() as phone,
        ):
            async with phone.dial(handover.opensips.uri(), transfers=Transfers(calls="always")) as call:
                await call.wait_hung_up()
                record = await handover.service.wait_log("call.ended")
                await handover.wait_sessions(0)
            assert await target.wait_exit() == 0  # the second call ends with the first one's telephone
    assert record["ending"] == ending
    assert call.requests[-1].headers.get("Reason")


# Restarts


async def test_a_restart_of_opensips_ends_its_calls_and_new_ones_come(tmp_path: Path) -> None:
    with trio.fail_after(LONGEST_SECONDS):
        async with open_handover(telling(), tmp_path, WELCOME) as handover, open_phone() as phone:
            async with phone.dial(handover.opensips.uri()) as call:
                await call.handset.wait_speech(HEARD_SECONDS)
                await handover.restart_opensips(tmp_path)
                await handover.service.wait_log("opensips.lapsed")
                lost = await handover.service.wait_log("call.ended")
            assert lost["ending"] not in ("caller_hung_up", "model_hung_up")
            async with phone.dial(handover.opensips.uri()) as call:
                await call.handset.wait_speech(HEARD_SECONDS)
            await handover.wait_sessions(0)


async def test_sessions_of_a_connector_that_died_are_ended_when_it_is_back(tmp_path: Path) -> None:
    with trio.fail_after(LONGEST_SECONDS):
        async with open_handover(telling(), tmp_path, WELCOME) as handover, open_phone() as phone:
            async with phone.dial(handover.opensips.uri()) as call:
                await call.handset.wait_speech(HEARD_SECONDS)
                await handover.restart_service()
                await call.wait_hung_up()
            await handover.wait_sessions(0)
            assert handover.service.log("opensips.orphan")
            async with phone.dial(handover.opensips.uri()) as call:
                await call.handset.wait_speech(HEARD_SECONDS)


async def test_a_service_that_drains_or_is_full_refuses_with_503_and_frees_the_session(tmp_path: Path) -> None:
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_handover(telling(), tmp_path, {"AIVC_SERVICE_MAX_CALLS": "1"} | WELCOME) as handover,
            open_phone() as phone,
            phone.dial(handover.opensips.uri()) as call,
        ):
            await call.handset.wait_speech(HEARD_SECONDS)
            await refused_with_503(phone, handover)
            await handover.wait_sessions(1)
            await call.hang_up()
            await handover.wait_sessions(0)


async def refused_with_503(phone: Phone, handover: Handover) -> None:
    with pytest.raises(CallRefused) as refusal:
        async with phone.dial(handover.opensips.uri()):
            pass
    assert refusal.value.status == 503


# Why a call is over, for the caller's switch


@pytest.mark.parametrize("ending", [Ending.MODEL_HUNG_UP, Ending.MAX_DURATION, Ending.REALTIME_LOST])
async def test_the_reasons_of_our_bye_reach_the_caller_as_we_wrote_them(ending: Ending, tmp_path: Path) -> None:
    model = FakeModel(decided(leaver)) if ending is Ending.MODEL_HUNG_UP else telling()
    limits = {"AIVC_SERVICE_MAX_CALL_SECONDS": "1"} if ending is Ending.MAX_DURATION else {}
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_handover(model, tmp_path, {"AIVC_OPENAI_RECONNECT": "false"} | limits | WELCOME) as handover,
            open_phone() as phone,
            phone.dial(handover.opensips.uri()) as call,
        ):
            await call.handset.wait_speech(HEARD_SECONDS)
            if ending is Ending.REALTIME_LOST:
                (await model.wait_session()).drop()
            await call.wait_hung_up()
            await handover.service.wait_log("call.ended", ending=ending.value)
    over = CallOver(ending)
    bye = call.requests[-1]
    assert bye.method == "BYE"
    assert bye.headers.lines("Reason") == reasons(over.reason, over.status)


def leaver(context: Context) -> Sequence[Part]:
    """Says goodbye and hangs up."""
    return [Say("Goodbye.", seconds=HEARD_SECONDS), CallTool("terminate_call")]


def reasons(text: str, status: int) -> list[str]:
    """As we write them: by SIP status, and by Q.850 cause."""
    fields = [value for _, value in reason_fields(text, status)]
    assert [field.partition(";")[0] for field in fields] == ["SIP", "Q.850"]
    return fields


async def test_the_reasons_of_our_refusal_reach_the_caller_as_we_wrote_them(tmp_path: Path) -> None:
    model = telling()
    model.faults = Faults(refuse_upgrade=401)
    with trio.fail_after(LONGEST_SECONDS):
        async with open_handover(model, tmp_path) as handover, open_phone() as phone:
            with pytest.raises(CallRefused) as refusal:
                async with phone.dial(handover.opensips.uri()):
                    pass
            await handover.service.wait_log("call.ended", ending=Ending.REALTIME_REFUSED.value)
    over = CallOver(Ending.REALTIME_REFUSED)
    assert refusal.value.response.headers.lines("Reason") == reasons(over.reason, over.status)


# The other ways to reach it


async def test_commands_by_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "mi.sock"
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_simulator(telling()) as url,
            open_opensips(tmp_path, mi_path=path) as running,
            serving(url, **variables_for(1), AIVC_OPENSIPS_SOCKET=str(path), **WELCOME) as service,
            open_phone() as phone,
        ):
            await service.wait_log("opensips.subscribed")
            async with phone.dial(running.uri()) as call:
                await call.handset.wait_speech(HEARD_SECONDS)
            await service.wait_log("call.ended", ending="caller_hung_up")


async def test_of_several_connectors_the_one_that_the_script_names_takes_the_call(tmp_path: Path) -> None:
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_simulator(telling()) as url,
            open_several(tmp_path) as (several, sip_ports),
            serving(url, **variables_of_one(several, 1, sip_ports)) as first,
            serving(url, **variables_of_one(several, 2, sip_ports)) as second,
            open_phone() as phone,
        ):
            for service in (first, second):
                await service.wait_log("opensips.subscribed")
            await trio.sleep(PROBED_SECONDS)
            for _ in range(4):
                async with phone.dial(several.uri()) as call:
                    await call.handset.wait_speech(0.1)
            second.kill()
            await trio.sleep(PROBED_SECONDS)
            answered = len(second.log("call.answered"))
            for _ in range(2):
                async with phone.dial(several.uri()) as call:
                    await call.handset.wait_speech(0.1)
            assert (len(first.log("call.answered")), answered) == (4, 2)


def variables_of_one(several: OpenSips, number: int, sip_ports: Sequence[int]) -> dict[str, str]:
    """Of one of the connectors: both front ends, and its name."""
    port = sip_ports[number - 1]
    own = {"AIVC_OPENSIPS_INSTANCE": f"aivc-{number}", "AIVC_SIP_LISTEN": f"udp:{HOST}:{port}"}
    return variables_for(several.mi_port) | {"AIVC_SIP_ENABLED": "true", "AIVC_SIP_TRUSTED": HOST} | own | WELCOME
