"""The routing table: a state machine against a plain list of routes, and its rules one by one."""

from __future__ import annotations

import sys

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.routing.group import Group
from gateway.routing.queries import QueryCache
from gateway.routing.route import Route
from gateway.routing.table import Event, Joined, Left, RoutingTable
from gateway.routing.tags import ROUTE_ID, SERVICE_NAME, SUB, query_of
from tests.examples import examples
from tests.routing.routes import Connection, make_route, route_id

ZONE = ("zone", "eu")


def kinds(events: list[Event]) -> list[tuple[str, Route]]:
    return [(type(event).__name__, event.route) for event in events]


# Joining and leaving


def test_a_route_is_found_every_way() -> None:
    table = RoutingTable()
    owner = Connection()
    route = make_route(0x11, "pong", owner, subject="device-1", tags=dict([ZONE]))
    assert table.add(route) is None
    assert len(table) == 1
    assert list(table) == [route]
    assert table.get(route_id(0x11)) is route
    assert table.of_owner(owner) == [route]
    assert list(table.services()) == [("pong", 1)]
    terms = [(SERVICE_NAME, "pong"), (ROUTE_ID, route_id(0x11).hex()), (SUB, "device-1"), ZONE]
    for query in ([terms[0]], [terms[1]], [terms[2]], [terms[3]], terms):
        group = table.query(query_of(query))
        assert group is not None
        assert group.routes == [route]


def test_nothing_is_left_of_a_route_that_left() -> None:
    table = RoutingTable()
    owner = Connection()
    before = contents(table)
    routes = [
        make_route(number, "pong", owner, subject="device-1", tags={"zone": "eu", "rack": str(number)})
        for number in range(3)
    ]
    for route in routes:
        table.add(route)
    assert [table.remove(route) for route in routes] == [True] * 3
    assert contents(table) == before
    assert table.query((ZONE,)) is None
    assert table.get(route_id(1)) is None
    assert table.of_owner(owner) == []


def contents(table: RoutingTable) -> tuple:
    return tuple(
        dict(getattr(table, name)) for name in ("_by_id", "_by_service", "_by_subject", "_by_tag", "_by_owner")
    )


def test_a_route_that_is_not_there_cannot_leave() -> None:
    table = RoutingTable()
    route = make_route(1, "pong")
    assert not table.remove(route)
    table.add(route)
    assert not table.remove(make_route(1, "pong"))
    assert table.remove(route)
    assert not table.remove(route)


def test_every_change_moves_the_generation() -> None:
    table = RoutingTable()
    owner = Connection()
    seen = [table.generation]
    route = make_route(1, "pong", owner)
    table.add(route)
    seen.append(table.generation)
    table.add(make_route(1, "pong", owner))
    seen.append(table.generation)
    table.remove_owner(owner)
    seen.append(table.generation)
    assert seen == sorted(set(seen))
    table.remove(route)
    table.remove_owner(owner)
    table.query((ZONE,))
    assert table.generation == seen[-1]


def test_the_newest_registration_of_an_id_wins_over_another_owner() -> None:
    """A device that reconnects before its old connection timed out is reachable at once, on the new one."""
    table = RoutingTable()
    events: list[Event] = []
    table.subscribe(events.append)
    old = make_route(1, "pong", Connection(), subject="device-1", tags=dict([ZONE]))
    new = make_route(1, "ping", Connection(), subject="device-1")
    table.add(old)
    assert table.add(new) is old
    assert len(table) == 1
    assert table.get(route_id(1)) is new
    assert table.service("pong") is None
    assert table.query((ZONE,)) is None
    assert table.of_owner(old.owner) == []
    assert kinds(events) == [("Joined", old), ("Left", old), ("Joined", new)]
    # The old connection closes later: what it had registered is gone already.
    assert not table.remove(old)
    assert table.remove_owner(old.owner) == []
    assert table.get(route_id(1)) is new


def test_the_same_object_twice_changes_nothing() -> None:
    table = RoutingTable()
    events: list[Event] = []
    table.subscribe(events.append)
    route = make_route(1, "pong")
    table.add(route)
    generation = table.generation
    assert table.add(route) is None
    assert (table.generation, len(events)) == (generation, 1)


def test_displacing_without_listeners() -> None:
    table = RoutingTable()
    old, new = make_route(1, "pong"), make_route(1, "pong")
    table.add(old)
    assert table.add(new) is old
    assert table.service("pong").routes == [new]


def test_an_owner_leaves_whole() -> None:
    table = RoutingTable()
    events: list[Event] = []
    table.subscribe(events.append)
    owner, other = Connection(), Connection()
    routes = [make_route(number, f"s{number}", owner) for number in range(4)]
    stays = make_route(9, "s1", other)
    for route in (*routes, stays):
        table.add(route)
    del events[:]
    assert table.remove_owner(owner) == routes
    assert kinds(events) == [("Left", route) for route in routes]
    assert list(table) == [stays]
    assert table.remove_owner(owner) == []


def test_an_owner_leaves_whole_before_the_first_event() -> None:
    table = RoutingTable()
    owner = Connection()
    for number in range(3):
        table.add(make_route(number, "pong", owner))
    lengths: list[int] = []
    table.subscribe(lambda event: lengths.append(len(table)))
    table.remove_owner(owner)
    assert lengths == [0, 0, 0]


# Groups


def test_a_group_follows_its_service() -> None:
    table = RoutingTable()
    first, second = make_route(1, "pong"), make_route(2, "pong")
    table.add(first)
    group = table.service("pong")
    assert group is not None
    version = group.version
    table.add(second)
    assert group.version != version
    assert table.service("pong") is group
    version = group.version
    table.remove(first)
    assert group.version != version
    assert group.routes == [second]
    table.remove(second)
    assert group.routes == []
    assert table.service("pong") is None


def test_a_group_does_not_change_with_other_services() -> None:
    table = RoutingTable()
    table.add(make_route(1, "pong"))
    group = table.service("pong")
    version = group.version
    table.add(make_route(2, "ping"))
    assert (group.version, table.service("pong")) == (version, group)


def test_a_query_of_one_tag_is_answered_by_the_index_itself() -> None:
    queries = QueryCache()
    table = RoutingTable(queries)
    table.add(make_route(1, "pong", subject="device-1", tags=dict([ZONE])))
    assert table.query(((SERVICE_NAME, "pong"),)) is table.service("pong")
    assert table.query(((SUB, "device-1"),)) is table.subject("device-1")
    assert table.query((ZONE,)) is table.query((ZONE,))
    assert len(queries) == 0


def test_answers_are_kept_and_exact() -> None:
    queries = QueryCache()
    table = RoutingTable(queries)
    pong = make_route(1, "pong", tags=dict([ZONE]))
    for route in (pong, make_route(2, "pong"), make_route(3, "ping", tags=dict([ZONE]))):
        table.add(route)
    query = query_of([(SERVICE_NAME, "pong"), ZONE])
    group = table.query(query)
    assert group.routes == [pong]
    assert table.query(query) is group
    table.remove(pong)
    assert table.query(query) is None
    late = make_route(4, "pong", tags=dict([ZONE]))
    table.add(late)
    assert table.query(query) is group
    assert group.routes == [late]


def test_an_answer_of_one_route_is_not_kept() -> None:
    """Narrowing by subject, instance or rack mostly finds one route: it needs no place among the answers."""
    queries = QueryCache()
    table = RoutingTable(queries)
    first = make_route(1, "pong", subject="device-1")
    table.add(first)
    table.add(make_route(2, "pong", subject="device-2"))
    query = query_of([(SERVICE_NAME, "pong"), (SUB, "device-1")])
    group = table.query(query)
    assert group.routes == [first]
    assert table.query(query) is group
    assert table.query(query_of([(SERVICE_NAME, "pong"), (SUB, "device-1"), (ROUTE_ID, "no uuid")])) is None
    assert len(queries) == 0
    table.add(make_route(3, "ping", subject="device-1"))
    assert table.query(query).routes == [first]
    assert len(queries) == 1
    table.remove(first)
    assert table.query(query) is None


def test_a_lone_route_that_does_not_match_is_no_answer() -> None:
    table = RoutingTable()
    table.add(make_route(1, "pong", subject="device-1"))
    table.add(make_route(2, "ping", subject="device-2"))
    assert table.query(query_of([(SERVICE_NAME, "pong"), (SUB, "device-2")])) is None


def test_made_up_values_push_no_answer_out() -> None:
    queries = QueryCache(capacity=2)
    table = RoutingTable(queries)
    table.add(make_route(1, "pong", tags=dict([ZONE])))
    for number in range(10):
        assert table.query(((SERVICE_NAME, "pong"), ("rack", str(number)))) is None
        assert table.query(((ROUTE_ID, route_id(100 + number).hex()),)) is None
        assert table.query(((ROUTE_ID, f"no uuid {number}"),)) is None
    assert len(queries) == 0


def test_a_query_is_evaluated_over_its_rarest_tag() -> None:
    """A query costs what its rarest tag costs, however common the others are."""

    class Counting(Route):
        __slots__ = ()
        looks = 0

        def matches(self, query):
            Counting.looks += 1
            return super().matches(query)

    table = RoutingTable()
    for number in range(500):
        tags = {"zone": "eu", "rack": str(number // 2)}
        table.add(Counting(route_id(number), "pong", Connection(), subject=f"device-{number}", tags=tags.items()))
    for query, looks in [
        ([ZONE, ("rack", "7")], 2),
        ([ZONE, (SERVICE_NAME, "pong"), (SUB, "device-9")], 1),
        ([ZONE, (ROUTE_ID, route_id(9).hex())], 1),
    ]:
        Counting.looks = 0
        assert len(table.query(query_of(query)).routes) == looks
        assert Counting.looks == looks


# Size


def test_a_lone_route_costs_no_group() -> None:
    """Most devices are the only one of their name and subject: a million groups would double the table."""
    table = RoutingTable()
    for number in range(100):
        table.add(make_route(number, f"device-{number}", subject=f"device-{number}"))
    assert not [bucket for bucket in table.by_service.values() if isinstance(bucket, Group)]
    assert sys.getsizeof(make_route(1)) <= 72


def test_leaving_a_large_group_touches_one_place() -> None:
    """A leave costs the same however many routes share a service, a subject, a tag and an owner."""

    class Unequal(Connection):
        __hash__ = Connection.__hash__
        comparisons = 0

        def __eq__(self, other: object) -> bool:
            Unequal.comparisons += 1
            return self is other

    class Compared(Route):
        __slots__ = ()
        __hash__ = Route.__hash__
        comparisons = 0

        def __eq__(self, other: object) -> bool:
            Compared.comparisons += 1
            return self is other

    table = RoutingTable()
    owner = Unequal()
    routes = [Compared(route_id(number), "pong", owner, subject="device-1", tags=[ZONE]) for number in range(2_000)]
    for route in routes:
        table.add(route)
    Compared.comparisons = Unequal.comparisons = 0
    for route in routes[:1_000]:
        table.remove(route)
    assert Compared.comparisons + Unequal.comparisons < 1_000 * 10
    assert set(table.service("pong").routes) == set(routes[1_000:])


# Events


def test_indexes_change_before_events_go_out() -> None:
    table = RoutingTable()
    seen: list[tuple[bool, int, int]] = []

    def look(event: Event) -> None:
        group = table.service("pong")
        seen.append((isinstance(event, Joined), len(table), len(group.routes) if group else 0))

    table.subscribe(look)
    first, second = make_route(1, "pong"), make_route(2, "pong")
    table.add(first)
    table.add(second)
    table.remove(first)
    table.remove(second)
    assert seen == [(True, 1, 1), (True, 2, 2), (False, 1, 1), (False, 0, 0)]


def test_a_listener_that_ended_hears_nothing() -> None:
    table = RoutingTable()
    events: list[Event] = []
    unsubscribe = table.subscribe(events.append)
    table.add(make_route(1, "pong"))
    unsubscribe()
    unsubscribe()
    table.add(make_route(2, "pong"))
    assert len(events) == 1


def test_listeners_that_change_the_table_do_not_reorder_events() -> None:
    table = RoutingTable()
    first, second = make_route(1, "pong"), make_route(2, "ping")
    heard: list[list[Event]] = [[], []]

    def follow(event: Event) -> None:
        heard[0].append(event)
        if event == Joined(first):
            table.add(second)
            table.remove(first)

    table.subscribe(follow)
    table.subscribe(heard[1].append)
    table.add(first)
    expected = [Joined(first), Joined(second), Left(first)]
    assert heard == [expected, expected]


def test_a_listener_hears_what_changes_after_it_subscribed() -> None:
    table = RoutingTable()
    first, second, third = (make_route(number, "pong") for number in range(3))
    heard: list[Event] = []

    def follow(event: Event) -> None:
        if event == Joined(first):
            table.add(second)
            table.subscribe(heard.append)
            table.add(third)

    table.subscribe(follow)
    table.add(first)
    assert heard == [Joined(third)]


def test_a_listener_that_ends_another_one_ends_it_at_once() -> None:
    table = RoutingTable()
    heard: list[Event] = []
    table.subscribe(lambda event: unsubscribe())
    unsubscribe = table.subscribe(heard.append)
    table.add(make_route(1, "pong"))
    assert heard == []


def test_a_listener_that_fails_keeps_nothing_from_the_others() -> None:
    table = RoutingTable()
    heard: list[Event] = []

    def fail(event: Event) -> None:
        raise RuntimeError(f"cannot take {event.route.service}")

    table.subscribe(fail)
    table.subscribe(heard.append)
    owner = Connection()
    with pytest.raises(RuntimeError, match="cannot take a"):
        table.add(make_route(1, "a", owner))
    with pytest.raises(RuntimeError, match="cannot take b"):
        table.add(make_route(2, "b", owner))
    with pytest.raises(RuntimeError, match="cannot take a"):
        table.remove_owner(owner)
    assert [name for name, _ in kinds(heard)] == ["Joined", "Joined", "Left", "Left"]
    assert len(table) == 0


# The whole, against a list

NUMBERS = st.integers(0, 15)
NAMES = st.sampled_from(["", "a", "b", "a.b"])
SUBJECTS = st.sampled_from(["", "s1", "s2"])
TAGS = st.dictionaries(st.sampled_from(["zone", "rack"]), st.sampled_from(["1", "2"]), max_size=2)
TERMS = st.one_of(
    st.tuples(st.just(SERVICE_NAME), st.sampled_from(["a", "b", "a.b", "c"])),
    st.tuples(st.just(SUB), st.sampled_from(["s1", "s2", "s3"])),
    st.tuples(st.just(ROUTE_ID), NUMBERS.map(lambda number: route_id(number).hex())),
    st.tuples(st.sampled_from(["zone", "rack", "none"]), st.sampled_from(["1", "2"])),
)
QUERIES = st.lists(TERMS, min_size=1, max_size=3).map(query_of)


class TableMachine(RuleBasedStateMachine):
    """Random joins, leaves and queries; the model is the list of routes that should be there."""

    def __init__(self) -> None:
        super().__init__()
        # Small bounds, so that answers fall out and come back.
        self.table = RoutingTable(QueryCache(capacity=6, anchor_capacity=2))
        self.owners = [Connection() for _ in range(3)]
        self.model: list[Route] = []
        self.replica: list[Route] = []
        self.held: dict[tuple, Group] = {}
        self.generation = 0
        self.table.subscribe(self.replicate)

    def replicate(self, event: Event) -> None:
        if isinstance(event, Joined):
            self.replica.append(event.route)
        else:
            self.replica.remove(event.route)

    @rule(number=NUMBERS, service=NAMES, owner=st.integers(0, 2), subject=SUBJECTS, tags=TAGS)
    def add(self, number: int, service: str, owner: int, subject: str, tags: dict[str, str]) -> None:
        route = make_route(number, service, self.owners[owner], subject=subject, tags=tags)
        displaced = next((each for each in self.model if each.route_id == route.route_id), None)
        assert self.table.add(route) is displaced
        if displaced is not None:
            self.model.remove(displaced)
        self.model.append(route)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        route = data.draw(st.sampled_from(self.model))
        self.model.remove(route)
        assert self.table.remove(route)

    @rule(owner=st.integers(0, 2))
    def remove_owner(self, owner: int) -> None:
        gone = [route for route in self.model if route.owner is self.owners[owner]]
        assert self.table.remove_owner(self.owners[owner]) == gone
        self.model = [route for route in self.model if route not in gone]

    @rule(query=QUERIES)
    def query(self, query: tuple) -> None:
        expected = {route for route in self.model if route.matches(query)}
        group = self.table.query(query)
        assert (set(group.routes) if group is not None else set()) == expected
        if group is not None:
            self.held[query] = group

    @rule(name=st.sampled_from(["a", "b", "a.b", "c", ""]))
    def service(self, name: str) -> None:
        expected = {route for route in self.model if name and route.service == name}
        group = self.table.service(name)
        assert (set(group.routes) if group is not None else set()) == expected

    @invariant()
    def what_one_tag_found_stays_exact_while_it_is_the_answer(self) -> None:
        for query, group in self.held.items():
            if self.table.query(query) is group:
                assert set(group.routes) == {route for route in self.model if route.matches(query)}
            assert len(set(group.routes)) == len(group.routes)

    @invariant()
    def the_table_is_the_model(self) -> None:
        assert set(self.table) == set(self.model) == set(self.replica)
        assert len(self.table) == len(self.model)
        counted: dict[str, int] = {}
        for route in self.model:
            if route.service:
                counted[route.service] = counted.get(route.service, 0) + 1
            assert self.table.get(route.route_id) is route
        assert dict(self.table.services()) == counted
        for owner in self.owners:
            assert self.table.of_owner(owner) == [route for route in self.model if route.owner is owner]
        assert self.table.generation >= self.generation
        self.generation = self.table.generation


TestTableMachine = TableMachine.TestCase
TestTableMachine.settings = settings(max_examples=examples(25), stateful_step_count=40, deadline=None)
