"""What is stored in a spool without having come as a request: from inside the node, such as from a bridge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gateway.errors import FrameError, GatewayError, NoRoute, RequestError, RequestInvalid
from gateway.forwarding.stamp import Form, rewrite

if TYPE_CHECKING:
    from gateway.policy.principal import Principal
    from gateway.spool.message import MessageId
    from gateway.spooling.outlet import Outlet, Storing
    from gateway.spooling.ways import Ways


class Parcel(NamedTuple):
    """`principal`: in whose name it is delivered. `interaction`: the frame type of the request. `metadata`: composite.
    `key`: what keeps its order; empty: nothing does."""

    principal: Principal
    interaction: int
    metadata: bytes
    data: bytes
    key: bytes = b""
    ttl_s: float | None = None


async def deposit(
    ways: Ways,
    outlet_for: Callable[[str], Awaitable[Outlet]],
    document: str,
    parcels: Sequence[Parcel],
    done: Storing,
) -> None:
    """Store these by the rules of a document; `done` gets what became of each. Raises nothing."""
    results: list[MessageId | GatewayError | None] = [None] * len(parcels)
    by_destination: dict[str, list[int]] = {}
    cleaned: dict[int, Parcel] = {}
    for at, parcel in enumerate(parcels):
        try:
            metadata = rewrite(parcel.metadata, Form.COMPOSITE, Form.COMPOSITE, b"")
            by_destination.setdefault(ways.destination(document, metadata), []).append(at)
            cleaned[at] = parcel._replace(metadata=metadata)
        except FrameError as error:
            results[at] = RequestInvalid(f"metadata: {error}", reason="malformed_metadata")
        except RequestError as error:
            results[at] = error
    for destination, places in by_destination.items():
        try:
            outlet = await outlet_for(destination)
            if outlet.spec is None:
                raise NoRoute(f"no Spool document {document}", reason="spool_no_document")
            stored = await outlet.put([cleaned[at] for at in places])
        except GatewayError as error:
            stored = [error] * len(places)
        for at, result in zip(places, stored, strict=True):
            results[at] = result
    if not done.done():
        done.set_result(results)
