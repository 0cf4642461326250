"""The table that all centrals share: leases, who holds which edge, who is behind it. `SharedTable` is all of it."""

from gateway.federation.table.books import Claim
from gateway.federation.table.embedded import EmbeddedStore
from gateway.federation.table.places import NodeState, Offered, Place
from gateway.federation.table.records import Offer
from gateway.federation.table.shared import SharedTable, TableOptions, TableStatus
from gateway.federation.table.stamp import HybridClock
from gateway.federation.table.view import Touched

__all__ = [
    "Claim",
    "EmbeddedStore",
    "HybridClock",
    "NodeState",
    "Offer",
    "Offered",
    "Place",
    "SharedTable",
    "TableOptions",
    "TableStatus",
    "Touched",
]
