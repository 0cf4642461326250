"""The dashboard of one node."""

from __future__ import annotations

from grafana.panels import (
    ANY_IS_BAD,
    MIB,
    MUST_BE,
    OWN,
    RATE,
    Dashboard,
    by,
    figure,
    graph,
    grown,
    most,
    now,
    quantile,
    rising,
    states,
)

SERVICE = 'service=~"$service"'
SPOOL = 'spool=~"$spool"'

NODE = Dashboard(
    "gateway-node",
    "Gateway: node",
    "One node in full: connections, requests by service, what it refuses and why, what waits, and what it costs.",
    {
        "Now": [
            figure(
                "Ready",
                "none",
                "The node's own checks, as /readyz has them; draining is 0 while it drains.",
                now("check", "gateway_ready"),
                MUST_BE,
                text="{{check}}",
                width=8,
            ),
            figure(
                "Alarms",
                "none",
                "What the node itself says somebody must look at; docs/alerts.md says what each means.",
                f"count(gateway_alarm{OWN}) or vector(0)",
                ANY_IS_BAD,
            ),
            figure("Up for", "s", "Since the process began.", f"time() - max(process_start_time_seconds{OWN})"),
            figure(
                "Clients",
                "none",
                "Connections of devices, services and people.",
                f'sum(gateway_connections{{kind="client", {OWN[1:-1]}}})',
            ),
            figure(
                "Routes",
                "none",
                "Routes in the routing table, those told by other nodes included.",
                f"max(gateway_routes{OWN})",
            ),
        ],
        "Connections": [
            graph(
                "Connections",
                "none",
                "Open ones, by kind.",
                {"{{kind}}": now("kind", "gateway_connections")},
                stacked=True,
            ),
            graph(
                "Opened and closed",
                "cps",
                "Those that were accepted, and those that ended.",
                {
                    "opened": f"sum(rate(gateway_connections_opened_total{OWN}{RATE}))",
                    "closed": f"sum(rate(gateway_connections_closed_total{OWN}{RATE}))",
                },
            ),
            graph(
                "Why connections end",
                "cps",
                "By reason, those that were refused included.",
                {"{{reason}}": by("reason", "gateway_connections_closed_total")},
                stacked=True,
            ),
            graph(
                "Sessions",
                "none",
                "Sessions without a link that wait to be resumed, and those resumed or refused in five minutes.",
                {
                    "parked": f"sum(gateway_sessions_parked{OWN})",
                    "resumed": f"sum(increase(gateway_sessions_resumed_total{OWN}[5m]))",
                    "refused: {{reason}}": grown("reason", "gateway_resumes_refused_total"),
                },
            ),
            graph(
                "Credentials refused",
                "cps",
                "By reason. token_expired: devices that came too late to renew.",
                {"{{reason}}": by("reason", "gateway_tokens_refused_total")},
                stacked=True,
            ),
            graph(
                "Keepalives",
                "cps",
                "KEEPALIVE frames that came in; they follow the number of connections.",
                {"received": f"sum(rate(gateway_keepalives_total{OWN}{RATE}))"},
            ),
        ],
        "Requests": [
            graph(
                "Requests by outcome",
                "reqps",
                "failed: by the responder; canceled: by the requester; refused: by this node.",
                {"{{outcome}}": by("outcome", "gateway_requests_total", SERVICE)},
                stacked=True,
            ),
            graph(
                "Requests by service",
                "reqps",
                "The names under which services registered; (devices) are all devices.",
                {"{{service}}": by("service", "gateway_requests_total", SERVICE)},
                stacked=True,
            ),
            graph(
                "Failing",
                "percentunit",
                "Share of a service's requests that end with an error of its own.",
                {
                    "{{service}}": by("service", "gateway_requests_total", f'outcome="failed", {SERVICE}')
                    + " / "
                    + by("service", "gateway_requests_total", SERVICE)
                },
                rising(0.05, 0.1),
            ),
            graph(
                "Latency, median",
                "s",
                "From a request's first frame to its last one, by service.",
                {"{{service}}": quantile(0.5, "service", "gateway_request_duration_seconds", SERVICE)},
            ),
            graph(
                "Latency, p99",
                "s",
                "The slowest in a hundred, by service; a stream counts until its end.",
                {"{{service}}": quantile(0.99, "service", "gateway_request_duration_seconds", SERVICE)},
            ),
            graph(
                "Open requests",
                "none",
                "Those that have not ended, by service.",
                {"{{service}}": now("service", "gateway_requests_open", SERVICE)},
                stacked=True,
            ),
            graph(
                "By route and subset",
                "reqps",
                "Requests that went by a rule of a Service document, or to a subset of it.",
                {
                    "{{service}} {{route}} {{subset}}": by(
                        "service, route, subset", "gateway_route_requests_total", SERVICE
                    )
                },
                stacked=True,
            ),
            graph(
                "Interactions",
                "reqps",
                "Streams that were opened, by interaction.",
                {"{{interaction}}": by("interaction", "gateway_streams_total")},
                stacked=True,
            ),
            graph("Streams", "none", "Those that cross the node now.", {"open": f"sum(gateway_streams_open{OWN})"}),
        ],
        "Refused": [
            graph(
                "Refusals",
                "reqps",
                "Requests and registrations, by reason; docs/limits.md says which limit is meant.",
                {"{{reason}}": by("reason", "gateway_refusals_total")},
                stacked=True,
            ),
            graph(
                "Access documents",
                "reqps",
                "What they refused (denied), told of (audited), and would have refused (dry_run).",
                {"{{policy}} {{outcome}}": by("policy, outcome", "gateway_access_total")},
                stacked=True,
            ),
            graph(
                "Service documents",
                "reqps",
                "Requests kept back to protect a service, by reason.",
                {"{{service}} {{reason}}": by("service, reason", "gateway_service_refusals_total", SERVICE)},
                stacked=True,
            ),
        ],
        "Protection": [
            states(
                "Circuit breakers",
                "Of each service that has one. Open: its requests are refused at once.",
                {"{{service}}": most("service", "gateway_breaker_state", SERVICE)},
                {"0": ("closed", "green"), "1": ("half-open", "orange"), "2": ("open", "red")},
            ),
            graph(
                "Instances passed over",
                "none",
                "Ejected because they fail or are slow while others are not.",
                {"{{service}}": now("service", "gateway_ejected_instances", SERVICE)},
                ANY_IS_BAD,
            ),
            graph(
                "Requests at once",
                "none",
                "Open ones of a protected service, those that wait, and the limit.",
                {
                    "{{service}} open": now("service", "gateway_concurrency_open", SERVICE),
                    "{{service}} waiting": now("service", "gateway_requests_waiting", SERVICE),
                    "{{service}} limit": now("service", "gateway_concurrency_limit", SERVICE),
                },
            ),
            graph(
                "Tried again",
                "reqps",
                "Failed requests that a Service document says to try again, by what came of it.",
                {"{{service}} {{outcome}}": by("service, outcome", "gateway_retries_total", SERVICE)},
                stacked=True,
            ),
            graph(
                "Faults injected",
                "reqps",
                "On purpose, by a Service document.",
                {"{{service}} {{fault}}": by("service, fault", "gateway_fault_injected_total", SERVICE)},
                stacked=True,
            ),
            graph(
                "Ejections",
                "none",
                "Instances ejected in five minutes, by cause.",
                {"{{service}} {{cause}}": grown("service, cause", "gateway_ejections_total", SERVICE)},
                stacked=True,
            ),
        ],
        "Messages that wait": [
            graph(
                "Messages",
                "none",
                "By Spool document.",
                {"{{spool}}": now("spool", "gateway_spool_messages", SPOOL)},
                stacked=True,
            ),
            graph(
                "Bytes",
                "bytes",
                "Of the messages that wait.",
                {"{{spool}}": now("spool", "gateway_spool_bytes", SPOOL)},
                stacked=True,
            ),
            graph(
                "Oldest",
                "s",
                "Age of the message that has waited longest.",
                {"{{spool}}": most("spool", "gateway_spool_oldest_age_seconds", SPOOL)},
                rising(600, 3600),
            ),
            graph(
                "Taken and delivered",
                "cps",
                "Messages taken to wait, delivered, and handed over to another node.",
                {
                    "{{spool}} taken": by("spool", "gateway_spool_appended_total", SPOOL),
                    "{{spool}} delivered": by("spool", "gateway_spool_delivered_total", SPOOL),
                    "{{spool}} handed over": by("spool", "gateway_spool_handed_over_total", SPOOL),
                },
            ),
            graph(
                "Refused and lost",
                "none",
                "In five minutes: not taken to wait, and left other than by delivery.",
                {
                    "{{spool}} refused: {{reason}}": grown("spool, reason", "gateway_spool_refused_total", SPOOL),
                    "{{spool}} lost: {{reason}}": grown("spool, reason", "gateway_spool_lost_total", SPOOL),
                },
                ANY_IS_BAD,
            ),
            graph(
                "Empty in",
                "s",
                "When nothing will wait any more, as it goes now; nothing is shown while it does not get less.",
                {"{{spool}}": most("spool", "gateway_spool_drain_eta_seconds", SPOOL)},
            ),
        ],
        "What it costs": [
            graph(
                "Event loop",
                "s",
                "How late it runs. Above 50 ms devices notice.",
                {
                    "median": quantile(0.5, "instance", "gateway_loop_lag_seconds"),
                    "p99": quantile(0.99, "instance", "gateway_loop_lag_seconds"),
                },
                rising(0.05, 0.25),
            ),
            graph(
                "CPU",
                "none",
                "Cores in use. One process uses one at most.",
                {"{{instance}}": by("instance", "process_cpu_seconds_total")},
            ),
            graph(
                "Memory",
                "bytes",
                "Resident memory of all processes of the node, and its limit where there is one.",
                {
                    "used": now("instance", "process_resident_memory_bytes"),
                    "limit": now("instance", "gateway_memory_limit_bytes"),
                },
            ),
            graph(
                "Waiting to leave",
                "bytes",
                "Bytes in outboxes: receivers are slower than senders.",
                {"bytes": now("instance", "gateway_outbox_bytes")},
                rising(32 * MIB, 64 * MIB),
            ),
            graph(
                "File descriptors",
                "none",
                "Open ones, and how many there may be.",
                {"open": now("instance", "process_open_fds"), "limit": now("instance", "process_max_fds")},
            ),
            graph(
                "Disk",
                "bytes",
                "Of the data directory's volume.",
                {
                    "free": now("instance", "gateway_disk_free_bytes"),
                    "size": now("instance", "gateway_disk_size_bytes"),
                },
            ),
            graph(
                "Bytes",
                "Bps",
                "Bytes of frames, received and sent.",
                {"{{direction}}": by("direction", "gateway_bytes_total")},
            ),
            graph(
                "Frames", "pps", "Frames received and sent.", {"{{direction}}": by("direction", "gateway_frames_total")}
            ),
            graph(
                "Records and spans lost",
                "cps",
                "Records of the flow log and spans of traces that could not be kept or sent.",
                {
                    "flows: {{reader}}": by("reader", "gateway_flow_records_lost_total"),
                    "spans: {{outcome}}": by("outcome", "gateway_spans_total", 'outcome!="delivered"'),
                },
                ANY_IS_BAD,
            ),
        ],
        "Devices": [
            graph(
                "Configurations",
                "cps",
                "Sent to devices, and what devices said of them.",
                {"{{event}}": by("event", "gateway_device_configs_total")},
            ),
            graph(
                "Firmware downloads",
                "none",
                "On their way now, and those that ended in five minutes.",
                {
                    "open": f"sum(gateway_firmware_downloads_open{OWN})",
                    "{{outcome}}": grown("outcome", "gateway_firmware_downloads_total"),
                },
            ),
            graph(
                "Firmware states",
                "none",
                "What devices said of their updates in five minutes.",
                {"{{state}}": grown("state", "gateway_firmware_reports_total")},
                stacked=True,
            ),
        ],
    },
    {"service": "gateway_requests_total", "spool": "gateway_spool_messages"},
)
