"""The test phone's credentials: challenges answered, and answered wrongly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import md5, sha256
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc.sip.message import Request, parse_untrusted
from aivc.testing import CallRefused, Credentials, Phone, VirtualNetwork, open_phone
from aivc.testing.credentials import Mistake, read_challenge
from aivc.testing.wording import Audio, answer_to, describe, status_line

SERVER = ("192.0.2.1", 5060)
URI = "sip:1000@192.0.2.1:5060"
SDP = describe(Audio(own=("192.0.2.1", 40_000), codec="PCMU", telephone_event=None, ptime_ms=20))


@attrs.define(eq=False)
class Guard:
    """A tiny server that wants every request but ACK and CANCEL to be authenticated."""

    socket: trio.socket.SocketType
    algorithms: tuple[str, ...] = ("SHA-256", "MD5")
    status: int = 401
    counts: set[int] = attrs.field(factory=set)
    requests: list[Request] = attrs.field(factory=list)

    async def run(self) -> None:
        while True:
            data, source = await self.socket.recvfrom(65_535)
            request = parse_untrusted(data)
            assert isinstance(request, Request)
            self.requests.append(request)
            if request.method != "ACK":
                await self.socket.sendto(self.answer(request), source)

    def answer(self, request: Request) -> bytes:
        if request.method != "CANCEL" and not self.is_authentic(request):
            name = "WWW-Authenticate" if self.status == 401 else "Proxy-Authenticate"
            challenges = [
                (name, f'Digest realm="x", nonce="abcd", opaque="o", qop="auth", algorithm={algorithm}')
                for algorithm in self.algorithms
            ]
            return answer_to(request, status_line(self.status), challenges, tag="guard")
        fields = (("Contact", f"<{URI}>"), ("Content-Type", "application/sdp"))
        return answer_to(request, "200 OK", fields, SDP if request.method == "INVITE" else "", tag="guard")

    def is_authentic(self, request: Request) -> bool:
        given = request.headers.get("Authorization" if self.status == 401 else "Proxy-Authorization")
        if given is None:
            return False
        values = read_challenge(given)
        count = int(values.get("nc", "0"), 16)
        fresh = count not in self.counts
        self.counts.add(count)
        make = {"SHA-256": sha256, "MD5": md5}[values["algorithm"]]

        def hashed(text: str) -> str:
            return make(text.encode()).hexdigest()

        asked = hashed(f"{request.method}:{request.target}")
        middle = f"abcd:{values.get('nc')}:{values.get('cnonce')}:auth"
        return fresh and values["response"] == hashed(f"{hashed('alice:x:secret')}:{middle}:{asked}")


@asynccontextmanager
async def open_guarded(phone: dict[str, Any], **settings: Any) -> AsyncIterator[tuple[Guard, Phone]]:
    VirtualNetwork(delay=0.005).enable()
    with trio.fail_after(100), trio.socket.socket(type=trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(SERVER)
        async with trio.open_nursery() as nursery, open_phone("192.0.2.9", **phone) as opened:
            guard = Guard(socket, **settings)
            nursery.start_soon(guard.run)
            yield guard, opened
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [401, 407])
async def test_challenges_are_answered_and_the_nonce_is_used_on(
    autojump_clock: MockClock, any_schedule: int, status: int
) -> None:
    async with open_guarded({"password": "secret"}, status=status) as (guard, phone):
        async with phone.dial(URI) as call:
            assert [response.status for response in call.responses] == [status, 200]
            assert (await call.ask("OPTIONS")).status == 200
            assert (await call.reinvite(call.describe())).status == 200
        sent = [request.method for request in guard.requests]
        assert sent == ["INVITE", "ACK", "INVITE", "ACK", "OPTIONS", "INVITE", "ACK", "BYE"]
        assert guard.requests[0].cseq.number < guard.requests[2].cseq.number
        assert guard.requests[0].via.branch == guard.requests[1].via.branch != guard.requests[2].via.branch


@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
async def test_a_phone_may_know_one_algorithm_alone(autojump_clock: MockClock, algorithm: Any) -> None:
    async with open_guarded({"credentials": Credentials("alice", "secret", algorithm)}) as (guard, opened):
        async with opened.dial(URI):
            pass
        assert f"algorithm={algorithm}" in guard.requests[2].header("Authorization")
    phone = {"credentials": Credentials("alice", "secret", algorithm)}
    async with open_guarded(phone, algorithms=("SHA-512-256",)) as (_, opened):
        with pytest.raises(CallRefused, match="401"):
            async with opened.dial(URI):
                pass


MISTAKES: list[Mistake] = ["wrong password", "unknown user", "forged nonce", "other uri", "without qop"]


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_mistakes_are_made_to_the_end(autojump_clock: MockClock, mistake: Mistake) -> None:
    async with open_guarded({"credentials": Credentials("alice", "secret", mistake=mistake)}) as (guard, phone):
        with pytest.raises(CallRefused, match="401"):
            async with phone.dial(URI):
                pass
        assert len([request for request in guard.requests if request.method == "INVITE"]) == 3


async def test_a_counter_may_be_used_twice(autojump_clock: MockClock) -> None:
    phone = {"credentials": Credentials("alice", "secret", mistake="repeated nc")}
    async with open_guarded(phone) as (_, opened), opened.dial(URI) as call:
        assert (await call.ask("OPTIONS")).status == 401


async def test_without_credentials_a_challenge_is_a_refusal(autojump_clock: MockClock) -> None:
    async with open_guarded({}) as (_, phone):
        with pytest.raises(CallRefused, match="401"):
            async with phone.dial(URI):
                pass
