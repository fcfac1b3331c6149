"""Asks the digits model for ten held-out samples, pipelined over one connection. Standard library only.

usage: python3 client.py [HOST [PORT]]
"""

import asyncio
import json
import struct
import sys
from pathlib import Path

HELD_OUT = Path(__file__).resolve().parents[2] / "config" / "models" / "digits" / "held-out.json"


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">I", await reader.readexactly(4))
    return await reader.readexactly(length)


async def main(host: str = "127.0.0.1", port: str = "8081") -> int:
    samples = json.loads(HELD_OUT.read_text())["samples"][:10]
    reader, writer = await asyncio.open_connection(host, int(port))
    for sample in samples:
        payload = struct.pack("<64f", *sample["pixels"])
        writer.write(struct.pack(">I", len(payload)) + payload)
    await writer.drain()
    failed = 0
    for sample in samples:  # replies come in the order of the requests
        reply = await read_frame(reader)
        if not reply:  # an empty frame: this request failed
            failed += 1
            continue
        probabilities = struct.unpack("<10f", reply)
        digit = probabilities.index(max(probabilities))
        print(f"label {sample['label']}  answer {digit}  probability {max(probabilities):.3f}")
    writer.close()
    await writer.wait_closed()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:3])))
