"""docs/client.md: every snippet is a program that runs as printed, against a real node."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from gateway import client
from gateway.client import Options, connect
from gateway.node import Node
from tests.client.conftest import Mint, url_of

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SERVE, CALL, MODELS, LINK = range(4)


async def start(node: Node, snippet: int, token: str) -> asyncio.subprocess.Process:
    program = SNIPPETS[snippet].replace("ws://127.0.0.1:7878/rsocket", url_of(node, "ws"))
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        program,
        env={**os.environ, "GATEWAY_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def output(process: asyncio.subprocess.Process) -> str:
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_serve_and_call(node: Node, mint: Mint) -> None:
    serving = await start(node, SERVE, mint("thermo", services=("thermo",)))
    try:
        async with connect(url_of(node, "ws"), mint()) as gw, asyncio.timeout(20):
            while True:
                try:
                    assert await gw.request("thermo.read") == b"21.5"
                    break
                except client.RequestFailed:
                    await asyncio.sleep(0.05)
        assert await output(await start(node, CALL, mint("app"))) == "b'21.5'\n"
    finally:
        serving.terminate()
        await serving.communicate()


async def test_the_four_models(node: Node, mint: Mint) -> None:
    lines = (await output(await start(node, MODELS, mint("plant")))).splitlines()
    assert sorted(lines) == sorted(["b'21'", "0x301 nothing divides by zero", "note from plant", "[b'A', b'B']"])


async def test_the_link(node: Node, mint: Mint) -> None:
    assert await output(await start(node, LINK, mint("app"))) == "up connected to edge-1\nedge-1 app\n"


def test_every_snippet_is_run() -> None:
    assert len(SNIPPETS) == 4


def test_ten_lines_to_serve_three_to_call() -> None:
    assert len(SNIPPETS[SERVE].strip().splitlines()) <= 10
    body = SNIPPETS[CALL].split("async def main() -> None:\n")[1].split("\n\n")[0]
    assert len(body.splitlines()) <= 3


@pytest.mark.parametrize("option", [field.name for field in fields(Options)])
def test_every_option_is_documented(option: str) -> None:
    assert f"`{option}`" in PAGE


@pytest.mark.parametrize("name", [name for name in client.__all__ if isinstance(getattr(client, name), type)])
def test_every_exception_is_documented(name: str) -> None:
    if issubclass(getattr(client, name), Exception):
        assert f"`{name}`" in PAGE
