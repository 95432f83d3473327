"""A model that is far away: a relay that holds back every octet, both ways, for a while.

`python -m bench.distance MS` listens on a free port of 127.0.0.1, prints it, and reads from its standard input the port
that connections go to; they wait until it is told. The end of its input ends it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

HOST: Final = "127.0.0.1"
PIECE: Final = 65_536  # octets
HELD: Final = 1000  # pieces, each way


class Relay:
    """Where connections go to, and how far that is."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.port: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def accept(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """One connection; making it takes as long as its octets do."""
        await asyncio.sleep(2 * self.seconds)
        far, onward = await asyncio.open_connection(HOST, await self.port)
        await asyncio.gather(self.carry(near, onward), self.carry(far, back))

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, until it is closed."""
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD)
        sending = asyncio.create_task(self.send(held, writer))
        try:
            while data := await reader.read(PIECE):
                await held.put((asyncio.get_running_loop().time() + self.seconds, data))
            await held.put((asyncio.get_running_loop().time() + self.seconds, b""))
            await sending
        except ConnectionError:
            sending.cancel()
        finally:
            writer.close()

    async def send(self, held: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        """What is held back, each piece when its time has come."""
        while True:
            due, data = await held.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            if not data:
                return
            writer.write(data)
            await writer.drain()


async def serve(seconds: float) -> None:
    """Until the standard input ends."""
    relay = Relay(seconds)
    server = await asyncio.start_server(relay.accept, HOST, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        relay.port.set_result(int(await asyncio.to_thread(sys.stdin.readline)))
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]) / 1000))
