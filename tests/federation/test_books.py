"""What edges say, in shards; which keys of it differ in the engine; and stamps."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.federation.table import Claim, HybridClock, Offer, names
from gateway.federation.table.books import Book, Books
from gateway.federation.table.owned import GATHER_S, LAZY_S, OwnedKeys
from gateway.federation.table.records import SHARD_LEAST, SHARD_MOST, ServicesRecord, ShardRecord, shard_of
from gateway.federation.table.stamp import AHEAD_MS, COUNTER_BITS
from tests.examples import examples

NAMES = [f"d{number}" for number in range(300)]
changes = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.sampled_from(NAMES), st.integers(1, 9)),
        st.tuples(st.just("leave"), st.sampled_from(NAMES), st.just(0)),
        st.tuples(st.just("some"), st.integers(0, 300), st.integers(1, 9)),
    ),
    max_size=30,
)


@settings(max_examples=examples(40), deadline=None)
@given(changes)
def test_the_shards_that_are_named_are_all_that_change(log: list[tuple]) -> None:
    book, meant = Book("e1", 7), dict[str, int]()
    engine: dict[int, bytes] = {}
    for what, who, stamp in log:
        if what == "join":
            shards = book.join(Claim(who, stamp, ("lights",)))
            if meant.get(who, 0) <= stamp:
                meant[who] = stamp
        elif what == "leave":
            shards = book.leave(who)
            meant.pop(who, None)
        else:
            meant = dict.fromkeys(NAMES[:who], stamp)
            shards = book.replace(Claim(name, stamp, ("lights",)) for name in meant)
        for shard in shards:
            value = book.encode(shard)
            if value is None:
                engine.pop(shard, None)
            else:
                engine[shard] = value
        rows: dict[str, int] = {}
        for shard, value in engine.items():
            record = ShardRecord.decode(value)
            assert all(shard_of(device, book.shards) == shard for device in record.devices)
            rows.update(zip(record.devices, record.stamps, strict=True))
        assert rows == meant
        assert len(book) == len(meant) == len(list(book))
        assert book.shards == 1 or SHARD_LEAST <= len(book) / book.shards <= SHARD_MOST


def test_equal_states_are_equal_bytes() -> None:
    one, two = Book("e1", 7), Book("e1", 7)
    everybody = [Claim(name, 3, ("lights", "heat") if name < "d2" else ("heat",)) for name in NAMES]
    one.replace(everybody)
    one.encode_services()
    Random(1).shuffle(everybody)
    for claim in everybody:
        two.join(claim)
    # The second central takes over the numbers of services, and how many shards there are, from the table.
    indices = {"heat": 0, "lights": 1}
    one, two = (Book("e1", 7, indices=indices, shards=each.shards) for each in (one, two))
    for book in (one, two):
        book.offers = {"lights": Offer(1), "heat": Offer(2)}
        book.replace(everybody)
        everybody.reverse()
    assert one.shards == two.shards
    assert [one.encode(shard) for shard in range(one.shards)] == [two.encode(shard) for shard in range(two.shards)]
    assert one.encode_services() == two.encode_services()


def test_a_service_keeps_its_number_while_the_edge_lives() -> None:
    book = Book("e1", 7, indices={"old": 4})
    book.offers = {"lights": Offer(5)}
    assert ServicesRecord.decode(book.encode_services()).indices == {"lights": 5}
    book.join(Claim("lamp", 1, ("old", "lights")))
    record = ShardRecord.decode(book.encode(0) or b"")
    assert record.services_of(0) == (4, 5)


def test_the_holder_of_a_device_is_the_edge_with_its_latest_claim() -> None:
    books = Books()
    for edge in ("e1", "e2"):
        books.open(Book(edge, 7))
    books.join("e1", Claim("lamp", 5))
    books.join("e2", Claim("lamp", 4))
    held = books.holder("lamp")
    assert held is not None
    assert held[0].edge == "e1"
    # An older claim of the same edge is late news.
    assert books.join("e1", Claim("lamp", 3)) == set()
    books.close("e1")
    held = books.holder("lamp")
    assert held is not None
    assert held[0].edge == "e2"
    books.leave("e2", "lamp")
    assert books.holder("lamp") is None
    assert books.close("e1") is None


# Keys of ours

SHARD, EDGE = names.devices_key("e1", 0), names.edge_key("e1")


def keys_due(owned: OwnedKeys, now: float) -> list[str]:
    return [each.key for each in owned.due(now)]


def write(owned: OwnedKeys, key: str, digest: int, revision: int, now: float) -> None:
    owned.begun(key, digest)
    owned.written(key, revision, digest, now)


def test_a_change_is_written_promptly_and_a_busy_key_now_and_then() -> None:
    owned = OwnedKeys(Random(1))
    owned.want(SHARD, 100.0)
    assert keys_due(owned, 100.0) == []
    assert owned.next_at() < 100.1
    assert keys_due(owned, 100.1) == [SHARD]
    write(owned, SHARD, 1, 5, 100.1)
    owned.want(SHARD, 100.15)
    assert keys_due(owned, 100.3) == []
    assert keys_due(owned, 100.1 + GATHER_S) == [SHARD]


def test_every_key_is_written_again_before_it_runs_out_and_not_all_at_once() -> None:
    owned = OwnedKeys(Random(1))
    keys = [names.devices_key("e1", shard) for shard in range(100)]
    for key in keys:
        owned.want(key, 0.0)
        write(owned, key, 1, 5, 0.0)
    assert keys_due(owned, LAZY_S * 0.7) == []
    some = keys_due(owned, LAZY_S * 0.9)
    assert 0 < len(some) < 100
    assert set(keys_due(owned, LAZY_S)) == set(keys)
    for key in keys:
        write(owned, key, 1, 6, LAZY_S)
    assert keys_due(owned, LAZY_S) == []
    assert LAZY_S * 1.7 < owned.next_at() < LAZY_S * 2


def test_an_own_write_that_comes_back_is_no_news_and_a_foreign_one_is() -> None:
    owned = OwnedKeys(Random(1))
    owned.want(SHARD, 0.0)
    owned.begun(SHARD, 11)
    # The watch is faster than the answer.
    assert not owned.told(SHARD, 11, 5, 0.1)
    owned.written(SHARD, 5, 11, 0.1)
    assert owned.dirty == 0
    assert owned.told(SHARD, 99, 6, 1.0)
    assert keys_due(owned, 1.0) == [SHARD]
    write(owned, SHARD, 11, 7, 1.0)
    # Late news of what was replaced since.
    assert not owned.told(SHARD, 99, 6, 2.0)
    assert owned.told(SHARD, None, 8, 3.0)
    assert owned.due(3.0)[0].expected == 8
    write(owned, SHARD, 11, 9, 3.0)
    owned.missing(SHARD, 4.0)
    assert owned.due(4.0)[0].expected == 0


def test_what_failed_is_written_when_it_can_be_and_as_it_is_then() -> None:
    owned = OwnedKeys(Random(1))
    owned.want(EDGE, 0.0)
    for second in range(100):
        assert keys_due(owned, float(second))[0] == EDGE
        owned.begun(EDGE, 1)
        owned.want(SHARD, float(second))
        owned.failed(EDGE, second + 1.0)
    assert owned.dirty == 2
    assert keys_due(owned, 200.0) == [EDGE, SHARD]


def test_what_goes_goes_after_what_takes_its_place() -> None:
    owned = OwnedKeys(Random(1))
    shards = [names.devices_key("e1", shard) for shard in range(4)]
    for shard in shards:
        owned.want(shard, 0.0)
        write(owned, shard, 1, 1, 0.0)
    owned.want(shards[0], 0.1)
    owned.want(shards[1], 0.1)
    owned.unwanted(shards[2], 0.1)
    owned.unwanted(shards[3], 0.1)
    assert [(each.key, each.delete) for each in owned.due(1.0)] == [
        (shards[1], False), (shards[0], False), (shards[3], True), (shards[2], True)
    ]  # fmt: skip
    assert shards[3] not in owned
    # Wanted again before it was deleted.
    owned.want(shards[3], 0.2)
    assert shards[3] in owned
    owned.begun(shards[2], 0)
    owned.written(shards[2], 9, 0, 1.0)
    assert sorted(owned.of_edge("e1")) == [shards[0], shards[1], shards[3]]


# Stamps


def test_stamps_only_grow_whatever_the_clock_does() -> None:
    clock = HybridClock()
    given = [clock.stamp(now) for now in (1000, 1000, 999, 1001, 0)]
    assert given == sorted(set(given))
    assert given[3] == 1001 << COUNTER_BITS


def test_a_stamp_is_above_all_that_were_seen_but_for_those_of_a_wrong_clock() -> None:
    clock = HybridClock()
    seen = (5000 << COUNTER_BITS) + 7
    assert clock.observe(seen, 1000) == seen
    assert clock.stamp(1000) > seen
    wrong = (1000 + 10 * AHEAD_MS) << COUNTER_BITS
    assert clock.observe(wrong, 1000) == (1000 + AHEAD_MS) << COUNTER_BITS
    assert clock.stamp(1000) < wrong
