"""The first start: what is said once, that it opens the admin API, and that it is gone after the first login."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import httpx
import pytest

from gateway.control.runtime import Runtime
from tests.cli.conftest import Shell

LISTENERS = ("LISTEN__WEBSOCKET", "LISTEN__TCP", "ADMIN__LISTEN", "TELEMETRY__LISTEN")


async def until_said(process: asyncio.subprocess.Process, text: str) -> str:
    assert process.stderr is not None
    said = ""
    async with asyncio.timeout(30):
        while text not in said:
            line = (await process.stderr.readline()).decode()
            assert line, said
            said += line
    return said


async def ended(process: asyncio.subprocess.Process) -> tuple[str, str]:
    process.send_signal(signal.SIGTERM)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    return out.decode(), err.decode()


async def test_password_is_said_once_and_forgotten_at_the_first_login(shell: Shell, tmp_path: Path) -> None:
    """Fault 100, complaint 2: generated, shown once, never in the log; nothing but a new one may be set with it."""
    data = tmp_path / "data"
    here = shell.with_environment(**{f"GATEWAY__{name}": "127.0.0.1:0" for name in LISTENERS})
    node = await here.start("run", "--dev", "--data", str(data))
    log = await until_said(node, '"ready"')
    file = data / "first-run.txt"
    assert node.stdout is not None
    shown = (await asyncio.wait_for(node.stdout.readuntil(b"Add a device"), 30)).decode()
    password = re.findall(r"password +(\S+)", shown)[0]
    assert password in await asyncio.to_thread(file.read_text)
    assert file.stat().st_mode & 0o777 == 0o600
    runtime = Runtime.read(data)
    assert runtime is not None
    async with httpx.AsyncClient(base_url=f"{runtime.admin}/api/v1", trust_env=False) as client:
        wrong = await client.post("/auth/login", json={"name": "admin", "password": "admin"})
        assert wrong.status_code == 401
        assert file.exists()
        tokens = (await client.post("/auth/login", json={"name": "admin", "password": password})).json()
        assert not file.exists()
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert (await client.get("/devices", headers=bearer)).status_code == 403
        changed = {"old_password": password, "new_password": "a better one than that"}
        assert (await client.post("/auth/password", json=changed, headers=bearer)).status_code == 200
    out, err = await ended(node)
    assert (shown + out).count(password) == 1
    assert password not in log + err
    again = await here.start("run", "--dev", "--data", str(data))
    await until_said(again, '"ready"')
    assert (await ended(again))[0] == ""
    assert not file.exists()


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
async def test_admin_for_everybody_speaks_tls(shell: Shell, tmp_path: Path, listen: str) -> None:
    """Fault 100: on an address that others reach, passwords do not cross the network in the clear, also with --dev."""
    data = tmp_path / "data"
    settings = {f"GATEWAY__{name}": "127.0.0.1:0" for name in LISTENERS} | {"GATEWAY__ADMIN__LISTEN": listen}
    node = await shell.with_environment(**settings).start("run", "--dev", "--data", str(data))
    await until_said(node, '"ready"')
    runtime = Runtime.read(data)
    assert runtime is not None
    assert runtime.admin.startswith("https://")
    status = await shell.run("status", "--data", str(data))
    assert status.code == 0, status.err
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.HTTPError):
            await client.get(f"http://127.0.0.1:{runtime.admin.rpartition(':')[2]}/healthz")
    await ended(node)
