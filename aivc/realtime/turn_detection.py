"""The `turn_detection` object of a session, which both dialects spell alike but for a few members.

Written out in full, as servers differ in their defaults; what a server may not know is only sent when it matters.
"""

from __future__ import annotations

from aivc.config.settings import OpenAISettings

Json = dict[str, object]

SHORTEST_IDLE_MS = 5000  # of idle_timeout_ms at OpenAI; a value outside is refused together with the whole session
LONGEST_IDLE_MS = 30000


def server_notices_idle(settings: OpenAISettings) -> bool:
    """Whether `idle_timeout_ms` can be the server's task: GA's server_vad knows it, nothing else does."""
    in_range = SHORTEST_IDLE_MS <= settings.idle_timeout_ms <= LONGEST_IDLE_MS
    return settings.dialect == "ga" and settings.turn_detection_type == "server_vad" and in_range


def ga_turn_detection(settings: OpenAISettings, *, idle_timeout: bool = True) -> Json | None:
    """Return GA's form; None switches it off.

    Args:
        idle_timeout: False takes the time-out back, where the server has it.
    """
    detection = common_turn_detection(settings)
    if detection is None:
        return None
    create, interrupt = response_switches(settings)
    # Barge-in relies on both, so they are not left to a server's defaults.
    detection |= {"create_response": create, "interrupt_response": interrupt}
    if server_notices_idle(settings):
        detection["idle_timeout_ms"] = settings.idle_timeout_ms if idle_timeout else None
    return detection


def beta_turn_detection(settings: OpenAISettings) -> Json | None:
    """Return the beta's form; None switches it off.

    Switches that are on are absent: that is their default, and the first beta servers do not know them.
    """
    detection = common_turn_detection(settings)
    if detection is None:
        return None
    create, interrupt = response_switches(settings)
    if not create:
        detection["create_response"] = False
    if not interrupt:
        detection["interrupt_response"] = False
    return detection


def response_switches(settings: OpenAISettings) -> tuple[bool, bool]:
    """Whether the server by itself answers a finished turn, and stops its answer when the caller speaks.

    What may have been a cough is decided here and not by the server, which cannot take back what it stopped.
    """
    if settings.interruption == "confirm":
        return False, False
    return settings.turn_detection_create_response, settings.turn_detection_interrupt_response


def common_turn_detection(settings: OpenAISettings) -> Json | None:
    match settings.turn_detection_type:
        case "server_vad":
            return {
                "type": "server_vad",
                "threshold": settings.turn_detection_threshold,
                "prefix_padding_ms": settings.turn_detection_prefix_ms,
                "silence_duration_ms": settings.turn_detection_silence_ms,
            }
        case "semantic_vad":
            detection: Json = {"type": "semantic_vad"}
            if settings.turn_detection_eagerness != "auto":
                detection["eagerness"] = settings.turn_detection_eagerness
            return detection
        case "none":
            return None
