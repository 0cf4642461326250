"""Which requests wait, by which document and for which service: what documents say of a request's metadata.

Pure but for what it remembers: no I/O, no clock, no connection.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.documents.spool import Interaction, Key
from gateway.errors import NoRoute, RequestInvalid
from gateway.forwarding.stamp import Deciding, Form
from gateway.forwarding.stream import REQUEST_FNF
from gateway.policy.access import is_reserved
from gateway.routing.address import Address, address_from
from gateway.routing.tags import SERVICE_NAME, SUB
from gateway.spool.message import Post
from gateway.wire import brokering
from gateway.wire.metadata import decode_routing, iter_composite
from gateway.wire.mimetypes import IDEMPOTENCY_KEY, POST

if TYPE_CHECKING:
    from gateway.documents.spool import Spool as Spec

#: What is known of metadata that came before.
KNOWN: Final = 4096
_ANY_NUMBER: Final = 1 << 30
_UNKNOWN: Final = object()
#: Epoch and number.
_ID: Final = struct.Struct(">II")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request's metadata say of it. `idempotent`: it carries an idempotency key, or is a post. `post`: the epoch
    and the number that its sender gave it."""

    name: str
    route: str
    topic: str | None
    idempotent: bool
    post: tuple[int, int] | None = None

    def key(self, spec: Spec, subject: str) -> bytes:
        """By which its order is kept."""
        match spec.key:
            case Key.DEVICE:
                return subject.encode()
            case Key.ROUTE:
                return self.route.encode()
            case Key.TOPIC:
                return (self.topic or self.route).encode()
            case _:
                return b""


class Terms(NamedTuple):
    """How one request waits. `key`: by which its order is kept. `post`: by which it is known if it comes again."""

    key: bytes
    ttl_s: float | None
    post: Post | None


class Way(NamedTuple):
    """What becomes of requests with one metadata. `waits`: False where the document wants an idempotency key."""

    asked: Asked
    spec: Spec
    destination: str
    ttl_s: float | None
    waits: bool

    def terms(self, subject: str) -> Terms:
        post = self.asked.post
        return Terms(self.asked.key(self.spec, subject), self.ttl_s, None if post is None else Post(subject, *post))


class Ways:
    """By the documents that hold, in their order."""

    def __init__(self) -> None:
        self.specs: tuple[tuple[str, Spec], ...] = ()
        self._known: dict[bytes, Asked] = {}
        self._ways: dict[tuple[int, bytes], Way | None] = {}

    def govern(self, specs: tuple[tuple[str, Spec], ...]) -> None:
        self.specs = specs
        self._ways.clear()

    def destinations(self, address: Address, kind: Interaction | None = None) -> Iterator[str]:
        """Where requests for an address would wait, of any kind or of one."""
        name = address.tag(SERVICE_NAME) or address.tag(SUB) or ""
        if is_reserved(name or address.route):
            return
        for document, spec in self.specs:
            target = spec.target(name, address.route, kind)
            if target is not None:
                yield f"{document}/{target}"

    def find(self, interaction: int, metadata: bytes) -> Way | None:
        """Where such requests wait; None: they do not. Raises as `asked`."""
        way = self._ways.get((interaction, metadata), _UNKNOWN)
        return self._find(interaction, metadata) if way is _UNKNOWN else way  # type: ignore[return-value]

    def _find(self, interaction: int, metadata: bytes) -> Way | None:
        asked = self.asked(metadata)
        fnf = interaction == REQUEST_FNF
        kind = Interaction.FIRE_AND_FORGET if fnf else Interaction.REQUEST_RESPONSE
        way = None
        for document, spec in self.specs:
            target = spec.target(asked.name, asked.route, kind)
            if target is not None:
                offline = None if fnf else spec.queue_while_offline
                waits = offline is None or not offline.only_idempotent or asked.idempotent
                way = Way(asked, spec, f"{document}/{target}", None if offline is None else offline.ttl, waits)
                break
        if metadata in self._known:
            if len(self._ways) >= KNOWN:
                self._ways.clear()
            self._ways[interaction, metadata] = way
        return way

    def destination(self, document: str, metadata: bytes) -> str:
        """Where a document lets something wait, however it is asked. Raises NoRoute, and as `asked`."""
        asked = self.asked(metadata)
        spec = dict(self.specs).get(document)
        target = None if spec is None else spec.target(asked.name, asked.route)
        if target is None:
            text = f"no Spool document {document} that takes {asked.route or asked.name}"
            raise NoRoute(text, reason="spool_no_document")
        return f"{document}/{target}"

    def asked(self, metadata: bytes) -> Asked:
        """Raises FrameError, and RequestInvalid for what names nobody."""
        known = self._known.get(metadata)
        if known is None:
            deciding = Deciding(metadata, Form.COMPOSITE, _ANY_NUMBER)
            tags = decode_routing(deciding.routing) if deciding.routing is not None else ()
            broker = brokering.decode(deciding.broker) if deciding.broker is not None else None
            address = address_from(tags, broker if isinstance(broker, brokering.Address) else None)
            idempotent, post = _of_sender(metadata)
            name = address.tag(SERVICE_NAME) or address.tag(SUB) or ""
            known = Asked(name, address.route, address.tag("topic"), idempotent, post)
            if deciding.varying:
                return known
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[metadata] = known
        return known


def _of_sender(metadata: bytes) -> tuple[bool, tuple[int, int] | None]:
    """Whether it does no harm twice, and the epoch and number of a post."""
    idempotent, post = False, None
    for entry in iter_composite(metadata, 0, len(metadata)):
        if entry.mime == IDEMPOTENCY_KEY:
            idempotent = True
        elif entry.mime == POST:
            if entry.end - entry.content_start != _ID.size:
                raise RequestInvalid(f"a post's id has {_ID.size} bytes", reason="malformed_metadata")
            post = _ID.unpack_from(metadata, entry.content_start)
    return idempotent or post is not None, post
