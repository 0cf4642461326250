"""The ring of the flow log, its readers, and what they are shown."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.observe.flow_fields import (
    ALWAYS,
    AUDIT,
    DROPPED,
    ERROR,
    FIELDS,
    FORWARDED,
    HIDDEN,
    QUEUED,
    VERDICTS,
    Type,
    View,
    unknown,
    value_of,
)
from gateway.observe.flow_filter import FlowFilter
from gateway.observe.flow_reader import Reader
from gateway.observe.flows import FlowRing

SMALL = 256
WHO = SimpleNamespace(subject="secret-device", kind="device", groups=("ops",), labels=(("site", "secret-site"),))


class Clock:
    def __init__(self) -> None:
        self.now, self.wall = 100.0, 1_700_000_000.0


def ring_of(capacity: int = SMALL, clock: Clock | None = None) -> FlowRing:
    clock = clock or Clock()
    return FlowRing(capacity, "edge-1", b"identity", lambda: clock.now, lambda: clock.wall)


def put(ring: FlowRing, verdict: int = FORWARDED, latency_s: float = 0.25, **more: Any) -> None:
    values: dict[str, Any] = {
        "verdict": verdict,
        "at": 100.0,
        "latency_s": latency_s,
        "interaction": 4,
        "stream_id": 5,
        "came": False,
        "goes": True,
        "is_reply": True,
        "size": 120,
        "credits": -1,
        "attempt": 1,
        "source": WHO,
        "service": "thermostat",
        "subject": "secret-thermostat",
        "labels": {"version": "2"},
        "node": "central-1",
        "address": SimpleNamespace(route="thermostat.read"),
        "reason": "",
        "policy": "Service/thermostat",
        "subset": "canary",
        "trace": bytes(range(16)),
        "spool": None,
    }
    ring.put(*(values | more).values())


class TestRing:
    def test_a_record_says_all_of_it(self) -> None:
        ring = ring_of()
        put(ring, ERROR, reason="APPLICATION_ERROR", credits=3, spool=("orders/billing", "1-7"))
        assert ring.record(1) == {
            "number": 1,
            "time": "2023-11-14T22:13:20.000000Z",
            "uuid": "6964656e-7469-7479-0000-000000000001",
            "node": "edge-1",
            "verdict": "ERROR",
            "reason": "APPLICATION_ERROR",
            "policy": "Service/thermostat",
            "source": {
                "id": "secret-device",
                "kind": "device",
                "groups": ["ops"],
                "labels": {"site": "secret-site"},
                "node": "",
            },
            "destination": {
                "id": "secret-thermostat",
                "service": "thermostat",
                "labels": {"version": "2"},
                "subset": "canary",
                "node": "central-1",
            },
            "interaction": "requestResponse",
            "route": "thermostat.read",
            "stream_id": 5,
            "direction": "out",
            "is_reply": True,
            "bytes": 120,
            "credits_left": 3,
            "latency_ns": 250_000_000,
            "trace_id": "000102030405060708090a0b0c0d0e0f",
            "spool": {"name": "orders/billing", "seq": "1-7"},
            "attempt": 1,
        }

    def test_every_field_of_a_record_is_declared_with_its_type(self) -> None:
        ring = ring_of()
        put(ring, QUEUED, spool=("a/b", 1), credits=1)
        put(ring, interaction=0)
        names = set()
        for number in (1, 2):
            for name, value in ring.record(number).items():
                names |= {name} if not isinstance(value, dict) else {name, *(f"{name}.{key}" for key in value)}
        assert names == set(FIELDS) - {"lost"}
        types = {Type.TEXT: str, Type.NUMBER: int, Type.TRUTH: bool, Type.TEXTS: list, Type.OBJECT: dict}
        for name, type_ in FIELDS.items():
            if name not in ("topic", "lost"):
                assert isinstance(value_of(ring.record(1), name), types[type_]), name

    def test_who_asked_over_a_link_is_told_by_what_vouches_for_it(self) -> None:
        ring = ring_of()
        put(ring, source=json.dumps({"subject": "dev", "kind": "device", "node": "edge-9"}).encode())
        put(ring, source=b"{broken", came=True, goes=False)
        put(ring, source=None, labels=None, node=None, trace=None, latency_s=-1.0)
        assert ring.record(1)["source"] | {} == {
            "id": "dev", "kind": "device", "groups": [], "labels": {}, "node": "edge-9",
        }  # fmt: skip
        assert ring.record(2)["source"]["id"] == ""
        assert ring.record(2)["direction"] == "in"
        assert ring.record(3)["latency_ns"] is None

    def test_times_follow_the_clock_on_the_wall_when_it_is_set(self) -> None:
        clock = Clock()
        ring = ring_of(clock=clock)
        put(ring)
        clock.wall += 3600
        assert ring.record(1)["time"] == "2023-11-14T23:13:20.000000Z"

    def test_who_waits_is_woken_once(self) -> None:
        ring = ring_of()
        woken: list[int] = []
        ring.news = lambda: woken.append(ring.latest)
        put(ring)
        ring.awaited = True
        put(ring)
        put(ring)
        assert woken == [2]

    def test_what_nobody_wants_is_not_written(self) -> None:
        ring = ring_of()
        slow = FlowFilter.parse('verdict != "FORWARDED" || latency_ms > 500')
        ring.want([slow])
        put(ring, latency_s=0.5)
        put(ring, latency_s=0.6)
        put(ring, DROPPED, -1.0)
        assert (ring.latest, ring.left_out) == (2, 1)
        ring.want([slow, None])
        put(ring, latency_s=0.1)
        assert ring.latest == 3

    @pytest.mark.parametrize("written", [0, 3, 255, 256, 257, 300, 1000])
    @pytest.mark.parametrize("capacity", [SMALL, 300, 600])
    def test_another_size_keeps_the_latest(self, written: int, capacity: int) -> None:
        ring = ring_of(300)
        for number in range(written):
            put(ring, stream_id=number)
        ring.resize(capacity)
        kept = min(written, 300, capacity)
        assert ring.latest + 1 - ring.oldest == kept
        assert [ring.record(n)["stream_id"] for n in range(ring.oldest, written + 1)] == list(
            range(written - kept, written)
        )
        put(ring, stream_id=-1)
        assert ring.record(ring.latest)["stream_id"] == -1

    def test_what_another_process_tells_gets_a_number_here(self) -> None:
        there, here = ring_of(), ring_of()
        put(there, ERROR)
        put(here)
        here.put_record(there.record(1))
        here.put_record(there.lost(9, "worker 1"))
        put(here)
        told = here.record(2)
        assert told == there.record(1) | {"number": 2}
        assert here.record(3)["lost"] == 9
        assert here.record(4)["verdict"] == "FORWARDED"


class TestReader:
    @given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 400)), max_size=6))
    @settings(max_examples=25, deadline=None)
    def test_each_record_is_read_once_or_counted_as_lost(self, steps: list[tuple[int, int]]) -> None:
        ring = ring_of()
        reader = Reader(ring)
        seen: list[int] = []
        accounted = 0
        for written, limit in steps:
            for _ in range(written):
                put(ring, stream_id=ring.latest + 1)
            for record in reader.take(limit):
                if record["verdict"] == "LOST":
                    accounted += record["lost"]
                    assert record["number"] == accounted
                else:
                    accounted += 1
                    assert record["number"] == record["stream_id"] == accounted
                    seen.append(accounted)
        assert accounted + reader.behind == ring.latest
        assert reader.missed + len(seen) == accounted

    @given(
        st.lists(
            st.tuples(st.sampled_from([FORWARDED, DROPPED, ERROR]), st.sampled_from([0.1, 0.5, 0.9])), max_size=250
        ),
        st.sampled_from(['verdict != "FORWARDED"', "latency_ms > 500", 'verdict == "ERROR" && latency_ms < 500']),
        st.integers(1, 9),
    )
    @settings(max_examples=25, deadline=None)
    def test_a_filter_finds_what_fits_whatever_the_steps(
        self, flows: list[tuple[int, float]], text: str, limit: int
    ) -> None:
        ring = ring_of()
        wanted = FlowFilter.parse(text)
        assert wanted is not None
        reader = Reader(ring, wanted)
        for verdict, latency in flows:
            put(ring, verdict, latency)
        found: list[int] = []
        for _ in range(len(flows) + 1):
            found += [record["number"] for record in reader.take(limit, limit)]
        assert found == [n for n in range(1, len(flows) + 1) if wanted.fits(ring.record(n))]
        assert not reader.behind

    def test_a_look_is_bounded(self) -> None:
        ring = ring_of()
        for _ in range(200):
            put(ring)
        reader = Reader(ring, FlowFilter.parse('source.id == "nobody"'), last=0)
        assert reader.take(10, looks=50) == []
        assert reader.behind == 150

    def test_a_reader_may_go_on_where_it_was(self) -> None:
        ring = ring_of()
        for _ in range(3):
            put(ring)
        assert [record["number"] for record in Reader(ring, last=1).take(9)] == [2, 3]
        assert Reader(ring).take(9) == []
        assert Reader(ring, last=77).take(9) == []


SECRETS = ("secret-device", "secret-site", "secret-thermostat")
HIDING = ("source.id", "source.labels.site", "destination.id", "payload", "metadata")


class TestViews:
    def test_what_is_hidden_is_in_no_output(self) -> None:
        ring = ring_of()
        put(ring)
        ring.view = View(redact=HIDING)
        for reader in (
            Reader(ring, last=0),
            Reader(ring, last=0, fields=("source", "destination")),
            Reader(ring, last=0, fields=("source.id", "source.labels.site", "destination.id")),
            Reader(ring, FlowFilter.parse(f'source.id == "{HIDDEN}"'), last=0),
        ):
            (record,) = reader.take(1)
            text = json.dumps(record)
            assert not any(secret in text for secret in SECRETS)
            assert record["source"]["id"] == HIDDEN

    @pytest.mark.parametrize("secret", ['source.id =~ "secret*"', 'source.labels.site == "secret-site"'])
    def test_a_readers_filter_cannot_find_out_what_is_hidden(self, secret: str) -> None:
        ring = ring_of()
        put(ring)
        assert Reader(ring, FlowFilter.parse(secret), last=0).take(1)
        ring.view = View(redact=HIDING)
        assert not Reader(ring, FlowFilter.parse(secret), last=0).take(1)

    def test_the_documents_own_filter_still_knows_it(self) -> None:
        ring = ring_of()
        put(ring)
        ring.view = View(redact=HIDING)
        (record,) = Reader(ring, kept=FlowFilter.parse('source.id =~ "secret*"'), last=0).take(1)
        assert record["source"]["id"] == HIDDEN

    @pytest.mark.parametrize("name", sorted(FIELDS))
    def test_each_field_can_be_hidden_and_shown_alone(self, name: str) -> None:
        ring = ring_of()
        put(ring, AUDIT, reason="r", credits=2, spool=("a", 1), came=True, interaction=0 if name == "topic" else 4,
            source=b'{"subject":"s","kind":"user","node":"n"}' if name == "source.node" else WHO)  # fmt: skip
        whole = ring.record(1)
        alone = View(fields=(name,)).masked(whole)
        assert value_of(alone, name) == value_of(whole, name)
        assert set(alone) <= ALWAYS | {name.partition(".")[0]}
        hidden = View(redact=(name,)).redacted(whole)
        if name in ALWAYS:
            assert hidden == whole
        else:
            assert value_of(hidden, name) in (None, HIDDEN)
            assert ring.record(1) == whole
        assert list(hidden) == list(whole)

    def test_names_that_are_none_are_known(self) -> None:
        assert unknown(["source.id", "source.labels.x", "nothing", "source.labels."]) == ["nothing", "source.labels."]
        assert unknown(["payload", "metadata", "verdict", "x"], redacting=True) == ["verdict", "x"]

    def test_verdicts_have_their_places(self) -> None:
        assert [VERDICTS[place] for place in (FORWARDED, DROPPED, ERROR, AUDIT, QUEUED)] == [
            "FORWARDED", "DROPPED", "ERROR", "AUDIT", "QUEUED",
        ]  # fmt: skip
