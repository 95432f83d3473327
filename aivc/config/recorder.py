"""The settings of the flight recorder."""

from __future__ import annotations

from typing import Literal

import attrs

from aivc.config.metadata import about
from aivc.config.rules import mask_name


@attrs.frozen(kw_only=True)
class RecorderSettings:
    """`[recorder]`: a file for each call, with all that came and went, for `aivc show` and `aivc replay`."""

    mode: Literal["off", "on_error", "always"] = attrs.field(
        default="off",
        metadata=about("Of which calls a file is kept: none, those that ended as calls should not, or all"),
    )
    directory: str | None = attrs.field(
        default=None, metadata=about("The folder for them; needed unless mode is off", example="flights")
    )
    audio: Literal["hash", "keep"] = attrs.field(
        default="hash",
        metadata=about("Whether what was heard and spoken is in them, or only a digest of each packet"),
    )
    mask: tuple[str, ...] = attrs.field(
        default=("numbers", "transcripts"),
        metadata=about(
            "What is made unreadable: numbers and names of callers, what was said and the arguments of tools; secrets"
            " always are",
            rule=mask_name,
        ),
    )
    max_call_kib: int = attrs.field(
        default=2048,
        metadata=about(
            "Memory for one call; of a longer one the beginning and the end are kept", unit="KiB", low=64, high=500000
        ),
    )
    max_files: int = attrs.field(
        default=1000, metadata=about("Files in the folder; the oldest are deleted", low=1, high=100000)
    )
    max_disk_mib: int = attrs.field(
        default=1024,
        metadata=about("Their size together; the oldest are deleted", unit="MiB", low=1, high=100000),
    )
