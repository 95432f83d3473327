"""AI voice connector: SIP calls joined to OpenAI's Realtime API, G.711 end to end, on trio.

What is named here is the public interface, together with `aivc.testing`.
"""

__version__ = "0.1.0"

from aivc.config.agents import Chosen
from aivc.config.agents import choose as choose_agent
from aivc.config.loading import ConfigError, Loaded, load
from aivc.config.settings import (
    AdminSettings,
    Agent,
    DtmfSettings,
    EngineSettings,
    HttpTool,
    LogSettings,
    McpServer,
    OpenAISettings,
    OpenSipsSettings,
    RealtimeSettings,
    RecorderSettings,
    RecordsSettings,
    RtpSettings,
    Secret,
    ServiceSettings,
    Settings,
    SipRegister,
    SipSettings,
    SipUser,
    SoundsSettings,
    ToolsSettings,
)
from aivc.media.clock import TaskClock, open_heartbeat
from aivc.media.ports import PortPool
from aivc.media.reports import Quality
from aivc.media.stream import RtpCounters
from aivc.nursery.call import serve_call
from aivc.nursery.connections import open_connections
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.latency import TurnLatency
from aivc.nursery.observers import FanOut, Subscription
from aivc.nursery.prompts import Prompts, load_prompts
from aivc.nursery.record import (
    Answered,
    CallEvent,
    CallRecord,
    Cut,
    DigitEntry,
    DigitsEntered,
    Ended,
    ModelAudible,
    Observer,
    SessionLost,
    SessionReplaced,
    ToolFinished,
    ToolRun,
    ToolStarted,
    TransferBegan,
    TransferOver,
    TransferRun,
)
from aivc.nursery.recorder import Recorder, open_recorder
from aivc.nursery.recordfile import RecordFile, open_record_file
from aivc.nursery.routing import Route, Routes, load_routes
from aivc.nursery.service import Service, open_service, run_service
from aivc.nursery.status import Status
from aivc.realtime.effects import (
    CallerSaid,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    Interrupted,
    ModelSaid,
    ModelStartedResponse,
    RealtimeError,
    ResponseFinished,
)
from aivc.realtime.history import Utterance
from aivc.realtime.toolcontext import CallControl, DigitsFailed, ToolContext, ToolOver, TransferFailed
from aivc.realtime.toolerrors import ToolError, ToolFileError
from aivc.realtime.tools import Tool, ToolRegistry, load_registry, load_tools, tool
from aivc.realtime.usage import UsageTotals
from aivc.sip.leg import (
    AckMissing,
    AudioAgreement,
    Cancelled,
    Consultation,
    ConsultationFailed,
    DigitPressed,
    FrontEnd,
    HungUp,
    Leg,
    MediaChanged,
    ReferOutcome,
    Rejection,
    SessionExpired,
    SignallingFailed,
)
from aivc.sip.opensips import OpenSips, open_opensips
from aivc.sip.registration import RegistrationStatus
from aivc.sip.useragent import UserAgent, open_user_agent

__all__ = [
    "AckMissing",
    "AdminSettings",
    "Agent",
    "Answered",
    "AudioAgreement",
    "CallControl",
    "CallEvent",
    "CallOver",
    "CallRecord",
    "CallerSaid",
    "CallerStartedSpeaking",
    "CallerStoppedSpeaking",
    "Cancelled",
    "Chosen",
    "ConfigError",
    "Consultation",
    "ConsultationFailed",
    "Cut",
    "DigitEntry",
    "DigitPressed",
    "DigitsEntered",
    "DigitsFailed",
    "DtmfSettings",
    "Ended",
    "Ending",
    "EngineSettings",
    "FanOut",
    "FrontEnd",
    "HttpTool",
    "HungUp",
    "Interrupted",
    "Leg",
    "Loaded",
    "LogSettings",
    "McpServer",
    "MediaChanged",
    "ModelAudible",
    "ModelSaid",
    "ModelStartedResponse",
    "Observer",
    "OpenAISettings",
    "OpenSips",
    "OpenSipsSettings",
    "PortPool",
    "Prompts",
    "Quality",
    "RealtimeError",
    "RealtimeSettings",
    "RecordFile",
    "Recorder",
    "RecorderSettings",
    "RecordsSettings",
    "ReferOutcome",
    "RegistrationStatus",
    "Rejection",
    "ResponseFinished",
    "Route",
    "Routes",
    "RtpCounters",
    "RtpSettings",
    "Secret",
    "Service",
    "ServiceSettings",
    "SessionExpired",
    "SessionLost",
    "SessionReplaced",
    "Settings",
    "SignallingFailed",
    "SipRegister",
    "SipSettings",
    "SipUser",
    "SoundsSettings",
    "Status",
    "Subscription",
    "TaskClock",
    "Tool",
    "ToolContext",
    "ToolError",
    "ToolFileError",
    "ToolFinished",
    "ToolOver",
    "ToolRegistry",
    "ToolRun",
    "ToolStarted",
    "ToolsSettings",
    "TransferBegan",
    "TransferFailed",
    "TransferOver",
    "TransferRun",
    "TurnLatency",
    "UsageTotals",
    "UserAgent",
    "Utterance",
    "__version__",
    "choose_agent",
    "load",
    "load_prompts",
    "load_registry",
    "load_routes",
    "load_tools",
    "open_connections",
    "open_heartbeat",
    "open_opensips",
    "open_record_file",
    "open_recorder",
    "open_service",
    "open_user_agent",
    "run_service",
    "serve_call",
    "tool",
]
