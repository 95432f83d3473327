"""What a tool call may fail by, with texts that are meant for the model."""

from __future__ import annotations

from aivc.config.loading import ConfigError


class ToolFileError(ConfigError):
    """The model's functions cannot be had as they are configured; the message names the setting and the cause."""

    def __init__(self, cause: str, setting: str = "openai.tools") -> None:
        super().__init__((f"{setting}: {cause}",))


class ToolError(Exception):
    """Raised by a tool to tell the model what went wrong, in words that it can act on."""


class ToolArgumentsError(ToolError):
    """The model's call cannot be made; the message tells the model how to correct it."""


class UnknownToolError(ToolArgumentsError):
    """The model called a function that was never offered."""
