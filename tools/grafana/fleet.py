"""The dashboard of all nodes at a glance."""

from __future__ import annotations

from grafana.panels import (
    ANY_IS_BAD,
    DAY,
    MIB,
    OWN,
    RATE,
    Dashboard,
    by,
    falling,
    figure,
    graph,
    now,
    quantile,
    rising,
    table,
)

FLEET = Dashboard(
    "gateway-fleet",
    "Gateway: fleet",
    "All nodes at a glance: who is up, busy, refusing or losing something. A node's name leads to its own page.",
    {
        "Now": [
            figure("Nodes up", "none", "Nodes that Prometheus reaches.", f'sum(up{{job="gateway", {OWN[1:-1]}}})'),
            figure(
                "Nodes down",
                "none",
                "Nodes that Prometheus does not reach. See the alert GatewayNodeDown.",
                f'count(up{{job="gateway", {OWN[1:-1]}}} == 0) or vector(0)',
                ANY_IS_BAD,
            ),
            figure(
                "Alerts",
                "none",
                "Alerts that fire, those of severity info left out. docs/alerts.md says what to do about each.",
                f'count(ALERTS{{alertstate="firing", severity!="info", {OWN[1:-1]}}}) or vector(0)',
                ANY_IS_BAD,
            ),
            figure(
                "Clients",
                "none",
                "Devices, services and people that are connected now.",
                f'sum(gateway_connections{{kind="client", {OWN[1:-1]}}})',
            ),
            figure(
                "Requests",
                "reqps",
                "Requests that ended, by all nodes.",
                f"sum(rate(gateway_requests_total{OWN}{RATE}))",
            ),
            figure(
                "Failing",
                "percentunit",
                "Share of requests that services answer with an error.",
                f'sum(rate(gateway_requests_total{{outcome="failed", {OWN[1:-1]}}}{RATE}))'
                f" / sum(rate(gateway_requests_total{OWN}{RATE}))",
                rising(0.05, 0.1),
            ),
        ],
        "Nodes": [
            table(
                "Nodes",
                "One row a node. Devices feel a loop lag above 50 ms; above 85 % of its memory a node lets nobody in.",
                {
                    "Clients": ("none", now("instance", "gateway_connections", 'kind="client"')),
                    "Requests": ("reqps", by("instance", "gateway_requests_total")),
                    "Refused": ("reqps", by("instance", "gateway_refusals_total")),
                    "Loop lag, p99": ("s", quantile(0.99, "instance", "gateway_loop_lag_seconds")),
                    "CPU, cores": ("none", by("instance", "process_cpu_seconds_total")),
                    "Memory": ("bytes", now("instance", "process_resident_memory_bytes")),
                    "Disk free": ("bytes", now("instance", "gateway_disk_free_bytes")),
                    "Messages that wait": ("none", now("instance", "gateway_spool_messages")),
                },
            ),
            table(
                "Firing alerts",
                "What is wrong and where; docs/alerts.md says what to do. Empty when all is well.",
                {"Firing": ("none", f'ALERTS{{alertstate="firing", {OWN[1:-1]}}}')},
                ("alertstate",),
            ),
        ],
        "Traffic": [
            graph(
                "Clients",
                "none",
                "Open connections of clients.",
                {"{{instance}}": now("instance", "gateway_connections", 'kind="client"')},
            ),
            graph(
                "Requests",
                "reqps",
                "Requests that ended, by node.",
                {"{{instance}}": by("instance", "gateway_requests_total")},
            ),
            graph(
                "Latency, p99",
                "s",
                "Of all requests, streams included: from the first frame to the last one.",
                {"{{instance}}": quantile(0.99, "instance", "gateway_request_duration_seconds")},
            ),
            graph(
                "Refusals",
                "reqps",
                "What nodes refuse, by reason; docs/limits.md says which limit is meant.",
                {"{{reason}}": by("reason", "gateway_refusals_total")},
                stacked=True,
            ),
            graph(
                "Why connections end",
                "cps",
                "Connections that ended, by reason. keepalive_timeout: the network; token_expired: no renewal.",
                {"{{reason}}": by("reason", "gateway_connections_closed_total")},
                stacked=True,
            ),
            graph(
                "Bytes",
                "Bps",
                "Bytes of frames, received and sent.",
                {"{{direction}}": by("direction", "gateway_bytes_total")},
            ),
        ],
        "Health": [
            graph(
                "Loop lag, p99",
                "s",
                "How late the event loop runs. Above 50 ms devices notice.",
                {"{{instance}}": quantile(0.99, "instance", "gateway_loop_lag_seconds")},
                rising(0.05, 0.25),
            ),
            graph(
                "Waiting to leave",
                "bytes",
                "Bytes in outboxes: receivers are slower than senders.",
                {"{{instance}}": now("instance", "gateway_outbox_bytes")},
                rising(32 * MIB, 64 * MIB),
            ),
            graph(
                "Oldest message that waits",
                "s",
                "By node, of all spools.",
                {"{{instance}}": f"max by (instance) (gateway_spool_oldest_age_seconds{OWN})"},
                rising(600, 3600),
            ),
            graph(
                "Certificate",
                "s",
                "For how long the certificate of each node still holds.",
                {"{{instance}}": f"gateway_certificate_expiry_timestamp_seconds{OWN} - time()"},
                falling(21 * DAY, 2 * DAY),
            ),
            graph(
                "Age of the last backup",
                "s",
                "Of each node that has one.",
                {"{{instance}}": f"time() - gateway_backup_latest_timestamp_seconds{OWN}"},
                rising(2 * DAY, 7 * DAY),
            ),
            graph(
                "Disk free",
                "percentunit",
                "Share of the data directory's volume.",
                {"{{instance}}": f"gateway_disk_free_bytes{OWN} / gateway_disk_size_bytes{OWN}"},
                falling(0.2, 0.1),
            ),
        ],
        "Versions": [
            graph(
                "Versions",
                "none",
                "Nodes by the version that they run.",
                {"{{version}}": f"count by (version) (gateway_info{OWN})"},
                stacked=True,
            ),
            graph(
                "Restarts",
                "none",
                "Starts of each node within an hour.",
                {"{{instance}}": f"changes(process_start_time_seconds{OWN}[1h])"},
                rising(1, 3),
            ),
            graph(
                "Firmware of devices",
                "none",
                "What devices said of their updates within an hour, by state.",
                {"{{state}}": f"sum by (state) (increase(gateway_firmware_reports_total{OWN}[1h]))"},
                stacked=True,
            ),
        ],
    },
)
