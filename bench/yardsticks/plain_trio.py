"""A bridge as a good Trio programmer would write it at first: trio.socket, trio-websocket, json, three tasks a call.

    python -m bench.yardsticks.plain_trio --url wss://127.0.0.1:PORT/v1/realtime --cafile FILE

`lines.py` says what it reads and writes, README.md what it lacks.
"""

from __future__ import annotations

import itertools
import os
import ssl
import sys
from collections.abc import AsyncIterator

import attrs
import click
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from bench.yardsticks import lines, talking

HOST = "127.0.0.1"


@attrs.frozen
class Bridge:
    """Where calls go, and how to end them."""

    url: str
    tls: ssl.SSLContext | None
    _calls: dict[int, trio.CancelScope] = attrs.field(factory=dict)

    async def obey(self, commands: AsyncIterator[str]) -> None:
        """Do what the lines say, until they end."""
        async with trio.open_nursery() as nursery:
            async for line in commands:
                match lines.parse_line(line):
                    case lines.Begin() as begin:
                        self._calls[begin.number] = trio.CancelScope()
                        nursery.start_soon(self.call, begin, self._calls[begin.number])
                    case lines.End(number):
                        self._calls.pop(number).cancel()
            nursery.cancel_scope.cancel()

    async def call(self, begin: lines.Begin, until: trio.CancelScope) -> None:
        """One call, from its connection to `until` being cancelled."""
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as rtp:
            await rtp.bind((HOST, 0))
            await rtp.connect((begin.address, begin.port))
            async with open_websocket_url(
                self.url, self.tls, max_message_size=talking.LONGEST_MESSAGE_OCTETS
            ) as websocket:
                await configure(websocket)
                lines.say(f"ready {begin.number} {rtp.getsockname()[1]}")
                with until:
                    await talk(rtp, websocket)
        lines.say(f"ended {begin.number}")


async def configure(websocket: WebSocketConnection) -> None:
    """Have the session speak PCMU. Raises SessionError."""
    talking.parse_event(await websocket.get_message(), "session.created")
    await websocket.send_message(talking.SESSION_UPDATE)
    updated = talking.parse_event(await websocket.get_message(), "session.updated")
    talking.check_formats(updated["session"])


async def talk(rtp: trio.socket.SocketType, websocket: WebSocketConnection) -> None:
    """Both directions, until cancelled."""
    answer = talking.Answer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller_to_model, rtp, websocket)
        nursery.start_soon(model_to_answer, websocket, answer)
        nursery.start_soon(answer_to_caller, answer, rtp)


async def caller_to_model(rtp: trio.socket.SocketType, websocket: WebSocketConnection) -> None:
    """One append a packet."""
    while True:
        if audio := talking.payload_of(await rtp.recv(talking.LARGEST_DATAGRAM_OCTETS)):
            await websocket.send_message(talking.append_of(audio))


async def model_to_answer(websocket: WebSocketConnection, answer: talking.Answer) -> None:
    """Take the model's events as they come."""
    while True:
        answer.take(talking.parse_event(await websocket.get_message()))


async def answer_to_caller(answer: talking.Answer, rtp: trio.socket.SocketType) -> None:
    """One packet every 20 ms, each at its own time, so that lateness does not add up."""
    begin = trio.current_time()
    for number in itertools.count():
        await trio.sleep_until(begin + number * talking.FRAME_SECONDS)
        await rtp.send(answer.next_packet())


async def stdin_lines() -> AsyncIterator[str]:
    """Standard input, line by line."""
    rest = b""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stream:
        async for chunk in stream:
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.decode()


@click.command()
@click.option("--url", required=True, help="Of the Realtime API: wss://, or ws:// without TLS.")
@click.option("--cafile", help="The certificate to trust.")
def main(url: str, cafile: str | None) -> None:
    """Bridge calls between RTP and the Realtime API; standard input says which."""
    trio.run(Bridge(url, lines.tls_context(url, cafile)).obey, stdin_lines())


if __name__ == "__main__":
    main()
