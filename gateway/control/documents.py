"""The documents of a node: validated before they are stored, stored before anybody acts by them.

Who acts by documents of a kind subscribes and is told all that stand, at the start and after every change.

A node of a federation has documents from a bundle, too (`held_bundles`). Of two of one kind and name that of the bundle
acts; the node's own one is kept, and acts again when the bundle has none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.control.audit import Actor
from gateway.control.changes import Change, Changes
from gateway.control.paging import Listing, Page, exactly
from gateway.control.table import Table
from gateway.documents.findings import Finding
from gateway.documents.model import Document, Site
from gateway.documents.validation import Examined, examine, examine_removal, examine_value, understand
from gateway.errors import InvalidDocument, StaleVersion

#: Of all kinds together: each is looked at when one changes.
MAX_DOCUMENTS = 1000


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """`body`: what was written."""

    id: str
    kind: str
    name: str
    body: dict[str, Any]
    created_at: float
    updated_at: float
    updated_by: str
    version: int


@dataclass(frozen=True, slots=True)
class StandingDocument(StoredDocument):
    """`origin`: local, or bundle, where `version` is that of the bundle. `shadows`: the node has one of its own of this
    kind and name, by which it does not act."""

    origin: str
    shadows: bool


@dataclass(frozen=True, slots=True)
class Applied:
    """`outcome`: created, changed or unchanged."""

    document: StoredDocument
    outcome: str


@dataclass(frozen=True, slots=True)
class Application:
    """What applying a text did; `warnings` keep nobody from it."""

    applied: tuple[Applied, ...]
    warnings: tuple[Finding, ...]


_OWN = Listing("documents", "id", {}, {}, ())
_LISTING = Listing(
    "all_documents",
    "id",
    {"id": "id", "updated_at": "updated_at"},
    {"kind": exactly("kind"), "origin": exactly("origin")},
    ("id", "body"),
)
Listener = Callable[[tuple[Document, ...]], None]


class Documents:
    """`site` says what documents are checked against; it is asked for each examination."""

    SORTS = tuple(_LISTING.sorts)

    def __init__(self, changes: Changes, wall: Callable[[], float], alarm: Callable[[str, str], None]) -> None:
        self.site: Callable[[], Site | None] = lambda: None
        self._changes = changes
        self._database = changes.database
        self._wall = wall
        self._alarm = alarm
        self._table = Table(StoredDocument, "document", _OWN)
        self._all = Table(StandingDocument, "document", _LISTING)
        self._own: dict[str, Document] = {}
        self._bundled: Mapping[str, Document] = {}
        self._standing: dict[str, Document] = {}
        self._listeners: dict[str, list[Listener]] = {}

    def load(self, connection: sqlite3.Connection) -> None:
        for row in connection.execute("SELECT * FROM documents"):
            stored = self._table.of(row)
            try:
                self._own[stored.id] = understand(stored.body)
            except ValueError as error:
                # Of a newer program, which has been replaced by this one: the others still hold.
                self._alarm("document_not_understood", f"{stored.id} is not acted by: {error}")
        self._standing = {**self._own, **self._bundled}

    @property
    def own(self) -> tuple[Document, ...]:
        """Those of this node alone, whether it acts by them or not."""
        return tuple(self._own.values())

    def all(self) -> tuple[Document, ...]:
        """Those by which it acts, of every kind."""
        return tuple(self._standing.values())

    def govern(self, bundled: Mapping[str, Document]) -> None:
        """Act by these documents of a bundle from now on, by their ids, and by none of another one."""
        before, self._bundled = self._bundled, bundled
        changed = {key for key in before.keys() | bundled.keys() if before.get(key) != bundled.get(key)}
        self._settle({key.partition("/")[0] for key in changed})

    def standing(self, kind: str) -> tuple[Document, ...]:
        """The documents of a kind, in the order in which they act: that of their names."""
        return tuple(sorted((each for each in self._standing.values() if each.kind == kind), key=lambda d: d.name))

    def subscribe(self, kind: str, listener: Listener) -> None:
        """Tell what stands, now and whenever that changes. It is called in the event loop and returns at once."""
        self._listeners.setdefault(kind, []).append(listener)
        listener(self.standing(kind))

    async def list(
        self,
        *,
        cursor: str | None = None,
        limit: int = 50,
        sort: str = "id",
        q: str | None = None,
        **filters: object,
    ) -> Page[StandingDocument]:
        return await self._database.read(lambda connection: self._all.page(connection, cursor, limit, sort, q, filters))

    async def get(self, kind: str, name: str) -> StandingDocument:
        """Raises NotFound."""
        return await self._database.read(lambda connection: self._all.get(connection, f"{kind}/{name}"))

    def examine(self, text: str) -> Examined:
        """What the validator says of a text, besides what stands and on this node."""
        return examine(text, self._standing.values(), self.site())

    async def apply(self, text: str, *, by: Actor, dry_run: bool = False) -> Application:
        """Store every document of a text, or none. One of the kind and name of another takes its place.

        Raises InvalidDocument with all that is wrong with them.
        """
        return await self._store(self.examine(text), by, {}, dry_run)

    async def put(
        self, kind: str, name: str, body: Mapping[str, Any], *, by: Actor, expect: int | None, dry_run: bool = False
    ) -> Application:
        """Store one. `expect`: the version of what it replaces, 0 for nothing, None for whatever stands.

        Raises InvalidDocument, StaleVersion.
        """
        value = {"kind": kind, "name": name, **body}
        examined = examine_value(value, self._standing.values(), self.site())
        if (value["kind"], value["name"]) != (kind, name):
            wrong = Finding("GW0103", f"it is {kind}/{name}, by its path", "/name")
            examined = Examined((), (wrong, *examined.findings))
        return await self._store(examined, by, {} if expect is None else {f"{kind}/{name}": expect}, dry_run)

    async def delete(
        self, kind: str, name: str, *, by: Actor, expect: int | None = None, dry_run: bool = False
    ) -> None:
        """Raises NotFound, StaleVersion, and InvalidDocument where others need it."""
        key = f"{kind}/{name}"
        if key in self._bundled:
            raise InvalidDocument((_bundled(key),))
        going = self._standing.get(key)
        if going is not None:
            needed = examine_removal(going, self._standing.values(), self.site())
            if needed:
                raise InvalidDocument(needed)

        def work(connection: sqlite3.Connection) -> Change[None]:
            old = self._table.get(connection, key, expect)
            self._table.delete(connection, key)
            return Change(None, f"document:{key}", before=old.body, then=lambda: self._changed((), (key,)))

        await self._changes.make(by, "document.delete", work, dry_run=dry_run, reserve=True)

    async def _store(self, examined: Examined, by: Actor, expected: Mapping[str, int], dry_run: bool) -> Application:
        bundled = [_bundled(document.id) for document in examined.documents if document.id in self._bundled]
        if bundled or not examined.good:
            raise InvalidDocument((*bundled, *examined.findings))
        added = {document.id for document in examined.documents} - self._standing.keys()
        if len(self._standing) + len(added) > MAX_DOCUMENTS:
            raise InvalidDocument((Finding("GW0103", f"a node has at most {MAX_DOCUMENTS} documents"),))

        def work(connection: sqlite3.Connection) -> Change[list[Applied]]:
            applied = [self._put(connection, document, by, expected) for document in examined.documents]
            before = {each.document.id: each.outcome for each in applied}
            bodies = {each.document.id: each.document.body for each in applied if each.outcome != "unchanged"}
            names = ", ".join(each.document.id for each in applied)
            return Change(
                applied,
                f"document:{names}"[:255],
                details={"outcome": before, "bodies": bodies},
                then=lambda: self._changed(examined.documents, ()),
            )

        applied = await self._changes.make(by, "document.apply", work, dry_run=dry_run)
        return Application(tuple(applied), tuple(finding for finding in examined.findings if finding.warning))

    def _put(
        self, connection: sqlite3.Connection, document: Document, by: Actor, expected: Mapping[str, int]
    ) -> Applied:
        now = self._wall()
        old = self._table.find(connection, document.id)
        standing = 0 if old is None else old.version
        wanted = expected.get(document.id, standing)
        if wanted != standing:
            raise StaleVersion(f"document {document.id!r} has changed: it has version {standing}, not {wanted}")
        if old is not None and old.body == document.body:
            return Applied(old, "unchanged")
        new = StoredDocument(
            id=document.id,
            kind=document.kind,
            name=document.name,
            body=document.body,
            created_at=now if old is None else old.created_at,
            updated_at=now,
            updated_by=by.id,
            version=standing + 1,
        )
        (self._table.insert if old is None else self._table.put)(connection, new)
        return Applied(new, "created" if old is None else "changed")

    def _changed(self, documents: Iterable[Document], gone: Iterable[str]) -> None:
        kinds = set()
        for document in documents:
            self._own[document.id] = document
            kinds.add(document.kind)
        for key in gone:
            if self._own.pop(key, None) is not None:
                kinds.add(key.partition("/")[0])
        self._settle(kinds)

    def _settle(self, kinds: Iterable[str]) -> None:
        self._standing = {**self._own, **self._bundled}
        for kind in kinds:
            standing = self.standing(kind)
            for listener in self._listeners.get(kind, ()):
                listener(standing)


def _bundled(key: str) -> Finding:
    return Finding("GW0194", "it comes from the bundle", document=key, fix="gateway bundle publish, on a central node")
