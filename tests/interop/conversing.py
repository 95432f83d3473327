"""The service with a model whose script matters, its records on disk, and an ear on the wire."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import attrs
import pytest
import trio

from aivc.demo.simulator import open_simulator
from aivc.testing.handset import RtpHeard
from aivc.testing.model import FakeModel
from aivc.testing.schema import Json
from aivc.testing.session import Session
from interop import baresip, linphone, pjsip, sipp
from interop.phone import Make
from interop.service_process import ServiceProcess, serving
from interop.wire import Datagram, Wire, open_wire

LONGEST_SECONDS = 60.0  # a call whose ACK never comes takes 32 s
POLL_SECONDS = 0.02  # the capture has no event to wait for
CSEQ = re.compile(rb"\r\nCSeq: *(\d+) ", re.IGNORECASE)


class Tool(Protocol):
    """A module for some program."""

    def missing(self) -> str | None:
        """Why it cannot be used here; None when it can."""


MAKES: Mapping[str, Make] = {"baresip": baresip, "sipp": sipp, "linphone": linphone, "pjsip": pjsip}


def phones(*names: str) -> pytest.MarkDecorator:
    """Run the test with each of these makes as its argument `make`; skipped where one is not installed."""
    return pytest.mark.parametrize(
        "make", [pytest.param(MAKES[name], id=name, marks=needs(MAKES[name])) for name in names]
    )


def needs(tool: Tool) -> pytest.MarkDecorator:
    """Skip the test where this is not installed."""
    return pytest.mark.skipif(tool.missing() is not None, reason=str(tool.missing()))


@attrs.define(eq=False)
class Scene:
    """Made by `open_scene()`."""

    service: ServiceProcess
    model: FakeModel
    folder: Path  # of the records
    captured: Wire | None  # None: the system lets nobody listen

    @property
    def wire(self) -> Wire:
        assert self.captured is not None, "this test needs `wire.missing()` to be None"
        return self.captured

    @property
    def record(self) -> Json:
        """The only one, from its file, once the scene is over."""
        (record,) = self.records
        return record

    @property
    def records(self) -> list[Json]:
        lines = chain.from_iterable(file.read_text().splitlines() for file in sorted(self.folder.glob("*.jsonl")))
        return [json.loads(line) for line in lines]

    def invites_answered(self) -> list[Datagram]:
        """The first 200 to each INVITE of the only call, re-INVITEs included."""
        answers = [d for d in self.wire.sip(self.service.port, "SIP/2.0 200") if b" INVITE\r\n" in d.payload]
        first = {cseq_of(answer): answer for answer in reversed(answers)}
        return sorted(first.values(), key=cseq_of)

    async def wait_invites_answered(self, count: int) -> None:
        while len(self.invites_answered()) < count:  # noqa: ASYNC110 - packets are only noted as they pass
            await trio.sleep(POLL_SECONDS)

    def rtp_to_phone(self) -> list[RtpHeard]:
        """All packets of the call to where its first offer wants them."""
        phone, service = self.wire.media_of(self.service.port)
        return self.wire.rtp(service, phone)


def cseq_of(datagram: Datagram) -> int:
    found = CSEQ.search(datagram.payload)
    assert found is not None, datagram
    return int(found[1])


def outputs_told(session: Session) -> list[str]:
    """What the model was told that its functions gave."""
    created = session.received("conversation.item.create")
    return [event["item"]["output"] for event in created if event["item"]["type"] == "function_call_output"]


def texts_told(session: Session) -> list[str]:
    """What the model was told in writing as the caller's."""
    created = session.received("conversation.item.create")
    messages = [event["item"] for event in created if event["item"]["type"] == "message"]
    return [item["content"][0]["text"] for item in messages if item["role"] == "user"]


@asynccontextmanager
async def open_scene(model: FakeModel, folder: Path, toml: str = "", **variables: str) -> AsyncIterator[Scene]:
    """`aivc serve` with this model for the length of the block; by default the model speaks first, and is not heard.

    Args:
        toml: the configuration file.
        variables: environment variables, which win.
    """
    records, file = folder / "records", folder / "aivc.toml"
    file.write_text(toml)
    told: dict[str, Any] = {
        "CONFIG_FILE": str(file),
        "AIVC_RECORDS_DIRECTORY": str(records),
        "OPENAI_WELCOME_MSG": "Greet the caller.",
        "OPENAI_TURN_DETECT_TYPE": "none",
    }
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_wire() as wire,
            open_simulator(model) as url,
            serving(url, **told | variables) as service,
        ):
            yield Scene(service, model, records, wire)
