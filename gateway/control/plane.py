"""The control plane of one node: everything an operator sets up, durable, and the only part that changes it.

It never imports the data plane: what that has to know goes out as a `Publication`. `publish` is called in the event
loop, at the end of the turn in which something changed.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gateway.control.access_rules import AccessRules
from gateway.control.api_keys import ApiKey, ApiKeys
from gateway.control.archive import DATABASE
from gateway.control.attempts import Attempts
from gateway.control.audit import KEPT_S, Actor, Audit
from gateway.control.backups import Backups
from gateway.control.bundles import Bundles
from gateway.control.changes import Changes
from gateway.control.config_history import ConfigHistory
from gateway.control.credentials import Credentials
from gateway.control.device_configs import DeviceConfigs
from gateway.control.device_keys import DeviceProofs
from gateway.control.devices import Devices
from gateway.control.documents import Documents
from gateway.control.enrolments import Enrolments
from gateway.control.firmware import DIRECTORY, Firmwares
from gateway.control.fleets import Fleets
from gateway.control.held_bundles import HeldBundles
from gateway.control.idempotency import Idempotency
from gateway.control.identity import Identity
from gateway.control.issuers import Issuers
from gateway.control.members import Members
from gateway.control.refusals import Refusals
from gateway.control.registry import Publication, Registry
from gateway.control.revocations import Revocations
from gateway.control.roles import Action, Role, permits
from gateway.control.rollout_reports import RolloutReports
from gateway.control.rollouts import Rollouts
from gateway.control.sessions import Sessions
from gateway.control.users import User, Users
from gateway.errors import LoginRefused, StorageError
from gateway.storage.database import Database
from gateway.storage.images import Images
from gateway.storage.schema import Schema

#: "GWay" in ASCII.
APPLICATION_ID = 0x47576179
#: How often what is kept in memory is written, and what has ended is forgotten, in seconds.
FLUSH_S = 30.0
PRUNE_S = 3600.0
REFUSED = "this credential is not accepted"


def schema() -> Schema:
    return Schema.of_package(APPLICATION_ID, "gateway.control")


@dataclass(frozen=True, slots=True)
class Alarm:
    """What somebody must look at. `since`: Unix seconds."""

    slug: str
    text: str
    since: float


@dataclass(frozen=True, slots=True)
class Caller:
    """Who uses the admin API. `session_id`: the login; None for a key."""

    type: str
    id: str
    role: Role
    scopes: frozenset[str]
    session_id: str | None = None
    must_change_password: bool = False

    def may(self, scope: str, action: Action) -> bool:
        """Deny by default. Who has to change its password may do nothing else."""
        return not self.must_change_password and permits(self.role, self.scopes, scope, action)

    def actor(self, ip: str = "", request_id: str = "") -> Actor:
        return Actor(self.type, self.id, ip, request_id)


class ControlPlane:
    """Open with `ControlPlane.open`. Each noun is an attribute; see the classes."""

    def __init__(
        self,
        database: Database,
        identity: Identity,
        publish: Callable[[Publication], None],
        wall: Callable[[], float],
        access: AccessRules,
        alarm: Callable[[str, str], None],
        calm: Callable[[str], None],
    ) -> None:
        self.database = database
        self.identity = identity
        self.rules = access
        self.alarms: tuple[Alarm, ...] = ()
        self.raise_alarm = alarm
        self.calm = calm
        self._wall = wall
        self._tasks: list[asyncio.Task[None]] = []
        self.registry = Registry(identity.verification_keys(), publish, wall, registered_only=access.registered_only)
        self.audit = Audit(database, wall)
        changes = Changes(database, self.audit)
        attempts = Attempts(time.monotonic)
        self.attempts = attempts
        self.proofs = DeviceProofs(identity)
        self.revocations = Revocations(
            changes,
            self.registry,
            wall,
            own_issuer=identity.issuer,
            longest_s=lambda: self.rules.max_lifetime_s + self.rules.leeway_s + self.rules.renewal_grace_s,
        )
        self.devices = Devices(changes, self.registry, self.revocations, wall)
        self.credentials = Credentials(
            changes, self.registry, self.devices, identity, self.proofs, lambda: self.rules, wall
        )
        self.enrolments = Enrolments(changes, self.registry, self.audit, self.devices, self.credentials, identity, wall)
        self.fleets = Fleets(changes, self.audit, self.devices, self.enrolments, wall)
        self.device_configs = DeviceConfigs(changes, wall)
        images = Images(database.path.with_name(DIRECTORY))
        self.firmware = Firmwares(changes, self.audit, images, wall, alarm, calm)
        self.rollouts = Rollouts(changes, self.firmware, wall)
        self.reports = RolloutReports(
            database, self.audit, self.devices, self.credentials, self.proofs, self.firmware, self.rollouts, wall
        )
        self.refusals = Refusals(database, self.registry, wall)
        self.members = Members(changes, self.registry, self.enrolments, identity, wall)
        self.issuers = Issuers(changes, self.registry, wall, identity.issuer, alarm, calm)
        self.users = Users(changes, wall, self._user_changed)
        self.sessions = Sessions(changes, self.audit, self.users, identity, attempts, lambda: self.rules, wall)
        self.api_keys = ApiKeys(changes, wall)
        self.config_history = ConfigHistory(changes, wall)
        self.documents = Documents(changes, wall, alarm)
        self.bundles = Bundles(changes, self.members, identity, wall)
        self.held_bundles = HeldBundles(changes, self.documents, self.members, wall, alarm)
        self.idempotency = Idempotency(database, wall)
        self.backups = Backups(database, schema(), self.audit, identity.directory, wall)

    @classmethod
    async def open(
        cls,
        data: Path,
        identity: Identity,
        *,
        publish: Callable[[Publication], None] = lambda publication: None,
        alarm: Callable[[str, str], None] = lambda slug, text: None,
        wall: Callable[[], float] = time.time,
        access: AccessRules = AccessRules(),  # noqa: B008  (frozen)
        max_bytes: int = 1024 * 1024 * 1024,
    ) -> Self:
        """Open `<data>/gateway.db` and publish what is in it.

        Raises:
            StorageError: another process has it (`storage_locked`), or it cannot be used; see `Database.open`.
        """
        alarms: dict[str, Alarm] = {}
        opened: list[Self] = []

        def show() -> None:
            for control in opened:
                control.alarms = tuple(alarms.values())

        def raise_alarm(slug: str, text: str) -> None:
            if slug not in alarms:
                alarms[slug] = Alarm(slug, text, wall())
                alarm(slug, text)
                show()

        def calm(slug: str) -> None:
            if alarms.pop(slug, None) is not None:
                show()

        database = await Database.open(data / DATABASE, schema(), max_bytes=max_bytes, alarm=raise_alarm, calm=calm)
        try:
            control = cls(database, identity, publish, wall, access, raise_alarm, calm)
            opened.append(control)
            show()
            await database.read(control._load)
            await asyncio.to_thread(control.backups.tidy)
            control.registry.start()
            control._tasks.append(asyncio.create_task(control._keep_house(), name="control plane"))
            control._tasks.append(asyncio.create_task(control.issuers.keep_fresh(), name="issuers"))
        except BaseException:
            await database.close()
            raise
        return control

    @classmethod
    async def offline(cls, data: Path) -> Self:
        """The same for a command on a node that is stopped. Raises StorageError (`storage_locked`) when it runs."""
        return await cls.open(data, Identity.open(data))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Write what is left, and let go of the file."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self.registry.stop()
        try:
            await self._flush()
        except StorageError:
            # When a device was seen last is not worth a failed stop.
            pass
        await self.database.close()

    @property
    def now(self) -> float:
        """Unix seconds, by the clock that everything here goes by."""
        return self._wall()

    def govern(self, access: AccessRules) -> None:
        """Go by other settings from now on."""
        self.rules = access
        self.registry.govern(access.registered_only)

    async def authenticate(self, bearer: str, ip: str = "") -> Caller:
        """Who holds this API key or access token.

        Raises:
            LoginRefused: nobody.
            TooManyAttempts: too many came from this address that were not.
        """
        if bearer.startswith("gk_"):
            found = self.api_keys.authenticate(bearer)
            if found is not None:
                return _of_key(found)
        else:
            session = self.sessions.authenticate(bearer)
            if session is not None:
                return _of_user(*session)
        # Only now: whoever holds a credential is not locked out by others at its address. None of them can be guessed;
        # this is against whoever tries, and the log it would fill.
        key = f"ip:{ip}" if ip else ""
        self.attempts.check(key)
        self.attempts.failed(key)
        raise LoginRefused(REFUSED)

    def still(self, caller: Caller, bearer: str) -> Caller | None:
        """A caller as it stands now, for what goes on after it was let in; None when it is to end.

        An access token that has run out since is no matter, as long as its login stands.
        """
        if caller.type == "api_key":
            found = self.api_keys.authenticate(bearer)
            return None if found is None else _of_key(found)
        if caller.session_id is not None:
            user = self.sessions.standing(caller.id, caller.session_id)
            return None if user is None else _of_user(user, caller.session_id)
        return caller

    def seen(self, subject: str, now: float, firmware: str | None = None) -> None:
        """A device was here; written within half a minute."""
        self.devices.seen(subject, now, firmware)

    def _user_changed(self, name: str, user: User | None) -> None:
        self.sessions.user_changed(name, user)

    def _load(self, connection: sqlite3.Connection) -> None:
        for device in self.devices.load(connection):
            self.registry.device(device)
        for revocation in self.revocations.load(connection):
            self.revocations.take_over(revocation)
        for credential in self.credentials.load(connection):
            self.credentials.take_over(credential)
        for issuer in self.issuers.load(connection):
            self.issuers.take_over(issuer)
        for member in self.members.load(connection):
            self.members.take_over(member)
        self.refusals.load(connection)
        self.enrolments.load(connection)
        self.api_keys.load(connection)
        self.sessions.load(connection)
        self.documents.load(connection)
        self.bundles.load(connection)
        self.held_bundles.load(connection)

    async def _keep_house(self) -> None:
        pruned_at = float("-inf")
        while True:
            try:
                if time.monotonic() - pruned_at >= PRUNE_S:
                    pruned_at = time.monotonic()
                    await self._prune()
                await asyncio.sleep(FLUSH_S)
                await self._flush()
            except StorageError:
                # The database raises its own alarms; the next round tries again.
                await asyncio.sleep(FLUSH_S)

    async def _flush(self) -> None:
        await self.devices.write_seen()
        await self.api_keys.write_used()
        await self.rollouts.write_received()

    async def _prune(self) -> None:
        await self.revocations.prune()
        await self.credentials.prune(self._wall() - self.rules.renewal_grace_s - self.rules.max_lifetime_s)
        await self.sessions.prune()
        await self.rollouts.prune(self._wall() - KEPT_S)
        await self.audit.prune(self._wall() - KEPT_S)


def _of_key(key: ApiKey) -> Caller:
    return Caller("api_key", key.id, key.role, frozenset(key.scopes))


def _of_user(user: User, session_id: str) -> Caller:
    return Caller("user", user.name, user.role, frozenset(user.scopes), session_id, user.must_change_password)
