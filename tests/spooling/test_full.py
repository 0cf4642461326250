"""A node whose spool is full: it says no, or does as its document says; it stays up, and takes more later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.wire import frames
from tests.local_node import LocalNode, call, fnf, until
from tests.spooling.test_waiting import ANSWERED, WAIT, Spooling, ask
from tests.volumes import resize, small_volume

SIZE = 8 * 1024


@pytest_asyncio.fixture
async def small(tmp_path: Path) -> AsyncIterator[Spooling]:
    """Its file may grow to 1 MiB, and its documents allow more."""
    spooling = Spooling(await LocalNode.start(tmp_path / "data", {"spool.max_bytes": 1024 * 1024}))
    yield spooling
    await spooling.local.finish()


async def test_a_full_file_is_refused_and_recovers(small: Spooling) -> None:
    """Fault 72, P8: what is to wait is refused with the reason; everything else goes on; there is room again later."""
    await small.apply(ANSWERED.replace("64MiB", "1MiB"))
    await small.local.servant(name="echo")
    client = await small.local.client()
    while isinstance(answer := await ask(client, bytes(SIZE)), frames.Payload):
        pass
    assert isinstance(answer, frames.Error)
    assert answer.code == frames.ErrorCode.REJECTED
    assert small.outlet().spool.refused["storage_full"] == 1
    assert await call(client, "echo.it") == b"hello"
    assert await call(client, "gateway.time")
    kept = small.waiting()
    assert kept > 50
    servant = await small.local.servant(name="historian")
    await small.drained()
    assert len(servant.got(frames.RequestResponse)) == kept
    await servant.stop()
    await servant.client.close()
    await until(lambda: small.local.node.plane.table.service("historian") is None)
    assert isinstance(await ask(client, bytes(SIZE)), frames.Payload)


@pytest.mark.soak
async def test_a_full_file_does_as_its_document_says(small: Spooling) -> None:
    """Fault 72: the oldest go, and are counted; what finds no room all the same is refused, and counted."""
    await small.apply(WAIT.replace("64MiB", "1MiB") + "whenFull: dropOldest\nmaxMessage: 16KiB\n")
    client = await small.local.client()

    def decided() -> int:
        if "wait/historian" not in small.depot.outlets:
            return 0
        spool = small.outlet().spool
        return int(spool.messages + sum(spool.lost.values()) + sum(spool.refused.values()))

    for number in range(120):
        # Not more at once than the file holds: that would be refused whole.
        client.send(fnf(client, "historian.write", b"%04d" % number + bytes(SIZE)))
        await until(lambda number=number: decided() > number)  # type: ignore[misc]
    servant = await small.local.servant(name="historian")
    await small.drained()
    got = [int(frame.data[:4]) for frame in servant.got(frames.RequestFnf)]
    assert got == sorted(set(got))
    spool = small.outlet().spool
    assert len(got) + spool.lost.get("evicted", 0) + sum(spool.refused.values()) == 120


@pytest.mark.soak
async def test_a_full_volume_stops_nothing_but_what_would_wait(tmp_path: Path) -> None:
    """Fault 72, P8: the volume itself has no room left, and then has more."""
    with small_volume(tmp_path / "volume", "12m") as volume:
        spooling = Spooling(await LocalNode.start(volume / "data"))
        await spooling.apply(ANSWERED.replace("64MiB", "8MiB"))
        await spooling.local.servant(name="echo")
        client = await spooling.local.client()
        while isinstance(answer := await ask(client, bytes(SIZE)), frames.Payload):
            pass
        assert isinstance(answer, frames.Error)
        assert "volume" in answer.text or "full" in answer.text
        assert await call(client, "echo.it") == b"hello"
        kept = spooling.waiting()
        resize(volume, "64m")
        while not isinstance(await ask(client, b"more"), frames.Payload):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # the store looks at its volume once a second
        servant = await spooling.local.servant(name="historian")
        await spooling.drained()
        assert len(servant.got(frames.RequestResponse)) == kept + 1
        await spooling.local.finish()
