"""The dashboard of bridges to MQTT brokers."""

from __future__ import annotations

from grafana.panels import ANY_IS_BAD, RATE, UP_OR_DOWN, Dashboard, by, figure, graph, grown, most, now, rising, states

BRIDGE = 'bridge=~"$bridge"'

MQTT = Dashboard(
    "gateway-mqtt",
    "Gateway: MQTT",
    "Bridges to MQTT brokers: whether they work end to end, what they carry, what they drop and why.",
    {
        "Now": [
            figure(
                "Connected",
                "none",
                "Bridges that are connected to their broker.",
                f'sum(gateway_mqtt_connected{{instance=~"$instance", {BRIDGE}}})',
            ),
            figure(
                "Not connected",
                "none",
                "Bridges that are to be connected and are not; see the alert GatewayBridgeDown.",
                f'count(gateway_mqtt_connected{{instance=~"$instance", {BRIDGE}}} == 0) or vector(0)',
                ANY_IS_BAD,
            ),
            figure(
                "Received",
                "cps",
                "Messages of brokers.",
                f'sum(rate(gateway_mqtt_received_total{{instance=~"$instance", {BRIDGE}}}{RATE}))',
            ),
            figure(
                "Published",
                "cps",
                "Messages to brokers.",
                f'sum(rate(gateway_mqtt_published_total{{instance=~"$instance", {BRIDGE}}}{RATE}))',
            ),
            figure(
                "Waiting",
                "none",
                "Messages that wait for brokers in memory.",
                f'sum(gateway_mqtt_queued{{instance=~"$instance", {BRIDGE}}})',
                rising(100, 500),
            ),
            figure(
                "Last acknowledged",
                "s",
                "How long ago anything was, on the bridge for which it is longest.",
                f'max(gateway_mqtt_last_ack_age_seconds{{instance=~"$instance", {BRIDGE}}})',
                rising(120, 300),
            ),
        ],
        "Is it working": [
            states(
                "Connected",
                "Bridges that are stopped or disabled are not shown.",
                {"{{instance}} {{bridge}}": most("instance, bridge", "gateway_mqtt_connected", BRIDGE)},
                UP_OR_DOWN,
            ),
            graph(
                "Last acknowledged",
                "s",
                "How long ago anything was acknowledged end to end: the one sign that a bridge works.",
                {"{{bridge}}": most("bridge", "gateway_mqtt_last_ack_age_seconds", BRIDGE)},
                rising(120, 300),
            ),
            graph(
                "Connections",
                "none",
                "Made and failed in five minutes. Many made: two clients with one id.",
                {
                    "{{bridge}} made": grown("bridge", "gateway_mqtt_connects_total", BRIDGE),
                    "{{bridge}} failed": grown("bridge", "gateway_mqtt_failed_connects_total", BRIDGE),
                },
            ),
        ],
        "From brokers": [
            graph(
                "Received",
                "cps",
                "By QoS.",
                {"{{bridge}} QoS {{qos}}": by("bridge, qos", "gateway_mqtt_received_total", BRIDGE)},
                stacked=True,
            ),
            graph(
                "Sent on and acknowledged",
                "cps",
                "What went on to a route, and what the broker was told to forget after that.",
                {
                    "{{bridge}} sent on": by("bridge", "gateway_mqtt_forwarded_total", BRIDGE),
                    "{{bridge}} acknowledged": by("bridge", "gateway_mqtt_acknowledged_total", BRIDGE),
                },
            ),
            graph(
                "Seen twice or for nobody",
                "cps",
                "Duplicates, copies by another filter, and what no rule takes.",
                {
                    "{{bridge}} duplicates": by("bridge", "gateway_mqtt_duplicates_total", BRIDGE),
                    "{{bridge}} copies": by("bridge", "gateway_mqtt_copies_total", BRIDGE),
                    "{{bridge}} unmatched": by("bridge", "gateway_mqtt_unmatched_total", BRIDGE),
                },
            ),
        ],
        "To brokers": [
            graph(
                "Published",
                "cps",
                "By QoS.",
                {"{{bridge}} QoS {{qos}}": by("bridge, qos", "gateway_mqtt_published_total", BRIDGE)},
                stacked=True,
            ),
            graph(
                "Confirmed",
                "cps",
                "What brokers have acknowledged.",
                {"{{bridge}}": by("bridge", "gateway_mqtt_confirmed_total", BRIDGE)},
            ),
            graph(
                "Waiting",
                "none",
                "In memory for the broker; and in flight, by direction.",
                {
                    "{{bridge}} waiting": now("bridge", "gateway_mqtt_queued", BRIDGE),
                    "{{bridge}} in flight, {{direction}}": now("bridge, direction", "gateway_mqtt_in_flight", BRIDGE),
                },
                rising(100, 500),
            ),
        ],
        "Lost and refused": [
            graph(
                "Dropped",
                "cps",
                "By reason; docs/mqtt.md says what each means.",
                {"{{bridge}} {{reason}}": by("bridge, reason", "gateway_mqtt_dropped_total", BRIDGE)},
                ANY_IS_BAD,
            ),
            graph(
                "Refused",
                "cps",
                "By who was to get them, by reason.",
                {"{{bridge}} {{reason}}": by("bridge, reason", "gateway_mqtt_refused_total", BRIDGE)},
            ),
            graph(
                "Going round",
                "cps",
                "Messages that came back over another way and were dropped.",
                {"{{bridge}} {{reason}}": by("bridge, reason", "gateway_mqtt_loops_total", BRIDGE)},
                ANY_IS_BAD,
            ),
        ],
        "Requests over MQTT": [
            graph(
                "Requests",
                "reqps",
                "That came as messages, and those of them that failed.",
                {
                    "{{bridge}}": by("bridge", "gateway_mqtt_rpc_total", BRIDGE),
                    "{{bridge}} failed": by("bridge", "gateway_mqtt_rpc_failed_total", BRIDGE),
                },
            ),
        ],
    },
    {"bridge": "gateway_mqtt_connected"},
)
