"""What happened on this node lately: a ring of events that can be read again, and waited for.

The data plane's register and routing table and the audit trail report here, synchronously and within microseconds;
readers take what is new at their own pace. Who is too slow for the ring learns how much it missed. Must not know: HTTP,
who reads.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, NamedTuple

from gateway.control.audit import AuditEntry
from gateway.forwarding.connection import Connection
from gateway.forwarding.plane import Plane
from gateway.forwarding.register import Closed
from gateway.routing.table import Event as RouteEvent
from gateway.routing.table import Joined

CAPACITY: Final = 10_000

#: What an audited change is called once it has happened. What is not here is no event, or has one of its own.
HAPPENED: Final = {
    "api_key.create": "api_key.created",
    "api_key.delete": "api_key.deleted",
    "api_key.rotate": "api_key.rotated",
    "api_key.update": "api_key.changed",
    "bundle.abort": "bundle.aborted",
    "bundle.activate": "bundle.activated",
    "bundle.adopt": "bundle.learned",
    "bundle.fail": "bundle.node_failed",
    "bundle.pause": "bundle.paused",
    "bundle.publish": "bundle.published",
    "bundle.reject": "bundle.rejected",
    "bundle.resume": "bundle.resumed",
    "bundle.roll_back": "bundle.rolled_back",
    "bundle.update": "bundle.changed",
    "credential.add_key": "credential.key_added",
    "credential.issue": "credential.issued",
    "credential.renew": "credential.renewed",
    "credential.revoke": "credential.revoked",
    "credential.rotate": "credential.rotated",
    "device.create": "device.created",
    "device.create_many": "device.imported",
    "device.delete": "device.deleted",
    "device.disable": "device.disabled",
    "device.enable": "device.enabled",
    "device.update": "device.changed",
    "device_config.roll_back": "device_config.rolled_back",
    "device_config.set": "device_config.set",
    "device_config.withdraw": "device_config.withdrawn",
    "document.apply": "document.applied",
    "document.delete": "document.deleted",
    "enrolment.create": "enrolment.created",
    "enrolment.redeem": "device.enrolled",
    "enrolment.revoke": "enrolment.revoked",
    "firmware.add": "firmware.added",
    "firmware.delete": "firmware.deleted",
    "firmware.restore": "firmware.restored",
    "fleet.add_serials": "fleet.serials_added",
    "fleet.claim": "device.enrolled",
    "fleet.create": "fleet.created",
    "fleet.release": "fleet.serial_released",
    "fleet.revoke": "fleet.revoked",
    "issuer.create": "issuer.created",
    "issuer.delete": "issuer.deleted",
    "issuer.refresh": "issuer.refreshed",
    "issuer.update": "issuer.changed",
    "key.revoke": "key.revoked",
    "peer.join": "peer.joined",
    "peer.put": "peer.changed",
    "peer.remove": "peer.removed",
    "revocation.lift": "revocation.lifted",
    "rollout.abort": "rollout.aborted",
    "rollout.create": "rollout.started",
    "rollout.pause": "rollout.paused",
    "rollout.report": "rollout.device_ended",
    "rollout.resume": "rollout.resumed",
    "rollout.update": "rollout.changed",
    "service.reset": "service.reset",
    "session.end": "session.ended",
    "session.login": "session.opened",
    "subject.revoke": "subject.revoked",
    "token.revoke": "token.revoked",
    "user.change_password": "user.password_changed",
    "user.create": "user.created",
    "user.delete": "user.deleted",
    "user.set_password": "user.password_changed",
    "user.update": "user.changed",
}
#: Events of these nouns take this scope, too.
GUARDED: Final = {"api_key": "api_keys", "session": "users", "user": "users"}

_ALWAYS_DIFFERENT: Final = frozenset({"updated_at", "version"})


class Event(NamedTuple):
    """`id` counts from 1 in each run of the node; `at` is in Unix seconds; `kind` is like `connection.closed`."""

    id: int
    at: float
    kind: str
    subject: str
    data: dict[str, Any]


class EventLog:
    """The last `capacity` events."""

    def __init__(self, wall: Callable[[], float], capacity: int = CAPACITY) -> None:
        self._wall = wall
        self._ring: deque[Event] = deque(maxlen=capacity)
        self._news = asyncio.Event()
        self._latest = 0

    @property
    def latest(self) -> int:
        """The id of the newest event; 0 before the first."""
        return self._latest

    def add(self, kind: str, subject: str, **data: Any) -> None:
        self._latest += 1
        self._ring.append(Event(self._latest, self._wall(), kind, subject, data))
        self._news.set()

    def since(self, last: int, limit: int) -> tuple[list[Event], int]:
        """Up to `limit` events after the one with id `last`, and how many of those have been forgotten.

        An id from another run of the node, higher than any of this one, is taken for none at all.
        """
        if last > self._latest:
            last = 0
        oldest = self._latest - len(self._ring)
        missed = max(0, oldest - last)
        start = max(0, last - oldest)
        newer = len(self._ring) - start
        if newer <= len(self._ring) // 2:
            # From the near end: a deque is walked, not indexed.
            tail = list(islice(reversed(self._ring), newer))
            return tail[::-1][:limit], missed
        return list(islice(self._ring, start, start + limit)), missed

    async def wait(self, last: int, timeout: float) -> bool:
        """Until there is an event after `last`; False when there is none within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while self._latest <= last:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True


class PlaneWatcher:
    """Reports what comes and goes on the data plane, from `watch` until what that returned is called."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def watch(self, plane: Plane) -> Callable[[], None]:
        unsubscribe = plane.table.subscribe(self._route)
        plane.register.watcher = self

        def stop() -> None:
            unsubscribe()
            plane.register.watcher = None

        return stop

    def connection_accepted(self, connection: Connection) -> None:
        principal = connection.principal
        self._log.add(
            "connection.opened",
            principal.subject,
            connection=str(connection.number),
            peer=connection.peer,
            principal_kind=principal.kind.value,
        )

    def connection_closed(self, closed: Closed) -> None:
        self._log.add(
            "connection.closed",
            closed.subject,
            connection=str(closed.number),
            peer=closed.peer,
            principal_kind=closed.principal_kind,
            reason=closed.reason,
            duration_s=round(closed.duration_s, 3),
        )

    def _route(self, event: RouteEvent) -> None:
        route = event.route
        self._log.add(
            "route.joined" if isinstance(event, Joined) else "route.left",
            route.subject,
            route=str(uuid.UUID(bytes=route.route_id)),
            service=route.service,
        )


class ChangeWatcher:
    """Reports what the control plane has changed: what, by whom, and which values; none of the values."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def __call__(self, entry: AuditEntry) -> None:
        kind = HAPPENED.get(entry.action)
        if kind is None:
            return
        _, _, subject = entry.object.partition(":")
        data: dict[str, Any] = {"object": entry.object, "by": f"{entry.actor_type}:{entry.actor_id}"}
        if entry.outcome != "ok":
            kind = f"{entry.action.partition('.')[0]}.refused"
            data["reason"] = entry.reason
        elif entry.before is not None and entry.after is not None:
            data["changed"] = sorted(set(entry.diff) - _ALWAYS_DIFFERENT)
        elif "count" in entry.diff:
            data["count"] = entry.diff["count"]
        self._log.add(kind, subject, **data)


def guard_of(event: Event) -> str | None:
    """The scope that it takes to read it beyond that of events: no names of users for who may not list them."""
    return GUARDED.get(event.kind.partition(".")[0])
