"""Tokens that the nodes of the federation refuse, and how each learns of it.

Every node keeps a ledger of what it refuses itself: tokens that were revoked or rotated away, subjects, keys, devices
that are disabled. Each entry has a number that only grows. Ledgers are told from node to node; who has heard of one up
to a number is told what came since. What a node said before it was started anew counts until it has said all of it
again. A node that was cut off goes by what it has heard, also after a restart: it is on disk.

Whose tokens an entry means: a central node's operators speak for the federation, an edge for those that it issued.
Knows no link.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.control.registry import Registry
from gateway.policy.access_list import DEVICE, REFUSAL_KINDS, SUBJECT, Refused
from gateway.storage.database import Database

#: Entries that are kept of one node; the oldest make room.
MAX_ENTRIES: Final = 65_536
MAX_OF_EDGE: Final = 4_096
#: Entries that were lifted and are still told; with more the ledger is begun anew.
MAX_LIFTED: Final = 4_096
MAX_VALUE: Final = 512
#: How far the bases of two lives of a process are apart at least: it begins its ledger anew fewer times.
LIFE: Final = 1 << 20

#: Kind, value, and the issuer of the tokens that are meant; empty: any.
Key = tuple[str, str, str]


class Entry(NamedTuple):
    """`at`: Unix seconds: when a token ends, before when a subject's tokens were issued. None: lifted."""

    base: int
    number: int
    at: float | None


@dataclass(slots=True)
class Ledger:
    """What one node refuses. `base`: when its process began, in Unix milliseconds, and more than ever before.
    `number`: of the last entry. `whole`: everything since `base` is here; older entries count until it is."""

    base: int = 0
    number: int = 0
    whole: bool = False
    entries: dict[Key, Entry] = field(default_factory=dict)

    def since(self, base: int, number: int) -> list[tuple[Key, Entry]]:
        """What somebody lacks who knows it up to there, in order."""
        known = number if base == self.base else 0
        news = [(key, entry) for key, entry in self.entries.items() if entry.base == self.base and entry.number > known]
        return sorted(news, key=lambda pair: pair[1].number)


Listener = Callable[[str], None]


class Refusals:
    """The ledgers of all nodes, this one's among them once `begin` was called. `dropped`: entries that had to make
    room. `listeners` are told which node's ledger has changed."""

    def __init__(self, database: Database, registry: Registry, wall: Callable[[], float]) -> None:
        self._database = database
        self._registry = registry
        self._wall = wall
        self.ledgers: dict[str, Ledger] = {}
        self.listeners: list[Listener] = []
        self.dropped = 0
        self._own = ""
        self._lifted = 0

    def load(self, connection: sqlite3.Connection) -> None:
        for row in connection.execute("SELECT * FROM refusal_ledgers"):
            self.ledgers[row["node"]] = Ledger(row["base"], row["number"], bool(row["whole"]))
        for row in connection.execute("SELECT * FROM refusals"):
            ledger = self.ledgers.get(row["node"])
            if ledger is not None:
                key = (row["kind"], row["value"], row["issuer"])
                ledger.entries[key] = Entry(row["base"], row["number"], row["at"])
        self._apply(())

    async def begin(self, node_id: str, issuer: str, *, central: bool) -> None:
        """Keep a ledger of what this node refuses itself, from now on. `issuer`: of its tokens."""
        before = self.ledgers.get(node_id, Ledger())
        self.ledgers[node_id] = Ledger(base=max(int(self._wall() * 1000), before.base + LIFE), whole=True)
        self._own = node_id
        self._lifted = 0

        def scoped(kind: str, value: str, whose: str | None) -> Key | None:
            # None: an operator has said so, of whomever's tokens.
            said = ("" if central else issuer) if whose is None else whose
            return (kind, value, said) if central or said == issuer else None

        def changed(kind: str, value: str, whose: str | None, at: float | None) -> None:
            key = scoped(kind, value, whose)
            if key is not None:
                self._note(key, at)

        for kind, value, whose, at in self._registry.refusals():
            changed(kind, value, whose, at)
        self._registry.on_refusal = changed
        self._tell(node_id)
        await self._store(node_id, ())

    def known(self) -> dict[str, tuple[int, int]]:
        """How far this node has heard those of which it has heard anything: base and number."""
        return {
            node: (ledger.base, ledger.number if ledger.whole else 0)
            for node, ledger in self.ledgers.items()
            if node != self._own and ledger.entries
        }

    async def hear(
        self, node: str, base: int, entries: Iterable[tuple[int, Key, float | None]], *, whole: bool, edge: bool
    ) -> None:
        """What another node has told of the ledger of `node`, which may be its own. It counts at once, and is then
        stored. Raises StorageError."""
        ledger = self.ledgers.setdefault(node, Ledger())
        if node == self._own or base < ledger.base:
            return
        if base > ledger.base:
            ledger.base, ledger.number, ledger.whole = base, 0, False
        heard: list[Key] = []
        for number, key, at in entries:
            if number > ledger.number:
                ledger.number = number
                ledger.entries[key] = Entry(base, number, at)
                heard.append(key)
        gone: list[Key] = []
        if whole and not ledger.whole:
            ledger.whole = True
            gone = [key for key, entry in ledger.entries.items() if entry.base != base]
        most = MAX_OF_EDGE if edge else MAX_ENTRIES
        if len(ledger.entries) - len(gone) > most:
            oldest = sorted(ledger.entries, key=lambda key: (ledger.entries[key].base, ledger.entries[key].number))
            gone = list({*gone, *oldest[: len(oldest) - most]})
            self.dropped += 1
        for key in gone:
            del ledger.entries[key]
        if heard or gone:
            self._apply([*heard, *gone])
        self._tell(node)
        await self._store(node, [*heard, *gone])

    async def forget(self, node: str) -> None:
        """A node is no member any more: none of its tokens is accepted anyway."""
        ledger = self.ledgers.pop(node, None)
        if ledger is not None:
            self._apply(ledger.entries)

            def work(connection: sqlite3.Connection) -> None:
                connection.execute("DELETE FROM refusals WHERE node = ?", (node,))
                connection.execute("DELETE FROM refusal_ledgers WHERE node = ?", (node,))

            await self._database.write(work, reserve=True)

    def _note(self, key: Key, at: float | None) -> None:
        ledger = self.ledgers[self._own]
        before = ledger.entries.get(key)
        if (before is None and at is None) or (before is not None and before.at == at):
            return
        ledger.number += 1
        # Behind all others: the first is the oldest.
        ledger.entries.pop(key, None)
        ledger.entries[key] = Entry(ledger.base, ledger.number, at)
        self._lifted += (at is None) - (before is not None and before.at is None)
        if self._lifted > MAX_LIFTED:
            self._anew(ledger)
            self._lifted = 0
        elif len(ledger.entries) > MAX_ENTRIES:
            oldest = ledger.entries.pop(next(iter(ledger.entries)))
            self._lifted -= oldest.at is None
            self.dropped += 1
        self._tell(self._own)

    @staticmethod
    def _anew(ledger: Ledger) -> None:
        """Tell all of it again, without what was lifted."""
        standing = [(key, entry.at) for key, entry in ledger.entries.items() if entry.at is not None]
        ledger.base += 1
        ledger.number = len(standing)
        ledger.entries = {key: Entry(ledger.base, number, at) for number, (key, at) in enumerate(standing, 1)}

    def _tell(self, node: str) -> None:
        for listener in list(self.listeners):
            listener(node)

    def _apply(self, changed: Iterable[Key]) -> None:
        found: dict[tuple[str, str], list[Refused]] = {}
        for node, ledger in self.ledgers.items():
            if node == self._own:
                continue
            for (kind, value, issuer), entry in ledger.entries.items():
                if entry.at is not None:
                    found.setdefault((kind, value), []).append(Refused(issuer, entry.at))
        touched = list(changed)
        by_subject = all(kind in (SUBJECT, DEVICE) for kind, _, _ in touched)
        self._registry.refused_elsewhere(
            {key: tuple(refused) for key, refused in found.items()},
            {value for _, value, _ in touched} if by_subject else None,
        )

    async def _store(self, node: str, keys: Iterable[Key]) -> None:
        ledger = self.ledgers[node]
        head = (node, ledger.base, ledger.number, int(ledger.whole))
        rows = [(node, *key, *ledger.entries[key]) for key in keys if key in ledger.entries]
        gone = [(node, *key) for key in keys if key not in ledger.entries]

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO refusal_ledgers VALUES (?, ?, ?, ?)", head)
            connection.executemany(
                "DELETE FROM refusals WHERE node = ? AND kind = ? AND value = ? AND issuer = ?", gone
            )
            connection.executemany(
                "INSERT OR REPLACE INTO refusals (node, kind, value, issuer, base, number, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

        await self._database.write(work, reserve=True)


def entries_in(document: object) -> list[tuple[int, Key, float | None]]:
    """The entries in what another node has told. Raises ValueError."""
    if not isinstance(document, list):
        raise ValueError("no list of refusals")
    found = []
    for said in document:
        if not isinstance(said, list) or len(said) != 5:
            raise ValueError("no refusal")
        number, kind, value, issuer, at = said
        texts = isinstance(kind, str) and isinstance(value, str) and isinstance(issuer, str)
        if not texts or kind not in REFUSAL_KINDS or len(value) > MAX_VALUE or len(issuer) > MAX_VALUE:
            raise ValueError("no refusal")
        if not isinstance(number, int) or not isinstance(at, int | float | None):
            raise ValueError("no refusal")
        found.append((number, (kind, value, issuer), None if at is None else float(at)))
    return found
