"""docs/phone.md: every snippet runs as printed, in Node.js or as a command, against a real node."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.control.snippets import Credential, browser
from tests.interop.conftest import Node
from tests.interop.peers import GATEWAY_CLIENT, HERE, Library, Peer

ROOT = HERE.parents[1]
PAGE = (ROOT / "docs" / "phone.md").read_text()
CLIENT = ROOT / "gateway" / "admin" / "dashboard" / "client"
SNIPPETS = re.findall(r"^```js\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
OPTIONS = re.findall(
    r"^  (\w+):", (CLIENT / "gateway-client.js").read_text().split("const DEFAULTS = {")[1].split("\n}")[0], re.M
)

pytestmark = [
    pytest.mark.xdist_group("interop"),
    pytest.mark.parametrize("client", [GATEWAY_CLIENT], ids=str, scope="module"),
]


def run(snippet: str, node: Node, token: str, tmp_path: Path) -> list[str]:
    """What it prints. Node.js 20 has no WebSocket of its own."""
    head = f"""
import {{ createRequire }} from "node:module";
globalThis.WebSocket ??= createRequire({json.dumps(str(HERE / "js" / "peer.js"))})("ws");
const TOKEN = {json.dumps(token)};
"""
    body = snippet.replace("ws://127.0.0.1:7878/rsocket", node.url("ws"))
    program = tmp_path / "snippet.mjs"
    program.write_text(head + body.replace("./gateway-client.js", str(CLIENT / "gateway-client.js")))
    done = subprocess.run(["node", str(program)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_snippets(client: Library, node: Node, token: str, tmp_path: Path) -> None:
    with Peer(client) as peer:
        args = {"url": node.url("ws"), "token": token, "services": ["thermo"]}
        peer.command("connect", connection="thermo", **args, answers={"read": "21.5"})
        assert run(SNIPPETS[0], node, token, tmp_path) == ["21.5"]
    assert run(SNIPPETS[1], node, token, tmp_path) == [
        "21",
        "769 nothing divides by zero",
        "note from interop",
        "A",
        "B",
        "0 1",
    ]
    lines = run(SNIPPETS[2], node, token, tmp_path)
    assert lines[:2] == ["connecting ", "online "]
    assert lines[2].endswith(" interop")
    assert lines[3] == "closed CLOSED: closed by this side"
    assert len(SNIPPETS) == 3


def test_what_the_dashboard_gives_for_a_browser(client: Library, node: Node, token: str, tmp_path: Path) -> None:
    program = browser(Credential("kitchen", node.url("ws"), token, "2026-11-24T08:00:00Z"))
    more = 'console.log((await link.request("kitchen.hello", "world")).text());\nlink.close();\n'
    assert run(program + more, node, token, tmp_path) == ["hello world"]


def test_the_command(client: Library, node: Node) -> None:
    (printed,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    program, *arguments = shlex.split(printed.replace("gateway-data", str(node.data)))
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert b"/rsocket#device=phone&token=" in done.stdout


def test_every_option_is_documented_and_typed(client: Library) -> None:
    types = (CLIENT / "gateway-client.d.ts").read_text()
    typed = re.findall(r"^  (\w+)\?:", types.split("export interface Options {")[1].split("\n}")[0], re.M)
    assert typed == OPTIONS
    assert [name for name in OPTIONS if f"`{name}`" not in PAGE] == []
