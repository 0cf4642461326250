"""The bundles that this node was given, and which of them it acts by (docs/adr/0025).

    received → validated → active → replaced
                      ↘ rejected  ↘ rolled_back

Each step is on disk before the next one is taken, and that to `active` is one transaction: whatever ends the process,
the node acts by one whole bundle that its own validator has found good, and goes on from the step that was done. The
one that it acted by before stays whole on disk until the next one has taken its place.
"""

from __future__ import annotations

import json
import sqlite3
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.control.audit import SYSTEM
from gateway.control.changes import Change, Changes
from gateway.control.documents import Documents, StoredDocument
from gateway.control.members import CENTRAL, Members, verification_key
from gateway.control.paging import Listing, Page
from gateway.control.table import Table
from gateway.documents.bundles import Facts, Manifest, contents, digest_of, parse, signed, version_of
from gateway.documents.canonical import canonical
from gateway.documents.model import Document
from gateway.documents.reading import Raw
from gateway.documents.validation import Examined, examine_replacement, understand
from gateway.errors import FederationError

#: Bundles of which it is remembered what came of them.
KEPT: Final = 50
MAX_REASON: Final = 1000
#: A node that dies so often in the trial of a bundle acts by the one before.
DEATHS: Final = 2
RUNNING, INTERRUPTED = "running", "interrupted"


class HeldState(StrEnum):
    RECEIVED = "received"
    VALIDATED = "validated"
    ACTIVE = "active"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled_back"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Held:
    """`documents`: their ids. `attempt`: how often it was offered anew. `trial`: running, interrupted by an orderly
    stop, or empty. `at`: of the last step, Unix seconds."""

    id: str
    attempt: int
    state: HeldState
    reason: str
    trial: str
    deaths: int
    digest: str
    documents: tuple[str, ...]
    at: float

    @property
    def number(self) -> int:
        return version_of(self.id)

    @property
    def place(self) -> tuple[str, int]:
        return self.id, self.attempt


@dataclass(frozen=True, slots=True)
class Parcel:
    """A bundle as it is sent: `text` is the manifest, `signature` base64url, `bodies` the documents for one node."""

    text: str
    signature: str
    bodies: tuple[str, ...]
    attempt: int = 0

    def document(self) -> dict[str, Any]:
        return {"manifest": self.text, "signature": self.signature, "documents": self.bodies, "attempt": self.attempt}


def parcel_in(said: Any) -> Parcel:
    """Raises ValueError."""
    fields = ("manifest", "signature", "documents", "attempt")
    text, signature, bodies, attempt = (said.get(name) for name in fields)
    shaped = isinstance(text, str) and isinstance(signature, str) and isinstance(bodies, list)
    if not shaped or not all(isinstance(body, str) for body in bodies) or type(attempt) is not int:
        raise ValueError("no bundle")
    return Parcel(text, signature, tuple(bodies), attempt)


def verify(members: Members, text: str, signature: str) -> Manifest:
    """The manifest, if a central node of this federation has made it. Raises FederationError."""
    try:
        manifest = parse(text)
    except ValueError as error:
        raise FederationError(f"the manifest cannot be read: {error}", reason="bundle_malformed") from error
    maker = members.find(manifest.maker)
    if maker is None or maker.role != CENTRAL:
        raise FederationError("it was made by no central node of this federation", reason="bundle_maker")
    key = verification_key(maker).key
    assert isinstance(key, Ed25519PublicKey)
    try:
        key.verify(urlsafe_b64decode(signature + "=="), signed(text))
    except (InvalidSignature, ValueError) as error:
        raise FederationError("the signature is not that of its maker", reason="bundle_signature") from error
    return manifest


_TABLE: Final = Table(Held, "bundle", Listing("held_bundles", "id", {"id": "id"}, {}, ("id",)))

_SHOWN: Final = Table(StoredDocument, "document", Listing("bundle_documents", "id", {}, {}, ()))


class HeldBundles:
    """`active`: what the node acts by. `last`: the newest that it has had."""

    def __init__(
        self,
        changes: Changes,
        documents: Documents,
        members: Members,
        wall: Callable[[], float],
        alarm: Callable[[str, str], None],
    ) -> None:
        #: Told after each step, once it is on disk.
        self.on_step: Callable[[Held], None] = lambda held: None
        self.active: Held | None = None
        self.last: Held | None = None
        self._changes = changes
        self._database = changes.database
        self._documents = documents
        self._members = members
        self._wall = wall
        self._alarm = alarm
        self._manifest: Manifest | None = None

    # What a start finds

    def load(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute("SELECT * FROM held_bundles ORDER BY id DESC").fetchall()
        if rows:
            self.last = _TABLE.of(rows[0])
        active = next((row for row in rows if row["state"] == HeldState.ACTIVE), None)
        if active is None:
            return
        for row in (active, *(row for row in rows if row["state"] == HeldState.REPLACED and row["bodies"])):
            held = _TABLE.of(row)
            try:
                self._manifest, documents = _whole(row, held)
            except ValueError as error:
                self._alarm("bundle_damaged", f"bundle {held.number} is damaged on disk and not acted by: {error}")
                continue
            self.active = held
            understood: dict[str, Document] = {}
            for name, body in documents.items():
                try:
                    understood[name] = understand(body)
                except ValueError as error:
                    self._alarm("document_not_understood", f"{name} is not acted by: {error}")
            self._documents.govern(understood)
            return

    async def resume(self) -> Held | None:
        """This process is the node from now on. A trial in which the node has died begins anew; one in which it has
        died before is lost. Returns what has not come to its end yet, if there is such a one. Raises StorageError."""
        active = self.active
        if active is not None and active.trial:
            deaths = active.deaths + (active.trial == RUNNING)
            if deaths >= DEATHS:
                await self.roll_back(f"the node has died {deaths} times while it was on trial")
            else:
                await self._mark(RUNNING, deaths)
        last = self.last
        return last if last is not None and last.state in (HeldState.RECEIVED, HeldState.VALIDATED) else None

    # What it has

    @property
    def trial_s(self) -> float:
        """How long the trial of the active one lasts."""
        return 0.0 if self._manifest is None else float(self._manifest.trial_s)

    def is_whole(self, node: Facts) -> bool:
        """Whether it has the documents that are for it, by what it is called and labelled now."""
        if self._manifest is None or self.active is None:
            return True
        return {entry.id for entry in self._manifest.entries_for(node)} == set(self.active.documents)

    def place(self, node: Facts) -> tuple[str, int]:
        """How far it has been given bundles: key and attempt of the newest."""
        return self.last.place if self.last is not None and self.is_whole(node) else ("", 0)

    async def list(self, *, cursor: str | None = None, limit: int = 50) -> Page[Held]:
        """What came of those that it was given, newest first."""
        return await self._database.read(lambda connection: _TABLE.page(connection, cursor, limit, "-id"))

    # Steps

    def check(self, parcel: Parcel, node: Facts) -> tuple[Manifest, dict[str, Any]]:
        """The documents of a bundle that are for this node. Raises FederationError: it is not what a central node has
        made, or not newer than what there is; nothing is kept of it."""
        manifest = verify(self._members, parcel.text, parcel.signature)
        again = not self.is_whole(node)
        here = "" if self.active is None else self.active.id
        newest = ("", 0) if self.last is None else self.last.place
        place = (manifest.key, parcel.attempt)
        if (manifest.key < here or place < newest) if again else (manifest.key <= here or place <= newest):
            raise FederationError(
                f"bundle {manifest.version} is older than what this node has had", reason="bundle_old"
            )
        try:
            return manifest, contents(manifest.entries_for(node), parcel.bodies)
        except ValueError as error:
            raise FederationError(str(error), reason="bundle_contents") from error

    async def receive(self, parcel: Parcel, manifest: Manifest, documents: Mapping[str, Any]) -> Held:
        """Put on disk what `check` has let through. Raises StorageError."""
        held = Held(
            id=manifest.key,
            attempt=parcel.attempt,
            state=HeldState.RECEIVED,
            reason="",
            trial="",
            deaths=0,
            digest=digest_of(parcel.text),
            documents=tuple(documents),
            at=self._wall(),
        )
        if self.active is not None and self.active.id == held.id:
            # Its documents for this node have changed, because the node has another name or labels.
            return held
        wanted = {entry.digest for entry in manifest.entries if entry.id in documents}
        bodies = [body for body in parcel.bodies if digest_of(body) in wanted]

        def work(connection: sqlite3.Connection) -> Held:
            _TABLE.delete(connection, held.id)
            hidden = {"manifest": parcel.text, "signature": parcel.signature, "bodies": json.dumps(bodies)}
            return _TABLE.insert(connection, held, **hidden)

        return await self._database.write(work, committed=self._taken)

    def examine(self, documents: Mapping[str, Any]) -> Examined:
        """What the validator says of them on this node, in place of those of the bundle before."""
        raws = [Raw(body) for body in documents.values()]
        kept = [document for document in self._documents.own if document.id not in documents]
        return examine_replacement(raws, self._documents.all(), kept, self._documents.site())

    async def validated(self, held: Held) -> Held:
        """Raises StorageError."""
        return await self._step(replace(held, state=HeldState.VALIDATED, at=self._wall()))

    async def reject(self, held: Held, reason: str) -> Held:
        """Raises StorageError."""
        new = replace(held, state=HeldState.REJECTED, reason=reason[:MAX_REASON], at=self._wall())

        def work(connection: sqlite3.Connection) -> Change[Held]:
            connection.execute("UPDATE held_bundles SET bodies = '' WHERE id = ?", (new.id,))
            _TABLE.put(connection, new)
            return Change(new, _object(new), details={"reason": new.reason}, then=lambda: self._taken(new))

        return await self._changes.make(SYSTEM, "bundle.reject", work, reserve=True)

    async def stored(self, held: Held) -> tuple[Manifest, dict[str, Any]]:
        """The manifest and documents of one that was received. Raises ValueError when they are damaged."""
        row = await self._database.read(
            lambda connection: connection.execute("SELECT * FROM held_bundles WHERE id = ?", (held.id,)).fetchone()
        )
        if row is None:
            raise ValueError("it is not there any more")
        return _whole(row, held)

    async def activate(self, held: Held, manifest: Manifest, documents: tuple[Document, ...], *, trial: bool) -> Held:
        """Act by it. Raises StorageError; then the node acts by what it did before."""
        before = self.active
        new = replace(held, state=HeldState.ACTIVE, trial=RUNNING if trial else "", deaths=0, at=self._wall())
        by_id = {document.id: document for document in documents}

        def work(connection: sqlite3.Connection) -> Change[Held]:
            if before is not None and before.id != new.id:
                # Only the one before is whole on disk: what the node goes back to.
                connection.execute("UPDATE held_bundles SET bodies = '' WHERE state = 'replaced'")
                connection.execute(
                    "UPDATE held_bundles SET state = 'replaced', trial = '', at = ? WHERE id = ?", (new.at, before.id)
                )
            _TABLE.put(connection, new)
            if before is not None and before.id == new.id:
                bodies = json.dumps([canonical(each.body) for each in documents])
                connection.execute("UPDATE held_bundles SET bodies = ? WHERE id = ?", (bodies, new.id))
            _fill(connection, manifest, documents)
            connection.execute(
                "DELETE FROM held_bundles WHERE state IN ('replaced', 'rejected', 'rolled_back') AND bodies = '' AND "
                "id NOT IN (SELECT id FROM held_bundles ORDER BY id DESC LIMIT ?)",
                (KEPT,),
            )

            def then() -> None:
                self.active, self._manifest = new, manifest
                self._documents.govern(by_id)
                self._taken(new)

            number = None if before is None else before.number
            details = {"before": number, "documents": list(by_id)[:100]}
            return Change(new, _object(new), details=details, then=then)

        return await self._changes.make(SYSTEM, "bundle.activate", work)

    async def roll_back(self, reason: str) -> Held:
        """Act by the bundle before, or by none where there was none. Raises StorageError."""
        gone = self.active
        assert gone is not None
        new = replace(gone, state=HeldState.ROLLED_BACK, reason=reason[:MAX_REASON], trial="", at=self._wall())

        def work(connection: sqlite3.Connection) -> Change[Held]:
            connection.execute("UPDATE held_bundles SET bodies = '' WHERE id = ?", (new.id,))
            _TABLE.put(connection, new)
            row = connection.execute(
                "SELECT * FROM held_bundles WHERE state = 'replaced' AND bodies <> '' ORDER BY id DESC LIMIT 1"
            ).fetchone()
            held, manifest, documents = self._good(row, new.at)
            if held is not None:
                _TABLE.put(connection, held)
            _fill(connection, manifest, documents)

            def then() -> None:
                self.active, self._manifest = held, manifest
                self._documents.govern({document.id: document for document in documents})
                self._taken(new)

            details = {"reason": new.reason, "after": None if held is None else held.number}
            return Change(new, _object(new), details=details, then=then)

        return await self._changes.make(SYSTEM, "bundle.roll_back", work, reserve=True)

    def _good(self, row: sqlite3.Row | None, at: float) -> tuple[Held | None, Manifest | None, tuple[Document, ...]]:
        """The bundle before, as it is to be acted by again; nothing where it is damaged."""
        if row is None:
            return None, None, ()
        held = replace(_TABLE.of(row), state=HeldState.ACTIVE, trial="", at=at)
        try:
            manifest, bodies = _whole(row, held)
            return held, manifest, tuple(map(understand, bodies.values()))
        except ValueError:
            return None, None, ()

    async def passed(self) -> None:
        """The trial is over, and nothing got worse. Raises StorageError."""
        await self._mark("", 0)

    async def interrupted(self) -> None:
        """The node ends in order while it is on trial. Raises StorageError."""
        if self.active is not None and self.active.trial:
            await self._mark(INTERRUPTED, self.active.deaths)

    async def _mark(self, trial: str, deaths: int) -> None:
        assert self.active is not None
        new = replace(self.active, trial=trial, deaths=deaths)
        await self._database.write(lambda connection: _TABLE.put(connection, new), reserve=True)
        self.active = new

    async def _step(self, new: Held) -> Held:
        await self._database.write(
            lambda connection: _TABLE.put(connection, new), reserve=True, committed=lambda _: self._taken(new)
        )
        return new

    def _taken(self, held: Held) -> None:
        if self.last is None or self.last.id <= held.id:
            self.last = held
        self.on_step(held)


def _whole(row: sqlite3.Row, held: Held) -> tuple[Manifest, dict[str, Any]]:
    """Raises ValueError unless it is as it was signed."""
    if digest_of(row["manifest"]) != held.digest:
        raise ValueError("its manifest is another one than was checked")
    manifest = parse(row["manifest"])
    entries = [entry for entry in manifest.entries if entry.id in held.documents]
    return manifest, contents(entries, json.loads(row["bodies"] or "[]"))


def _fill(connection: sqlite3.Connection, manifest: Manifest | None, documents: tuple[Document, ...]) -> None:
    """Show these as the documents that the bundle has for this node."""
    connection.execute("DELETE FROM bundle_documents")
    if manifest is not None:
        at, by = manifest.made_at / 1000, manifest.made_by
        for each in documents:
            shown = StoredDocument(each.id, each.kind, each.name, each.body, at, at, by, manifest.version)
            _SHOWN.insert(connection, shown)


def _object(held: Held) -> str:
    return f"bundle:{held.number}"
