"""Whether the engine is followed, and what may be believed of it: freshness, hold-down, and the ends of leases.

Pure: every method takes `now`, in seconds of any clock that does not jump. The rules:

* Fresh is end to end: the watch speaks, and this node's own lease comes back in it. A server that lost its peers goes
  on with heartbeats; only one that still takes writes sends the lease back.
* While not fresh, and for one lease after, no record is dropped because it ran out or is missing: owners and expiry
  race when an engine comes back, and it may come back empty. Until then its central is chosen last.
* When more than 30 % of the centrals, two at least, go within two seconds, that is the engine's trouble, not theirs.
* A central that says good-bye is gone at once. One whose lease is not refreshed for longer than it lives has gone even
  if nobody says so.
"""

from __future__ import annotations

import math
from collections import deque

from gateway.federation.table import names
from gateway.federation.table.places import Node
from gateway.federation.table.records import LEASE_S
from gateway.federation.table.store import Change, Gone, RecordInvalid
from gateway.federation.table.view import TableView

REFRESH_S = 3.0
#: Without a word from the watch for so long it is not followed; it has a heartbeat every second.
SILENT_S = 2.5
#: How much later than the next refresh the own lease may come back.
ECHO_LATE_S = 3.0
#: How much longer than a lease lives nobody may have heard of a refresh.
UNHEARD_S = 3.0
MASS_S, MASS_SHARE = 2.0, 0.3
#: How long the name of a central that has ended is remembered.
REMEMBERED_S = 3600.0


class Following:
    """What one reader makes of the changes that it is told. `own` is its node's name, "" for one without a lease."""

    def __init__(self, view: TableView, own: str = "") -> None:
        self.view = view
        self.own = own
        self.fresh = False
        self.why = "the engine was not reached yet"
        self.since = -math.inf
        self.hold_until = math.inf
        self.doubtful: dict[str, int] = {}
        self.counts = {"lapsed": 0, "held_down": 0, "mass_expiry": 0, "snapshots": 0, "stale": 0}
        self._synced = False
        self._heard_at = -math.inf
        self._echo_at = -math.inf
        self._echo_revision = 0
        self._lapsed: deque[tuple[float, str]] = deque()
        self._ended: dict[str, float] = {}

    # What the watch tells

    def snapshot_began(self, reset: bool, now: float) -> None:
        self._judge(now)
        self._synced = False
        self._heard_at = now
        self.why = "a snapshot is being read"
        if reset:
            self._echo_revision = 0
            self.doubtful = dict.fromkeys(self.doubtful, 0)
        self.view.begin_snapshot(reset)

    def snapshot_ended(self, now: float) -> list[str]:
        """The keys that are held and were not in it; they are doubtful from now on."""
        self.counts["snapshots"] += 1
        missing = self.view.end_snapshot()
        self._synced = True
        self._heard_at = now
        # What is missing is judged as if the engine had been away until now.
        self.hold_until = max(self.hold_until, now + LEASE_S)
        for key in missing:
            self._doubt(key, 0)
        self._judge(now)
        return missing

    def interrupted(self, why: str, now: float) -> None:
        self._synced = False
        self.why = why
        self._judge(now)

    def heard(self, now: float) -> None:
        self._judge(now)
        self._heard_at = now
        self._judge(now)

    def changed(self, change: Change, now: float) -> bool:
        """Takes one change; whether it was news."""
        self._judge(now)
        self._heard_at = now
        key, value, revision, gone = change
        if value is None and gone is Gone.EXPIRED:
            return self._expired(key, revision, now)
        news = self.view.apply(key, value, revision)
        self.doubtful.pop(key, None)
        if key.startswith("n."):
            try:
                self._lease(names.parse(key).name, value, revision, now)
            except RecordInvalid:
                # Counted by the view.
                pass
        return news

    # Deadlines

    def tick(self, now: float) -> None:
        """Call it several times a second."""
        self._judge(now)
        if not self.fresh:
            return
        for node in list(self.view.nodes.values()):
            if node.alive and not node.doubtful and node.name != self.own:
                if now - max(node.seen_at, self.since) > LEASE_S + UNHEARD_S:
                    self._expired(names.node_key(node.name), 0, now)
            elif not node.alive and now - self._ended.get(node.name, now) > REMEMBERED_S:
                del self._ended[node.name]
                self.view.forget(names.node_key(node.name))
        if self.doubtful and now >= self.hold_until:
            for key, revision in list(self.doubtful.items()):
                if not self._proved(key):
                    del self.doubtful[key]
                    self._end(key, revision, now)

    # Direct evidence

    def link(self, name: str, up: bool) -> None:
        """A link to a central came up or broke."""
        node = self.view.nodes.get(name)
        if node is not None:
            node.linked = up
            self.view.broken(name, not up)

    def _judge(self, now: float) -> None:
        why = (
            self.why if not self._synced
            else "the engine is silent" if now - self._heard_at > SILENT_S
            else "" if not self.own or now - self._echo_at <= REFRESH_S + ECHO_LATE_S
            else "this node's lease does not come back from the engine"
        )  # fmt: skip
        if why:
            if self.fresh:
                self.counts["stale"] += 1
                self.since = now
                self.hold_until = math.inf
            self.fresh, self.why = False, why
        elif not self.fresh:
            self.fresh, self.why, self.since = True, "", now
            self.hold_until = now + LEASE_S

    def _lease(self, name: str, value: bytes | None, revision: int, now: float) -> None:
        node = self.view.nodes.get(name)
        if node is None or value is None:
            self._ended.pop(name, None)
            return
        node.seen_at = now
        if node.doubtful:
            # The same lease as before, told again: it is there. One that has ended takes a refresh to come back.
            self.view.revive(name)
        if name == self.own and revision > self._echo_revision:
            self._echo_revision, self._echo_at = revision, now
            self._judge(now)

    def _expired(self, key: str, revision: int, now: float) -> bool:
        try:
            known = self.view.holds(key)
        except RecordInvalid:
            self.view.invalid += 1
            return False
        if not known or 0 < revision <= self.view.held_revision(key):
            return False
        if not self.fresh or now < self.hold_until:
            self._doubt(key, revision)
        else:
            self._end(key, revision, now)
        return True

    def _doubt(self, key: str, revision: int) -> None:
        self.counts["held_down"] += 1
        self.doubtful[key] = revision
        if key.startswith("n."):
            node = self.view.nodes.get(names.parse(key).name)
            if node is not None and node.alive:
                self.view.doubt(node.name)

    def _proved(self, key: str) -> bool:
        """Whether a link says that the central behind a record is there, whatever the engine says."""
        kind, name, _ = names.parse(key)
        node: Node | None
        if kind == names.NODE:
            node = self.view.nodes.get(name)
        else:
            edge = self.view.edges.get(name)
            node = None if edge is None else edge.node
        return node is not None and node.linked

    def _end(self, key: str, revision: int, now: float) -> None:
        kind, name, _ = names.parse(key)
        if kind != names.NODE:
            self.view.forget(key, revision)
            return
        node = self.view.nodes.get(name)
        if node is None or not node.alive:
            self.view.forget(key, revision)
            return
        sudden = not node.doubtful
        self.counts["lapsed"] += 1
        self._ended[name] = now
        self.view.lapse(name, revision)
        if sudden:
            self._lapsed.append((now, name))
            self._guard(now)

    def _guard(self, now: float) -> None:
        while self._lapsed and now - self._lapsed[0][0] > MASS_S:
            self._lapsed.popleft()
        alive = sum(node.alive for node in self.view.nodes.values())
        if len(self._lapsed) < 2 or len(self._lapsed) <= MASS_SHARE * (alive + len(self._lapsed)):
            return
        self.counts["mass_expiry"] += 1
        self.hold_until = now + LEASE_S
        for _, name in self._lapsed:
            key = names.node_key(name)
            if self.view.holds(key) and not self.view.nodes[name].alive:
                self.doubtful[key] = 0
                self.view.doubt(name)
        self._lapsed.clear()
