"""The bundles of a federation, as its central nodes have made them, and which node is to act by which one.

Every central node knows all of them, whoever made them, and what every node has said: any of them answers the same.
When more nodes than `max_failures` have rejected a bundle, or went back from it, nobody else is offered it. A bundle
that is aborted is followed by one with the documents of the last that was for all: versions only grow. Knows no link.
"""

from __future__ import annotations

import json
import sqlite3
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.control import validation
from gateway.control.audit import SYSTEM, Actor
from gateway.control.bundle_standing import FAILED, MAX_LABELS, Bundle, BundleNode, Standing
from gateway.control.changes import Change, Changes
from gateway.control.held_bundles import Parcel, verify
from gateway.control.identity import Identity
from gateway.control.members import CENTRAL, Members
from gateway.control.paging import Listing, Page, exactly
from gateway.control.rollout_steps import Phase
from gateway.control.table import Table, public
from gateway.documents.bundles import (
    MAX_COMMENT,
    MAX_TRIAL_S,
    Entry,
    Facts,
    Manifest,
    Source,
    contents,
    digest_of,
    key_of,
    parse,
    signed,
    sources,
    version_of,
)
from gateway.documents.findings import Finding
from gateway.documents.validation import examine_replacement
from gateway.errors import AlreadyExists, InvalidChange, InvalidDocument, NotFound, StaleVersion

#: Bundles that can be gone back to.
KEPT: Final = 100


@dataclass(frozen=True, slots=True)
class NewBundle:
    """`texts`: YAML or JSON. `labels`: each `key=value`, of the nodes that it is for. `trial_s`: how long a node
    watches itself after it has begun to act by it."""

    texts: Sequence[str]
    comment: str = ""
    labels: Sequence[str] = ()
    percentage: float = 100.0
    max_failures: int = 0
    trial_s: int = 60


@dataclass(frozen=True, slots=True)
class Changed:
    """One document in which two bundles differ; None where it is not in one of them."""

    document: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


_TABLE: Final = Table(
    Bundle,
    "bundle",
    Listing("bundles", "id", {"id": "id"}, {"state": exactly("state")}, ("comment", "documents", "made_by")),
)
_NODES: Final = Table(BundleNode, "node", Listing("bundle_nodes", "node", {"name": "name"}, {}, ("name", "labels")))
_REVISED: Final = (
    "labels",
    "percentage",
    "max_failures",
    "forgiven",
    "attempt",
    "state",
    "reason",
    "revision",
    "revised_by",
    "updated_at",
)


class Bundles(Standing):
    """The bundles that one central node knows, its own and those of its peers."""

    def __init__(self, changes: Changes, members: Members, identity: Identity, wall: Callable[[], float]) -> None:
        super().__init__(lambda node: members.find(node) is not None)
        #: Told when a bundle, or what a node says, has changed, and whether another node may be reached by that. Called
        #: in the loop.
        self.on_change: Callable[[bool], None] = lambda reach: None
        self._changes = changes
        self._database = changes.database
        self._members = members
        self._identity = identity
        self._wall = wall

    def load(self, connection: sqlite3.Connection) -> None:
        self.known = {row["id"]: _TABLE.of(row) for row in connection.execute("SELECT * FROM bundles ORDER BY id")}
        self.nodes = {row["node"]: _NODES.of(row) for row in connection.execute("SELECT * FROM bundle_nodes")}

    # What is known

    async def list(self, *, cursor: str | None = None, limit: int = 50, q: str | None = None) -> Page[Bundle]:
        return await self._database.read(lambda connection: _TABLE.page(connection, cursor, limit, "-id", q))

    async def list_nodes(self, *, cursor: str | None = None, limit: int = 50, q: str | None = None) -> Page[BundleNode]:
        return await self._database.read(lambda connection: _NODES.page(connection, cursor, limit, "name", q))

    async def documents(self, number: int) -> dict[str, dict[str, Any]]:
        """The documents of a bundle by id, with their `nodes`. Raises NotFound."""
        manifest, bodies = await self._stored(self.get(number).id)
        found = contents(manifest.entries, bodies.values())
        for entry in manifest.entries:
            if entry.nodes is not None:
                found[entry.id]["nodes"] = entry.nodes.written
        return found

    async def diff(self, before: int, after: int) -> tuple[Changed, ...]:
        """Raises NotFound."""
        old, new = await self.documents(before), await self.documents(after)
        names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        return tuple(Changed(name, old.get(name), new.get(name)) for name in names)

    async def parcel(self, bundle: Bundle, node: Facts | None) -> Parcel:
        """A bundle as it goes to a node, or to another central. Raises NotFound."""
        manifest, bodies = await self._stored(bundle.id)
        entries = manifest.entries if node is None else manifest.entries_for(node)
        wanted = {entry.digest: bodies[entry.digest] for entry in entries}
        return Parcel(manifest.text, bundle.signature, tuple(wanted.values()), bundle.attempt)

    # What operators do

    async def publish(self, new: NewBundle, *, by: Actor, dry_run: bool = False) -> tuple[Bundle, tuple[Finding, ...]]:
        """Make a bundle of documents, and offer it. Raises InvalidDocument, InvalidChange, NotAllowed."""
        found, findings = sources(new.texts)
        findings += self._examined(found)
        if any(not finding.warning for finding in findings):
            findings.sort(key=lambda finding: finding.warning)
            raise InvalidDocument(findings)
        bodies = {digest_of(source.text): source.text for source in found}
        entries = tuple(sorted((_entry(source) for source in found), key=lambda entry: entry.id))
        bundle = await self._make(entries, bodies, new, by, "bundle.publish", dry_run)
        return bundle, tuple(findings)

    async def roll_back(self, number: int, *, by: Actor, dry_run: bool = False) -> Bundle:
        """Make a bundle with the documents of another one, for all nodes. Raises NotFound."""
        manifest, bodies = await self._stored(self.get(number).id)
        new = NewBundle((), f"rollback to {number}", trial_s=manifest.trial_s)
        return await self._make(manifest.entries, bodies, new, by, "bundle.publish", dry_run)

    async def update(
        self,
        number: int,
        *,
        percentage: float | None,
        max_failures: int | None,
        by: Actor,
        expect: int | None,
        dry_run: bool = False,
    ) -> Bundle:
        """Raises NotFound, StaleVersion, AlreadyExists."""
        values: dict[str, Any] = {}
        if percentage is not None:
            values["percentage"] = _percentage(percentage)
        if max_failures is not None:
            values["max_failures"] = int(validation.number(max_failures, "/max_failures", 0, 1_000_000))
        return await self._revise(number, "bundle.update", by, expect, dry_run, **values)

    async def pause(self, number: int, *, by: Actor, dry_run: bool = False) -> Bundle:
        """Offer it to no further node. Raises NotFound, AlreadyExists."""
        values = {"state": Phase.PAUSED, "reason": f"by {by.id}"}
        return await self._revise(number, "bundle.pause", by, None, dry_run, **values)

    async def resume(self, number: int, *, retry: bool = False, by: Actor, dry_run: bool = False) -> Bundle:
        """Let it go on; failures until now are forgiven. `retry`: offer it to nodes that failed again.

        Raises NotFound, AlreadyExists.
        """
        old = self.get(number)
        attempt = old.attempt + retry
        forgiven = 0 if retry else self.failures(old)
        values = {"state": Phase.RUNNING, "reason": "", "attempt": attempt, "forgiven": forgiven}
        return await self._revise(number, "bundle.resume", by, None, dry_run, **values)

    async def abort(self, number: int, *, by: Actor, dry_run: bool = False) -> tuple[Bundle, Bundle]:
        """End it for good, and make one of the documents that held for all before it: an empty one where there were
        none. Returns both. Raises NotFound, AlreadyExists."""
        old = self.get(number)
        values = {"state": Phase.ABORTED, "reason": f"by {by.id}"}
        aborted = await self._revise(number, "bundle.abort", by, None, dry_run, **values)
        good = self.good_before(old.id)
        entries: tuple[Entry, ...] = ()
        bodies: dict[str, str] = {}
        if good is not None:
            manifest, bodies = await self._stored(good.id)
            entries = manifest.entries
        new = NewBundle((), f"instead of {number}, which was aborted")
        return aborted, await self._make(entries, bodies, new, by, "bundle.publish", dry_run)

    # What other nodes say

    def knows(self, key: str) -> tuple[int, str]:
        """How far it knows a bundle of another central."""
        bundle = self.known.get(key)
        return (0, "") if bundle is None else bundle.stand

    def told(self, key: str) -> dict[str, Any]:
        """What may change of a bundle, as another central is told."""
        bundle = self.known[key]
        return {name: public(bundle)[name] for name in _REVISED}

    async def adopt(self, parcel: Parcel, said: Mapping[str, Any], told_by: str) -> None:
        """Another central has told of a bundle. Raises FederationError, ValueError, KeyError, TypeError."""
        manifest = verify(self._members, parcel.text, parcel.signature)
        if manifest.key in self.known:
            await self.adopt_revision(manifest.key, said, told_by)
            return
        contents(manifest.entries, parcel.bodies)
        bundle = _revised(_of(manifest, parcel.signature), said)
        bodies = {digest_of(body): body for body in parcel.bodies}
        by = Actor("node", told_by)
        await self._changes.make(
            by, "bundle.adopt", lambda connection: self._insert(connection, bundle, manifest, bodies)
        )

    async def adopt_revision(self, key: str, said: Mapping[str, Any], told_by: str) -> None:
        """Another central has told how a bundle stands. Raises as `adopt`."""
        old = self.known.get(key)
        if old is None:
            return
        new = _revised(old, said)
        if new.stand > old.stand:
            await self._changes.make(
                Actor("node", told_by), "bundle.update", lambda connection: self._put(connection, old, new)
            )

    async def heard(self, said: BundleNode) -> None:
        """A node has said how it stands, or another central has told of that. Raises StorageError."""
        old = self.nodes.get(said.node)
        if not self.is_here(said.node) or (old is not None and old.said >= said.said):
            return
        self.nodes[said.node] = said

        def work(connection: sqlite3.Connection) -> Change[None]:
            _NODES.delete(connection, said.node)
            _NODES.insert(connection, said)
            details = {"node": said.name, "state": said.state, "reason": said.reason}
            return Change(None, f"bundle:{version_of(said.tried)}", details=details)

        is_new = old is None or old.labels != said.labels
        if is_new:
            self.reach_changed()
        has_failed = said.state in FAILED and (old is None or (old.tried, old.state) != (said.tried, said.state))
        if has_failed:
            await self._changes.make(Actor("node", said.name), "bundle.fail", work, reserve=True)
        else:
            await self._database.write(work, reserve=True)
        self.on_change(is_new)
        bundle = self.known.get(said.tried)
        if bundle is not None and said.state in FAILED and bundle.state is Phase.RUNNING:
            count = self.failures(bundle)
            if count - bundle.forgiven > bundle.max_failures:
                reason = f"{count} of its nodes have failed; the last one, {said.name}: {said.reason}"
                values = {"state": Phase.PAUSED, "reason": reason[:1000]}
                await self._revise(bundle.number, "bundle.pause", SYSTEM, None, False, **values)

    async def members_changed(self) -> None:
        """Forget what nodes have said that are none any more. Raises StorageError."""
        self.reach_changed()
        gone = [node for node in self.nodes if not self.is_here(node)]
        for node in gone:
            del self.nodes[node]
        if gone:
            await self._database.write(
                lambda connection: connection.executemany(
                    "DELETE FROM bundle_nodes WHERE node = ?", [(node,) for node in gone]
                ),
                reserve=True,
            )

    # Making and changing

    def _examined(self, found: Sequence[Source]) -> Iterable[Finding]:
        """What the validator says of the documents that would be together on a node: on any that is known here, and on
        one that gets nothing but what is for all."""
        sets = {tuple(at for at, source in enumerate(found) if source.nodes is None): ""}
        for said in self.nodes.values():
            mine = tuple(at for at, source in enumerate(found) if source.nodes is None or source.nodes.fit(said.facts))
            sets.setdefault(mine, said.name)
        # Those that are for a node that is not known yet, each by itself.
        missing = set(range(len(found))).difference(*sets)
        sets |= {(at,): "" for at in missing}
        findings: dict[Finding, None] = {}
        names = [source.id for source in found]
        for name in sorted({name for name in names if names.count(name) > 1}):
            findings[Finding("GW0104", f"{name} is there twice", "", name)] = None
        for mine in sets:
            examined = examine_replacement([found[at].raw for at in mine], (), ())
            findings |= dict.fromkeys(examined.findings)
        return findings

    async def _make(
        self,
        entries: tuple[Entry, ...],
        bodies: Mapping[str, str],
        new: NewBundle,
        by: Actor,
        action: str,
        dry_run: bool,
    ) -> Bundle:
        own = self._members.own
        if own is None or own.role != CENTRAL:
            raise AlreadyExists("bundles are made on central nodes: `gateway central init`", reason="not_central")
        labels = _labels(new.labels)
        comment = validation.text(new.comment, "/comment", most=MAX_COMMENT)
        percentage = _percentage(new.percentage)
        failures = int(validation.number(new.max_failures, "/max_failures", 0, 1_000_000))
        trial = int(validation.number(new.trial_s, "/trial_s", 0, MAX_TRIAL_S))

        def work(connection: sqlite3.Connection) -> Change[Bundle]:
            (last,) = connection.execute("SELECT max(number) FROM bundles").fetchone()
            # A centre that was restored from a backup does not use a version again that nodes have had.
            seen = [version_of(each) for said in self.nodes.values() for each in (said.active, said.tried)]
            version = max([last or 0, *seen]) + 1
            made_at = int(self._wall() * 1000)
            manifest = Manifest(version, own.id, made_at, by.id, comment, trial, entries)
            signature = urlsafe_b64encode(self._identity.signing_key.sign(signed(manifest.text)))
            bundle = replace(
                _of(manifest, signature.rstrip(b"=").decode()),
                labels=labels,
                percentage=percentage,
                max_failures=failures,
                updated_at=self._wall(),
            )
            return self._insert(connection, bundle, manifest, bodies)

        return await self._changes.make(by, action, work, dry_run=dry_run)

    def _insert(
        self, connection: sqlite3.Connection, bundle: Bundle, manifest: Manifest, bodies: Mapping[str, str]
    ) -> Change[Bundle]:
        if _TABLE.find(connection, bundle.id) is not None:
            return Change(bundle, _object(bundle))
        _TABLE.insert(connection, bundle, manifest=manifest.text, bodies=json.dumps(dict(bodies)))
        ids = [row[0] for row in connection.execute("SELECT id FROM bundles ORDER BY id DESC")]
        good = self.good_before()
        gone = [old for old in ids[KEPT:] if good is None or old != good.id]
        connection.executemany("DELETE FROM bundles WHERE id = ?", [(old,) for old in gone])

        def then() -> None:
            self.known[bundle.id] = bundle
            for old in gone:
                self.known.pop(old, None)
            self._changed()

        return Change(bundle, _object(bundle), after=_audited(bundle), then=then)

    async def _revise(
        self, number: int, action: str, by: Actor, expect: int | None, dry_run: bool, **values: Any
    ) -> Bundle:
        def work(connection: sqlite3.Connection) -> Change[Bundle]:
            old = _TABLE.get(connection, self.get(number).id)
            if expect is not None and old.revision != expect:
                raise StaleVersion(f"bundle {number} has changed: it has revision {old.revision}, not {expect}")
            if old.state is Phase.ABORTED:
                raise AlreadyExists(f"bundle {number} is aborted: publish another one", reason="bundle_aborted")
            own = self._identity.node_id
            new = replace(old, **values, revision=old.revision + 1, revised_by=own, updated_at=self._wall())
            return self._put(connection, old, new)

        return await self._changes.make(by, action, work, dry_run=dry_run, reserve=True)

    def _put(self, connection: sqlite3.Connection, old: Bundle, new: Bundle) -> Change[Bundle]:
        _TABLE.put(connection, new)

        def then() -> None:
            self.known[new.id] = new
            self._changed()

        return Change(new, _object(new), before=_audited(old), after=_audited(new), then=then)

    def _changed(self) -> None:
        self.reach_changed()
        self.on_change(True)

    async def _stored(self, key: str) -> tuple[Manifest, dict[str, str]]:
        row = await self._database.read(
            lambda connection: connection.execute(
                "SELECT manifest, bodies FROM bundles WHERE id = ?", (key,)
            ).fetchone()
        )
        if row is None:
            raise NotFound(f"bundle {version_of(key)} is not kept any more")
        return parse(row["manifest"]), json.loads(row["bodies"])


def _entry(source: Source) -> Entry:
    return Entry(source.id, digest_of(source.text), source.nodes)


def _of(manifest: Manifest, signature: str) -> Bundle:
    return Bundle(
        id=key_of(manifest.version, manifest.maker),
        number=manifest.version,
        maker=manifest.maker,
        made_at=manifest.made_at / 1000,
        made_by=manifest.made_by,
        comment=manifest.comment,
        digest=digest_of(manifest.text),
        signature=signature,
        documents=tuple(entry.id for entry in manifest.entries),
        labels=(),
        percentage=100.0,
        max_failures=0,
        forgiven=0,
        attempt=0,
        state=Phase.RUNNING,
        reason="",
        revision=1,
        revised_by=manifest.maker,
        updated_at=manifest.made_at / 1000,
    )


def _revised(bundle: Bundle, said: Mapping[str, Any]) -> Bundle:
    """Raises ValueError, KeyError, TypeError, InvalidChange."""
    return replace(
        bundle,
        labels=_labels(said["labels"]),
        percentage=_percentage(said["percentage"]),
        max_failures=int(said["max_failures"]),
        forgiven=int(said["forgiven"]),
        attempt=int(said["attempt"]),
        state=Phase(said["state"]),
        reason=str(said["reason"])[:1000],
        revision=int(said["revision"]),
        revised_by=str(said["revised_by"])[:64],
        updated_at=float(said["updated_at"]),
    )


def _percentage(value: object) -> float:
    share = validation.number(value, "/percentage", 0, 100)
    if not share:
        raise InvalidChange("a percentage is above 0: pause it to reach nobody", "/percentage")
    return share


def _labels(values: Iterable[str]) -> tuple[str, ...]:
    labels = validation.texts(list(values), "/labels")
    if len(labels) > MAX_LABELS or not all(0 < label.find("=") < len(label) for label in labels):
        raise InvalidChange("a label of a node is name=value", "/labels")
    return labels


def _object(bundle: Bundle) -> str:
    return f"bundle:{bundle.number}"


def _audited(bundle: Bundle) -> dict[str, Any]:
    return {name: value for name, value in public(bundle).items() if name not in ("signature", "documents")}
