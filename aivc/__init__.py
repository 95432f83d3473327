"""AI voice connector: SIP calls joined to OpenAI's Realtime API, G.711 end to end, on trio.

What is named here is the public interface, together with `aivc.testing`.
"""

__version__ = "0.1.0"

from aivc.config.settings import (
    LogSettings,
    OpenAISettings,
    RtpSettings,
    Secret,
    ServiceSettings,
    Settings,
    SipSettings,
)
from aivc.media.clock import TaskClock, open_heartbeat
from aivc.media.ports import PortPool
from aivc.nursery.call import serve_call
from aivc.nursery.ending import Ending
from aivc.nursery.record import CallEvent, CallRecord
from aivc.nursery.service import Service, open_service, run_service
from aivc.realtime.tools import Tool, ToolContext, ToolFileError, ToolRegistry, load_tools, tool
from aivc.sip.leg import Leg, Rejection
from aivc.sip.useragent import UserAgent, open_user_agent

__all__ = [
    "CallEvent",
    "CallRecord",
    "Ending",
    "Leg",
    "LogSettings",
    "OpenAISettings",
    "PortPool",
    "Rejection",
    "RtpSettings",
    "Secret",
    "Service",
    "ServiceSettings",
    "Settings",
    "SipSettings",
    "TaskClock",
    "Tool",
    "ToolContext",
    "ToolFileError",
    "ToolRegistry",
    "UserAgent",
    "__version__",
    "load_tools",
    "open_heartbeat",
    "open_service",
    "open_user_agent",
    "run_service",
    "serve_call",
    "tool",
]
