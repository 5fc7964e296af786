"""A program: many connections to one port, each sending as slowly as it can. Prints how long each was borne with.

``python -m tests.faults.slow_clients <port> <connections>``
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

DRIBBLE_SECONDS = 1.0

BEGINNINGS = (
    b"",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    b"POST /api/session HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n{",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\n",
)


async def main(port: int, count: int) -> None:
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    print("connected", flush=True)
    print(json.dumps(await asyncio.gather(*(_dribble(pair, n) for n, pair in enumerate(connections)))), flush=True)


async def _dribble(pair: tuple[asyncio.StreamReader, asyncio.StreamWriter], number: int) -> float:
    reader, writer = pair
    began = time.monotonic()
    ending = asyncio.create_task(_end(reader))
    beginning = BEGINNINGS[number % len(BEGINNINGS)]
    writer.write(beginning)
    while not ending.done():
        await asyncio.wait({ending}, timeout=DRIBBLE_SECONDS)
        if beginning and not ending.done():
            writer.write(b"x")
    writer.close()
    return time.monotonic() - began


async def _end(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(65_536):
            pass
    except ConnectionError:
        pass


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
