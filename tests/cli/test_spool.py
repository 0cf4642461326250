"""`gateway spool` on a running node."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import RunningNode, Shell

WAIT = "kind: Spool\nname: wait\nmatch: [{service: historian}]\nminFree: 0%\nmaxBytes: 1MiB\n"


async def listed(shell: Shell, messages: int) -> dict[str, Any]:
    """What `spool ls` says of the one spool, once so many messages wait in it."""
    async with asyncio.timeout(30):
        while True:
            rows = json.loads((await shell.run("spool", "ls", "-o", "json")).out)
            if rows and rows[0]["messages"] == messages:
                found: dict[str, Any] = rows[0]
                return found


async def test_what_waits(node: RunningNode, shell: Shell, tmp_path: Path) -> None:
    here = shell.with_environment(GATEWAY_URL=node.url, GATEWAY_DATA=str(node.data))
    file = tmp_path / "spool.yaml"
    file.write_text(WAIT)
    assert (await here.run("apply", "-f", str(file))).code == 0
    for text in ("one", "two", "three"):
        assert (await here.run("fnf", "historian.write", text)).code == 0
    assert (await listed(here, 3))["name"] == "wait/historian"
    table = (await here.run("spool", "ls")).out.decode().splitlines()
    assert table[1].split()[:2] == ["wait/historian", "3"]
    peeked = (await here.run("spool", "peek", "wait/historian", "-o", "jsonl", "--limit", "2")).out.splitlines()
    assert [json.loads(line)["data"] for line in peeked] == ["one", "two"]
    assert (await here.run("spool", "replay", "wait/historian")).out == b"3 messages\n"
    assert (await here.run("spool", "drop", "wait/historian")).code == 2
    one = json.loads(peeked[0])["id"]
    dry = await here.run("spool", "drop", "wait/historian", "--id", one, "--dry-run")
    assert dry.out == b"1 messages dropped (dry run: nothing was changed)\n"
    assert (await here.run("spool", "drop", "wait/historian", "--id", one, "--yes")).out == b"1 messages dropped\n"
    assert (await here.run("spool", "drop", "wait/historian", "--yes")).out == b"2 messages dropped\n"
    assert (await listed(here, 0))["lost"] == {"dropped": 3}
    assert (await here.run("delete", "spool", "wait", "--yes")).code == 0
