"""What the table wants of a store, of each store that there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from gateway.federation.table import EmbeddedStore
from gateway.federation.table.records import RECORD_S
from gateway.federation.table.store import Change, Entry, Gone, Put, RevisionConflict, RouteStore, Unavailable
from tests.federation.nats_cluster import NatsCluster, prepare
from tests.federation.waiting import until

PREFIXES = ("n", "e", "s", "d")


class Recorder:
    """A follower that keeps what it is told."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.held: dict[str, bytes] = {}
        self.snapshots = 0
        self.resets = 0
        self.heartbeats = 0
        self.interruptions: list[str] = []
        self.found: dict[str, bytes] = {}
        self._before: set[str] = set()

    def snapshot_began(self, reset: bool) -> None:
        self.resets += reset
        self._before = set(self.held)

    def changed(self, change: Change) -> None:
        self.changes.append(change)
        self._before.discard(change.key)
        if change.value is None:
            self.held.pop(change.key, None)
        else:
            self.held[change.key] = change.value

    def snapshot_ended(self) -> None:
        for key in self._before:
            self.held.pop(key, None)
        self.snapshots += 1
        self.found = dict(self.held)

    def heard(self) -> None:
        self.heartbeats += 1

    def interrupted(self, why: str) -> None:
        self.interruptions.append(why)


Another = Callable[[], RouteStore]


@pytest.fixture(params=["embedded", pytest.param("nats", marks=pytest.mark.xdist_group("nats"))])
async def another(request: pytest.FixtureRequest) -> AsyncIterator[Another]:
    """Makes stores that share their keys."""
    if request.param == "embedded":
        shared = EmbeddedStore()
        made: list[RouteStore] = []

        def more() -> RouteStore:
            made.append(shared)
            return shared

    else:
        # Not the fixture `cluster`: an asynchronous one cannot be asked for here.
        cluster: NatsCluster = request.getfixturevalue("running_cluster")
        await prepare(cluster)
        made = []

        def more() -> RouteStore:
            made.append(cluster.store(f"c{len(made) + 1}"))
            return made[-1]

    yield more
    for store in made:
        await store.stop()


@pytest.fixture
async def store(another: Another) -> RouteStore:
    store = another()
    await store.start()
    return store


def put(key: str, value: bytes = b"1", ttl_s: int = RECORD_S, expected: int | None = None) -> Put:
    return Put(key, value, ttl_s, expected)


async def test_a_key_is_read_as_it_was_written_last(store: RouteStore) -> None:
    assert await store.read("e.e1") is None
    first = await store.put(put("e.e1", b"one"))
    second = await store.put(put("e.e1", b"two"))
    assert second > first
    assert await store.read("e.e1") == Entry(b"two", second)


async def test_compare_and_set_writes_once(store: RouteStore) -> None:
    first = await store.put(put("n.c1", b"one", 12, 0))
    with pytest.raises(RevisionConflict):
        await store.put(put("n.c1", b"two", 12, 0))
    second = await store.put(put("n.c1", b"two", 12, first))
    with pytest.raises(RevisionConflict):
        await store.put(put("n.c1", b"three", 12, first))
    with pytest.raises(RevisionConflict):
        await store.delete("n.c1", first)
    await store.delete("n.c1", second)
    gone = await store.read("n.c1")
    assert gone is None or gone.value == b""
    # A marker in its place is what the next one replaces.
    await store.put(put("n.c1", b"four", 12, 0 if gone is None else gone.revision))


async def test_many_writes_have_an_answer_each(store: RouteStore) -> None:
    await store.put(put("e.taken"))
    puts = [put(f"d.e1.{shard}", b"x" * 2000) for shard in range(500)]
    answers = await store.put_all([*puts, put("e.taken", expected=0)])
    revisions = [answer for answer in answers[:-1] if isinstance(answer, int)]
    assert len(revisions) == 500
    assert revisions == sorted(revisions)
    assert isinstance(answers[-1], RevisionConflict)


async def test_a_watch_tells_what_is_there_and_then_every_change(store: RouteStore, another: Another) -> None:
    await store.put(put("e.e1", b"old"))
    await store.put(put("e.e1", b"new"))
    await store.put(put("s.e1", b"services"))
    await store.put(put("s.e2", b"left"))
    await store.delete("s.e2")
    recorder = Recorder()
    watch = store.watch(PREFIXES, recorder)
    await until(lambda: recorder.snapshots == 1)
    assert recorder.found == {"e.e1": b"new", "s.e1": b"services"}
    revision = await store.put(put("d.e1.0", b"devices"))
    await until(lambda: recorder.changes[-1] == Change("d.e1.0", b"devices", revision))
    await store.delete("s.e1")
    await until(lambda: recorder.changes[-1][:2] == ("s.e1", None))
    assert recorder.changes[-1].gone is Gone.DELETED
    other = another()
    await other.start()
    await other.put(put("s.e7", b"lease"))
    await until(lambda: recorder.held.get("s.e7") == b"lease")
    await until(lambda: recorder.heartbeats > 0)
    revisions = [change.revision for change in recorder.changes]
    assert revisions == sorted(revisions)
    await watch.stop()


async def test_a_watch_is_of_the_keys_that_were_asked_for(store: RouteStore) -> None:
    recorder = Recorder()
    watch = store.watch(("n", "e"), recorder)
    await store.put_all([put("d.e1.0"), put("n.c1"), put("s.e1"), put("e.e1")])
    await until(lambda: recorder.snapshots == 1 and set(recorder.held) == {"n.c1", "e.e1"})
    await watch.stop()
    assert recorder.snapshots == 1


async def test_an_empty_store_has_a_snapshot_too(store: RouteStore) -> None:
    recorder = Recorder()
    watch = store.watch(PREFIXES, recorder)
    await until(lambda: recorder.snapshots == 1)
    assert recorder.changes == []
    await watch.stop()


async def test_a_key_runs_out_when_it_is_not_written_again(store: RouteStore) -> None:
    recorder = Recorder()
    watch = store.watch(PREFIXES, recorder)
    await until(lambda: recorder.snapshots == 1)
    revision = await store.put(put("n.c1", b"lease", 2))
    await store.put(put("e.e1", b"lease", 2))
    await store.put(put("e.e1", b"refreshed", RECORD_S))
    await until(lambda: bool(recorder.changes) and recorder.changes[-1].gone is Gone.EXPIRED)
    assert recorder.changes[-1].key == "n.c1"
    assert recorder.changes[-1].revision > revision
    gone = await store.read("n.c1")
    assert gone is None or gone.value == b""
    # Whoever comes next takes the place of the marker, or of nothing.
    await store.put(put("n.c1", b"again", 12, 0 if gone is None else gone.revision))
    await until(lambda: recorder.held == {"e.e1": b"refreshed", "n.c1": b"again"})
    await watch.stop()


async def test_a_store_that_was_stopped_says_so(another: Another) -> None:
    store = another()
    await store.start()
    await store.stop()
    with pytest.raises(Unavailable):
        await store.put(put("n.c1"))
    await store.start()
