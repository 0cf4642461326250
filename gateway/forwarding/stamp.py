"""What the node changes in the metadata of a stream's first frame, and nowhere else (DESIGN 3, step 5).

The caller's identity is appended as a composite entry, any such entry that the caller sent is dropped, and its
credentials are removed: a responder learns who asks, never with what. Metadata is rewritten only as far as the two
connections' metadata types allow; see `rewrite`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import IntEnum

from gateway.errors import RequestInvalid
from gateway.forwarding import deadline
from gateway.policy.principal import Principal
from gateway.wire.metadata import encode_composite, iter_composite
from gateway.wire.mimetypes import (
    AUTHENTICATION,
    BROKER_FRAME,
    COMPOSITE,
    DEADLINE,
    POST,
    PRINCIPAL,
    ROUTING,
    SPOOLED,
    SUBSET,
    encode_mime,
    normalise,
)

_CREDENTIALS = frozenset({AUTHENTICATION})
#: What only a node says: whoever believes a message's id drops what has it already.
_WITHHELD = _CREDENTIALS | {PRINCIPAL, SPOOLED, SUBSET}
_POSTED = encode_mime(POST)
_DECIDING = frozenset({ROUTING, BROKER_FRAME, AUTHENTICATION, PRINCIPAL, SUBSET})


class Form(IntEnum):
    """What a connection's metadata is, by the MIME type in its SETUP."""

    COMPOSITE = 0
    ROUTING = 1
    OPAQUE = 2


def form_of(metadata_mime: str) -> Form:
    mime = normalise(metadata_mime)
    if mime == COMPOSITE:
        return Form.COMPOSITE
    return Form.ROUTING if mime == ROUTING else Form.OPAQUE


def principal_entry(principal: Principal, node: str) -> bytes:
    """The composite entry that tells a responder who asks."""
    identity: dict[str, object] = {"subject": principal.subject, "kind": str(principal.kind), "node": node}
    if principal.groups:
        identity["groups"] = principal.groups
    if principal.labels:
        identity["labels"] = dict(principal.labels)
    return encode_composite([(PRINCIPAL, json.dumps(identity, separators=(",", ":")).encode())])


class Deciding:
    """The entries of one request's metadata that decide where it goes.

    `routing`, `broker` and `identity` (the principal) are their contents or None; `varying` says whether other entries
    (tracing, MIME types) came along, which differ from request to request and must not be part of a cache key. `key` is
    the raw bytes of the deciding entries. `deadline_at`: where in the metadata its deadline is; 0: it has none.
    `posted`: it comes out of an outbox, with an id by which it is known again. `subset`: the part of the service
    that the node before has drawn.
    """

    __slots__ = ("broker", "deadline_at", "identity", "key", "posted", "routing", "subset", "varying")

    def __init__(self, metadata: bytes, form: int, max_entries: int, *, foreign: bool = True) -> None:
        """`foreign`: it comes from no node, whatever principal it names.

        Raises FrameError for malformed composite metadata and RequestInvalid beyond `max_entries` (fault 40).
        """
        self.routing: bytes | None = None
        self.broker: bytes | None = None
        self.identity: bytes | None = None
        self.subset: bytes | None = None
        self.deadline_at = 0
        self.varying = False
        self.posted = False
        self.key = metadata
        if form == Form.ROUTING:
            self.routing = metadata
            return
        if form == Form.OPAQUE:
            return
        kept: list[bytes] = []
        count = 0
        for entry in iter_composite(metadata, 0, len(metadata)):
            count += 1
            if count > max_entries:
                raise RequestInvalid(f"metadata has more than {max_entries} entries", reason="max_metadata_entries")
            if entry.mime not in _DECIDING:
                self.varying = True
                if entry.mime == DEADLINE:
                    self.deadline_at = deadline.content_at(entry.content_start, entry.end, self.deadline_at)
                elif entry.mime == POST:
                    self.posted = True
                continue
            kept.append(metadata[entry.start : entry.end])
            if entry.mime == ROUTING and self.routing is None:
                self.routing = metadata[entry.content_start : entry.end]
            elif entry.mime == BROKER_FRAME and self.broker is None:
                self.broker = metadata[entry.content_start : entry.end]
            elif entry.mime == PRINCIPAL and not foreign:
                if self.identity is not None:
                    raise RequestInvalid("two principals in one request", reason="principal")
                self.identity = metadata[entry.content_start : entry.end]
            elif entry.mime == SUBSET and not foreign:
                self.subset = metadata[entry.content_start : entry.end]
        if self.varying:
            # A post goes another way than what is addressed like it; no metadata ends with half an entry.
            self.key = b"".join((*kept, _POSTED) if self.posted else kept)


def rewrite(metadata: bytes, source: int, target: int, stamp: bytes | None) -> bytes:
    """Return the metadata that a responder of form `target` gets for what a requester of form `source` sent.

    A responder that speaks composite metadata always gets `stamp`. One that speaks plain routing gets the routing tags.
    Any other gets what came, less credentials and forged identities. Without `stamp` there is one already, which
    another node put there and vouches for; it stays.
    """
    if source == Form.COMPOSITE:
        if target == Form.ROUTING:
            return _first_routing(metadata)
        keep = stamp is None and target == Form.COMPOSITE
        kept = b"".join(_forwarded(metadata, _CREDENTIALS if keep else _WITHHELD))
        return kept + (stamp or b"") if target == Form.COMPOSITE else kept
    stamp = stamp or b""
    if target != Form.COMPOSITE:
        return metadata
    return (encode_composite([(ROUTING, metadata)]) if source == Form.ROUTING else b"") + stamp


def lengthened(section: bytes, entry: bytes) -> bytes:
    """The metadata section of a request with one more entry at its end."""
    return (len(section) - 3 + len(entry)).to_bytes(3, "big") + section[3:] + entry


def _forwarded(metadata: bytes, withheld: frozenset[str]) -> Iterator[bytes]:
    for entry in iter_composite(metadata, 0, len(metadata)):
        if entry.mime not in withheld:
            yield metadata[entry.start : entry.end]


def _first_routing(metadata: bytes) -> bytes:
    for entry in iter_composite(metadata, 0, len(metadata)):
        if entry.mime == ROUTING:
            return metadata[entry.content_start : entry.end]
    return b""
