"""What is believed of an engine that is slow, silent, split or empty. A clock of its own, no engine."""

from __future__ import annotations

import pytest

from gateway.federation.table import names
from gateway.federation.table.following import ECHO_LATE_S, REFRESH_S, SILENT_S, UNHEARD_S, Following
from gateway.federation.table.records import LEASE_S, EdgeRecord, NodeRecord
from gateway.federation.table.store import Change, Gone
from gateway.federation.table.view import TableView

STEP_S = 0.25


class Engine:
    """Others' leases as an engine tells of them; time goes on in quarter seconds."""

    def __init__(self, others: int = 4) -> None:
        self.now = 1000.0
        # Of a bucket that is some days old.
        self.revision = 10_000
        self.following = Following(TableView(), "own")
        self.alive = [f"c{number}" for number in range(others)]
        self.epoch = 5
        self.silent = self.lost_quorum = False
        self.following.snapshot_began(False, self.now)
        for number, name in enumerate(self.alive):
            self.lease(name)
            self.told(names.edge_key(f"e{number}"), EdgeRecord(name, self.epoch, 1).encode())
        self.following.snapshot_ended(self.now)
        self.lease("own")

    def told(self, key: str, value: bytes | None, gone: Gone | None = None) -> None:
        self.revision += 1
        self.following.changed(Change(key, value, self.revision, gone), self.now)

    def lease(self, name: str) -> None:
        self.told(names.node_key(name), NodeRecord(self.epoch, f"tls://{name}").encode())

    def expire(self, *lapsed: str) -> None:
        for name in lapsed:
            self.told(names.node_key(name), None, Gone.EXPIRED)

    def run(self, seconds: float) -> None:
        """Refreshes and heartbeats as they come while nothing is wrong."""
        end = self.now + seconds
        while self.now < end:
            self.now += STEP_S
            if not self.silent and self.now % 1 == 0:
                self.following.heard(self.now)
            if not self.silent and not self.lost_quorum and self.now % REFRESH_S == 0:
                for name in [*self.alive, "own"]:
                    self.lease(name)
            self.following.tick(self.now)

    def snapshot(self, *told: str, reset: bool = False) -> None:
        """A snapshot that has these leases, with their edges."""
        if reset:
            self.revision = 0
        self.following.snapshot_began(reset, self.now)
        for name in told:
            self.lease(name)
            if name != "own":
                self.told(names.edge_key(f"e{name[1:]}"), EdgeRecord(name, self.epoch, 1).encode())
        self.following.snapshot_ended(self.now)

    def routed(self) -> set[str]:
        edges = [self.following.view.edges.get(f"e{number}") for number in range(10)]
        return {place.node for edge in edges if edge is not None and (place := edge.place()) is not None}

    def suspects(self) -> set[str]:
        return {node.name for node in self.following.view.nodes.values() if node.suspect}


@pytest.fixture
def engine() -> Engine:
    engine = Engine()
    assert engine.following.fresh
    engine.run(30)
    return engine


def test_a_lease_that_ends_takes_its_routes_along_at_once(engine: Engine) -> None:
    engine.alive.remove("c0")
    engine.expire("c0")
    assert engine.routed() == {"c1", "c2", "c3"}
    engine.run(60)
    assert engine.routed() == {"c1", "c2", "c3"}


def test_a_good_bye_counts_even_while_nothing_else_does(engine: Engine) -> None:
    engine.silent = True
    engine.run(10)
    engine.told(names.node_key("c0"), None, Gone.DELETED)
    assert "c0" not in engine.routed()


def test_heartbeats_alone_are_not_fresh(engine: Engine) -> None:
    """The minority trap: the server that this node is at lost its peers, and goes on as if nothing were."""
    engine.lost_quorum = True
    engine.run(REFRESH_S + ECHO_LATE_S + 1)
    assert not engine.following.fresh
    assert "lease" in engine.following.why
    engine.run(3600)
    assert engine.routed() == {"c0", "c1", "c2", "c3"}


def test_silence_is_not_fresh_and_ends_no_lease(engine: Engine) -> None:
    engine.silent = True
    engine.run(SILENT_S + 1)
    assert not engine.following.fresh
    engine.run(3600)
    assert engine.routed() == {"c0", "c1", "c2", "c3"}


def test_what_runs_out_after_an_outage_is_held_for_one_lease(engine: Engine) -> None:
    engine.silent = True
    engine.run(40)
    engine.silent = False
    engine.alive.remove("c3")
    engine.snapshot("c0", "c1", "c2", "own")
    engine.lease("own")
    assert engine.following.fresh
    # Two that live lost the race against expiry, one has died meanwhile.
    engine.expire("c0", "c1")
    assert engine.routed() == {"c0", "c1", "c2", "c3"}
    assert engine.suspects() == {"c0", "c1", "c3"}
    engine.run(LEASE_S - 1)
    assert engine.suspects() == {"c3"}
    assert "c3" in engine.routed()
    engine.run(2)
    assert engine.routed() == {"c0", "c1", "c2"}


def test_an_engine_that_comes_back_empty_takes_nothing_along(engine: Engine) -> None:
    engine.snapshot("own", reset=True)
    assert engine.routed() == {"c0", "c1", "c2", "c3"}
    engine.run(4)
    # Their owners have written their leases again, and their edges.
    for number in range(4):
        engine.told(names.edge_key(f"e{number}"), EdgeRecord(f"c{number}", engine.epoch, 1).encode())
    engine.run(60)
    assert engine.routed() == {"c0", "c1", "c2", "c3"}
    assert not engine.suspects()
    assert not engine.following.doubtful


def test_edges_that_nobody_writes_again_go_after_the_hold(engine: Engine) -> None:
    engine.snapshot("own", "c0", reset=True)
    engine.run(LEASE_S + 1)
    assert engine.routed() == {"c0"}


def test_a_node_with_a_live_link_is_not_dropped_for_a_missing_lease(engine: Engine) -> None:
    engine.following.link("c3", True)
    engine.alive.remove("c3")
    engine.silent = True
    engine.run(40)
    engine.silent = False
    engine.snapshot("c0", "c1", "c2", "own")
    engine.run(60)
    assert "c3" in engine.routed()
    assert engine.suspects() == {"c3"}
    engine.following.link("c3", False)
    engine.run(1)
    assert "c3" not in engine.routed()


def test_many_leases_that_end_at_once_are_the_engines_trouble(engine: Engine) -> None:
    engine.expire("c0", "c1")
    assert engine.following.counts["mass_expiry"] == 1
    assert engine.routed() == {"c0", "c1", "c2", "c3"}
    engine.alive.remove("c0")
    engine.run(4)
    assert engine.suspects() == {"c0"}
    engine.run(LEASE_S)
    assert engine.routed() == {"c1", "c2", "c3"}


def test_one_of_three_is_not_many() -> None:
    engine = Engine(others=2)
    engine.run(30)
    engine.alive.remove("c0")
    engine.expire("c0")
    assert engine.routed() == {"c1"}


def test_a_lease_that_nobody_refreshes_ends_without_a_word(engine: Engine) -> None:
    engine.alive.remove("c0")
    engine.run(LEASE_S)
    assert "c0" in engine.routed()
    engine.run(UNHEARD_S + REFRESH_S)
    assert "c0" not in engine.routed()
    engine.alive.append("c0")
    engine.run(REFRESH_S)
    assert "c0" in engine.routed()


def test_a_process_that_slept_drops_nothing_when_it_wakes(engine: Engine) -> None:
    engine.now += 60
    engine.expire("c0", "c1", "c2")
    engine.following.tick(engine.now)
    assert engine.routed() == {"c0", "c1", "c2", "c3"}
    engine.run(60)
    assert engine.routed() == {"c0", "c1", "c2", "c3"}


def test_a_broken_link_makes_a_node_the_last_choice_until_it_has_another(engine: Engine) -> None:
    engine.following.link("c0", False)
    assert engine.suspects() == {"c0"}
    assert "c0" in engine.routed()
    engine.following.link("c0", True)
    assert not engine.suspects()
    engine.following.link("c0", False)
    engine.epoch += 1
    engine.lease("c0")
    assert not engine.suspects()


def test_the_names_of_the_dead_are_forgotten(engine: Engine) -> None:
    engine.alive.remove("c0")
    engine.expire("c0")
    engine.told(names.edge_key("e0"), None, Gone.DELETED)
    engine.run(3700)
    assert "c0" not in engine.following.view.nodes


def test_a_lease_that_is_none_changes_nothing(engine: Engine) -> None:
    engine.told("n.=%%", b"{}")
    engine.told(names.node_key("c0"), b"[]")
    engine.told("n.=%%", None, Gone.EXPIRED)
    assert engine.following.view.invalid == 3
    assert engine.routed() == {"c0", "c1", "c2", "c3"}
