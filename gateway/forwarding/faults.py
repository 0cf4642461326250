"""Faults that a `Service` document injects on purpose, to see how callers take them.

Each share is drawn by itself. A request that is held back is gone through again when its time is over, with whatever
came behind it, and the others are drawn then. One that is swallowed is sent to nowhere: it may be canceled, and a
timeout ends it, as if a responder had it and said nothing. The caller's connection is closed at the node that it is
connected to; the rest happens at the node that picks among the instances, so that no fault is injected twice on the
way. The node's own services are governed by no document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.errors import ConnectionFailed, FaultInjected, RequestError
from gateway.forwarding.awaiting import Request, hold_back
from gateway.forwarding.links import DOWNLINK, UPLINK
from gateway.wire.octets import cut

if TYPE_CHECKING:
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.governed import Governed
    from gateway.forwarding.plane import Plane
    from gateway.policy.traffic import Fault

#: What becomes of a request.
SEND: Final = 0
HOLD: Final = 1
LOSE: Final = 2
# Not from `plane`, which knows whoever governs.
_INTERNAL: Final = "internal"


def draw(connection: Endpoint, governed: Governed, fault: Fault) -> int:
    """What is to become of one request. Raises FaultInjected, ConnectionFailed."""
    plane = connection.plane
    injected = governed.state.faults
    document = governed.state.document
    closable = governed.here and connection.kind != _INTERNAL  # type: ignore[attr-defined]
    if closable and _drawn(plane, fault.disconnect_share):
        injected["disconnect"] += 1
        raise ConnectionFailed(f"{document}: closed by a fault that is injected on purpose", reason="fault_disconnect")
    if connection.side > DOWNLINK or not _picks(governed):
        return SEND
    if not connection.held_since and _drawn(plane, fault.delay_share):
        injected["delay"] += 1
        return HOLD
    if _drawn(plane, fault.abort_share):
        injected["abort"] += 1
        text = f"{document}: refused by a fault that is injected on purpose"
        raise FaultInjected(text, fault.abort_code, document)
    if plane.nowhere is not None and _drawn(plane, fault.drop_share):
        injected["drop"] += 1
        return LOSE
    return SEND


def hold(
    connection: Endpoint,
    governed: Governed,
    delay_s: float,
    kind: int,
    head: int,
    stream_id: int,
    n: int,
    metadata: bytes,
    data: bytes,
    at: int,
    end: int,
) -> None:
    """Hold one request back. Raises Overloaded where too much of this connection is held already, or too many wait."""
    frame = Request(kind, head, n, metadata, cut(data, at, end)).frame(stream_id, n)
    guard = governed.state.guard
    if guard is None:
        hold_back(connection, stream_id, frame, delay_s, None)
        return
    guard.wait()
    try:
        hold_back(connection, stream_id, frame, delay_s, guard.waited)
    except RequestError:
        guard.waited()
        raise


def _drawn(plane: Plane, share: float) -> bool:
    return share > 0.0 and plane.random.random() < share


def _picks(governed: Governed) -> bool:
    """Whether an instance is picked here: the parent governs what goes there."""
    return any(route.owner.side != UPLINK for route in governed.candidates.routes)  # type: ignore[attr-defined]
