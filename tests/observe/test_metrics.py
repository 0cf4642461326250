import json
import math

import pytest

from gateway.observe import figures
from gateway.observe.metrics import (
    BUCKETS,
    DEVICES,
    MAX_PATHS,
    MAX_REASONS,
    MAX_SERVICES,
    OTHER,
    UNNAMED,
    Counters,
    Durations,
    Metrics,
    Path,
    ServiceStats,
)


class TestCounters:
    def test_all_start_at_zero_and_the_data_plane_adds_to_them_directly(self) -> None:
        counters = Counters()
        counters.frames_in += 3
        counters.bytes_in += 120
        counters.request_stream += 1
        assert (counters.frames_in, counters.bytes_in, counters.request_stream) == (3, 120, 1)
        assert (counters.frames_out, counters.bytes_out, counters.keepalives, counters.ignored_frames) == (0, 0, 0, 0)

    def test_a_misspelt_counter_is_an_error(self) -> None:
        with pytest.raises(AttributeError):
            Counters().frames_inn = 1  # type: ignore[attr-defined]

    def test_connections_are_counted_open_and_ever_by_kind(self) -> None:
        counters = Counters()
        counters.connection_opened("client")
        counters.connection_opened("client")
        counters.connection_opened("internal")
        counters.connection_closed("client", "keepalive_timeout")
        assert counters.connections_open == {"client": 1, "internal": 1}
        assert counters.connections_opened == {"client": 2, "internal": 1}
        assert counters.closes == {"keepalive_timeout": 1}

    def test_what_was_refused_before_it_was_a_connection_is_a_close_alone(self) -> None:
        counters = Counters()
        counters.close("rejected_setup")
        assert counters.closes == {"rejected_setup": 1}
        assert counters.connections_open == {}

    def test_refusals_and_tokens_are_counted_by_reason(self) -> None:
        counters = Counters()
        for reason in ("no_route", "not_permitted", "no_route"):
            counters.refuse(reason)
        counters.refuse_token("expired")
        assert counters.refusals == {"no_route": 2, "not_permitted": 1}
        assert counters.tokens_refused == {"expired": 1}

    def test_reasons_are_bounded_whatever_callers_pass(self) -> None:
        counters = Counters()
        for number in range(MAX_REASONS + 50):
            counters.refuse(f"reason_{number}")
        counters.refuse("reason_0")
        assert len(counters.refusals) == MAX_REASONS + 1
        assert counters.refusals[OTHER] == 50
        assert counters.refusals["reason_0"] == 2


class TestDurations:
    @pytest.mark.parametrize(
        ("seconds", "bucket"),
        [(0.0, 0), (0.9e-6, 0), (1.5e-6, 1), (2.5e-6, 2), (3.9e-6, 2), (100e-6, 7), (1.0, 20), (60.0, 26)],
    )
    def test_the_bucket_is_the_bit_length_of_the_microseconds(self, seconds: float, bucket: int) -> None:
        durations = Durations()
        durations.observe(seconds)
        assert [index for index, count in enumerate(durations.buckets) if count] == [bucket]
        assert durations.sum_seconds == seconds

    def test_each_bucket_holds_what_lies_between_its_powers_of_two(self) -> None:
        for power in range(1, 40):
            durations = Durations()
            durations.observe((2 ** (power - 1) + 0.25) / 1e6)
            durations.observe((2**power - 0.25) / 1e6)
            assert durations.buckets[power] == 2, power

    def test_no_duration_of_a_clock_is_out_of_range(self) -> None:
        durations = Durations()
        for seconds in (0.0, 1e-9, 86_400.0 * 365 * 1000):
            durations.observe(seconds)
        assert durations.count == 3
        assert len(durations.buckets) == BUCKETS

    def test_sum_and_count_add_up(self) -> None:
        durations = Durations()
        for _ in range(1000):
            durations.observe(0.004)
        assert durations.count == 1000
        assert math.isclose(durations.sum_seconds, 4.0)


class TestServices:
    def test_a_request_is_open_until_it_has_an_outcome(self) -> None:
        stats = ServiceStats()
        stats.requests += 5
        stats.ok += 1
        stats.failed += 1
        stats.canceled += 1
        stats.refused += 1
        assert stats.open == 1

    def test_a_service_keeps_its_counters_while_it_is_away(self) -> None:
        metrics = Metrics()
        stats = metrics.service_stats("thermo", by_device=False)
        stats.ok += 1
        assert metrics.service_stats("thermo", by_device=False) is stats
        assert metrics.service_stats("thermo.read", by_device=False) is not stats

    def test_no_label_holds_a_device_id(self) -> None:
        metrics = Metrics()
        first = metrics.service_stats("thermostat-1", by_device=True)
        assert metrics.service_stats("thermostat-2", by_device=True) is first
        assert metrics.service_stats("", by_device=True) is first
        assert list(metrics.services) == [DEVICES]

    def test_the_implicit_route_of_a_service_has_a_label_too(self) -> None:
        metrics = Metrics()
        metrics.service_stats("", by_device=False)
        assert list(metrics.services) == [UNNAMED]

    @pytest.mark.parametrize("names", [MAX_SERVICES - 1, MAX_SERVICES, MAX_SERVICES + 1, MAX_SERVICES + 100])
    def test_labels_are_bounded(self, names: int) -> None:
        metrics = Metrics()
        for number in range(names):
            metrics.service_stats(f"service-{number}", by_device=False).requests += 1
        extra = names - MAX_SERVICES
        assert len(metrics.services) == min(names, MAX_SERVICES) + (extra > 0)
        assert sum(stats.requests for stats in metrics.services.values()) == names
        if extra > 0:
            assert metrics.services[OTHER].requests == extra

    def test_devices_have_their_label_even_when_all_others_are_taken(self) -> None:
        metrics = Metrics()
        for number in range(MAX_SERVICES + 1):
            metrics.service_stats(f"service-{number}", by_device=False)
        assert metrics.service_stats("thermostat-1", by_device=True) is metrics.services[DEVICES]
        assert metrics.service_stats("one more", by_device=False) is metrics.services[OTHER]


class TestPaths:
    def test_a_service_is_the_sum_of_its_paths(self) -> None:
        metrics = Metrics()
        for source, ok in (("device", 2), ("billing", 3)):
            stats = metrics.service_stats("thermo", False, source)
            stats.requests += ok + 1
            stats.ok += ok
            stats.observe(0.001)
        both = metrics.services["thermo"]
        assert (both.requests, both.ok, both.open, both.count) == (7, 5, 2, 2)
        assert math.isclose(both.sum_seconds, 0.002)

    def test_paths_are_bounded(self) -> None:
        metrics = Metrics()
        for number in range(MAX_PATHS + 10):
            metrics.service_stats("thermo", False, f"source-{number}").requests += 1
        assert len(metrics.paths) == MAX_PATHS + 1
        assert metrics.paths[Path(OTHER, "thermo")].requests == 10
        assert metrics.services["thermo"].requests == MAX_PATHS + 10

    def test_another_process_hears_them(self) -> None:
        metrics = Metrics()
        stats = metrics.service_stats("thermo", False, "device", "edge-2", "set", "canary")
        stats.requests += 1
        stats.observe(0.5)
        heard = figures.heard(json.loads(json.dumps(figures.told(metrics))))
        (path,) = heard.paths
        assert path == Path("device", "thermo", "edge-2", "set", "canary")
        assert heard.services["thermo"].buckets == stats.buckets


def test_loop_lag_is_a_newest_value_and_a_histogram() -> None:
    metrics = Metrics()
    metrics.loop_lag(0.030)
    metrics.loop_lag(0.001)
    assert metrics.lag_latest == 0.001
    assert metrics.lag.count == 2
    assert math.isclose(metrics.lag.sum_seconds, 0.031)


def test_another_process_hears_what_protects_services() -> None:
    metrics = Metrics()
    guarded = metrics.guard_figures("thermo")
    guarded.refused["rate"] += 3
    guarded.ejected, guarded.breaker = 1, 2
    heard = figures.heard(json.loads(json.dumps(figures.told(metrics))))
    assert heard.guards == {"thermo": guarded}
    heard.guards["thermo"].refused["shed"] += 1


def test_another_process_hears_of_updates() -> None:
    metrics = Metrics()
    metrics.updates.downloads["complete"] += 2
    assert figures.heard(json.loads(json.dumps(figures.told(metrics)))).updates == metrics.updates
