"""`gateway demo`: what it prints works as printed, and Ctrl-C ends all of it."""

from __future__ import annotations

import asyncio
import shlex
import signal
from pathlib import Path

import httpx

from tests.cli.conftest import Shell, alive, children_of
from tests.client.peer import free_port


def demo_shell(shell: Shell, port: int) -> Shell:
    return shell.with_environment(
        GATEWAY__LISTEN__WEBSOCKET=f"127.0.0.1:{port}",
        GATEWAY__LISTEN__TCP="127.0.0.1:0",
        GATEWAY__ADMIN__LISTEN="127.0.0.1:0",
        GATEWAY__TELEMETRY__LISTEN="127.0.0.1:0",
    )


async def typed(command: str, shell: Shell) -> tuple[int, bytes]:
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command), env=shell.environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, out


async def test_demo(shell: Shell, tmp_path: Path) -> None:
    data = tmp_path / "data"
    demo = await demo_shell(shell, free_port()).start("demo", "--data", str(data))
    assert demo.stdout is not None
    printed: list[str] = []
    async with asyncio.timeout(60):
        devices: set[str] = set()
        while len(devices) < 3:
            line = (await demo.stdout.readline()).decode()
            assert line, printed
            printed.append(line)
            if line.lstrip()[:2].isdigit():
                devices.add(line.split()[1])
    assert devices == {"thermostat-1", "thermostat-2", "thermostat-3"}
    (link,) = [line.strip() for line in printed if "/#/login?code=" in line]
    admin, _, login = link.partition("/#/login?code=")
    async with httpx.AsyncClient(base_url=admin, trust_env=False) as browser:
        tokens = (await browser.post("/api/v1/auth/login", json={"code": login})).json()
        assert tokens["user"]["name"] == "admin"
        authorization = {"authorization": f"Bearer {tokens['access_token']}"}
        summary = (await browser.get("/api/v1/devices/summary", headers=authorization)).json()
        assert (summary["total"], summary["online"]) == (3, 3)
    commands = [line.strip() for line in printed if "gateway.cli" in line]
    assert len(commands) == 3
    started = children_of(demo.pid)
    assert len(started) == 4
    request, stream, routes = commands
    assert "thermostat-1.set_target 21.5" in request
    code, out = await typed(request, shell)
    assert code == 0
    assert b"21.5" in out
    code, out = await typed(stream, shell)
    assert (code, len(out.splitlines())) == (0, 5)
    code, out = await typed(routes, shell)
    assert code == 0
    assert {b"telemetry", b"thermostat-3"} <= {line.split()[0] for line in out.splitlines()}
    demo.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(demo.communicate(), 40)
    assert (demo.returncode, err) == (0, b"")
    assert not [pid for pid in started if alive(pid)]


async def test_says_why_the_node_does_not_start(shell: Shell, tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    result = await demo_shell(shell, port).spawn("demo", "--data", str(tmp_path / "data"), timeout=40)
    assert result.code == 1
    assert "the node did not start" in result.err
    assert str(port) in result.err
    server.close()
    await server.wait_closed()
