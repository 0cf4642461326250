"""The view against a brute-force reading of its rules, whatever the order of changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.federation.table import names
from gateway.federation.table.records import (
    EdgeRecord,
    NodeRecord,
    Offer,
    ServicesRecord,
    ShardRecord,
    shard_of,
)
from gateway.federation.table.view import MANY, TableView
from tests.examples import examples

NODES, EDGES = ["c1", "c2", "c3"], ["e1", "e2", "e/3"]
DEVICES = [f"device-{number}" for number in range(8)]
SERVICES = ["lights", "heat"]
SHARDS = 4


@dataclass(frozen=True)
class Write:
    key: str
    value: bytes | None


def shard_value(edge_epoch: int, shard: int, claims: dict[str, int]) -> bytes:
    rows = [(device, stamp, 0) for device, stamp in claims.items() if shard_of(device, SHARDS) == shard]
    return ShardRecord.encode(edge_epoch, rows)


@st.composite
def writes(draw: st.DrawFn) -> Write:
    kind = draw(st.sampled_from("nesd"))
    epoch = draw(st.integers(1, 2))
    gone = draw(st.integers(0, 4)) == 0
    if kind == "n":
        name = draw(st.sampled_from(NODES))
        return Write(names.node_key(name), None if gone else NodeRecord(epoch, f"tls://{name}").encode())
    edge = draw(st.sampled_from(EDGES))
    if kind == "e":
        record = EdgeRecord(draw(st.sampled_from(NODES)), draw(st.integers(1, 2)), epoch, SHARDS)
        return Write(names.edge_key(edge), None if gone else record.encode())
    if kind == "s":
        offered = {name: Offer(4) for name in draw(st.sets(st.sampled_from(SERVICES)))}
        value = ServicesRecord(epoch, offered, {name: SERVICES.index(name) for name in offered}).encode()
        return Write(names.services_key(edge), None if gone else value)
    shard = draw(st.integers(0, SHARDS - 1))
    claims = draw(st.dictionaries(st.sampled_from(DEVICES), st.integers(1, 5)))
    return Write(names.devices_key(edge, shard), None if gone else shard_value(epoch, shard, claims))


class Oracle:
    """The rules of the table, read off the newest value of each key."""

    def __init__(self, log: list[Write]) -> None:
        self.held: dict[str, tuple[bytes, int]] = {}
        for revision, write in enumerate(log, 1):
            if write.value is None:
                self.held.pop(write.key, None)
            else:
                self.held[write.key] = (write.value, revision)

    def edges(self) -> Iterator[tuple[str, EdgeRecord]]:
        for edge in EDGES:
            if names.edge_key(edge) in self.held:
                record = EdgeRecord.decode(self.held[names.edge_key(edge)][0])
                lease = self.held.get(names.node_key(record.central))
                if lease is not None and NodeRecord.decode(lease[0]).epoch == record.central_epoch:
                    yield edge, record

    def device(self, device: str) -> tuple[str, str] | None:
        best = None
        for edge, record in self.edges():
            for shard in range(SHARDS):
                value, revision = self.held.get(names.devices_key(edge, shard), (b"", 0))
                if not value:
                    continue
                part = ShardRecord.decode(value)
                if part.epoch == record.epoch and device in part.devices:
                    claim = (part.stamps[part.devices.index(device)], revision, edge, record.central)
                    best = max(best or claim, claim)
        return None if best is None else best[2:]

    def service(self, service: str) -> set[tuple[str, str]]:
        found = set()
        for edge, record in self.edges():
            value = self.held.get(names.services_key(edge), (b"", 0))[0]
            if value:
                services = ServicesRecord.decode(value)
                if services.epoch == record.epoch and service in services.offers:
                    found.add((edge, record.central))
        return found


def agree(view: TableView, log: list[Write]) -> None:
    oracle = Oracle(log)
    for device in DEVICES:
        place = view.place(device)
        assert (None if place is None else (place.edge, place.node)) == oracle.device(device), device
    for service in SERVICES:
        assert {(each.place.edge, each.place.node) for each in view.service(service)} == oracle.service(service)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(writes(), max_size=40), st.randoms(use_true_random=False))
def test_the_newest_of_each_key_counts_in_any_order(log: list[Write], random) -> None:
    view = TableView()
    order = list(enumerate(log, 1))
    random.shuffle(order)
    for revision, write in order:
        view.apply(write.key, write.value, revision)
    agree(view, log)


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(writes(), max_size=40), st.integers(0, 40), st.booleans())
def test_a_snapshot_makes_up_for_what_was_missed(log: list[Write], seen: int, reset: bool) -> None:
    view = TableView()
    for revision, write in enumerate(log[:seen], 1):
        # What is held from before a loss of the engine has higher revisions than what comes after.
        view.apply(write.key, write.value, revision + (1000 if reset else 0))
    view.begin_snapshot(reset)
    for key, (value, revision) in Oracle(log).held.items():
        view.apply(key, value, revision)
    for key in view.end_snapshot():
        view.forget(key)
    agree(view, log)
    for key in [*Oracle(log).held]:
        view.forget(key)
    assert not len(view)
    assert not view.edges
    assert not view.nodes
    assert not view.contested


def lit(view: TableView, edge: str = "e1", node: str = "c1", epoch: int = 1, revision: int = 1) -> None:
    view.apply(names.node_key(node), NodeRecord(7, f"tls://{node}").encode(), revision)
    view.apply(names.edge_key(edge), EdgeRecord(node, 7, epoch, SHARDS).encode(), revision + 1)


def test_an_edge_that_moves_takes_its_devices_along_with_one_key() -> None:
    view = TableView()
    lit(view)
    for shard in range(SHARDS):
        view.apply(names.devices_key("e1", shard), shard_value(1, shard, dict.fromkeys(DEVICES, 1)), 10 + shard)
    view.apply(names.node_key("c2"), NodeRecord(3, "tls://c2").encode(), 20)
    generation = view.generation
    view.apply(names.edge_key("e1"), EdgeRecord("c2", 3, 1, SHARDS).encode(), 21)
    assert {view.place(device) for device in DEVICES} == {("e1", "c2", "tls://c2", False)}
    assert view.generation > generation


def test_a_device_stays_while_the_number_of_shards_changes() -> None:
    view = TableView()
    lit(view)
    everybody = [f"d{number}" for number in range(64)]

    def write(shard: int, shards: int, revision: int) -> None:
        rows = [(device, 1, 0) for device in everybody if shard_of(device, shards) == shard]
        view.apply(names.devices_key("e1", shard), ShardRecord.encode(1, rows), revision)
        assert all(view.place(device) for device in everybody)

    revision = 10
    view.apply(names.devices_key("e1", 0), ShardRecord.encode(1, [(device, 1, 0) for device in everybody]), revision)
    for before, after in [(1, 4), (4, 2)]:
        for shard in reversed(range(after)) if after > before else range(after):
            revision += 1
            write(shard, after, revision)
        for shard in range(after, before):
            revision += 1
            view.forget(names.devices_key("e1", shard), revision)
            assert all(view.place(device) for device in everybody)
    assert len(view) == 64


def test_names_of_any_alphabet_are_keys() -> None:
    for name in ["edge-7", "a.b", "käse", "=", "x" * 255, "n/7"]:
        for key in [names.node_key(name), names.edge_key(name), names.devices_key(name, 12)]:
            assert names.parse(key).name == name
    assert names.parse(names.devices_key("a.b", 12)).shard == 12


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("x.c1", b"{}"),
        ("n", b"{}"),
        ("n.", b'{"e":1,"a":"","z":"","v":1}'),
        ("d.e1.01", b'{"e":1,"r":[]}'),
        ("d.e1.70000000", b'{"e":1,"r":[]}'),
        ("n.=%%", b"{}"),
        ("n.c1", b"\xff"),
        ("n.c1", b"[]"),
        ("n.c1", b'{"e":-1,"a":"","z":"","v":1}'),
        ("n.c1", b'{"e":true,"a":"","z":"","v":1}'),
        ("n.c1", b"[" * 100_000),
        ("n.c1", b'{"e":1,"a":"' + b"a" * 70_000 + b'","z":"","v":1}'),
        ("e.e1", b'{"c":"c1","ce":1,"e":1,"sh":3}'),
        ("s.e1", b'{"e":1,"s":[1]}'),
        ("s.e1", b'{"e":1,"s":{"a":1}}'),
        ("s.e1", b'{"e":1,"s":{"a":{"i":0,"n":1,"tags":{"a":1}}}}'),
        ("d.e1.0", b'{"e":1,"r":1}'),
        ("d.e1.0", b'{"e":1,"r":[["a",1]]}'),
        ("d.e1.0", b'{"e":1,"r":[["a",-1,0]]}'),
        ("d.e1.0", b'{"e":1,"r":[["a",1,0],["a",2,0]]}'),
        ("d.e1.0", b'{"e":1,"r":[["",1,0]]}'),
        ("d.e1.0", b'{"e":1,"r":[[1,1,0]]}'),
        ("d.e1.0", b'{"e":1,"r":[["a",1,["x"]]]}'),
    ],
)
def test_what_is_no_record_is_counted_and_left_out(key: str, value: bytes) -> None:
    view = TableView()
    assert not view.apply(key, value, 1)
    assert view.invalid == 1
    assert not view.edges
    assert not view.nodes


def test_the_services_of_a_device_are_named_by_its_edge() -> None:
    view = TableView()
    lit(view)
    offers = {"lights": Offer(5, 2, "1.0", {"zone": "a"}), "heat": Offer(1)}
    view.apply(names.services_key("e1"), ServicesRecord(1, offers, {"lights": 0, "heat": 1}).encode(), 5)
    number = shard_of("lamp", 2)
    view.apply(names.devices_key("e1", number), ShardRecord.encode(1, [("lamp", 9, (0, 1))]), 6)
    assert view.services_of("lamp") == ("lights", "heat")
    (offered,) = view.service("lights")
    # The count is told as a power of two.
    assert offered.offer == Offer(4, 2, "1.0", {"zone": "a"})


def test_very_many_changes_are_told_as_a_change_of_everything() -> None:
    view = TableView()
    lit(view)
    for shard in range(MANY // 64 + 1):
        view.apply(
            names.devices_key("e1", shard), ShardRecord.encode(1, [(f"{shard}-{one}", 1, 0) for one in range(64)]), 9
        )
    assert view.touched.everything
    assert not view.touched.devices
