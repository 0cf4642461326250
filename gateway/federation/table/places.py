"""What the view is made of: centrals, the edges that they hold, and the shards of these. Interned: one object each."""

from __future__ import annotations

from typing import NamedTuple

from gateway.federation.table.records import NodeRecord, Offer, ShardRecord, shard_of


class Place(NamedTuple):
    """Where something is served: behind an edge whose uplink a node holds. `url` is where peers reach the node."""

    edge: str
    node: str
    url: str
    suspect: bool


class Offered(NamedTuple):
    place: Place
    offer: Offer


class NodeState(NamedTuple):
    """`alive`: its routes count. `suspect`: they are chosen last; `reason` says why."""

    name: str
    url: str
    zone: str
    version: int
    epoch: int
    alive: bool
    suspect: bool
    reason: str


class Node:
    """A central. `epoch` is of its last lease, alive or not; 0 before there was one."""

    __slots__ = ("alive", "broken", "doubtful", "edges", "linked", "name", "record", "seen_at")

    def __init__(self, name: str) -> None:
        self.name = name
        self.record: NodeRecord | None = None
        self.alive = False
        #: Its lease is missing, at a time when that proves nothing.
        self.doubtful = False
        #: The link to it broke.
        self.broken = False
        #: There is a link to it that works.
        self.linked = False
        self.seen_at = 0.0
        #: How many edges name it.
        self.edges = 0

    @property
    def epoch(self) -> int:
        return 0 if self.record is None else self.record.epoch

    @property
    def suspect(self) -> bool:
        return self.broken or self.doubtful

    def state(self) -> NodeState:
        record = self.record or NodeRecord(0)
        reason = (
            "" if self.record is None else "its lease has ended" if not self.alive
            else "the link to it is down" if self.broken else "its lease is missing" if self.doubtful else ""
        )  # fmt: skip
        return NodeState(
            self.name, record.url, record.zone, record.version, record.epoch, self.alive, self.suspect, reason
        )


class Shard:
    __slots__ = ("digest", "mark", "record", "revision")

    def __init__(self, record: ShardRecord, revision: int, digest: int, mark: int) -> None:
        self.record = record
        self.revision = revision
        self.digest = digest
        self.mark = mark


class Edge:
    """An edge, whether or not somebody holds it: shards may be known before, and after."""

    __slots__ = ("epoch", "name", "node", "node_epoch", "others", "services", "services_epoch", "shards", "widest")

    def __init__(self, name: str) -> None:
        self.name = name
        self.node: Node | None = None
        self.node_epoch = 0
        self.epoch = 0
        #: A power of two above every shard's number: the most shards there can have been.
        self.widest = 1
        self.shards: dict[int, Shard] = {}
        #: Shards of another epoch than the edge's: none of their devices counts.
        self.others = 0
        self.services: dict[str, tuple[int, Offer]] = {}
        self.services_epoch = 0

    @property
    def visible(self) -> bool:
        node = self.node
        return node is not None and node.alive and node.epoch == self.node_epoch

    @property
    def empty(self) -> bool:
        return self.node is None and not self.shards and not self.services_epoch

    def place(self) -> Place | None:
        """None while nobody who is alive holds it."""
        node = self.node
        if node is None or not node.alive or node.record is None or node.record.epoch != self.node_epoch:
            return None
        return Place(self.name, node.name, node.record.url, node.suspect)

    def counted(self) -> None:
        """Looks again at which shards are of this epoch."""
        self.others = sum(shard.record.epoch != self.epoch for shard in self.shards.values())

    def holding(self, device: str) -> list[Shard]:
        """The shards that name a device: one, or more while their number changes."""
        found, asked = [], set()
        shards = 1
        while True:
            number = shard_of(device, shards)
            shard = self.shards.get(number)
            if number not in asked and shard is not None and device in shard.record.devices:
                found.append(shard)
            asked.add(number)
            if shards >= self.widest:
                return found
            shards *= 2

    def claim(self, device: str) -> tuple[int, int] | None:
        """The stamp and revision of a claim that counts; None without one."""
        if not self.visible:
            return None
        best: tuple[int, int] | None = None
        for shard in self.holding(device):
            record = shard.record
            if record.epoch == self.epoch:
                claim = (record.stamps[record.devices.index(device)], shard.revision)
                if best is None or claim > best:
                    best = claim
        return best
