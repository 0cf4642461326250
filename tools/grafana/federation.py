"""The dashboard of links, the shared table and bundles."""

from __future__ import annotations

from grafana.panels import (
    ANY_IS_BAD,
    MUST_BE,
    OWN,
    UP_OR_DOWN,
    Dashboard,
    by,
    figure,
    graph,
    grown,
    most,
    now,
    rising,
    states,
)

LINK = 'node=~"$node"'
NOT_DOWN = f'{LINK}, kind!="downlink"'

FEDERATION = Dashboard(
    "gateway-federation",
    "Gateway: federation",
    "Links between nodes, how far what they tell each other lags, the table that central nodes share, and bundles.",
    {
        "Now": [
            figure("Links up", "none", "Links between nodes, counted at both ends.", f"sum(gateway_link_up{OWN})"),
            figure(
                "Without an uplink",
                "none",
                "Edges with no link to any parent. See the alert GatewayUplinkDown.",
                f'count(sum by (instance) (gateway_link_up{{kind="uplink", {OWN[1:-1]}}}) == 0) or vector(0)',
                ANY_IS_BAD,
            ),
            figure(
                "Table followed",
                "percentunit",
                "Central nodes that follow the shared table, of those that have one.",
                f"sum(gateway_table_fresh{OWN}) / count(gateway_table_fresh{OWN})",
                MUST_BE,
            ),
            figure("Devices known", "none", "Devices in the shared table.", f"max(gateway_table_devices{OWN})"),
            figure("Edges known", "none", "Edges in the shared table.", f"max(gateway_table_edges{OWN})"),
            figure(
                "Bundle",
                "none",
                "The newest bundle that a node acts by.",
                f'max(gateway_bundle_version{{bundle="active", {OWN[1:-1]}}})',
            ),
        ],
        "Links": [
            states(
                "Uplinks and links between central nodes",
                "At least one link to that node is up.",
                {
                    "{{instance}} → {{node}}": most("instance, node", "gateway_link_up", f'{LINK}, kind!="downlink"')
                    + " > bool 0"
                },
                UP_OR_DOWN,
            ),
            graph(
                "Round trips",
                "s",
                "How long an answer takes that costs nothing.",
                {"{{instance}} → {{node}}": most("instance, node", "gateway_link_rtt_seconds", LINK)},
                rising(0.5, 1),
            ),
            graph(
                "Links",
                "none",
                "Those that are up, by kind; requests go over the active ones, others are warm.",
                {
                    "{{kind}} up": now("kind", "gateway_link_up", LINK),
                    "{{kind}} active": now("kind", "gateway_link_active", LINK),
                },
            ),
            graph(
                "Bytes",
                "Bps",
                "Of frames over links.",
                {
                    "{{instance}} → {{node}} {{direction}}": by(
                        "instance, node, direction", "gateway_link_bytes_total", LINK
                    )
                },
            ),
        ],
        "What is told": [
            graph(
                "Lag",
                "s",
                "For how long the oldest change of a route waits to be told.",
                {"{{instance}} → {{node}}": most("instance, node", "gateway_link_lag_seconds", LINK)},
                rising(5, 30),
            ),
            graph(
                "Changes that wait",
                "none",
                "Changes of routes that are yet to be told.",
                {"{{instance}} → {{node}}": now("instance, node", "gateway_link_lag_routes", LINK)},
            ),
            graph(
                "Routes told",
                "none",
                "Over each link, by direction.",
                {
                    "{{instance}} → {{node}} {{direction}}": now(
                        "instance, node, direction", "gateway_link_routes", LINK
                    )
                },
            ),
            graph(
                "Begun again",
                "none",
                "Streams of routes that began anew in five minutes, and those that did because two nodes differed.",
                {
                    "{{instance}} → {{node}} restarts": grown("instance, node", "gateway_link_restarts_total", LINK),
                    "{{instance}} → {{node}} mismatches": grown(
                        "instance, node", "gateway_link_digest_mismatches_total", LINK
                    ),
                },
                rising(2, 5),
            ),
            graph(
                "Handed over",
                "cps",
                "Messages that waited and that another node has taken over a link.",
                {
                    "{{instance}} {{spool}}": by("instance, spool", "gateway_spool_handed_over_total"),
                    "{{instance}} {{spool}} once more": by("instance, spool", "gateway_spool_came_again_total"),
                },
            ),
            graph(
                "Connections of links",
                "none",
                "Connections that carry links, by kind.",
                {"{{kind}}": now("kind", "gateway_connections", 'kind=~"uplink|downlink|peer"')},
                stacked=True,
            ),
        ],
        "Shared table": [
            states(
                "Followed",
                "Whether each central node follows the table's engine, NATS.",
                {"{{instance}}": f"gateway_table_fresh{OWN}"},
                {"0": ("stale", "red"), "1": ("followed", "green")},
            ),
            graph(
                "Not written yet",
                "none",
                "Keys of the shared table that are yet to be written.",
                {"{{instance}}": now("instance", "gateway_table_dirty_keys")},
                rising(100, 1000),
            ),
            graph(
                "In the table",
                "none",
                "Devices, edges and central nodes, as each central node sees them.",
                {
                    "{{instance}} devices": now("instance", "gateway_table_devices"),
                    "{{instance}} edges": now("instance", "gateway_table_edges"),
                    "{{instance}} nodes": now("instance", "gateway_table_nodes"),
                },
            ),
            graph(
                "Unreadable",
                "none",
                "Values of the table that could not be read, in five minutes.",
                {"{{instance}}": grown("instance", "gateway_table_invalid_total")},
                ANY_IS_BAD,
            ),
        ],
        "Bundles": [
            graph(
                "Versions",
                "none",
                "By which bundle each node acts, and which it was given last. 0: none.",
                {"{{instance}} {{bundle}}": now("instance, bundle", "gateway_bundle_version")},
            ),
            graph(
                "Nodes",
                "none",
                "By what came of the bundle that they should act by, as central nodes know it.",
                {"{{outcome}}": f"max by (outcome) (gateway_bundle_nodes{OWN})"},
                stacked=True,
            ),
            graph(
                "Rejected or gone back from",
                "none",
                "Nodes that have not taken the newest bundle that they were given.",
                {
                    "{{instance}} {{state}}": now(
                        "instance, state", "gateway_bundle_state", 'state=~"rejected|rolled_back"'
                    )
                },
                ANY_IS_BAD,
            ),
        ],
    },
    {"node": "gateway_link_up"},
)
