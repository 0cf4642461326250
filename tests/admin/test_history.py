"""The last quarter of an hour: what lies between two measurements, and how much of it is kept."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from gateway.admin.history import EMPTY, KEPT, History, Measured, measure, quantile, step
from gateway.observe.metrics import Durations
from tests.admin.api import Api
from tests.local_node import call, until

ZERO = Measured(1000.0, 50.0, 0, 0, 0, 0, 0, 0, 0, 0, 0, EMPTY, EMPTY, 0, 0, 0, None, 0.0)


def histogram(*seconds: float) -> tuple[int, ...]:
    durations = Durations()
    for each in seconds:
        durations.observe(each)
    return tuple(durations.buckets)


def test_rates_are_for_a_second_and_gauges_as_they_are_at_the_end() -> None:
    counted = {"requests": 50, "failed": 5, "refused": 10, "bytes_in": 5000, "cpu_s": 2.5}
    found = step(replace(ZERO, connections=9), replace(ZERO, at=1005.0, clock=55.0, connections=3, **counted))
    assert (found.at, found.connections) == (1005.0, 3)
    assert (found.requests_s, found.failed_s, found.refused_s, found.bytes_in_s, found.cpu) == (10, 1, 2, 1000, 0.5)
    assert (found.p50_s, found.loop_lag_s, found.jumped_s) == (None, None, 0.0)


def test_what_a_process_takes_with_it_is_no_negative_rate() -> None:
    before = replace(ZERO, requests=100, answered=histogram(0.001, 0.001))
    found = step(before, replace(ZERO, clock=55.0, requests=40, answered=histogram(0.1)))
    assert found.requests_s == 0
    assert found.p50_s == pytest.approx(0.1, rel=0.5)


def test_a_clock_that_is_set_shows() -> None:
    assert step(ZERO, replace(ZERO, at=1065.0, clock=55.0)).jumped_s == 60.0


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_quantile_is_within_the_bucket_of_the_true_one(share: float) -> None:
    durations = [0.0001 * 1.05**n for n in range(100)]
    truth = sorted(durations)[int(share * 100) - 1]
    found = quantile(histogram(*durations), share)
    assert found is not None
    assert truth / 2 <= found <= truth * 2


def test_the_least_and_the_most_of_a_histogram() -> None:
    assert quantile(EMPTY, 0.5) is None
    assert quantile(histogram(0.0), 1.0) == 1e-6
    assert quantile(histogram(1.0), 1.0) == pytest.approx(2**20 / 1e6)


def test_so_many_steps_are_kept_and_the_later_ones_given() -> None:
    async def never() -> Measured:
        raise AssertionError

    history = History(never)
    for number in range(KEPT + 10):
        history.note(replace(ZERO, at=1000.0 + 5 * number, clock=5.0 * number))
    steps = history.since(0.0)
    assert len(steps) == KEPT
    assert [after.at - before.at for before, after in itertools.pairwise(steps)] == [5.0] * (KEPT - 1)
    assert [each.at for each in history.since(steps[-3].at)] == [steps[-2].at, steps[-1].at]
    assert history.latest(10) == steps[-2:]


async def test_a_node_measures_what_it_does(api: Api) -> None:
    """Requests, latencies, who is here; over the API in columns of one length."""
    node = api.node
    for name in ("kitchen", "attic"):
        await api.send("POST", "/devices", 201, json={"id": name, "routes": ["*"]})
    before = await measure(node, node.plane, node.metrics)
    assert before.devices_online == 0
    await api.local.servant()
    kitchen = await api.local.client(subject="kitchen", kind="device")
    there = await measure(node, node.plane, node.metrics)
    for _ in range(3):
        await call(kitchen)
    await until(lambda: node.plane.table.routes_of_subject("kitchen"))
    assert (await api.get("/devices/kitchen"))["rtt_ms"] is not None
    assert (await api.get("/devices/attic"))["rtt_ms"] is None
    after = await measure(node, node.plane, node.metrics)
    assert after.devices_online == 1
    assert after.requests - there.requests == 3
    assert sum(after.answered) - sum(there.answered) == 3
    assert after.connections - before.connections == 2
    assert after.memory_bytes
    assert node.admin is not None
    node.admin.history.note(before)
    node.admin.history.note(after)
    shown = await api.get("/node/history")
    columns = {name: len(column) for name, column in shown.items() if isinstance(column, list)}
    assert len(columns) == 18
    assert set(columns.values()) == {len(shown["at"])}
    assert shown["devices_online"][-1] == 1
    assert shown["p99_s"][-1] > 0
    assert (await api.get(f"/node/history?since={shown['at'][-1] + 1}"))["at"] == []
    await api.send("PATCH", "/devices/attic", json={"enabled": False}, headers={"if-match": "*"})
    api.control.seen("kitchen", node.plane.wall())
    assert await api.get("/devices/summary") == {"total": 2, "online": 1, "disabled": 1, "never_seen": 1}
