"""The same bridge with asyncio, uvloop and websockets, as a good asyncio programmer would write it.

    python -m bench.yardsticks.uvloop_bridge --url wss://127.0.0.1:PORT/v1/realtime --cafile FILE [--no-uvloop]

`lines.py` says what it reads and writes, README.md what it lacks.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
import sys

import attrs
import click
from websockets.asyncio.client import ClientConnection, connect

from bench.yardsticks import lines, talking

HOST = "127.0.0.1"
WAITING_PACKETS = 500  # of a caller's, ten seconds of them; more than that means that the model's server has stalled


@attrs.define(eq=False)
class Caller(asyncio.DatagramProtocol):
    """A caller's RTP socket; what it hears waits in a queue for the WebSocket."""

    heard: asyncio.Queue[bytes] = attrs.field(factory=lambda: asyncio.Queue(WAITING_PACKETS))

    def datagram_received(self, data: bytes, addr: object) -> None:
        if audio := talking.payload_of(data):
            self.heard.put_nowait(audio)

    def error_received(self, exc: Exception) -> None:
        """An ICMP error: the next packet may arrive."""


@attrs.frozen
class Bridge:
    """Where calls go, and how to end them."""

    url: str
    tls: ssl.SSLContext | None
    _calls: dict[int, asyncio.Event] = attrs.field(factory=dict)

    async def obey(self) -> None:
        """Do what the lines say, until they end."""
        commands = await stdin_lines()
        async with asyncio.TaskGroup() as tasks:
            running: set[asyncio.Task[None]] = set()
            while line := await commands.readline():
                match lines.parse_line(line.decode()):
                    case lines.Begin() as begin:
                        self._calls[begin.number] = asyncio.Event()
                        task = tasks.create_task(self.call(begin, self._calls[begin.number]))
                        running.add(task)
                        task.add_done_callback(running.discard)
                    case lines.End(number):
                        self._calls.pop(number).set()
            for task in running:
                task.cancel()

    async def call(self, begin: lines.Begin, over: asyncio.Event) -> None:
        """One call, from its connection until it is `over`."""
        loop = asyncio.get_running_loop()
        rtp, caller = await loop.create_datagram_endpoint(
            Caller, local_addr=(HOST, 0), remote_addr=(begin.address, begin.port)
        )
        try:
            async with connect(
                self.url, ssl=self.tls, compression=None, proxy=None, max_size=talking.LONGEST_MESSAGE_OCTETS
            ) as websocket:
                await configure(websocket)
                lines.say(f"ready {begin.number} {rtp.get_extra_info('sockname')[1]}")
                await talk(rtp, caller, websocket, over)
        finally:
            rtp.close()
        lines.say(f"ended {begin.number}")


async def configure(websocket: ClientConnection) -> None:
    """Have the session speak PCMU. Raises SessionError."""
    talking.parse_event(await websocket.recv(), "session.created")
    await websocket.send(talking.SESSION_UPDATE)
    updated = talking.parse_event(await websocket.recv(), "session.updated")
    talking.check_formats(updated["session"])


async def talk(
    rtp: asyncio.DatagramTransport, caller: Caller, websocket: ClientConnection, over: asyncio.Event
) -> None:
    """Both directions, until the call is over."""
    answer = talking.Answer()
    async with asyncio.TaskGroup() as tasks:
        directions = (
            tasks.create_task(caller_to_model(caller, websocket)),
            tasks.create_task(model_to_answer(websocket, answer)),
            tasks.create_task(answer_to_caller(answer, rtp)),
        )
        await over.wait()
        for direction in directions:
            direction.cancel()


async def caller_to_model(caller: Caller, websocket: ClientConnection) -> None:
    """One append a packet."""
    while True:
        await websocket.send(talking.append_of(await caller.heard.get()))


async def model_to_answer(websocket: ClientConnection, answer: talking.Answer) -> None:
    """Take the model's events as they come."""
    while True:
        answer.take(talking.parse_event(await websocket.recv()))


async def answer_to_caller(answer: talking.Answer, rtp: asyncio.DatagramTransport) -> None:
    """One packet every 20 ms, each at its own time, so that lateness does not add up."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for number in itertools.count():
        await asyncio.sleep(begin + number * talking.FRAME_SECONDS - loop.time())
        rtp.sendto(answer.next_packet())


async def stdin_lines() -> asyncio.StreamReader:
    """Standard input, line by line."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


@click.command()
@click.option("--url", required=True, help="Of the Realtime API: wss://, or ws:// without TLS.")
@click.option("--cafile", help="The certificate to trust.")
@click.option("--uvloop/--no-uvloop", "fast", default=True, help="Run on uvloop, or on asyncio's own loop.")
def main(url: str, cafile: str | None, fast: bool) -> None:
    """Bridge calls between RTP and the Realtime API; standard input says which."""
    bridge = Bridge(url, lines.tls_context(url, cafile))
    if fast:
        import uvloop

        uvloop.run(bridge.obey())
    else:
        asyncio.run(bridge.obey())


if __name__ == "__main__":
    main()
