"""The metrics of what a node may have: spools, links, a shared table, bridges, firmware for devices. Nothing is said
where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from gateway.admin.family import Family, Reading, Row, one
from gateway.observe.bridges import BridgeState, BridgeStatus
from gateway.observe.guards import GuardFigures
from gateway.observe.links import LinkFigures

#: On purpose, so nobody need look after it.
_AT_REST = (BridgeState.STOPPED, BridgeState.DISABLED)


def spool_families() -> list[Family]:
    def of(name: str) -> Callable[[Reading], Iterable[Row]]:
        return lambda r: [
            ((each.document,), value) for each in r.sources.spools() if (value := getattr(each, name)) is not None
        ]

    def by_reason(name: str) -> Callable[[Reading], Iterable[Row]]:
        return lambda r: [
            ((each.document, reason), count)
            for each in r.sources.spools()
            for reason, count in getattr(each, name).items()
        ]

    spool = ("spool",)
    return [
        Family("gateway_spool_messages", "gauge", "Messages that wait, by document.", of("messages"), spool),
        Family("gateway_spool_bytes", "gauge", "Bytes of the messages that wait.", of("bytes"), spool),
        Family(
            "gateway_spool_oldest_age_seconds",
            "gauge",
            "Age of the message that has waited longest.",
            of("oldest_age_s"),
            spool,
        ),
        Family(
            "gateway_spool_drain_eta_seconds",
            "gauge",
            "When nothing will wait any more, as it goes now; absent while it does not get less.",
            of("drain_eta_s"),
            spool,
        ),
        Family("gateway_spool_appended_total", "counter", "Messages taken to wait.", of("appended"), spool),
        Family("gateway_spool_delivered_total", "counter", "Messages that arrived.", of("delivered"), spool),
        Family(
            "gateway_spool_handed_over_total",
            "counter",
            "Messages that another node has taken over a link, for a service that is there.",
            of("handed_over"),
            spool,
        ),
        Family(
            "gateway_spool_came_again_total",
            "counter",
            "Messages that another node handed over once more, and posts that came once more; they were dropped.",
            of("came_again"),
            spool,
        ),
        Family(
            "gateway_spool_sent_again_total",
            "counter",
            "Messages that were sent and had to be sent again.",
            of("sent_again"),
            spool,
        ),
        Family(
            "gateway_spool_lost_total",
            "counter",
            "Messages that left other than by delivery, since the file was made.",
            by_reason("lost"),
            ("spool", "reason"),
        ),
        Family(
            "gateway_spool_refused_total",
            "counter",
            "Messages that were not taken to wait.",
            by_reason("refused"),
            ("spool", "reason"),
        ),
    ]


def link_families() -> list[Family]:
    def all(reading: Reading) -> Sequence[LinkFigures]:
        return () if reading.sources.links is None else reading.sources.links.figures()

    def of(name: str) -> Callable[[Reading], Iterable[Row]]:
        return lambda r: [((each.kind, each.node), getattr(each, name)) for each in all(r)]

    def both(name: str) -> Callable[[Reading], Iterable[Row]]:
        return lambda r: [
            ((each.kind, each.node, direction), getattr(each, f"{name}_{suffix}"))
            for each in all(r)
            for direction, suffix in (("received", "in"), ("sent", "out"))
        ]

    link = ("kind", "node")
    directed = (*link, "direction")
    return [
        Family("gateway_link_up", "gauge", "Links that are up; 0 of a node whose links have gone.", of("up"), link),
        Family("gateway_link_active", "gauge", "Links over which requests go; others are warm.", of("active"), link),
        Family("gateway_link_rtt_seconds", "gauge", "How long an answer takes that costs nothing.", of("rtt_s"), link),
        Family("gateway_link_routes", "gauge", "Routes that were told over links.", both("routes"), directed),
        Family("gateway_link_lag_routes", "gauge", "Changes of routes that are yet to be told.", of("lag"), link),
        Family("gateway_link_lag_seconds", "gauge", "For how long the oldest of them waits.", of("lag_s"), link),
        Family("gateway_link_restarts_total", "counter", "Streams of routes that began again.", of("restarts"), link),
        Family(
            "gateway_link_digest_mismatches_total",
            "counter",
            "Those that did because two nodes did not have the same.",
            of("mismatches"),
            link,
        ),
        Family("gateway_link_bytes_total", "counter", "Bytes of frames over links.", both("bytes"), directed),
    ]


def table_families() -> list[Family]:
    def of(name: str) -> Callable[[Reading], Iterable[Row]]:
        def read(reading: Reading) -> Iterable[Row]:
            links = reading.sources.links
            table = None if links is None else links.table()
            return one(None if table is None else float(getattr(table, name)))

        return read

    return [
        Family("gateway_table_fresh", "gauge", "1 while the engine of the shared table is followed.", of("fresh")),
        Family("gateway_table_devices", "gauge", "Devices in the shared table.", of("devices")),
        Family("gateway_table_edges", "gauge", "Edges in the shared table.", of("edges")),
        Family("gateway_table_nodes", "gauge", "Central nodes that live by the shared table.", of("nodes")),
        Family(
            "gateway_table_dirty_keys", "gauge", "Keys of the shared table that are yet to be written.", of("dirty")
        ),
        Family("gateway_table_invalid_total", "counter", "Values of it that could not be read.", of("invalid")),
    ]


def bridge_families() -> list[Family]:
    def all(reading: Reading) -> Sequence[BridgeStatus]:
        return () if reading.sources.bridges is None else reading.sources.bridges.statuses()

    def of(read: Callable[[BridgeStatus], float | None]) -> Callable[[Reading], Iterable[Row]]:
        return lambda r: [((each.name,), value) for each in all(r) if (value := read(each)) is not None]

    def counted(name: str) -> Callable[[Reading], Iterable[Row]]:
        return of(lambda each: float(getattr(each.counters, name)))

    def by(name: str) -> Callable[[Reading], Iterable[Row]]:
        return lambda r: [
            ((each.name, str(word)), count)
            for each in all(r)
            for word, count in sorted(getattr(each.counters, name).items())
        ]

    def in_flight(reading: Reading) -> Iterable[Row]:
        return [
            ((each.name, direction), count)
            for each in all(reading)
            for direction, count in (("received", each.in_flight_in), ("sent", each.in_flight_out))
        ]

    bridge = ("bridge",)
    reason, qos = (*bridge, "reason"), (*bridge, "qos")
    return [
        Family(
            "gateway_mqtt_connected",
            "gauge",
            "Whether the bridge is connected to its broker; absent of one that is stopped or disabled.",
            of(lambda each: None if each.state in _AT_REST else float(each.state is BridgeState.CONNECTED)),
            bridge,
        ),
        Family(
            "gateway_mqtt_last_ack_age_seconds",
            "gauge",
            "How long ago anything was acknowledged end to end: whether the bridge works.",
            of(lambda each: each.last_ack_age_s),
            bridge,
        ),
        Family("gateway_mqtt_received_total", "counter", "Messages of the broker.", by("received"), qos),
        Family("gateway_mqtt_forwarded_total", "counter", "Those that were sent on.", counted("forwarded"), bridge),
        Family(
            "gateway_mqtt_acknowledged_total",
            "counter",
            "Those that were acknowledged.",
            counted("acknowledged"),
            bridge,
        ),
        Family(
            "gateway_mqtt_duplicates_total", "counter", "Those that had come before.", counted("duplicates"), bridge
        ),
        Family(
            "gateway_mqtt_copies_total", "counter", "Those that came by another filter, too.", counted("copies"), bridge
        ),
        Family("gateway_mqtt_unmatched_total", "counter", "Those that no rule takes.", counted("unmatched"), bridge),
        Family("gateway_mqtt_dropped_total", "counter", "Messages that were dropped.", by("dropped"), reason),
        Family("gateway_mqtt_refused_total", "counter", "Messages that were refused.", by("refused"), reason),
        Family("gateway_mqtt_loops_total", "counter", "Messages that would have gone round.", by("loops"), reason),
        Family("gateway_mqtt_published_total", "counter", "Messages to the broker.", by("published"), qos),
        Family(
            "gateway_mqtt_confirmed_total", "counter", "Those that it has acknowledged.", counted("confirmed"), bridge
        ),
        Family(
            "gateway_mqtt_in_flight",
            "gauge",
            "Messages that await an acknowledgement.",
            in_flight,
            (*bridge, "direction"),
        ),
        Family(
            "gateway_mqtt_queued",
            "gauge",
            "Messages that wait for the broker in memory.",
            of(lambda each: each.queued),
            bridge,
        ),
        Family("gateway_mqtt_connects_total", "counter", "Connections to the broker.", counted("connects"), bridge),
        Family(
            "gateway_mqtt_failed_connects_total",
            "counter",
            "Tries to connect that failed.",
            counted("failed_connects"),
            bridge,
        ),
        Family("gateway_mqtt_rpc_total", "counter", "Requests that came as messages.", counted("rpc"), bridge),
        Family("gateway_mqtt_rpc_failed_total", "counter", "Those that failed.", counted("rpc_failed"), bridge),
    ]


def update_families() -> list[Family]:
    def by(name: str) -> Callable[[Reading], Iterable[Row]]:
        return lambda r: [((word,), count) for word, count in getattr(r.metrics.updates, name).items()]

    return [
        Family(
            "gateway_firmware_downloads_open",
            "gauge",
            "Firmware images that are on their way to devices.",
            lambda r: one(r.metrics.updates.open),
        ),
        Family(
            "gateway_firmware_downloads_total",
            "counter",
            "Downloads that ended: complete, canceled (the device has gone), refused (it is not its update).",
            by("downloads"),
            ("outcome",),
        ),
        Family(
            "gateway_firmware_bytes_total",
            "counter",
            "Bytes of images sent to devices.",
            lambda r: one(r.metrics.updates.bytes),
        ),
        Family(
            "gateway_firmware_reports_total",
            "counter",
            "What devices said of their updates, by state.",
            by("reports"),
            ("state",),
        ),
        Family(
            "gateway_firmware_calls_total",
            "counter",
            "Devices that were told to ask for an update.",
            lambda r: one(r.metrics.updates.calls),
        ),
    ]


def guard_families() -> list[Family]:
    def figures(reading: Reading) -> Iterable[tuple[str, GuardFigures]]:
        reading.metrics.measure()
        return reading.metrics.guards.items()

    def by_word(name: str) -> Callable[[Reading], Iterable[Row]]:
        return lambda r: [
            ((label, word), count) for label, each in figures(r) for word, count in getattr(each, name).items()
        ]

    def of(read: Callable[[GuardFigures], float | None]) -> Callable[[Reading], Iterable[Row]]:
        return lambda r: [((label,), value) for label, each in figures(r) if (value := read(each)) is not None]

    service = ("service",)
    return [
        Family(
            "gateway_breaker_state",
            "gauge",
            "A service's circuit breaker: 0 closed, 1 half-open, 2 open.",
            of(lambda each: each.breaker),
            service,
        ),
        Family(
            "gateway_breaker_opened_total",
            "counter",
            "How often it has opened.",
            of(lambda each: None if each.breaker is None else each.opened),
            service,
        ),
        Family("gateway_ejected_instances", "gauge", "Instances passed over now.", of(lambda e: e.ejected), service),
        Family(
            "gateway_ejections_total",
            "counter",
            "Instances ejected, by cause: consecutive_errors, failure_share, latency, probation.",
            by_word("ejections"),
            (*service, "cause"),
        ),
        Family(
            "gateway_mirrored_total",
            "counter",
            "Copies of requests that Service documents ask for: sent, or why not.",
            by_word("mirrors"),
            (*service, "outcome"),
        ),
        Family(
            "gateway_waited_for_route_total",
            "counter",
            "Requests that waited for a route (waitForRoute): tried when one came, in_vain, or refused.",
            by_word("waits"),
            (*service, "outcome"),
        ),
        Family(
            "gateway_service_refusals_total",
            "counter",
            "Requests kept back by a Service document: rate, breaker_open, max_requests, adaptive_limit, max_pending, "
            "shed.",
            by_word("refused"),
            (*service, "reason"),
        ),
        Family(
            "gateway_rate_limited_total",
            "counter",
            "Requests over a service's rate.",
            of(lambda each: each.refused.get("rate", 0)),
            service,
        ),
        Family(
            "gateway_rate_dry_run_total",
            "counter",
            "Requests that a rate would have refused if it were no dry run.",
            of(lambda each: each.would_refuse),
            service,
        ),
        Family(
            "gateway_fault_injected_total",
            "counter",
            "Faults injected on purpose, by kind: delay, abort, drop, disconnect.",
            by_word("faults"),
            (*service, "fault"),
        ),
        Family(
            "gateway_retries_total",
            "counter",
            "Failed requests that a Service document says to try again: retried, exhausted (no attempt is left), "
            "no_time, over_budget.",
            by_word("retries"),
            (*service, "outcome"),
        ),
        Family(
            "gateway_concurrency_limit",
            "gauge",
            "Requests to a service that may be open at once; an adaptive limit moves.",
            of(lambda each: each.limit or None),
            service,
        ),
        Family(
            "gateway_concurrency_open",
            "gauge",
            "Requests to a protected service that are open.",
            of(lambda each: each.open),
            service,
        ),
        Family(
            "gateway_requests_waiting",
            "gauge",
            "Requests to a protected service that wait.",
            of(lambda each: each.waiting),
            service,
        ),
    ]
