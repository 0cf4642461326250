"""A node with a bridge and the broker behind it, as tests/bridges has them."""

from tests.bridges.conftest import bridged, broker, peer, start_broker

__all__ = ["bridged", "broker", "peer", "start_broker"]
"""Fixtures for governance over several nodes."""

from __future__ import annotations

from tests.federation.links.conftest import cluster, edges, identities, pair

__all__ = ["cluster", "edges", "identities", "pair"]
