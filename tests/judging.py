"""Requests for `Sources` to judge, and its verdicts as text."""

from __future__ import annotations

from paper_flow import read_request

from aivc.sip.message import Request
from aivc.sip.sources import Sources


def request(method: str = "OPTIONS", user_agent: str = "phone/1") -> Request:
    return read_request(
        f"""{method} sip:200@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1
From: <sip:100@example.com>;tag=1
To: <sip:200@192.0.2.1>
Call-ID: one
CSeq: 1 {method}
User-Agent: {user_agent}"""
    )


def judged(sources: Sources, times: int, now: float = 0.0, ip: str = "192.0.2.10", method: str = "OPTIONS") -> str:
    """One letter for each verdict."""
    verdicts = [sources.judge(request(method), ip, now, in_dialog=False) for _ in range(times)]
    return "".join(verdict.name[1] for verdict in verdicts)  # sErve, dRop, fOrbid, sLow_down
