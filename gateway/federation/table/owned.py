"""Which keys this central keeps in the engine, and which of them differ there: state, not a log of changes.

Pure: `due` says what to write now, `written` and `failed` how it went, `told` what the engine has. Whatever the engine
loses is dirty again as soon as a watch or a snapshot shows it. An outage of a day leaves one write for each key.
"""

from __future__ import annotations

import math
from random import Random
from typing import NamedTuple

from gateway.federation.table import names
from gateway.federation.table.records import RECORD_S

#: A change is written after so long, with what has come meanwhile; but the same key no more often than that.
PROMPT_S, GATHER_S = 0.02, 0.3
#: Every key is written again at half its age, not all of them at once.
LAZY_S = RECORD_S / 2


class Due(NamedTuple):
    """`expected`: the revision that a compare-and-set replaces, for keys that another central may have taken."""

    key: str
    delete: bool
    expected: int


class _Key:
    __slots__ = ("again_at", "delete", "digest", "dirty_at", "revision", "sent", "written_at")

    def __init__(self) -> None:
        self.revision = 0
        self.digest = 0
        #: `hash` of what was sent last: the watch may tell of it before the answer comes.
        self.sent = 0
        #: When it is to be written for a change; infinite while the engine has what is wanted.
        self.dirty_at = math.inf
        #: When it is to be written whether it changed or not.
        self.again_at = math.inf
        self.written_at = -math.inf
        self.delete = False


class OwnedKeys:
    """`dirty` is how many differ, as far as is known."""

    def __init__(self, random: Random | None = None) -> None:
        self._keys: dict[str, _Key] = {}
        self._by_edge: dict[str, set[str]] = {}
        self._dirty: set[str] = set()
        self._random = random or Random()
        self._lazy_at = math.inf

    def __contains__(self, key: str) -> bool:
        held = self._keys.get(key)
        return held is not None and not held.delete

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def dirty(self) -> int:
        return len(self._dirty)

    def revision(self, key: str) -> int:
        """Of the last write that is known; 0 for none."""
        held = self._keys.get(key)
        return 0 if held is None else held.revision

    def want(
        self, key: str, now: float, revision: int = 0, digest: int | None = None, new: bytes | None = None
    ) -> None:
        """A key is wanted, or wanted otherwise than before. `revision` and `digest` are of what the engine is known to
        have; where `new` is the same, nothing has to be written but a copy in time."""
        held = self._keys.get(key)
        if held is None:
            held = self._enter(key)
            held.revision = revision
            if new is not None and digest == hash(new):
                held.digest = digest
                # It may be old: its first copy comes anywhere in the first half of its time.
                self._again(held, now, self._random.random())
                return
        elif new is not None and not held.delete and key not in self._dirty and held.digest == hash(new):
            return
        held.delete = False
        edge = key.startswith(f"{names.EDGE}.")
        at = now if edge else max(now + PROMPT_S, held.written_at + GATHER_S)
        held.dirty_at = min(held.dirty_at, at)
        self._dirty.add(key)

    def adopt(self, key: str, revision: int, digest: int, now: float) -> None:
        """A key is wanted as it was written just now."""
        held = self._keys.get(key) or self._enter(key)
        self._dirty.discard(key)
        held.delete, held.dirty_at = False, math.inf
        held.revision, held.digest, held.written_at = revision, digest, now
        self._again(held, now, self._random.uniform(0.8, 1.0))

    def unwanted(self, key: str, now: float) -> None:
        """A key is to be deleted."""
        held = self._keys.get(key)
        if held is None:
            held = self._enter(key)
        # A shard goes after what replaces it was written, which may take so long.
        held.delete, held.dirty_at = True, now + GATHER_S if key.startswith(f"{names.DEVICES}.") else now
        self._dirty.add(key)

    def disown(self, key: str) -> None:
        """A key is not this central's any more, whatever it holds."""
        if self._keys.pop(key, None) is not None:
            part = key.split(".")[1]
            self._by_edge[part].discard(key)
            if not self._by_edge[part]:
                del self._by_edge[part]
        self._dirty.discard(key)

    def due(self, now: float) -> list[Due]:
        """What is to be written now: what decides before what depends on it, full shards before what they replace."""
        keys = [key for key in self._dirty if self._keys[key].dirty_at <= now]
        if now >= self._lazy_at:
            late = [key for key, held in self._keys.items() if held.again_at <= now and key not in self._dirty]
            keys += late
            self._lazy_at = min(
                (held.again_at for held in self._keys.values() if held.again_at > now), default=math.inf
            )
        # An edge's holder first; then its shards from the last to the first: while their number grows, a device is in
        # the new shard before it leaves the old one. Deletions last, for the same reason.
        keys.sort(key=lambda key: (self._keys[key].delete, *_rank(key)))
        return [Due(key, self._keys[key].delete, self._keys[key].revision) for key in keys]

    def next_at(self) -> float:
        """When `due` has something again."""
        return min((self._keys[key].dirty_at for key in self._dirty), default=self._lazy_at)

    def begun(self, key: str, digest: int) -> None:
        """A key is being written as it is wanted now: what changes from here on makes it dirty again."""
        self._dirty.discard(key)
        held = self._keys.get(key)
        if held is not None:
            held.dirty_at = math.inf
            held.sent = digest

    def written(self, key: str, revision: int, digest: int, now: float) -> None:
        held = self._keys.get(key)
        if held is None:
            return
        if held.delete:
            if key not in self._dirty:
                self.disown(key)
            return
        if revision > held.revision:
            held.revision, held.digest = revision, digest
        held.written_at = now
        self._again(held, now, self._random.uniform(0.8, 1.0))

    def failed(self, key: str, at: float) -> None:
        """It was not written, as far as is known: again at `at`."""
        held = self._keys.get(key)
        if held is not None:
            held.dirty_at = min(held.dirty_at, at)
            self._dirty.add(key)

    def told(self, key: str, digest: int | None, revision: int, now: float) -> bool:
        """What the engine has, from the watch; `digest` None: the key has gone. Whether it has to be written again."""
        held = self._keys.get(key)
        if held is None or revision < held.revision:
            return False
        held.revision = revision
        if held.delete:
            if digest is None:
                self.disown(key)
            return False
        if digest is not None and digest in (held.digest, held.sent):
            held.digest = digest
            return False
        held.digest = 0 if digest is None else digest
        held.dirty_at = min(held.dirty_at, now)
        self._dirty.add(key)
        return True

    def missing(self, key: str, now: float) -> None:
        """A snapshot does not have it."""
        held = self._keys.get(key)
        if held is None:
            return
        held.revision = 0
        if held.delete:
            self.disown(key)
            return
        held.digest, held.dirty_at = 0, now
        self._dirty.add(key)

    def restarted(self) -> None:
        """Revisions begin anew."""
        for held in self._keys.values():
            held.revision = 0

    def of_edge(self, edge: str) -> list[str]:
        """The keys of an edge that are kept."""
        return list(self._by_edge.get(names.token(edge), ()))

    def keys_now(self) -> list[str]:
        """A copy."""
        return list(self._keys)

    def _enter(self, key: str) -> _Key:
        held = self._keys[key] = _Key()
        self._by_edge.setdefault(key.split(".")[1], set()).add(key)
        return held

    def _again(self, held: _Key, now: float, share: float) -> None:
        held.again_at = now + LAZY_S * share
        self._lazy_at = min(self._lazy_at, held.again_at)


def _rank(key: str) -> tuple[int, str, int]:
    kind, name, *shard = key.split(".")
    return ((names.EDGE, names.SERVICES, names.DEVICES).index(kind), name, -int(shard[0]) if shard else 0)
