"""Fixtures of others: a node with a bridge and the broker behind it, as tests/bridges has them, and nodes that link."""

from __future__ import annotations

from tests.bridges.conftest import bridged, broker, peer, start_broker
from tests.federation.links.conftest import cluster, edges, identities, pair

__all__ = ["bridged", "broker", "cluster", "edges", "identities", "pair", "peer", "start_broker"]
