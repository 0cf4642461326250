"""What goes with a request beside its data: the route and tags out, the route, tags and caller in.

Must not know: handlers, connections.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rsocket.payload import Payload

from gateway.errors import FrameError
from gateway.wire.metadata import decode_composite, decode_routing, encode_composite, encode_routing
from gateway.wire.mimetypes import DEADLINE, PRINCIPAL, ROUTING


def request_payload(
    route: str,
    data: bytes | str = b"",
    tags: Mapping[str, str] | None = None,
    metadata: Iterable[tuple[str, bytes]] = (),
) -> Payload:
    """Return the payload of a request. Raises ValueError for a route or tag above 255 bytes."""
    routing = encode_routing((route, *(f"{key}={value}" for key, value in (tags or {}).items())))
    composite = encode_composite([(ROUTING, routing), *metadata])
    return Payload(data.encode() if isinstance(data, str) else bytes(data), composite)


def deadline(seconds: float) -> tuple[str, bytes]:
    """An entry for `metadata`: after so long the caller waits no more, and no node sends the request any further."""
    return DEADLINE, min(max(round(seconds * 1000), 0), 0xFFFFFFFF).to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the node established it from the token. `node` is the node the caller is connected to."""

    subject: str
    kind: str
    node: str


@dataclass(frozen=True, slots=True)
class Request:
    """What came with a request. `caller` is None where the node forwards no identity.

    `tags` are the routing tags after the route; `metadata` is every composite entry in order, types by their names.
    """

    route: str
    tags: tuple[str, ...] = ()
    caller: Caller | None = None
    metadata: tuple[tuple[str, bytes], ...] = ()


def read_request(metadata: bytes) -> Request:
    """Read a request's composite metadata. Raises FrameError when it is malformed."""
    entries = decode_composite(metadata)
    route = ""
    tags: tuple[str, ...] = ()
    caller: Caller | None = None
    for mime, content in entries:
        if mime == ROUTING and not route:
            route, *rest = decode_routing(content) or ("",)
            tags = tuple(rest)
        elif mime == PRINCIPAL:
            caller = _read_caller(content)
    return Request(route, tags, caller, tuple(entries))


def _read_caller(content: bytes) -> Caller:
    try:
        document = json.loads(content)
        return Caller(str(document["subject"]), str(document["kind"]), str(document.get("node", "")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FrameError(f"principal entry is malformed: {error}") from None
