"""What `health` judges the node by, put together; what a disk has to be asked for is asked beside the loop, rarely."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509

from gateway.admin import health
from gateway.admin.health import Reason, Waiting
from gateway.admin.history import STEP_S
from gateway.admin.presence import count_online
from gateway.observe.guards import GuardFigures

if TYPE_CHECKING:
    from gateway.admin.context import NodeControls
    from gateway.admin.history import History
    from gateway.config import LiveSettings
    from gateway.control.plane import ControlPlane
    from gateway.forwarding.plane import Plane
    from gateway.observe.metrics import Metrics

#: For how long an answer holds, and for how long what the disk has said, in seconds.
FRESH_S: Final = 1.0
DISK_S: Final = 30.0


class _Disk(NamedTuple):
    """`certificate_ends_at`: None where no listener shows one; `backup_at`: of the newest one."""

    certificate_ends_at: float | None
    backup_at: float | None
    free: int
    total: int


class Devices(NamedTuple):
    """`online`: registered and with a link now; `never_seen`: those that have not connected yet."""

    total: int
    online: int
    disabled: int
    never_seen: int


class Condition:
    """How one node is. Whoever asks at the same time, or within `FRESH_S`, is answered by one look."""

    def __init__(
        self,
        node: NodeControls,
        plane: Plane,
        metrics: Metrics,
        control: ControlPlane,
        settings: LiveSettings,
        history: History,
    ) -> None:
        self._node = node
        self._plane = plane
        self._metrics = metrics
        self._control = control
        self._settings = settings
        self._history = history
        self._looking = asyncio.Lock()
        self._reasons: list[Reason] = []
        self._until = 0.0
        self._counting = asyncio.Lock()
        self._devices: Devices | None = None
        self._devices_until = 0.0
        self._disk: _Disk | None = None
        self._disk_until = 0.0

    async def reasons(self) -> list[Reason]:
        """The worst first."""
        async with self._looking:
            if time.monotonic() >= self._until:
                self._reasons = health.ranked(await self._look())
                self._until = time.monotonic() + FRESH_S
            return self._reasons

    async def devices(self) -> Devices:
        """How many there are, by how they do."""
        async with self._counting:
            if self._devices is None or time.monotonic() >= self._devices_until:
                counts = await self._control.devices.counts()
                online = await count_online(self._plane)
                self._devices = Devices(counts.total, online, counts.disabled, counts.never_seen)
                self._devices_until = time.monotonic() + FRESH_S
            return self._devices

    def forget(self) -> None:
        """Look again at everything when asked next."""
        self._until = self._disk_until = self._devices_until = 0.0

    async def _look(self) -> list[Reason]:
        if self._disk is None or time.monotonic() >= self._disk_until:
            self._disk = await self._ask_disk()
            self._disk_until = time.monotonic() + DISK_S
        node, links, disk = self._node, self._node.links, self._disk
        now = self._plane.wall()
        limits = self._settings.config.limits
        failing = {name: why for name, check in node.checks().items() if (why := check()) is not None}
        guards = await self._guards()
        return [
            *health.readiness(failing),
            *health.alarms(self._control.alarms),
            *health.federation(links.topology(), now),
            *health.links(links.figures()),
            *health.table(links.table()),
            *health.bridges(node.bridges.statuses()),
            *health.spools(self._waiting()),
            *health.guards(guards),
            *health.certificate(disk.certificate_ends_at, now),
            *health.backup(disk.backup_at, now),
            *health.disk(disk.free, disk.total),
            *health.lateness(self._history.latest(60), limits.lag_warn_ms / 1000, limits.lag_shed_ms / 1000),
            *health.refusals(self._history.latest(300), STEP_S),
            *health.clock(now, self._history.since(0.0)),
        ]

    def _waiting(self) -> list[Waiting]:
        depot = self._node.depot
        if depot is None:
            return []
        statuses = [(name, spool.status()) for name, spool in depot.spools().items() if spool.messages]
        return [Waiting(name, each.messages, each.bytes, each.max_bytes, each.oldest_age_s) for name, each in statuses]

    async def _guards(self) -> Mapping[str, GuardFigures]:
        """The worst of each service's: processes of one node guard by themselves."""
        self._metrics.measure()
        workers = self._node.workers
        if workers is None:
            return self._metrics.guards
        found: dict[str, GuardFigures] = {}
        for metrics in (self._metrics, *(reading.metrics for _, reading in await workers.readings(""))):
            for name, figures in metrics.guards.items():
                worst = found.setdefault(name, GuardFigures())
                worst.breaker = max(worst.breaker or 0, figures.breaker or 0)
                worst.ejected = max(worst.ejected, figures.ejected)
        return found

    async def _ask_disk(self) -> _Disk:
        backups = self._control.backups
        config = self._settings.config
        shown = config.tls.enabled or self._node.addresses.get("admin", "").startswith("https:")

        def ask() -> _Disk:
            ends_at = None
            if shown:
                certificate = x509.load_pem_x509_certificate(self._node.certificate_path.read_bytes())
                ends_at = certificate.not_valid_after_utc.timestamp()
            usage = shutil.disk_usage(config.node.data)
            return _Disk(ends_at, max(backups.times(), default=None), usage.free, usage.total)

        return await asyncio.to_thread(ask)
