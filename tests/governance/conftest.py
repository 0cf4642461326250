"""A node with a bridge and the broker behind it, as tests/bridges has them."""

from tests.bridges.conftest import bridged, broker, peer, start_broker

__all__ = ["bridged", "broker", "peer", "start_broker"]
