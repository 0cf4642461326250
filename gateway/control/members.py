"""The nodes of the federation: who may link, what for, and whose devices' tokens are accepted here.

A member signs its own short-lived tokens with the key that it brought when it joined: to link as itself, and for the
devices that enrol with it. So nothing of it has to be renewed or stored elsewhere, and to remove it ends all of that.
What it may vouch for is bounded by the rights of its join token.

Members are told from node to node; of two versions of one member the later one holds. A member that was removed is kept
as removed. Knows no link.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.control import bearer, validation
from gateway.control.audit import SYSTEM, Actor
from gateway.control.changes import Change, Changes
from gateway.control.enrolments import PREFIX, Enrolment, Enrolments, NewEnrolment
from gateway.control.identity import Identity
from gateway.control.paging import Listing, flag
from gateway.control.registry import Registry
from gateway.control.table import Readable, Table, public
from gateway.errors import EnrolmentRefused, InvalidChange
from gateway.policy.access import Rights
from gateway.policy.access_list import IssuerBounds
from gateway.policy.principal import Kind
from gateway.policy.tokens import VerificationKey

EDGE, CENTRAL = "edge", "central"
ROLES: Final = (EDGE, CENTRAL)
#: What a member may vouch for: itself, and whoever enrols with it.
KINDS: Final = frozenset({Kind.DEVICE, Kind.SERVICE, Kind.USER, Kind.NODE})
JOIN_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Member:
    """`public_key`: Ed25519, raw, base64url. `urls`: where edges dial a central node, `peer_url` where its peers do.
    `services`, `routes`: what it and its devices may serve and call elsewhere. `updated_at`: Unix seconds."""

    id: str
    name: str
    role: str
    key_id: str
    public_key: str
    ca_pem: str
    urls: tuple[str, ...]
    peer_url: str
    services: tuple[str, ...]
    routes: tuple[str, ...]
    removed: bool
    updated_at: float
    version: int

    @property
    def issuer(self) -> str:
        return f"gateway:{self.id}"


_LISTING = Listing(
    "members", "id", {"id": "id", "name": "name", "role": "role"}, {"removed": flag("removed")}, ("id", "name")
)
#: What a node has from others, and forgets when it stands alone.
_OF_OTHERS = (
    "members",
    "refusals",
    "refusal_ledgers",
    "bundles",
    "bundle_nodes",
    "held_bundles",
    "bundle_documents",
)
_FIELDS = tuple(field.name for field in dataclasses.fields(Member))


class Members(Readable[Member]):
    """The members that one node knows, itself among them once it belongs to a federation."""

    ordered = "name"

    SORTS = tuple(_LISTING.sorts)

    def __init__(
        self,
        changes: Changes,
        registry: Registry,
        enrolments: Enrolments,
        identity: Identity,
        wall: Callable[[], float],
    ) -> None:
        self._changes = changes
        self._database = changes.database
        self._registry = registry
        self._enrolments = enrolments
        self._identity = identity
        self._wall = wall
        self._table = Table(Member, "node", _LISTING)
        self._known: dict[str, Member] = {}
        self._digest = 0
        #: Called when the members have changed.
        self.changed: Callable[[], None] = lambda: None

    def load(self, connection: sqlite3.Connection) -> list[Member]:
        return [self._table.of(row) for row in connection.execute("SELECT * FROM members")]

    def take_over(self, member: Member) -> None:
        """Go by this member as it is on disk."""
        before = self._known.get(member.id)
        self._known[member.id] = member
        self._digest ^= _hash(member) ^ (0 if before is None else _hash(before))
        if member.id != self._identity.node_id:
            if member.removed:
                self._registry.issuer(member.issuer, None)
            else:
                key = verification_key(member)
                bounds = IssuerBounds(KINDS, Rights(member.services, member.routes), frozenset({key.kid}))
                self._registry.issuer(member.issuer, bounds, (key,))
        self.changed()

    # What is known

    @property
    def own(self) -> Member | None:
        """This node as a member; None where it stands alone."""
        return self._known.get(self._identity.node_id)

    def find(self, node_id: str) -> Member | None:
        member = self._known.get(node_id)
        return None if member is None or member.removed else member

    def all(self) -> list[Member]:
        return sorted((member for member in self._known.values() if not member.removed), key=lambda each: each.name)

    def centrals(self) -> list[Member]:
        """The central nodes other than this one."""
        return [each for each in self.all() if each.role == CENTRAL and each.id != self._identity.node_id]

    def document(self) -> list[dict[str, Any]]:
        """All of them, as another member is told."""
        return [public(member) for member in self._known.values()]

    def digest(self, without: str) -> bytes:
        """What all of them but one come to: two nodes that leave out the same one compare it instead of all."""
        left_out = self._known.get(without)
        return f"={self._digest ^ (0 if left_out is None else _hash(left_out)):016x}".encode()

    def versions(self) -> dict[str, float]:
        """When each has changed last, those that were removed included."""
        return {member.id: member.updated_at for member in self._known.values()}

    # Changes

    def itself(self, name: str, role: str, urls: tuple[str, ...], peer_url: str) -> Member:
        """This node as it would tell others of itself."""
        identity = self._identity
        raw = identity.signing_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return Member(
            id=identity.node_id,
            name=name,
            role=role,
            key_id=identity.kid,
            public_key=base64.urlsafe_b64encode(raw).rstrip(b"=").decode(),
            ca_pem=identity.ca_path.read_text(),
            urls=urls,
            peer_url=peer_url,
            services=("*",),
            routes=("*",),
            removed=False,
            updated_at=self._wall(),
            version=1,
        )

    async def put(self, member: Member, *, by: Actor = SYSTEM) -> bool:
        """Know this member as it is here, where that is news. Returns whether it was. Raises InvalidChange."""
        checked(member)
        return await self._changes.make(by, "peer.put", lambda connection: self._put(connection, member))

    async def adopt(self, document: object, told_by: str) -> None:
        """Another member has told of all that it knows. What is malformed is left out."""
        for told in members_in(document):
            known = self._known.get(told.id)
            if told.id != self._identity.node_id and (known is None or known.updated_at < told.updated_at):
                await self.put(told, by=Actor("node", told_by))

    async def remove(self, node_id: str, *, by: Actor, dry_run: bool = False) -> Member:
        """End its membership: its links close, and nobody who enrolled with it is let in. Raises NotFound."""

        def work(connection: sqlite3.Connection) -> Change[Member]:
            old = self._table.get(connection, node_id)
            new = replace(old, removed=True, updated_at=self._wall(), version=old.version + 1)
            self._table.put(connection, new)
            then = None if dry_run else lambda: self.take_over(new)
            return Change(new, f"node:{node_id}", before=public(old), after=public(new), then=then)

        return await self._changes.make(by, "peer.remove", work, dry_run=dry_run, reserve=True)

    async def leave(self, *, by: Actor) -> Member:
        """Forget all members, this node among them, what they refuse and their bundles: for a node that is stopped,
        which stands alone at its next start. Raises NotFound: it does so already."""

        def work(connection: sqlite3.Connection) -> Change[Member]:
            own = self._table.get(connection, self._identity.node_id)
            for table in _OF_OTHERS:
                connection.execute(f"DELETE FROM {table}")
            return Change(own, f"node:{own.id}", before=public(own))

        return await self._changes.make(by, "peer.leave", work)

    async def invite(
        self,
        role: str,
        *,
        services: tuple[str, ...] = ("*",),
        routes: tuple[str, ...] = ("*",),
        uses: int = 1,
        ttl_s: float = JOIN_S,
        by: Actor,
        dry_run: bool = False,
    ) -> tuple[Enrolment, str]:
        """A one-time secret with which a node can join, shown this once. Raises InvalidChange."""
        if role not in ROLES:
            raise InvalidChange(f"a node is one of {', '.join(ROLES)}", "/role")
        new = NewEnrolment(kind=Kind.NODE, profile=role, services=services, routes=routes, uses=uses, ttl_s=ttl_s)
        return await self._enrolments.create(new, by=by, dry_run=dry_run)

    async def join(self, secret: str, document: object, *, by: Actor) -> Member:
        """Let a node in that holds a secret and says who it is.

        Raises:
            EnrolmentRefused: the secret is unknown, used up, expired or revoked.
            InvalidChange: what it says of itself is malformed; the secret is not used up by that.
        """
        said = next(iter(members_in({"members": [document]})), None)
        if said is None or said.id == self._identity.node_id:
            raise InvalidChange("a node that joins says its id, name, role, key and authority")
        parts = bearer.read(PREFIX, secret)

        def work(connection: sqlite3.Connection) -> Change[Member]:
            enrolment = self._enrolments.use_for_node(connection, parts)
            if said.role != enrolment.profile:
                raise EnrolmentRefused(f"this token is for a node of role {enrolment.profile}", reason="join_role")
            member = replace(
                said,
                services=enrolment.services,
                routes=enrolment.routes,
                removed=False,
                updated_at=self._wall(),
                version=1,
            )
            change = self._put(connection, member)
            return Change(member, change.object, after=change.after, then=change.then)

        return await self._changes.make(by, "peer.join", work)

    def _put(self, connection: sqlite3.Connection, member: Member) -> Change[bool]:
        old = self._table.find(connection, member.id)
        if old is not None and old.updated_at >= member.updated_at:
            return Change(False, f"node:{member.id}")
        if old is None:
            self._table.insert(connection, member)
        else:
            self._table.put(connection, replace(member, version=old.version + 1))
        return Change(True, f"node:{member.id}", after=public(member), then=lambda: self.take_over(member))


def _hash(member: Member) -> int:
    text = f"{member.id} {member.updated_at!r} {member.removed:d}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def verification_key(member: Member) -> VerificationKey:
    """Raises ValueError when the member's key is none."""
    text = member.public_key
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return VerificationKey(member.key_id, "EdDSA", Ed25519PublicKey.from_public_bytes(raw), member.issuer)


def checked(member: Member) -> Member:
    """Raises InvalidChange unless everything in it is what it should be."""
    validation.identifier(member.id, "/id")
    validation.text(member.name, "/name", most=255, empty=False)
    if member.role not in ROLES:
        raise InvalidChange(f"a node is one of {', '.join(ROLES)}", "/role")
    validation.patterns(member.services, "/services")
    validation.patterns(member.routes, "/routes")
    try:
        verification_key(member)
        if member.ca_pem:
            x509.load_pem_x509_certificate(member.ca_pem.encode())
    except ValueError as error:
        raise InvalidChange("its key or its authority cannot be read", "/public_key") from error
    for url in (*member.urls, member.peer_url):
        validation.text(url, "/urls", most=255)
    return member


def members_in(document: object) -> list[Member]:
    """The members in what another node has told; what is malformed is left out."""
    entries = document.get("members") if isinstance(document, dict) else None
    found = []
    for entry in entries if isinstance(entries, list) else ():
        try:
            values = {name: entry[name] for name in _FIELDS}
            for name in ("urls", "services", "routes"):
                values[name] = tuple(str(item) for item in values[name])
            values |= {"removed": bool(values["removed"]), "updated_at": float(values["updated_at"])}
            found.append(checked(Member(**values)))
        except (KeyError, TypeError, ValueError, InvalidChange):
            continue
    return found
