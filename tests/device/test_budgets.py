"""The budgets of a device: file sizes, heap, and none of it lost. Figures for heaps are those of a 64-bit interpreter,
1.6 times what a board uses."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from tests.device.conftest import Start, micropython_compiled, micropython_from_source
from tests.device.interpreters import SDK
from tests.device.peer import Peer, gateway
from tests.device.test_tls import context, der

#: What `import device_sdk` and a plain connection load on a board. The rest is loaded when it is used.
CORE = {"__init__", "connection", "device", "stream", "ws"}
#: With it, what makes a whole device: reconnecting, TLS, resume, leases, posts, updates, Wi-Fi.
WHOLE = {"fragment", "lease", "mac", "ota", "outbox", "resume", "slots", "supervise", "tls", "wifi"}
#: What is for one moment of a device's life, or instead of something else, or a service for who wants it.
BESIDE = {"clock", "config", "log", "provision", "psk", "renew", "settings", "sleep", "watchdog"}
#: Never on a board.
ELSEWHERE = {"cpython"}
KB = 1024
#: The smallest heaps that work, of docs/device/memory.md: plain, and with TLS whose buffers lie elsewhere.
PLAIN, WITH_TLS = "48k", "56k"


def size(compiled: Path, name: str) -> int:
    return (compiled / "device_sdk" / f"{name}.mpy").stat().st_size


def test_compiled_size(compiled: Path) -> None:
    assert {path.stem for path in SDK.glob("*.py")} == CORE | WHOLE | BESIDE | ELSEWHERE, "every file is in one of them"
    assert sum(size(compiled, name) for name in CORE) <= 10 * KB
    assert sum(size(compiled, name) for name in CORE | WHOLE) <= 20 * KB
    assert sum(size(compiled, name) for name in CORE | WHOLE | BESIDE) <= 26 * KB
    for name in WHOLE | BESIDE:
        assert size(compiled, name) <= 3 * KB


@pytest.mark.parametrize("path", sorted(SDK.glob("*.py")), ids=lambda path: path.name)
def test_source_size(path: Path) -> None:
    """A board compiles one file at a time, and needs about three times its size to do so."""
    text = path.read_bytes()
    assert len(text) <= 6 * KB or text.count(b"\n") <= 200


async def test_heap(compiled: Path, start: Start) -> None:
    program = await start(micropython_compiled(compiled, PLAIN), "import_heap")
    assert await program.line() <= 18 * KB
    await program.finish()
    async with Peer(gateway) as peer:
        program = await start(micropython_compiled(compiled, "96k"), "heap", peer.url)
        used = await program.line()
        await program.finish()
    assert used["idle"] <= 36 * KB
    assert used["request"] <= 700
    assert used["stream"] <= 800


@pytest.mark.parametrize("reconnects", [20, pytest.param(200, marks=pytest.mark.soak)])
async def test_no_heap_is_lost(reconnects: int, compiled: Path, start: Start) -> None:
    """At most 512 bytes more after 100 requests a reconnect; the long run makes 20,000 requests and 200 reconnects."""
    async with Peer(gateway) as peer:
        program = await start(micropython_compiled(compiled, PLAIN), "soak", peer.url, reconnects * 100, reconnects)
        # It says now and then that it is at work: patience is for a line, however slow the machine is.
        while "done" in (lost := await program.line()):
            pass
        assert lost["connects"] == 2 + reconnects
        await program.finish()
    assert lost["requests"] <= 512
    assert lost["reconnects"] <= 512


async def test_source_runs_in_96k(start: Start) -> None:
    async with Peer(gateway) as peer:
        program = await start(micropython_from_source("96k"), "streams", peer.url)
        await program.expect(items=50)
        await program.finish()


async def test_tls_runs_in_56k(compiled: Path, start: Start, tmp_path: Path) -> None:
    """With the authority as docs/device/memory.md advises, and a connection after the first."""
    ca = trustme.CA()
    async with Peer(gateway, tls=context(ca.issue_cert("127.0.0.1"))) as peer:
        program = await start(micropython_compiled(compiled, WITH_TLS), "secure", peer.url, der(ca, tmp_path), "verify")
        await program.expect(echo="hello")
        await program.expect(echo="hello")
        await program.finish()
