"""The flow log of a node's first process, as `Telemetry` documents say: in memory, and on disk where one wants that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway.flows import history
from gateway.flows.history import History
from gateway.flows.log import FlowLog
from gateway.observe.flow_fields import Record
from gateway.observe.flow_filter import FlowFilter
from gateway.policy import telemetry


class Keeping:
    """`directory`: the node's data."""

    def __init__(self, log: FlowLog, directory: Path) -> None:
        self.log = log
        self._directory = directory / history.DIRECTORY
        self._rules: telemetry.FlowLog | None = None
        self._history: History | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._lost = self._errors = 0

    def govern(self, rules: telemetry.FlowLog | None) -> None:
        """Go by what a document says, or by none."""
        if rules == self._rules:
            return
        self._rules = rules
        before, self._history = self._history, None
        self.log.govern(rules)
        last = None
        if before is not None:
            last = before.close()
            self._lost += before.lost
            self._errors += before.errors
        if rules is not None and rules.file is not None:
            self._history = History(self.log, self._directory, rules.file, self._submit, last=last)

    @property
    def on_disk(self) -> bool:
        return self._history is not None

    @property
    def lost(self) -> int:
        """Records that are not on disk, and were to be."""
        return self._lost + (0 if self._history is None else self._history.lost)

    @property
    def errors(self) -> int:
        return self._errors + (0 if self._history is None else self._history.errors)

    async def stored(self, since: float, wanted: FlowFilter | None, limit: int) -> Sequence[Record]:
        """The last records on disk that fit, newest first."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, history.latest, self._directory, since, wanted, limit)

    def _submit(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="flows")
        loop = asyncio.get_running_loop()
        self._thread.submit(work).add_done_callback(lambda future: loop.call_soon_threadsafe(done, future.exception()))

    async def stop(self) -> None:
        """What was taken is written when this returns."""
        if self._history is not None:
            self._history.close()
            self._history = None
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
        self.log.stop()
