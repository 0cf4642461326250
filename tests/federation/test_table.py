"""Tables of several centrals on one store in this process: what one's edges say, the others see."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.errors import FederationError
from gateway.federation.table import Claim, EmbeddedStore, HybridClock, Offer, SharedTable, TableOptions, Touched, names
from gateway.federation.table.records import RECORD_S, NodeRecord
from gateway.federation.table.store import Put
from tests.federation.waiting import until

StartTable = Callable[..., Awaitable["Central"]]


class Central:
    """A table and what it has called back."""

    def __init__(self, store: EmbeddedStore, name: str) -> None:
        self.fenced: list[str] = []
        self.displaced: list[str] = []
        self.lost: list[tuple[str, str]] = []
        self.touched: list[Touched] = []
        self.table = SharedTable(
            store,
            TableOptions(name, f"tls://{name}:7879"),
            on_fenced=self.fenced.append,
            on_displaced=self.displaced.append,
            on_lost=lambda edge, device, stamp: self.lost.append((edge, device)),
        )
        self.table.subscribe(self.touched.append)

    def where(self, device: str) -> tuple[str, str] | None:
        place = self.table.device(device)
        return None if place is None else (place.edge, place.node)


@pytest.fixture
async def store() -> EmbeddedStore:
    return EmbeddedStore()


@pytest.fixture
async def start(store: EmbeddedStore) -> AsyncIterator[StartTable]:
    started: list[Central] = []

    async def start(name: str) -> Central:
        central = Central(store, name)
        await central.table.start()
        started.append(central)
        return central

    yield start
    for central in started:
        await central.table.stop()


def claims(*devices: str, stamp: int = 1) -> list[Claim]:
    return [Claim(device, stamp, ("lights",)) for device in devices]


async def test_what_an_edge_says_is_seen_by_every_central(start: StartTable) -> None:
    one, two = await start("c1"), await start("c2")
    assert one.table.fresh
    epoch = await one.table.attach("e1")
    one.table.replace("e1", claims("lamp", "bulb"), {"lights": Offer(2)})
    # At home it counts at once, elsewhere when it is written.
    assert one.where("lamp") == ("e1", "c1")
    await until(lambda: two.where("lamp") == ("e1", "c1"))
    await until(lambda: len(two.table.service("lights")) == 1)
    assert two.table.edge("e1").url == "tls://c1:7879"
    assert epoch > 1_600_000_000_000
    one.table.join("e1", Claim("switch", 5))
    one.table.leave("e1", "bulb")
    await until(lambda: two.where("switch") == ("e1", "c1") and two.where("bulb") is None)
    one.table.offer("e1", {})
    assert one.table.service("lights") == []
    one.table.detach("e1")
    assert one.where("lamp") is None
    await until(lambda: two.where("lamp") is None)
    assert {"lamp", "bulb"} <= set().union(*(each.devices for each in two.touched))


async def test_clients_of_a_central_are_behind_an_edge_of_its_name(start: StartTable) -> None:
    one, two = await start("c1"), await start("c2")
    one.table.join("c1", Claim("phone", 1))
    await until(lambda: two.where("phone") == ("c1", "c1"))
    with pytest.raises(FederationError) as refused:
        await two.table.attach("c1")
    assert refused.value.reason == "edge_name"


async def test_an_edge_that_moves_costs_one_key(start: StartTable) -> None:
    one, two = await start("c1"), await start("c2")
    devices = [f"d{number}" for number in range(300)]
    epoch = await one.table.attach("e1")
    one.table.replace("e1", claims(*devices), {"lights": Offer(300)})
    await until(lambda: all(two.where(device) for device in devices) and not one.table.status().dirty)
    before = two.table.status().counts["written"]
    assert await two.table.attach("e1", epoch) == epoch
    two.table.replace("e1", claims(*devices), {"lights": Offer(300)})
    await until(lambda: one.where("d7") == ("e1", "c2"))
    assert one.displaced == ["e1"]
    assert two.displaced == []
    await until(lambda: not two.table.status().dirty)
    # The one is the edge's own, which `attach` writes itself.
    assert two.table.status().counts["written"] == before


async def test_the_older_of_two_edges_of_one_name_is_refused(start: StartTable) -> None:
    one, two = await start("c1"), await start("c2")
    first = await one.table.attach("e1")
    second = await two.table.attach("e1")
    assert second > first
    await until(lambda: one.displaced == ["e1"])
    with pytest.raises(FederationError) as refused:
        await one.table.attach("e1", first)
    assert refused.value.reason == "edge_superseded"
    with pytest.raises(FederationError) as refused:
        await one.table.attach("e1", 1 << 60)
    assert refused.value.reason == "edge_epoch"


async def test_the_later_claim_of_a_device_wins_and_the_other_edge_is_told(start: StartTable) -> None:
    one, two = await start("c1"), await start("c2")
    clock = HybridClock()
    await one.table.attach("e1")
    await two.table.attach("e2")
    one.table.join("e1", Claim("lamp", clock.stamp(10)))
    await until(lambda: two.where("lamp") == ("e1", "c1"))
    two.table.join("e2", Claim("lamp", clock.stamp(10)))
    assert two.where("lamp") == ("e2", "c2")
    await until(lambda: one.lost == [("e1", "lamp")])
    assert one.where("lamp") == ("e2", "c2")
    one.table.leave("e1", "lamp")
    await until(lambda: not one.table.view.contested)
    assert one.where("lamp") == ("e2", "c2")
    assert two.lost == []


async def test_of_two_edges_of_one_central_the_later_claim_wins(start: StartTable) -> None:
    one = await start("c1")
    await one.table.attach("e1")
    await one.table.attach("e2")
    one.table.join("e1", Claim("lamp", 7))
    one.table.join("e2", Claim("lamp", 9))
    assert one.lost == [("e1", "lamp")]
    assert one.where("lamp") == ("e2", "c1")


async def test_claims_of_one_moment_have_one_winner(start: StartTable) -> None:
    one, two = await start("c1"), await start("c2")
    await one.table.attach("e1")
    await two.table.attach("e2")
    one.table.join("e1", Claim("lamp", 7))
    two.table.join("e2", Claim("lamp", 7))
    await until(lambda: len(one.lost) + len(two.lost) == 1)
    await until(lambda: not one.table.status().dirty and not two.table.status().dirty)
    assert len(one.lost) + len(two.lost) == 1


async def test_the_older_of_two_nodes_of_one_name_is_fenced(start: StartTable, store: EmbeddedStore) -> None:
    one = await start("c1")
    two = await start("c1")
    await until(lambda: bool(one.fenced))
    assert "another process has the name 'c1'" in one.fenced[0]
    assert not two.fenced
    with pytest.raises(FederationError) as refused:
        await one.table.attach("e1")
    assert refused.value.reason == "fenced"
    await one.table.stop()
    # Its end takes nothing from the one that has the name.
    assert two.table.lease.epoch
    entry = await store.read(names.node_key("c1"))
    assert entry is not None
    assert NodeRecord.decode(entry.value).epoch == two.table.lease.epoch


async def test_a_good_bye_takes_the_routes_along_at_once(start: StartTable) -> None:
    one, two = await start("c1"), await start("c2")
    await one.table.attach("e1")
    one.table.replace("e1", claims("lamp"), {})
    await until(lambda: two.where("lamp") == ("e1", "c1"))
    await one.table.stop()
    assert two.where("lamp") is None


async def test_whatever_the_store_loses_or_gets_wrong_is_written_again(start: StartTable, store: EmbeddedStore) -> None:
    one, two = await start("c1"), await start("c2")
    epoch = await one.table.attach("e1")
    one.table.replace("e1", claims("lamp"), {"lights": Offer(1)})
    await until(lambda: two.where("lamp") == ("e1", "c1") and len(two.table.service("lights")) == 1)
    await until(lambda: not one.table.status().dirty)
    wrong = names.devices_key("e1", 0)
    await store.put(Put(wrong, b'{"e":%d,"r":[]}' % epoch, RECORD_S))
    assert two.where("lamp") is None
    await until(lambda: two.where("lamp") == ("e1", "c1"))
    for key in [names.node_key("c1"), names.edge_key("e1"), names.services_key("e1"), wrong]:
        await store.delete(key)
    await until(lambda: two.where("lamp") == ("e1", "c1") and len(two.table.service("lights")) == 1)


async def test_shards_follow_the_number_of_devices(start: StartTable) -> None:
    one, two = await start("c1"), await start("c2")
    await one.table.attach("e1")
    one.table.replace("e1", [], {})
    everybody = [f"d{number}" for number in range(1000)]
    for device in everybody:
        one.table.join("e1", Claim(device, 1))
    await until(lambda: all(two.where(device) for device in everybody))
    assert 16 <= len(two.table.view.edges["e1"].shards) <= 64
    for device in everybody[10:]:
        one.table.leave("e1", device)
    await until(lambda: len(two.table.view.edges["e1"].shards) == 1)
    assert all(two.where(device) for device in everybody[:10])
    assert not any(two.where(device) for device in everybody[10:])


async def test_a_store_that_is_away_holds_nobody_up(store: EmbeddedStore) -> None:
    central = Central(store, "c1")
    table = central.table
    # As with an engine that was never reached: no lease, no watch.
    table._hosting.open_own()
    epoch = await table.attach("e1")
    table.replace("e1", claims("lamp"), {"lights": Offer(1)})
    assert central.where("lamp") == ("e1", "c1")
    assert await table.attach("e1", epoch) == epoch
    assert not table.fresh
    await table.start()
    other = Central(store, "c2")
    await other.table.start()
    await until(lambda: other.where("lamp") == ("e1", "c1"))
    assert central.displaced == []
    await other.table.stop()
    await table.stop()


async def test_leases_are_refreshed_while_a_node_lives(start: StartTable) -> None:
    one, two = await start("c1"), await start("c2")
    before = one.table.status().counts["refreshes"]
    await until(lambda: one.table.status().counts["refreshes"] > before)
    assert [(state.name, state.alive, state.url) for state in two.table.nodes()] == [("c1", True, "tls://c1:7879")]
