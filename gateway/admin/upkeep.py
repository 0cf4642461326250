"""What a node needs somebody to look after, as metrics: readiness, alarms, certificate, backups, disk, bundles, and the
records that its flow log has lost.

Read at scrape time, off the data plane: what touches the disk is read in a thread. Must not know: when that is too much
or too old, which is for alert rules to say (docs/alerts.md).
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from cryptography import x509

from gateway.admin.family import Family, Reading, Row
from gateway.control.bundle_standing import Outcome
from gateway.control.held_bundles import HeldState
from gateway.control.plane import ControlPlane


class Room(NamedTuple):
    """Bytes of the volume of the data directory; `free`: those that the node may still use."""

    free: int
    size: int


class UpkeepFigures(NamedTuple):
    """Times are Unix seconds. `checks`: whether each is good; `alarms`: slugs. `certificate_ends`: None without TLS or
    where the file cannot be read. `backups`: when each was made. Of bundles: the version that the node acts by and the
    newest that it was given, 0 for none, how far it is with that one, and what central nodes know of nodes.
    `memory_limit`: bytes, of all processes of the node; 0 where there is none."""

    checks: dict[str, bool]
    alarms: tuple[str, ...]
    certificate_ends: float | None
    backups: tuple[float, ...]
    room: Room | None
    bundle: int
    bundle_given: int
    bundle_state: HeldState | None
    bundle_nodes: dict[Outcome, int]
    flow_records_lost: dict[str, int]
    memory_limit: int


class Upkeep:
    """`certificate`: where the one is that listeners show; None without TLS. `flows`: records lost, by their reader.
    `memory_limit`: see `UpkeepFigures`."""

    def __init__(
        self,
        control: ControlPlane,
        checks: Mapping[str, Callable[[], str | None]],
        certificate: Callable[[], Path | None],
        flows: Callable[[], dict[str, int]],
        memory_limit: int,
    ) -> None:
        self._control = control
        self._checks = checks
        self._certificate = certificate
        self._flows = flows
        self._memory_limit = memory_limit
        self._read: tuple[Path, int, int] | None = None
        self._ends: float | None = None

    async def figures(self) -> UpkeepFigures:
        held = self._control.held_bundles
        bundles = self._control.bundles
        here = [said for said in bundles.nodes.values() if bundles.is_here(said.node)]
        outcomes = Counter(bundles.outcome(said)[1] for said in here)
        checks = {name: _good(check) for name, check in self._checks.items()}
        # Behind a colon is whose it is, as of an issuer of tokens: nothing for a label.
        alarms = tuple(dict.fromkeys(alarm.slug.partition(":")[0] for alarm in self._control.alarms))
        ends, backups, room = await asyncio.to_thread(self._look, self._certificate())
        return UpkeepFigures(
            checks=checks,
            alarms=alarms,
            certificate_ends=ends,
            backups=backups,
            room=room,
            bundle=0 if held.active is None else held.active.number,
            bundle_given=0 if held.last is None else held.last.number,
            bundle_state=None if held.last is None else held.last.state,
            bundle_nodes={outcome: outcomes[outcome] for outcome in Outcome} if here else {},
            flow_records_lost=self._flows(),
            memory_limit=self._memory_limit,
        )

    def _look(self, certificate: Path | None) -> tuple[float | None, tuple[float, ...], Room | None]:
        data = self._control.database.path.parent
        return self._certificate_ends(certificate), self._control.backups.times(), _room(data)

    def _certificate_ends(self, path: Path | None) -> float | None:
        if path is None:
            return None
        try:
            found = path.stat()
            now = (path, found.st_mtime_ns, found.st_ino)
            if now != self._read:
                shown = x509.load_pem_x509_certificate(path.read_bytes())
                self._read, self._ends = now, shown.not_valid_after_utc.timestamp()
        except (OSError, ValueError):
            self._read = self._ends = None
        return self._ends


def _good(check: Callable[[], str | None]) -> bool:
    try:
        return check() is None
    except Exception:  # `/readyz` says which one and logs it
        return False


def _room(data: Path) -> Room | None:
    try:
        found = os.statvfs(data)
    except OSError:
        return None
    return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


_Found = TypeVar("_Found")


def upkeep_families() -> list[Family]:
    def of(read: Callable[[UpkeepFigures], Iterable[Row]]) -> Callable[[Reading], Iterable[Row]]:
        return lambda r: () if r.upkeep is None else read(r.upkeep)

    def known(value: _Found | None, read: Callable[[_Found], float], *labels: str) -> Iterable[Row]:
        return [] if value is None else [(labels, read(value))]

    return [
        Family(
            "gateway_ready",
            "gauge",
            "Readiness checks, as /readyz has them: 1 where one is good. `draining` is 0 while the node drains.",
            of(lambda u: [((name,), float(good)) for name, good in u.checks.items()]),
            ("check",),
        ),
        Family(
            "gateway_alarm",
            "gauge",
            "1 for each alarm that stands; docs/alerts.md says what each means.",
            of(lambda u: [((slug,), 1) for slug in u.alarms]),
            ("alarm",),
        ),
        Family(
            "gateway_certificate_expiry_timestamp_seconds",
            "gauge",
            "When the certificate that the listeners show expires, in seconds since the Unix epoch.",
            of(lambda u: known(u.certificate_ends, float, "listener")),
            ("certificate",),
        ),
        Family(
            "gateway_backups", "gauge", "Backups in the data directory.", of(lambda u: [((), float(len(u.backups)))])
        ),
        Family(
            "gateway_backup_latest_timestamp_seconds",
            "gauge",
            "When the newest of them was made, in seconds since the Unix epoch.",
            of(lambda u: known(max(u.backups, default=None), float)),
        ),
        Family(
            "gateway_disk_free_bytes",
            "gauge",
            "Bytes of the data directory's volume that the node may still use.",
            of(lambda u: known(u.room, lambda room: room.free)),
        ),
        Family(
            "gateway_disk_size_bytes",
            "gauge",
            "Bytes of that volume.",
            of(lambda u: known(u.room, lambda room: room.size)),
        ),
        Family(
            "gateway_memory_limit_bytes",
            "gauge",
            "Bytes that the node may use; above 85 % of it nobody new is let in. Absent where there is no limit.",
            of(lambda u: known(u.memory_limit or None, float)),
        ),
        Family(
            "gateway_bundle_version",
            "gauge",
            "Version of a bundle, 0 for none: `active`, by which the node acts; `given`, the newest that it was given.",
            of(lambda u: [(("active",), u.bundle), (("given",), u.bundle_given)]),
            ("bundle",),
        ),
        Family(
            "gateway_bundle_state",
            "gauge",
            "1 for how far the node is with the newest: received, validated, active, rejected, rolled_back, replaced.",
            of(lambda u: known(u.bundle_state, lambda _: 1, str(u.bundle_state))),
            ("state",),
        ),
        Family(
            "gateway_bundle_nodes",
            "gauge",
            "Nodes of the federation by what came of the bundle that they should act by: waiting, active, rejected, "
            "rolled_back.",
            of(lambda u: [((str(outcome),), count) for outcome, count in u.bundle_nodes.items()]),
            ("outcome",),
        ),
        Family(
            "gateway_flow_records_lost_total",
            "counter",
            "Records of the flow log that came too fast for whom they were for: viewers, or the files on disk.",
            of(lambda u: [((whose,), count) for whose, count in u.flow_records_lost.items()]),
            ("reader",),
        ),
    ]
