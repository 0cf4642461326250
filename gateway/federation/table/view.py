"""Who serves what, in the whole cluster: the table as one reader knows it.

Pure: `apply` takes changes, in any order but each key's newest wins; whether a record counts is judged at look-up
(its epoch is the edge's, and the edge's central is alive with the epoch that the edge names), so that it does not
matter what came first. Leases end by the word of `Liveness`, not of the view.

A snapshot marks what it tells; `end_snapshot` says what it has not told, and `forget` drops that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gateway.federation.table import names
from gateway.federation.table.names import Key
from gateway.federation.table.places import Edge, Node, Offered, Place, Shard
from gateway.federation.table.records import EdgeRecord, NodeRecord, ServicesRecord, ShardRecord, served_otherwise
from gateway.federation.table.store import RecordInvalid

#: Beyond so many devices a change is told as a change of everything.
MANY = 10_000


@dataclass(slots=True)
class Touched:
    """What has changed since it was last taken. An edge or a node stands for all that is behind it."""

    everything: bool = False
    devices: set[str] = field(default_factory=set)
    services: set[str] = field(default_factory=set)
    edges: set[str] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.everything or self.devices or self.services or self.edges or self.nodes)

    def named(self, devices: Sequence[str]) -> None:
        if not self.everything:
            self.devices.update(devices)
            if len(self.devices) > MANY:
                self.everything = True
                self.devices.clear()


class _Held:
    """A key that is not a shard: what it is written with."""

    __slots__ = ("digest", "mark", "revision")

    def __init__(self, revision: int, digest: int, mark: int) -> None:
        self.revision = revision
        self.digest = digest
        self.mark = mark


class TableView:
    """`generation` moves with every change of an answer; `contested` are devices that more than one edge names."""

    def __init__(self) -> None:
        self.generation = 0
        self.revision = 0
        self.invalid = 0
        self.touched = Touched()
        self.contested: set[str] = set()
        self.nodes: dict[str, Node] = {}
        self.edges: dict[str, Edge] = {}
        self._index: dict[str, Edge | tuple[Edge, ...]] = {}
        self._services: dict[str, dict[Edge, None]] = {}
        self._held: dict[str, _Held] = {}
        #: Revisions at which keys went, so that what is older does not bring them back.
        self._gone: dict[str, int] = {}
        self._mark = 0
        self._reset = False

    # Changes

    def begin_snapshot(self, reset: bool) -> None:
        """`reset`: revisions of before mean nothing any more."""
        self._mark += 1
        self._reset = reset
        if reset:
            self._gone.clear()
            self.revision = 0

    def end_snapshot(self) -> list[str]:
        """The keys that are held and were not told."""
        self._gone.clear()
        mark, reset, self._reset = self._mark, self._reset, False
        missing: dict[str, Shard | _Held] = {key: held for key, held in self._held.items() if held.mark != mark}
        for edge in self.edges.values():
            for number, shard in edge.shards.items():
                if shard.mark != mark:
                    missing[names.devices_key(edge.name, number)] = shard
        if reset:
            # Whatever is written of them from now on is newer.
            for held in missing.values():
                held.revision = 0
        return list(missing)

    def apply(self, key: str, value: bytes | None, revision: int) -> bool:
        """One change; False when it says nothing new. What is no record of the table is counted and left out."""
        try:
            return self._apply(key, names.parse(key), value, revision)
        except RecordInvalid:
            self.invalid += 1
            return False

    def forget(self, key: str, revision: int = 0) -> bool:
        """Takes a key out: deleted at `revision`, or missing."""
        return self.apply(key, None, revision or self.held_revision(key) + 1)

    def lapse(self, name: str, revision: int = 0) -> None:
        """A central's lease has ended. What was known of it stays, for the case that this proves wrong (`revive`)."""
        node = self.nodes[name]
        node.alive = node.doubtful = False
        held = self._held[names.node_key(name)]
        held.revision = max(held.revision, revision)
        # The next lease is news, even if it reads the same.
        held.digest = 0
        self._turned(node)

    def doubt(self, name: str) -> None:
        """A central's lease is missing, or was, at a time when that proves nothing: it counts, and is chosen last."""
        node = self.nodes[name]
        node.alive = node.doubtful = True
        self._held[names.node_key(name)].digest = 0
        self._turned(node)

    def revive(self, name: str) -> None:
        """A central's lease is there after all."""
        node = self.nodes[name]
        node.alive, node.doubtful = True, False
        self._turned(node)

    def broken(self, name: str, down: bool) -> None:
        """Whether the link to a central is down: it is chosen last."""
        node = self.nodes.get(name)
        if node is not None and node.broken != down:
            node.broken = down
            self._turned(node)

    def _turned(self, node: Node) -> None:
        self.generation += 1
        self.touched.nodes.add(node.name)

    def held_revision(self, key: str) -> int:
        """0 for a key that is not held."""
        held = self._key(names.parse(key), key)
        return 0 if held is None else held.revision

    def holds(self, key: str) -> bool:
        return self._key(names.parse(key), key) is not None

    def digest(self, key: str) -> int | None:
        """`hash` of the value that is held."""
        held = self._key(names.parse(key), key)
        return None if held is None else held.digest

    def _apply(self, text: str, key: Key, value: bytes | None, revision: int) -> bool:
        held = self._key(key, text)
        if held is not None:
            if revision <= held.revision and not (self._reset and held.mark != self._mark):
                held.mark = self._mark
                return False
        elif revision <= self._gone.get(text, 0):
            return False
        self.revision = max(self.revision, revision)
        if value is None:
            self._gone[text] = revision
            if held is None:
                return False
            self._drop(text, key)
        else:
            digest = hash(value)
            if held is not None:
                held.revision, held.mark = revision, self._mark
                if held.digest == digest:
                    return False
            self._put(text, key, value, revision, digest)
            self._gone.pop(text, None)
        self.generation += 1
        return True

    def _put(self, text: str, key: Key, value: bytes, revision: int, digest: int) -> None:
        if key.kind == names.DEVICES:
            shard = Shard(ShardRecord.decode(value), revision, digest, self._mark)
            self._replace_shard(self._edge(key.name), key.shard, shard)
            return
        if key.kind == names.NODE:
            self._put_node(key.name, NodeRecord.decode(value))
        elif key.kind == names.EDGE:
            attached = EdgeRecord.decode(value)
            self._put_edge(self._edge(key.name), attached)
        else:
            services = ServicesRecord.decode(value)
            self._put_services(self._edge(key.name), services)
        self._held[text] = _Held(revision, digest, self._mark)

    def _drop(self, text: str, key: Key) -> None:
        if key.kind == names.NODE:
            node = self.nodes[key.name]
            node.alive = node.doubtful = False
            del self._held[text]
            self.touched.nodes.add(key.name)
            self._forget_node(node)
            return
        edge = self.edges[key.name]
        if key.kind == names.DEVICES:
            self._replace_shard(edge, key.shard, None)
        elif key.kind == names.EDGE:
            self._held.pop(text)
            self._put_edge(edge, None)
        else:
            self._held.pop(text)
            self._put_services(edge, None)
        if edge.empty:
            del self.edges[key.name]

    def _put_node(self, name: str, record: NodeRecord) -> None:
        node = self._node(name)
        if node.record is None or node.record.epoch != record.epoch:
            node.broken = False
        node.record = record
        node.alive, node.doubtful = True, False
        self.touched.nodes.add(name)

    def _put_edge(self, edge: Edge, record: EdgeRecord | None) -> None:
        before = edge.node
        if record is None:
            edge.node, edge.node_epoch, edge.epoch = None, 0, 0
        else:
            edge.node, edge.node_epoch = self._node(record.central), record.central_epoch
            edge.node.edges += 1
            edge.epoch = record.epoch
        edge.counted()
        if before is not None:
            before.edges -= 1
            self._forget_node(before)
        self.touched.edges.add(edge.name)

    def _put_services(self, edge: Edge, record: ServicesRecord | None) -> None:
        before = edge.services
        if record is None:
            edge.services, edge.services_epoch = {}, 0
        else:
            edge.services = {name: (record.indices[name], offer) for name, offer in record.offers.items()}
            edge.services_epoch = record.epoch
        for name in before.keys() - edge.services.keys():
            held = self._services[name]
            del held[edge]
            if not held:
                del self._services[name]
        for name in edge.services.keys() - before.keys():
            self._services.setdefault(name, {})[edge] = None
        self.touched.services.update(before, edge.services)

    def _replace_shard(self, edge: Edge, number: int, shard: Shard | None) -> None:
        old = edge.shards.pop(number, None)
        before: tuple[str, ...] = () if old is None else old.record.devices
        after: tuple[str, ...] = ()
        if shard is not None:
            edge.shards[number] = shard
            after = shard.record.devices
            if after == before:
                # Claimed anew, or served otherwise: the most frequent change of all.
                after = shard.record.devices = before
            elif before:
                # The same text as before, not an equal one: the index keeps the first that it saw.
                known = {device: device for device in before}
                after = shard.record.devices = tuple([known.get(device, device) for device in after])
            edge.others += shard.record.epoch != edge.epoch
            if number >= edge.widest:
                edge.widest = 1 << number.bit_length()
        if old is not None:
            edge.others -= old.record.epoch != edge.epoch
        changed: list[str] = []
        if after is not before:
            left, joined = set(before).difference(after), set(after).difference(before)
            for device in left:
                if not edge.holding(device):
                    self._unclaim(device, edge)
            for device in joined:
                self._claim(device, edge)
            changed = [*left, *joined]
        if old is not None and shard is not None:
            changed += served_otherwise(old.record, shard.record)
        if old is None or shard is None or old.record.epoch != shard.record.epoch:
            changed = [*before, *after]
        elif self.contested:
            # A later claim may decide now.
            changed += self.contested.intersection(after)
        self.touched.named(changed)

    # Indexes

    def _claim(self, device: str, edge: Edge) -> None:
        held = self._index.setdefault(device, edge)
        if held is edge:
            return
        holders = held if isinstance(held, tuple) else (held,)
        if edge not in holders:
            self._index[device] = (*holders, edge)
            self.contested.add(device)

    def _unclaim(self, device: str, edge: Edge) -> None:
        held = self._index.get(device)
        if not isinstance(held, tuple):
            # A writer that names a device in shards that are not its own is not helped any further.
            if held is edge:
                del self._index[device]
            return
        rest = tuple(each for each in held if each is not edge)
        if len(rest) == 1:
            self._index[device] = rest[0]
            self.contested.discard(device)
        else:
            self._index[device] = rest

    def _node(self, name: str) -> Node:
        node = self.nodes.get(name)
        if node is None:
            node = self.nodes[name] = Node(name)
        return node

    def _edge(self, name: str) -> Edge:
        edge = self.edges.get(name)
        if edge is None:
            edge = self.edges[name] = Edge(name)
        return edge

    def _forget_node(self, node: Node) -> None:
        if not node.edges and not node.alive and names.node_key(node.name) not in self._held:
            self.nodes.pop(node.name, None)

    def _key(self, key: Key, text: str) -> Shard | _Held | None:
        if key.kind != names.DEVICES:
            return self._held.get(text)
        edge = self.edges.get(key.name)
        return None if edge is None else edge.shards.get(key.shard)

    # Look-ups

    def __len__(self) -> int:
        """Devices that are named, whether they count or not."""
        return len(self._index)

    def device(self, name: str, besides: str = "") -> tuple[Edge, tuple[int, int]] | None:
        """The edge with the latest claim that counts, its stamp and revision; `besides`: an edge to leave out."""
        held = self._index.get(name)
        if held is None:
            return None
        best: tuple[Edge, tuple[int, int]] | None = None
        for edge in held if isinstance(held, tuple) else (held,):
            if edge.name != besides:
                claim = edge.claim(name)
                if claim is not None and (best is None or claim > best[1]):
                    best = (edge, claim)
        return best

    def place(self, device: str) -> Place | None:
        """Where a device is served."""
        held = self._index.get(device)
        if held is None:
            return None
        if isinstance(held, Edge) and not held.others:
            return held.place()
        best = self.device(device)
        return None if best is None else best[0].place()

    def service(self, name: str) -> Iterator[Offered]:
        """Every edge that offers a service and counts, in no promised order."""
        for edge in self._services.get(name, ()):
            if edge.services_epoch == edge.epoch:
                place = edge.place()
                if place is not None:
                    yield Offered(place, edge.services[name][1])

    def services_of(self, device: str) -> tuple[str, ...]:
        """The names of the services that a device has registered, as far as they are known."""
        return self.served_by(device)[0]

    def served_by(self, device: str) -> tuple[tuple[str, ...], bool]:
        """As `services_of`; and whether that is all, or the names of some have not been told yet."""
        best = self.device(device)
        if best is None:
            return (), True
        edge = best[0]
        by_index = {index: name for name, (index, _) in edge.services.items()}
        for shard in edge.holding(device):
            if shard.record.epoch == edge.epoch:
                indices = shard.record.services_of(shard.record.devices.index(device))
                known = tuple(by_index[each] for each in indices if each in by_index)
                return known, len(known) == len(indices)
        return (), True

    def edges_of(self, device: str) -> tuple[Edge, ...]:
        """The edges that name a device, whether they count or not."""
        held = self._index.get(device, ())
        return held if isinstance(held, tuple) else (held,)

    def edges_offering(self, service: str) -> Iterator[Edge]:
        """The edges that offer a service, whether they count or not."""
        yield from self._services.get(service, ())

    def service_names(self) -> Iterator[str]:
        yield from self._services
