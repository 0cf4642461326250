"""A process that writes until it is killed, and tells each number once it is acknowledged.

    python -m tests.storage.load PATH FIRST [WRITERS]

Numbers go up from FIRST. A line that was written to the pipe before the kill is a promise.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

from gateway.errors import StorageError
from tests.storage.stores import insert, opened


async def main(path: Path, first: int, writers: int) -> None:
    database = await opened(path)
    count = itertools.count(first)
    os.write(1, b"ready\n")

    async def write() -> None:
        for n in count:
            await database.write(insert(n))
            os.write(1, b"%d\n" % n)

    try:
        await asyncio.gather(*(write() for _ in range(writers)))
    except StorageError as error:
        os.write(1, f"refused {error.reason}\n".encode())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 8))
