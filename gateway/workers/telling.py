"""What the data plane goes by, told by a node's first process to the others: publications as messages, by difference.

A publication is large and changes by little. `Teller` sends what differs from what a worker has been told, in messages
of at most `A_MESSAGE` entries, and lets others have their turn between them; changes that come meanwhile go together.
`Hearer` is the other end. Secrets with which nodes join are not told: that is done at the first process. Those with
which devices enrol are, as hexadecimal digests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from gateway.control.registry import Publication
from gateway.errors import WorkerError
from gateway.policy.access import Rights
from gateway.policy.access_list import AccessList, IssuerBounds, Refused, Registered
from gateway.policy.principal import Kind
from gateway.policy.tokens import VerificationKey
from gateway.workers.channel import Channel, Message

#: Entries of one message; some milliseconds of work at either end.
A_MESSAGE: Final = 1000

_NOTHING: Final = Publication(AccessList(), ())
Row = list[Any]


def differences(before: Publication, after: Publication) -> Iterator[Row]:
    """What has changed, as rows `[table, key]` for what is gone and `[table, key, value…]` for what is there now."""
    old, new = before.access, after.access
    if after.subjects is not None:
        # Nobody else's record can have changed.
        changed = iter([key for key in after.subjects if old.devices.get(key) != new.devices.get(key)])
    else:
        changed = _differing(old.devices, new.devices)
    for key in changed:
        yield ["device", key, *_device(new.devices[key])] if key in new.devices else ["device", key]
    for table, was, now in (("token", old.tokens, new.tokens), ("subject", old.subjects, new.subjects)):
        for key in _differing(was, now):
            yield [table, key, now[key]] if key in now else [table, key]
    for key in _differing(old.enrolling, new.enrolling):
        digest, ends_at = new.enrolling.get(key, (b"", 0.0))
        yield ["enrolling", key, digest.hex(), ends_at] if digest else ["enrolling", key]
    for key in _differing(old.issuers, new.issuers):
        yield ["issuer", key, *_issuer(new.issuers[key])] if key in new.issuers else ["issuer", key]
    for key in _differing(old.elsewhere, new.elsewhere) if old.elsewhere is not new.elsewhere else ():
        yield ["elsewhere", *key, new.elsewhere.get(key, ())]
    if old.keys != new.keys:
        yield from (["revoked", *key, False] for key in old.keys - new.keys)
        yield from (["revoked", *key, True] for key in new.keys - old.keys)


def _differing(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> Iterator[Any]:
    changed = (key for key, value in after.items() if before.get(key) is not value and before.get(key) != value)
    return chain(changed, (key for key in before if key not in after))


def _device(device: Registered) -> Row:
    rights = device.rights
    return [device.kind, device.enabled, device.groups, device.labels, rights.services, rights.routes]


def _issuer(issuer: IssuerBounds) -> Row:
    return [sorted(issuer.kinds), issuer.rights.services, issuer.rights.routes, sorted(issuer.key_ids)]


class Teller:
    """Tells one worker what holds, from the beginning."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._told = _NOTHING
        self._next: Publication | None = None
        self._subjects: frozenset[str] | None = frozenset()
        self._news = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._tell(), name="worker publications")

    def stop(self) -> None:
        self._task.cancel()

    def publish(self, publication: Publication) -> None:
        """This holds from now on."""
        everybody = publication.subjects is None or self._subjects is None
        self._subjects = None if everybody else (self._subjects or frozenset()) | (publication.subjects or frozenset())
        self._next = publication
        self._news.set()

    async def _tell(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            publication, subjects = self._next, self._subjects
            assert publication is not None
            self._subjects = frozenset()
            now = Publication(publication.access, publication.keys, subjects)
            try:
                changed = differences(self._told, now)
                while rows := list(islice(changed, A_MESSAGE)):
                    self._channel.send("rows", rows=rows)
                    await asyncio.sleep(0)
                    await self._channel.room()
            except WorkerError:
                return
            self._channel.send("holds", **_rest(now))
            self._told = now


def _rest(publication: Publication) -> dict[str, Any]:
    return {
        "own_issuer": publication.access.own_issuer,
        "registered_only": publication.access.registered_only,
        "keys": [[key.kid, key.algorithm, _pem(key), key.issuer] for key in publication.keys],
        "judge": None if publication.subjects is None else list(publication.subjects),
    }


def _pem(key: VerificationKey) -> str:
    return key.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class Hearer:
    """What a worker has been told. `hold` is given each publication that is complete."""

    def __init__(self, hold: Callable[[Publication], None]) -> None:
        self._hold = hold
        self._devices: dict[str, Registered] = {}
        self._tokens: dict[str, float] = {}
        self._subjects: dict[str, float] = {}
        self._issuers: dict[str, IssuerBounds] = {}
        self._enrolling: dict[str, tuple[bytes, float]] = {}
        self._elsewhere: dict[tuple[str, str], tuple[Refused, ...]] = {}
        self._revoked: set[tuple[str, str]] = set()
        self._keys: dict[tuple[str, str, str, str], VerificationKey] = {}

    def take(self, message: Message) -> None:
        """One message of a teller."""
        if message["is"] == "rows":
            for table, key, *value in message["rows"]:
                self._take(table, key, value)
            return
        known, self._keys = self._keys, {}
        for kid, algorithm, pem, issuer in message["keys"]:
            name = (kid, algorithm, pem, issuer)
            # Keys are compared by who they are: each is made once.
            self._keys[name] = known.get(name) or VerificationKey(
                kid,
                algorithm,
                load_pem_public_key(pem.encode()),  # type: ignore[arg-type]
                issuer,
            )
        access = AccessList(
            devices=dict(self._devices),
            tokens=dict(self._tokens),
            keys=frozenset(self._revoked),
            subjects=dict(self._subjects),
            issuers=dict(self._issuers),
            enrolling=dict(self._enrolling),
            elsewhere=dict(self._elsewhere),
            own_issuer=message["own_issuer"],
            registered_only=message["registered_only"],
        )
        judge = message["judge"]
        self._hold(Publication(access, tuple(self._keys.values()), None if judge is None else frozenset(judge)))

    def _take(self, table: str, key: str, value: Row) -> None:
        if table == "revoked":
            key_id, revoked = value
            (self._revoked.add if revoked else self._revoked.discard)((key, key_id))
        elif table == "elsewhere":
            refused, rows = value
            self._set(self._elsewhere, (key, refused), tuple(Refused(*row) for row in rows) or None)
        elif table == "device":
            self._set(self._devices, key, _registered(*value) if value else None)
        elif table == "enrolling":
            self._set(self._enrolling, key, (bytes.fromhex(value[0]), value[1]) if value else None)
        elif table == "issuer":
            self._set(self._issuers, key, _bounds(*value) if value else None)
        else:
            self._set(self._tokens if table == "token" else self._subjects, key, value[0] if value else None)

    @staticmethod
    def _set(table: dict[Any, Any], key: object, value: object) -> None:
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value


def _registered(
    kind: str, enabled: bool, groups: list[str], labels: list[list[str]], services: list[str], routes: list[str]
) -> Registered:
    pairs = tuple((name, text) for name, text in labels)
    return Registered(Kind(kind), enabled, tuple(groups), pairs, Rights(tuple(services), tuple(routes)))


def _bounds(kinds: list[str], services: list[str], routes: list[str], key_ids: list[str]) -> IssuerBounds:
    return IssuerBounds(frozenset(map(Kind, kinds)), Rights(tuple(services), tuple(routes)), frozenset(key_ids))
