"""Other issuers whose tokens are accepted, within bounds: which kinds of principal, which rights.

An issuer's keys are given, or fetched from its JWKS URL and fetched again every five minutes, so that a key that it
removes is dead within ten (fault 58). While it cannot be reached its last keys hold, for a day. A token with an unknown
key id makes the sets be fetched sooner, at most once in half a minute however many such tokens come (fault 57). The
data plane never waits for any of this: it goes by what was published last.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gateway.control import jwks, validation
from gateway.control.audit import SYSTEM, Actor
from gateway.control.changes import Change, Changes
from gateway.control.paging import Listing, flag
from gateway.control.registry import Registry
from gateway.control.table import Readable, Table, public
from gateway.errors import AlreadyExists, InvalidChange, StorageError
from gateway.policy.access import Rights
from gateway.policy.access_list import IssuerBounds
from gateway.policy.principal import Kind
from gateway.policy.tokens import VerificationKey

if TYPE_CHECKING:
    import httpx

REFRESH_S = 300.0
STALE_S = 86_400.0
#: Between two fetches of one set, whatever asks for them.
FLOOR_S = 30.0
#: How often a fetch that changed nothing is put on disk: how old the keys are must outlive a restart.
NOTED_S = 3600.0
KINDS = frozenset({Kind.DEVICE, Kind.SERVICE, Kind.USER})


@dataclass(frozen=True, slots=True)
class Issuer:
    """`issuer`: the `iss` of its tokens. `keys`: its JWK set as it is known now. `error`: why the last fetch failed."""

    id: str
    issuer: str
    jwks_url: str | None
    keys: dict[str, Any]
    kinds: tuple[Kind, ...]
    services: tuple[str, ...]
    routes: tuple[str, ...]
    enabled: bool
    fetched_at: float | None
    error: str
    created_at: float
    updated_at: float
    version: int

    @property
    def key_ids(self) -> tuple[str, ...]:
        return tuple(str(key["kid"]) for key in self.keys.get("keys", ()))


@dataclass(frozen=True, slots=True)
class NewIssuer:
    """Either `jwks_url` or `keys`, a JWK set."""

    issuer: str
    jwks_url: str | None = None
    keys: Mapping[str, Any] | None = None
    kinds: Sequence[Kind] = (Kind.DEVICE,)
    services: Sequence[str] = ("*",)
    routes: Sequence[str] = ("*",)
    enabled: bool = True


_LISTING = Listing(
    "issuers",
    "id",
    {"issuer": "issuer", "created_at": "created_at", "id": "id"},
    {"enabled": flag("enabled")},
    ("issuer", "jwks_url"),
)


def _kinds(value: object) -> tuple[Kind, ...]:
    return tuple(
        validation.member(Kind, entry, f"/kinds/{at}", KINDS)
        for at, entry in enumerate(validation.texts(value, "/kinds"))
    )


_CHECKS: dict[str, Callable[[Any], object]] = {
    "jwks_url": lambda value: None if value is None else jwks.checked_url(value),
    "keys": lambda value: value,
    "kinds": _kinds,
    "services": lambda value: validation.patterns(value, "/services"),
    "routes": lambda value: validation.patterns(value, "/routes"),
    "enabled": lambda value: validation.flag(value, "/enabled"),
}


class Issuers(Readable[Issuer]):
    """The trusted issuers of one control plane. `alarm` and `calm` as for a database."""

    ordered = "issuer"

    SORTS = tuple(_LISTING.sorts)

    def __init__(
        self,
        changes: Changes,
        registry: Registry,
        wall: Callable[[], float],
        own_issuer: str,
        alarm: Callable[[str, str], None],
        calm: Callable[[str], None],
    ) -> None:
        self._changes = changes
        self._database = changes.database
        self._registry = registry
        self._wall = wall
        self._own_issuer = own_issuer
        self._alarm = alarm
        self._calm = calm
        self._table = Table(Issuer, "issuer", _LISTING)
        self._known: dict[str, Issuer] = {}
        self._asked_at: dict[str, float] = {}
        self._http: httpx.AsyncClient | None = None
        self._wanted = asyncio.Event()
        self._sooner = False
        self._stale: set[str] = set()

    def load(self, connection: sqlite3.Connection) -> list[Issuer]:
        return [self._table.of(row) for row in connection.execute("SELECT * FROM issuers")]

    async def create(self, new: NewIssuer, *, by: Actor, dry_run: bool = False) -> Issuer:
        """Trust an issuer. One with a URL has no keys until the first fetch. Raises AlreadyExists, InvalidChange."""
        name = validation.text(new.issuer, "/issuer", most=255, empty=False)
        if name == self._own_issuer:
            raise InvalidChange("this node needs no trust in itself", "/issuer")
        values: dict[str, Any] = {field: check(getattr(new, field)) for field, check in _CHECKS.items()}
        values["keys"] = _set_of(values["jwks_url"], values["keys"], name)

        def work(connection: sqlite3.Connection) -> Change[Issuer]:
            if connection.execute("SELECT 1 FROM issuers WHERE issuer = ?", (name,)).fetchone() is not None:
                raise AlreadyExists(f"there is an issuer {name!r} already")
            now = self._wall()
            issuer = Issuer(
                id=secrets.token_hex(8),
                issuer=name,
                **values,
                fetched_at=None,
                error="",
                created_at=now,
                updated_at=now,
                version=1,
            )
            self._table.insert(connection, issuer)
            return Change(issuer, f"issuer:{issuer.id}", after=public(issuer), then=lambda: self._changed(issuer))

        return await self._changes.make(by, "issuer.create", work, dry_run=dry_run)

    async def update(
        self,
        issuer_id: str,
        changes: Mapping[str, object],
        *,
        by: Actor,
        expect: int | None = None,
        dry_run: bool = False,
    ) -> Issuer:
        """Change bounds, keys, URL or enabled; live connections are judged again. Raises NotFound, StaleVersion,
        InvalidChange."""
        validation.only(changes, _CHECKS)
        values: dict[str, Any] = {field: _CHECKS[field](value) for field, value in changes.items()}

        def work(connection: sqlite3.Connection) -> Change[Issuer]:
            old = self._table.get(connection, issuer_id, expect)
            new = replace(old, **values, updated_at=self._wall(), version=old.version + 1)
            if "keys" in values or "jwks_url" in values:
                keys = _set_of(new.jwks_url, values.get("keys"), new.issuer)
                new = replace(new, keys=keys, fetched_at=None, error="")
            self._table.put(connection, new)
            return Change(
                new,
                f"issuer:{issuer_id}",
                before=public(old),
                after=public(new),
                then=lambda: self._changed(new),
            )

        return await self._changes.make(by, "issuer.update", work, dry_run=dry_run, reserve=True)

    async def delete(self, issuer_id: str, *, by: Actor, expect: int | None = None, dry_run: bool = False) -> None:
        """Trust it no longer: its tokens are refused, their connections closed. Raises NotFound, StaleVersion."""

        def work(connection: sqlite3.Connection) -> Change[None]:
            old = self._table.get(connection, issuer_id, expect)
            self._table.delete(connection, issuer_id)
            return Change(None, f"issuer:{issuer_id}", before=public(old), then=lambda: self._gone(old))

        await self._changes.make(by, "issuer.delete", work, dry_run=dry_run, reserve=True)

    async def refresh(self, issuer_id: str) -> Issuer:
        """Fetch its keys now, at most once in half a minute. Raises NotFound; a failed fetch is in `error`."""
        issuer = await self.get(issuer_id)
        if issuer.jwks_url is not None and self._may_ask(issuer.id):
            await self._fetch(issuer)
        return await self.get(issuer_id)

    def unknown_key(self) -> None:
        """A token came with a key id that nobody has: an issuer may have a new key. Costs next to nothing."""
        if not self._sooner:
            self._sooner = True
            self._wanted.set()

    def error_of(self, issuer_id: str) -> str:
        """Why its keys could not be fetched last; empty when they could."""
        issuer = self._known.get(issuer_id)
        return "" if issuer is None else issuer.error

    def take_over(self, issuer: Issuer) -> None:
        """Tell the registry of an issuer as it is on disk."""
        self._known[issuer.id] = issuer
        if not issuer.enabled:
            self._registry.issuer(issuer.issuer, None)
            return
        keys: tuple[VerificationKey, ...] = ()
        if issuer.key_ids and not self._is_stale(issuer):
            keys, _ = jwks.public_keys(issuer.keys, issuer.issuer)
        bounds = IssuerBounds(
            frozenset(issuer.kinds), Rights(issuer.services, issuer.routes), frozenset(key.kid for key in keys)
        )
        self._registry.issuer(issuer.issuer, bounds, keys)

    # Fetching

    async def keep_fresh(self) -> None:
        """Fetch what is due, for ever."""
        try:
            while True:
                self._wanted.clear()
                fetched = [issuer for issuer in self._known.values() if issuer.jwks_url and issuer.enabled]
                due = [issuer for issuer in fetched if self._is_due(issuer)]
                # Whoever was asked a moment ago is asked again when that is allowed.
                self._sooner = self._sooner and any(not self._may_ask(issuer.id) for issuer in fetched)
                await asyncio.gather(*(self._fetch(issuer) for issuer in due))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._wanted.wait()
        finally:
            if self._http is not None:
                await self._http.aclose()

    def _pause(self) -> float:
        """Seconds until something may be due."""
        now = time.monotonic()
        asked = [self._asked_at.get(issuer.id, now) for issuer in self._known.values() if issuer.jwks_url]
        return max(min(asked, default=now) + FLOOR_S - now, 0.1) if self._sooner else FLOOR_S

    def _is_due(self, issuer: Issuer) -> bool:
        age = time.monotonic() - self._asked_at.get(issuer.id, float("-inf"))
        return self._may_ask(issuer.id) and (self._sooner or bool(issuer.error) or age >= REFRESH_S)

    def _may_ask(self, issuer_id: str) -> bool:
        return time.monotonic() - self._asked_at.get(issuer_id, float("-inf")) >= FLOOR_S

    def _is_stale(self, issuer: Issuer) -> bool:
        return issuer.jwks_url is not None and self._wall() - (issuer.fetched_at or 0.0) > STALE_S

    async def _fetch(self, issuer: Issuer) -> None:
        assert issuer.jwks_url is not None
        self._asked_at[issuer.id] = time.monotonic()
        slug = f"jwks_failed:{issuer.issuer}"
        try:
            if self._http is None:
                self._http = await jwks.client()
            document = await jwks.fetch(self._http, issuer.jwks_url)
            _, keys = jwks.public_keys(document, issuer.issuer)
        except (ValueError, InvalidChange) as error:
            self._alarm(slug, f"{issuer.jwks_url}: {error}; the keys of {issuer.issuer} hold for a day at most")
            await self._note(issuer, None, str(error))
            if self._is_stale(issuer) and issuer.id not in self._stale:
                self._stale.add(issuer.id)
                self.take_over(self._known.get(issuer.id, issuer))
        else:
            self._calm(slug)
            self._stale.discard(issuer.id)
            await self._note(issuer, keys, "")

    async def _note(self, fetched: Issuer, keys: dict[str, Any] | None, error: str) -> None:
        """Take over what a fetch brought; on disk where it matters after a restart."""
        now = self._wall()
        issuer = self._known.get(fetched.id)
        if issuer is None or issuer.jwks_url != fetched.jwks_url:  # it was changed meanwhile
            return
        new = replace(issuer, error=error[:255])
        if keys is not None:
            new = replace(new, keys=keys, fetched_at=now)
        if new.keys == issuer.keys and new.error == issuer.error and now - (issuer.fetched_at or 0.0) < NOTED_S:
            return

        def work(connection: sqlite3.Connection) -> Change[None]:
            old = self._table.get(connection, issuer.id)
            current = replace(old, keys=new.keys, fetched_at=new.fetched_at, error=new.error)
            self._table.put(connection, current)
            details = {"key_ids": current.key_ids, "error": current.error}
            return Change(None, f"issuer:{issuer.id}", details=details, then=lambda: self.take_over(current))

        try:
            await self._changes.make(SYSTEM, "issuer.refresh", work)
        except StorageError:
            # What was fetched counts although it cannot be kept: a removed key must die on a full disk, too.
            self.take_over(new)

    def _changed(self, issuer: Issuer) -> None:
        self._asked_at.pop(issuer.id, None)
        self.take_over(issuer)
        self._wanted.set()

    def _gone(self, issuer: Issuer) -> None:
        self._known.pop(issuer.id, None)
        self._asked_at.pop(issuer.id, None)
        self._calm(f"jwks_failed:{issuer.issuer}")
        self._registry.issuer(issuer.issuer, None)


def _set_of(url: str | None, keys: object, issuer: str) -> dict[str, Any]:
    """The JWK set to begin with."""
    if (url is None) == (keys is None):
        raise InvalidChange("an issuer has either a JWKS URL or keys", "/keys")
    return {} if keys is None else jwks.public_keys(keys, issuer)[1]
