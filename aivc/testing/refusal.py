"""How a call of the test phone fails."""

from __future__ import annotations

from aivc.sip.message import Response


class CallRefused(Exception):
    """The INVITE was answered with a failure."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.status} {response.reason}")
        self.status = response.status
        self.response = response
