"""The environment's side of the settings: which variable means what, and which mean nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from aivc.config.catalogue import CATALOGUE, Setting

CONFIG_FILE = "CONFIG_FILE"
PREFIX = "AIVC_"
OTHER_VARIABLES = (  # read by the test suite
    "AIVC_TEST_DATA",
    "AIVC_PJSUA2_PYTHON",
    "AIVC_OPENAI_PYTHON",
    "AIVC_LITELLM_PYTHON",
    "AIVC_SPEECH_TO_SPEECH_PYTHON",
    "AIVC_AIMOCK",
    "AIVC_OPENSIPS",
    "AIVC_OPENSIPS_MODULES",
)


def given(environ: Mapping[str, str]) -> Iterator[tuple[Setting, str]]:
    """The settings that the environment names, with their text. An empty variable counts as not set."""
    for setting in CATALOGUE:
        if text := environ.get(setting.variable, ""):
            yield setting, text


def unknown(environ: Mapping[str, str]) -> Iterator[str]:
    """A warning for each variable that looks like ours and is not."""
    known = {setting.variable for setting in CATALOGUE}
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable not in known and variable not in OTHER_VARIABLES:
            yield f"{variable}: unknown environment variable, ignored{nearest(variable)}"


def nearest(variable: str) -> str:
    """The variable that was probably meant; also found by the regular name of one that has its own."""
    names = {name: setting.variable for setting in CATALOGUE for name in (setting.variable, setting.regular_variable)}
    close = difflib.get_close_matches(variable, names, 1)
    return f"; did you mean {names[close[0]]}?" if close else ""
