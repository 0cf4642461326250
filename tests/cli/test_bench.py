"""`gateway bench`: every shape against a node, for a moment. What comes back is counted, not timed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import RunningNode, Shell

SHORT = ("-d", "400ms", "-o", "json")
BRIEF = (*SHORT, "--warm-up", "50ms")


async def bench(shell: Shell, node: RunningNode, *arguments: str, url: str | None = None) -> dict[str, Any]:
    result = await shell.run("bench", *arguments, "--url", url or node.url, "--data", str(node.data))
    assert (result.code, result.err) == (0, ""), result
    document: dict[str, Any] = json.loads(result.out)
    assert (document["errors"], document["unfinished"]) == (0, 0)
    assert document["operations"] > 0
    return document


@pytest.mark.parametrize(
    ("model", "options", "shape"),
    [
        ("rr", ("-r", "3", "-w", "4", "-s", "2", "-b", "100", "-c", "5"), "r=3 w=4 s=2 b=100 idle=5"),
        ("rr", ("--masked",), "r=1 w=64 s=1 b=32"),
        ("fnf", (), "r=1 w=1 s=1 b=32"),
        ("stream", ("-n", "100", "--credit", "10"), "r=1 w=64 s=1 b=32 n=100"),
        ("channel", ("-n", "100", "-w", "2"), "r=1 w=2 s=1 b=32 n=100"),
    ],
)
async def test_models(node: RunningNode, shell: Shell, model: str, options: tuple[str, ...], shape: str) -> None:
    document = await bench(shell, node, model, *options, *BRIEF)
    assert (document["name"], document["shape"]) == (model, shape)
    assert document["rate"] == pytest.approx(document["operations"] / document["seconds"], rel=0.01)


async def test_over_tcp(node: RunningNode, shell: Shell) -> None:
    await bench(shell, node, "rr", *BRIEF, url=f"tcp://127.0.0.1:{node.tcp_port}")


async def test_connections(node: RunningNode, shell: Shell) -> None:
    await bench(shell, node, "connect", "-w", "4", *SHORT)
    storm = await bench(shell, node, "storm", "-n", "25", "--first", "100ms", "-o", "json")
    assert storm["operations"] == storm["more"]["tries"] == 25
    assert storm["more"]["last_s"] > 0


async def test_a_route_of_the_node_itself(node: RunningNode, shell: Shell) -> None:
    await bench(shell, node, "rr", "-s", "0", "--route", "gateway.time", *BRIEF)


async def test_one_line_for_people(node: RunningNode, shell: Shell) -> None:
    result = await shell.run("bench", "rr", "-d", "200ms", "--url", node.url, "--data", str(node.data))
    (line,) = result.out.decode().splitlines()
    assert line.startswith("rr ")
    assert "req/s" in line
    assert line.endswith("errors 0")


async def test_what_went_wrong(node: RunningNode, shell: Shell) -> None:
    where = ("--url", node.url, "--data", str(node.data))
    nobody = await shell.run("bench", "rr", "-s", "0", "--route", "no.body", "-d", "100ms", "--warm-up", "0", *where)
    assert nobody.code == 1
    assert nobody.err.splitlines() == ["gateway: 0x202 no route to no.body", "gateway: nothing came back"]
    token = await shell.run("bench", "rr", "--url", node.url, "--token", "no.good.token")
    assert token.code == 1
    assert "0x003" in token.err
    gone = await shell.run("bench", "rr", "--url", "ws://127.0.0.1:1/rsocket", "--data", str(node.data))
    assert gone.code == 4
    devices = await shell.run("bench", "storm", "--url", node.url, "--token", "x", "--data", "/nonexistent")
    assert devices.code == 2
    assert "--data" in devices.err
