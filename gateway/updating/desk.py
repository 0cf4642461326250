"""What the node's first process answers devices about their firmware, and what it does by itself for rollouts.

It has the control plane: every process of the node asks here. It ends trials that are overdue, looks at the images when
the node starts, and lets every process break off downloads of a rollout that stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from gateway.config import Config
from gateway.control.audit import Actor
from gateway.control.plane import ControlPlane
from gateway.control.rollout_reports import Wanted, report_of
from gateway.control.rollout_steps import Phase, Rollout
from gateway.errors import (
    ControlError,
    InvalidChange,
    NotPermitted,
    Overloaded,
    RateLimited,
    RequestError,
    RequestInvalid,
    StorageError,
)
from gateway.observe.loggers import structlog
from gateway.updating.downloads import Asker

#: Questions of one device in a minute; over a link that breaks again and again it asks twice for each.
A_MINUTE: Final = 240
_KEPT: Final = 100_000
#: Trials are looked at so often at the least, in seconds.
SWEEP_S: Final = 30.0

_log = structlog.get_logger("gateway.updating")


class UpdateDesk:
    """`config` gives the settings as they hold now. `on_stop` is told of each rollout whose downloads are to end,
    `on_start` of each that may have reached devices which do not know of it."""

    def __init__(self, control: ControlPlane, config: Callable[[], Config], monotonic: Callable[[], float]) -> None:
        self.on_stop: Callable[[str], None] = lambda rollout_id: None
        self.on_start: Callable[[Rollout], None] = lambda rollout: None
        self._control = control
        self._config = config
        self._monotonic = monotonic
        self._minute = 0
        self._asked: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sooner = asyncio.Event()

    def start(self) -> None:
        settings = self._config().firmware
        images = self._control.firmware.images
        images.max_bytes, images.max_image_bytes = settings.max_bytes, settings.max_image_bytes
        self._control.firmware.publishers = lambda: self._config().firmware.publishers
        self._control.rollouts.on_change = self._changed
        for work, name in ((self._control.firmware.check, "firmware images"), (self._sweep, "rollouts")):
            task = asyncio.create_task(_watched(work), name=name)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        self._control.rollouts.on_change = lambda rollout: None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What devices ask

    async def report(self, asker: Asker, document: dict[str, Any]) -> dict[str, Any]:
        """See `Desk`."""
        self._hold_back(asker.subject)
        try:
            report = report_of(document)
            self._control.seen(asker.subject, self._control.now, report.version)
            update = await self._control.reports.report(asker.subject, report, by=_actor(asker))
        except (ControlError, StorageError) as error:
            raise _refusal(error) from error
        if report.state in ("verified", "trial"):
            self._sooner.set()
        return {"update": update, "check_s": self._config().firmware.check_s}

    async def download(self, asker: Asker, firmware_id: str, offset: int) -> Wanted:
        """See `Desk`."""
        self._hold_back(asker.subject)
        try:
            return await self._control.reports.download(asker.subject, firmware_id, offset, by=_actor(asker))
        except (ControlError, StorageError) as error:
            raise _refusal(error) from error

    def received(self, asker: Asker, rollout_id: str, count: int) -> None:
        self._control.reports.has_received(rollout_id, asker.subject, count)

    def damaged(self, sha256: str) -> None:
        work = partial(self._control.firmware.look_at, sha256)
        task = asyncio.create_task(_watched(work), name="firmware images")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hold_back(self, subject: str) -> None:
        minute = int(self._monotonic() // 60)
        if minute != self._minute or len(self._asked) >= _KEPT:
            self._minute = minute
            self._asked.clear()
        asked = self._asked[subject] = self._asked.get(subject, 0) + 1
        if asked > A_MINUTE:
            raise RateLimited(f"a device asks for firmware {A_MINUTE} times a minute at most", reason="firmware_rate")

    # What it does by itself

    def _changed(self, rollout: Rollout) -> None:
        if rollout.state is Phase.RUNNING:
            self.on_start(rollout)
        else:
            self.on_stop(rollout.id)

    async def _sweep(self) -> None:
        while True:
            try:
                due = await self._control.reports.sweep()
            except StorageError:
                # The database raises its own alarms; the next round tries again.
                due = None
            self._sooner.clear()
            try:
                async with asyncio.timeout(min(SWEEP_S, max(due or SWEEP_S, 0.1))):
                    await self._sooner.wait()
            except TimeoutError:
                pass


async def _watched(work: Callable[[], Any]) -> None:
    try:
        await work()
    except (StorageError, OSError) as error:
        _log.error("firmware images cannot be checked", why=str(error))


def _actor(asker: Asker) -> Actor:
    return Actor("device", asker.subject, asker.peer)


def _refusal(error: ControlError | StorageError) -> RequestError:
    if isinstance(error, StorageError):
        return Overloaded("nothing can be stored now; try again", reason=error.reason)
    if isinstance(error, InvalidChange):
        return RequestInvalid(f"{error.pointer}: {error.text}", reason="firmware_request")
    return NotPermitted(error.text, reason=error.reason)
