"""A restored backup takes its place file by file, and all of it does, whatever the moment at which the power goes.

What is to take its place is in `<data>/.restore`, complete and on the disk. As long as that is there nothing of the
data directory may be used: `Identity.open`, with which every start begins, finishes it first. Otherwise a node could
begin with the identity of one moment and the database of another, or make itself a new one of either. What was there
is kept as `<name>.before-<time>`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

IDENTITY = "identity"
MOVES = ".restore"
#: Where it is unpacked; what a restore that was killed has left there is of no use.
SCRATCH = ".restoring"
_SIDES = ("", "-wal", "-shm")


def finish(data: Path) -> tuple[Path, ...]:
    """Let what is in `.restore` take its place; return where what was there is kept. `identity.lock` is held.

    Raises OSError; then the next call goes on with it.
    """
    moves = data / MOVES
    if not moves.is_dir():
        return ()
    from gateway.storage.file import sync_directory

    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    kept: list[Path] = []
    for restored in sorted(moves.iterdir()):
        for side in _SIDES:
            standing = data / f"{restored.name}{side}"
            if standing.exists():
                away = data / f"{standing.name}.before-{stamp}"
                standing.rename(away)
                kept.append(away)
        restored.rename(data / restored.name)
    sync_directory(data)
    moves.rmdir()
    sync_directory(data)
    return tuple(kept)
