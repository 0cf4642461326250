"""Deliver what waits in one spool over one link, for as long as the link stands.

`send(batch)` returns when the far side has the batch on disk, and raises when it has not or nobody knows. Several are
under way at once, as many messages as the pace allows; a key is in one of them at a time. A backlog waits for a random
moment first, so that all the nodes of a region that come back do not come at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from gateway.errors import GatewayError
from gateway.spool.message import Batch
from gateway.spool.pace import Pace
from gateway.spool.spool import Spool

Send = Callable[[Batch], Awaitable[object]]

BATCH = 500
BATCH_BYTES = 256 * 1024
START_JITTER_S = 30.0
#: A backlog of no more than this goes out at once.
SMALL_BACKLOG = 1000
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 30.0


class Delivery:
    """`await Delivery(spool, send).run()` until it is canceled; what was in flight then waits again.

    `batches` and `failures` count sends; `under_way` is how many batches are taken from the spool and not over yet,
    also those whose `send` is only about to begin.
    """

    def __init__(
        self,
        spool: Spool,
        send: Send,
        *,
        pace: Pace | None = None,
        start_jitter_s: float = START_JITTER_S,
        first_retry_s: float = FIRST_RETRY_S,
        random: Random | None = None,
        batch: int = BATCH,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self.batches = 0
        self.failures = 0
        self.under_way = 0
        self._spool = spool
        self._send = send
        self._pace = pace or Pace()
        self._jitter_s = start_jitter_s
        self._first_retry_s = first_retry_s
        self._random = random or Random()
        self._batch = batch
        self._batch_bytes = batch_bytes
        self._now_please = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._moved = asyncio.Event()
        self._retry_s = 0.0
        self._retry_at = 0.0
        self._bug: BaseException | None = None

    def replay(self) -> None:
        """An operator's: do not wait for the random moment or the next try."""
        self._now_please.set()
        self.try_again()

    def try_again(self) -> None:
        """Something has changed: do not wait for the next try."""
        self._retry_at = 0.0
        self._moved.set()

    async def pause(self, seconds: float) -> None:
        """For a `send` that is not to begin yet: over when an operator says so, too."""
        await self._until(seconds, self._now_please)

    async def run(self) -> None:
        """Raises StorageError when the spool cannot be read, and whatever `send` raises that is no link's failure."""
        self._spool.link_is_up()
        try:
            if self._spool.messages > SMALL_BACKLOG:
                await self._until(self._random.uniform(0, self._jitter_s), self._now_please)
            while self._bug is None:
                await self._turn()
            raise self._bug
        finally:
            sending = list(self._sending)
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
            self._spool.put_back()

    async def _turn(self) -> None:
        """Send one batch, or wait until one may go."""
        loop = asyncio.get_running_loop()
        self._moved.clear()
        room = self._pace.window - self._in_flight
        pause = max(self._pace.wait(loop.time()), self._retry_at - loop.time())
        if pause > 0:
            await self._until(pause, self._moved)
        elif room <= 0:
            await self._moved.wait()
        else:
            batch = await self._spool.take(min(self._batch, room), self._batch_bytes)
            if batch is None:
                # Something arrives, or a key becomes free.
                await self._spool.stirred()
                return
            self.under_way += 1
            self._in_flight += len(batch.messages)
            self._pace.sent(batch.size)
            task = asyncio.create_task(self._carry(batch), name=f"spool: {batch.lane}")
            self._sending.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._bug = error
            self._spool.stir()

    async def _carry(self, batch: Batch) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self.batches += 1
        try:
            await self._send(batch)
        except (GatewayError, OSError, TimeoutError):
            self.failures += 1
            self._pace.lost(loop.time())
            self._retry_s = min(LAST_RETRY_S, max(self._first_retry_s, self._retry_s * 2))
            self._retry_at = loop.time() + self._random.uniform(self._retry_s / 2, self._retry_s)
            self._spool.put_back(batch)
        else:
            self._retry_s = 0.0
            self._pace.acknowledged(loop.time(), loop.time() - begun, len(batch.messages))
            self._spool.settle(batch)
        finally:
            self.under_way -= 1
            self._in_flight -= len(batch.messages)
            self._moved.set()

    @staticmethod
    async def _until(seconds: float, event: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
