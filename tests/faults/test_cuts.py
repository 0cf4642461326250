"""Links that break at any moment under load, on real sockets: sessions that resume lose nothing (P50, P51, P54).

A caller and a servant, each on a link of its own that goes now over WebSocket, now over TCP, exchange requests in all
four models while one link after the other is cut: by a reset, in the middle of a frame, or without the node noticing,
so that the session is taken over. `Caller` and `Servant` notice whatever is lost, doubled or out of order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from gateway.forwarding.closing import CloseReason
from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import LocalNode, until
from tests.rawclient import ConnectionEnded, RawClient, composite
from tests.resumable import MODELS, Caller, Resumable, Servant

#: Calls that are open at a time, and how long a call goes without a cut on average.
WINDOW = 16
PAUSE_S = 0.03
KEEPALIVE_S = 0.2
TAKEN_OVER = frames.Error(0, 0x101, "the session was resumed over another link")
SETTINGS: dict[str, object] = {
    # A caller that cannot be refused for its haste is one whose every request must be answered.
    "limits.device.requests_per_second": 0,
    "limits.device.bytes_per_second": 0,
}


class Roaming:
    """One side and the link that it has at the moment; whenever it has none it gets another."""

    def __init__(self, node: LocalNode, side: Resumable, subject: str, kind: str, random: Random) -> None:
        self.node = node
        self.side = side
        self.subject = subject
        self.kind = kind
        self.random = random
        self.cuts = 0
        self.link: RawClient | None = None
        self.silent: list[RawClient] = []
        self.set_up = False
        self._task = asyncio.create_task(self._run(), name=f"{subject} roams")

    async def end(self) -> None:
        self._task.cancel()
        failure = (await asyncio.gather(self._task, return_exceptions=True))[0]
        assert failure is None or isinstance(failure, asyncio.CancelledError), failure

    async def _run(self) -> None:
        while self.side.refused is None:
            link = await self.node.connect(self.random.choice(("ws", "tcp")))
            self.link = link
            if self.set_up:
                self.side.resume(link.send)
            else:
                serving = ["echo"] if isinstance(self.side, Servant) else []
                token = self.node.token(self.subject, self.kind)
                setup = link.setup_frame(token, serving, resume_token=self.side.token, keepalive_ms=200)
                self.side.begin(setup, link.send)
                self.set_up = True
            await self._read(link)

    async def _read(self, link: RawClient) -> None:
        asking = asyncio.create_task(self._ask())
        try:
            while self.link is link:
                data = await link.recv_bytes(60)
                # What comes behind a cut has not arrived.
                if self.link is link:
                    self.side.take(data)
        except ConnectionEnded:
            self.side.cut()
        finally:
            asking.cancel()

    async def _ask(self) -> None:
        while True:
            await asyncio.sleep(KEEPALIVE_S)
            self.side.ask()

    @property
    def failed(self) -> bool:
        """Whether what came was wrong, or the node has refused it: `end` says what."""
        return self._task.done()

    @property
    def linked(self) -> bool:
        return self.link is not None and self.side.write is not None and not self.side.resuming and self.set_up

    def cut(self) -> None:
        """The link breaks, in one way or another; what was on it is lost."""
        link = self.link
        assert link is not None
        self.cuts += 1
        how = self.random.choice(("reset", "torn", "silent"))
        if how == "torn":
            torn = link._framed(frames.encode(frames.RequestFnf(0x7FFFFFFF, composite("echo.it"), b"torn")))
            link.send_raw(torn[: self.random.randrange(1, len(torn))])
        self.side.cut()
        self.link = None
        if how == "silent":
            # The old link is still there when the session comes back over another.
            self.silent.append(link)
            self._task.cancel()
            self._task = asyncio.create_task(self._run(), name=f"{self.subject} roams")
        else:
            link.abort()


@asynccontextmanager
async def roaming(node: LocalNode, random: Random, caller_kind: str, servant_kind: str) -> AsyncIterator[list[Roaming]]:
    """A servant that is registered, and a caller."""
    servant = Roaming(node, Servant(b"serv" + random.randbytes(12)), "servant", servant_kind, random)
    await until(lambda: node.node.plane.table.service("echo") is not None)
    caller = Roaming(node, Caller(b"call" + random.randbytes(12), composite("echo.it")), "caller", caller_kind, random)
    try:
        yield [servant, caller]
    finally:
        for side in (servant, caller):
            await side.end()


async def run(node: LocalNode, random: Random, caller_kind: str, servant_kind: str, cuts: int) -> int:
    """Cut until each of the two has been cut so often; return how many calls were made."""
    async with roaming(node, random, caller_kind, servant_kind) as sides:
        caller, servant = sides[1].side, sides[0].side
        assert isinstance(caller, Caller)
        assert isinstance(servant, Servant)
        calls = 0
        while min(side.cuts for side in sides) < cuts:
            until_cut = time.monotonic() + random.expovariate(1 / PAUSE_S)
            while time.monotonic() < until_cut:
                while len(caller.waiting) < WINDOW:
                    calls += 1
                    caller.call(random.choice(MODELS), random.randint(1, 20), random.choice([0, 100, 2000]))
                await asyncio.sleep(0.001)
            side = random.choice(sides)
            if side.failed:
                break
            if side.linked:
                side.cut()
        assert caller.refused is servant.refused is None
        for side in sides:
            assert not side.failed, await side.end()
        await until(lambda: not caller.waiting and len(servant.fired) == len(caller.fired), 30)
        caller.check()
        assert servant.fired == caller.fired
        await until(lambda: not servant.serving)
        # Those that the node had not missed were told who has the session now, and nobody else was.
        for side in sides:
            for old in side.silent:
                code, _ = await old.recv_close()
                assert code in ((CloseReason.TAKEN_OVER.code, None) if old.websocket else (None,))
                errors = [frame for frame in old.skipped if isinstance(frame, frames.Error)]
                assert errors in ([TAKEN_OVER], [])
        assert node.counters.sessions_resumed == caller.resumed + servant.resumed
        assert caller.resumed + servant.resumed >= cuts
    return calls


COMBINATIONS = [("device", "device"), ("device", "service"), ("service", "device"), ("service", "service")]


@pytest.mark.parametrize(("caller_kind", "servant_kind"), COMBINATIONS)
async def test_cuts(start_node: StartNode, caller_kind: str, servant_kind: str) -> None:
    """P50, P51, P54: both directions, both transports, all four models: nothing lost, doubled or out of order."""
    node = await start_node(SETTINGS)
    assert await run(node, Random(caller_kind + servant_kind), caller_kind, servant_kind, 5) > 0


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("caller_kind", "servant_kind"), COMBINATIONS)
async def test_200_cuts(start_node: StartNode, caller_kind: str, servant_kind: str) -> None:
    """P50, P51, P54: as `test_cuts`, 100 cuts of each side."""
    node = await start_node(SETTINGS)
    assert await run(node, Random(servant_kind + caller_kind), caller_kind, servant_kind, 100) > 1000
