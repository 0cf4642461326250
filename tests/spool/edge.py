"""An edge that accepts messages and delivers them, until it is killed.

    python -m tests.spool.edge SPOOL SOCKET FIRST

Eight writers number their messages from FIRST on; below 0 nobody writes, and it ends when nothing waits any more. On
standard output: `ready`, `try KEY NUMBER` before an append, `acked KEY NUMBER` after it, `alarm SLUG`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from pathlib import Path

from gateway.spool.delivery import Delivery
from gateway.spool.message import Batch, Message
from gateway.spool.pace import Pace
from gateway.spool.rules import SpoolRules
from gateway.spool.store import Grouping, SpoolStore

WRITERS = 8
#: Messages in flight, at most: what may come twice after a kill.
WINDOW = 256


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def main(path: Path, socket: str, first: int) -> None:
    store = await SpoolStore.open(
        path, "edge-1", grouping=Grouping(100, 0.002), alarm=lambda slug, text: say(f"alarm {slug}")
    )
    spool = await store.spool("uplink", SpoolRules(min_free=0.0))

    async def send(batch: Batch) -> None:
        reader, writer = await asyncio.open_unix_connection(socket)
        try:
            message = {
                "node": batch.node,
                "lane": batch.lane,
                "epoch": batch.epoch,
                "oldest": batch.oldest_epoch,
                "floor": batch.floor,
                "messages": [[one.id.seq, one.key.decode(), one.payload.decode()] for one in batch.messages],
            }
            writer.write(json.dumps(message).encode() + b"\n")
            if await reader.readline() != b"stored\n":
                raise ConnectionResetError("no acknowledgement")
        finally:
            writer.close()

    delivery = Delivery(
        spool, send, pace=Pace(window=WINDOW, max_window=WINDOW), start_jitter_s=0.0, first_retry_s=0.005
    )
    delivering = asyncio.create_task(delivery.run())
    count = itertools.count(first)

    async def write(key: str) -> None:
        for number in count:
            say(f"try {key} {number}")
            await spool.append([Message(b"%d" % number, key.encode(), priority=5)])
            say(f"acked {key} {number}")

    say("ready")
    if first >= 0:
        await asyncio.gather(delivering, *(write(f"w{number}") for number in range(WRITERS)))
    while spool.messages:
        if delivering.done():
            await delivering
        await asyncio.sleep(0.01)
    delivering.cancel()
    await asyncio.gather(delivering, return_exceptions=True)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
