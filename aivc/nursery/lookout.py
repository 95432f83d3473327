"""Where the numbers of `Status` come from in one process."""

from __future__ import annotations

import os
from typing import Any, Final

import attrs
import trio

from aivc.config.effective import without_secrets
from aivc.config.settings import Settings
from aivc.nursery.footprint import open_descriptors, resident_octets
from aivc.nursery.front_ends import FrontEnds, listening
from aivc.nursery.recorder import Recorder
from aivc.nursery.recordfile import RecordFile
from aivc.nursery.status import RegistrationState, Status
from aivc.nursery.tally import Tally
from aivc.sip.inspection import SOFTWARE
from aivc.sip.refusals import Cause
from aivc.sip.registration import RegistrationStatus

TOLD: Final = (  # settings that a look at the others cannot explain
    "openai.model",
    "service.calls_per_second",
    "service.max_pacing_ms",
    "service.workers",
    "service.drain_seconds",
    "service.max_call_seconds",
    "realtime.append_ms",
    "realtime.prewarm",
    "rtp.cushion_ms",
    "rtp.srtp",
    "opensips.enabled",
)


@attrs.frozen(eq=False)
class Lookout:
    """Sees what a service has; what the service itself knows is added by `Service.status`."""

    settings: Settings
    front_ends: FrontEnds
    tally: Tally
    records: RecordFile | None
    recorder: Recorder | None
    started_at: float  # seconds on trio's clock

    def status(self) -> Status:
        now, opensips = trio.current_time(), self.front_ends.opensips
        return Status(
            version=SOFTWARE,
            pid=os.getpid(),
            settings=told(self.settings, self.front_ends),
            uptime_seconds=round(now - self.started_at, 3),
            max_calls=self.settings.service.max_calls,
            in_progress=self.tally.in_progress(now),
            refusals=refusals(self.front_ends),
            sip=attrs.asdict(self.front_ends.agent.statistics()),
            opensips={} if opensips is None else attrs.asdict(opensips.statistics()),
            mi={} if opensips is None else attrs.asdict(opensips.command_statistics()),
            is_subscribed=None if opensips is None else opensips.is_subscribed,
            registrations=tuple(registration(one, now) for one in self.front_ends.agent.registrations),
            records_written=0 if self.records is None else self.records.written,
            records_lost=0 if self.records is None else self.records.lost,
            recordings={} if self.recorder is None else self.recorder.counts(),
            tasks=trio.lowlevel.current_statistics().tasks_living,
            rss_octets=resident_octets(),
            descriptors=open_descriptors(),
            **self.tally.counted(),
        )


def refusals(front_ends: FrontEnds) -> dict[str, int]:
    """By cause, of both front ends."""
    both = [front_ends.agent.refusals, *([] if front_ends.opensips is None else [front_ends.opensips.refusals])]
    return {cause.value: sum(one[cause.value] for one in both) for cause in Cause}


def told(settings: Settings, front_ends: FrontEnds) -> dict[str, Any]:
    """What is shown of the settings: nothing secret."""
    values = {path: getattr(getattr(settings, path.partition(".")[0]), path.partition(".")[2]) for path in TOLD}
    return {
        **values,
        "openai.url": without_secrets(settings.openai.url),
        "sip.listen": listening(front_ends.agent),
        "agents": [agent.name for agent in settings.agents],
    }


def registration(one: RegistrationStatus, now: float) -> RegistrationState:
    return RegistrationState(
        user=one.user,
        server=one.server,
        state=one.state,
        seconds=round(now - one.since, 3),
        last_error=one.last_error,
        advice=one.advice,
    )
