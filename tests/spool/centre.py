"""A centre that takes what edges deliver, until it is killed.

    python -m tests.spool.centre DATABASE SOCKET

On standard output: `ready`, `again COUNT` for messages that had come before, `alarm SLUG`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import sys
from pathlib import Path

from gateway.spool.inbox import Arrived, Inbox
from gateway.storage.database import Database
from gateway.storage.schema import Migration, Schema

EFFECTS = Schema(0x54455354, (Migration(1, "0001", "CREATE TABLE effects (key TEXT, number INTEGER)"),))
LINE_BYTES = 1024 * 1024


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def main(path: Path, socket: str) -> None:
    database = await Database.open(path, EFFECTS, alarm=lambda slug, text: say(f"alarm {slug}"))
    inbox = Inbox(database)
    await inbox.prepare()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if line.endswith(b"\n"):
            came = json.loads(line)
            by_seq = {seq: (key, int(number)) for seq, key, number in came["messages"]}

            def effect(connection: sqlite3.Connection, seq: int) -> None:
                connection.execute("INSERT INTO effects VALUES (?, ?)", by_seq[seq])

            arrived = Arrived(came["node"], came["lane"], came["epoch"], came["oldest"], came["floor"], tuple(by_seq))
            receipt = await inbox.receive(arrived, effect)
            if receipt.duplicates:
                say(f"again {receipt.duplicates}")
            writer.write(b"stored\n")
        writer.close()

    with contextlib.suppress(FileNotFoundError):
        os.unlink(socket)
    async with await asyncio.start_unix_server(take, socket, limit=LINE_BYTES) as server:
        say("ready")
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
