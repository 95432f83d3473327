"""The same kind of file as the OpenSIPS AI Voice Connector CE takes: it runs unchanged.

    OPENAI_TOOLS=examples/tools_ce.py aivc serve

`FUNCTIONS` is what the model sees; a function of the same name gets the engine and the arguments as JSON text.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

FUNCTIONS = [
    {
        "type": "function",
        "name": "order_status",
        "description": "Tell how far an order is.",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "string", "description": "the order's number"}},
            "required": ["number"],
        },
    },
    {"type": "function", "name": "cancel_order", "description": "Cancel the order and end the call."},
]


def order_status(engine: Any, arguments: str) -> str:
    """What a function returns is given to the model."""
    return f"order {json.loads(arguments)['number']} of {engine.call.call_id} is on its way"


def cancel_order(engine: Any, arguments: str) -> None:
    """A client event is sent in a task."""
    response = {"instructions": "Say that the order is cancelled, and goodbye."}
    asyncio.create_task(engine.ws.send(json.dumps({"type": "response.create", "response": response})))  # noqa: RUF006
    engine.terminate_call()
