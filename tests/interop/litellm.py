"""LiteLLM's proxy (PyPI: litellm[proxy]), which relays Realtime sessions; AIVC_LITELLM_PYTHON names its interpreter."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aivc.demo.simulator import MODEL
from interop.program import open_program

VARIABLE = "AIVC_LITELLM_PYTHON"
HOST = "127.0.0.1"
CONFIG = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_key: sk-of-the-relay
      api_base: {upstream}
"""
SETTINGS = {
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # asks nobody in the Internet
}


def missing() -> str | None:
    python = os.environ.get(VARIABLE)
    if python is None:
        return f"{VARIABLE} names no Python interpreter that has LiteLLM (PyPI: litellm[proxy])"
    return None if program(python).exists() else f"{VARIABLE}: there is no {program(python)}"


def program(python: str) -> Path:
    return Path(python).with_name("litellm")


@asynccontextmanager
async def open_litellm(upstream: str, folder: Path) -> AsyncIterator[str]:
    """Relay to the server at `ws://HOST:PORT/v1/realtime` for the length of the block; the URL of the relay."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
    config = folder / "litellm.yaml"
    base = upstream.replace("ws://", "http://").removesuffix("/realtime")
    config.write_text(CONFIG.format(model=MODEL, upstream=base))
    command: list[str | Path] = [program(os.environ[VARIABLE]), "--config", config, "--host", HOST, "--port", f"{port}"]
    async with open_program(command, folder=folder, environ=os.environ | SETTINGS) as running:
        await running.wait_output("Uvicorn running")
        yield f"http://{HOST}:{port}/v1"
