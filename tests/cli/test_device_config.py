"""`gateway device config` against a running node: from a file to what a device is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import RunningNode, Shell


@pytest.fixture
def here(node: RunningNode, shell: Shell) -> Shell:
    """A shell on the node's machine."""
    return shell.with_environment(GATEWAY_DATA=str(node.data), GATEWAY_URL=node.url)


async def document(here: Shell, *arguments: str, stdin: bytes | None = None) -> Any:
    result = await here.run("device", "config", *arguments, "-o", "json", stdin=stdin)
    assert result.code == 0, result.err
    return json.loads(result.out)


async def test_set_and_go_back(here: Shell, tmp_path: Path) -> None:
    """For a label and for the device itself; history, diff and rollback; what the device gets in the end."""
    await here.run("device", "add", "conf-1", "--label", "site=conf", "--json")
    path = tmp_path / "config.json"
    path.write_text('{"interval_s": 60}')
    of_site = await document(here, "set", "-f", str(path), "--label", "site=conf", "--comment", "first")
    assert (await document(here, "get", "conf-1"))["config"] == of_site
    first = await document(here, "set", "-f", "-", "conf-1", stdin=b'{"interval_s": 5, "led": true}')
    await document(here, "set", "-f", "-", "conf-1", stdin=b'{"interval_s": 1}')
    printed = await here.run("device", "config", "get", "conf-1")
    assert json.loads(printed.out) == {"interval_s": 1}
    differences = await here.run("device", "config", "diff", "conf-1", "--from", str(first["version"]))
    assert differences.code == 0, differences.err
    assert [line.split() for line in differences.out.decode().splitlines()[1:]] == [
        ["/interval_s", "5", "1"],
        ["/led", "true", "null"],
    ]
    await document(here, "rollback", "conf-1", "--to", str(first["version"]))
    told = await here.run("stream", "--count", "1", "gateway.config", "--token", await token(here, "conf-1"))
    assert json.loads(told.out)["document"] == {"interval_s": 5, "led": True}, told.err
    history = await here.run("device", "config", "history", "conf-1", "-o", "json")
    assert len(json.loads(history.out)) == 3
    assert (await document(here, "status", "conf-1"))["state"] == "pending"
    removed = await here.run("device", "config", "rm", "conf-1", "--yes")
    assert removed.code == 0, removed.err
    assert (await document(here, "get", "conf-1"))["config"] == of_site
    standing = await here.run("device", "config", "ls", "-o", "json")
    assert "labels:site=conf" in [each["target"] for each in json.loads(standing.out)]


async def token(here: Shell, name: str) -> str:
    return (await here.run("device", "token", name)).out.decode().strip()


async def test_what_was_said_of_it(here: Shell) -> None:
    await here.run("device", "add", "conf-2", "--json")
    version = (await document(here, "set", "-f", "-", "conf-2", stdin=b"{}"))["version"]
    said = json.dumps({"version": version, "ok": False, "reason": "no such led"})
    done = await here.run("request", "gateway.config.applied", said, "--token", await token(here, "conf-2"))
    assert done.out == b"{}\n", done.err
    printed = await here.run("device", "config", "status", "--rejected")
    assert ["conf-2", "rejected", str(version)] in [line.split()[:3] for line in printed.out.decode().splitlines()]
    assert "no such led" in printed.out.decode()


async def test_misuse(here: Shell, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{")
    for arguments, why in (
        (("get",), "name a device"),
        (("rm", "a", "--all", "--yes"), "one of them"),
        (("set", "-f", str(path), "a"), "config.json"),
        (("set", "-f", str(tmp_path / "none"), "a"), "none"),
    ):
        result = await here.run("device", "config", *arguments)
        assert result.code == 2, (arguments, result)
        assert why in result.err
    await here.run("device", "add", "conf-3", "--json")
    empty = await here.run("device", "config", "get", "conf-3")
    assert (empty.code, empty.out) == (1, b"")
