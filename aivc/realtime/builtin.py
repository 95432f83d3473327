"""The functions that every model is offered. What real models make of them hangs on every word of the descriptions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aivc.config.settings import OpenAISettings
from aivc.realtime.definition import Tool, tool
from aivc.realtime.schema import Parameter
from aivc.realtime.toolcontext import ToolContext
from aivc.realtime.transfers import can_transfer, transfer_deadline


@tool
async def terminate_call(context: ToolContext) -> str:
    """Hang up the phone, ending this call for good.

    Use it when the conversation is finished: the caller has said goodbye, has asked you to hang up, or has confirmed
    that nothing else is needed. Always say a short goodbye aloud first, in the same turn and before calling this
    function, because nothing can be said afterwards; what you have already said is still played to the end. Do not call
    it because of a silence, a pause or a misunderstanding, and never while the caller is still asking for something.
    """
    context.hang_up()
    return "The call is ending."


TRANSFER: Final = (
    "Transfer this phone call, so that the caller speaks with somebody else and you leave the call.\n\n"
    "Use it when the caller asks for a person, a department or a number, or when you cannot help. Always tell the"
    " caller first, in one short sentence and in the same turn, whom you are connecting them to; what you say is played"
    " to the end before the transfer begins. If it fails you are told why: tell the caller, and go on with the"
    " conversation. Do not try the same transfer again unless the caller asks for it."
)


ATTENDED: Final = (
    " The other side is called first and told who comes. That may take a minute, in which the caller waits: say so."
)


async def transfer(context: ToolContext, target: str | None = None) -> str:
    return await context.transfer(target)


def transfer_call(settings: OpenAISettings) -> Tool:
    """The tool that transfers a call where these settings allow it to go."""
    typed = (Parameter("context", ToolContext, True), Parameter("target", str | None, False))
    description = TRANSFER + ATTENDED if settings.transfer_attended else TRANSFER
    schema, seconds = transfer_schema(settings), transfer_deadline(settings)
    return Tool("transfer_call", description, schema, transfer, typed, seconds=seconds)


def transfer_schema(settings: OpenAISettings) -> dict[str, object]:
    """The names that are configured; free text only where something else may be allowed, too."""
    names, free = list(settings.transfer_targets), bool(settings.transfer_allow)
    target: dict[str, object] = {"type": "string", "description": "Whom to transfer the call to."}
    if free:
        said = f"One of {', '.join(names)}, or a" if names else "A"
        target["description"] = (
            f"Whom to transfer the call to. {said} telephone number or SIP URI that the caller gave you; many are"
            " refused, never make one up."
        )
    elif names:
        target["enum"] = names
    if settings.transfer_to is not None and (names or free):
        target["description"] = f"{target['description']} Leave it out for the usual place."
    return {
        "type": "object",
        "properties": {"target": target} if names or free else {},
        "required": ["target"] if settings.transfer_to is None else [],
        "additionalProperties": False,
    }


@tool
async def send_digits(context: ToolContext, digits: str) -> str:
    """Send telephone key tones (DTMF) to the other side of this call.

    Use it only when the other side is a machine that asks for keys, such as a voice menu ("press 1 for sales") or a
    conference that asks for a number, or when you are asked to send certain keys. It is not how you tell a person a
    number: say numbers aloud.

    Args:
        digits: the keys in their order, each one of 0 to 9, *, # and A to D, for example "1" or "4711#".
    """
    await context.send_digits(digits)
    return f"The keys {digits} were sent."


def builtin_tools(settings: OpenAISettings) -> Iterator[Tool]:
    """Those that these settings offer."""
    tools = [terminate_call, *([transfer_call(settings)] if can_transfer(settings) else []), send_digits]
    return (definition for definition in tools if definition.name not in settings.disabled_tools)
