from __future__ import annotations

import aivc
import aivc.testing

PUBLIC = {
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
}


def test_the_public_names_are_these_and_no_others() -> None:
    assert set(aivc.__all__) == PUBLIC


def test_every_public_name_exists_and_says_what_it_is() -> None:
    for module in (aivc, aivc.testing):
        for name in module.__all__:
            thing = getattr(module, name)
            if callable(thing):
                assert thing.__doc__, f"{module.__name__}.{name} has no docstring"
