"""A client of the original server: sends frames of random bytes, expects each framed reply to have RESPONSE_SIZE bytes.

usage: python3 original_client.py [HOST [PORT [RESPONSE_SIZE]]]     against MODEL=dummy; standard library only
"""

import asyncio
import os
import random
import sys

LENGTH_FIELD_SIZE = int(os.environ.get("LENGTH_FIELD_SIZE", "4"))


async def request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, payload: bytes) -> bytes:
    writer.write(len(payload).to_bytes(LENGTH_FIELD_SIZE, "big") + payload)
    await writer.drain()
    length = int.from_bytes(await reader.readexactly(LENGTH_FIELD_SIZE), "big")
    return await reader.readexactly(length)


async def client(host: str, port: int, response_size: int) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    wrong = 0
    for _ in range(100):
        reply = await request(reader, writer, os.urandom(random.randint(1, 2000)))
        wrong += reply != b"X" * response_size
    writer.close()
    await writer.wait_closed()
    return wrong


async def main(host: str = "127.0.0.1", port: str = "9000", response_size: str = "5") -> int:
    wrong = sum(await asyncio.gather(*(client(host, int(port), int(response_size)) for _ in range(5))))
    print(f"500 requests over 5 connections, {wrong} wrong replies")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:4])))
